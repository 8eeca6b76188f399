//! Docker's networks with IPv6: who reaches whom, what leaves the host, and what is published.

use std::net::{Ipv6Addr, SocketAddrV6};

use bascule_tests::{
    Netns, Topology,
    topology::{HOST, HOST6, OUTSIDE, OUTSIDE6},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at, stage::rules};

/// An address of IPv6 with a port.
const fn at6(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

fn serve(ns: &Netns, port: u16) -> TcpServer {
    TcpServer::start_at(ns, at6(Ipv6Addr::UNSPECIFIED, port))
}

#[test]
fn moby_icc_003_dockers_networks_with_ipv6() {
    let mut stage = Stage::within(Topology::dual(), &["--live-restore"]);
    let docker = &stage.docker;
    docker.ok("network create --ipv6 --subnet 10.76.0.0/24 --subnet fd81:6::/64 six");
    // One is there before, with everything.
    let s1 = docker.container("s1", "six", "-p 8400:80 -p [::1]:8401:80 -p 5300:53/udp");
    stage.adopt();
    let (docker, net) = (&stage.docker, &stage.net);
    docker.ok("network create --ipv6 --subnet fd81:7::/64 seven");
    docker.ok("network create --ipv6 --subnet fd81:8::/64 -o com.docker.network.bridge.enable_icc=false grey");
    docker.ok("network create --ipv6 --subnet fd81:9::/64 --internal inner");
    docker.ok("network create --ipv6 --subnet fd81:a::/64 -o com.docker.network.bridge.enable_ip_masquerade=false bare");
    let s2 = docker.container("s2", "six", "--ip6 fd81:6::77");
    let t1 = docker.container("t1", "seven", "");
    let [g1, g2] = ["g1", "g2"].map(|name| docker.container(name, "grey", ""));
    let [i1, i2] = ["i1", "i2"].map(|name| docker.container(name, "inner", "-p 8402:80"));
    let m1 = docker.container("m1", "bare", "");
    stage.settle();
    assert_eq!(s2.address6().to_string(), "fd81:6::77");
    let all = [&s1, &s2, &t1, &g1, &g2, &i1, &i2, &m1];
    let _servers = all.map(|c| serve(&c.ns, 80));
    let _far = serve(&net.outside, 80);
    wait::wait_until("addresses that were tried", wait::SOON, || {
        all.iter().all(|c| !c.ns.sh("ip -6 addr show dev eth0").contains("tentative"))
    });
    // Within a network, and no further.
    for (from, to) in [(&s1, &s2), (&s2, &s1), (&i1, &i2)] {
        traffic::reaches(&from.ns, at6(to.address6(), 80));
    }
    for (from, to) in [(&t1, &s1), (&s1, &t1), (&g1, &g2), (&s1, &i1), (&i1, &s1)] {
        traffic::unreachable(&from.ns, at6(to.address6(), 80));
    }
    // Out by the host's address, as itself, or not at all.
    for from in [&s1, &t1, &g1] {
        let seen = traffic::reaches(&from.ns, at6(OUTSIDE6, 80));
        assert_eq!(*seen.ip(), HOST6, "{}", from.name);
    }
    net.route6_to_host("fd81:a::/64");
    assert_eq!(*traffic::reaches(&m1.ns, at6(OUTSIDE6, 80)).ip(), m1.address6());
    traffic::unreachable(&i1.ns, at6(OUTSIDE6, 80));
    // MOBY-INC-007.
    net.route6_to_host("fd81:6::/64");
    traffic::unreachable(&net.neighbour, at6(s1.address6(), 80));
    traffic::reaches(&net.host, at6(s1.address6(), 80));
    published(&stage, &s1.ns);
    assert_eq!(rules(&net.host), "");
}

/// MOBY-PM-016, MOBY-PM-017, MOBY-PM-019, NETAV-PM-003: by every address of either family that was said.
fn published(stage: &Stage, s1: &Netns) {
    let net = &stage.net;
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
    // From another network, and from itself.
    let t1 = stage.docker.ok("inspect --format {{.Id}} t1");
    let t1 = stage.docker.open("t1", &t1);
    for from in [&t1.ns, s1] {
        traffic::reaches(from, at6(HOST6, 8400));
    }
    // The same port over IPv4.
    let seen =
        net.outside.sh(&format!("curl --silent --show-error --max-time 10 http://{HOST}:8400/"));
    assert!(seen.contains(&OUTSIDE.to_string()), "{seen}");
    traffic::refused(&net.outside, at(HOST, 8402));
}
