//! What Docker has is what is wished for, and numbers stay.

use super::*;
use crate::model::{Adoption, NetworkOptions, Phase, Pool, Proto};

const VETH: u32 = 70;

fn id(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn docker_network(byte: u8, name: &str, bridge: &str, subnet: &str) -> DockerNetwork {
    DockerNetwork {
        id: id(byte).parse().unwrap(),
        name: name.parse().unwrap(),
        bridge: bridge.into(),
        ipv4: Some(Pool::of(subnet.parse().unwrap())),
        ipv6: None,
        internal: false,
        predefined: name == "bridge",
        attachable: false,
        mtu: 1500,
        options: NetworkOptions::read([].into()).0,
        labels: [].into(),
    }
}

fn docker_container(byte: u8, network: u8, last: u8) -> DockerContainer {
    let ip = Ipv4Addr::new(10, 9, 0, last);
    let range = |port| crate::model::PortRange::new(port, 1).unwrap();
    DockerContainer {
        id: id(byte).parse().unwrap(),
        name: format!("c{byte}").parse().unwrap(),
        created: None,
        command: "sh".into(),
        labels: [].into(),
        endpoints: vec![DockerEndpoint {
            id: id(byte + 100).parse().unwrap(),
            network: id(network).parse().unwrap(),
            ip: Some(ip),
            ip6: None,
            mac: crate::model::MacAddress::derived(ip),
            aliases: vec![],
            interface: "eth0".into(),
            veth: ("veth0123456".into(), VETH + u32::from(byte)),
        }],
        ports: vec![DockerPort {
            proto: Proto::Tcp,
            host_ip: [0, 0, 0, 0].into(),
            host: range(8000 + u16::from(byte)),
            container: range(80),
        }],
        expose: [].into(),
        links: vec![],
    }
}

fn adopted() -> World {
    let mut world = World::with_default();
    let adoption = Adoption { phase: Phase::On, ..Adoption::default() };
    world.ok(&Change::Adoption(Box::new(adoption)));
    world
}

fn sync(world: &mut World, networks: &[DockerNetwork], containers: &[DockerContainer]) {
    let docker = Docker { networks: networks.to_vec(), containers: containers.to_vec() };
    world.ok(&Change::Docker(Box::new(docker)));
}

#[test]
fn n18_a_default_network_with_another_id_is_the_same_network() {
    let mut world = adopted();
    assert!(world.desired.default_network().is_none(), "ours has gone");
    let mut networks = [docker_network(1, "bridge", "docker0", "10.9.0.0/16")];
    sync(&mut world, &networks, &[docker_container(7, 1, 2)]);
    let index = world.desired.default_network().unwrap().index;
    let (before, rule) = {
        let container = world.desired.containers.values().next().unwrap();
        let endpoint = container.endpoints().next().unwrap().1.clone();
        (endpoint, container.running().unwrap().rules.clone())
    };
    networks[0].id = id(2).parse().unwrap();
    sync(&mut world, &networks, &[docker_container(7, 2, 2)]);
    assert_eq!(world.desired.networks.len(), 1);
    assert_eq!(world.desired.default_network().unwrap().index, index);
    let container = world.desired.containers.values().next().unwrap();
    assert_eq!(*container.endpoints().next().unwrap().1, before, "its numbers stay");
    assert_eq!(container.running().unwrap().rules, rule);
    assert!(!container.has_namespace());
}

#[test]
fn what_docker_has_no_more_gives_its_numbers_back() {
    let mut world = adopted();
    let networks = [
        docker_network(1, "bridge", "docker0", "10.9.0.0/16"),
        docker_network(2, "n", "br0", "10.8.0.0/16"),
    ];
    let containers = [docker_container(7, 1, 2), docker_container(8, 1, 3)];
    sync(&mut world, &networks, &containers);
    let index = |world: &World, name: &str| {
        let found = find::container(&world.desired, name).unwrap();
        let endpoint = found.endpoints().next().unwrap().1.index;
        (endpoint, found.running().unwrap().rules[0].index)
    };
    let (gone, stays) = (index(&world, "c7"), index(&world, "c8"));
    sync(&mut world, &networks[..1], &containers[1..]);
    assert_eq!(index(&world, "c8"), stays);
    let indices = &world.desired.indices;
    assert!(!indices.endpoints.in_use(gone.0) && !indices.rules.in_use(gone.1));
    assert!(indices.endpoints.in_use(stays.0) && indices.rules.in_use(stays.1));
    // The same once more changes nothing at all.
    let before = world.desired.clone();
    sync(&mut world, &networks[..1], &containers[1..]);
    assert_eq!(world.desired, before);
    // Released, nothing of Docker's is left.
    world.ok(&Change::Adoption(Box::default()));
    assert!(world.desired.networks.is_empty() && world.desired.containers.is_empty());
    assert!(!world.desired.indices.endpoints.in_use(stays.0));
}

#[test]
fn what_is_dockers_is_changed_by_docker_alone() {
    let mut world = adopted();
    sync(
        &mut world,
        &[docker_network(1, "bridge", "docker0", "10.9.0.0/16")],
        &[docker_container(7, 1, 2)],
    );
    for (change, words) in [
        (Change::Stop { container: "c7".into(), exit_code: None }, "use `docker stop`"),
        (Change::RemoveContainer { container: "c7".into(), force: true }, "use `docker rm`"),
        (Change::RemoveNetwork("bridge".into()), "network bridge is Docker's"),
        (Change::CreateContainer(Box::default()), "use `docker run`"),
    ] {
        let (status, message) = world.refused(&change);
        assert!(status == 403 && message.contains(words), "{message}");
    }
}

#[test]
fn adoption_waits_for_containers_on_our_own_default_network() {
    let mut world = World::with_default();
    world.run(container("c1", &[]));
    let adoption = Adoption { phase: Phase::Taking, ..Adoption::default() };
    let (status, message) = world.refused(&Change::Adoption(Box::new(adoption)));
    assert!(status == 409 && message.contains("(c1): remove them first"), "{message}");
}
