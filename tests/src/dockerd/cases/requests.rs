//! Containers that are asked for by hand, in ways in which no command line asks.

use serde_json::{Value, json};

use super::{Way, at};
use crate::{
    api::Answer,
    dockerd::IMAGE,
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};

/// All of it, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_pm_037_a_list_without_bindings_is_what_docker_makes_of_it(way);
    moby_api_018_several_networks_at_once_are_refused(way);
    moby_api_019_a_port_that_does_not_read_is_refused(way);
}

/// Asks for a container that does nothing.
#[track_caller]
fn create(way: &Way<'_>, name: &str, more: &Value) -> Answer {
    let mut body = json!({"Image": IMAGE, "Cmd": ["/bin/busybox", "sleep", "100000"]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    way.docker.request("POST", &format!("/containers/create?name={name}"), Some(&body))
}

/// Demands that a container is refused, and that there is none; gives the words.
#[track_caller]
fn refused(way: &Way<'_>, more: &Value) -> String {
    let answer = create(way, "bad", more);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(way.docker.request("GET", "/containers/bad/json", None).status, 404);
    answer.message().to_owned()
}

/// What the engine of these tests makes of such a list beside another one differs from start to start: nothing, or one more
/// binding. Newer ones make an empty binding of it where an older client says it. What Docker says is what is served.
fn moby_pm_037_a_list_without_bindings_is_what_docker_makes_of_it(way: &Way<'_>) {
    let answer = create(
        way,
        "lists",
        &json!({"ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
            "HostConfig": {"NetworkMode": "blue", "PortBindings": {"80/tcp": [], "81/tcp": [{}]}}}),
    );
    assert_eq!(answer.status, 201, "{answer:?}");
    way.docker.ok("start lists");
    way.settle();
    // Who is just being started is known before what it publishes.
    let ports = wait::wait_for("the ports", wait::SOON, || {
        let said = way.docker.ok("port lists");
        let (mut ports, mut dockers) = (way.ports("lists"), Vec::from_iter(said.lines()));
        ports.sort();
        dockers.sort_unstable();
        (!ports.is_empty() && (dockers.is_empty() || ports == dockers)).then_some(ports)
    });
    let lists = way.docker.open("lists");
    let _servers = [80, 81].map(|port| TcpServer::start(&lists.ns, port));
    for line in &ports {
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port: {line}"));
        traffic::reaches(&way.net.outside, at(HOST, port));
    }
    way.remove("lists");
}

/// The engine of these tests speaks 1.41. What 1.44 takes is two requests for it: `docker network connect` before the start.
fn moby_api_018_several_networks_at_once_are_refused(way: &Way<'_>) {
    let words = refused(
        way,
        &json!({"HostConfig": {"NetworkMode": "blue"},
            "NetworkingConfig": {"EndpointsConfig": {"blue": {}, "green": {}}}}),
    );
    assert!(words.contains("network endpoints"), "{words}");
}

fn moby_api_019_a_port_that_does_not_read_is_refused(way: &Way<'_>) {
    let words = refused(
        way,
        &json!({"HostConfig": {"NetworkMode": "blue", "PortBindings": {"19039;1230": [{}]}}}),
    );
    assert!(words.contains("invalid port") && words.contains("19039;1230"), "{words}");
}
