//! Gateway modes: how a family of a network is joined to the outside.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bascule_tests::{
    Agent, Container, Topology,
    agent::Settings,
    foreign::Foreign,
    topology::{HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, OUTSIDE, OUTSIDE6, UPLINK},
    traffic::{self, TcpServer},
};
use serde_json::json;

use crate::{Stage, at, at6};

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const NAT_UNPROTECTED: &str = "nat-unprotected";

fn stage(args: &[&str]) -> Stage {
    let net = Topology::dual();
    for subnet in ["10.73.0.0/24", "10.74.0.0/24"] {
        net.route_to_host(subnet);
    }
    for subnet in ["2001:db8:73::/64", "2001:db8:74::/64"] {
        net.route6_to_host(subnet);
    }
    Stage { agent: Agent::start_with(&net.host, Settings::default().arg(args)), net }
}

/// Makes network 73 or 74 with both families in a mode.
fn network(stage: &Stage, name: &str, number: u8, mode: &str, options: &str) {
    let modes = ["4", "6"]
        .map(|family| format!("-o com.docker.network.bridge.gateway_mode_ipv{family}={mode}"))
        .join(" ");
    let subnets = format!("--subnet 10.{number}.0.0/24 --subnet 2001:db8:{number}::/64");
    stage.agent.network(name, &format!("{subnets} {modes} {options}"));
}

/// A container that serves 80, which it publishes, and 81, which it does not.
fn server(stage: &Stage, name: &str, network: &str) -> (Container, [TcpServer; 2]) {
    let port = if name == "c1" { 8080 } else { 8081 };
    let container = stage.agent.container(name, network, &format!("-p {port}:80"));
    let servers = [80, 81].map(|port| TcpServer::start_at(&container.ns, (ANY, port)));
    (container, servers)
}

fn addresses(container: &Container) -> [IpAddr; 2] {
    [container.address().into(), container.address6().into()]
}

/// Demands which of echo, port 80 and port 81 the outside reaches at the container's own addresses.
#[track_caller]
fn directly(stage: &Stage, container: &Container, echo: bool, open: bool, closed: bool) {
    for address in addresses(container) {
        let outside = &stage.net.outside;
        match echo {
            true => traffic::answers(outside, address),
            false => traffic::does_not_answer(outside, address),
        }
        for (port, reached) in [(80, open), (81, closed)] {
            match (address, reached) {
                (_, false) => traffic::unreachable(outside, SocketAddr::new(address, port)),
                (IpAddr::V4(ip), true) => {
                    assert_eq!(*traffic::reaches(outside, at(ip, port)).ip(), OUTSIDE);
                }
                (IpAddr::V6(ip), true) => {
                    assert_eq!(*traffic::reaches(outside, at6(ip, port)).ip(), OUTSIDE6);
                }
            }
        }
    }
}

#[test]
fn p40_moby_inc_007_a_network_with_nat_is_not_addressed_directly() {
    let stage = stage(&[]);
    network(&stage, "n1", 73, "nat", "");
    let (c1, _servers) = server(&stage, "c1", "n1");
    directly(&stage, &c1, false, false, false);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
}

#[test]
fn moby_inc_008_a_routed_network_shows_what_it_publishes() {
    let stage = stage(&[]);
    network(&stage, "n1", 73, "routed", "");
    let (c1, _servers) = server(&stage, "c1", "n1");
    directly(&stage, &c1, true, true, false);
    // MOBY-PM-010: no port of the host leads there.
    traffic::refused(&stage.net.outside, at(HOST, 8080));
    traffic::refused(&stage.net.outside, at6(HOST6, 8080));
    assert_eq!(stage.agent.ok("port c1"), "80/tcp -> 0.0.0.0\n80/tcp -> [::]");
    // It leaves with its own address.
    let far = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    let seen_as = traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    assert_eq!(*seen_as.ip(), c1.address());
    assert_eq!(*traffic::reaches(&c1.ns, at6(OUTSIDE6, 80)).ip(), c1.address6());
    drop(far);
    traffic::answers(&c1.ns, OUTSIDE6);
}

