//! `docker events`: what happened, in Docker's words and order.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use bascule_tests::{Agent, process, wait};
use serde_json::Value;

use crate::{docker, docker_command, docker_ok, docker_refused, stage};

/// A running `docker events`.
struct Listener {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Listener {
    /// Starts to listen, and waits until it is heard: by a network that is made and removed for that.
    fn start(agent: &Agent, filters: &[&str]) -> Self {
        let mut command = docker_command(agent);
        command.args(["events", "--format", "{{json .}}"]);
        for filter in filters {
            command.args(["--filter", filter]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        process::dies_with_us(&mut command);
        let mut child = command.spawn().expect("docker events");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Makes something happen until it is heard, and forgets it.
    fn wait_ready(&self, agent: &Agent) {
        wait::wait_until("events are heard", wait::SOON, || {
            agent.ok("network create probe");
            agent.ok("network rm probe");
            self.lines.recv_timeout(Duration::from_millis(500)).is_ok()
        });
        while self.lines.recv_timeout(Duration::from_millis(300)).is_ok() {}
    }

    /// The next events, in short words.
    fn next(&self, count: usize) -> Vec<String> {
        let next = || self.lines.recv_timeout(wait::SOON).ok();
        let lines: Vec<_> = std::iter::from_fn(next).take(count).collect();
        lines.iter().map(|line| words(line)).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `network connect n1`, `container die c1 exitCode=7`.
fn words(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let attributes = &event["Actor"]["Attributes"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![text(&event["Type"]), text(&event["Action"]), text(&attributes["name"])];
    for key in ["exitCode", "signal", "oldName"] {
        if let Some(value) = attributes[key].as_str() {
            words.push(format!("{key}={value}"));
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

#[test]
fn moby_lc_020_p15_life_is_told_in_order() {
    let (_net, agent) = stage();
    agent.network("other", "");
    let all = Listener::start(&agent, &[]);
    let networks = Listener::start(&agent, &["type=network"]);
    all.wait_ready(&agent);
    networks.wait_ready(&agent);
    while all.lines.recv_timeout(Duration::from_millis(300)).is_ok() {}
    docker_ok(&agent, "network create n1");
    agent.container("c1", "n1", "");
    docker_ok(&agent, "network connect other c1");
    docker_ok(&agent, "network disconnect other c1");
    docker_ok(&agent, "network connect other c1");
    agent.ok("container stop c1");
    agent.ok("container rm c1");
    docker_ok(&agent, "network rm n1");
    let story = [
        "network create n1",
        "container create c1",
        "network connect n1",
        "container start c1",
        "network connect other",
        "network disconnect other",
        "network connect other",
        "container kill c1 signal=15",
        "container die c1",
        "network disconnect n1",
        "network disconnect other",
        "container stop c1",
        "container destroy c1",
        "network destroy n1",
    ];
    assert_eq!(all.next(story.len()), story);
    let of_networks: Vec<_> = story.iter().filter(|w| w.starts_with("network")).collect();
    assert_eq!(networks.next(of_networks.len()).iter().collect::<Vec<_>>(), of_networks);
}

#[test]
fn an_end_by_itself_and_by_force_is_told_so() {
    let (_net, agent) = stage();
    agent.network("n1", "");
    let listener =
        Listener::start(&agent, &["type=container", "event=die", "event=kill", "event=destroy"]);
    listener.wait_ready_by_container(&agent);
    agent.ok("container create --name c2 --network n1 --label tier=front");
    agent.ok("container start c2");
    agent.ok("container rm -f c2");
    assert_eq!(
        listener.next(3),
        ["container kill c2 signal=9", "container die c2", "container destroy c2"]
    );
}

impl Listener {
    /// The same for who hears of containers alone.
    fn wait_ready_by_container(&self, agent: &Agent) {
        wait::wait_until("events are heard", wait::SOON, || {
            agent.ok("container create --name probe");
            agent.ok("container rm probe");
            self.lines.recv_timeout(Duration::from_millis(500)).is_ok()
        });
        while self.lines.recv_timeout(Duration::from_millis(300)).is_ok() {}
    }
}

#[test]
fn what_has_been_is_told_to_who_asks_for_it() {
    let (_net, agent) = stage();
    let id = docker_ok(&agent, "network create n1");
    docker_ok(&agent, "network create n2");
    docker_ok(&agent, "network prune -f");
    let ask = |words: &str| {
        let mut line = vec!["events", "--since", "10m", "--until", "0s", "--format", "{{json .}}"];
        line.extend(words.split_whitespace());
        let heard = docker(&agent, line);
        assert!(heard.ok(), "{heard:?}");
        heard.stdout.lines().map(crate::events::words).collect::<Vec<_>>()
    };
    // Docker's client cuts the time to whole seconds.
    wait::wait_until("the second is over", wait::SOON, || ask("").len() == 5);
    let mut heard = ask("");
    heard[2..4].sort_unstable();
    assert_eq!(
        heard,
        [
            "network create n1",
            "network create n2",
            "network destroy n1",
            "network destroy n2",
            "network prune"
        ]
    );
    assert_eq!(ask("--filter network=n1"), ["network create n1", "network destroy n1"]);
    assert_eq!(ask(&format!("--filter network={}", &id[..12])).len(), 2);
    assert_eq!(ask("--filter event=destroy --filter network=n2"), ["network destroy n2"]);
    assert_eq!(ask("--filter type=container"), [""; 0]);
    assert_eq!(ask("--filter image=x"), [""; 0]);
    let error = docker_refused(&agent, "events --filter foo=x");
    assert!(error.contains("invalid filter 'foo'"), "{error}");
    let error = docker_refused(&agent, "events --since 2000000001 --until 2000000000");
    assert!(error.contains("cannot be after"), "{error}");
}

#[test]
fn a_listener_does_not_keep_the_agent() {
    let (_net, mut agent) = stage();
    let listener = Listener::start(&agent, &[]);
    listener.wait_ready(&agent);
    let started = std::time::Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for who listens");
}
