//! docker-compose, with a file that is as it always was but for the driver.

use std::{fs, net::SocketAddrV4};

use bascule_tests::{topology::HOST, traffic, wait};

use crate::stage::{DOCKERS, Stage, listed};

/// Three services, two networks, aliases, published ports, an internal network.
const FILE: &str = r#"
version: "2.4"
services:
  web:
    image: busybox
    command: ["/bin/busybox", "sh", "-c", "while :; do echo -e 'HTTP/1.0 200 OK\r\n\r\nweb' | /bin/busybox nc -l -p 80; done"]
    ports: ["8085:80", "9050-9052:9050-9052/udp"]
    networks:
      front: {aliases: [www]}
      back: {ipv4_address: 10.91.0.9}
  worker:
    image: busybox
    command: ["/bin/busybox", "sleep", "1000"]
    networks: [front]
  db:
    image: busybox
    command: ["/bin/busybox", "sleep", "1000"]
    networks: {back: {aliases: [store]}}
networks:
  front:
    driver: bascule
  back:
    driver: bascule
    internal: true
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    ipam: {config: [{subnet: 10.91.0.0/24}]}
"#;

#[test]
fn a_compose_file_works_with_the_driver() {
    let mut stage = Stage::start(&[]);
    let dir = stage.agent.places.root().join("project");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("docker-compose.yml"), FILE).expect("a file");
    let compose = |line: &str| stage.docker.compose(&dir, line).stdout;
    compose("up -d");
    let exec =
        |service: &str, line: &str| compose(&format!("exec -T {service} /bin/busybox {line}"));
    for name in ["web", "www"] {
        exec("worker", &format!("ping -c 1 -W 5 {name}"));
    }
    for name in ["db", "store"] {
        exec("web", &format!("ping -c 1 -W 5 {name}"));
    }
    assert!(exec("web", "ip addr").contains("10.91.0.9/24"));
    assert!(exec("db", "ip link").contains("mtu 1400"));
    assert!(!exec("db", "ip route").contains("default"));
    wait::wait_until("the server", wait::SOON, || {
        stage
            .net
            .outside
            .try_sh(&format!("curl -s -m 2 http://{HOST}:8085/"))
            .stdout
            .contains("web")
    });
    traffic::tcp::unreachable(&stage.net.outside, SocketAddrV4::new([10, 91, 0, 9].into(), 80));
    compose("up -d --scale worker=5");
    let up = || listed(&stage.agent).iter().filter(|c| c["State"] == "running").count();
    assert_eq!(up(), 7);
    wait::wait_until("names", DOCKERS, || stage.agent.ok("ps").contains("project_worker_5"));
    exec("web", "ping -c 1 -W 5 project_worker_5");
    let ports = stage.ports("project_web_1");
    assert!(ports.contains(&"80/tcp -> 0.0.0.0:8085".to_owned()), "{ports:?}");
    assert!(ports.contains(&"9052/udp -> 0.0.0.0:9052".to_owned()), "{ports:?}");
    stage.docker.compose_down(&dir, "down -t 0");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    assert_eq!(stage.agent.ok("network ls -q").lines().count(), 2);
}
