//! Killed at any moment: the state is the one before the step or the one after it, and nothing leaks.
//!
//! `crash` dies at every fail point; here the moment is drawn by lot, in the middle of whatever is being done.

use std::{
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Topology, places};
use serde_json::{Value, json};

/// What is done to networks, containers and ports, again and again. Each line is one change.
const SCRIPT: [&str; 14] = [
    "network create --subnet 10.84.0.0/24 left",
    "network create --subnet 10.85.0.0/24 --ipv6 right",
    "container create --name one --network left --ip 10.84.0.9 -p 8084:80 --expose 90 -P",
    "container create --name two --network right -p 8085:80/udp",
    "container start one",
    "container start two",
    "network connect right one",
    "policy deny add 10.86.0.0/24",
    "network connect --ip 10.84.0.10 left two",
    "network disconnect left one",
    "container stop -t 0 two",
    "container rm -f one",
    "policy deny rm 10.86.0.0/24",
    "network disconnect left two",
];

/// What brings any part of it to nothing.
const RESET: [&str; 5] = [
    "container rm -f one",
    "container rm -f two",
    "network rm -f left",
    "network rm -f right",
    "policy deny rm 10.86.0.0/24",
];

/// Moments that are tried.
const MOMENTS: usize = 100;

/// A small generator: the moments of a failed run are to be had again by its seed.
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let seed = std::env::var("BASCULE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    let mut lot = Lot(seed | 1);
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    // Before anything is made: how long a step takes, and what is there of ours.
    let quiet = everything(&net, &agent);
    let shapes = undisturbed(&agent);
    reset(&agent);
    let mut longest = Duration::from_millis(20);
    for moment in 0..MOMENTS {
        let step = lot.below(SCRIPT.len() as u64) as usize;
        for line in &SCRIPT[..step] {
            agent.ok(line);
        }
        let after = Duration::from_micros(lot.below(longest.as_micros() as u64));
        let needed = strike(&mut agent, SCRIPT[step], after);
        longest = longest.max(needed.unwrap_or_default()).min(Duration::from_secs(2));
        agent.launch();
        agent.wait_ready();
        let story = format!("seed {seed}, moment {moment}: {after:?} into `{}`", SCRIPT[step]);
        converged(&net, &agent, &story);
        let shape = shape(&agent);
        assert!(shapes[step..step + 2].contains(&shape), "{story}: neither old nor new: {shape}");
        reset(&agent);
        assert_eq!(everything(&net, &agent), quiet, "{story}: something is left");
    }
}

/// Plays the whole script, and returns what there is before and after each step.
fn undisturbed(agent: &Agent) -> Vec<Value> {
    let after = SCRIPT.iter().map(|line| {
        agent.ok(line);
        shape(agent)
    });
    std::iter::once(shape(agent)).chain(after.collect::<Vec<_>>()).collect()
}

fn reset(agent: &Agent) {
    for line in RESET {
        agent.cli(line.split(' '));
    }
}

/// Has a step done, and kills the agent in the middle of it; how long the step took if it was faster.
fn strike(agent: &mut Agent, line: &str, after: Duration) -> Option<Duration> {
    let mut command = agent.bascule();
    command.args(line.split_whitespace());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let begin = Instant::now();
    let mut client = command.spawn().expect("a client");
    thread::sleep(after);
    let done = client.try_wait().ok().flatten().is_some();
    let taken = begin.elapsed();
    agent.kill9();
    client.wait().expect("the client ends with the agent");
    // A client that was through says nothing of how long it needs at most; one that was not needs longer.
    (!done).then_some(taken * 2)
}

/// What is wished for, without what is drawn by lot: ids, addresses and dynamic ports.
fn shape(agent: &Agent) -> Value {
    let get = |path: &str| agent.api("GET", path, None).body;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut networks: Vec<_> =
        list(&get("/networks")).iter().map(|n| n["Name"].to_string()).collect();
    networks.sort();
    let containers = list(&get("/containers/json?all=true"));
    let mut containers: Vec<_> = containers
        .iter()
        .map(|container| {
            let id = container["Id"].as_str().unwrap_or_default();
            let whole = get(&format!("/containers/{id}/json"));
            let on = whole["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
            let on: Vec<_> = on.keys().cloned().collect();
            let ports = whole["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
            let ports: Vec<_> = ports.keys().cloned().collect();
            json!([whole["Name"], whole["State"]["Running"], on, ports])
        })
        .collect();
    containers.sort_by_key(ToString::to_string);
    let denied = agent.ok("policy deny ls -q");
    json!([networks, containers, denied])
}

/// Whatever is said to be there is there, and nothing is pending.
fn converged(net: &Topology, agent: &Agent, story: &str) {
    let status = agent.api("GET", "/bascule/v1/status", None).body;
    assert_eq!(status["Failures"], json!([]), "{story}: {status}");
    assert!(
        !agent.places.run().join("rcu-expedited").exists(),
        "{story}: grace periods stay short"
    );
    let veths = net.host.interfaces().into_iter().filter(|name| name.starts_with("bsc")).count();
    assert_eq!(status["Endpoints"].as_u64(), Some(veths as u64), "{story}: {status}");
    let running = status["ContainersRunning"].as_u64();
    let namespaces = std::fs::read_dir(agent.places.run().join("netns")).map_or(0, Iterator::count);
    assert_eq!(running, Some(namespaces as u64), "{story}: {status}");
}

/// Everything of ours that the kernel knows: interfaces, routes, pins, mounts, names, reserved ports, entries.
fn everything(net: &Topology, agent: &Agent) -> Vec<String> {
    let mut all = net.host.interfaces();
    // That of the server of names is another one with each agent.
    all.sort();
    all.push(net.host.sh("ip -4 route show"));
    // Pins of interfaces carry indices; their number is what has to stay.
    all.push(format!("{} pins", agent.places.pins().len()));
    let mounts = places::mounts_below(agent.places.root());
    all.push(format!("{} mounts", mounts.len()));
    all.push(net.host.sysctl("net/ipv4/ip_local_reserved_ports"));
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours = |path: &std::path::PathBuf| path.starts_with(agent.places.root());
    let names = names.filter_map(|name| std::fs::read_link(name.path()).ok()).filter(ours).count();
    all.push(format!("{names} names"));
    for map in ["NEIGHBOURS4", "NEIGHBOURS6", "SUBNETS4", "SUBNETS6", "SERVED", "LINKS", "DENY4"] {
        let Some(pin) =
            agent.places.pins().into_iter().find(|pin| pin.ends_with(&format!("/{map}")))
        else {
            continue;
        };
        let path = agent.places.bpffs().join(pin);
        let dump = net.host.sh(&format!("bpftool -j map dump pinned {}", path.display()));
        let entries: Value = serde_json::from_str(&dump).unwrap_or_default();
        all.push(format!("{map}: {}", entries.as_array().map_or(0, Vec::len)));
    }
    all
}
