//! What `traceroute` shows, in both families: from containers, from outside to published ports, and through
//! hairpins. A router that answers is shown by its own address; the container behind a published port never.

use std::net::{IpAddr, Ipv6Addr};

use bascule_tests::{
    Agent, Container, Netns, Topology,
    topology::{HOST, HOST6, OUTSIDE, OUTSIDE6, ROUTER, ROUTER_OUTSIDE, ROUTER_OUTSIDE6, ROUTER6},
    traffic::{self, TcpServer},
};

use crate::{Stage, at, at6};

/// A host that speaks both families, a server with a published port, and a client of another network.
struct Traced {
    stage: Stage,
    server: Container,
    client: Container,
    _servers: [TcpServer; 2],
}

impl Traced {
    fn new() -> Self {
        let net = Topology::dual();
        let stage = Stage { agent: Agent::start(&net.host), net };
        stage.agent.network("n1", "--ipv6 --subnet fd73::/64 --subnet 172.30.1.0/24");
        stage.agent.network("n2", "--ipv6 --subnet fd74::/64 --subnet 172.30.2.0/24");
        let server = stage.agent.container("server", "n1", "-p 8080:80");
        let client = stage.agent.container("client", "n2", "");
        let servers = [
            TcpServer::start_at(&server.ns, at(server.address(), 80)),
            TcpServer::start_at(&server.ns, at6(address6(&server), 80)),
        ];
        Self { stage, server, client, _servers: servers }
    }
}

/// The container's global IPv6 address.
fn address6(container: &Container) -> Ipv6Addr {
    let shown = container.ns.sh("ip -6 -o addr show dev eth0 scope global");
    let field = shown.split_whitespace().find(|field| field.starts_with("fd"));
    let address = field.and_then(|field| field.split('/').next());
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{shown}"))
}

/// Who answers at each hop.
fn hops(ns: &Netns, how: &str, to: impl Into<IpAddr>) -> Vec<String> {
    let to = to.into();
    let family = if to.is_ipv6() { "-6" } else { "-4" };
    let shown = ns.sh(&format!("traceroute {family} -n -q 1 -w 3 -m 6 {how} {to}"));
    let lines = shown.lines().skip(1);
    lines.map(|line| line.split_whitespace().nth(1).unwrap_or("?").to_owned()).collect()
}

fn named<const N: usize>(addresses: [IpAddr; N]) -> Vec<String> {
    addresses.map(|address| address.to_string()).into()
}

const PUBLISHED: &str = "-T -p 8080";

#[test]
fn from_a_container_every_hop_is_shown() {
    let traced = Traced::new();
    for how in ["-I", "-U -p 33434"] {
        let gateway: IpAddr = "172.30.1.1".parse().expect("an address");
        let seen = hops(&traced.server.ns, how, OUTSIDE);
        assert_eq!(seen, named([gateway, ROUTER.into(), OUTSIDE.into()]), "{how}");
        let gateway: IpAddr = "fd73::1".parse().expect("an address");
        let seen = hops(&traced.server.ns, how, OUTSIDE6);
        assert_eq!(seen, named([gateway, ROUTER6.into(), OUTSIDE6.into()]), "{how}");
    }
}

#[test]
fn from_outside_a_published_port_is_one_hop_behind_the_host() {
    let traced = Traced::new();
    let outside = &traced.stage.net.outside;
    let seen = hops(outside, PUBLISHED, HOST);
    assert_eq!(seen, named([ROUTER_OUTSIDE.into(), HOST.into(), HOST.into()]));
    let seen = hops(outside, PUBLISHED, HOST6);
    assert_eq!(seen, named([ROUTER_OUTSIDE6.into(), HOST6.into(), HOST6.into()]));
}

#[test]
fn through_a_hairpin_the_gateway_answers() {
    let traced = Traced::new();
    let gateway: IpAddr = "172.30.2.1".parse().expect("an address");
    let seen = hops(&traced.client.ns, PUBLISHED, HOST);
    assert_eq!(seen, named([gateway, HOST.into()]));
    let gateway: IpAddr = "fd74::1".parse().expect("an address");
    let seen = hops(&traced.client.ns, PUBLISHED, HOST6);
    assert_eq!(seen, named([gateway, HOST6.into()]));
}

/// The MTU that a container knows towards an address.
fn path_mtu(ns: &Netns, to: Ipv6Addr) -> String {
    ns.sh(&format!("ip -6 route get {to}"))
}

#[test]
fn too_big_comes_back_through_masquerade_and_uploads_finish() {
    let traced = Traced::new();
    traced.stage.net.narrow6(1280);
    let (outside, client) = (&traced.stage.net.outside, &traced.client.ns);
    let upload = traffic::iperf(outside, 5201, client, at6(OUTSIDE6, 5201), 1, "");
    assert!(upload.received > 100_000, "{upload:?}");
    let known = path_mtu(client, OUTSIDE6);
    assert!(known.contains("mtu 1280"), "the container learned the path's MTU: {known}");
}

#[test]
fn p59_n27_too_big_comes_in_through_a_published_port_and_downloads_finish() {
    let traced = Traced::new();
    traced.stage.net.narrow6(1280);
    let serving = traced.stage.agent.container("serving", "n1", "-p 5201:5201");
    let outside = &traced.stage.net.outside;
    let download = traffic::iperf(&serving.ns, 5201, outside, at6(HOST6, 5201), 1, "-R");
    assert!(download.received > 100_000, "{download:?}");
    let known = path_mtu(&serving.ns, OUTSIDE6);
    assert!(known.contains("mtu 1280"), "the container learned the path's MTU: {known}");
}
