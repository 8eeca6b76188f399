//! Cases of the catalogue and rows that no other file names.
//!
//! Of its groups A to E these have nothing to show yet: MOBY-ICC-025 (containers are not made by Docker's API),
//! NETAV-PM-005 and CNI-PM-004 (configurations of plugins). Of its group G it is MOBY-DNS-027, the SRV records of a swarm's
//! services: there are no services here, and no port has a name.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use bascule_tests::{
    Topology,
    topology::{HOST, HOST6, OUTSIDE, OUTSIDE6},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at, at6};

#[test]
fn moby_int_001_moby_int_002_peers_of_an_internal_network_talk_and_hear_nobody_else() {
    let stage = Stage::new();
    stage.agent.network("inner", "--internal --subnet 172.30.0.0/24");
    let c1 = stage.agent.container("c1", "inner", "");
    let c2 = stage.agent.container("c2", "inner", "");
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::answers(&c1.ns, c2.address());
    traffic::reaches(&c1.ns, at(c2.address(), 80));
    // MOBY-INT-001: the gateway answers; the outside is not reached by any route.
    traffic::answers(&c1.ns, "172.30.0.1");
    let out = c1.ns.try_sh(&format!("ping -c 1 -W 1 {OUTSIDE}"));
    assert!(out.stderr.contains("Network is unreachable"), "{out:?}");
}

#[test]
fn moby_int_007_an_internal_network_never_leads_out_while_another_does() {
    let stage = Stage::new();
    stage.agent.network("inner", "--internal");
    stage.agent.network("open", "");
    let c1 = stage.agent.container("c1", "inner", "-p 8080:80");
    assert_eq!(c1.ns.sh("ip route show default"), "");
    stage.agent.ok("network connect open c1");
    assert!(c1.ns.sh("ip route show default").contains("dev eth1"));
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    // NETAV-INT-001: without a way out the mapping is left out, and that is no error.
    stage.agent.ok("network disconnect open c1");
    assert_eq!(c1.ns.sh("ip route show default"), "");
    assert_eq!(stage.agent.ok("port c1"), "");
    traffic::refused(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn moby_pm_036_s119_s120_s124_a_network_has_a_host_address_of_its_own() {
    let stage = Stage::new();
    stage.net.host.sh("ip addr add 192.168.10.1/32 dev lo");
    stage.agent.network("n1", "-o com.docker.network.bridge.host_binding_ipv4=192.168.10.1");
    let c1 = stage.agent.container("c1", "n1", "-p 5000:5000");
    let shown = stage.agent.ok("ps");
    assert!(shown.contains("192.168.10.1:5000->5000/tcp"), "{shown}");
    // S124: what is mapped can be listed.
    assert_eq!(stage.agent.ok("port c1"), "5000/tcp -> 192.168.10.1:5000");
    let _server = TcpServer::start(&c1.ns, 5000);
    traffic::reaches(&stage.net.host, at([192, 168, 10, 1].into(), 5000));
    traffic::refused(&stage.net.outside, at(HOST, 5000));
}

#[test]
fn moby_pm_032_ports_that_the_agent_itself_listens_on_are_refused() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    for at in ["9477", "127.0.0.1:9477"] {
        stage.agent.ok(&format!("container create --name c1 --network n1 -p {at}:80"));
        let error = stage.agent.refused("container start c1");
        assert!(error.contains(":9477/tcp: address already in use"), "{error}");
        stage.agent.ok("container rm c1");
    }
}

#[test]
fn p43_moby_pm_029_a_free_port_of_a_range_is_chosen_and_serves() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let _holder = TcpServer::start(&stage.net.host, 9090);
    let (c1, c2) = (
        stage.agent.container("c1", "n1", "-p 9090-9092:80"),
        stage.agent.container("c2", "n1", "-p 9090-9092:80"),
    );
    assert_eq!(stage.agent.ok("port c1"), "80/tcp -> 0.0.0.0:9091");
    let servers = [&c1, &c2].map(|c| TcpServer::start(&c.ns, 80));
    for port in [9091, 9092] {
        traffic::reaches(&stage.net.outside, at(HOST, port));
    }
    assert!(servers.iter().all(|server| server.peers().len() == 1));
}

#[test]
fn moby_pm_027_reserved_ports_of_the_host_are_not_chosen() {
    let net = Topology::new();
    net.host.sysctl_set("net/ipv4/ip_local_reserved_ports", "49153-49200");
    let agent = bascule_tests::Agent::start(&net.host);
    agent.network("n1", "");
    agent.container("c1", "n1", "-p 80");
    assert_eq!(agent.ok("port c1"), "80/tcp -> 0.0.0.0:49201");
    agent.container("c2", "n1", "-p 49160:80");
    assert_eq!(agent.ok("port c2"), "80/tcp -> 0.0.0.0:49160");
}

