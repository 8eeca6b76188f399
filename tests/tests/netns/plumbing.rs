//! What people connect by hand, beside and between containers of ours.

use std::net::Ipv4Addr;

use bascule_tests::{
    Container, Netns,
    capture::Capture,
    topology::{HOST, OUTSIDE, veth},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at, bridge_of};

const A: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);

/// As the Docker documentation has it: a veth with an end in both, an address each, and routes on the link.
fn point_to_point(a: &Netns, b: &Netns) {
    veth(a, "ptp0", b, "ptp0");
    for (ns, own, far) in [(a, A, B), (b, B, A)] {
        ns.sh(&format!("ip addr add {own}/32 dev ptp0"));
        ns.sh(&format!("ip route add {far}/32 dev ptp0"));
    }
    for ns in [a, b] {
        ns.wait_up("ptp0");
    }
}

fn alone(stage: &Stage, name: &str) -> Container {
    let id = stage.agent.ok(&format!("container create --name {name} --network none"));
    stage.agent.ok(&format!("container start {name}"));
    Container::open(&stage.agent, name, &id)
}

/// The bridge of `n1`, its address, and one that nobody has for whoever is plugged in by hand, with the prefix's length.
fn place_by_hand(stage: &Stage) -> (String, Ipv4Addr, Ipv4Addr, u8) {
    let bridge = bridge_of(stage, "n1");
    let (gateway, prefix) = stage.net.host.addresses(&bridge)[0];
    (bridge, gateway, Ipv4Addr::from(u32::from(gateway) + 98), prefix)
}

/// Makes the agent look at everything again: what it does not know must outlive it.
fn look_again(stage: &mut Stage) {
    stage.agent.restart();
}

#[test]
fn s89_a_point_to_point_link_of_two_containers_without_networks() {
    let mut stage = Stage::new();
    let (c1, c2) = (alone(&stage, "c1"), alone(&stage, "c2"));
    assert_eq!(c1.ns.interfaces(), ["lo"], "S86");
    point_to_point(&c1.ns, &c2.ns);
    let _server = TcpServer::start(&c2.ns, 80);
    for _ in 0..2 {
        traffic::answers(&c1.ns, B);
        traffic::answers(&c2.ns, A);
        assert_eq!(*traffic::reaches(&c1.ns, at(B, 80)).ip(), A);
        look_again(&mut stage);
    }
}

#[test]
fn s90_a_point_to_point_link_beside_networks() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "-o com.docker.network.bridge.enable_icc=false");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n2", "");
    point_to_point(&c1.ns, &c2.ns);
    let _server = TcpServer::start(&c1.ns, 80);
    for _ in 0..2 {
        assert_eq!(*traffic::reaches(&c2.ns, at(A, 80)).ip(), B);
        // The networks are what they were: isolated, with a way out.
        traffic::unreachable(&c2.ns, at(c1.address(), 80));
        traffic::answers(&c1.ns, OUTSIDE);
        traffic::reaches(&c2.ns, at(HOST, 8080));
        look_again(&mut stage);
    }
    stage.agent.ok("container stop c2");
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn s91_a_point_to_point_link_to_the_host() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80");
    point_to_point(&stage.net.host, &c1.ns);
    let _inside = TcpServer::start(&c1.ns, 80);
    let _host = TcpServer::start(&stage.net.host, 81);
    for _ in 0..2 {
        assert_eq!(*traffic::reaches(&stage.net.host, at(B, 80)).ip(), A);
        assert_eq!(*traffic::reaches(&c1.ns, at(A, 81)).ip(), B);
        traffic::answers(&stage.net.host, B);
        // The ordinary way is open too.
        assert_eq!(*traffic::reaches(&c1.ns, at(HOST, 81)).ip(), c1.address());
        traffic::reaches(&stage.net.host, at(c1.address(), 80));
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
        traffic::answers(&c1.ns, OUTSIDE);
        look_again(&mut stage);
    }
}

#[test]
fn s87_an_interface_that_was_an_uplink_leaves_our_programs_behind() {
    let (stage, c1) = Stage::with_one("");
    let hand = alone(&stage, "hand");
    let (bridge, _, own, prefix) = place_by_hand(&stage);
    let (host, ns) = (&stage.net.host, &hand.ns);
    // While it is the host's, it is taken for a way out.
    host.sh("ip link add A type veth peer name B");
    let index = host.ifindex("B").expect("an index");
    let pins = || {
        let of_it = format!("/{index}-");
        stage.agent.places.pins().into_iter().filter(|pin| pin.contains(&of_it)).count()
    };
    wait::wait_equal("programs at it", wait::SOON, &2, pins);
    host.sh(&format!("ip link set A up master {bridge}"));
    host.sh(&format!("ip link set B netns {}", ns.path().display()));
    wait::wait_equal("no programs at it", wait::SOON, &0, pins);
    ns.sh(&format!("ip addr add {own}/{prefix} dev B"));
    ns.sh("ip link set B up");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&hand.ns, at(c1.address(), 80));
}

