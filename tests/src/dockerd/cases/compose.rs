//! A compose file by Debian's `docker-compose`: three services, two networks, aliases, published ports, an internal network.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Way, at};
use crate::{
    Agent, Dockerd, Topology,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

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
    networks: { back: { aliases: [store] } }
networks:
  front: {}
  back:
    internal: true
    driver_opts: { com.docker.network.driver.mtu: "1400" }
    ipam: { config: [{ subnet: 10.73.0.0/24 }] }
"#;

/// What is laid beside it, so that the networks are of our driver and the file stays as it is: `docker-compose` takes the
/// whole of a network from the last file that has it.
const DRIVER: &str = r#"
version: "2.4"
networks:
  front: { driver: bascule }
  back:
    driver: bascule
    internal: true
    driver_opts: { com.docker.network.driver.mtu: "1400" }
    ipam: { config: [{ subnet: 10.73.0.0/24 }] }
"#;

/// Names the project and its files.
fn project(driver: &str, words: &str) -> String {
    let beside = if driver.is_empty() { "" } else { "--file bascule.yml " };
    format!("--file compose.yml {beside}--project-name shop {words}")
}

/// All of it.
pub fn a_compose_file_works(
    agent: &Agent,
    docker: &mut Dockerd,
    net: &Topology,
    driver: &'static str,
    settle: fn(&Agent, &Dockerd, &[&str]),
) {
    let directory = agent.places.root();
    for (name, text) in [("compose.yml", FILE), ("bascule.yml", DRIVER)] {
        fs::write(directory.join(name), text).expect("a compose file");
    }
    for line in ["up --detach", "up --detach --scale worker=5"] {
        docker.compose(directory, &project(driver, line));
    }
    let way = Way { agent, docker, net, driver, settle };
    way.settle();
    wait::wait_until("names", wait::START, || {
        let names = way.names();
        names.len() == 7 && names.contains(&"shop_worker_5".to_owned())
    });
    works(&way, directory);
    let ports = way.ports("shop_web_1");
    let shown = docker.compose(directory, &project(driver, "port web 80")).stdout;
    assert_eq!(
        shown.contains("0.0.0.0:8085"),
        driver.is_empty(),
        "where Docker knows them: {shown}"
    );
    for port in ["80/tcp -> 0.0.0.0:8085", "9052/udp -> 0.0.0.0:9052"] {
        assert!(ports.iter().any(|shown| shown == port), "{port}: {ports:?}");
    }
    docker.compose_down(directory, &project(driver, "down --timeout 0"));
    let way = Way { agent, docker, net, driver, settle };
    way.settle();
    assert_eq!(way.names(), [""; 0]);
    assert!(!agent.ok("network ls").contains("shop_"));
    traffic::refused(&net.outside, at(HOST, 8085));
}

fn works(way: &Way<'_>, directory: &Path) {
    let (docker, net) = (way.docker, way.net);
    let [web, db, worker, last] =
        ["web_1", "db_1", "worker_1", "worker_5"].map(|name| docker.open(&format!("shop_{name}")));
    let _servers = [&web.ns, &db.ns, &last.ns, &net.outside].map(|ns| TcpServer::start(ns, 80));
    let _udp = UdpServer::start(&web.ns, 9051);
    assert_eq!(*traffic::reaches(&net.outside, at(HOST, 8085)).ip(), OUTSIDE);
    traffic::exchange(&net.outside, at(HOST, 9051), 100);
    // Two networks, one of them without a way out.
    let address = |container: &str, network: &str| {
        let found = docker.inspect_container(container);
        let text: &Value = &found["NetworkSettings"]["Networks"][network]["IPAddress"];
        text.as_str().expect("an address").parse::<std::net::Ipv4Addr>().expect("an address")
    };
    assert_eq!(address("shop_web_1", "shop_back").to_string(), "10.73.0.9");
    let store = address("shop_db_1", "shop_back");
    traffic::reaches(&web.ns, at(store, 80));
    traffic::reaches(&worker.ns, at(address("shop_web_1", "shop_front"), 80));
    traffic::reaches(&worker.ns, at(address("shop_worker_5", "shop_front"), 80));
    traffic::unreachable(&worker.ns, at(store, 80));
    for from in [&worker, &web] {
        traffic::reaches(&from.ns, at(OUTSIDE, 80));
    }
    traffic::unreachable(&db.ns, at(OUTSIDE, 80));
    traffic::unreachable(&net.outside, at([10, 73, 0, 9].into(), 80));
    assert!(db.ns.sh("ip link show dev eth0").contains("mtu 1400"));
    // Names: services, aliases, and one service of five.
    for (from, name) in [
        ("worker", "web"),
        ("worker", "www"),
        ("db", "web"),
        ("web", "store"),
        ("web", "worker"),
        ("web", "shop_worker_5"),
    ] {
        let ping = format!("exec -T {from} /bin/busybox ping -c 1 -W 5 {name}");
        docker.compose(directory, &project(way.driver, &ping));
    }
}