#[test]
fn moby_mq_001_what_stays_inside_is_not_translated() {
    let (stage, c1, c2) = Stage::with_pair();
    let _near = UdpServer::start(&c2.ns, 53);
    let _far = UdpServer::start(&stage.net.outside, 53);
    assert_eq!(*traffic::exchange(&c1.ns, at(c2.address(), 53), 10).ip(), c1.address());
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 10).ip(), HOST);
    // The host's own way in is by the bridge, with the gateway's address.
    let seen = *traffic::exchange(&stage.net.host, at(c2.address(), 53), 10).ip();
    assert_ne!(seen, HOST);
}

#[test]
fn moby_icc_008_a_neighbour_without_ipv6_is_no_name_of_ipv6() {
    let stage = Stage::new();
    stage.agent.network("n1", "--ipv6");
    stage.agent.container("c1", "n1", "--sysctl net.ipv6.conf.all.disable_ipv6=1");
    stage.agent.container("c2", "n1", "");
    let ping = |family| {
        let start = Instant::now();
        let out = stage.agent.cli(["exec", "c2", "ping", family, "-c", "1", "-W", "2", "c1"]);
        (out, start.elapsed())
    };
    let (out, _) = ping("-4");
    assert!(out.ok(), "{out:?}");
    let (out, took) = ping("-6");
    assert!(out.stderr.contains("hostname") || out.stderr.contains("not known"), "{out:?}");
    assert!(took < Duration::from_secs(5), "it is said at once, not after {took:?}");
}

#[test]
fn moby_inc_016_on_the_default_network_nobody_has_a_name() {
    let stage = Stage::new();
    // Whom the host would ask does not answer here.
    let dns = format!("--dns {OUTSIDE} --dns-option timeout:1 --dns-option attempts:1");
    let c1 = stage.agent.container("c1", "bridge", &dns);
    stage.agent.container("c2", "bridge", "");
    for name in ["c2", "nosuch"] {
        let out = stage.agent.cli(["exec", "c1", "getent", "hosts", name]);
        assert_eq!(out.code, 2, "{name}: {out:?}");
    }
    traffic::answers(&c1.ns, Ipv4Addr::new(172, 17, 0, 3));
}

#[test]
fn cni_fw_001_bridges_keep_to_themselves() {
    let stage = Stage::new();
    let [a, b, c] = [("a", "foo"), ("b", "foo"), ("c", "bar")].map(|(name, network)| {
        if name != "b" {
            stage.agent.network(network, "");
        }
        stage.agent.container(name, network, "")
    });
    traffic::answers(&a.ns, b.address());
    traffic::does_not_answer(&a.ns, c.address());
    traffic::does_not_answer(&c.ns, b.address());
}

#[test]
fn cni_pm_001_four_ways_lead_to_a_published_port_and_none_once_it_is_gone() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let (host, own) = (&stage.net.host, c1.address());
    for (ns, to) in [
        (host, at(own, 80)),
        (host, at(HOST, 8080)),
        (host, at(Ipv4Addr::LOCALHOST, 8080)),
        (&c1.ns, at(HOST, 8080)),
    ] {
        traffic::reaches(ns, to);
    }
    stage.agent.ok("network disconnect n1 c1");
    traffic::unreachable(host, at(own, 80));
    for to in [HOST, Ipv4Addr::LOCALHOST] {
        traffic::refused(host, at(to, 8080));
    }
    traffic::refused(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn cni_mq_002_each_address_is_masqueraded_until_its_network_is_gone() {
    let stage = Stage::dual();
    stage.agent.network("n1", "--ipv6");
    let c1 = stage.agent.container("c1", "n1", "");
    let _servers = [
        UdpServer::start(&stage.net.outside, 53),
        UdpServer::start_at(&stage.net.outside, at6(Ipv6Addr::UNSPECIFIED, 54)),
    ];
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 10).ip(), HOST);
    assert_eq!(*traffic::exchange(&c1.ns, at6(OUTSIDE6, 54), 10).ip(), HOST6);
    assert_eq!(stage.agent.ok("nat ls").matches("masqueraded").count(), 2);
    drop(c1);
    stage.agent.ok("container rm -f c1");
    stage.agent.ok("network rm n1");
    for shown in ["nat ls", "policy ls --network bridge"].map(|line| stage.agent.ok(line)) {
        assert!(!shown.contains("n1") && !shown.contains("c1"), "{shown}");
    }
    assert_eq!(stage.net.host.firewall_rules(), "");
}
