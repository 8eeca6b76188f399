//! Every verb, told as a story: what it does, and what it refuses without changing anything.

use std::net::Ipv4Addr;

use jiff::Timestamp;

mod addresses;
mod default;
mod docker;
mod ipv6;
mod large;
mod links;
mod moves;
mod networks;
mod properties;

use super::{change::revert, *};
use crate::model::{Container, Desired, NamespaceId, Network, NetworkId, Predefined, Sandbox};

struct World {
    desired: Desired,
    facts: Facts,
}

impl World {
    fn new() -> Self {
        let predefined = Predefined {
            host: NetworkId::new([0xaa; 32]),
            none: NetworkId::new([0xbb; 32]),
            created: Timestamp::UNIX_EPOCH,
        };
        Self { desired: Desired::new(predefined, 5), facts: Facts::sample() }
    }

    fn with_default() -> Self {
        let mut world = Self::new();
        world.ok(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
        world
    }

    fn ok(&mut self, change: &Change) -> Outcome {
        let (next, outcome) = change::apply(&self.desired, change, &mut self.facts)
            .unwrap_or_else(|e| panic!("{change:?}: {e}"));
        self.desired = next;
        outcome
    }

    fn refused(&mut self, change: &Change) -> (u16, String) {
        let before = self.desired.clone();
        let error =
            change::apply(&self.desired, change, &mut self.facts).expect_err("must be refused");
        assert_eq!(self.desired, before);
        (error.status(), error.message)
    }

    fn network(&mut self, name: &str, subnet: &str) {
        self.ok(&Change::CreateNetwork(network(name, subnet)));
    }

    fn run(&mut self, spec: ContainerSpec) -> Container {
        let name = spec.name.clone().expect("named").to_string();
        self.ok(&Change::CreateContainer(Box::new(spec)));
        self.ok(&Change::Start(name.clone()));
        self.container(&name).clone()
    }

    fn container(&self, name: &str) -> &Container {
        find::container(&self.desired, name).expect("exists")
    }

    fn made(&self, name: &str) -> &Network {
        match find::network(&self.desired, name) {
            Ok(find::Found::Bridge(network)) => network,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn ip(&self, name: &str) -> Ipv4Addr {
        self.container(name).endpoints().next().expect("runs").1.ip.expect("has IPv4")
    }
}

fn network(name: &str, subnet: &str) -> NetworkSpec {
    let subnets = vec![SubnetSpec { subnet: subnet.into(), ..SubnetSpec::default() }];
    NetworkSpec { name: name.into(), subnets, ..NetworkSpec::default() }
}

fn container(name: &str, networks: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: Some(name.parse().unwrap()),
        networks: networks.iter().map(|&n| (n.to_owned(), EndpointSpec::default())).collect(),
        ..ContainerSpec::default()
    }
}

fn publishing(name: &str, specs: &[&str]) -> ContainerSpec {
    let publish = specs.iter().map(|s| s.parse().unwrap()).collect();
    ContainerSpec { publish, ..container(name, &[]) }
}

fn connect(network: &str, container: &str, ip: Option<[u8; 4]>) -> Change {
    let endpoint = EndpointSpec { ip: ip.map(Into::into), ..EndpointSpec::default() };
    Change::Connect { network: network.into(), container: container.into(), endpoint }
}

fn disconnect(network: &str, container: &str) -> Change {
    Change::Disconnect { network: network.into(), container: container.into(), force: false }
}

fn stop(container: &str) -> Change {
    Change::Stop { container: container.into(), exit_code: None }
}

fn remove(container: &str, force: bool) -> Change {
    Change::RemoveContainer { container: container.into(), force }
}

#[test]
fn s56_the_default_network_is_made_once_and_stays() {
    let mut world = World::with_default();
    let default = world.desired.default_network().unwrap();
    assert_eq!(
        (default.ipv4.as_ref().unwrap().subnet.to_string(), default.bridge.as_str()),
        ("172.17.0.0/16".into(), "bascule0")
    );
    assert_eq!(
        world.ok(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic))),
        Outcome::Nothing
    );
    for (name, text) in
        [("bridge", "bridge is a pre"), ("host", "host is a pre"), ("none", "none is a pre")]
    {
        let (status, message) = world.refused(&Change::RemoveNetwork(name.into()));
        assert_eq!(status, 403);
        assert!(message.starts_with(text), "{message}");
        let (status, message) = world.refused(&Change::CreateNetwork(network(name, "10.1.0.0/24")));
        assert_eq!(
            (status, message),
            (403, format!("operation is not permitted on predefined {name} network "))
        );
    }
}

