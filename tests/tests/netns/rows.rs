//! Rows of the lists that belong to no other file.

use std::{collections::BTreeSet, net::Ipv6Addr};

use bascule_tests::{
    Agent, Container, Topology,
    agent::Settings,
    capture::Capture,
    topology::{HOST, HOST6, OUTSIDE6, UPLINK},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at, at6};

/// Ports that are chosen from where none is named.
const DYNAMIC: (u16, u16) = (49_153, 65_535);

/// What a container publishes, as `port` prints it.
fn host_port(stage: &Stage, container: &str) -> u16 {
    let shown = stage.agent.ok(&format!("port {container}"));
    shown.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn moby_pm_028_ports_are_chosen_in_turn_until_none_is_left_and_given_again() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let (first, last) = DYNAMIC;
    // All but four.
    let most = format!("-p {}-{}:{}-{}", first + 2, last - 2, first + 2, last - 2);
    stage.agent.container("most", "n1", &most);
    let left = [first, first + 1, last - 1, last];
    for (at, port) in left.into_iter().enumerate() {
        stage.agent.container(&format!("c{at}"), "n1", "-p 80");
        assert_eq!(host_port(&stage, &format!("c{at}")), port, "one after the other");
    }
    let full = |name: &str| {
        stage.agent.ok(&format!("container create --name {name} --network n1 -p 80"));
        let error = stage.agent.refused(&format!("container start {name}"));
        assert!(error.contains("all ports are allocated"), "{error}");
        stage.agent.ok(&format!("container rm {name}"));
    };
    full("none");
    // UDP has ports of its own.
    let udp = stage.agent.container("udp", "n1", "-p 53/udp");
    let _udp = UdpServer::start(&udp.ns, 53);
    traffic::exchange(&stage.net.outside, at(HOST, host_port(&stage, "udp")), 10);
    // One in the middle is given back, and out again; after that there is none again.
    stage.agent.ok("container rm -f c1");
    let again = stage.agent.container("again", "n1", "-p 80");
    assert_eq!(host_port(&stage, "again"), left[1]);
    let _again = TcpServer::start(&again.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, left[1]));
    full("none");
}

#[test]
fn moby_pm_028_ranges_are_sound_and_used_up() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.net.host.sh(&format!("ip addr add 198.51.100.2/24 dev {UPLINK}"));
    for wrong in ["0-80:80", "80-0:80", "8081-8080:80", "8080-8081:80-82"] {
        let error =
            stage.agent.refused(&format!("container create --name bad --network n1 -p {wrong}"));
        assert!(error.contains(wrong) || error.contains("range"), "{wrong}: {error}");
    }
    let chosen: BTreeSet<u16> = ["r1", "r2"]
        .into_iter()
        .map(|name| {
            stage.agent.container(name, "n1", "-p 8080-8081:80");
            host_port(&stage, name)
        })
        .collect();
    assert_eq!(chosen, BTreeSet::from([8080, 8081]));
    stage.agent.ok("container create --name r3 --network n1 -p 8080-8081:80");
    let error = stage.agent.refused("container start r3");
    assert!(error.contains("port is already allocated"), "{error}");
    // One port of two addresses is two.
    stage.agent.container("a", "n1", &format!("-p {HOST}:9000:80"));
    stage.agent.container("b", "n1", "-p 198.51.100.2:9000:80");
}

#[test]
fn s98_a_link_is_to_a_container_and_not_to_a_host_name() {
    let net = Topology::new();
    let settings = Settings::default().arg(&["--icc=false"]);
    let stage = Stage { agent: Agent::start_with(&net.host, settings), net };
    let db = stage.agent.container("db", "bridge", "--hostname sql.local --expose 80");
    let _server = TcpServer::start(&db.ns, 80);
    let error = stage.agent.refused("container create --name c0 --link sql.local:sql");
    assert!(error.contains("could not get container for sql.local"), "{error}");
    let by_name = stage.agent.container("c1", "bridge", "--link db:sql");
    traffic::reaches(&by_name.ns, at(db.address(), 80));
    // Names that were given by the agent are names, too.
    let id = stage.agent.ok("container create --expose 80");
    stage.agent.ok(&format!("container start {id}"));
    let name = stage.agent.inspect("container", &id)["Name"].as_str().expect("a name").to_owned();
    let name = name.trim_start_matches('/');
    let unnamed = Container::open(&stage.agent, name, &id);
    let _other = TcpServer::start(&unnamed.ns, 80);
    let linked = stage.agent.container("c2", "bridge", &format!("--link {name}:other"));
    traffic::reaches(&linked.ns, at(unnamed.address(), 80));
    traffic::unreachable(&linked.ns, at(db.address(), 80));
}

#[test]
fn s176_the_hosts_64_is_split_between_its_line_and_a_network() {
    let net = Topology::dual();
    // The first /80 is the line's, another one the network's; the router sends all of it here.
    net.host.sh(&format!("ip -6 addr del {HOST6}/64 dev {UPLINK}"));
    net.host.sh(&format!("ip -6 addr add {HOST6}/80 dev {UPLINK} nodad"));
    net.route6_to_host("2001:db8:100:0:1::/80");
    let stage = Stage { agent: Agent::start(&net.host), net };
    let mode = "-o com.docker.network.bridge.gateway_mode_ipv6=routed";
    stage.agent.network("n1", &format!("--subnet 2001:db8:100:0:1::/80 {mode}"));
    let c1 = stage.agent.container("c1", "n1", "-p 80");
    assert_eq!(c1.address6().segments()[..5], [0x2001, 0xdb8, 0x100, 0, 1]);
    // S170: 48 bits are what an Ethernet address takes.
    assert_eq!(c1.address6().octets()[10..], c1.ns.mac("eth0"));
    let out = Capture::arriving(&stage.net.outside, "eth0");
    traffic::answers(&c1.ns, OUTSIDE6);
    out.wait_for("the container's own address", |packet| packet.src == c1.address6());
    let _server = TcpServer::start_at(&c1.ns, at6(Ipv6Addr::UNSPECIFIED, 80));
    traffic::reaches(&stage.net.outside, at6(c1.address6(), 80));
    // The line's own part is where it was.
    traffic::answers(&stage.net.neighbour, HOST6);
}
