//! A host with dockerd and our agent as its network driver, and a world around it.

use std::{path::PathBuf, time::Duration};

use bascule_tests::{Agent, Dockerd, Topology, agent::Settings, dockerd::cases::Way};
use serde_json::Value;

/// How long Docker may take for what it does by itself, on a loaded machine.
pub const DOCKERS: Duration = Duration::from_secs(60);

/// What makes a network one of ours.
pub const DRIVER: &str = "--driver bascule";

/// The world.
pub struct Stage {
    pub agent: Agent,
    pub docker: Dockerd,
    pub net: Topology,
}

impl Stage {
    /// Starts dockerd with more arguments, and the agent at the place where dockerd looks for plugins.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::within(Topology::dual(), args)
    }

    /// Starts both in a world that there is.
    #[track_caller]
    pub fn within(net: Topology, args: &[&str]) -> Self {
        let docker = Dockerd::start(&net.host, args);
        let agent = Agent::start_with(&net.host, settings(&docker));
        Self { agent, docker, net }
    }

    /// What both layers ask alike is asked of this.
    pub const fn way(&self) -> Way<'_> {
        Way { agent: &self.agent, docker: &self.docker, net: &self.net, driver: DRIVER, settle }
    }
}

/// Nothing is to be waited for: Docker waits itself, with each of its requests.
pub const fn settle(_agent: &Agent, _docker: &Dockerd, _others: &[&str]) {}

/// Where dockerd finds the driver `bascule`.
pub fn socket(docker: &Dockerd) -> PathBuf {
    docker.root().join("run/docker/plugins/bascule.sock")
}

/// Has an agent be the driver of a dockerd.
pub fn settings(docker: &Dockerd) -> Settings {
    let socket = format!("--docker-plugin={}", socket(docker).display());
    Settings::default()
        .arg(&["--bridge", "none", &socket])
        .env("BASCULE_DOCKER_SOCKET", &docker.socket().display().to_string())
}

/// The containers that the agent shows, as a list of JSON objects.
pub fn listed(agent: &Agent) -> Vec<Value> {
    let answer = agent.api("GET", "/containers/json?all=1", None);
    answer.body.as_array().cloned().unwrap_or_default()
}
