//! Addresses and ports that change hands: the new holder never gets what was meant for the old one.

use std::net::UdpSocket;

use bascule_tests::{
    capture::Capture,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

#[test]
fn cni_mq_001_an_address_re_used_at_once_gets_none_of_the_old_flows_packets() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.74.0.0/24");
    let old = stage.agent.container("old", "n1", "--ip 10.74.0.9");
    // The outside keeps sending to the old container's masqueraded flow.
    let server = UdpServer::start(&stage.net.outside, 53);
    let seen_as = traffic::exchange(&old.ns, at(OUTSIDE, 53), 10);
    drop(server);
    // A process that is being started may hold a copy of the server's socket for a moment.
    let sender = wait::wait_for("the server's port", wait::SOON, || {
        stage.net.outside.run(|| UdpSocket::bind(at(OUTSIDE, 53))).ok()
    });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let thread = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                sender.send_to(b"for the old one", seen_as).ok();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        })
    };
    for round in 0..5 {
        let name = if round == 0 { "old".to_owned() } else { format!("c{round}") };
        stage.agent.ok(&format!("container rm -f {name}"));
        let next = format!("c{}", round + 1);
        let new = stage.agent.container(&next, "n1", "--ip 10.74.0.9");
        let capture = Capture::arriving(&new.ns, "eth0");
        // Its own traffic to the very same server works, and is its own.
        traffic::answers(&new.ns, OUTSIDE);
        capture.assert_none("a packet of the old flow", |packet| {
            packet.bytes().ends_with(b"for the old one")
        });
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().expect("the sender");
}

#[test]
fn n14_n15_a_published_udp_port_moves_with_its_container() {
    // The pain of Docker: conntrack remembers the old container, and the new one gets nothing.
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let first = stage.agent.container("first", "n1", "-p 4000:40/udp");
    let client = traffic::udp::client(&stage.net.outside, at(HOST, 4000)).expect("a socket");
    client.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
    let server = UdpServer::start(&first.ns, 40);
    traffic::udp::ask(&client, 10).expect("an answer of the first");
    drop(server);
    stage.agent.ok("container rm -f first");
    let second = stage.agent.container("second", "n1", "-p 4000:40/udp");
    let server = UdpServer::start(&second.ns, 40);
    // Same client, same port: the next datagram is the new container's.
    wait::wait_until("an answer of the second", wait::SOON, || {
        traffic::udp::ask(&client, 10).is_ok()
    });
    assert!(!server.peers().is_empty());
}

#[test]
fn a_removed_container_is_gone_for_everybody() {
    let (stage, c1, c2) = Stage::with_pair();
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::reaches(&c1.ns, at(c2.address(), 80));
    let address = c2.address();
    stage.agent.ok("container rm -f c2");
    traffic::unreachable(&c1.ns, at(address, 80));
    // Whole words: an identifier may contain the name.
    assert!(!stage.agent.ok("container ls -a").split_whitespace().any(|word| word == "c2"));
}
