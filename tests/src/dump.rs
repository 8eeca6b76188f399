//! Everything that is known, for a test that failed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{Agent, Dockerd, Netns, process};

const LIMIT: Duration = Duration::from_secs(10);
/// No more lines of a map than this: some have a quarter of a million entries.
const LINES: usize = 60;

/// Prints the state of an agent and its host to standard error.
pub fn agent(agent: &Agent) {
    as_far_as_possible(|| tell_agent(agent));
}

/// Prints the end of a Docker daemon's log, and its host, to standard error.
pub fn daemon(docker: &Dockerd) {
    as_far_as_possible(|| tell_daemon(docker));
}

/// Who asks unwinds already: what panics now would end the process, and leave everything behind.
fn as_far_as_possible(tell: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(tell)).is_err() {
        show("there is more to be told, but it cannot be found out");
    }
}

fn tell_agent(agent: &Agent) {
    let mut text = format!("\n===== agent in {} =====\n{}\n", agent.host.name(), agent.log());
    for line in ["network ls", "container ls -a"] {
        let out = agent.cli(line.split(' '));
        text += &format!("----- bascule {line} -----\n{}{}", out.stdout, out.stderr);
    }
    text += &namespace(&agent.host);
    for pin in agent.places.pins() {
        let path = agent.places.bpffs().join(&pin);
        // Arrays are mostly zeroes; hashes are what a test is about.
        if ["ENDPOINT", "RULE", "NETWORKS", "GENERATIONS", "PORTS", "EVENT"]
            .iter()
            .any(|skip| pin.contains(skip))
        {
            continue;
        }
        let out = if pin.contains("maps/") {
            run(&agent.host, &format!("bpftool map dump pinned {}", path.display()))
        } else {
            String::new()
        };
        text += &format!("----- pin {pin} -----\n{}\n", head(&out));
    }
    show(&text);
}

fn tell_daemon(docker: &Dockerd) {
    let log = docker.log();
    let lines: Vec<&str> = log.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    let host = docker.host.name();
    show(&format!(
        "\n===== dockerd in {host} =====\n{}\n{}",
        tail.join("\n"),
        namespace(&docker.host)
    ));
}

#[expect(clippy::print_stderr, reason = "what is printed is shown with the test's failure")]
fn show(text: &str) {
    eprintln!("{text}");
}

/// Addresses, routes, neighbours and counters of a namespace.
pub fn namespace(ns: &Netns) -> String {
    let mut text = String::new();
    for line in
        ["ip -s addr", "ip route", "ip neigh", "bridge fdb", "ip rule", "tc -s filter show dev up0"]
    {
        text += &format!("----- {}: {line} -----\n{}", ns.name(), run(ns, line));
    }
    text
}

fn run(ns: &Netns, line: &str) -> String {
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else { return String::new() };
    let out = process::run(ns.command(program).args(words), LIMIT);
    out.stdout + &out.stderr
}

fn head(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().take(LINES).collect();
    if text.lines().count() > LINES {
        lines.push("...");
    }
    lines.join("\n")
}
