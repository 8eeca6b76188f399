//! IPv6, and how families are joined to the outside.

use std::net::{IpAddr, Ipv6Addr};

use super::*;
use crate::model::{Family, Proto};

impl World {
    fn subnet6(&self, name: &str) -> String {
        self.made(name).ipv6.as_ref().expect("has IPv6").subnet.to_string()
    }

    /// Makes a network with these options.
    fn dual(&mut self, name: &str, subnets: &[&str], options: &[(&str, &str)]) {
        self.ok(&Change::CreateNetwork(dual(name, subnets, options)));
    }

    pub(super) fn bindings(&self, name: &str) -> Vec<String> {
        let running = self.container(name).running().expect("runs");
        let text = |rule: &crate::model::PublishedRule| {
            let port = if rule.routed { String::new() } else { rule.host.to_string() };
            format!("{}|{port}", rule.host_ip)
        };
        let mut bindings: Vec<_> = running.rules.iter().map(text).collect();
        bindings.sort();
        bindings
    }
}

fn dual(name: &str, subnets: &[&str], options: &[(&str, &str)]) -> NetworkSpec {
    let subnets =
        subnets.iter().map(|s| SubnetSpec { subnet: (*s).into(), ..SubnetSpec::default() });
    NetworkSpec {
        name: name.into(),
        subnets: subnets.collect(),
        ipv6: Some(true),
        options: options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..NetworkSpec::default()
    }
}

pub(super) fn on(network: &str, name: &str, specs: &[&str]) -> ContainerSpec {
    ContainerSpec { publish: publishing(name, specs).publish, ..container(name, &[network]) }
}

pub(super) fn mode(family: u8) -> String {
    format!("com.docker.network.bridge.gateway_mode_ipv{family}")
}

#[test]
fn p32_networks_of_ipv6_share_a_prefix_that_was_drawn_by_lot() {
    let mut world = World::with_default();
    world.dual("a", &[], &[]);
    world.dual("b", &[], &[]);
    let (a, b) = (world.subnet6("a"), world.subnet6("b"));
    assert!(a.starts_with("fd") && a.ends_with("::/64"), "{a}");
    assert_ne!(a, b);
    assert_eq!(b, a.replace("::/64", ":1::/64"), "one prefix, another subnet");
    let gateway = world.made("a").gateway(Family::V6).unwrap();
    assert_eq!(gateway.to_string(), a.replace("/64", "1"));
}

#[test]
fn s167_s169_s170_addresses_end_with_the_ethernet_address() {
    let mut world = World::new();
    world.dual("n1", &["172.17.0.0/16", "2001:db8:1::/64"], &[]);
    let c1 = world.run(container("c1", &["n1"]));
    let (_, endpoint) = c1.endpoints().next().unwrap();
    assert_eq!(endpoint.ip6, "2001:db8:1::242:ac11:2".parse().ok());
    assert_eq!(endpoint.mac.to_string(), "02:42:ac:11:00:02");
    // S170: a longer prefix has no room for it; addresses follow one another.
    world.dual("n2", &["10.2.0.0/24", "2001:db8:2::/112"], &[]);
    let c2 = world.run(container("c2", &["n2"]));
    assert_eq!(c2.endpoints().next().unwrap().1.ip6, "2001:db8:2::2".parse().ok());
}

