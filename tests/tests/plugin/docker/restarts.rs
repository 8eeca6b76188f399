//! The agent and dockerd come and go, in every manner, while containers talk.

use std::{net::SocketAddrV4, process::Command};

use bascule_tests::{
    Agent, process,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation},
    wait,
};

use crate::stage::{DOCKERS, Stage, listed};

fn names(agent: &Agent) -> Vec<String> {
    let name = |c: &serde_json::Value| {
        c["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned()
    };
    let mut names: Vec<_> = listed(agent).iter().map(name).collect();
    names.sort();
    names
}

/// A `docker` that runs while other things happen.
fn in_background(stage: &Stage, line: &str) -> process::Running {
    let mut command: Command = stage.net.host.command("docker");
    command.env("DOCKER_HOST", stage.docker.url()).args(line.split_whitespace());
    process::start(&mut command)
}

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
    let exec = in_background(&stage, &line);
    for _ in 0..2 {
        stage.agent.kill9();
        talk.say().expect("the data plane goes on");
        stage.exec("c2", "ping -c 1 -W 2 c1");
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
        names(&stage.agent)
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
        stage.exec("c2", "ping -c 1 -W 5 c1");
    }
    stage.docker.ok("rename c1 one");
    wait::wait_equal("the names", DOCKERS, &vec!["c2".to_owned(), "one".to_owned()], || {
        names(&stage.agent)
    });
    // Nothing was asked of the plugin meanwhile; the end is by the ids of before.
    stage.docker.ok("rm -f one c2");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    stage.docker.ok("network rm n1");
}

#[test]
fn moby_lc_018_dockerd_restarts_without_live_restore() {
    let mut stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    stage.docker.container("always", "n1", "--restart always -p 8080:80");
    stage.docker.container("once", "n1", "-p 8081:80");
    for signal in ["KILL", "TERM"] {
        stage.docker.end(signal);
        stage.docker.launch();
        stage.docker.wait_ready();
        // Once: its former endpoint is gone, whether anybody said so or not.
        wait::wait_equal("who runs", DOCKERS, &vec!["always".to_owned()], || names(&stage.agent));
        let id =
            stage.docker.inspect("container", "always")["Id"].as_str().expect("an id").to_owned();
        let always = stage.docker.open("always", &id);
        let _server = traffic::TcpServer::start(&always.ns, 80);
        traffic::reaches(&stage.net.outside, SocketAddrV4::new(HOST, 8080));
        traffic::answers(&always.ns, OUTSIDE);
        assert_eq!(stage.ports("always"), ["80/tcp -> 0.0.0.0:8080"]);
    }
    stage.docker.ok("start once");
    assert_eq!(stage.ports("once"), ["80/tcp -> 0.0.0.0:8081"]);
    stage.docker.ok("rm -f always once");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    // What Docker did not say, as nobody was there: it is seen that it knows the network no more.
    stage.docker.ok("network rm n1");
    assert_eq!(stage.agent.ok("network ls -q").lines().count(), 2);
}
