//! What becomes of endpoints and ports when the agent or a sandbox ends, when many come at once, and when others meddle;
//! the protocol is spoken by hand.

use std::{net::SocketAddrV4, thread};

use bascule_tests::{Netns, Topology, topology::HOST, traffic, wait};
use serde_json::{Value, json};

use crate::caller::{agent, endpoint, network, port, take};

#[test]
fn what_is_asked_again_is_answered_again_whenever_the_agent_is_killed() {
    let net = Topology::new();
    let (mut agent, docker) = agent(&net.host);
    let (n1, e1, key) = (network(1), endpoint(1), "/run/docker/netns/000000000001");
    let ports = [port(6, 80, 8080)];
    let mut again = |step: &dyn Fn() -> Value| {
        let first = step();
        agent.restart();
        assert_eq!(step(), first);
        assert_eq!(step(), first);
    };
    again(&|| docker.create_network(&n1, 1, &json!({"com.docker.network.driver.mtu": "1400"})));
    again(&|| docker.create_endpoint(&n1, &e1, "10.82.1.2/24"));
    again(&|| docker.join(&n1, &e1, key));
    let sandbox = Netns::new("sandbox");
    let source = format!("bsp{}", &e1[..8]);
    assert!(net.host.sh(&format!("ip link show dev {source}")).contains("mtu 1400"));
    take(&net.host, &source, &sandbox, "10.82.1.2/24", "10.82.1.1");
    let _server = traffic::TcpServer::start(&sandbox, 80);
    again(&|| docker.program(&n1, &e1, &ports));
    traffic::reaches(&net.outside, SocketAddrV4::new(HOST, 8080));
    assert!(docker.try_join(&n1, &e1, "/other").is_err(), "it is in another sandbox");
    again(&|| docker.revoke(&n1, &e1));
    again(&|| docker.leave(&n1, &e1));
    again(&|| docker.delete_endpoint(&n1, &e1));
    again(&|| docker.delete_network(&n1));
    assert_eq!(agent.ok("ps -aq"), "");
}

#[test]
fn a_crash_at_every_line_leaves_what_dockerd_can_ask_again_for() {
    let host = Netns::new("host");
    let (mut agent, docker) = agent(&host);
    let (n1, e1) = (network(1), endpoint(1));
    let settings = agent.settings().clone();
    let empty = host.interfaces();
    let mut crashes = 0;
    // What comes before the socket is there is the business of others.
    for at in (1..).step_by(if std::env::var_os("BASCULE_TEST_FULL").is_some() { 1 } else { 9 }) {
        agent.kill9();
        agent.launch_with(&settings.clone().env("BASCULE_CRASH_AT", &at.to_string()));
        let steps: [(&str, Value); 6] = [
            ("CreateNetwork", docker.network_body(&n1, 1, &json!({}))),
            ("CreateEndpoint", docker.endpoint_body(&n1, &e1, "10.82.1.2/24")),
            ("Join", json!({"NetworkID": n1, "EndpointID": e1, "SandboxKey": "/x"})),
            (
                "ProgramExternalConnectivity",
                json!({"NetworkID": n1, "EndpointID": e1,
                "Options": {"com.docker.network.portmap": [port(6, 80, 8080)]}}),
            ),
            ("DeleteEndpoint", json!({"NetworkID": n1, "EndpointID": e1})),
            ("DeleteNetwork", json!({"NetworkID": n1})),
        ];
        let mut crashed = false;
        for (method, body) in steps {
            // As dockerd does: it tries again until somebody answers.
            wait::wait_until("an answer", wait::START, || {
                if agent.has_ended() {
                    crashed = true;
                    agent.reap();
                    agent.launch();
                    agent.wait_ready();
                }
                docker.try_call(&format!("NetworkDriver.{method}"), &body).is_some_and(|answer| {
                    assert!(answer.get("Err").is_none(), "{method} after point {at}: {answer}");
                    true
                })
            });
        }
        assert_eq!(host.interfaces(), empty, "after a crash at point {at}");
        assert_eq!(agent.ok("ps -aq"), "", "after a crash at point {at}");
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 4, "only {crashes} points were reached");
}

#[test]
fn fifty_containers_at_once_come_and_go() {
    let net = Topology::new();
    let (agent, docker) = agent(&net.host);
    let n1 = network(1);
    docker.create_network(&n1, 1, &json!({}));
    let bridges = net.host.interfaces();
    let each = |work: &(dyn Fn(u8, &str) + Sync)| {
        thread::scope(|scope| {
            for number in 0..50 {
                scope.spawn(move || work(number, &endpoint(number + 1)));
            }
        });
    };
    each(&|number, id| {
        docker.create_endpoint(&n1, id, &format!("10.82.1.{}/24", number + 10));
        docker.join(&n1, id, &format!("/run/docker/netns/{number:012}"));
        docker.program(&n1, id, &[port(6, 80, 0), port(6, 443, 30_000 + u16::from(number))]);
    });
    let shown = agent.ok("ps -q");
    assert_eq!(shown.lines().count(), 50);
    let ports = agent.ok("ps --format {{.Ports}}");
    for number in 0..50 {
        assert!(ports.contains(&format!("0.0.0.0:{}->443/tcp", 30_000 + number)), "{ports}");
    }
    each(&|_, id| {
        docker.revoke(&n1, id);
        docker.leave(&n1, id);
        docker.delete_endpoint(&n1, id);
    });
    assert_eq!(agent.ok("ps -aq"), "");
    assert_eq!(net.host.interfaces(), bridges);
}