#[test]
fn s47_networks_that_cannot_be_are_refused_in_dockers_words() {
    let mut world = World::new();
    world.network("n1", "172.25.0.0/16");
    let mut check = |spec: NetworkSpec, status: u16, text: &str| {
        assert_eq!(world.refused(&Change::CreateNetwork(spec)), (status, text.to_owned()));
    };
    check(network("n1", "10.1.0.0/24"), 409, "network with name n1 already exists");
    check(
        network("n2", "172.25.3.0/24"),
        403,
        "invalid pool request: Pool overlaps with other one on this address space",
    );
    check(
        network("n2", "192.0.2.0/25"),
        403,
        "invalid pool request: Pool overlaps with other one on this address space: 192.0.2.0/25 overlaps with 192.0.2.7/24 of interface eth0",
    );
    check(
        network("n2", "172.26.1.0/16"),
        400,
        "invalid network config:\ninvalid subnet 172.26.1.0/16: it should be 172.26.0.0/16",
    );
    let mut spec = network("n2", "172.26.0.0/16");
    spec.subnets[0].gateway = "172.27.0.1".into();
    spec.subnets[0].ip_range = "172.0.0.0/8".into();
    check(
        spec,
        400,
        "invalid network config:\ninvalid ip-range 172.0.0.0/8: CIDR block is bigger than its parent subnet 172.26.0.0/16\ninvalid gateway 172.27.0.1: parent subnet 172.26.0.0/16 doesn't contain this address",
    );
    let mut spec = network("n2", "172.26.0.0/16");
    spec.subnets.push(SubnetSpec::default());
    check(spec, 400, "bridge driver doesn't support multiple subnets");
    let (status, message) = world.refused(&Change::RemoveNetwork("nowhere".into()));
    assert_eq!((status, message.as_str()), (404, "network nowhere not found"));
}

#[test]
fn s42_subnets_are_chosen_apart() {
    let mut world = World::with_default();
    for name in ["a", "b"] {
        world.ok(&Change::CreateNetwork(NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        }));
    }
    let subnets: Vec<_> = ["a", "b"]
        .map(|n| match find::network(&world.desired, n) {
            Ok(find::Found::Bridge(n)) => n.ipv4.as_ref().unwrap().subnet.to_string(),
            other => panic!("{other:?}"),
        })
        .into();
    assert_eq!(subnets, ["172.18.0.0/24", "172.18.1.0/24"]);
}

#[test]
fn s17_a_network_in_use_stays_and_s16_one_whose_containers_stopped_goes() {
    let mut world = World::new();
    world.network("n1", "172.25.0.0/16");
    let c1 = world.run(container("c1", &["n1"]));
    let (status, message) = world.refused(&Change::RemoveNetwork("n1".into()));
    let endpoint = c1.endpoints().next().unwrap().1.id.short();
    assert_eq!(
        (status, message),
        (
            403,
            format!(
                "error while removing network: network n1 has active endpoints (name:\"c1\" id:\"{endpoint}\")"
            )
        )
    );
    world.ok(&stop("c1"));
    world.ok(&Change::RemoveNetwork("n1".into()));
    assert_eq!(world.refused(&Change::Start("c1".into())).0, 404);
    world.ok(&disconnect("n1", "c1"));
    world.ok(&Change::Start("c1".into()));
}

#[test]
fn s30_interfaces_and_s55_addresses_follow_one_another() {
    let mut world = World::with_default();
    world.network("n1", "172.25.0.0/16");
    world.run(container("c1", &[]));
    assert_eq!(world.ip("c1"), Ipv4Addr::new(172, 17, 0, 2));
    world.ok(&connect("n1", "c1", Some([172, 25, 3, 3])));
    let c1 = world.container("c1");
    let seen: Vec<_> =
        c1.endpoints().map(|(_, e)| (e.interface.as_str(), e.mac.to_string())).collect();
    assert_eq!(seen, [("eth0", "02:42:ac:11:00:02".into()), ("eth1", "02:42:ac:19:03:03".into())]);
    assert_eq!(
        world.refused(&connect("n1", "c1", None)).1,
        "endpoint with name c1 already exists in network n1"
    );
    world.ok(&disconnect("bridge", "c1"));
    assert_eq!(world.refused(&disconnect("bridge", "c1")).0, 500);
    assert_eq!(world.container("c1").attachments.len(), 1);
}

