//! Published ports of a container that changes its networks, and addresses that nothing is published on.

use std::net::IpAddr;

use super::{
    ipv6::{mode, on},
    *,
};
use crate::model::Proto;

/// Connects a container to a network that takes the default route over.
fn lead_by(network: &str, container: &str) -> Change {
    let endpoint = EndpointSpec { priority: 7, ..EndpointSpec::default() };
    Change::Connect { network: network.into(), container: container.into(), endpoint }
}

#[test]
fn moby_pm_010_published_ports_follow_to_a_network_of_another_mode() {
    let mut world = World::new();
    let key = mode(4);
    world.network("open", "10.1.0.0/24");
    let made = |name: &str, subnet: &str, options: &[(&str, &str)]| NetworkSpec {
        options: options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..network(name, subnet)
    };
    let binding = "com.docker.network.bridge.host_binding_ipv4";
    for spec in [
        made("routed", "10.2.0.0/24", &[(&key, "routed")]),
        made("local", "10.3.0.0/24", &[(binding, "127.0.0.1")]),
    ] {
        world.ok(&Change::CreateNetwork(spec));
    }
    world.run(on("open", "c1", &["8080:80", "81"]));
    let open = ["0.0.0.0|49153", "0.0.0.0|8080"];
    assert_eq!(world.bindings("c1"), open);
    let before = world.desired.clone();
    world.ok(&lead_by("routed", "c1"));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|", "0.0.0.0|"]);
    // What cannot be carried out leaves the old mapping with its numbers.
    let reverted = revert(&before, &world.desired);
    assert_eq!(reverted.containers, before.containers);
    let kept = &before.containers.values().next().unwrap().running().unwrap().rules;
    assert!(kept.iter().all(|rule| reverted.indices.rules.in_use(rule.index)));
    // A network that takes nothing over changes nothing.
    world.ok(&connect("local", "c1", None));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|", "0.0.0.0|"]);
    world.ok(&disconnect("routed", "c1"));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|49154", "0.0.0.0|8080"]);
    world.ok(&disconnect("open", "c1"));
    assert_eq!(world.bindings("c1"), ["127.0.0.1|49154", "127.0.0.1|8080"]);
    assert_eq!(world.desired.indices.tables.len(), 1, "an address of its own has a table");
    world.ok(&lead_by("open", "c1"));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|49154", "0.0.0.0|8080"], "a chosen port is kept");
    assert_eq!(world.desired.indices.tables.len(), 0);
}

#[test]
fn a_port_that_cannot_follow_is_withdrawn_and_said() {
    let mut world = World::new();
    let binding = "com.docker.network.bridge.host_binding_ipv4";
    world.network("open", "10.1.0.0/24");
    let options = [(binding.to_owned(), "127.0.0.1".to_owned())].into();
    world.ok(&Change::CreateNetwork(NetworkSpec { options, ..network("local", "10.3.0.0/24") }));
    world.run(on("local", "c1", &["8080:80"]));
    world.ok(&lead_by("open", "c1"));
    world.ok(&disconnect("open", "c1"));
    assert_eq!(world.bindings("c1"), ["127.0.0.1|8080"]);
    // Somebody else has the port on another address: everywhere it is not free.
    world.run(on("open", "c2", &["192.0.2.7:8080:80"]));
    let (_, message) = world.refused(&lead_by("open", "c1"));
    assert!(message.ends_with("port is already allocated"), "{message}");
    world.ok(&remove("c2", true));
    world.ok(&lead_by("open", "c1"));
    world.facts.held.insert((Proto::Tcp, IpAddr::from([127, 0, 0, 1]), 8080));
    let outcome = world.ok(&disconnect("open", "c1"));
    let Outcome::Container(_, warnings) = outcome else { panic!("{outcome:?}") };
    assert!(warnings[0].contains("127.0.0.1:8080/tcp: address already in use"), "{warnings:?}");
    assert_eq!(world.bindings("c1"), [""; 0]);
}

#[test]
fn addresses_of_groups_are_published_on_by_nobody() {
    let mut world = World::new();
    world.network("n1", "10.1.0.0/24");
    for address in ["224.0.0.1", "255.255.255.255", "192.0.2.255", "127.255.255.255"] {
        world.ok(&Change::CreateContainer(Box::new(on(
            "n1",
            "c1",
            &[&format!("{address}:80:80")],
        ))));
        let (_, message) = world.refused(&Change::Start("c1".into()));
        let wanted =
            format!("failed to bind host port {address}:80/tcp: cannot assign requested address");
        assert!(message.ends_with(&wanted), "{message}");
        world.ok(&remove("c1", false));
    }
}
