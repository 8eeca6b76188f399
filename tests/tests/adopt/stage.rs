//! A host with Docker and an agent on it.

use std::collections::BTreeSet;

use bascule_tests::{
    Agent, Dockerd, Netns, Topology,
    agent::Settings,
    dockerd::cases::Way,
    wait::{self, wait_equal, wait_until},
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

    /// Waits until the agent is that far.
    #[track_caller]
    pub fn wait_phase(&self, phase: &str) {
        wait_until(&format!("the phase {phase}"), wait::START, || {
            status(&self.agent)["Phase"] == phase
        });
    }

    /// Waits until every port of Docker's bridges is somebody's, and each container is known by its ports.
    #[track_caller]
    pub fn settle(&self) {
        settle(&self.agent, &self.docker, &[]);
    }

    /// What both layers ask alike is asked of this.
    pub const fn way(&self) -> Way<'_> {
        Way { agent: &self.agent, docker: &self.docker, net: &self.net, driver: "", settle }
    }
}

/// How it stands with Docker.
#[track_caller]
fn status(agent: &Agent) -> Value {
    let out = agent.cli(["--output", "json", "docker", "status"]);
    serde_json::from_str(&out.stdout)
        .unwrap_or_else(|error| panic!("docker status: {error}: {} {}", out.stdout, out.stderr))
}

/// Waits until every port of Docker's bridges is somebody's, and each container is known by its ports, but for
/// containers that are on none of them, by id.
#[track_caller]
pub fn settle(agent: &Agent, docker: &Dockerd, others: &[&str]) {
    // Each of them, and each of its published ports: a container that is being started is known before these are.
    let known = |list: &Value| -> BTreeSet<String> {
        let all = list.as_array().into_iter().flatten();
        let all = all.filter_map(|c| Some((c["Id"].as_str()?, c["Ports"].as_array())));
        let all = all.filter(|(id, _)| !others.contains(id));
        all.flat_map(|(id, ports)| {
            let ports = ports.into_iter().flatten().filter(|port| port["PublicPort"].is_u64());
            let line =
                |p: &Value| format!("{id} {} {} {}", p["PublicPort"], p["PrivatePort"], p["Type"]);
            ports.map(line).chain([id.to_owned()]).collect::<Vec<_>>()
        })
        .collect()
    };
    wait_equal("what is not known yet", wait::SOON, &Vec::<String>::new(), || {
        let running = known(&docker.request("GET", "/containers/json", None).body);
        let known = known(&agent.api("GET", "/containers/json", None).body);
        let drift = status(agent)["Drift"].as_array().cloned().unwrap_or_default();
        let drift = drift.iter().map(Value::to_string);
        running.symmetric_difference(&known).cloned().chain(drift).collect()
    });
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
