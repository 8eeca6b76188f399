//! Subnets and addresses: what is wished for, what is chosen, what is kept, and what is told about it.

use super::*;
use crate::model::Family;

fn spec(name: &str, wishes: SubnetSpec) -> NetworkSpec {
    NetworkSpec { name: name.into(), subnets: vec![wishes], ..NetworkSpec::default() }
}

fn wishes(subnet: &str, ip_range: &str, gateway: &str, auxiliary: &[(&str, &str)]) -> SubnetSpec {
    let auxiliary = auxiliary.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let (subnet, ip_range, gateway) = (subnet.into(), ip_range.into(), gateway.into());
    SubnetSpec { subnet, ip_range, gateway, auxiliary }
}

impl World {
    fn subnet(&self, name: &str, family: Family) -> String {
        self.made(name).pool(family).expect("has the family").subnet.to_string()
    }

    /// Creates a network and returns what the operator should know.
    fn warned(&mut self, spec: NetworkSpec) -> Vec<String> {
        match self.ok(&Change::CreateNetwork(spec)) {
            Outcome::Network(_, warnings) => warnings,
            other => panic!("{other:?}"),
        }
    }

    fn refuses_network(&mut self, spec: NetworkSpec, expected: &[&str]) {
        let (status, message) = self.refused(&Change::CreateNetwork(spec));
        assert_eq!(status, 400, "{message}");
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines, [&["invalid network config:"], expected].concat());
    }
}

#[test]
fn moby_ipam_001_moby_ipam_003_families_and_places_must_match_and_p19_all_is_told() {
    let mut world = World::new();
    let aux = [("DefaultGatewayIPv4", "2001:db8::1")];
    world.refuses_network(
        spec("n", wishes("10.0.0.0/8", "2001:db8::/32", "2001:db8::1", &aux)),
        &[
            "invalid ip-range 2001:db8::/32: parent subnet is an IPv4 block",
            "invalid gateway 2001:db8::1: parent subnet is an IPv4 block",
            "invalid auxiliary address DefaultGatewayIPv4: parent subnet is an IPv4 block",
        ],
    );
    let aux = [("r", "192.168.0.1"), ("s", "x")];
    let mut both = spec("n", wishes("10.0.0.0/8", "", "192.168.0.1", &aux));
    both.subnets.push(wishes("2001:db8::1/64", "", "", &[]));
    world.refuses_network(
        both,
        &[
            "invalid gateway 192.168.0.1: parent subnet 10.0.0.0/8 doesn't contain this address",
            "invalid auxiliary address r: parent subnet 10.0.0.0/8 doesn't contain this address",
            "invalid auxiliary address s: \"x\" is an invalid address",
            "invalid subnet 2001:db8::1/64: it should be 2001:db8::/64",
        ],
    );
}

