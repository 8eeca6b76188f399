//! The way out: masquerade, and networks without it.

use bascule_tests::{
    capture::{Capture, inject},
    frame::{Frame, ICMP},
    topology::{HOST, NEIGHBOUR, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

#[test]
fn s109_tcp_leaves_with_the_hosts_address() {
    let (stage, c1) = Stage::with_one("");
    let server = TcpServer::start(&stage.net.outside, 80);
    let seen_as = traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    assert_eq!(*seen_as.ip(), HOST);
    assert!((49_152..=65_535).contains(&seen_as.port()), "{seen_as} is outside the range");
    assert_eq!(server.peers(), [seen_as.into()]);
    // A neighbour on the host's own segment, without a router in between.
    let _near = TcpServer::start(&stage.net.neighbour, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(NEIGHBOUR, 80)).ip(), HOST);
    traffic::refused(&c1.ns, at(OUTSIDE, 81));
}

#[test]
fn s109_udp_leaves_with_the_hosts_address() {
    let (stage, c1) = Stage::with_one("");
    let _server = UdpServer::start(&stage.net.outside, 53);
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 64).ip(), HOST);
}

#[test]
fn s109_fragments_leave_and_come_back() {
    let (stage, c1) = Stage::with_one("");
    let _server = UdpServer::start(&stage.net.outside, 53);
    // Three fragments out, three back.
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 4000).ip(), HOST);
    let ping = traffic::ping_with(&c1.ns, OUTSIDE, 3, "-i 0.2 -W 1 -s 4000");
    assert_eq!(ping.received, 3, "{}", ping.text);
}

#[test]
fn s109_echo_leaves_with_the_hosts_address() {
    let (stage, c1) = Stage::with_one("");
    let capture = Capture::arriving(&stage.net.outside, "eth0");
    let ping = traffic::ping(&c1.ns, OUTSIDE, 5);
    assert_eq!(ping.received, 5, "{}", ping.text);
    capture.wait_for("an echo request of the host", |p| p.proto() == ICMP && p.src == HOST);
    capture.assert_none("a container's address outside", |packet| packet.src == c1.address());
}

#[test]
fn der_mq_003_two_containers_ping_with_the_same_identifier() {
    let (stage, c1, c2) = Stage::with_pair();
    let gateway = stage.agent.inspect("network", "n1")["IPAM"]["Config"][0]["Gateway"].clone();
    let gateway = gateway.as_str().expect("a gateway").to_owned();
    for container in [&c1, &c2] {
        container.ns.sh(&format!("ping -c 1 -W 2 {gateway}"));
    }
    let captures = [Capture::arriving(&c1.ns, "eth0"), Capture::arriving(&c2.ns, "eth0")];
    let bridge = stage.net.host.mac(&format!(
        "br-{}",
        &stage.agent.inspect("network", "n1")["Id"].as_str().expect("id")[..12]
    ));
    for container in [&c1, &c2] {
        let from = container.address().to_string();
        let echo = Frame::echo(&from, &OUTSIDE.to_string(), 0x4242);
        let echo = echo.macs(container.ns.mac("eth0"), bridge);
        inject(&container.ns, "eth0", &echo.bytes());
    }
    for (capture, container) in captures.iter().zip([&c1, &c2]) {
        let reply = capture.wait_for("the echo reply", |p| p.src == OUTSIDE);
        let want =
            Frame::echo_reply(&OUTSIDE.to_string(), &container.address().to_string(), 0x4242);
        assert_eq!(reply.body, want.body);
        assert_eq!(reply.dst, container.address());
    }
}

#[test]
fn appendix_d4_the_same_source_port_of_two_containers_is_no_clash() {
    let (stage, c1, c2) = Stage::with_pair();
    let server = UdpServer::start(&stage.net.outside, 53);
    let sockets: Vec<_> = [&c1, &c2]
        .into_iter()
        .map(|container| {
            let socket = container
                .ns
                .run(|| std::net::UdpSocket::bind(at(container.address(), 50_000)))
                .expect("a free port");
            container.ns.run(|| socket.connect(at(OUTSIDE, 53))).expect("connect");
            socket.set_read_timeout(Some(wait::SOON)).expect("a timeout");
            socket
        })
        .collect();
    let mut seen = Vec::new();
    for socket in &sockets {
        seen.push(traffic::udp::ask(socket, 10).expect("an answer"));
    }
    assert_ne!(seen[0], seen[1], "two flows outside must be told apart");
    // Again, interleaved: each keeps its own.
    for (socket, before) in sockets.iter().zip(&seen) {
        assert_eq!(traffic::udp::ask(socket, 10).expect("an answer"), *before);
    }
    assert!(server.peers().iter().all(|peer| peer.ip() == HOST));
}

