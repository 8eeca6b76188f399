//! Networks with IPv6: who reaches whom, what leaves the host, and what is published.

use std::net::{Ipv6Addr, SocketAddrV6};

use super::{KEY, Way, at};
use crate::{
    Container, Netns,
    topology::{HOST, HOST6, OUTSIDE, OUTSIDE6},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

/// An address of IPv6 with a port.
const fn at6(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

fn serve(ns: &Netns, port: u16) -> TcpServer {
    TcpServer::start_at(ns, at6(Ipv6Addr::UNSPECIFIED, port))
}

/// The address that an interface makes of its Ethernet address.
fn of_link(container: &Container) -> Ipv6Addr {
    let [a, b, c, d, e, f] = container.ns.mac("eth0").map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// All of it, in a world that speaks both.
pub fn moby_icc_003_moby_icc_004_networks_with_ipv6(way: &Way<'_>) {
    let net = way.net;
    for (name, options) in [
        ("six", "--subnet 10.77.7.0/24 --subnet fd81:6::/64"),
        ("seven", "--subnet fd81:7::/64"),
        ("grey", &format!("--subnet fd81:8::/64 -o {KEY}.enable_icc=false")),
        ("inner", "--subnet fd81:9::/64 --internal"),
        ("bare", &format!("--subnet fd81:a::/64 -o {KEY}.enable_ip_masquerade=false")),
    ] {
        way.network(name, &format!("--ipv6 {options}"));
    }
    let all = way.containers([
        ("s1", "six", "-p 8400:80 -p [::1]:8401:80 -p 5300:53/udp"),
        ("s2", "six", "--ip6 fd81:6::77"),
        ("t1", "seven", ""),
        ("q1", "grey", ""),
        ("q2", "grey", ""),
        ("i1", "inner", "-p 8402:80"),
        ("i2", "inner", ""),
        ("m1", "bare", ""),
    ]);
    let [s1, s2, t1, q1, q2, i1, i2, m1] = &all;
    assert_eq!(s2.address6().to_string(), "fd81:6::77");
    let _servers = all.each_ref().map(|c| serve(&c.ns, 80));
    let _far = serve(&net.outside, 80);
    wait::wait_until("addresses that were tried", wait::SOON, || {
        all.iter().all(|c| !c.ns.sh("ip -6 addr show dev eth0").contains("tentative"))
    });
    // Within a network, and no further; by the address of the link as well.
    for (from, to) in [(s1, s2), (s2, s1), (i1, i2)] {
        traffic::reaches(&from.ns, at6(to.address6(), 80));
        traffic::answers(&from.ns, format!("{}%eth0", of_link(to)));
    }
    let apart = [(t1, s1), (s1, t1), (q1, q2), (s1, i1), (i1, s1)];
    traffic::all_unreachable(apart.map(|(from, to)| (&from.ns, at6(to.address6(), 80))));
    // Out by the host's address, as itself, or not at all.
    for from in [s1, t1, q1] {
        let seen = traffic::reaches(&from.ns, at6(OUTSIDE6, 80));
        assert_eq!(*seen.ip(), HOST6, "{}", from.name);
    }
    traffic::answers(&s1.ns, OUTSIDE);
    net.route6_to_host("fd81:a::/64");
    assert_eq!(*traffic::reaches(&m1.ns, at6(OUTSIDE6, 80)).ip(), m1.address6());
    traffic::unreachable(&i1.ns, at6(OUTSIDE6, 80));
    // MOBY-INC-007.
    net.route6_to_host("fd81:6::/64");
    traffic::unreachable(&net.neighbour, at6(s1.address6(), 80));
    traffic::reaches(&net.host, at6(s1.address6(), 80));
    published(way, &s1.ns, &t1.ns);
    way.remove("s1 s2 t1 q1 q2 i1 i2 m1");
    way.docker.ok("network rm six seven grey inner bare");
}

/// MOBY-PM-016, MOBY-PM-017, MOBY-PM-019, NETAV-PM-003: by every address of either family that was said.
fn published(way: &Way<'_>, s1: &Netns, other: &Netns) {
    let net = way.net;
    let udp = UdpServer::start_at(s1, at6(Ipv6Addr::UNSPECIFIED, 53));
    assert_eq!(*traffic::reaches(&net.outside, at6(HOST6, 8400)).ip(), OUTSIDE6);
    assert_eq!(*traffic::exchange(&net.outside, at6(HOST6, 5300), 400).ip(), OUTSIDE6);
    drop(udp);
    for address in [Ipv6Addr::LOCALHOST, HOST6] {
        traffic::reaches(&net.host, at6(address, 8400));
    }
    traffic::reaches(&net.host, at6(Ipv6Addr::LOCALHOST, 8401));
    traffic::refused(&net.outside, at6(HOST6, 8401));
    traffic::refused(&net.outside, at6(HOST6, 8402));
    traffic::refused(&net.outside, at(HOST, 8402));
    // From another network, and from itself.
    for from in [other, s1] {
        traffic::reaches(from, at6(HOST6, 8400));
    }
    // The same port over IPv4.
    let seen =
        net.outside.sh(&format!("curl --silent --show-error --max-time 10 http://{HOST}:8400/"));
    assert!(seen.contains(&OUTSIDE.to_string()), "{seen}");
}