#[test]
fn a_sandbox_that_is_gone_takes_its_endpoint_along() {
    let net = Topology::new();
    let (mut agent, docker) = agent(&net.host);
    let (n1, key) = (network(1), "/run/docker/netns/000000000001");
    docker.create_network(&n1, 1, &json!({}));
    for killed in [false, true] {
        let e1 = endpoint(if killed { 2 } else { 1 });
        docker.create_endpoint(&n1, &e1, "10.82.1.2/24");
        docker.join(&n1, &e1, key);
        let sandbox = Netns::new("sandbox");
        let source = format!("bsp{}", &e1[..8]);
        take(&net.host, &source, &sandbox, "10.82.1.2/24", "10.82.1.1");
        docker.program(&n1, &e1, &[port(6, 80, 8080)]);
        // dockerd and the container die, and nobody says a word.
        if killed {
            agent.kill9();
        }
        drop(sandbox);
        if killed {
            agent.launch();
            agent.wait_ready();
        }
        wait::wait_until("the end of the endpoint", wait::SOON, || agent.ok("ps -aq").is_empty());
    }
    // The next life has the same address and port.
    let e3 = endpoint(3);
    docker.create_endpoint(&n1, &e3, "10.82.1.2/24");
    docker.join(&n1, &e3, "/run/docker/netns/000000000003");
    docker.program(&n1, &e3, &[port(6, 80, 8080)]);
    // And one whose former life nobody has seen end: Docker decides who has an address.
    let e4 = endpoint(4);
    docker.create_endpoint(&n1, &e4, "10.82.1.2/24");
    docker.join(&n1, &e4, "/run/docker/netns/000000000004");
    docker.program(&n1, &e4, &[port(6, 80, 8080)]);
    assert_eq!(agent.ok("ps -aq").lines().count(), 1);
}

#[test]
fn ports_clash_move_and_come_back() {
    let net = Topology::new();
    let (agent, docker) = agent(&net.host);
    let (n1, n2, e1, e2, e3) = (network(1), network(2), endpoint(1), endpoint(2), endpoint(3));
    docker.create_network(&n1, 1, &json!({}));
    docker.create_network(&n2, 2, &json!({}));
    for (network, endpoint, address, key) in [
        (&n1, &e1, "10.82.1.2/24", "/run/docker/netns/a"),
        (&n2, &e2, "10.82.2.2/24", "/run/docker/netns/a"),
        (&n1, &e3, "10.82.1.3/24", "/run/docker/netns/b"),
    ] {
        docker.create_endpoint(network, endpoint, address);
        docker.join(network, endpoint, key);
    }
    assert_eq!(agent.ok("ps -aq").lines().count(), 2, "two endpoints are of one container");
    docker.program(&n1, &e1, &[port(6, 80, 8080)]);
    let why = docker.try_program(&n1, &e3, &[port(6, 81, 8081), port(6, 80, 8080)]);
    let why = why.expect_err("the port is taken");
    assert_eq!(why, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    let listener = net.host.run(|| std::net::TcpListener::bind("0.0.0.0:8090")).expect("free");
    let why = docker.try_program(&n1, &e3, &[port(6, 80, 8090)]).expect_err("taken");
    assert_eq!(why, "failed to bind host port 0.0.0.0:8090/tcp: address already in use");
    drop(listener);
    // Nothing of it was programmed.
    docker.program(&n1, &e3, &[port(6, 81, 8081)]);
    docker.revoke(&n1, &e3);
    // The gateway moves: one is told to let go, the other one takes over.
    docker.revoke(&n1, &e1);
    docker.program(&n2, &e2, &[port(6, 80, 8080)]);
    assert!(agent.ok("ps").contains("0.0.0.0:8080->80/tcp"));
    docker.revoke(&n2, &e2);
    docker.leave(&n2, &e2);
    docker.program(&n1, &e1, &[port(6, 80, 8080)]);
    docker.delete_endpoint(&n2, &e2);
    assert!(agent.ok("ps").contains("0.0.0.0:8080->80/tcp"));
    // The end of the endpoint is that of its ports.
    docker.delete_endpoint(&n1, &e1);
    docker.program(&n1, &e3, &[port(6, 80, 8080)]);
}

#[test]
fn what_is_dockers_is_left_to_docker() {
    let (agent, docker) = agent(&Netns::new("host"));
    let (n1, e1) = (network(1), endpoint(1));
    docker.create_network(&n1, 1, &json!({}));
    docker.create_endpoint(&n1, &e1, "10.82.1.2/24");
    docker.join(&n1, &e1, "/run/docker/netns/a");
    agent.network("own", "");
    agent.ok("container create --name c1 --network own");
    let name = format!("docker-{}", &n1[..12]);
    let container = format!("docker-{}", &e1[..12]);
    for line in [
        format!("network rm {name}"),
        format!("network connect {name} c1"),
        format!("network connect own {container}"),
        format!("network disconnect {name} {container}"),
        format!("container create --network {name}"),
        format!("container create --network container:{container}"),
        format!("container stop {container}"),
        format!("container rm -f {container}"),
    ] {
        let why = agent.refused(&line);
        assert!(why.contains("Docker's"), "{line}: {why}");
    }
    docker.delete_endpoint(&n1, &e1);
    let pruned = agent.ok("network prune -f");
    assert!(!pruned.contains(&name), "{pruned}");
    docker.delete_network(&n1);
}
