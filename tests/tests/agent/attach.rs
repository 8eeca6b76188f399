//! What attaching a running sandbox to a network costs: `cargo xtask bench attach`.
//!
//! Every attach is one `POST /networks/NETWORK/connect`, as Docker's clients send it, timed from connecting to
//! the socket until the answer's last byte. Nothing is asserted about time.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Netns, agent::Settings, api};
use serde_json::json;

use crate::peer;

/// Sandboxes, and networks that each of them is attached to.
const SANDBOXES: usize = 100;
const NETWORKS: usize = 10;
/// Networks that are attached to one after the other while everything else is there.
const FURTHER: usize = 5;
/// How many clients there are at once, where there are several.
const CLIENTS: usize = 50;

/// Sends a request that has to succeed, and returns how long that took.
fn timed(agent: &Agent, path: &str, body: &serde_json::Value) -> Duration {
    let begin = Instant::now();
    let answer = api::request(&agent.places.socket(), "POST", path, Some(body));
    let took = begin.elapsed();
    let answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}"));
    assert!(answer.status < 300, "POST {path}: {answer:?}");
    took
}

fn attach(agent: &Agent, network: usize, sandbox: usize) -> Duration {
    timed(
        agent,
        &format!("/networks/n{network}/connect"),
        &json!({"Container": format!("s{sandbox}")}),
    )
}

fn detach(agent: &Agent, network: usize, sandbox: usize) -> Duration {
    let body = json!({"Container": format!("s{sandbox}"), "Force": false});
    timed(agent, &format!("/networks/n{network}/disconnect"), &body)
}

/// Every place that there is: networks in turn, as a host fills up.
fn places() -> impl Iterator<Item = (usize, usize)> {
    (0..NETWORKS).flat_map(|network| (0..SANDBOXES).map(move |sandbox| (network, sandbox)))
}

/// Median and 99th percentile, in milliseconds.
pub fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: f64| {
        let index = (times.len() as f64 * share).ceil() as usize;
        times.get(index.saturating_sub(1)).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
    };
    (at(0.5), at(0.99))
}

/// What a process occupies, in MiB: all of it, and what no other process has.
fn memory(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    (of("VmRSS:"), of("RssAnon:"))
}

#[expect(clippy::print_stdout, reason = "a measurement is there to be read")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
#[ignore = "a measurement: `cargo xtask bench attach`"]
fn measure() {
    let host = Netns::new("host");
    let settings = Settings::default().arg(&["--bridge", "none"]).env("BASCULE_LOG_LEVEL", "warn");
    let agent = Agent::start_with(&host, settings);
    let mut text = String::new();
    for network in 0..NETWORKS + FURTHER {
        agent.network(&format!("n{network}"), "");
    }
    agent.network("first", "");
    for sandbox in 0..SANDBOXES {
        agent.ok(&format!("container create --name s{sandbox} --network first"));
        agent.ok(&format!("container start s{sandbox}"));
    }
    let begin = Instant::now();
    let times: Vec<_> = places().map(|(n, s)| attach(&agent, n, s)).collect();
    let (p50, p99) = percentiles(times);
    let total = begin.elapsed().as_secs_f64();
    writeln!(text, "1,000 one after the other  {total:7.2} s   p50 {p50:6.2} ms  p99 {p99:6.2} ms")
        .ok();

    let further =
        |range: std::ops::Range<usize>| range.flat_map(|n| (0..SANDBOXES).map(move |s| (n, s)));
    let times = further(NETWORKS..NETWORKS + FURTHER).map(|(n, s)| attach(&agent, n, s)).collect();
    let (p50, p99) = percentiles(times);
    writeln!(text, "with 1,000 and more there              p50 {p50:6.2} ms  p99 {p99:6.2} ms")
        .ok();
    let (all, own) = memory(agent.pid());
    writeln!(text, "agent memory then          {all:7.1} MiB, {own:.1} MiB of it anonymous").ok();

    let begin = Instant::now();
    let times = places().chain(further(NETWORKS..NETWORKS + FURTHER));
    let times: Vec<_> = times.map(|(n, s)| detach(&agent, n, s)).collect();
    let (p50, p99) = percentiles(times);
    let total = begin.elapsed().as_secs_f64();
    writeln!(text, "1,500 detached             {total:7.2} s   p50 {p50:6.2} ms  p99 {p99:6.2} ms")
        .ok();

    let all: Vec<_> = places().collect();
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let times = thread::scope(|scope| {
        let client = || {
            let mut times = Vec::new();
            while let Some((n, s)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                times.push(attach(&agent, *n, *s));
            }
            times
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|c| c.join().expect("a client")).collect::<Vec<_>>()
    });
    let total = begin.elapsed().as_secs_f64();
    let (p50, p99) = percentiles(times);
    writeln!(text, "1,000 by 50 clients        {total:7.2} s   p50 {p50:6.2} ms  p99 {p99:6.2} ms")
        .ok();
    let [first, second] = [NETWORKS, NETWORKS + 1].map(|n| format!("n{n}"));
    peer::compare(&agent, [&first, &second], &mut text);
    say(&text);
}
