//! The agent is replaced by another build while containers talk.

use bascule_tests::{
    dockerd::Exec,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
};

use crate::{Stage, at};

#[test]
fn moby_lc_016_a_newer_build_takes_over_and_no_packet_is_lost() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    stage.docker.ok("network create blue");
    let c1 = stage.docker.container("c1", "blue", "-p 8080:80");
    stage.docker.container("c2", "blue", "");
    stage.settle();
    let _server = TcpServer::start(&c1.ns, 80);
    let mut talk = Conversation::open(&stage.net.outside, at(HOST, 8080)).expect("a connection");
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
        stage.settle();
        assert!(stage.agent.ok("status").contains(version), "the newer one is there");
        talk.say().expect("goes on with the newer agent");
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
    }
    for ping in [inside, out] {
        ping.lost_nothing();
    }
}
