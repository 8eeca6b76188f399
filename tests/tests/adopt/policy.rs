//! Who may talk to whom on Docker's networks, and what leaves the host.

use std::{fs, net::Ipv4Addr};

use bascule_tests::{
    topology::{HOST, NEIGHBOUR, OUTSIDE},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at, stage::rules};

/// The gateway of a network of Docker's.
fn gateway(stage: &Stage, network: &str) -> Ipv4Addr {
    let found = stage.docker.inspect_network(network);
    found["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").parse().expect("an address")
}

#[test]
fn dockers_networks_obey_the_policy_that_docker_was_told() {
    let mut stage = Stage::new(&["--live-restore"]);
    // A daemon without rules does not start with this: it is kept in mind, and comes back with the rules.
    let before = "{\"icc\": false}";
    fs::write(stage.docker.config(), before).expect("daemon.json");
    stage.restart_docker("TERM");
    stage.adopt();
    assert!(stage.agent.ok("docker status").contains("icc off"));
    let (docker, agent, net) = (&stage.docker, &stage.agent, &stage.net);
    let key = "com.docker.network.bridge";
    docker.ok("network create --subnet 10.71.0.0/24 --gateway 10.71.0.1 blue");
    docker.ok(&format!("network create -o {key}.enable_icc=false grey"));
    docker.ok(&format!(
        "network create -o {key}.enable_ip_masquerade=false --subnet 10.72.0.0/24 bare"
    ));
    docker.ok("network create --internal inner");
    let [b1, b2] = ["b1", "b2"].map(|name| docker.container(name, "blue", "--network-alias www"));
    let [g1, g2] = ["g1", "g2"].map(|name| docker.container(name, "grey", ""));
    let [i1, i2] = ["i1", "i2"].map(|name| docker.container(name, "inner", ""));
    let (d1, m1) = (docker.container("d1", "bridge", ""), docker.container("m1", "bare", ""));
    stage.settle();
    let all = [&b1, &b2, &g1, &g2, &i1, &i2, &d1, &m1];
    let _servers = all.map(|c| TcpServer::start(&c.ns, 80));
    let (_near, _far) = (TcpServer::start(&net.neighbour, 80), TcpServer::start(&net.outside, 80));
    let _host = TcpServer::start(&net.host, 81);
    // MOBY-ICC-001, MOBY-ICC-014, MOBY-INT-002.
    traffic::reaches(&b1.ns, at(b2.address(), 80));
    traffic::unreachable(&g1.ns, at(g2.address(), 80));
    traffic::reaches(&i1.ns, at(i2.address(), 80));
    // MOBY-INC-001, MOBY-INC-002.
    let apart = [(&b1, &g1), (&b1, &i1), (&i1, &b1), (&d1, &b1), (&b1, &d1)];
    traffic::all_unreachable(apart.map(|(from, to)| (&from.ns, at(to.address(), 80))));
    // MOBY-MQ-001, MOBY-INT-001: though Docker gives the internal ones a default route.
    for from in [&b1, &g1, &d1] {
        assert_eq!(*traffic::reaches(&from.ns, at(OUTSIDE, 80)).ip(), HOST, "{}", from.name);
        traffic::reaches(&from.ns, at(gateway(&stage, "blue"), 81));
    }
    traffic::unreachable(&i1.ns, at(OUTSIDE, 80));
    traffic::unreachable(&i1.ns, at(HOST, 81));
    traffic::answers(&i1.ns, gateway(&stage, "inner"));
    net.neighbour.sh(&format!("ip route add 10.72.0.0/24 via {HOST}"));
    assert_eq!(*traffic::reaches(&m1.ns, at(NEIGHBOUR, 80)).ip(), m1.address());
    // MOBY-INC-007: nobody from outside, though there is a route.
    net.neighbour.sh(&format!("ip route add 10.71.0.0/24 via {HOST}"));
    traffic::unreachable(&net.neighbour, at(b1.address(), 80));
    traffic::reaches(&net.host, at(b1.address(), 80));
    // Docker's own server of names goes on: names, aliases, and on the internal network too.
    for (from, name) in [("b1", "b2"), ("b1", "www"), ("i1", "i2")] {
        let answer = docker.ok(&format!("exec {from} /bin/busybox nslookup {name} 127.0.0.11"));
        assert!(answer.contains("Name:"), "{from} asks for {name}: {answer}");
    }
    // MOBY-INC-015: policy follows connect and disconnect of a running container.
    docker.ok("network connect grey b1");
    stage.settle();
    traffic::reaches(&net.host, at(b1.address_on("eth1"), 80));
    traffic::unreachable(&g1.ns, at(b1.address_on("eth1"), 80));
    docker.ok("network disconnect blue b1");
    stage.settle();
    traffic::unreachable(&b2.ns, at(b1.address_on("eth1"), 80));
    traffic::reaches(&b1.ns, at(OUTSIDE, 80));
    // S-metrics: the container's name, also after it has got another.
    docker.ok("rename b2 renamed");
    stage.settle();
    wait::wait_until("the new name", wait::SOON, || agent.ok("ps").contains("renamed"));
    traffic::answers(&b2.ns, OUTSIDE);
    let metrics = agent.metrics();
    assert!(metrics.traffic("renamed", "out").0 > 0);
    assert!(metrics.drops("g1", "policy_icc") > 0 && metrics.drops("d1", "policy_isolation") > 0);
    // What is Docker's, Docker changes.
    let error = agent.refused("network rm blue");
    assert!(error.contains("is Docker's: use `docker network rm`"), "{error}");
    let error = agent.refused("rm -f d1");
    assert!(error.contains("is Docker's: use `docker rm`"), "{error}");
    moby_icc_014_moby_dns_033_a_link_of_the_default_network(&stage);
    assert_eq!(rules(&net.host), "");
    stage.agent.ok("docker release");
    assert_eq!(fs::read_to_string(stage.docker.config()).expect("daemon.json"), before);
}

/// ICC is off there, and a link opens the ports that its target exposes.
fn moby_icc_014_moby_dns_033_a_link_of_the_default_network(stage: &Stage) {
    let (docker, way) = (&stage.docker, stage.way());
    way.container("db", "bridge", "--expose 80 --expose 90-92");
    way.containers([("app", "bridge", "--link db:sql"), ("stranger", "bridge", "")]);
    for again in [true, false] {
        let [db, app, stranger] = ["db", "app", "stranger"].map(|name| docker.open(name));
        let _servers = [80, 81, 91].map(|port| TcpServer::start(&db.ns, port));
        let _other = TcpServer::start(&app.ns, 80);
        for port in [80, 91] {
            traffic::reaches(&app.ns, at(db.address(), port));
        }
        traffic::all_unreachable([
            (&app.ns, at(db.address(), 81)),
            (&db.ns, at(app.address(), 80)),
            (&stranger.ns, at(db.address(), 80)),
        ]);
        assert!(docker.exec("app", "cat /etc/hosts").contains("sql"));
        if again {
            docker.ok("restart --time 0 db");
            stage.settle();
        }
    }
    docker.ok("rm --force db");
    stage.settle();
    let next = way.container("next", "bridge", "--expose 80");
    let (_server, app) = (TcpServer::start(&next.ns, 80), docker.open("app"));
    traffic::unreachable(&app.ns, at(next.address(), 80));
    way.remove("app stranger next");
}
