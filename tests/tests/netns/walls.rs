//! Isolation, ICC, links, internal networks: what does not pass, and why it says so.

use std::net::Ipv4Addr;

use bascule_tests::{
    Agent, Container,
    capture::{Capture, inject},
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

const ICC_OFF: &str = "-o com.docker.network.bridge.enable_icc=false";

/// Waits until the container's drops for the reason have grown past `before`.
#[track_caller]
fn dropped(agent: &Agent, container: &Container, reason: &str, before: u64) {
    wait::wait_until(&format!("a drop of {} as {reason}", container.name), wait::SOON, || {
        agent.metrics().drops(&container.name, reason) > before
    });
}

#[test]
fn s94_s20_s108_networks_are_isolated() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    let _tcp = TcpServer::start(&c3.ns, 80);
    let _udp = UdpServer::start(&c3.ns, 53);
    let nothing = Capture::arriving(&c3.ns, "eth0");
    traffic::does_not_answer(&c1.ns, c3.address());
    traffic::unreachable(&c1.ns, at(c3.address(), 80));
    assert!(traffic::udp::try_exchange(&c1.ns, at(c3.address(), 53), 10).is_err());
    dropped(&stage.agent, &c1, "policy_isolation", 3);
    nothing.assert_none("a packet of another network", |packet| packet.src == c1.address());
    // The default network is a network like the others.
    let c0 = stage.agent.container("c0", "bridge", "");
    traffic::does_not_answer(&c0.ns, c3.address());
    traffic::does_not_answer(&c3.ns, c0.address());
}

#[test]
fn s96_icc_off_drops_between_containers() {
    let stage = Stage::new();
    stage.agent.network("n1", ICC_OFF);
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let _tcp = TcpServer::start(&c2.ns, 80);
    let _udp = UdpServer::start(&c2.ns, 53);
    let nothing = Capture::arriving(&c2.ns, "eth0");
    traffic::does_not_answer(&c1.ns, c2.address());
    traffic::unreachable(&c1.ns, at(c2.address(), 80));
    assert!(traffic::udp::try_exchange(&c1.ns, at(c2.address(), 53), 10).is_err());
    dropped(&stage.agent, &c1, "policy_icc", 3);
    // By way of the gateway instead of directly: a route cannot help either.
    c1.ns.sh(&format!("ip route add {}/32 via {}", c2.address(), gateway(&c1)));
    traffic::does_not_answer(&c1.ns, c2.address());
    nothing.assert_none("a packet of a peer", |packet| packet.src == c1.address());
    // The outside is reached all the same.
    traffic::answers(&c1.ns, OUTSIDE);
}

fn gateway(container: &Container) -> Ipv4Addr {
    let routes = container.ns.sh("ip route show default");
    routes.split_whitespace().nth(2).expect("a default route").parse().expect("an address")
}

#[test]
fn s96_icc_off_drops_broadcast_and_multicast() {
    let stage = Stage::new();
    stage.agent.network("n1", ICC_OFF);
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let capture = Capture::arriving(&c2.ns, "eth0");
    let from = format!("{}:1000", c1.address());
    for (mac, to) in
        [([0xff; 6], "255.255.255.255:1000"), ([0x01, 0x00, 0x5e, 0, 0, 0xfb], "224.0.0.251:1000")]
    {
        inject(&c1.ns, "eth0", &Frame::udp(&from, to).macs(c1.ns.mac("eth0"), mac).bytes());
    }
    dropped(&stage.agent, &c1, "multicast", 1);
    capture.assert_none("a broadcast of a peer", |packet| packet.src == c1.address());
}

#[test]
fn broadcast_reaches_the_network_and_no_other() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    let (near, far) = (Capture::arriving(&c2.ns, "eth0"), Capture::arriving(&c3.ns, "eth0"));
    let from = format!("{}:1000", c1.address());
    let frame = Frame::udp(&from, "255.255.255.255:1000").macs(c1.ns.mac("eth0"), [0xff; 6]);
    inject(&c1.ns, "eth0", &frame.bytes());
    near.wait_for("the broadcast", |packet| packet.src == c1.address());
    far.assert_none("a broadcast of another network", |packet| packet.src == c1.address());
}

#[test]
fn s97_with_icc_off_a_link_opens_the_exposed_ports_alone() {
    let stage = Stage::new();
    stage.agent.network("n1", ICC_OFF);
    let db = stage.agent.container("db", "n1", "--expose 5432 --expose 53/udp");
    let web = stage.agent.container("web", "n1", "--link db:database");
    let other = stage.agent.container("other", "n1", "");
    let (_exposed, _closed) = (TcpServer::start(&db.ns, 5432), TcpServer::start(&db.ns, 22));
    let (_udp, _hidden) = (UdpServer::start(&db.ns, 53), UdpServer::start(&db.ns, 54));
    let _back = TcpServer::start(&web.ns, 5432);
    assert_eq!(*traffic::reaches(&web.ns, at(db.address(), 5432)).ip(), web.address());
    traffic::exchange(&web.ns, at(db.address(), 53), 100);
    traffic::unreachable(&web.ns, at(db.address(), 22));
    assert!(traffic::udp::try_exchange(&web.ns, at(db.address(), 54), 10).is_err());
    traffic::does_not_answer(&web.ns, db.address());
    // One way only, and for the linked one only.
    traffic::unreachable(&db.ns, at(web.address(), 5432));
    traffic::unreachable(&other.ns, at(db.address(), 5432));
    dropped(&stage.agent, &other, "policy_icc", 0);
}

