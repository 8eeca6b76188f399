//! What the agent itself costs: publishing, attaching, being there, coming back.

use std::{
    fs,
    time::{Duration, Instant},
};

use bascule_tests::{Dockerd, Netns, api};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{say, worlds::Ours};

/// Published ports that are compared with none.
const PORTS: [u16; 2] = [500, 10_000];
/// First of the published ports.
const FIRST: u16 = 20_000;
/// Endpoints of agents that have nothing to do: sandboxes, and networks of each.
const ENDPOINTS: [(usize, usize); 3] = [(0, 0), (100, 1), (100, 10)];
/// How long agents have after the last attachment: addresses are announced, and the kernel tells of links a while later.
const SETTLE: Duration = Duration::from_secs(20);
/// How long agents that have nothing to do are watched: they look at everything every 30 seconds, or where that takes longer
/// so much more rarely, and sweep every 15.
const IDLE: Duration = Duration::from_secs(240);
/// How long the same is in a short run.
const IDLE_QUICK: Duration = Duration::from_secs(5);
/// How often each of the rest is done, and in a short run.
const TIMES: (usize, usize) = (9, 3);
/// Room that a measurement's host leaves its own connections.
const OWN_PORTS: &str = "2000 7999";

/// Everything, as JSON.
pub fn run(quick: bool, go_on: &dyn Fn() -> bool) -> Value {
    let times = if quick { TIMES.1 } else { TIMES.0 };
    let mut results = serde_json::Map::new();
    if go_on() {
        say("publishing ports");
        results.insert("publish".to_owned(), publish(times));
    }
    if go_on() && !quick {
        say("publishing ports with dockerd");
        results.insert("publish_docker".to_owned(), publish_docker());
    }
    if go_on() {
        say("1,000 endpoints");
        let idle = if quick { IDLE_QUICK } else { IDLE };
        results.extend(endpoints(times, idle, go_on));
    }
    Value::Object(results)
}

fn post(ours: &Ours, path: &str, body: Option<&Value>) -> Duration {
    let begin = Instant::now();
    let answer = api::request(&ours.agent.places.socket(), "POST", path, body);
    let took = begin.elapsed();
    let answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}"));
    assert!(answer.status < 300, "POST {path}: {answer:?}");
    took
}

fn sandbox(ours: &Ours, name: &str, network: &str, publish: &[String]) -> (Duration, Duration) {
    let body = json!({"Name": name, "Networks": [{"Network": network}], "Publish": publish});
    let created = post(ours, "/bascule/v1/containers", Some(&body));
    (created, post(ours, &format!("/bascule/v1/containers/{name}/start"), None))
}

/// Milliseconds that a container with published ports takes longer to make and start than one without, and what the
/// agent's memory grows by.
fn publish(times: usize) -> Value {
    let host = Netns::new("host");
    host.sysctl_set("net/ipv4/ip_local_port_range", OWN_PORTS);
    let ours = Ours::start(&host);
    ours.agent.network("n1", "");
    // What is only ever made once is made.
    cycle(&ours, &[]);
    let ranges = PORTS.map(|count| {
        let last = FIRST + count - 1;
        vec![format!("{FIRST}-{last}:{FIRST}-{last}")]
    });
    ranges.iter().for_each(|range| _ = cycle(&ours, range));
    let mut results: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); PORTS.len()];
    for _ in 0..times {
        for (range, (took, grown)) in ranges.iter().zip(&mut results) {
            let (without, memory_without) = cycle(&ours, &[]);
            let (with, memory_with) = cycle(&ours, range);
            took.push((with.as_secs_f64() - without.as_secs_f64()) * 1e3);
            grown.push(memory_with - memory_without);
        }
    }
    let each = PORTS.iter().zip(results);
    each.map(|(ports, (took, grown))| json!({"ports": ports, "ms": took, "mib": grown})).collect()
}

/// Makes and starts a container, and removes it; how long the first two took, and what the agent's memory grew by.
fn cycle(ours: &Ours, publish: &[String]) -> (Duration, f64) {
    let before = memory(ours.agent.pid()).own;
    let (created, started) = sandbox(ours, "c1", "n1", publish);
    let grown = memory(ours.agent.pid()).own - before;
    ours.agent.ok("container rm -f c1");
    (created + started, grown)
}

/// The same of a real dockerd, once: its 500 ports take long enough.
fn publish_docker() -> Value {
    let host = Netns::new("host");
    let docker = Dockerd::start(&host, &[]);
    let run = |name: &str, options: &str| {
        let begin = Instant::now();
        docker.container(name, "bridge", options);
        let took = begin.elapsed().as_secs_f64();
        docker.ok(&format!("rm -f {name}"));
        took
    };
    run("warm", "");
    let without = run("none", "");
    let ports = PORTS[0];
    let last = FIRST + ports - 1;
    let begin = Instant::now();
    docker.container("many", "bridge", &format!("-p {FIRST}-{last}:{FIRST}-{last}"));
    let with = begin.elapsed().as_secs_f64();
    let proxies = processes_in(&host, "docker-proxy");
    let mib: f64 = proxies.iter().map(|pid| memory(*pid).own).sum();
    json!([{"ports": ports, "ms": [(with - without) * 1e3], "mib": [mib], "processes": proxies.len()}])
}

