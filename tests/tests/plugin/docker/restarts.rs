//! The agent and dockerd come and go, in every manner, while containers talk.

use std::net::SocketAddrV4;

use bascule_tests::{
    dockerd::cases::lives,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation},
    wait,
};

use crate::stage::{DOCKERS, DRIVER, Stage, settle};

#[test]
fn the_agent_goes_and_comes_while_containers_talk() {
    let mut stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    let c1 = stage.docker.container("c1", "n1", "-p 8080:80");
    let c2 = stage.docker.container("c2", "n1", "");
    let _server = traffic::TcpServer::start(&c1.ns, 80);
    let port = SocketAddrV4::new(HOST, 8080);
    let mut talk = Conversation::open(&stage.net.outside, port).expect("a connection");
    // A minute of it, by `docker exec`, through all that follows.
    let line = format!("exec c2 /bin/busybox ping -c 20 -W 2 {}", c1.address());
    let exec = stage.docker.background(&line);
    for _ in 0..2 {
        stage.agent.kill9();
        talk.say().expect("the data plane goes on");
        assert!(stage.docker.pings("c2", "c1"));
        traffic::answers(&c2.ns, OUTSIDE);
        stage.agent.launch();
        stage.agent.wait_ready();
        talk.say().expect("the same connection");
    }
    // In an orderly manner.
    assert_eq!(stage.agent.stop(), 0);
    talk.say().expect("the data plane goes on");
    stage.agent.launch();
    stage.agent.wait_ready();
    talk.say().expect("the same connection");
    traffic::reaches(&stage.net.outside, port);
    let out = exec.finish("docker exec", DOCKERS);
    assert!(out.stdout.contains("20 packets received"), "{out:?}");
    wait::wait_equal("names", DOCKERS, &vec!["c1".to_owned(), "c2".to_owned()], || {
        stage.way().names()
    });
    stage.docker.ok("rm -f c1 c2");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    stage.docker.ok("network rm n1");
}

#[test]
fn moby_lc_016_dockerd_restarts_with_live_restore_under_traffic() {
    let mut stage = Stage::start(&["--live-restore"]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    let c1 = stage.docker.container("c1", "n1", "-p 8080:80");
    let c2 = stage.docker.container("c2", "n1", "");
    let _server = traffic::TcpServer::start(&c1.ns, 80);
    let port = SocketAddrV4::new(HOST, 8080);
    let mut talk = Conversation::open(&stage.net.outside, port).expect("a connection");
    for signal in ["TERM", "KILL"] {
        stage.docker.end(signal);
        talk.say().expect("the data plane goes on");
        traffic::reaches(&stage.net.outside, port);
        traffic::answers(&c2.ns, c1.address());
        stage.docker.launch();
        stage.docker.wait_ready();
        talk.say().expect("the same connection");
        traffic::reaches(&stage.net.outside, port);
        assert!(stage.docker.pings("c2", "c1"));
    }
    stage.docker.ok("rename c1 one");
    wait::wait_equal("the names", DOCKERS, &vec!["c2".to_owned(), "one".to_owned()], || {
        stage.way().names()
    });
    // Nothing was asked of the plugin meanwhile; the end is by the ids of before.
    stage.docker.ok("rm -f one c2");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    stage.docker.ok("network rm n1");
}

#[test]
fn moby_lc_018_dockerd_restarts_without_live_restore() {
    let mut stage = Stage::start(&[]);
    lives::moby_lc_003_moby_lc_005_moby_lc_018_a_daemon_without_live_restore(
        &stage.agent,
        &mut stage.docker,
        &stage.net,
        DRIVER,
        settle,
    );
    assert_eq!(stage.agent.ok("network ls -q").lines().count(), 2);
}