#[test]
fn s97_a_link_ends_with_its_target_and_comes_back_with_it() {
    let stage = Stage::new();
    stage.agent.network("n1", ICC_OFF);
    let db = stage.agent.container("db", "n1", "--expose 5432");
    let web = stage.agent.container("web", "n1", "--link db:db");
    let server = TcpServer::start(&db.ns, 5432);
    traffic::reaches(&web.ns, at(db.address(), 5432));
    drop(server);
    stage.agent.ok("container stop db");
    // The address goes to somebody else, who exposes nothing to anybody.
    let thief = stage.agent.container("thief", "n1", "");
    let _server = TcpServer::start(&thief.ns, 5432);
    traffic::unreachable(&web.ns, at(thief.address(), 5432));
    stage.agent.ok("container start db");
    let db = Container::open(&stage.agent, "db", &db.id);
    let _server = TcpServer::start(&db.ns, 5432);
    traffic::reaches(&web.ns, at(db.address(), 5432));
}

#[test]
fn s107_moby_int_001_an_internal_network_has_no_way_out() {
    let stage = Stage::new();
    stage.agent.network("inside", "--internal");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "inside", "");
    let c2 = stage.agent.container("c2", "inside", "");
    let c3 = stage.agent.container("c3", "n2", "");
    assert_eq!(c1.ns.sh("ip route show default"), "", "MOBY-INT-001: no default route");
    // Peers, and the own gateway.
    traffic::answers(&c1.ns, c2.address());
    let bridge = Ipv4Addr::from(u32::from(c1.address()) & 0xffff_ff00 | 1);
    traffic::answers(&c1.ns, bridge);
    // A container that gives itself a route gets no further.
    c1.ns.sh(&format!("ip route add default via {bridge}"));
    let outside = Capture::arriving(&stage.net.router, "lan1");
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    traffic::does_not_answer(&c1.ns, HOST);
    traffic::does_not_answer(&c1.ns, c3.address());
    dropped(&stage.agent, &c1, "policy_internal", 1);
    outside.assert_none("a packet of an internal network", |packet| packet.dst == OUTSIDE);
}

#[test]
fn p60_spoofed_sources_are_dropped_with_their_reason() {
    let (stage, c1, c2) = Stage::with_pair();
    let (own, peer) = (c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    let capture = Capture::arriving(&c2.ns, "eth0");
    let to = format!("{}:9", c2.address());
    let from = format!("{}:9", c1.address());
    let foreign = Frame::udp(&from, &to).macs([2, 0, 0, 0, 0, 9], peer).data(b"spoofed");
    inject(&c1.ns, "eth0", &foreign.bytes());
    dropped(&stage.agent, &c1, "spoofed_mac", 0);
    let stolen = Frame::udp("203.0.113.99:9", &to).macs(own, peer).data(b"spoofed");
    inject(&c1.ns, "eth0", &stolen.bytes());
    dropped(&stage.agent, &c1, "spoofed_ip", 0);
    inject(&c1.ns, "eth0", &arp_claim(own, Ipv4Addr::new(203, 0, 113, 99)));
    dropped(&stage.agent, &c1, "spoofed_arp", 0);
    inject(&c1.ns, "eth0", &Frame::udp(&from, &to).macs(own, peer).vlan(7).bytes());
    dropped(&stage.agent, &c1, "vlan", 0);
    capture.assert_none("a spoofed packet", |packet| packet.bytes().ends_with(b"spoofed"));
    // And the honest one goes on.
    traffic::answers(&c1.ns, c2.address());
}

/// A gratuitous ARP reply that claims an address.
fn arp_claim(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    for _ in 0..2 {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

#[test]
fn a_changed_mac_inside_is_seen_as_spoofed() {
    let (mut stage, c1, c2) = Stage::with_pair();
    traffic::answers(&c1.ns, c2.address());
    // It would put the address back, within seconds.
    stage.agent.kill9();
    c1.ns.sh("ip link set eth0 address 02:00:00:00:00:99");
    traffic::does_not_answer(&c1.ns, c2.address());
    stage.agent.launch();
    stage.agent.wait_ready();
    dropped(&stage.agent, &c1, "spoofed_mac", 0);
}

#[test]
fn drops_are_logged_with_who_and_why() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    traffic::unreachable(&c1.ns, at(c3.address(), 4321));
    wait::wait_until("the drop's event in the log", wait::SOON, || {
        stage.agent.log().lines().any(|line| {
            line.contains("policy_isolation")
                && line.contains(&c3.address().to_string())
                && line.contains("4321")
        })
    });
}
