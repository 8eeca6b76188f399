//! Networks past the ports of a bridge.

use super::*;
use crate::model::{ContainerId, keys};

/// Creates a network and tells whether it has a bridge, and what its options show.
fn made(world: &mut World, spec: &NetworkSpec) -> (bool, Option<String>) {
    world.ok(&Change::CreateNetwork(spec.clone()));
    let network = world.desired.networks.values().find(|n| n.name.as_str() == spec.name).unwrap();
    (!network.without_bridge(), network.options.verbatim.get(keys::L2).cloned())
}

fn of(name: &str, subnet: &str, ip_range: &str, options: &[(&str, &str)]) -> NetworkSpec {
    let mut spec = network(name, subnet);
    spec.subnets[0].ip_range = ip_range.into();
    spec.options = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    spec
}

#[test]
fn decisions_8_16_networks_larger_than_a_bridge_have_none() {
    let mut world = World::with_default();
    let default = world.desired.default_network().unwrap();
    assert!(!default.without_bridge(), "nobody chose the size of the default network");
    let large = (false, Some("bpf".to_owned()));
    assert_eq!(made(&mut world, &of("n1", "10.1.0.0/16", "", &[])), large);
    assert_eq!(made(&mut world, &of("n2", "10.2.0.0/21", "", &[])), large);
    assert_eq!(made(&mut world, &of("n3", "10.3.0.0/22", "", &[])), (true, None));
    assert_eq!(made(&mut world, &of("n4", "10.4.0.0/24", "", &[])), (true, None));
    // Containers get addresses of the range alone.
    assert_eq!(made(&mut world, &of("n5", "10.5.0.0/16", "10.5.8.0/24", &[])), (true, None));
    // What is asked for counts, and an automatic subnet is a /24.
    let bridge = [(keys::L2, "bridge")];
    let kept = (true, Some("bridge".to_owned()));
    assert_eq!(made(&mut world, &of("n6", "10.6.0.0/16", "", &bridge)), kept);
    assert_eq!(made(&mut world, &of("n7", "10.7.0.0/24", "", &[(keys::L2, "bpf")])), large);
    let spec = NetworkSpec { name: "n8".into(), ..NetworkSpec::default() };
    assert_eq!(made(&mut world, &spec), (true, None));
}

#[test]
fn decisions_8_16_a_brought_bridge_stays_one() {
    let mut world = World::with_default();
    let address: ipnetwork::IpNetwork = "10.9.0.1/16".parse().unwrap();
    world.facts.interfaces.insert("br9".into(), vec![address]);
    world.facts.bridges.insert("br9".into(), 1500);
    let options = [(keys::BRIDGE, "br9"), (keys::L2, "bpf")];
    let mut spec = NetworkSpec { name: "n9".into(), ..NetworkSpec::default() };
    spec.options = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let (status, message) = world.refused(&Change::CreateNetwork(spec.clone()));
    assert_eq!(status, 400);
    assert!(message.starts_with("bridge br9 is brought, and bascule.l2=bpf makes"), "{message}");
    spec.options.remove(keys::L2);
    assert_eq!(made(&mut world, &spec), (true, None));
}

#[test]
fn n13_the_1024th_container_of_a_bridge_is_told_what_to_do() {
    let mut world = World::with_default();
    let spec = of("big", "10.1.0.0/16", "", &[(keys::L2, "bridge")]);
    world.ok(&Change::CreateNetwork(spec));
    let one = world.run(container("c", &["big"]));
    for index in 1..1022_u32 {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&index.to_be_bytes());
        let id = ContainerId::new(id);
        let name = format!("c{index}").parse().unwrap();
        world.desired.containers.insert(id, Container { id, name, ..one.clone() });
    }
    world.run(container("last", &["big"]));
    world.ok(&Change::CreateContainer(Box::new(container("late", &["big"]))));
    let (status, message) = world.refused(&Change::Start("late".into()));
    assert_eq!(status, 503);
    assert_eq!(
        message,
        "network big has a Linux bridge, whose 1023 ports are taken: more containers need a network that was \
         created with -o bascule.l2=bpf"
    );
    world.ok(&Change::Stop { container: "last".into(), exit_code: None });
    world.ok(&Change::Start("late".into()));
}