#[test]
fn moby_ipam_004_and_022_host_bits_and_nonsense() {
    let mut world = World::new();
    world.refuses_network(
        spec("n", wishes("10.10.10.0/8", "", "", &[])),
        &["invalid subnet 10.10.10.0/8: it should be 10.0.0.0/8"],
    );
    for (range, why) in [
        ("10.10.10.0/16", "it should be 10.10.0.0/16"),
        ("0.0.0.0/4", "CIDR block is bigger than its parent subnet 10.0.0.0/8"),
        ("11.0.0.0/16", "parent subnet 10.0.0.0/8 doesn't contain ip-range"),
        ("nonsense", "invalid CIDR block notation"),
    ] {
        let expected = format!("invalid ip-range {range}: {why}");
        world.refuses_network(spec("n", wishes("10.0.0.0/8", range, "", &[])), &[&expected]);
    }
    for (wishes, why) in [
        (wishes("", "10.0.0.0/9", "", &[]), "every ip-range or gateway must have"),
        (wishes("0.0.0.0/24", "", "10.0.0.1", &[]), "every ip-range or gateway must have"),
        (wishes("127.0.0.0/8", "", "", &[]), "such addresses cannot be a host's"),
        (wishes("10.0.0.0/32", "", "", &[]), "the prefix length must be from 1 to 31"),
        (wishes("2001:db8::/128", "", "", &[]), "the prefix length must be from 1 to 127"),
        (wishes("x/24", "", "", &[]), "invalid subnet x/24: invalid CIDR block notation"),
    ] {
        let (_, message) = world.refused(&Change::CreateNetwork(spec("n", wishes)));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn moby_ipam_011_overlaps_are_refused_until_the_other_network_is_gone() {
    let mut world = World::new();
    world.network("n1", "192.178.0.0/16");
    world.network("n6", "2001:db8:1::/48");
    for subnet in [
        "192.178.0.0/16",
        "192.178.128.0/17",
        "192.176.0.0/13",
        "2001:db8::/32",
        "2001:db8:1:2::/64",
    ] {
        let (status, message) = world.refused(&Change::CreateNetwork(network("n2", subnet)));
        assert_eq!(status, 403);
        assert_eq!(
            message,
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    }
    world.network("n3", "192.179.0.0/16");
    world.ok(&Change::RemoveNetwork("n1".into()));
    world.network("n2", "192.178.128.0/17");
}

#[test]
fn p31_a_network_may_ask_for_a_size() {
    let mut world = World::with_default();
    let mut both = network("n", "0.0.0.0/28");
    both.subnets.push(wishes("::/80", "", "", &[]));
    world.warned(both);
    assert_eq!(world.subnet("n", Family::V4), "172.18.0.0/28");
    let six = world.subnet("n", Family::V6);
    assert!(six.starts_with("fd") && six.ends_with("/80"), "{six}");
    world.network("m", "0.0.0.0/28");
    assert_eq!(world.subnet("m", Family::V4), "172.18.0.16/28");
    let (status, message) = world.refused(&Change::CreateNetwork(network("l", "0.0.0.0/7")));
    assert_eq!(status, 400);
    assert!(message.starts_with("all predefined address pools have been fully subnetted"));
    assert!(message.contains("[[ipam.pools]]"), "N24: {message}");
}

#[test]
fn moby_ipam_021_moby_lc_024_the_operators_pools_serve_the_default_network_first() {
    let mut world = World::new();
    world.facts.pools.pools = ["base=175.30.0.0/16,size=16", "base=175.33.0.0/16,size=24"]
        .map(|pool| pool.parse().unwrap())
        .into();
    world.ok(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
    for name in ["a", "b"] {
        world.warned(NetworkSpec { name: name.into(), ..NetworkSpec::default() });
    }
    let subnets = ["bridge", "a", "b"].map(|name| world.subnet(name, Family::V4));
    assert_eq!(subnets, ["175.30.0.0/16", "175.33.0.0/24", "175.33.1.0/24"]);
    // MOBY-LC-024: other pools leave what stands.
    world.facts.pools.pools = vec!["base=10.0.0.0/8,size=24".parse().unwrap()];
    world.ok(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
    assert_eq!(world.subnet("bridge", Family::V4), "175.30.0.0/16");
    // S57: an address that is given wins.
    let mut world = World::new();
    world.facts.pools.pools = vec!["base=175.30.0.0/16,size=16".parse().unwrap()];
    let bip = DefaultNetwork::at(DefaultPlace::Fixed("172.60.0.1/16".parse().unwrap()));
    world.ok(&Change::DefaultNetwork(bip));
    assert_eq!(world.subnet("bridge", Family::V4), "172.60.0.0/16");
}

#[test]
fn n25_p38_choices_keep_away_from_routes_resolvers_and_what_is_excluded() {
    let mut world = World::new();
    let net = |text: &str| text.parse().unwrap();
    world.facts.routes = vec![net("172.18.0.0/24")];
    world.facts.resolvers = vec!["172.18.1.53".parse().unwrap()];
    world.facts.pools.exclude = vec![net("172.18.2.0/24")];
    world.facts.interfaces.insert("tun0".into(), vec![net("172.18.3.9/32")]);
    world.warned(NetworkSpec { name: "a".into(), ..NetworkSpec::default() });
    assert_eq!(world.subnet("a", Family::V4), "172.18.4.0/24");
}

#[test]
fn s44_the_operator_is_told_what_may_collide() {
    let net = |text: &str| text.parse().unwrap();
    let automatic = |name: &str| NetworkSpec { name: name.into(), ..NetworkSpec::default() };
    let mut world = World::new();
    assert_eq!(world.warned(automatic("a")), Vec::<String>::new());
    world.facts.site = vec![net("172.20.5.7/24")];
    let warnings = world.warned(automatic("b"));
    assert!(warnings[0].contains("172.20.5.7/24 of the same private block 172.16.0.0/12"));
    assert!(warnings[0].contains("--subnet") && warnings[0].contains("[[ipam.pools]]"));
    // Whoever names a subnet, or pools, has thought of it.
    assert_eq!(world.warned(network("c", "172.21.0.0/16")), Vec::<String>::new());
    world.facts.routes.push(net("10.9.0.0/16"));
    world.facts.resolvers = vec!["10.8.0.53".parse().unwrap()];
    let warnings = world.warned(network("d", "10.8.0.0/15"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("route to 10.9.0.0/16"), "{warnings:?}");
    assert!(warnings[1].contains("10.8.0.53"), "{warnings:?}");
    world.facts.pools.pools = vec!["base=172.28.0.0/16,size=24".parse().unwrap()];
    assert_eq!(world.warned(automatic("e")), Vec::<String>::new());
}

#[test]
fn s49_s50_moby_ipam_027_moby_ipam_030_auxiliary_addresses_are_nobodys() {
    let mut world = World::new();
    let aux = [("router", "10.42.0.5"), ("switch", "10.42.128.3")];
    world.warned(spec("n", wishes("10.42.0.0/16", "10.42.128.0/24", "10.42.0.1", &aux)));
    world.run(container("c1", &["n"]));
    world.run(container("c2", &["n"]));
    world.run(container("c3", &["n"]));
    let ips = ["c1", "c2", "c3"].map(|name| world.ip(name).to_string());
    assert_eq!(ips, ["10.42.128.0", "10.42.128.1", "10.42.128.2"], "S49");
    world.run(container("c4", &["n"]));
    assert_eq!(world.ip("c4").to_string(), "10.42.128.4");
    world.ok(&Change::CreateContainer(Box::new(container("c5", &["n"]))));
    world.network("m", "10.43.0.0/24");
    world.ok(&Change::CreateContainer(Box::new(container("c6", &["m"]))));
    let (status, message) = world.refused(&connect("n", "c6", Some([10, 42, 0, 5])));
    assert_eq!((status, message.as_str()), (403, "Address already in use"));
    // MOBY-IPAM-027: beside the range, inside the subnet.
    world.ok(&connect("n", "c6", Some([10, 42, 1, 3])));
    let (status, message) = world.refused(&Change::CreateNetwork(spec(
        "x",
        wishes("10.50.0.0/24", "", "", &[("g", "10.50.0.1")]),
    )));
    assert_eq!((status, message.as_str()), (403, "Address already in use"));
}

#[test]
fn p33_moby_ipam_013_moby_ipam_028_small_subnets_give_all_that_they_have() {
    let mut world = World::new();
    // A point to point network: gateway and one container.
    world.network("two", "192.168.0.2/31");
    world.run(container("c1", &["two"]));
    assert_eq!(world.ip("c1").to_string(), "192.168.0.3");
    world.ok(&Change::CreateContainer(Box::new(container("c2", &["two"]))));
    let (status, message) = world.refused(&Change::Start("c2".into()));
    assert_eq!(status, 503);
    assert!(message.starts_with("no available IPv4 addresses on this network's address pools"));
    let mut six = network("six", "2001:db8::2/127");
    six.without_ipv4 = true;
    world.warned(six);
    world.run(container("c3", &["six"]));
    let place = world.container("c3").endpoints().next().unwrap().1.ip6.unwrap();
    assert_eq!(place.to_string(), "2001:db8::3");
    // MOBY-ICC-033: nobody but the two.
    let mut internal = network("p2p", "192.168.135.0/31");
    internal.internal = true;
    internal.options =
        [(crate::model::keys::GATEWAY_MODE4.to_owned(), "isolated".to_owned())].into();
    world.warned(internal);
    world.run(container("c4", &["p2p"]));
    world.run(container("c5", &["p2p"]));
    let ips = ["c4", "c5"].map(|name| world.ip(name).to_string());
    assert_eq!(ips, ["192.168.135.0", "192.168.135.1"]);
    // S57, MOBY-IPAM-028: the gateway is nobody else's.
    world.network("four", "192.169.1.0/30");
    world.run(container("c6", &["four"]));
    assert_eq!(world.ip("c6").to_string(), "192.169.1.2");
    world.ok(&Change::CreateContainer(Box::new(container("c7", &["four"]))));
    assert_eq!(world.refused(&Change::Start("c7".into())).0, 503);
}

#[test]
fn moby_ipam_019_ranges_at_the_end_of_64_bits() {
    let mut world = World::new();
    for (name, subnet, range) in [
        ("all", "fda9:8d04:86e::/64", "fda9:8d04:86e::/64"),
        ("end", "fda9:8d04:86f::/64", "fda9:8d04:86f:0:ffff:ffff:ffff:fffe/127"),
    ] {
        let mut wish = spec(name, wishes(subnet, range, "", &[]));
        wish.subnets[0].gateway = format!("{}1", subnet.trim_end_matches("/64"));
        wish.without_ipv4 = true;
        world.warned(wish);
        for n in [1, 2] {
            let name = format!("{name}{n}");
            let range: ipnetwork::Ipv6Network = range.parse().unwrap();
            let c = world.run(container(&name, &[name.trim_end_matches(char::is_numeric)]));
            let ip = c.endpoints().next().unwrap().1.ip6.unwrap();
            assert!(range.contains(ip), "{ip}");
        }
    }
}

#[test]
fn p35_n44_a_container_has_its_address_again_when_it_is_started_again() {
    let mut world = World::with_default();
    world.run(container("c1", &[]));
    world.run(container("c2", &[]));
    world.ok(&stop("c1"));
    world.run(container("c3", &[]));
    let of = |world: &World| ["c2", "c3"].map(|name| world.ip(name).to_string());
    assert_eq!(of(&world), ["172.17.0.3", "172.17.0.4"]);
    world.ok(&Change::Start("c1".into()));
    assert_eq!(world.ip("c1").to_string(), "172.17.0.2");
    // After a reboot, whatever the order.
    world.ok(&Change::Rebooted);
    for name in ["c3", "c1", "c2"] {
        world.ok(&Change::Start(name.into()));
    }
    assert_eq!(world.ip("c1").to_string(), "172.17.0.2");
    assert_eq!(of(&world), ["172.17.0.3", "172.17.0.4"]);
}

#[test]
fn n44_a_name_keeps_the_address_of_a_container_that_was_removed_for_a_while() {
    let mut world = World::with_default();
    world.network("n", "10.9.0.0/29");
    world.run(container("c1", &["n"]));
    world.run(container("c2", &["n"]));
    world.ok(&remove("c1", true));
    world.ok(&remove("c2", true));
    // Others get other addresses, and the name its own, on this network alone.
    world.run(container("c3", &["n"]));
    assert_eq!(world.ip("c3").to_string(), "10.9.0.4");
    world.run(container("c1", &[]));
    assert_eq!(world.ip("c1").to_string(), "172.17.0.2");
    world.ok(&remove("c1", true));
    world.run(container("c1", &["n"]));
    assert_eq!(world.ip("c1").to_string(), "10.9.0.2");
    // Unless there is no other one left.
    for (name, ip) in [("c4", 5), ("c5", 6), ("c6", 3)] {
        world.run(container(name, &["n"]));
        assert_eq!(world.ip(name).octets()[3], ip);
    }
    world.ok(&Change::CreateContainer(Box::new(container("c2", &["n"]))));
    assert_eq!(world.refused(&Change::Start("c2".into())).0, 503);
    // What nobody came back for is forgotten, and so is who had no name.
    for name in ["c1", "c3"] {
        world.ok(&remove(name, true));
    }
    let unnamed = ContainerSpec { name: None, ..container("x", &["n"]) };
    let Outcome::Container(id, _) = world.ok(&Change::CreateContainer(Box::new(unnamed))) else {
        panic!("a container");
    };
    world.ok(&Change::Start(id.to_string()));
    world.ok(&remove(&id.to_string(), true));
    let names = |world: &World| -> Vec<_> {
        world.desired.indices.former.iter().map(|f| f.name.to_string()).collect()
    };
    assert_eq!(names(&world), ["c2", "c1", "c1", "c3"]);
    world.facts.now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(11);
    world.ok(&Change::Start("c2".into()));
    assert_eq!(names(&world), [""; 0]);
}

#[test]
fn p34_n43_moby_ipam_015_cni_ipam_004_what_resting_containers_had_comes_last_and_what_they_asked_for_never()
 {
    let mut world = World::new();
    world.network("n", "10.9.0.0/29");
    world.run(container("c1", &["n"]));
    world.ok(&stop("c1"));
    let asked = EndpointSpec { ip: Some([10, 9, 0, 3].into()), ..EndpointSpec::default() };
    let asked = ContainerSpec { networks: vec![("n".into(), asked)], ..container("s", &[]) };
    world.ok(&Change::CreateContainer(Box::new(asked)));
    for (name, ip) in [("c2", "10.9.0.4"), ("c3", "10.9.0.5"), ("c4", "10.9.0.6")] {
        world.run(container(name, &["n"]));
        assert_eq!(world.ip(name).to_string(), ip);
    }
    // Nothing else is left: the address of one that rests, not the one that was asked for.
    world.run(container("c5", &["n"]));
    assert_eq!(world.ip("c5").to_string(), "10.9.0.2");
    world.ok(&Change::CreateContainer(Box::new(container("c6", &["n"]))));
    assert_eq!(world.refused(&Change::Start("c6".into())).0, 503);
    world.ok(&Change::Start("s".into()));
    assert_eq!(world.ip("s").to_string(), "10.9.0.3");
    // CNI-IPAM-004, MOBY-IPAM-015: round and round, not the one just given back.
    world.ok(&remove("c3", true));
    world.ok(&remove("c2", true));
    world.ok(&Change::Start("c6".into()));
    assert_eq!(world.ip("c6").to_string(), "10.9.0.4");
    world.ok(&Change::Start("c1".into()));
    assert_eq!(world.ip("c1").to_string(), "10.9.0.5");
}
