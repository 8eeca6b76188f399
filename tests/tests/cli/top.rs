//! `bascule top` on a real terminal, over a real agent with traffic.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use bascule_tests::{Agent, Topology, process, terminal::Terminal};
use nix::sys::signal::Signal;

use crate::stage;

/// The command on a terminal as ssh has it.
fn command(agent: &Agent) -> Command {
    let mut command = agent.bascule();
    command.args(["top", "--interval", "0.25"]);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command
}

/// Containers that talk: `talker` to `listener`, and in vain to another network.
fn talking(agent: &Agent, _net: &Topology) -> Traffic {
    agent.network("n2", "--subnet 10.99.0.0/24");
    let talker = agent.container("talker", "n1", "");
    let listener = agent.container("listener", "n1", "-p 8080:80");
    agent.container("stranger", "n2", "--ip 10.99.0.9");
    let ip = listener.address();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let told = std::sync::Arc::clone(&stop);
    let thread = talker.ns.spawn(move || {
        while !told.load(Ordering::Relaxed) {
            for target in [&ip.to_string(), "10.99.0.9"] {
                let ping = ["-c", "3", "-i", "0.02", "-W", "0.1", "-s", "1000", target];
                process::run(Command::new("ping").args(ping), process::LIMIT);
            }
        }
    });
    Traffic { stop, thread: Some(thread) }
}

/// Traffic, until this is dropped.
struct Traffic {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// The row of a table that begins with a word.
fn row(text: &str, first: &str) -> Option<Vec<String>> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(first))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn top_shows_who_talks_follows_the_window_and_leaves_the_terminal_as_it_was() {
    let (mut agent, net) = stage();
    let _traffic = talking(&agent, &net);
    let mut top = Terminal::start(&mut command(&agent), 24, 80);
    let seen = top.wait("rates", |text| {
        row(text, "listener").is_some_and(|row| row[2] != "0" && row[3] != "0")
    });
    assert!(top.is_full_screen() && top.has_colours());
    assert!(seen.contains("3 endpoints") && seen.contains("q quit"), "{seen}");
    top.wait("its drops", |text| row(text, "talker").is_some_and(|row| row[6] != "0"));

    // A filter, and the endpoint that it finds, with what was dropped and why.
    top.keys("/talk\r");
    top.wait("one row", |text| text.contains("1/1") && row(text, "listener").is_none());
    top.keys("\r");
    let seen = top.wait("the endpoint", |text| text.contains("policy_isolation"));
    for wanted in
        ["Addresses", "on the host bsc", "The destination is on another network.", "In ", "B/s"]
    {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
    top.wait("a line of its rates", |text| text.contains('█'));
    top.keys("\u{1b}");
    top.wait("the page", |text| text.contains("1/1"));
    top.keys("\u{1b}");
    top.wait("all rows", |text| row(text, "listener").is_some());
    top.keys("2");
    top.wait("drops", |text| {
        row(text, "talker").is_some_and(|row| row.contains(&"policy_isolation".to_owned()))
    });
    top.keys("4");
    top.wait("ports", |text| row(text, "0.0.0.0:8080").is_some_and(|row| row[1] == "listener"));

    // Smaller, too small, and large enough for addresses.
    top.keys("1");
    top.resize(12, 50);
    top.wait("fewer columns", |t| t.contains("CONTAINER") && !t.contains("NETWORK"));
    top.resize(4, 20);
    top.wait("too small", |text| text.contains("too small"));
    top.resize(40, 140);
    top.wait("addresses", |text| text.contains("ADDRESS") && text.contains("10.99.0.9"));

    // The agent goes and comes.
    agent.kill9();
    top.wait("no agent", |text| text.contains("no answer, trying again: cannot reach the agent"));
    agent.restart();
    top.wait("the agent again", |text| text.contains("the agent was restarted"));
    top.keys("q");
    assert_eq!(top.end(), 0);
    assert!(top.is_sane(), "the terminal is not as it was");
}

#[test]
fn top_ends_by_key_and_signal_and_without_colours_where_none_are_wanted() {
    let (agent, _net) = stage();
    for (end, code) in [(None, 0), (Some(Signal::SIGTERM), 143), (Some(Signal::SIGINT), 130)] {
        let mut top = Terminal::start(command(&agent).env("NO_COLOR", "1"), 24, 80);
        top.wait("an empty page", |text| text.contains("(nothing)"));
        assert!(top.is_full_screen() && !top.has_colours());
        match end {
            None => top.keys("\u{3}"),
            Some(signal) => top.signal(signal),
        }
        assert_eq!(top.end(), code, "{end:?}");
        assert!(top.is_sane(), "after {end:?} the terminal is not as it was");
    }
}

#[test]
fn top_refuses_what_it_cannot_draw_on_and_prints_for_scripts() {
    let (agent, net) = stage();
    let _traffic = talking(&agent, &net);
    let out = agent.cli(["top"]);
    assert_eq!(out.code, 2, "{out:?}");
    assert!(out.stderr.contains("needs a terminal") && out.stderr.contains("-o json"), "{out:?}");
    let mut dumb = Terminal::start(command(&agent).env("TERM", "dumb"), 24, 80);
    assert_eq!(dumb.end(), 2);
    dumb.wait("why", |text| text.contains("cannot draw on a terminal of type \"dumb\""));

    let table = agent.ok("top --once");
    let listener = row(&table, "listener").unwrap_or_else(|| panic!("{table}"));
    assert!(table.starts_with("CONTAINER") && listener[3] != "0", "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&agent.ok("top -o json")).expect("JSON of one reading");
    let endpoints = json["Endpoints"].as_array().expect("endpoints");
    let talker = endpoints.iter().find(|e| e["Container"] == "talker").expect("talker");
    assert!(talker["Sent"]["ByteRate"].as_f64() > Some(0.0), "{talker}");
    assert_eq!(talker["Drops"][0]["Reason"], "policy_isolation", "{talker}");
    assert_eq!(json["Ports"][0]["HostPort"], "8080", "{json}");
    let mut agent = agent;
    agent.kill9();
    assert!(agent.refused("top --once").contains("cannot reach the agent"));
    agent.restart();
}
