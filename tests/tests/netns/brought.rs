//! A bridge that the operator brings: used as it is, never made, changed or removed.

use std::net::Ipv4Addr;

use bascule_tests::{
    Agent, Container, Topology,
    agent::Settings,
    topology::{HOST, NEIGHBOUR, OUTSIDE, ROUTER, UPLINK},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);

/// The bridge of the documents: `brctl addbr`, an address, up.
fn make(net: &Topology) {
    net.host.sh("ip link add bridge0 type bridge");
    net.host.sh(&format!("ip addr add {GATEWAY}/24 dev bridge0"));
    net.host.sh("ip link set bridge0 up");
}

fn stage(args: &[&str]) -> Stage {
    let net = Topology::new();
    make(&net);
    let agent = Agent::start_with(&net.host, Settings::default().arg(args));
    Stage { agent, net }
}

/// Everything about the bridge that is the operator's, but for what Linux changes by itself.
fn look(stage: &Stage) -> String {
    let shown = stage.net.host.sh("ip -d -o link show dev bridge0");
    let kept = ["mtu", "link/ether", "stp_state", "ageing_time", "vlan_filtering", "alias"];
    let words: Vec<&str> = shown.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| kept.contains(&pair[0]));
    let link: Vec<String> = pairs.map(|pair| pair.join(" ")).collect();
    let addresses = stage.net.host.sh("ip -o -4 addr show dev bridge0");
    format!("{}\n{}", link.join(", "), addresses.split("valid_lft").next().unwrap_or_default())
}

/// Demands everything of containers on the brought bridge.
#[track_caller]
fn works(stage: &Stage, c1: &Container, c2: &Container) {
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let _udp = UdpServer::start(&stage.net.outside, 53);
    let _host = TcpServer::start(&stage.net.host, 81);
    traffic::answers(&c2.ns, GATEWAY);
    traffic::reaches(&c2.ns, at(c1.address(), 80));
    traffic::reaches(&c2.ns, at(GATEWAY, 81));
    traffic::reaches(&stage.net.host, at(c1.address(), 80));
    assert_eq!(*traffic::reaches(&c2.ns, at(OUTSIDE, 80)).ip(), HOST, "S79");
    traffic::exchange(&c2.ns, at(OUTSIDE, 53), 4000);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&c2.ns, at(HOST, 8080));
}

#[test]
fn s77_s78_s79_the_default_network_is_on_a_bridge_that_is_brought() {
    let mut stage = stage(&["--bridge", "bridge0"]);
    let before = look(&stage);
    let network = stage.agent.inspect("network", "bridge");
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "192.168.5.0/24", "S78");
    assert_eq!(network["IPAM"]["Config"][0]["Gateway"], "192.168.5.1");
    assert_eq!(network["Options"]["com.docker.network.bridge.name"], "bridge0");
    assert!(stage.net.host.ifindex("bascule0").is_none());
    let c1 = stage.agent.container("c1", "bridge", "-p 8080:80");
    let c2 = stage.agent.container("c2", "bridge", "");
    assert_eq!(c1.address().octets()[..3], GATEWAY.octets()[..3], "S78");
    works(&stage, &c1, &c2);
    let ports = stage.net.host.sh("ip -o link show master bridge0");
    assert_eq!(ports.lines().count(), 2, "{ports}");
    stage.agent.restart();
    works(&stage, &c1, &c2);
    assert_eq!(look(&stage), before, "the bridge is the operator's");
    // Not deleted with the last container, nor by cleanup.
    stage.agent.ok("container rm -f c1 c2");
    let neighbours = stage.net.host.sh("ip neigh show dev bridge0 nud permanent");
    assert_eq!(neighbours, "");
    let c1 = stage.agent.container("c1", "bridge", "-p 8080:80");
    assert_eq!(stage.agent.stop(), 0);
    assert!(stage.agent.cleanup(&[]).ok());
    drop(c1);
    assert_eq!(look(&stage), before, "the bridge is the operator's");
    let neighbours = stage.net.host.sh("ip neigh show dev bridge0 nud permanent");
    assert_eq!(neighbours, "");
    assert_eq!(stage.net.host.sh("ip -o link show master bridge0"), "");
    assert_eq!(stage.net.host.firewall_rules(), "");
}

