//! Uplinks are followed: addresses that change, interfaces that come and go.

use std::net::Ipv4Addr;

use bascule_tests::{
    Agent, Netns, Topology,
    agent::Settings,
    topology::{HOST, OUTSIDE, UPLINK, veth},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at};

const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

#[test]
fn a_changed_address_is_masqueraded_with() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _far = TcpServer::start(&stage.net.outside, 80);
    let _server = TcpServer::start(&c1.ns, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
    // As DHCP does it: a new lease.
    let host = &stage.net.host;
    host.sh(&format!("ip addr del {HOST}/24 dev {UPLINK}"));
    host.sh(&format!("ip addr add {SECOND}/24 dev {UPLINK}"));
    host.sh("ip route replace default via 198.51.100.254");
    // A connection caught in the change is lost to the old address, and the client is slow to see it.
    wait::wait_until("new flows leave with the new address", wait::START, || {
        traffic::Conversation::open(&c1.ns, at(OUTSIDE, 80))
            .is_ok_and(|conversation| *conversation.seen_as.ip() == SECOND)
    });
    traffic::reaches(&stage.net.outside, at(SECOND, 8080));
}

#[test]
fn a_new_interface_becomes_an_uplink() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let peer = Netns::new("peer");
    veth(&stage.net.host, "up1", &peer, "eth0");
    stage.net.host.sh("ip addr add 203.0.113.129/25 dev up1");
    peer.sh("ip addr add 203.0.113.130/25 dev eth0");
    let (host, far) = (Ipv4Addr::new(203, 0, 113, 129), Ipv4Addr::new(203, 0, 113, 130));
    wait::wait_until("published ports answer there", wait::SOON, || {
        traffic::Conversation::open(&peer, at(host, 8080)).is_ok()
    });
    let _far = TcpServer::start(&peer, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(far, 80)).ip(), host);
    // And it goes.
    stage.net.host.sh("ip link del up1");
    traffic::answers(&c1.ns, OUTSIDE);
    wait::wait_until("its programs are gone", wait::SOON, || {
        !stage.agent.metrics().text.contains("iface=\"up1\"")
    });
}

#[test]
fn a_moved_default_route_is_followed() {
    let (stage, c1) = Stage::with_one("");
    let _far = TcpServer::start(&stage.net.outside, 80);
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    // A second line to the same router.
    veth(&stage.net.host, "up1", &stage.net.router, "lan3");
    stage.net.host.sh("ip addr add 10.99.1.1/24 dev up1");
    stage.net.router.sh("ip addr add 10.99.1.254/24 dev lan3");
    stage.net.host.sh("ip route replace default via 10.99.1.254 dev up1");
    wait::wait_until("new flows leave by the new line", wait::SOON, || {
        traffic::Conversation::open(&c1.ns, at(OUTSIDE, 80))
            .is_ok_and(|conversation| conversation.seen_as.ip().to_string() == "10.99.1.1")
    });
}

#[test]
fn uplink_narrows_where_ports_answer() {
    let net = Topology::new();
    let peer = Netns::new("peer");
    veth(&net.host, "lab0", &peer, "eth0");
    net.host.sh("ip addr add 10.99.2.1/24 dev lab0");
    peer.sh("ip addr add 10.99.2.2/24 dev eth0");
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--uplink", "up*"]));
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8080));
    traffic::refused(&peer, at(Ipv4Addr::new(10, 99, 2, 1), 8080));
    traffic::does_not_answer(&c1.ns, Ipv4Addr::new(10, 99, 2, 2));
    let stage = Stage { agent, net };
    wait::wait_until("the reason is counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "no_uplink") > 0
    });
}
