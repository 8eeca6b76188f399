//! What Docker tells is put together, whatever is missing.

use std::net::Ipv4Addr;

use super::*;

const MEANT: Meant = Meant { masquerade: true, icc_off: false };

fn id(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn network(byte: u8, name: &str, options: &[(&str, &str)]) -> EngineNetwork {
    EngineNetwork {
        id: id(byte),
        name: name.into(),
        driver: "bridge".into(),
        options: options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        subnets: vec![EngineSubnet {
            subnet: format!("10.{byte}.0.0/24"),
            gateway: format!("10.{byte}.0.1"),
            ..EngineSubnet::default()
        }],
        ..EngineNetwork::default()
    }
}

fn mac(network: u8, last: u8) -> MacAddress {
    MacAddress::derived(Ipv4Addr::new(10, network, 0, last))
}

fn place(network: u8, container: u8, endpoint: u8) -> EnginePlace {
    EnginePlace {
        network: id(network),
        container: id(container),
        name: "web".into(),
        endpoint: id(endpoint),
        mac: mac(network, 2).to_string(),
        addresses: vec![[10, network, 0, 2].into()],
        ..EnginePlace::default()
    }
}

fn port(network: u8, index: u32, of: MacAddress) -> Port {
    Port {
        bridge: format!("br-{}", &id(network)[..12]),
        name: format!("veth{index:07x}"),
        index,
        mtu: 1400,
        mac: Some(of),
        interface: "eth0".into(),
    }
}

#[test]
fn a_port_is_whose_address_its_other_end_has() {
    let networks = [network(1, "blue", &[])];
    let container = EngineContainer {
        id: id(7),
        name: "web".into(),
        places: vec![place(1, 7, 9)],
        ..Default::default()
    };
    let ports = [port(1, 70, mac(1, 2)), port(1, 71, mac(1, 3))];
    let seen = assemble(&networks, &[container], &ports, MEANT);
    assert_eq!(seen.docker.containers.len(), 1);
    let endpoint = &seen.docker.containers[0].endpoints[0];
    assert_eq!((endpoint.veth.1, endpoint.ip), (70, Some(Ipv4Addr::new(10, 1, 0, 2))));
    assert_eq!(seen.unknown, [ports[1].clone()], "nobody has told of it: it stays shut");
    assert_eq!(seen.docker.networks[0].mtu, 1400);
}

#[test]
fn a_container_that_is_being_started_is_told_of_by_its_network_alone() {
    let mut networks = [network(1, "blue", &[])];
    networks[0].places = vec![place(1, 7, 9)];
    let seen = assemble(&networks, &[], &[port(1, 70, mac(1, 2))], MEANT);
    assert_eq!(seen.docker.containers[0].name.as_str(), "web");
    assert!(seen.unknown.is_empty());
}

#[test]
fn the_network_that_gives_the_default_route_comes_first() {
    let networks = [network(1, "zebra", &[]), network(2, "ant", &[])];
    let mut places = vec![place(1, 7, 8), place(2, 7, 9)];
    let ports = [port(1, 70, mac(1, 2)), port(2, 71, mac(2, 2))];
    let first = |places: &[EnginePlace]| {
        let container = EngineContainer {
            id: id(7),
            name: "web".into(),
            places: places.to_vec(),
            ..Default::default()
        };
        assemble(&networks, &[container], &ports, MEANT).docker.containers[0].endpoints[0]
            .network
            .to_string()
    };
    assert_eq!(first(&places), id(2), "by name");
    places[0].priority = 5;
    assert_eq!(first(&places), id(1), "by priority");
}

#[test]
fn two_with_one_address_are_let_in_neither() {
    let networks = [network(1, "blue", &[])];
    let container =
        EngineContainer { id: id(7), places: vec![place(1, 7, 9)], ..Default::default() };
    let ports = [port(1, 70, mac(1, 2)), port(1, 71, mac(1, 2))];
    let seen = assemble(&networks, &[container], &ports, MEANT);
    assert!(seen.docker.containers.is_empty());
    assert_eq!(seen.unknown.len(), 2);
}

#[test]
fn moby_pm_029_ports_that_follow_each_other_are_one_range() {
    let port = |host: u16, container: u16, udp| EnginePort {
        udp,
        host_ip: [0, 0, 0, 0].into(),
        host,
        container,
    };
    let joined = ranges(&[port(8002, 82, false), port(8000, 80, false), port(8001, 81, false)]);
    assert_eq!((joined.len(), joined[0].host.to_string()), (1, "8000-8002".into()));
    // Many to one, gaps and protocols are no ranges.
    assert_eq!(ranges(&[port(8000, 80, false), port(8001, 80, false)]).len(), 2);
    assert_eq!(ranges(&[port(8000, 80, false), port(8002, 82, false)]).len(), 2);
    assert_eq!(ranges(&[port(8000, 80, false), port(8001, 81, true)]).len(), 2);
}

#[test]
fn n18_the_default_network_means_what_it_meant_before_rules_were_switched_off() {
    let options =
        [(keys::DEFAULT_BRIDGE, "true"), (keys::MASQUERADE, "false"), (keys::BRIDGE, "docker0")];
    let networks =
        [network(1, "bridge", &options), network(2, "user", &[(keys::MASQUERADE, "false")])];
    let seen = assemble(&networks, &[], &[], MEANT).docker.networks;
    assert!(seen[0].options.masquerade && seen[0].predefined && seen[0].bridge == "docker0");
    assert!(!seen[1].options.masquerade, "a user's network means what it says");
    let meant = Meant { masquerade: false, icc_off: true };
    let seen = assemble(&networks, &[], &[], meant).docker.networks;
    assert!(!seen[0].options.masquerade && !seen[0].options.icc && seen[1].options.icc);
}

#[test]
fn other_drivers_are_not_served() {
    let mut networks = [network(1, "host", &[]), network(2, "lan", &[])];
    networks[0].driver = "host".into();
    networks[1].driver = "macvlan".into();
    assert!(assemble(&networks, &[], &[], MEANT).docker.networks.is_empty());
}

#[test]
fn a_link_is_told_of_by_whom_it_leads_to() {
    let networks = [network(1, "bridge", &[])];
    let of = |byte: u8, name: &str| EngineContainer {
        id: id(byte),
        name: name.into(),
        places: vec![EnginePlace { mac: mac(1, byte).to_string(), ..place(1, byte, byte + 100) }],
        ..Default::default()
    };
    let server = EngineContainer {
        exposed: vec![(false, 81), (false, 80), (true, 80), (false, 443)],
        linked: vec![("app".into(), "sql".into()), ("gone".into(), "sql".into())],
        ..of(2, "db")
    };
    let ports = [port(1, 70, mac(1, 2)), port(1, 71, mac(1, 3))];
    let seen = assemble(&networks, &[server, of(3, "app")], &ports, MEANT);
    let found = |name: &str| seen.docker.containers.iter().find(|c| c.name.as_str() == name);
    let app = found("app").unwrap();
    assert_eq!(app.links.len(), 1);
    assert_eq!((app.links[0].container.as_str(), app.links[0].alias.as_str()), ("db", "sql"));
    let shown: Vec<_> = found("db").unwrap().expose.iter().map(|e| e.ports.to_string()).collect();
    assert_eq!(shown, ["80", "80-81", "443"]);
}