#[test]
fn s76_moby_ipam_034_a_network_of_ones_own_is_on_a_bridge_that_is_brought() {
    let stage = stage(&[]);
    let before = look(&stage);
    stage.agent.network("n1", "-o com.docker.network.bridge.name=bridge0");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    works(&stage, &c1, &c2);
    // A network like the others: isolated from them.
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::unreachable(&c3.ns, at(c1.address(), 80));
    traffic::reaches(&c3.ns, at(HOST, 8080));
    let error = stage.agent.refused("network create -o com.docker.network.bridge.name=bridge0 n3");
    assert!(error.contains("networks have same bridge name"), "{error}");
    stage.agent.ok("container rm -f c1 c2");
    stage.agent.ok("network rm n1");
    assert_eq!(look(&stage), before);
}

#[test]
fn stations_on_a_brought_bridge_are_neighbours() {
    // A virtual machine that was there before.
    let stage = stage(&["--bridge", "bridge0"]);
    let guest = bascule_tests::Netns::new("guest");
    bascule_tests::topology::veth(&stage.net.host, "vm0", &guest, "eth0");
    stage.net.host.sh("ip link set vm0 master bridge0");
    stage.net.host.wait_forwarding("vm0");
    guest.wait_up("eth0");
    guest.sh("ip addr add 192.168.5.77/24 dev eth0");
    guest.sh(&format!("ip route add default via {GATEWAY}"));
    let c1 = stage.agent.container("c1", "bridge", "");
    let (_in, _out) = (TcpServer::start(&c1.ns, 80), TcpServer::start(&guest, 80));
    traffic::reaches(&guest, at(c1.address(), 80));
    traffic::reaches(&c1.ns, at(Ipv4Addr::new(192, 168, 5, 77), 80));
    traffic::answers(&guest, OUTSIDE);
    // The bridge's own address does not change with its ports: nobody's neighbour table is wrong.
    let mac = stage.net.host.mac("bridge0");
    for number in 2..6 {
        stage.agent.container(&format!("c{number}"), "bridge", "");
    }
    assert_eq!(stage.net.host.mac("bridge0"), mac);
    traffic::answers(&guest, OUTSIDE);
    traffic::answers(&c1.ns, OUTSIDE);
}

#[test]
fn moby_lc_013_a_bridge_that_cannot_be_used_is_refused_with_its_reason() {
    let net = Topology::new();
    net.host.sh("ip link add empty0 type bridge");
    for (name, why) in [
        ("empty0", "has no IPv4 address"),
        ("absent0", "there is no bridge absent0"),
        ("up0", "is no bridge"),
    ] {
        let settings = Settings::default().arg(&["--bridge", name]);
        let mut agent = Agent::prepare(&net.host, settings);
        agent.launch();
        assert_ne!(agent.wait_end(), 0);
        assert!(agent.log().contains(why), "{name}: {}", agent.log());
    }
    make(&net);
    let agent = Agent::start(&net.host);
    let name = "-o com.docker.network.bridge.name";
    let error = agent.refused(&format!("network create {name}=empty0 n1"));
    assert!(error.contains("has no IPv4 address"), "{error}");
    let error = agent.refused(&format!("network create {name}=up0 n1"));
    assert!(error.contains("is no bridge"), "{error}");
    let error = agent.refused(&format!("network create {name}=bridge0 --subnet 10.99.0.0/24 n1"));
    assert!(error.contains("192.168.5.1/24"), "{error}");
    agent.network("n1", &format!("{name}=bridge0 --subnet 192.168.5.0/24"));
}

