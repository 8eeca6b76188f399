//! The same measurement of the peer: `docker network connect`, beside ours in one run.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Dockerd, Netns, api, process};
use serde_json::json;

use crate::attach::percentiles;

/// Containers, and networks that each of them is attached to: a tenth of what is there with us.
const CONTAINERS: usize = 10;
const NETWORKS: usize = 10;
/// Attachments by the command line client, which costs more than they do.
const BY_CLIENT: usize = 20;

/// Attaches a container by the API, and returns how long that took.
fn by_api(socket: &Path, network: &str, container: &str) -> Duration {
    let path = format!("/v1.41/networks/{network}/connect");
    let begin = Instant::now();
    let answer = api::request(socket, "POST", &path, Some(&json!({"Container": container})));
    let took = begin.elapsed();
    let answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    took
}

/// Attaches a container by `docker network connect`, and returns how long that took.
fn by_client(socket: &Path, network: &str, container: &str) -> Duration {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket.display()));
    command.args(["network", "connect", network, container]);
    command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION");
    let begin = Instant::now();
    let out = process::run(&mut command, process::LIMIT);
    let took = begin.elapsed();
    assert!(out.ok(), "{command:?}: {out:?}");
    took
}

/// Writes what attachments to two networks of ours cost, which everything else is there beside, and what they cost
/// with Docker; in turns, so that both meet the same load.
pub fn compare(agent: &Agent, ours: [&str; 2], text: &mut String) {
    let docker = Dockerd::start(&Netns::new("docker"), &[]);
    let last = NETWORKS + BY_CLIENT / CONTAINERS;
    for network in 0..=last {
        docker.ok(&format!("network create --subnet 10.99.{network}.0/24 n{network}"));
    }
    for container in 0..CONTAINERS {
        docker.container(&format!("c{container}"), "n0", "");
    }
    let (own, theirs) = (agent.places.socket(), docker.socket());
    let measure = |attach: fn(&Path, &str, &str) -> Duration, to: &str, first: usize, count| {
        let pairs = (0..count).map(|number| {
            let network = format!("n{}", first + number / CONTAINERS);
            let container = format!("c{}", number % CONTAINERS);
            (attach(&own, to, &format!("s{number}")), attach(&theirs, &network, &container))
        });
        let (own, theirs): (Vec<_>, Vec<_>) = pairs.unzip();
        (percentiles(own), percentiles(theirs))
    };
    let api = measure(by_api, ours[0], 1, CONTAINERS * NETWORKS);
    let client = measure(by_client, ours[1], NETWORKS + 1, BY_CLIENT);
    let version = docker.version();
    for (how, (own, theirs)) in
        [("POST /networks/{id}/connect", api), ("docker network connect", client)]
    {
        let times = theirs.0 / own.0;
        writeln!(text, "{how}, in turns").ok();
        writeln!(
            text,
            "  Bascule, 1,000 there                 p50 {:6.2} ms  p99 {:6.2} ms",
            own.0, own.1
        )
        .ok();
        writeln!(
            text,
            "  Docker {version}, to 100 there  p50 {:6.2} ms  p99 {:6.2} ms: {times:.1} times",
            theirs.0, theirs.1
        )
        .ok();
    }
}