#[test]
fn a_socket_of_the_hosts_own_in_the_range_is_not_disturbed() {
    let (stage, c1) = Stage::with_one("");
    let _server = UdpServer::start(&stage.net.outside, 53);
    // The host talks to the same server from a port of the range; a container asks for the same port.
    let own = stage.net.host.run(|| std::net::UdpSocket::bind(at(HOST, 50_000))).expect("a port");
    stage.net.host.run(|| own.connect(at(OUTSIDE, 53))).expect("connect");
    own.set_read_timeout(Some(wait::SOON)).expect("a timeout");
    assert_eq!(traffic::udp::ask(&own, 10).expect("an answer"), at(HOST, 50_000));
    let theirs = c1.ns.run(|| std::net::UdpSocket::bind(at(c1.address(), 50_000))).expect("a port");
    c1.ns.run(|| theirs.connect(at(OUTSIDE, 53))).expect("connect");
    theirs.set_read_timeout(Some(wait::SOON)).expect("a timeout");
    let seen_as = traffic::udp::ask(&theirs, 10).expect("an answer");
    assert_ne!(seen_as, at(HOST, 50_000), "the port is the host's");
    assert_eq!(traffic::udp::ask(&own, 10).expect("an answer"), at(HOST, 50_000));
}

#[test]
fn s110_without_masquerade_the_containers_address_leaves() {
    let stage = Stage::new();
    stage.agent.network(
        "n1",
        "--subnet 10.73.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false",
    );
    let c1 = stage.agent.container("c1", "n1", "");
    let _server = TcpServer::start(&stage.net.outside, 80);
    let _udp = UdpServer::start(&stage.net.outside, 53);
    stage.net.route_to_host("10.73.0.0/24");
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), c1.address());
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 4000).ip(), c1.address());
    traffic::answers(&c1.ns, OUTSIDE);
    // What the container did not ask for stays out.
    let _inside = TcpServer::start(&c1.ns, 80);
    traffic::unreachable(&stage.net.outside, at(c1.address(), 80));
    traffic::does_not_answer(&stage.net.outside, c1.address());
}

#[test]
fn s111_containers_are_not_reached_directly_from_outside() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.73.0.0/24");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&c1.ns, 53);
    stage.net.route_to_host("10.73.0.0/24");
    let inside = Capture::arriving(&c1.ns, "eth0");
    for client in [&stage.net.outside, &stage.net.neighbour] {
        traffic::unreachable(client, at(c1.address(), 80));
        traffic::does_not_answer(client, c1.address());
        assert!(traffic::udp::try_exchange(client, at(c1.address(), 53), 10).is_err());
    }
    inside.assert_none("a packet from outside", |p| p.src == OUTSIDE || p.src == NEIGHBOUR);
    wait::wait_until("the drops are counted", wait::SOON, || {
        stage.agent.metrics().drops_anywhere("direct_routing_blocked") >= 6
    });
}

#[test]
fn ip_options_and_unknown_protocols_leave_translated() {
    let (stage, c1) = Stage::with_one("");
    let bridge = format!(
        "br-{}",
        &stage.agent.inspect("network", "n1")["Id"].as_str().expect("an id")[..12]
    );
    let bridge = stage.net.host.mac(&bridge);
    let capture = Capture::arriving(&stage.net.outside, "eth0");
    let from = c1.address().to_string();
    let gre = Frame::raw(&from, &OUTSIDE.to_string(), 47, b"not really gre")
        .macs(c1.ns.mac("eth0"), bridge);
    let router_alert = Frame::udp(&format!("{from}:7"), &format!("{OUTSIDE}:7"))
        .ip_options(&[0x94, 4, 0, 0])
        .macs(c1.ns.mac("eth0"), bridge);
    for frame in [&gre, &router_alert] {
        inject(&c1.ns, "eth0", &frame.bytes());
    }
    for proto in [47, 17] {
        let seen = capture.wait_for("the packet", |packet| packet.proto() == proto);
        assert_eq!(seen.src, HOST, "{seen:?}");
    }
    capture.assert_none("a container's address outside", |packet| packet.src == c1.address());
}

#[test]
fn s105_without_ip_forward_nothing_new_leaves() {
    let (stage, c1) = Stage::with_one("");
    traffic::answers(&c1.ns, OUTSIDE);
    stage.net.host.sysctl_set("net/ipv4/ip_forward", "0");
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    wait::wait_until("the drop is counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "forwarding_off") > 0
    });
    stage.net.host.sysctl_set("net/ipv4/ip_forward", "1");
    traffic::answers(&c1.ns, OUTSIDE);
}