#[test]
fn moby_inc_008_an_unprotected_network_shows_everything() {
    let stage = stage(&[]);
    network(&stage, "n1", 73, NAT_UNPROTECTED, "");
    let (c1, _servers) = server(&stage, "c1", "n1");
    directly(&stage, &c1, true, true, true);
    traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
    let _far = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    assert_eq!(*traffic::reaches(&c1.ns, at6(OUTSIDE6, 80)).ip(), HOST6, "it is masqueraded");
}

#[test]
fn moby_inc_004_moby_inc_006_networks_of_other_modes_stay_apart() {
    let stage = stage(&[]);
    network(&stage, "routed", 73, "routed", "");
    network(&stage, "nat", 74, "nat", "");
    let (routed, _r) = server(&stage, "c1", "routed");
    let (nat, _n) = server(&stage, "c2", "nat");
    for address in addresses(&nat) {
        traffic::does_not_answer(&routed.ns, address);
        traffic::unreachable(&routed.ns, SocketAddr::new(address, 80));
        traffic::unreachable(&routed.ns, SocketAddr::new(address, 81));
    }
    // MOBY-INC-003: from the network with NAT to what the routed one publishes.
    traffic::reaches(&nat.ns, at(routed.address(), 80));
    traffic::reaches(&nat.ns, at6(routed.address6(), 80));
    traffic::unreachable(&nat.ns, at6(routed.address6(), 81));
    // By the host's addresses, published ports of others are reached (P69).
    traffic::reaches(&routed.ns, at(HOST, 8081));
    traffic::reaches(&routed.ns, at6(HOST6, 8081));
    let network = stage.agent.inspect("network", "nat");
    let gateway = network["IPAM"]["Config"][1]["Gateway"].as_str().expect("a gateway");
    traffic::reaches(&routed.ns, at6(gateway.parse().expect("an address"), 8081));
}

#[test]
fn moby_inc_010_a_trusted_interface_addresses_containers_directly() {
    let stage = stage(&[]);
    let option = "-o com.docker.network.bridge.trusted_host_interfaces=";
    network(&stage, "n1", 73, "nat", &format!("{option}wg7:{UPLINK}"));
    network(&stage, "n2", 74, "nat", &format!("{option}wg7"));
    let (c1, _servers) = server(&stage, "c1", "n1");
    let (c2, _others) = server(&stage, "c2", "n2");
    directly(&stage, &c1, true, true, true);
    directly(&stage, &c2, false, false, false);
}

#[test]
fn p40_moby_inc_011_direct_routing_is_allowed_for_all_networks() {
    let stage = stage(&["--allow-direct-routing"]);
    network(&stage, "n1", 73, "nat", "");
    let (c1, _servers) = server(&stage, "c1", "n1");
    for (address, neighbour) in
        addresses(&c1).into_iter().zip([IpAddr::from(NEIGHBOUR), IpAddr::from(NEIGHBOUR6)])
    {
        let seen_as = match address {
            IpAddr::V4(ip) => {
                traffic::reaches(&stage.net.neighbour, at(ip, 80)).ip().to_owned().into()
            }
            IpAddr::V6(ip) => {
                IpAddr::from(*traffic::reaches(&stage.net.neighbour, at6(ip, 80)).ip())
            }
        };
        assert_eq!(seen_as, neighbour);
        traffic::unreachable(&stage.net.neighbour, SocketAddr::new(address, 81));
    }
}

#[test]
fn p78_moby_inc_012_a_mark_passes() {
    let stage = stage(&["--bridge-accept-fwmark", "2/3"]);
    network(&stage, "n1", 73, "nat", "");
    let (c1, _servers) = server(&stage, "c1", "n1");
    directly(&stage, &c1, false, false, false);
    let marked = Foreign::marking(&stage.net.host, UPLINK, 0xe);
    directly(&stage, &c1, true, true, true);
    drop(marked);
    let _other = Foreign::marking(&stage.net.host, UPLINK, 0xd);
    let c2 = stage.agent.container("c2", "n1", "");
    traffic::does_not_answer(&stage.net.outside, c2.address());
}

