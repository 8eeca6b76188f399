//! Taking over and giving back, with traffic all along.

use std::fs;

use bascule_tests::{
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer, UdpServer},
};

use crate::{Stage, at, stage::rules};

#[test]
fn n18_docker_is_taken_over_and_given_back_with_nothing_left() {
    let mut stage = Stage::new(&["--live-restore"]);
    let (docker, agent, net) = (&stage.docker, &stage.agent, &stage.net);
    fs::write(docker.config(), "{\n  \"debug\": false\n}").expect("daemon.json");
    docker.ok("network create blue");
    let c1 = docker.container("c1", "bridge", "-p 8080:80 -p 5300:53/udp");
    let c2 = docker.container("c2", "blue", "-p 127.0.0.1:8081:80");
    let c3 = docker.container("c3", "blue", "");
    let _servers = [&c1, &c2].map(|c| (TcpServer::start(&c.ns, 80), UdpServer::start(&c.ns, 53)));
    traffic::reaches(&net.outside, at(HOST, 8080));
    // What would change is said, and nothing is changed.
    let plan = agent.ok("docker adopt --dry-run");
    for words in [
        "\"iptables\": false",
        "\"userland-proxy\": false",
        "-j DOCKER",
        "docker0",
        "blue",
        "c1",
        "80/tcp -> 0.0.0.0:8080",
        "What breaks",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(
        fs::read_to_string(docker.config()).expect("daemon.json"),
        "{\n  \"debug\": false\n}"
    );
    assert!(net.host.ifindex("bascule0").is_some());
    // Inside of a network nothing is translated, and nothing ends.
    let mut inside = Conversation::open(&c3.ns, at(c2.address(), 80)).expect("a connection");
    let said = agent.ok("docker adopt");
    assert!(said.contains("stop Docker's daemon"), "{said}");
    assert!(net.host.ifindex("bascule0").is_none(), "the default network is Docker's");
    inside.say().expect("goes on");
    traffic::reaches(&net.outside, at(HOST, 8080));
    stage.restart_docker("TERM");
    stage.wait_phase("on");
    let (docker, agent, net) = (&stage.docker, &stage.agent, &stage.net);
    stage.settle();
    inside.say().expect("goes on");
    assert_eq!(rules(&net.host), "", "no rule of Docker's is left");
    traffic::reaches(&net.outside, at(HOST, 8080));
    traffic::exchange(&net.outside, at(HOST, 5300), 100);
    // Whoever changes what was written is told of.
    let written = fs::read_to_string(docker.config()).expect("daemon.json");
    fs::write(docker.config(), written.replace("\"iptables\": false", "\"iptables\": true"))
        .expect("daemon.json");
    let status = agent.cli(["docker", "status"]);
    let said = status.stdout.contains("iptables is not as it was written");
    assert!(!status.ok() && said, "{status:?}");
    fs::write(docker.config(), written).expect("daemon.json");
    // Back, byte by byte.
    let said = agent.ok("docker release");
    assert!(said.contains("stop Docker's daemon"), "{said}");
    assert_eq!(
        fs::read_to_string(docker.config()).expect("daemon.json"),
        "{\n  \"debug\": false\n}"
    );
    traffic::reaches(&net.outside, at(HOST, 8080));
    stage.restart_docker("TERM");
    stage.wait_phase("off");
    inside.say().expect("goes on");
    let (agent, net) = (&stage.agent, &stage.net);
    assert!(rules(&net.host).contains("DOCKER"), "Docker makes its rules again");
    traffic::reaches(&net.outside, at(HOST, 8080));
    traffic::answers(&c1.ns, OUTSIDE);
    assert_eq!(agent.ok("ps --quiet"), "");
    assert!(net.host.ifindex("bascule0").is_some());
}
