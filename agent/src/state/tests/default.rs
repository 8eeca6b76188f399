//! The default network and what the operator sets of it.

use super::*;
use crate::model::Network;

impl World {
    fn default(&self) -> &Network {
        self.desired.default_network().expect("a default network")
    }
}

fn at(place: DefaultPlace) -> DefaultNetwork {
    DefaultNetwork::at(place)
}

fn fixed(text: &str) -> DefaultNetwork {
    at(DefaultPlace::Fixed(text.parse().unwrap()))
}

#[test]
fn s60_addresses_change_only_while_nobody_has_one() {
    let mut world = World::with_default();
    world.run(container("c1", &["bridge"]));
    let other = Change::DefaultNetwork(fixed("10.9.0.1/24"));
    let (code, text) = world.refused(&other);
    assert_eq!(code, 403);
    assert!(
        text.contains("10.9.0.1/24 instead of 172.17.0.0/16") && text.contains("\"c1\""),
        "{text}"
    );
    world.ok(&stop("c1"));
    world.ok(&other);
    let pool = world.default().ipv4.clone().unwrap();
    assert_eq!(
        (pool.subnet.to_string(), pool.gateway),
        ("10.9.0.0/24".into(), Some([10, 9, 0, 1].into()))
    );
    assert_eq!(world.ok(&other), Outcome::Nothing);
    world.ok(&Change::DefaultNetwork(fixed("10.9.0.7/24")));
    assert_eq!(world.default().ipv4.as_ref().unwrap().gateway, Some([10, 9, 0, 7].into()));
}

#[test]
fn s58_a_range_is_inside_the_subnet_or_is_the_subnet() {
    let mut world = World::with_default();
    let ranged = |text: &str| DefaultNetwork {
        range: Some(text.parse().unwrap()),
        ..at(DefaultPlace::Automatic)
    };
    world.ok(&Change::DefaultNetwork(ranged("172.17.4.0/24")));
    world.run(container("c1", &["bridge"]));
    assert_eq!(
        world.ip("c1").octets(),
        [172, 17, 4, 0],
        "the first of the range, of which the subnet goes on"
    );
    world.ok(&stop("c1"));
    world.ok(&Change::DefaultNetwork(ranged("10.9.0.0/24")));
    let pool = world.default().ipv4.clone().unwrap();
    assert_eq!((pool.subnet.to_string(), pool.ip_range), ("10.9.0.0/24".into(), None));
}

#[test]
fn s189_what_containers_follow_is_set_while_they_run() {
    let mut world = World::with_default();
    world.run(container("c1", &["bridge"]));
    let wanted = DefaultNetwork {
        icc: false,
        host_binding: Some([198, 51, 100, 1].into()),
        mtu: Some(1400),
        ..at(DefaultPlace::Automatic)
    };
    world.ok(&Change::DefaultNetwork(wanted.clone()));
    let network = world.default();
    assert_eq!((network.options.icc, network.mtu), (false, 1400));
    assert_eq!(network.options.host_binding, Some([198, 51, 100, 1].into()));
    let shown = network.options.verbatim.get("com.docker.network.driver.mtu");
    assert_eq!(shown.map(String::as_str), Some("1400"));
    assert_eq!(world.ok(&Change::DefaultNetwork(wanted)), Outcome::Nothing);
    world.ok(&Change::DefaultNetwork(at(DefaultPlace::Automatic)));
    assert_eq!((world.default().options.icc, world.default().mtu), (true, 1400), "it stands");
}