#[test]
fn s181_moby_ipam_024_static_addresses_of_ipv6_persist() {
    let mut world = World::new();
    world.dual("n1", &["172.28.0.0/16", "2001:db8:1234::/64"], &[]);
    let ip6: Ipv6Addr = "2001:db8:1234::9988".parse().unwrap();
    let endpoint = EndpointSpec { ip6: Some(ip6), ..EndpointSpec::default() };
    let spec =
        ContainerSpec { networks: vec![("n1".into(), endpoint.clone())], ..container("c1", &[]) };
    let c1 = world.run(spec);
    assert_eq!(c1.endpoints().next().unwrap().1.ip6, Some(ip6));
    world.ok(&stop("c1"));
    world.ok(&Change::Start("c1".into()));
    assert_eq!(world.container("c1").endpoints().next().unwrap().1.ip6, Some(ip6));
    let mut refused = |ip6: &str| {
        let endpoint = EndpointSpec { ip6: ip6.parse().ok(), ..EndpointSpec::default() };
        let networks = vec![("n1".into(), endpoint)];
        let spec = ContainerSpec { networks, ..container("c2", &[]) };
        world.refused(&Change::CreateContainer(Box::new(spec))).1
    };
    for taken in ["2001:db8:1234::9988", "2001:db8:1234::1", "2001:db8:1234::"] {
        assert_eq!(refused(taken), "Address already in use", "{taken}");
    }
    assert_eq!(
        refused("2001:db8:4321::2"),
        "no configured subnet contains IP address 2001:db8:4321::2"
    );
    // S52: where there is no IPv6, no address of it can be had.
    world.network("n4", "10.4.0.0/24");
    let networks = vec![("n4".into(), endpoint)];
    let spec = ContainerSpec { networks, ..container("c3", &[]) };
    let (status, message) = world.refused(&Change::CreateContainer(Box::new(spec)));
    assert_eq!((status, message.starts_with("no configured subnet")), (400, true), "{message}");
}

#[test]
fn p8_moby_icc_009_networks_without_ipv4() {
    let mut world = World::new();
    let spec = NetworkSpec { without_ipv4: true, ..dual("n1", &["2001:db8:1::/64"], &[]) };
    world.ok(&Change::CreateNetwork(spec));
    let macs: Vec<_> = ["c1", "c2"]
        .map(|name| {
            let made = world.run(container(name, &["n1"]));
            let (_, endpoint) = made.endpoints().next().unwrap();
            assert_eq!(endpoint.ip, None);
            (endpoint.ip6.unwrap().to_string(), endpoint.mac)
        })
        .into();
    assert_eq!((macs[0].0.as_str(), macs[1].0.as_str()), ("2001:db8:1::2", "2001:db8:1::3"));
    assert_ne!(macs[0].1, macs[1].1);
    assert_ne!(macs[0].1, world.made("n1").gateway_mac());
    let c3 = world.run(on("n1", "c3", &["8080:80"]));
    assert_eq!(c3.running().unwrap().rules.len(), 1);
    assert_eq!(world.bindings("c3"), ["::|8080"]);
}

#[test]
fn moby_ipam_031_and_other_families_that_cannot_be() {
    let mut world = World::new();
    let mut refused = |spec: NetworkSpec| world.refused(&Change::CreateNetwork(spec)).1;
    let none = NetworkSpec { without_ipv4: true, ipv6: Some(false), ..dual("n", &[], &[]) };
    assert_eq!(refused(none), "IPv4 or IPv6 must be enabled");
    let twice = dual("n", &["2001:db8:1::/64", "2001:db8:2::/64"], &[]);
    assert_eq!(refused(twice), "bridge driver doesn't support multiple subnets");
    let off = NetworkSpec { ipv6: Some(false), ..dual("n", &["2001:db8:1::/64"], &[]) };
    assert!(refused(off).contains("IPv6, which is disabled"));
    for bad in ["2001:db8::1/64", "ff05::/64", "::ffff:10.0.0.0/112", "2001:db8::/128"] {
        let error = refused(dual("n", &[bad], &[]));
        assert!(error.starts_with("invalid network config:\ninvalid subnet"), "{bad}: {error}");
    }
    // S47, of either family.
    world.dual("n1", &["10.1.0.0/24", "2001:db8:1::/64"], &[]);
    let overlapping = Change::CreateNetwork(dual("n2", &["10.2.0.0/24", "2001:db8:1::/80"], &[]));
    assert!(world.refused(&overlapping).1.contains("Pool overlaps"));
    // A subnet says that there is IPv6 (netavark's CR-004).
    let spec = NetworkSpec { ipv6: None, ..dual("n3", &["2001:db8:3::/64"], &[]) };
    world.ok(&Change::CreateNetwork(spec));
    assert!(world.made("n3").ipv4.is_some() && world.made("n3").ipv6.is_some());
}