#[test]
fn moby_pm_012_inspection_where_one_family_is_routed() {
    let stage = stage(&[]);
    for (number, v4, v6, shown) in [
        (
            73,
            "nat",
            "routed",
            json!([{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": ""}]),
        ),
        (
            74,
            "routed",
            "nat",
            json!([{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": "8080"}]),
        ),
    ] {
        let key = "com.docker.network.bridge.gateway_mode_ipv";
        let name = format!("n{number}");
        let options = format!("--ipv6 -o {key}4={v4} -o {key}6={v6}");
        stage.agent.network(&name, &options);
        stage.agent.container(&format!("c{number}"), &name, "-p 8080:80");
        let inspected = stage.agent.inspect("container", &format!("c{number}"));
        let mut ports =
            inspected["NetworkSettings"]["Ports"]["80/tcp"].as_array().expect("ports").clone();
        ports.sort_by_key(ToString::to_string);
        assert_eq!(json!(ports), shown);
    }
}

#[test]
fn moby_icc_033_the_host_is_not_on_an_isolated_network() {
    let stage = stage(&[]);
    let text = stage
        .agent
        .refused("network create -o com.docker.network.bridge.gateway_mode_ipv4=isolated n0");
    assert!(text.contains("can only be used for an internal network"), "{text}");
    let modes = "-o com.docker.network.bridge.gateway_mode_ipv4=isolated \
                 -o com.docker.network.bridge.gateway_mode_ipv6=isolated";
    let options = format!("--internal {modes} --subnet 192.168.135.0/31 --subnet 2001:db8:9::/64");
    stage.agent.network("n1", &options);
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let bridge = crate::bridge_of(&stage, "n1");
    assert!(stage.net.host.addresses(&bridge).is_empty());
    let global = stage.net.host.sh(&format!("ip -6 addr show dev {bridge} scope global"));
    assert_eq!(global.trim(), "");
    assert_eq!(c1.ns.sh("ip route show default"), "");
    assert_eq!(c1.ns.sh("ip -6 route show default"), "");
    for address in addresses(&c2) {
        traffic::answers(&c1.ns, address);
    }
    let config = stage.agent.inspect("network", "n1")["IPAM"]["Config"].clone();
    assert_eq!(config[0], json!({"Subnet": "192.168.135.0/31"}));
}

#[test]
fn p48_s110_the_source_of_masquerade_is_chosen_or_left_out() {
    let stage = stage(&["--ip-masq=false"]);
    network(&stage, "n1", 73, "nat", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let _far = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), c1.address());
    assert_eq!(*traffic::reaches(&c1.ns, at6(OUTSIDE6, 80)).ip(), c1.address6());
}

#[test]
fn p48_moby_mq_003_the_source_of_masquerade_is_the_networks_choice() {
    let stage = stage(&[]);
    stage.net.host.sh(&format!("ip addr add 198.51.100.2/24 dev {UPLINK}"));
    // Deprecated: nobody takes it unless he is told to.
    let deprecated = "nodad preferred_lft 0";
    stage.net.host.sh(&format!("ip -6 addr add 2001:db8:100::2/64 dev {UPLINK} {deprecated}"));
    network(&stage, "n1", 73, "nat", "-o com.docker.network.host_ipv4=198.51.100.2");
    network(&stage, "n2", 74, "nat", "-o com.docker.network.host_ipv6=2001:db8:100::2");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n2", "");
    let _far = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    let seen = |container: &Container| {
        let v4 = *traffic::reaches(&container.ns, at(OUTSIDE, 80)).ip();
        let v6 = *traffic::reaches(&container.ns, at6(OUTSIDE6, 80)).ip();
        (v4.to_string(), v6.to_string())
    };
    assert_eq!(seen(&c1), ("198.51.100.2".into(), HOST6.to_string()));
    assert_eq!(seen(&c2), (HOST.to_string(), "2001:db8:100::2".into()));
}

#[test]
fn moby_pm_010_ports_follow_their_container_to_a_network_of_another_mode() {
    let stage = Stage::new();
    stage.agent.network("open", "");
    stage.agent.network(
        "routed",
        "--subnet 10.73.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed",
    );
    stage.net.route_to_host("10.73.0.0/24");
    let c1 = stage.agent.container("c1", "open", "-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network connect routed c1");
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network disconnect open c1");
    let place = bascule_tests::container::attachment(&stage.agent, "c1", "routed");
    let own: std::net::Ipv4Addr =
        place["IPAddress"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
    traffic::reaches(&stage.net.outside, at(own, 80));
    traffic::refused(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network connect open c1");
    stage.agent.ok("network disconnect routed c1");
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}
