//! The agent's socket as others see it: Docker's own client, a library that speaks Docker's API, and
//! those who mean ill.

mod bad;
mod cases;
mod described;
mod docker;
mod events;
mod library;
mod rights;
mod storm;
mod wire;

use std::process::Command;

use bascule_tests::{
    Agent, Topology,
    process::{self, Output},
};

/// A host with an agent.
fn stage() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    (net, agent)
}

/// Docker's own client, talking to the agent.
fn docker_command(agent: &Agent) -> Command {
    let mut command = Command::new("docker");
    let socket = format!("unix://{}", agent.places.socket().display());
    command.args(["--host", &socket]).env("HOME", agent.places.root()).env_remove("DOCKER_HOST");
    command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION");
    command
}

/// Runs Docker's client with these words.
fn docker<S: AsRef<str>>(agent: &Agent, words: impl IntoIterator<Item = S>) -> Output {
    let mut command = docker_command(agent);
    for word in words {
        command.arg(word.as_ref());
    }
    process::run(&mut command, process::LIMIT)
}

/// Runs Docker's client with the words of a line, demands success, and gives its output, trimmed.
#[track_caller]
fn docker_ok(agent: &Agent, line: &str) -> String {
    let out = docker(agent, line.split_whitespace());
    assert!(out.ok(), "`docker {line}` failed with {}: {}", out.code, out.stderr);
    out.stdout.trim_end().to_owned()
}

/// Runs Docker's client, demands that it is refused, and gives what it says.
#[track_caller]
fn docker_refused(agent: &Agent, line: &str) -> String {
    let out = docker(agent, line.split_whitespace());
    assert_eq!(out.code, 1, "`docker {line}`: {out:?}");
    out.stderr.trim_end().to_owned()
}
