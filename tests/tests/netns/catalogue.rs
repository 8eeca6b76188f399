//! Cases of the catalogue and rows that no other file names.

use bascule_tests::{
    Topology,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

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