#[test]
fn s80_the_default_bridge_is_torn_down_and_rebuilt_while_the_service_is_stopped() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    let mut stage = Stage { agent, net };
    let c1 = stage.agent.container("c1", "bridge", "-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    assert_eq!(stage.agent.stop(), 0);
    stage.net.host.sh("ip link set dev bascule0 down");
    stage.net.host.sh("ip link del bascule0");
    // Ours is made again, with the container on it.
    stage.agent.restart();
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::answers(&c1.ns, OUTSIDE);
    stage.agent.ok("container rm -f c1");
    assert_eq!(stage.agent.stop(), 0);
    // The documents' way: ours goes, the operator's comes.
    stage.net.host.sh("ip link set dev bascule0 down");
    stage.net.host.sh("ip link del bascule0");
    make(&stage.net);
    stage.agent.launch_with(&Settings::default().arg(&["-b", "bridge0"]));
    stage.agent.wait_ready();
    assert!(stage.net.host.ifindex("bascule0").is_none());
    let c1 = stage.agent.container("c1", "bridge", "-p 8080:80");
    let c2 = stage.agent.container("c2", "bridge", "");
    works(&stage, &c1, &c2);
    // And even that one is rebuilt, with containers running.
    assert_eq!(stage.agent.stop(), 0);
    stage.net.host.sh("ip link del bridge0");
    make(&stage.net);
    stage.agent.launch_with(&Settings::default().arg(&["-b", "bridge0"]));
    stage.agent.wait_ready();
    // It has another Ethernet address now, which containers find out by themselves in half a minute.
    for container in [&c1, &c2] {
        container.ns.sh("ip neigh flush all");
    }
    works(&stage, &c1, &c2);
    // Back to a bridge of ours, once nobody is on the other.
    stage.agent.ok("container rm -f c1 c2");
    assert_eq!(stage.agent.stop(), 0);
    stage.agent.launch_with(&Settings::default());
    stage.agent.wait_ready();
    assert!(stage.net.host.ifindex("bascule0").is_some());
    assert!(stage.net.host.ifindex("bridge0").is_some());
    let c1 = stage.agent.container("c1", "bridge", "");
    traffic::answers(&c1.ns, OUTSIDE);
}

#[test]
fn a_bridge_with_the_hosts_own_line_is_an_uplink_too() {
    let net = Topology::new();
    let host = &net.host;
    host.sh("ip link add bridge0 type bridge");
    host.sh("ip link set bridge0 up");
    host.sh(&format!("ip addr flush dev {UPLINK}"));
    host.sh(&format!("ip link set {UPLINK} master bridge0"));
    host.sh(&format!("ip addr add {HOST}/24 dev bridge0"));
    host.sh(&format!("ip route add default via {ROUTER}"));
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--bridge", "bridge0"]));
    agent.network("n2", "");
    let c1 = agent.container("c1", "bridge", "-p 8080:80");
    let c2 = agent.container("c2", "n2", "-p 8082:80");
    let _far = TcpServer::start(&net.outside, 80);
    let _near = TcpServer::start(&net.neighbour, 80);
    let (_one, _two) = (TcpServer::start(&c1.ns, 80), TcpServer::start(&c2.ns, 80));
    for container in [&c1, &c2] {
        assert_eq!(*traffic::reaches(&container.ns, at(OUTSIDE, 80)).ip(), HOST);
    }
    for port in [8080, 8082] {
        assert_eq!(*traffic::reaches(&net.outside, at(HOST, port)).ip(), OUTSIDE);
    }
    // Stations of the segment are the network's own neighbours.
    assert_eq!(*traffic::reaches(&c1.ns, at(NEIGHBOUR, 80)).ip(), c1.address());
    traffic::reaches(&net.neighbour, at(c1.address(), 80));
    traffic::reaches(&net.host, at(c1.address(), 80));
    traffic::answers(&net.host, OUTSIDE);
    // Networks are isolated all the same.
    traffic::unreachable(&c2.ns, at(c1.address(), 80));
    traffic::unreachable(&c1.ns, at(c2.address(), 80));
}
