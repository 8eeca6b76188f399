//! A compose file, unchanged, by Debian's `docker-compose`.

use std::fs;

use bascule_tests::{
    Container,
    process::Output,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

const FILE: &str = r#"
version: "2.4"
services:
  web:
    image: busybox
    command: /bin/busybox sleep 100000
    ports: ["8085:80", "9050-9052:9050-9052/udp"]
    networks:
      front: { aliases: [www] }
      back: { ipv4_address: 10.73.0.9 }
  worker:
    image: busybox
    command: /bin/busybox sleep 100000
    networks: [front]
  db:
    image: busybox
    command: /bin/busybox sleep 100000
    networks: [back]
networks:
  front: {}
  back:
    internal: true
    ipam: { config: [{ subnet: 10.73.0.0/24 }] }
"#;

/// Names the file and the project.
fn project(words: &str) -> String {
    format!("--file compose.yml --project-name shop {words}")
}

fn compose(stage: &Stage, words: &str) -> Output {
    let directory = stage.agent.places.root();
    fs::write(directory.join("compose.yml"), FILE).expect("a compose file");
    stage.docker.compose(directory, &project(words))
}

fn open(stage: &Stage, name: &str) -> Container {
    let id = stage.docker.ok(&format!("inspect --format {{{{.Id}}}} {name}"));
    stage.docker.open(name, &id)
}

#[test]
fn a_compose_file_works_unchanged() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    compose(&stage, "up --detach --scale worker=5");
    stage.settle();
    let [web, db, worker] =
        ["shop_web_1", "shop_db_1", "shop_worker_1"].map(|name| open(&stage, name));
    let last = open(&stage, "shop_worker_5");
    let (_web, _db) = (TcpServer::start(&web.ns, 80), TcpServer::start(&db.ns, 80));
    let _udp = UdpServer::start(&web.ns, 9051);
    let (_last, _far) = (TcpServer::start(&last.ns, 80), TcpServer::start(&stage.net.outside, 80));
    // Ports, in Docker's view and for clients.
    assert_eq!(compose(&stage, "port web 80").stdout.trim(), "0.0.0.0:8085");
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 8085)).ip(), OUTSIDE);
    traffic::exchange(&stage.net.outside, at(HOST, 9051), 100);
    // Two networks, one of them without a way out.
    let address = |container: &Container, network: &str| {
        let found = stage.docker.inspect("container", &container.name);
        let text = found["NetworkSettings"]["Networks"][network]["IPAddress"].clone();
        text.as_str().expect("an address").parse::<std::net::Ipv4Addr>().expect("an address")
    };
    traffic::reaches(&web.ns, at(address(&db, "shop_back"), 80));
    traffic::reaches(&worker.ns, at(address(&web, "shop_front"), 80));
    traffic::reaches(&worker.ns, at(address(&last, "shop_front"), 80));
    traffic::unreachable(&worker.ns, at(address(&db, "shop_back"), 80));
    traffic::reaches(&worker.ns, at(OUTSIDE, 80));
    traffic::reaches(&web.ns, at(OUTSIDE, 80));
    traffic::unreachable(&db.ns, at(OUTSIDE, 80));
    // Names: services, aliases, and one service of five.
    for (from, name) in [("worker", "web"), ("worker", "www"), ("db", "web"), ("web", "worker")] {
        let exec = format!("exec -T {from} /bin/busybox nslookup {name} 127.0.0.11");
        assert!(compose(&stage, &exec).stdout.contains("Name:"), "{from} asks for {name}");
    }
    stage.docker.compose_down(stage.agent.places.root(), &project("down"));
    stage.settle();
    assert_eq!(stage.agent.ok("ps --quiet"), "");
    traffic::refused(&stage.net.outside, at(HOST, 8085));
}
