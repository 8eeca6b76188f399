//! The agent ends in order, is away while Docker wants something, and finds out what it missed.

use std::{fs, net::SocketAddrV4, thread, time::Duration};

use bascule_tests::{
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};

use crate::stage::{DOCKERS, Stage};

#[test]
fn an_agent_that_ends_in_order_fails_nobodys_start() {
    let mut stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    // At other moments of a start each time: before the first request, between two, within one.
    for (n, millis) in [0, 60, 120, 200, 320].into_iter().enumerate() {
        let line = format!(
            "run --detach --name c{n} --network n1 -p 80{n}0:80 busybox /bin/busybox sleep 1000"
        );
        let run = stage.docker.background(&line);
        thread::sleep(Duration::from_millis(millis));
        assert_eq!(stage.agent.stop(), 0);
        stage.agent.launch();
        stage.agent.wait_ready();
        let out = run.finish("docker run", DOCKERS);
        assert!(out.ok(), "stopped after {millis} ms: {}", out.stderr);
        let c = stage.docker.open(&format!("c{n}"));
        let _server = TcpServer::start(&c.ns, 80);
        traffic::reaches(&stage.net.outside, SocketAddrV4::new(HOST, 8000 + 10 * n as u16));
    }
    // And of an end.
    for (n, millis) in [0, 60, 120, 200, 320].into_iter().enumerate() {
        let rm = stage.docker.background(&format!("rm -f c{n}"));
        thread::sleep(Duration::from_millis(millis));
        assert_eq!(stage.agent.stop(), 0);
        stage.agent.launch();
        stage.agent.wait_ready();
        let out = rm.finish("docker rm", DOCKERS);
        assert!(out.ok(), "stopped after {millis} ms: {}", out.stderr);
    }
    assert_eq!(stage.agent.ok("ps -aq"), "");
    stage.docker.ok("network rm n1");
}

#[test]
fn what_was_missed_is_found_out() {
    let mut stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    drop(stage.docker.container("c1", "n1", "-p 8080:80"));
    wait::wait_equal("a name", DOCKERS, &vec!["c1".to_owned()], || stage.way().names());
    // One starts, and one stops, while nobody is there: Docker waits.
    stage.agent.kill9();
    let start = stage.docker.background(
        "run --detach --name c2 --network n1 -p 8081:80 busybox /bin/busybox sleep 1000",
    );
    let stop = stage.docker.background("stop --time 0 c1");
    stage.docker.ok("network ls");
    stage.agent.launch();
    stage.agent.wait_ready();
    let (start, stop) = (start.finish("docker run", DOCKERS), stop.finish("docker stop", DOCKERS));
    assert!(start.ok() && stop.ok(), "{start:?} {stop:?}");
    let c2 = stage.docker.open("c2");
    let server = TcpServer::start(&c2.ns, 80);
    traffic::reaches(&stage.net.outside, SocketAddrV4::new(HOST, 8081));
    traffic::refused(&stage.net.outside, SocketAddrV4::new(HOST, 8080));
    wait::wait_equal("who is there", DOCKERS, &vec!["c2".to_owned()], || stage.way().names());
    // A rename that nobody heard of.
    stage.agent.kill9();
    stage.docker.ok("rename c2 two");
    stage.agent.launch();
    stage.agent.wait_ready();
    wait::wait_equal("the new name", DOCKERS, &vec!["two".to_owned()], || stage.way().names());
    drop((server, c2));
    stage.docker.ok("rm -f c1 two");
    // All that it knew is lost; Docker still has the network.
    stage.agent.kill9();
    fs::remove_dir_all(stage.agent.places.state()).expect("the store");
    fs::create_dir(stage.agent.places.state()).expect("a directory");
    stage.agent.launch();
    stage.agent.wait_ready();
    wait::wait_until("the network", DOCKERS, || {
        stage.docker.ok("ps -q").is_empty() && stage.agent.ok("network ls").contains(" n1 ")
    });
    let c3 = stage.docker.container("c3", "n1", "-p 8082:80");
    let _server = TcpServer::start(&c3.ns, 80);
    traffic::reaches(&stage.net.outside, SocketAddrV4::new(HOST, 8082));
    stage.docker.ok("rm -f c3");
    stage.docker.ok("network rm n1");
    assert_eq!(stage.agent.ok("ps -aq"), "");
}