#[test]
fn s166_s169_the_default_network_has_fe80_1_for_a_gateway() {
    let mut world = World::with_default();
    assert!(world.made("bridge").ipv6.is_none(), "S165");
    let wanted = DefaultIpv6::Fixed("2001:db8:1::/64".parse().unwrap());
    world.ok(&Change::DefaultIpv6(wanted));
    assert_eq!(world.ok(&Change::DefaultIpv6(wanted)), Outcome::Nothing);
    let bridge = world.made("bridge");
    assert_eq!(bridge.gateway(Family::V6).unwrap().to_string(), "fe80::1");
    let held: Vec<_> = bridge.on_bridge().iter().map(ToString::to_string).collect();
    assert_eq!(held, ["172.17.0.1/16", "fe80::1/64", "2001:db8:1::1/64"]);
    let c1 = world.run(container("c1", &[]));
    let ip6 = c1.endpoints().next().unwrap().1.ip6;
    assert_eq!(ip6, "2001:db8:1::242:ac11:2".parse().ok());
    // Containers have addresses of it: it stays until they are gone.
    assert_eq!(world.ok(&Change::DefaultIpv6(DefaultIpv6::Off)), Outcome::Nothing);
    world.ok(&stop("c1"));
    world.ok(&Change::DefaultIpv6(DefaultIpv6::Automatic));
    assert_eq!(world.subnet6("bridge"), "2001:db8:1::/64");
    world.ok(&Change::DefaultIpv6(DefaultIpv6::Off));
    assert!(world.made("bridge").ipv6.is_none());
    world.ok(&Change::DefaultIpv6(DefaultIpv6::Automatic));
    assert!(world.subnet6("bridge").starts_with("fd"));
}

#[test]
fn s166_a_gateway_may_be_an_address_of_the_link() {
    let mut world = World::new();
    let mut spec = dual("n1", &["10.1.0.0/24", "2001:db8:1::/64"], &[]);
    spec.subnets[1].gateway = "fe80::1".into();
    world.ok(&Change::CreateNetwork(spec));
    assert_eq!(world.made("n1").gateway(Family::V6).unwrap().to_string(), "fe80::1");
    let mut spec = dual("n2", &["10.2.0.0/24", "2001:db8:2::/64"], &[]);
    spec.subnets[1].gateway = "2001:db8:1::1".into();
    let (_, message) = world.refused(&Change::CreateNetwork(spec));
    assert!(message.contains("doesn't contain this address"), "{message}");
}

#[test]
fn moby_pm_009_cni_pm_005_which_addresses_are_published_on() {
    let bindings = |binding: Option<&str>, spec: &str| {
        let mut world = World::new();
        let key = "com.docker.network.bridge.host_binding_ipv4";
        let options: Vec<_> = binding.iter().map(|value| (key, *value)).collect();
        world.dual("n1", &["10.1.0.0/24", "2001:db8:1::/64"], &options);
        world.run(on("n1", "c1", &[spec]));
        world.bindings("c1")
    };
    assert_eq!(bindings(None, "8080:80"), ["0.0.0.0|8080", "::|8080"]);
    assert_eq!(bindings(None, "0.0.0.0:8080:80"), ["0.0.0.0|8080"]);
    assert_eq!(bindings(None, "[::]:8080:80"), ["::|8080"]);
    assert_eq!(bindings(None, "[::1]:8080:80"), ["::1|8080"]);
    assert_eq!(bindings(None, "192.0.2.7:8080:80"), ["192.0.2.7|8080"]);
    // P43: a chosen port is the same in both families.
    assert_eq!(bindings(None, "80"), ["0.0.0.0|49153", "::|49153"]);
    for (binding, shown) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::", "::"),
        ("::1", "::1"),
    ] {
        assert_eq!(bindings(Some(binding), "8080:80"), [format!("{shown}|8080")]);
    }
    assert_eq!(bindings(Some("0.0.0.0"), "8080:80"), ["0.0.0.0|8080", "::|8080"]);
}

