//! A host with dockerd and our agent as its network driver, and a world around it.

use std::{path::PathBuf, time::Duration};

use bascule_tests::{Agent, Dockerd, Topology, agent::Settings, process::Output, wait};
use serde_json::Value;

/// How long Docker may take for what it does by itself, on a loaded machine.
pub const DOCKERS: Duration = Duration::from_secs(60);

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
        let net = Topology::dual();
        let docker = Dockerd::start(&net.host, args);
        let agent = Agent::start_with(&net.host, settings(&docker));
        Self { agent, docker, net }
    }

    /// Runs `docker` with the words of a line, demands that it fails, and gives what it says.
    #[track_caller]
    pub fn fails(&self, line: &str) -> String {
        let out: Output = self.docker.cli(line.split_whitespace());
        assert!(!out.ok(), "`docker {line}` succeeded: {}", out.stdout);
        out.stderr
    }

    /// Executes a line of shell in a container, and gives its output, trimmed.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> String {
        let out = self.try_exec(container, line);
        assert!(out.ok(), "`{line}` in {container} failed with {}: {}", out.code, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Executes a line of shell in a container.
    pub fn try_exec(&self, container: &str, line: &str) -> Output {
        let path = format!(
            "export PATH=/bin; alias ping='busybox ping' nslookup='busybox nslookup' ip='busybox ip' cat='busybox cat' ifconfig='busybox ifconfig' wget='busybox wget'; {line}"
        );
        self.docker.cli(["exec", container, "/bin/busybox", "sh", "-c", &path])
    }

    /// What `bascule port` says of a container, once it is known by its name.
    pub fn ports(&self, container: &str) -> Vec<String> {
        wait::wait_for(&format!("the name {container}"), DOCKERS, || {
            let out = self.agent.cli(["port", container]);
            out.ok().then(|| out.stdout.lines().map(str::to_owned).collect())
        })
    }
}

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