#[test]
fn s87_a_container_without_networks_is_plumbed_by_hand() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80");
    let hand = alone(&stage, "hand");
    let (bridge, gateway, own, prefix) = place_by_hand(&stage);
    // Word for word: A and B, B renamed and given an address of its own inside.
    let (host, ns) = (&stage.net.host, &hand.ns);
    host.sh("ip link add A type veth peer name B");
    host.sh(&format!("ip link set A master {bridge}"));
    host.sh("ip link set A up");
    host.sh(&format!("ip link set B netns {}", ns.path().display()));
    ns.sh("ip link set dev B name eth0");
    ns.sh("ip link set eth0 address 12:34:56:78:9a:bc");
    ns.sh("ip link set eth0 up");
    ns.sh(&format!("ip addr add {own}/{prefix} dev eth0"));
    ns.sh(&format!("ip route add default via {gateway}"));
    host.wait_forwarding("A");
    ns.wait_up("eth0");
    let (_c1, inside) = (TcpServer::start(&c1.ns, 80), TcpServer::start(&hand.ns, 80));
    let _far = TcpServer::start(&stage.net.outside, 80);
    for _ in 0..2 {
        traffic::reaches(&hand.ns, at(c1.address(), 80));
        traffic::reaches(&c1.ns, at(own, 80));
        traffic::reaches(&stage.net.host, at(own, 80));
        assert_eq!(*traffic::reaches(&hand.ns, at(OUTSIDE, 80)).ip(), HOST);
        traffic::answers(&hand.ns, OUTSIDE);
        look_again(&mut stage);
        assert!(stage.net.host.sh("ip -o link show dev A").contains(&bridge), "A was moved");
    }
    // Not reached from outside: nothing of it is published.
    stage.net.route_to_host("172.16.0.0/12");
    traffic::unreachable(&stage.net.outside, at(own, 80));
    // Its end takes the veth along, as with Docker.
    stage.agent.ok("container rm -f hand");
    drop((inside, hand));
    wait::wait_until("the veth is gone", wait::SOON, || stage.net.host.ifindex("A").is_none());
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn s92_a_second_interface_by_hand_on_a_bridge_of_ones_own() {
    // What pipework does: another bridge, another interface, beside the network's own.
    let (mut stage, c1) = Stage::with_one("");
    let web = stage.agent.container("web", "n1", "-p 8080:80");
    let _web = TcpServer::start(&web.ns, 80);
    let host = &stage.net.host;
    host.sh("ip link add br1 type bridge stp_state 0");
    host.sh("ip addr add 10.98.1.254/24 dev br1");
    host.sh("ip link set br1 up");
    let peer = Netns::new("peer");
    for (ns, port, address) in [(&c1.ns, "v1", "10.98.1.1"), (&peer, "v2", "10.98.1.2")] {
        veth(host, port, ns, "eth1");
        host.sh(&format!("ip link set {port} master br1"));
        ns.sh(&format!("ip addr add {address}/24 dev eth1"));
    }
    for (ns, port) in [(&c1.ns, "v1"), (&peer, "v2")] {
        host.wait_forwarding(port);
        ns.wait_up("eth1");
    }
    let [own, far, gateway] = [1, 2, 254].map(|last| Ipv4Addr::new(10, 98, 1, last));
    let _server = TcpServer::start(&c1.ns, 80);
    for _ in 0..2 {
        assert_eq!(*traffic::reaches(&peer, at(own, 80)).ip(), far);
        traffic::answers(&c1.ns, far);
        traffic::answers(&c1.ns, gateway);
        traffic::answers(&stage.net.host, own);
        traffic::answers(&c1.ns, OUTSIDE);
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
        // That bridge is a way to the host like any other: the published port answers there.
        traffic::reaches(&peer, at(gateway, 8080));
        look_again(&mut stage);
    }
}

/// Packets between containers, and to the outside, go past the bridge: it hears of nobody by them, and forgets whom it
/// had heard. What the host sends to a container then goes to that one alone, and to nobody who is plugged in.
#[test]
fn d10_nothing_is_flooded_once_the_bridge_could_have_forgotten() {
    let (stage, c1) = Stage::with_one("");
    let c2 = stage.agent.container("c2", "n1", "");
    let hand = alone(&stage, "hand");
    let (bridge, gateway, own, prefix) = place_by_hand(&stage);
    let (host, ns) = (&stage.net.host, &hand.ns);
    // In hundredths of a second; five minutes is what Linux has for all bridges.
    host.sh(&format!("ip link set {bridge} type bridge ageing_time 100"));
    veth(host, "A", ns, "eth0");
    host.sh(&format!("ip link set A master {bridge}"));
    host.wait_forwarding("A");
    ns.sh(&format!("ip addr add {own}/{prefix} dev eth0"));
    ns.wait_up("eth0");
    traffic::answers(ns, gateway);
    traffic::answers(&c1.ns, c2.address());
    traffic::answers(&c2.ns, OUTSIDE);
    let learnt = host.sh(&format!("bridge fdb show br {bridge} dev A dynamic"));
    assert_ne!(learnt, "", "the bridge learns who is plugged in");
    wait::wait_equal("what the bridge has learnt", wait::START, &String::new(), || {
        host.sh(&format!("bridge fdb show br {bridge} dev A dynamic"))
    });
    let witness = Capture::arriving(ns, "eth0");
    for container in [&c1, &c2] {
        traffic::answers(host, container.address());
    }
    // It would see what is flooded: this is.
    let nobody = Ipv4Addr::from(u32::from(own) + 1);
    host.sh(&format!(
        "ip neigh replace {nobody} lladdr 02:00:00:00:00:99 dev {bridge} nud permanent"
    ));
    host.try_sh(&format!("ping -c 1 -W 1 {nobody}"));
    witness.wait_for("what is for nobody", |packet| packet.dst == nobody);
    witness.assert_none("what is for a container", |packet| {
        [c1.address(), c2.address()].iter().any(|address| packet.dst == *address)
    });
}