#[test]
fn moby_pm_008_an_ipv6_port_of_an_ipv4_container_is_left_out_with_a_warning() {
    let mut world = World::with_default();
    let spec = publishing("c1", &["[::1]:8080:80"]);
    world.ok(&Change::CreateContainer(Box::new(spec)));
    let Outcome::Container(_, warnings) = world.ok(&Change::Start("c1".into())) else {
        panic!("no container")
    };
    assert!(warnings[0].starts_with("[::1]:8080:80/tcp is not published"), "{warnings:?}");
    assert_eq!(world.bindings("c1"), [""; 0]);
    // S118: the wildcard is what there is.
    world.run(publishing("c2", &["8080:80"]));
    assert_eq!(world.bindings("c2"), ["0.0.0.0|8080"]);
}

#[test]
fn ports_clash_within_a_family_and_an_address() {
    let mut world = World::new();
    world.dual("n1", &["10.1.0.0/24", "2001:db8:1::/64"], &[]);
    world.facts.interfaces.get_mut("eth0").unwrap().push("2001:db8::7/64".parse().unwrap());
    world.run(on("n1", "c1", &["[::]:8080:80", "127.0.0.1:9090:90", "[2001:db8::7]:53:53/udp"]));
    world.run(on("n1", "c2", &["0.0.0.0:8080:80", "[::1]:9090:90", "[::1]:53:53/udp"]));
    let mut refused = |spec: &str| {
        world.ok(&Change::CreateContainer(Box::new(on("n1", "c3", &[spec]))));
        let (_, message) = world.refused(&Change::Start("c3".into()));
        world.ok(&remove("c3", false));
        message
    };
    let allocated = |at: &str| format!("Bind for {at} failed: port is already allocated");
    assert!(refused("[::1]:8080:80").ends_with(&allocated("::1:8080")));
    assert!(refused("[::]:9090:90").ends_with(&allocated(":::9090")));
    assert!(refused("53:53/udp").ends_with(&allocated(":::53")));
    let error = refused("[2001:db8::8]:80:80");
    assert!(error.ends_with("[2001:db8::8]:80/tcp: cannot assign requested address"), "{error}");
    world.facts.held.insert((Proto::Tcp, IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7070));
    let mut start = |spec: &str| {
        world.ok(&Change::CreateContainer(Box::new(on("n1", "c3", &[spec]))));
        let result = change::apply(&world.desired, &Change::Start("c3".into()), &mut world.facts);
        world.ok(&remove("c3", false));
        result.map(drop).map_err(|error| error.message)
    };
    let error = start("7070:70").unwrap_err();
    assert!(error.ends_with("host port [::]:7070/tcp: address already in use"), "{error}");
    assert_eq!(start("0.0.0.0:7070:70"), Ok(()));
    // Addresses that mappings name have tables of their own, past those of both families.
    let tables: Vec<_> = world.desired.indices.tables.values().copied().collect();
    assert!(tables.iter().all(|table| *table >= 4), "{tables:?}");
}

#[test]
fn moby_pm_010_moby_pm_012_a_routed_family_has_open_ports_and_no_mapping() {
    let modes = |v4: &str, v6: &str, specs: &[&str]| {
        let mut world = World::new();
        let (key4, key6) = (mode(4), mode(6));
        let options = [(key4.as_str(), v4), (key6.as_str(), v6)];
        world.dual("n1", &["10.1.0.0/24", "2001:db8:1::/64"], &options);
        world.ok(&Change::CreateContainer(Box::new(on("n1", "c1", specs))));
        let outcome = world.ok(&Change::Start("c1".into()));
        let Outcome::Container(_, warnings) = outcome else { panic!("{outcome:?}") };
        (world.bindings("c1"), warnings)
    };
    assert_eq!(modes("nat", "nat", &["8080:80"]).0, ["0.0.0.0|8080", "::|8080"]);
    let (bindings, warnings) = modes("nat", "routed", &["8080:80"]);
    assert_eq!(bindings, ["0.0.0.0|8080", "::|"]);
    assert!(warnings[0].ends_with("Host port ignored, because NAT is disabled"), "{warnings:?}");
    assert_eq!(modes("routed", "nat", &["8080:80"]).0, ["0.0.0.0|", "::|8080"]);
    let (bindings, warnings) = modes("routed", "routed", &["127.0.0.1::80"]);
    assert_eq!(bindings, ["0.0.0.0|"]);
    assert!(warnings[0].ends_with("Using address 0.0.0.0 because NAT is disabled"), "{warnings:?}");
    assert_eq!(modes("nat-unprotected", "nat", &["80"]).0, ["0.0.0.0|49153", "::|49153"]);
}

