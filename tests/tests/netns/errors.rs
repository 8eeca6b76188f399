//! ICMP errors through every translation, and path MTU.

use std::{
    io::ErrorKind,
    net::{SocketAddrV4, UdpSocket},
};

use bascule_tests::{
    Netns,
    capture::Capture,
    frame::{Body, Frame},
    topology::{HOST, OUTSIDE, ROUTER},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at};

/// A datagram to a closed port, and the refusal that comes back to the socket.
#[track_caller]
fn refused_over_udp(ns: &Netns, to: SocketAddrV4) {
    let socket = traffic::udp::client(ns, to).expect("a socket");
    let error = wait::wait_for("a refusal", wait::SOON, || {
        socket.send(b"anybody there?").ok();
        socket.recv(&mut [0; 16]).err().filter(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{} to {to}: {error}", ns.name());
}

/// The packet that an ICMP error quotes.
fn quote(error: &Frame) -> Frame {
    let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?} is no ICMP") };
    Frame::parse_ip(payload).expect("a quote")
}

fn is_error(packet: &Frame, wanted: u8) -> bool {
    matches!(packet.body, Body::Icmp { kind, .. } if kind == wanted)
}

#[test]
fn unreachable_comes_back_through_masquerade() {
    let (_stage, c1) = Stage::with_one("");
    let capture = Capture::arriving(&c1.ns, "eth0");
    refused_over_udp(&c1.ns, at(OUTSIDE, 4000));
    let error = capture.wait_for("the error", |packet| is_error(packet, 3));
    assert_eq!((error.src, error.dst), (OUTSIDE.into(), c1.address().into()));
    assert_eq!(quote(&error).src, c1.address(), "the quote is the packet as it was sent");
}

#[test]
fn unreachable_goes_out_through_a_published_port() {
    let (stage, c1) = Stage::with_one("-p 4000:40/udp");
    let capture = Capture::arriving(&stage.net.outside, "eth0");
    refused_over_udp(&stage.net.outside, at(HOST, 4000));
    let error = capture.wait_for("the error", |packet| is_error(packet, 3));
    assert_eq!((error.src, error.dst), (HOST.into(), OUTSIDE.into()));
    let quoted = quote(&error);
    assert_eq!((quoted.dst, quoted.ports().map(|p| p.1)), (HOST.into(), Some(4000)));
    capture.assert_none("a container's address", |packet| packet.src == c1.address());
}

#[test]
fn unreachable_comes_back_through_every_hairpin() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let server = stage.agent.container("server", "n1", "-p 4000:40/udp");
    let near = stage.agent.container("near", "n1", "");
    let far = stage.agent.container("far", "n2", "");
    for client in [&server, &near, &far] {
        refused_over_udp(&client.ns, at(HOST, 4000));
    }
}

#[test]
fn der_mq_003_time_exceeded_comes_back_through_masquerade() {
    let (_stage, c1) = Stage::with_one("");
    let capture = Capture::arriving(&c1.ns, "eth0");
    // Two hops: the host and the router.
    let socket = c1.ns.run(|| UdpSocket::bind(at(c1.address(), 0))).expect("a socket");
    socket.set_ttl(2).expect("a TTL");
    c1.ns.run(|| socket.send_to(b"traceroute", at(OUTSIDE, 33_434))).expect("send");
    let error = capture.wait_for("time exceeded", |packet| is_error(packet, 11));
    assert_eq!(error.dst, c1.address());
    assert_eq!(error.src, ROUTER, "a router on the way keeps its address");
    assert_eq!(quote(&error).src, c1.address());
}

#[test]
fn time_exceeded_is_made_at_the_host_itself() {
    let (stage, c1) = Stage::with_one("");
    let gateway = stage.agent.inspect("network", "n1")["IPAM"]["Config"][0]["Gateway"].clone();
    let ping = traffic::ping_with(&c1.ns, OUTSIDE, 1, "-W 2 -t 1");
    assert_eq!(ping.received, 0);
    assert!(ping.text.contains("Time to live exceeded"), "{}", ping.text);
    assert!(ping.text.contains(gateway.as_str().expect("a gateway")), "{}", ping.text);
}

#[test]
fn n27_frag_needed_comes_back_through_masquerade_and_uploads_finish() {
    let (stage, c1) = Stage::with_one("");
    stage.net.narrow(1280);
    let capture = Capture::arriving(&c1.ns, "eth0");
    let upload = traffic::iperf(&stage.net.outside, 5201, &c1.ns, at(OUTSIDE, 5201), 1, "");
    assert!(upload.received > 100_000, "{upload:?}");
    let error = capture.wait_for("fragmentation needed", |packet| {
        matches!(packet.body, Body::Icmp { kind: 3, code: 4, .. })
    });
    assert_eq!(error.dst, c1.address());
    assert_eq!(quote(&error).src, c1.address());
    let routes = c1.ns.sh(&format!("ip route get {OUTSIDE}"));
    assert!(routes.contains("mtu 1280"), "the container learned the path's MTU: {routes}");
}

#[test]
fn frag_needed_comes_in_through_a_published_port_and_downloads_finish() {
    let (stage, c1) = Stage::with_one("-p 5201:5201");
    stage.net.narrow(1280);
    let capture = Capture::arriving(&c1.ns, "eth0");
    let download = traffic::iperf(&c1.ns, 5201, &stage.net.outside, at(HOST, 5201), 1, "-R");
    assert!(download.received > 100_000, "{download:?}");
    let error = capture.wait_for("fragmentation needed", |packet| {
        matches!(packet.body, Body::Icmp { kind: 3, code: 4, .. })
    });
    assert_eq!(quote(&error).src, c1.address());
    let routes = c1.ns.sh(&format!("ip route get {OUTSIDE}"));
    assert!(routes.contains("mtu 1280"), "the container learned the path's MTU: {routes}");
}

#[test]
fn a_narrow_uplink_of_the_hosts_own_is_announced_too() {
    let (stage, c1) = Stage::with_one("");
    stage.net.host.sh("ip link set up0 mtu 1400");
    stage.net.router.sh("ip link set lan1 mtu 1400");
    wait::wait_until("the container is told", wait::SOON, || {
        let ping = traffic::ping_with(&c1.ns, OUTSIDE, 1, "-W 1 -M do -s 1450");
        ping.text.contains("mtu = 1400") || ping.text.contains("mtu=1400")
    });
    let upload = traffic::iperf(&stage.net.outside, 5201, &c1.ns, at(OUTSIDE, 5201), 1, "");
    assert!(upload.received > 100_000, "{upload:?}");
}

#[test]
fn a_forged_error_about_no_flow_goes_nowhere() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let capture = Capture::arriving(&c1.ns, "eth0");
    let about = Frame::tcp(&format!("{HOST}:50000"), &format!("{OUTSIDE}:80"));
    let forged = Frame::error(&OUTSIDE.to_string(), &HOST.to_string(), 3, 1, 0, &about);
    let forged = forged.macs(stage.net.neighbour.mac("eth0"), stage.net.host.mac("up0"));
    bascule_tests::capture::inject(&stage.net.neighbour, "eth0", &forged.bytes());
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    capture.assert_none("the forged error", |packet| is_error(packet, 3));
}