#[test]
fn s52_static_addresses_are_inside_free_and_kept() {
    let mut world = World::with_default();
    world.network("n1", "172.25.0.0/24");
    world.ok(&Change::CreateContainer(Box::new(container("c1", &[]))));
    world.ok(&Change::CreateContainer(Box::new(container("c2", &[]))));
    world.ok(&connect("n1", "c1", Some([172, 25, 0, 2])));
    let mut check = |ip, expected: (u16, &str)| {
        let (status, message) = world.refused(&connect("n1", "c2", Some(ip)));
        assert_eq!((status, message.as_str()), expected);
    };
    check([172, 25, 1, 2], (400, "no configured subnet contains IP address 172.25.1.2"));
    for taken in [0, 1, 2, 255] {
        check([172, 25, 0, taken], (403, "Address already in use"));
    }
    // The address of one that does not run yet is nobody else's.
    world.run(container("c3", &["n1"]));
    assert_eq!(world.ip("c3"), Ipv4Addr::new(172, 25, 0, 3));
    let (status, message) = world.refused(&connect("bridge", "c3", Some([172, 17, 0, 9])));
    assert_eq!(status, 400);
    assert!(message.contains("user-defined networks only"));
}

#[test]
fn s61_an_address_that_was_given_back_rests() {
    let mut world = World::with_default();
    let first = world.run(container("c1", &[]));
    world.ok(&stop("c1"));
    let again = world.run(container("c2", &[]));
    let of = |c: &Container| c.endpoints().map(|(_, e)| (e.ip, e.index)).next().unwrap();
    assert_eq!(
        (of(&first).0, of(&again).0),
        (Some(Ipv4Addr::new(172, 17, 0, 2)), Some(Ipv4Addr::new(172, 17, 0, 3)))
    );
    assert_ne!(of(&first).1, of(&again).1);
    // The generation of the first one's index has ended.
    assert_eq!(world.desired.indices.generations.of(of(&first).1), 6);
    assert!(world.container("c1").endpoints().next().is_none());
}

#[test]
fn ports_of_ours_and_of_the_hosts_processes_are_not_given_twice() {
    let mut world = World::with_default();
    let c1 = world.run(publishing("c1", &["8080:80", "127.0.0.1:53:53/udp"]));
    assert_eq!(c1.running().unwrap().rules.len(), 2);
    let mut check = |spec: &str, text: &str| {
        let spec = publishing("c2", &[spec]);
        world.ok(&Change::CreateContainer(Box::new(spec)));
        let (status, message) = world.refused(&Change::Start("c2".into()));
        assert_eq!(status, 500);
        assert!(
            message.starts_with("failed to set up container networking: driver failed programming external connectivity on endpoint c2 ("),
            "{message}"
        );
        assert!(message.ends_with(text), "{message}");
        world.ok(&remove("c2", false));
    };
    check("8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated");
    check("8000-8090:8000-8090", "Bind for 0.0.0.0:8080 failed: port is already allocated");
    check("192.0.2.7:8080:80", "Bind for 192.0.2.7:8080 failed: port is already allocated");
    check(
        "192.0.2.8:9:80",
        "failed to bind host port 192.0.2.8:9/tcp: cannot assign requested address",
    );
    world.facts.held.insert((crate::model::Proto::Tcp, Ipv4Addr::UNSPECIFIED.into(), 9090));
    let mut check = |spec: &str| {
        world.ok(&Change::CreateContainer(Box::new(publishing("c2", &[spec]))));
        let (_, message) = world.refused(&Change::Start("c2".into()));
        world.ok(&remove("c2", false));
        message
    };
    assert!(
        check("9090:80")
            .ends_with("failed to bind host port 0.0.0.0:9090/tcp: address already in use")
    );
    // Another protocol or another address is another port.
    world.run(publishing("c4", &["8080:80/udp", "9090:80/udp", "192.0.2.7:53:53/udp"]));
    assert_eq!(world.desired.indices.tables.len(), 2);
    world.ok(&stop("c1"));
    assert_eq!(world.desired.indices.tables.len(), 1);
    world.run(publishing("c5", &["8080:80"]));
}

