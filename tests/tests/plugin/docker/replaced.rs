//! The agent is replaced by another build while containers talk.

use std::net::SocketAddrV4;

use bascule_tests::{
    dockerd::Exec,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation},
};

use crate::stage::Stage;

#[test]
fn a_newer_build_takes_over_and_no_packet_is_lost() {
    let mut stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    let c1 = stage.docker.container("c1", "n1", "-p 8080:80");
    stage.docker.container("c2", "n1", "");
    let _server = traffic::TcpServer::start(&c1.ns, 80);
    let port = SocketAddrV4::new(HOST, 8080);
    let mut talk = Conversation::open(&stage.net.outside, port).expect("a connection");
    let inside = Exec::ping(&stage.docker, "c2", c1.address());
    let out = Exec::ping(&stage.docker, "c1", OUTSIDE);
    for (version, orderly) in [("0.1.8", true), ("0.1.9", false)] {
        stage.agent.rebuild(version);
        if orderly {
            assert_eq!(stage.agent.stop(), 0);
        } else {
            stage.agent.kill9();
        }
        talk.say().expect("goes on without an agent");
        stage.agent.launch();
        stage.agent.wait_ready();
        assert!(stage.agent.ok("status").contains(version), "the newer one is there");
        talk.say().expect("goes on with the newer agent");
        traffic::reaches(&stage.net.outside, port);
        // It answers Docker as the one before did.
        stage.docker.container("c3", "n1", "-p 8081:80");
        assert_eq!(stage.ports("c3"), ["80/tcp -> 0.0.0.0:8081"]);
        stage.docker.ok("rm --force c3");
    }
    for ping in [inside, out] {
        ping.lost_nothing();
    }
}
