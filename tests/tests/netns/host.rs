//! The host keeps what is its own: no rule of ours in its firewall, and no harm from its rules.

use bascule_tests::{
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

#[test]
fn s100_s101_no_firewall_rule_exists_anywhere() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::answers(&c1.ns, OUTSIDE);
    assert_eq!(stage.net.host.firewall_rules(), "");
    assert_eq!(c1.ns.firewall_rules(), "");
}

/// What a careful administrator's firewall does to forwarded and bridged packets.
fn drop_forwarded(stage: &Stage) {
    let host = &stage.net.host;
    host.sh("nft add table inet careful");
    for hook in ["input", "forward"] {
        let chain = format!("{{ type filter hook {hook} priority 0 ; policy drop ; }}");
        host.sh(&format!("nft add chain inet careful {hook} {chain}"));
    }
    host.sh("nft add rule inet careful input ct state established,related accept");
    host.sysctl_set("net/bridge/bridge-nf-call-iptables", "1");
}

#[test]
fn moby_inc_014_a_closed_firewall_does_not_hurt_the_fast_path() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    let _server = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let _udp = UdpServer::start(&stage.net.outside, 53);
    drop_forwarded(&stage);
    traffic::reaches(&c2.ns, at(c1.address(), 80));
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&c2.ns, at(HOST, 8080));
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 4000);
    traffic::answers(&c1.ns, OUTSIDE);
}

#[test]
fn a_firewall_reload_under_traffic_loses_nothing() {
    let (stage, c1) = Stage::with_one("");
    drop_forwarded(&stage);
    let ns = c1.ns.clone();
    let ping = std::thread::spawn(move || traffic::ping_with(&ns, OUTSIDE, 100, "-i 0.02 -W 1"));
    for _ in 0..5 {
        stage.net.host.sh("nft flush ruleset");
        drop_forwarded(&stage);
    }
    let ping = ping.join().expect("ping");
    assert_eq!(ping.received, 100, "{}", ping.text);
}

#[test]
fn the_hosts_own_services_are_reached_as_before() {
    let (stage, _c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&stage.net.host, 22);
    let _udp = UdpServer::start(&stage.net.host, 53);
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 22)).ip(), OUTSIDE);
    traffic::exchange(&stage.net.outside, at(HOST, 53), 4000);
    traffic::answers(&stage.net.outside, HOST);
    let _far = TcpServer::start(&stage.net.outside, 80);
    assert_eq!(*traffic::reaches(&stage.net.host, at(OUTSIDE, 80)).ip(), HOST);
    // From a port of the range that containers are masqueraded with, too.
    let flow =
        traffic::iperf(&stage.net.outside, 5201, &stage.net.host, at(OUTSIDE, 5201), 1, "-R");
    assert!(flow.received > 1 << 20);
}

#[test]
fn n37_what_the_host_routes_for_others_is_not_touched() {
    // A virtual machine's network that the host routes, with nothing of ours in it.
    let (stage, _c1) = Stage::with_one("");
    let guest = bascule_tests::Netns::new("guest");
    bascule_tests::topology::veth(&stage.net.host, "vm0", &guest, "eth0");
    stage.net.host.sh("ip addr add 10.99.0.1/24 dev vm0");
    guest.sh("ip addr add 10.99.0.2/24 dev eth0");
    guest.sh("ip route add default via 10.99.0.1");
    stage.net.route_to_host("10.99.0.0/24");
    let _server = TcpServer::start(&stage.net.outside, 80);
    let seen_as = traffic::reaches(&guest, at(OUTSIDE, 80));
    assert_eq!(seen_as.ip().to_string(), "10.99.0.2");
}

#[test]
fn s87_a_station_plugged_in_by_hand_works() {
    let (stage, c1) = Stage::with_one("");
    let id = stage.agent.inspect("network", "n1")["Id"].as_str().expect("an id").to_owned();
    let bridge = format!("br-{}", &id[..12]);
    let (gateway, prefix) = stage.net.host.addresses(&bridge)[0];
    let own = std::net::Ipv4Addr::from(u32::from(gateway) + 200);
    let station = bascule_tests::Netns::new("station");
    bascule_tests::topology::veth(&stage.net.host, "hand0", &station, "eth0");
    stage.net.host.sh(&format!("ip link set hand0 master {bridge}"));
    stage.net.host.wait_forwarding("hand0");
    station.wait_up("eth0");
    station.sh(&format!("ip addr add {own}/{prefix} dev eth0"));
    station.sh(&format!("ip route add default via {gateway}"));
    traffic::answers(&station, gateway);
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&station, at(c1.address(), 80));
    let _far = TcpServer::start(&stage.net.outside, 80);
    assert_eq!(*traffic::reaches(&station, at(OUTSIDE, 80)).ip(), HOST);
    assert!(stage.net.host.ifindex("hand0").is_some());
}
