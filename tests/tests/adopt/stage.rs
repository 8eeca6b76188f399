//! A host with Docker and an agent on it.

use std::net::{Ipv4Addr, SocketAddrV4};

use bascule_tests::{
    Agent, Dockerd, Netns, Topology,
    agent::Settings,
    wait::{self, wait_until},
};
use serde_json::Value;

/// A host with Docker and an agent on it, in the middle of the usual world.
pub struct Stage {
    /// The agent. Before the daemon: what goes first lets go of the other's interfaces.
    pub agent: Agent,
    /// Docker's daemon.
    pub docker: Dockerd,
    /// The world.
    pub net: Topology,
}

impl Stage {
    /// Starts both, not knowing of each other yet.
    #[track_caller]
    pub fn new(args: &[&str]) -> Self {
        Self::within(Topology::new(), args)
    }

    /// Starts both in a world that there is.
    #[track_caller]
    pub fn within(net: Topology, args: &[&str]) -> Self {
        let docker = Dockerd::start(&net.host, args);
        let agent = Agent::start_with(&net.host, settings(&docker));
        Self { agent, docker, net }
    }

    /// Starts both, and has Docker's networks be taken over.
    #[track_caller]
    pub fn adopted(args: &[&str]) -> Self {
        let mut stage = Self::new(args);
        stage.adopt();
        stage
    }

    /// Takes over, starting the daemon again as an operator would.
    #[track_caller]
    pub fn adopt(&mut self) {
        self.agent.ok("docker adopt");
        self.restart_docker("TERM");
        self.wait_phase("on");
    }

    /// Starts the daemon again.
    #[track_caller]
    pub fn restart_docker(&mut self, signal: &str) {
        self.docker.end(signal);
        self.docker.launch();
        self.docker.wait_ready();
    }

    /// How it stands with Docker.
    #[track_caller]
    pub fn status(&self) -> Value {
        let out = self.agent.cli(["--output", "json", "docker", "status"]);
        serde_json::from_str(&out.stdout)
            .unwrap_or_else(|error| panic!("docker status: {error}: {} {}", out.stdout, out.stderr))
    }

    /// Waits until the agent is that far.
    #[track_caller]
    pub fn wait_phase(&self, phase: &str) {
        wait_until(&format!("the phase {phase}"), wait::START, || self.status()["Phase"] == phase);
    }

    /// Waits until every port of Docker's bridges is somebody's, and each container is known by its ports.
    #[track_caller]
    pub fn settle(&self) {
        self.settle_but(&[]);
    }

    /// The same, but for containers that are on no network of Docker's bridges, by id.
    #[track_caller]
    pub fn settle_but(&self, others: &[&str]) {
        let running = || {
            let ids = self.docker.ok("ps --quiet --no-trunc");
            let mut ids: Vec<_> = ids.lines().map(str::to_owned).collect();
            ids.retain(|id| !others.contains(&id.as_str()));
            ids.sort();
            ids
        };
        wait_until("all containers are known", wait::SOON, || {
            let known = self.agent.ok("ps --quiet --no-trunc");
            let mut known: Vec<_> = known.lines().map(str::to_owned).collect();
            known.sort();
            known == running() && self.status()["Drift"].as_array().is_some_and(Vec::is_empty)
        });
    }
}

/// What an agent is told of a daemon.
pub fn settings(docker: &Dockerd) -> Settings {
    let (socket, config) = (docker.socket(), docker.config());
    Settings::default()
        .env("BASCULE_LOG_LEVEL", "info,bascule::docker=debug")
        .env("BASCULE_DOCKER_SOCKET", &socket.display().to_string())
        .env("BASCULE_DOCKER_CONFIG", &config.display().to_string())
}

/// The rules of the packet filter; an empty chain is none, and neither is a policy.
pub fn rules(host: &Netns) -> String {
    let saved = ["iptables-save", "ip6tables-save"].map(|tool| host.sh(tool));
    let rules = saved.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("-A"));
    rules.map(|rule| format!("{rule}\n")).collect()
}

/// An address with a port.
pub const fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}