/// Processes of a name in a network namespace.
fn processes_in(ns: &Netns, name: &str) -> Vec<u32> {
    let inode = format!("net:[{}]", ns.inode());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let own = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        comm.trim() == name && own.as_os_str() == inode.as_str()
    };
    pids.filter(is_one).collect()
}

/// What a process occupies, in MiB.
struct Memory {
    /// All of it.
    all: f64,
    /// What no file backs.
    own: f64,
}

fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    Memory { all: of("VmRSS:"), own: of("RssAnon:") }
}

/// Seconds of processors that a process has had.
fn cpu_seconds(pid: u32) -> f64 {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).expect("a process's clock");
    let time = clock_gettime(clock).expect("read a clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9
}

/// Attaching, agents with nothing to do, and a restart.
fn endpoints(
    times: usize,
    idle: Duration,
    go_on: &dyn Fn() -> bool,
) -> serde_json::Map<String, Value> {
    let mut results = serde_json::Map::new();
    let mut all = Vec::new();
    for (sandboxes, networks) in ENDPOINTS {
        if !go_on() {
            return results;
        }
        let ours = Ours::start(&Netns::new("host"));
        let attached = fill(&ours, sandboxes, networks);
        if networks > 1 {
            results.insert("attach_ms".to_owned(), json!(attached));
        }
        all.push((sandboxes * networks, ours));
    }
    say("agents with nothing to do");
    wait(SETTLE, go_on);
    let before: Vec<f64> = all.iter().map(|(_, ours)| cpu_seconds(ours.agent.pid())).collect();
    wait(idle, go_on);
    let each = all.iter().zip(before).map(|((endpoints, ours), before)| {
        let pid = ours.agent.pid();
        let Memory { all, own } = memory(pid);
        let percent = (cpu_seconds(pid) - before) / idle.as_secs_f64() * 100.0;
        json!({"endpoints": endpoints, "cpu_percent": percent, "mib": all, "mib_own": own})
    });
    results.insert("idle".to_owned(), each.collect());
    if let Some((_, ours)) = all.last_mut() {
        say("scrapes");
        let scrapes: Vec<f64> = (0..times).filter(|_| go_on()).map(|_| scrape(ours)).collect();
        results.insert("scrape_ms".to_owned(), json!(scrapes));
        say("restarts");
        let seconds: Vec<f64> = (0..times).filter(|_| go_on()).map(|_| restart(ours)).collect();
        results.insert("restart_s".to_owned(), json!(seconds));
        let answer = ours.agent.api("GET", "/bascule/v1/status", None).body;
        assert_eq!(answer["Failures"], json!([]), "after restarts");
    }
    results
}

fn wait(time: Duration, go_on: &dyn Fn() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < time && go_on() {
        std::thread::sleep(Duration::from_millis(200).min(time));
    }
}

/// Makes sandboxes on a first network, and attaches each to the others; milliseconds of each attachment.
fn fill(ours: &Ours, sandboxes: usize, networks: usize) -> Vec<f64> {
    for network in 0..networks {
        ours.agent.network(&format!("n{network}"), "");
    }
    for number in 0..sandboxes {
        sandbox(ours, &format!("s{number}"), "n0", &[]);
    }
    let places = (1..networks).flat_map(|network| (0..sandboxes).map(move |s| (network, s)));
    let attach = |(network, number): (usize, usize)| {
        let body = json!({"Container": format!("s{number}")});
        post(ours, &format!("/networks/n{network}/connect"), Some(&body)).as_secs_f64() * 1e3
    };
    places.map(attach).collect()
}

/// Milliseconds of processors that a scrape takes of the agent.
fn scrape(ours: &Ours) -> f64 {
    const SCRAPES: u32 = 10;
    let before = cpu_seconds(ours.agent.pid());
    for _ in 0..SCRAPES {
        let metrics = ours.agent.metrics();
        assert!(metrics.select("bascule_endpoint_bytes_total", &[]).count() >= 2_000);
    }
    (cpu_seconds(ours.agent.pid()) - before) * 1e3 / f64::from(SCRAPES)
}

/// Seconds from the start of an agent, after one that was killed, until it answers: by then it has looked at everything
/// and mended what it had to.
fn restart(ours: &mut Ours) -> f64 {
    ours.agent.kill9();
    let begin = Instant::now();
    ours.agent.launch();
    while !ours.agent.answers() {
        assert!(!ours.agent.has_ended(), "the agent ended:\n{}", ours.agent.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed().as_secs_f64()
}
