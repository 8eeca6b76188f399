//! Ours: the agent as it is released, with one published port, 10,000 and 100,000.

use std::{net::Ipv4Addr, path::PathBuf};

use bascule_tests::{
    Agent, Netns,
    agent::Settings,
    netns::unique,
    places::{cgroup_beside, remove_cgroup},
};

use super::{HOST, OUTSIDE, PORT, Worlds, at, host_and_outside, path, tire_not};

/// Ports of a range, and the first ones of three.
const RANGE: u16 = 16_384;
const FIRST: u16 = 10_000;
/// Ports that have a rule each, beside the ranges: 100,000 in all.
const SINGLE: std::ops::Range<u16> = 60_000..61_696;
/// Ports of a container that have a rule each: a list has at most 4,096 items.
const EACH: u16 = 2_500;

/// An agent whose programs see the processes of a cgroup of its own.
pub struct Ours {
    /// The agent.
    pub agent: Agent,
    /// The cgroup.
    pub cgroup: Cgroup,
}

/// A cgroup that is removed with the value.
pub struct Cgroup(pub PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_cgroup(&self.0);
    }
}

impl Ours {
    /// Starts one that says little, with no network but those that it is told to make.
    pub fn start(host: &Netns) -> Self {
        let cgroup = Cgroup(cgroup_beside(&format!("peer{}", unique())));
        let settings = Settings::default()
            .arg(&["--bridge", "none"])
            .env("BASCULE_CGROUP", &cgroup.0.display().to_string())
            .env("BASCULE_LOG_LEVEL", "warn");
        Self { agent: Agent::start_with(host, settings), cgroup }
    }
}

/// Makes three hosts.
pub fn make(worlds: &mut Worlds) {
    let few = one(worlds, "bascule");
    worlds.keep(few);
    let many = one(worlds, "bascule-10000");
    for number in 0..10_000 / EACH {
        let first = 20_000 + number * EACH;
        let ports = (first..first + EACH).map(|port| format!("-p {port}:{port}"));
        let ports: Vec<String> = ports.collect();
        many.agent.container(&format!("many{number}"), "n1", &ports.join(" "));
    }
    worlds.keep(many);
    let most = one(worlds, "bascule-100000");
    let mut ports = Vec::new();
    for proto in ["tcp", "udp"] {
        for first in [FIRST, FIRST + RANGE, FIRST + 2 * RANGE] {
            let last = first + (RANGE - 1);
            ports.push(format!("-p {first}-{last}:{first}-{last}/{proto}"));
        }
    }
    most.agent.container("wide", "n1", &ports.join(" "));
    let singles: Vec<String> = SINGLE.map(|port| format!("-p {port}:{port}")).collect();
    most.agent.container("many", "n1", &singles.join(" "));
    worlds.keep(most);
    worlds.notes.push(
        "bascule: the release build of the agent. bascule-10000: and a rule for each of 10,000 ports. bascule-100000: and \
         100,000, 1,696 of them with a rule each and the rest in six ranges; each port is an entry of the table"
            .to_owned(),
    );
}

/// A host with containers, on all paths.
fn one(worlds: &mut Worlds, system: &'static str) -> Ours {
    let (host, outside) = host_and_outside();
    // What is published is reserved, and the host's own connections need ports.
    host.sysctl_set("net/ipv4/ip_local_port_range", "2000 7999");
    let ours = Ours::start(&host);
    let cgroup = Some(ours.cgroup.0.as_path());
    let agent = &ours.agent;
    agent.network("n1", "");
    let publish = format!("-p {PORT}:{PORT} -p {PORT}:{PORT}/udp");
    let first = agent.container("c1", "n1", &publish);
    assert!(tire_not(&first.ns), "a container keeps connections");
    worlds.serve(&first.ns, cgroup);
    worlds.way(path::PUBLISHED, system, (&outside, None), at(HOST));
    let second = agent.container("c2", "n1", "");
    assert!(tire_not(&second.ns), "a container keeps connections");
    worlds.serve(&outside, None);
    worlds.way(path::CONTAINERS, system, (&second.ns, cgroup), at(first.address()));
    if system == "bascule" {
        worlds.way(path::LOOPBACK, "bascule-address", (&host, cgroup), at(first.address()));
    }
    worlds.way(path::LOOPBACK, system, (&host, cgroup), at(Ipv4Addr::LOCALHOST));
    worlds.way(path::OUTSIDE, system, (&first.ns, cgroup), at(OUTSIDE));
    ours
}