#[test]
fn s112_exposed_ports_are_published_on_dynamic_ones() {
    let mut world = World::with_default();
    let spec = ContainerSpec {
        publish_all: true,
        expose: vec!["80".parse().unwrap(), "90-99/udp".parse().unwrap()],
        ..publishing("c1", &["8080:80"])
    };
    let c1 = world.run(spec);
    let ports: Vec<_> = c1
        .running()
        .unwrap()
        .rules
        .iter()
        .map(|r| (r.host.to_string(), r.container.to_string()))
        .collect();
    assert_eq!(ports, [("8080".into(), "80".into()), ("49153-49162".into(), "90-99".into())]);
}

#[test]
fn what_a_container_cannot_be_is_refused() {
    let mut world = World::with_default();
    world.run(container("c1", &[]));
    let (status, message) = world.refused(&Change::CreateContainer(Box::new(container("c1", &[]))));
    assert_eq!(status, 409);
    assert!(
        message.starts_with("Conflict. The container name \"/c1\" is already in use by container"),
        "{message}"
    );
    assert_eq!(
        world.refused(&Change::CreateContainer(Box::new(container("c2", &["bridge", "bridge"])))).0,
        403
    );
    assert_eq!(
        world.refused(&Change::CreateContainer(Box::new(container("c2", &["bridge", "none"])))).0,
        400
    );
    assert_eq!(
        world.refused(&Change::CreateContainer(Box::new(container("c2", &["nowhere"])))).0,
        404
    );
    assert_eq!(world.refused(&remove("c1", false)).0, 409);
    assert_eq!(world.refused(&remove("c9", true)).0, 404);
    world.run(container("c3", &["host"]));
    assert_eq!(world.refused(&connect("bridge", "c3", None)).0, 400);
    world.ok(&remove("c1", true));
}

#[test]
fn brought_namespaces_are_looked_at() {
    let mut world = World::with_default();
    let id = NamespaceId { device: 4, inode: 99 };
    let brought = |interfaces: &[&str], is_agents| {
        Some(Ok(Brought {
            id,
            process: None,
            is_agents,
            interfaces: interfaces.iter().map(|&i| i.to_owned()).collect(),
        }))
    };
    let spec = |name| ContainerSpec {
        sandbox: Sandbox::Path("/run/netns/x".into()),
        ..container(name, &[])
    };
    world.facts.brought = Some(Err("cannot open /run/netns/x: no such file".into()));
    assert_eq!(world.refused(&Change::CreateContainer(Box::new(spec("c1")))).0, 400);
    world.facts.brought = brought(&["lo"], true);
    assert_eq!(world.refused(&Change::CreateContainer(Box::new(spec("c1")))).0, 400);
    world.facts.brought = brought(&["lo", "eth0"], false);
    world.ok(&Change::CreateContainer(Box::new(spec("c1"))));
    let (status, message) = world.refused(&Change::Start("c1".into()));
    assert_eq!(
        (status, message.as_str()),
        (409, "the brought namespace already has an interface eth0")
    );
    world.facts.brought = brought(&["lo"], false);
    world.ok(&Change::Start("c1".into()));
    let c1 = world.container("c1").id;
    world.ok(&Change::BroughtUp { container: c1, namespace: id });
    let (status, message) = world.refused(&Change::CreateContainer(Box::new(spec("c2"))));
    assert_eq!(
        (status, message.as_str()),
        (409, "the brought namespace belongs to container c1 already")
    );
}

#[test]
fn a_start_that_failed_leaves_nothing_but_ended_generations() {
    let mut world = World::with_default();
    world.ok(&Change::CreateContainer(Box::new(publishing("c1", &["127.0.0.1:8080:80"]))));
    let before = world.desired.clone();
    world.ok(&Change::Start("c1".into()));
    let index = world.container("c1").endpoints().next().unwrap().1.index;
    let reverted = revert(&before, &world.desired);
    assert_eq!(reverted.containers, before.containers);
    assert!(!reverted.indices.endpoints.in_use(index));
    assert_eq!(reverted.indices.generations.of(index), 6);
    assert!(reverted.indices.tables.is_empty());
}

#[test]
fn what_was_about_to_start_when_the_agent_ended_is_taken_down() {
    let mut world = World::with_default();
    world.run(container("c1", &[]));
    let c2 = world.run(container("c2", &[])).id;
    world.ok(&Change::BroughtUp { container: c2, namespace: NamespaceId { device: 4, inode: 1 } });
    world.ok(&Change::Recover);
    assert_eq!(
        (world.container("c1").status(), world.container("c2").status()),
        ("exited", "running")
    );
    world.ok(&Change::Rebooted);
    assert_eq!(world.container("c2").status(), "exited");
}
