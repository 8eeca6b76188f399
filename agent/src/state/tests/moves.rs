//! Published ports of a container that changes its networks, and addresses that nothing is published on.

use std::net::IpAddr;

use super::{
    ipv6::{mode, on},
    *,
};
use crate::model::{PortRange, Proto};

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

#[test]
fn p43_moby_pm_029_moby_pm_006_one_of_a_range_is_chosen() {
    let mut world = World::new();
    world.network("n1", "10.1.0.0/24");
    for (name, port) in [("c1", 9090), ("c2", 9091), ("c3", 9092)] {
        world.run(on("n1", name, &["9090-9092:80"]));
        assert_eq!(world.bindings(name), [format!("0.0.0.0|{port}")]);
    }
    world.ok(&Change::CreateContainer(Box::new(on("n1", "c4", &["9090-9092:80"]))));
    let (_, message) = world.refused(&Change::Start("c4".into()));
    assert!(
        message.ends_with("Bind for 0.0.0.0:9090 failed: port is already allocated"),
        "{message}"
    );
    world.ok(&remove("c2", true));
    world.ok(&Change::Start("c4".into()));
    assert_eq!(world.bindings("c4"), ["0.0.0.0|9091"]);
    // MOBY-PM-006: two free ports for three of a container; nothing is kept.
    world.facts.held.insert((Proto::Tcp, IpAddr::from([0, 0, 0, 0]), 8081));
    let three = ["8080-8082:80", "8080-8082:81", "8080-8082:82"];
    world.ok(&Change::CreateContainer(Box::new(on("n1", "c5", &three))));
    let (_, message) = world.refused(&Change::Start("c5".into()));
    let wanted = "failed to bind host port 0.0.0.0:8081/tcp: address already in use";
    assert!(message.ends_with(wanted), "{message}");
    world.run(on("n1", "c6", &three[..2]));
    assert_eq!(world.bindings("c6"), ["0.0.0.0|8080", "0.0.0.0|8082"]);
}

#[test]
fn moby_pm_027_ports_that_others_reserve_are_not_chosen() {
    let mut world = World::new();
    world.network("n1", "10.1.0.0/24");
    world.facts.reserved = (49_153..=49_160).collect();
    world.run(on("n1", "c1", &["80"]));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|49161"]);
    // Whoever names one means it.
    world.run(on("n1", "c2", &["49155:80", "49156-49157:81"]));
    assert_eq!(world.bindings("c2"), ["0.0.0.0|49155", "0.0.0.0|49156"]);
    world.facts.reserved = (0..=u16::MAX).collect();
    world.ok(&Change::CreateContainer(Box::new(on("n1", "c3", &["80"]))));
    let (_, message) = world.refused(&Change::Start("c3".into()));
    assert!(message.contains("all ports are allocated"), "{message}");
    assert!(world.facts.is_reserved(PortRange::new(1, 1).unwrap()));
}

#[test]
fn moby_pm_024_a_start_that_finds_its_port_taken_leaves_the_container_created() {
    let mut world = World::new();
    world.network("n1", "10.1.0.0/24");
    world.run(on("n1", "c1", &["8000:80"]));
    world.ok(&Change::CreateContainer(Box::new(on("n1", "c2", &["8000:80"]))));
    let (_, message) = world.refused(&Change::Start("c2".into()));
    assert!(message.starts_with("failed to set up container networking: "), "{message}");
    assert_eq!(world.container("c2").status(), "created");
}
