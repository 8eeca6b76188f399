//! Checksums as a wire would carry them: every frame of every translation, verified by code that shares
//! nothing with the data plane's.

use bascule_tests::{
    Netns,
    capture::Capture,
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

/// Turns off what would leave checksums unfinished on the outside's path and in a container.
fn plain_wires(stage: &Stage, containers: &[&Netns]) {
    stage.net.host.offloads_off(UPLINK);
    stage.net.router.offloads_off("lan1");
    stage.net.router.offloads_off("wan0");
    stage.net.outside.offloads_off("eth0");
    for container in containers {
        container.offloads_off("eth0");
    }
}

/// Waits until the capture has seen something from or to the port, and verifies all of it.
#[track_caller]
fn verify(captures: &[&Capture], port: u16) {
    for capture in captures {
        capture.wait_for(&format!("a packet of port {port}"), |packet| {
            packet.ports().is_some_and(|(a, b)| a == port || b == port)
        });
        assert!(capture.verify() > 2);
    }
}

#[test]
fn of_masqueraded_traffic() {
    let (stage, c1) = Stage::with_one("");
    plain_wires(&stage, &[&c1.ns]);
    let outside = Capture::both_ways(&stage.net.outside, "eth0");
    let inside = Capture::both_ways(&c1.ns, "eth0");
    let _tcp = TcpServer::start(&stage.net.outside, 80);
    let _udp = UdpServer::start(&stage.net.outside, 53);
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    verify(&[&outside, &inside], 80);
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 100);
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 4000);
    verify(&[&outside, &inside], 53);
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::refused(&c1.ns, at(OUTSIDE, 81));
    verify(&[&outside, &inside], 81);
}

#[test]
fn of_traffic_to_a_published_port() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 8053:53/udp -p 8054:54/udp");
    plain_wires(&stage, &[&c1.ns]);
    let outside = Capture::both_ways(&stage.net.outside, "eth0");
    let inside = Capture::both_ways(&c1.ns, "eth0");
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&c1.ns, 53);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::exchange(&stage.net.outside, at(HOST, 8053), 100);
    traffic::exchange(&stage.net.outside, at(HOST, 8053), 4000);
    verify(&[&outside], 8080);
    verify(&[&inside], 80);
    // An ICMP error and its quote.
    let socket = traffic::udp::client(&stage.net.outside, at(HOST, 8054)).expect("a socket");
    socket.send(b"closed").expect("send");
    wait::wait_until("the refusal", wait::SOON, || {
        outside.packets().iter().any(|packet| packet.proto() == 1 && packet.src == HOST)
    });
    verify(&[&outside], 8053);
    verify(&[&inside], 53);
}

#[test]
fn of_hairpins() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let server = stage.agent.container("server", "n1", "-p 8080:80 -p 8053:53/udp");
    let near = stage.agent.container("near", "n1", "");
    let far = stage.agent.container("far", "n2", "");
    plain_wires(&stage, &[&server.ns, &near.ns, &far.ns]);
    let at_server = Capture::both_ways(&server.ns, "eth0");
    let _tcp = TcpServer::start(&server.ns, 80);
    let _udp = UdpServer::start(&server.ns, 53);
    for client in [&near, &far, &server] {
        let at_client = Capture::both_ways(&client.ns, "eth0");
        traffic::reaches(&client.ns, at(HOST, 8080));
        traffic::exchange(&client.ns, at(HOST, 8053), 100);
        verify(&[&at_client], 8080);
        verify(&[&at_client], 8053);
    }
    verify(&[&at_server], 80);
    verify(&[&at_server], 53);
}

#[test]
fn of_what_offloads_left_to_be_finished() {
    // The container's own stack leaves checksums to the device; the last link of the path finishes them.
    let (stage, c1) = Stage::with_one("");
    stage.net.router.offloads_off("lan1");
    stage.net.router.offloads_off("wan0");
    stage.net.host.sh("ethtool -K up0 tx off tso off gso off");
    let _tcp = TcpServer::start(&stage.net.outside, 80);
    let outside = Capture::arriving(&stage.net.outside, "eth0");
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    verify(&[&outside], 80);
}
