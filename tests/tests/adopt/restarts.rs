//! The agent and the daemon go and come, one, the other, and both.

use bascule_tests::{
    dockerd::{self, cases::lives},
    process,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
};

use crate::{Stage, at, stage::settle};

#[test]
fn traffic_goes_on_whoever_is_started_again() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    stage.docker.ok("network create -o com.docker.network.bridge.enable_icc=false grey");
    let c1 = stage.docker.container("c1", "grey", "-p 8080:80");
    let c2 = stage.docker.container("c2", "grey", "");
    stage.settle();
    let _server = TcpServer::start(&c1.ns, 80);
    let mut outside = Conversation::open(&stage.net.outside, at(HOST, 8080)).expect("a connection");
    // The agent is killed, and there are new containers before the next one.
    stage.agent.kill9();
    outside.say().expect("goes on without an agent");
    assert_eq!(stage.docker.ok("exec c1 /bin/busybox echo hello"), "hello");
    let c3 = stage.docker.container("c3", "grey", "-p 8083:80");
    let _third = TcpServer::start(&c3.ns, 80);
    traffic::unreachable(&c3.ns, at(c1.address(), 80));
    traffic::unreachable(&c2.ns, at(c3.address(), 80));
    traffic::unreachable(&stage.net.neighbour, at(c3.address(), 80));
    stage.agent.restart();
    stage.settle();
    outside.say().expect("goes on with the next agent");
    traffic::reaches(&stage.net.outside, at(HOST, 8083));
    traffic::unreachable(&c2.ns, at(c3.address(), 80));
    traffic::answers(&c3.ns, OUTSIDE);
    // The daemon is killed; what was there is served, and what has gone meanwhile is missed.
    stage.docker.end("KILL");
    outside.say().expect("goes on without a daemon");
    traffic::reaches(&stage.net.outside, at(HOST, 8083));
    stage.docker.launch();
    stage.docker.wait_ready();
    stage.settle();
    outside.say().expect("goes on with the next daemon");
    // Both at once.
    stage.agent.kill9();
    stage.docker.end("KILL");
    outside.say().expect("goes on without both");
    stage.agent.restart();
    outside.say().expect("goes on with the agent alone");
    stage.docker.launch();
    stage.docker.wait_ready();
    stage.settle();
    outside.say().expect("goes on with both");
    // Stopped and started, a container has other interfaces, and the same ports.
    stage.docker.ok("stop --time 0 c3");
    stage.settle();
    traffic::refused(&stage.net.outside, at(HOST, 8083));
    stage.docker.ok("start c3");
    stage.settle();
    let c3 = stage.docker.open("c3");
    let _third = TcpServer::start(&c3.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8083));
}

#[test]
fn a_container_has_its_policy_before_its_first_packet() {
    let stage = Stage::adopted(&[]);
    stage.docker.ok("network create -o com.docker.network.bridge.enable_icc=false grey");
    stage.docker.ok("network create --internal inner");
    let target = stage.docker.container("target", "grey", "");
    stage.settle();
    let server = TcpServer::start(&target.ns, 80);
    let far = TcpServer::start(&stage.net.outside, 80);
    // Its first process sends at once, to who may not hear it.
    for _ in 0..3 {
        for (network, to) in [("grey", target.address()), ("inner", OUTSIDE)] {
            let image = dockerd::IMAGE;
            let run = format!("run --rm --network {network} {image} /bin/busybox nc -w 1 {to} 80");
            let out = stage.docker.cli(run.split(' '));
            assert!(!out.ok(), "{network} reaches {to}: {}", out.stdout);
        }
    }
    // So does one that runs, by an interface that comes to it.
    let runner = stage.docker.container("runner", "bridge", "");
    let (ns, to) = (runner.ns.clone(), target.address());
    for n in 1..=3 {
        let pinging = format!(
            "for i in $(seq 1 200); do ping -n -c 1 -W 0.01 -I eth{n} {to} && exit 0; sleep 0.005; done; exit 1"
        );
        let pinging = process::start(ns.command("sh").args(["-c", &pinging]));
        stage.docker.ok("network connect grey runner");
        // Docker counts on.
        assert!(ns.ifindex(&format!("eth{n}")).is_some());
        stage.docker.ok("network disconnect grey runner");
        assert!(
            !pinging.finish("ping", process::LIMIT).ok(),
            "a packet came through before the policy"
        );
    }
    assert!(server.peers().is_empty() && far.peers().is_empty());
}

#[test]
fn moby_lc_018_a_daemon_without_live_restore_takes_its_containers_along_and_brings_them_back() {
    let mut stage = Stage::new(&[]);
    // Whose networks are a swarm's is refused, and nothing is changed.
    stage.docker.ok("swarm init --advertise-addr 198.51.100.1 --listen-addr 198.51.100.1");
    let why = stage.agent.refused("docker adopt");
    assert!(why.contains("docker swarm leave"), "{why}");
    assert!(!stage.docker.config().exists());
    stage.docker.ok("swarm leave --force");
    stage.adopt();
    lives::moby_lc_003_moby_lc_005_moby_lc_018_a_daemon_without_live_restore(
        &stage.agent,
        &mut stage.docker,
        &stage.net,
        "",
        settle,
    );
}
