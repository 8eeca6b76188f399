//! Where a network's MTU comes from: the default route's device, the bridge that is brought, or a wish.

use bascule_tests::{
    Agent, Netns, Topology,
    topology::{UPLINK, veth},
    traffic,
};

use crate::{Stage, bridge_of};

const MTU: &str = "-o com.docker.network.driver.mtu";

#[track_caller]
fn mtu(ns: &Netns, interface: &str) -> String {
    let shown = ns.sh(&format!("ip link show dev {interface}"));
    let mtu = shown.split("mtu ").nth(1).and_then(|rest| rest.split(' ').next());
    mtu.expect("every device has one").to_owned()
}

/// MTUs of the bridge, and of both ends of every veth of a network.
fn of_network(stage: &Stage, network: &str, bridge: &str, options: &str) -> [String; 3] {
    let c1 = stage.agent.container(&format!("in-{network}"), network, options);
    let ports = stage.net.host.sh(&format!("ip -o link show master {bridge}"));
    let port = ports.split(": ").nth(1).and_then(|name| name.split('@').next()).expect("a port");
    let host = &stage.net.host;
    [mtu(host, bridge), mtu(host, port), mtu(&c1.ns, "eth0")]
}

#[test]
fn netav_mtu_001_moby_icc_032_s72_p67_the_default_routes_device_gives_it() {
    let net = Topology::new();
    net.host.sh(&format!("ip link set {UPLINK} mtu 9000"));
    net.router.sh("ip link set lan1 mtu 9000");
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "");
    let bridge = bridge_of(&stage, "n1");
    assert_eq!(of_network(&stage, "n1", &bridge, ""), ["9000"; 3]);
    // A wish comes first; the kernel's limit is a limit.
    stage.agent.network("n2", &format!("{MTU}=1400"));
    let bridge = bridge_of(&stage, "n2");
    assert_eq!(of_network(&stage, "n2", &bridge, ""), ["1400"; 3]);
    let error = stage.agent.refused(&format!("network create {MTU}=65536 n3"));
    assert!(error.contains("65536"), "MOBY-ICC-032: {error}");
}

#[test]
fn netav_mtu_002_only_the_main_table_counts() {
    let net = Topology::new();
    let peer = Netns::new("peer");
    for (name, mtu, table) in [("vpn1", 1000, 50), ("vpn3", 3000, 60)] {
        veth(&net.host, name, &peer, name);
        net.host.sh(&format!("ip link set {name} mtu {mtu}"));
        net.host.sh(&format!("ip route add default dev {name} table {table}"));
    }
    net.host.sh(&format!("ip link set {UPLINK} mtu 2000"));
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "");
    let bridge = bridge_of(&stage, "n1");
    assert_eq!(of_network(&stage, "n1", &bridge, ""), ["2000"; 3]);
}

#[test]
fn netav_mtu_003_a_bridge_that_is_brought_gives_its_own() {
    let stage = Stage::new();
    let host = &stage.net.host;
    for (name, third) in [("br1", 5), ("br2", 6)] {
        host.sh(&format!("ip link add {name} type bridge"));
        // Set, it stays; else Linux has it follow the ports.
        host.sh(&format!("ip link set {name} mtu 4001"));
        host.sh(&format!("ip addr add 192.168.{third}.1/24 dev {name}"));
        host.sh(&format!("ip link set {name} up"));
    }
    let name = "-o com.docker.network.bridge.name";
    stage.agent.network("n1", &format!("{name}=br1"));
    assert_eq!(of_network(&stage, "n1", "br1", ""), ["4001"; 3]);
    stage.agent.network("n2", &format!("{name}=br2 {MTU}=4002"));
    assert_eq!(of_network(&stage, "n2", "br2", ""), ["4001", "4002", "4002"]);
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let ping = traffic::ping_with(&c1.ns, c2.address(), 2, "-i 0.2 -W 1 -M do -s 3973");
    assert_eq!(ping.received, 2, "{}", ping.text);
}