#[test]
fn p39_isolated_networks_are_internal_and_the_host_is_not_on_them() {
    let mut world = World::new();
    let (key4, key6) = (mode(4), mode(6));
    let options = [(key4.as_str(), "isolated"), (key6.as_str(), "isolated")];
    let spec = dual("n1", &["192.168.135.0/31", "2001:db8:1::/64"], &options);
    let (status, message) = world.refused(&Change::CreateNetwork(spec.clone()));
    let text = "gateway mode 'isolated' can only be used for an internal network";
    assert_eq!((status, message.as_str()), (400, text));
    world.ok(&Change::CreateNetwork(NetworkSpec { internal: true, ..spec }));
    let network = world.made("n1");
    assert_eq!((network.on_bridge(), network.gateway(Family::V4)), (Vec::new(), None));
    // MOBY-ICC-033: both addresses of a /31 are containers'.
    world.run(container("c1", &["n1"]));
    world.run(container("c2", &["n1"]));
    assert_eq!(world.ip("c1"), Ipv4Addr::new(192, 168, 135, 0));
    assert_eq!(world.ip("c2"), Ipv4Addr::new(192, 168, 135, 1));
}

#[test]
fn moby_pm_033_families_lead_out_by_networks_of_their_own() {
    let mut world = World::new();
    world.network("n4", "10.4.0.0/24");
    let spec = NetworkSpec { without_ipv4: true, ..dual("n6", &["2001:db8:6::/64"], &[]) };
    world.ok(&Change::CreateNetwork(spec));
    let spec = ContainerSpec {
        networks: container("c1", &["n4", "n6"]).networks,
        ..on("n4", "c1", &["8000:80"])
    };
    world.run(spec);
    assert_eq!(world.bindings("c1"), ["0.0.0.0|8000", "::|8000"]);
    let c1 = world.container("c1");
    let leads = |family| world.desired.gateway(c1, family).map(|(network, _)| network);
    assert_eq!(leads(Family::V4), Some(world.made("n4").id));
    assert_eq!(leads(Family::V6), Some(world.made("n6").id));
    world.ok(&disconnect("n6", "c1"));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|8000"]);
    // A family that comes with a network takes its ports along, chosen ones too.
    let before = world.desired.clone();
    world.ok(&connect("n6", "c1", None));
    // What cannot be carried out gives its numbers back, and no others.
    let index = world.container("c1").running().unwrap().rules[1].index;
    let reverted = revert(&before, &world.desired);
    assert!(!reverted.indices.rules.in_use(index));
    assert_eq!(reverted.containers, before.containers);
    let kept = &before.containers.values().next().unwrap().running().unwrap().rules;
    assert!(kept.iter().all(|rule| reverted.indices.rules.in_use(rule.index)));
    assert_eq!(world.bindings("c1"), ["0.0.0.0|8000", "::|8000"]);
    world.run(on("n4", "c2", &["80"]));
    world.ok(&connect("n6", "c2", None));
    assert_eq!(world.bindings("c2"), ["0.0.0.0|49153", "::|49153"]);
    world.run(on("n4", "c3", &["[::]:8000:80"]));
    let (_, message) = world.refused(&connect("n6", "c3", None));
    assert!(message.ends_with("port is already allocated"), "{message}");
}
