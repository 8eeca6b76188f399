//! Several ways out of one host: a second line with its own provider, rules about who takes which way,
//! and lines that change while they are used.

use std::net::{Ipv4Addr, UdpSocket};

use bascule_tests::{
    Container, Netns, Topology,
    topology::{HOST, OUTSIDE, ROUTER, UPLINK, veth},
    traffic::{self, TcpServer, UdpServer},
    tunnel::Tunnel,
    wait,
};

use crate::{Stage, at};

/// The host's address on the second line.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
/// The second provider's router.
pub(crate) const PROVIDER: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 254);
/// The outside, as the second line leads there.
const OUTSIDE_BY_SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 9, 7);

/// A second provider between the host and the outside; either provider refuses the other's addresses.
fn second_line(net: &Topology) -> Netns {
    let provider = Netns::new("provider");
    veth(&net.host, "up1", &provider, "lan0");
    veth(&net.outside, "eth1", &provider, "wan0");
    net.host.sh(&format!("ip addr add {SECOND}/24 dev up1"));
    net.outside.sh(&format!("ip addr add {OUTSIDE_BY_SECOND}/24 dev eth1"));
    net.outside.sh(&format!("ip route add 10.99.1.0/24 via 10.99.9.254 src {OUTSIDE}"));
    provider.sh(&format!("ip addr add {PROVIDER}/24 dev lan0"));
    provider.sh("ip addr add 10.99.9.254/24 dev wan0");
    provider.sh(&format!("ip route add {OUTSIDE}/32 via {OUTSIDE_BY_SECOND}"));
    provider.sysctl_set("net/ipv4/ip_forward", "1");
    let refuse = |ns: &Netns, lan: &str, own: &str| {
        ns.sh("nft add table ip customers");
        ns.sh("nft add chain ip customers from { type filter hook forward priority 0 ; }");
        ns.sh(&format!("nft add rule ip customers from iifname {lan} ip saddr != {own} drop"));
    };
    refuse(&provider, "lan0", "10.99.1.0/24");
    refuse(&net.router, "lan0", "198.51.100.0/24");
    provider
}

/// A host with a second line, which it uses for nothing yet.
pub(crate) fn stage(options: &str) -> (Stage, Netns, Container) {
    let stage = Stage::new();
    let provider = second_line(&stage.net);
    stage.agent.network("n1", "--subnet 10.73.0.0/24");
    let c1 = stage.agent.container("c1", "n1", options);
    (stage, provider, c1)
}

/// A client's socket that lives as long as the test.
pub(crate) fn socket(client: &Netns, port: u16) -> UdpSocket {
    traffic::udp::client(client, at(OUTSIDE, port)).expect("a socket")
}

/// Exchanges datagrams on one socket for so long that routes are looked up anew several times.
#[track_caller]
pub(crate) fn stays(socket: &UdpSocket, seen_as: Ipv4Addr) {
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(4) {
        let seen = traffic::udp::ask(socket, 32).expect("an answer");
        assert_eq!(*seen.ip(), seen_as, "after {:?}", start.elapsed());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn appendix_d5_a_flow_survives_a_new_lease() {
    let (stage, c1) = Stage::with_one("-p 8053:53/udp");
    let _far = UdpServer::start(&stage.net.outside, 53);
    let _near = UdpServer::start(&c1.ns, 53);
    let socket = socket(&c1.ns, 53);
    assert_eq!(*traffic::udp::ask(&socket, 32).expect("an answer").ip(), HOST);
    traffic::exchange(&stage.net.outside, at(HOST, 8053), 32);
    let host = &stage.net.host;
    let leased = Ipv4Addr::new(198, 51, 100, 77);
    host.sh(&format!("ip addr del {HOST}/24 dev {UPLINK}"));
    host.sh(&format!("ip addr add {leased}/24 dev {UPLINK}"));
    host.sh(&format!("ip route replace default via {ROUTER}"));
    wait::wait_until("the same socket's datagrams bear the new address", wait::SOON, || {
        traffic::udp::ask(&socket, 32).is_ok_and(|seen| *seen.ip() == leased)
    });
    traffic::exchange(&stage.net.outside, at(leased, 8053), 32);
    // Somebody else gets the old one: nothing of ours is there.
    stage.net.neighbour.sh(&format!("ip addr add {HOST}/24 dev eth0"));
    traffic::refused(&stage.net.outside, at(HOST, 8053));
}

#[test]
fn several_uplinks_answer_on_the_line_that_was_asked() {
    let (stage, _provider, c1) = stage("-p 8080:80 -p 8053:53/udp");
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&c1.ns, 53);
    // What hosts with two providers have: answers go out where their address belongs.
    let host = &stage.net.host;
    host.sh(&format!("ip route add default via {PROVIDER} dev up1 table 102"));
    host.sh(&format!("ip rule add from {SECOND} lookup 102"));
    for _ in 0..3 {
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
        traffic::reaches(&stage.net.outside, at(SECOND, 8080));
        traffic::exchange(&stage.net.outside, at(SECOND, 8053), 32);
    }
    let far = traffic::udp::client(&stage.net.outside, at(SECOND, 8053)).expect("a socket");
    stays(&far, OUTSIDE);
    // New flows of the container take the default route all the same.
    let _far = TcpServer::start(&stage.net.outside, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
}

#[test]
fn n39_routing_by_mark_is_not_broken() {
    let (stage, _provider, c1) = stage("-p 8080:80");
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let host = &stage.net.host;
    host.sh(&format!("ip route add default via {PROVIDER} dev up1 table 102"));
    host.sh("ip rule add fwmark 7 lookup 102");
    // Marked sockets of the host take the second line, everything else the first.
    let ping = traffic::ping_with(host, OUTSIDE, 2, "-i 0.2 -W 1 -m 7");
    assert_eq!(ping.received, 2, "{}", ping.text);
    let source = |options: &str| {
        let seen = host.sh(&format!("ip route get {OUTSIDE} {options}"));
        seen.split("src ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
    };
    assert_eq!(source("mark 7"), Some(SECOND.to_string()));
    assert_eq!(*traffic::reaches(host, at(OUTSIDE, 80)).ip(), HOST);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
    // A mark by the host's firewall on what it forwards for others.
    let guest = Netns::new("guest");
    veth(host, "vm0", &guest, "eth0");
    host.sh("ip addr add 10.98.0.1/24 dev vm0");
    guest.sh("ip addr add 10.98.0.2/24 dev eth0");
    guest.sh("ip route add default via 10.98.0.1");
    host.sh("nft add table ip marks");
    host.sh("nft add chain ip marks pre { type filter hook prerouting priority -150 ; }");
    host.sh("nft add chain ip marks post { type nat hook postrouting priority 100 ; }");
    host.sh("nft add rule ip marks pre iifname vm0 meta mark set 7");
    host.sh("nft add rule ip marks post oifname up1 ip saddr 10.98.0.0/24 masquerade");
    assert_eq!(*traffic::reaches(&guest, at(OUTSIDE, 80)).ip(), SECOND);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn n39_everything_but_a_mark_goes_by_the_vpn() {
    // What wg-quick sets up: all but the tunnel's own packets take the tunnel's table.
    let (stage, _provider, c1) = stage("-p 8080:80");
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&stage.net.outside, 53);
    let host = &stage.net.host;
    host.sh(&format!("ip route add default via {PROVIDER} dev up1 table 51820"));
    host.sh("ip rule add not fwmark 51820 lookup 51820");
    host.sh("ip rule add lookup main suppress_prefixlength 0");
    stays(&socket(&c1.ns, 53), SECOND);
    traffic::reaches(&stage.net.outside, at(SECOND, 8080));
    // The host's own networks are reached as before.
    traffic::answers(&c1.ns, ROUTER);
    traffic::reaches(&stage.net.neighbour, at(HOST, 8080));
}

#[test]
fn strict_rp_filter_hurts_nothing() {
    let stage = Stage::new();
    let provider = second_line(&stage.net);
    for key in ["all", "default", UPLINK, "up1"] {
        stage.net.host.sysctl_set(&format!("net/ipv4/conf/{key}/rp_filter"), "1");
    }
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    for container in [&c1, &c2, &c3] {
        container.ns.sysctl_set("net/ipv4/conf/all/rp_filter", "1");
        container.ns.sysctl_set("net/ipv4/conf/eth0/rp_filter", "1");
    }
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let _near = TcpServer::start(&stage.net.host, 81);
    for client in [&stage.net.outside, &stage.net.neighbour, &c2.ns, &c3.ns] {
        traffic::reaches(client, at(HOST, 8080));
    }
    traffic::reaches(&provider, at(SECOND, 8080));
    for client in [&c2.ns, &stage.net.host] {
        traffic::reaches(client, at(c1.address(), 80));
    }
    for container in [&c1, &c3] {
        assert_eq!(*traffic::reaches(&container.ns, at(OUTSIDE, 80)).ip(), HOST);
        traffic::reaches(&container.ns, at(HOST, 81));
    }
    traffic::answers(&c1.ns, OUTSIDE);
    // Handed to the kernel: too large for the way out.
    let ping = traffic::ping_with(&c1.ns, OUTSIDE, 2, "-i 0.2 -W 1 -s 4000");
    assert_eq!(ping.received, 2, "{}", ping.text);
}

#[test]
fn equal_routes_by_two_lines_keep_every_flow_on_its_own() {
    let (stage, provider, c1) = stage("");
    let _tcp = TcpServer::start(&stage.net.outside, 80);
    // Many addresses out there, so that both lines are chosen.
    let far: Vec<Ipv4Addr> = (100..116).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
    for address in &far {
        stage.net.outside.sh(&format!("ip addr add {address}/32 dev lo"));
    }
    provider.sh("ip route add 203.0.113.0/24 via 10.99.9.7");
    stage.net.router.sh(&format!("ip route add 203.0.113.96/27 via {OUTSIDE}"));
    stage.net.host.sh(&format!(
        "ip route replace default nexthop via {ROUTER} dev {UPLINK} nexthop via {PROVIDER} dev up1"
    ));
    let mut open: Vec<_> = far
        .iter()
        .map(|to| traffic::Conversation::open(&c1.ns, at(*to, 80)).expect("a connection"))
        .collect();
    let by: Vec<_> = open.iter().map(|conversation| *conversation.seen_as.ip()).collect();
    assert!(by.contains(&HOST) && by.contains(&SECOND), "{by:?}");
    // Routes are looked up anew meanwhile, and no flow changes lines: its address would be refused there.
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(400));
        for (conversation, by) in open.iter_mut().zip(&by) {
            conversation.say().unwrap_or_else(|e| panic!("the connection by {by}: {e}"));
        }
    }
}

#[test]
fn appendix_d5_a_tunnel_that_breaks_and_comes_back_is_used_again() {
    let (stage, _provider, c1) = stage("-p 8053:53/udp");
    let office = Netns::new("office");
    let _far = UdpServer::start(&office, 53);
    let _inside = UdpServer::start(&c1.ns, 53);
    let own = |n: u8| Ipv4Addr::new(10, 99, 7, n);
    let connect = |n: u8| {
        let tunnel = Tunnel::start(&stage.net.host, &office, "vpn0");
        stage.net.host.sh(&format!("ip addr add {}/32 peer 10.99.7.254 dev vpn0", own(n)));
        office.sh(&format!("ip addr add 10.99.7.254/32 peer {} dev vpn0", own(n)));
        tunnel
    };
    let first = connect(1);
    let to = at(Ipv4Addr::new(10, 99, 7, 254), 53);
    let socket = traffic::udp::client(&c1.ns, to).expect("a socket");
    let uses = |n: u8| {
        wait::wait_until(&format!("the socket uses tunnel {n}"), wait::SOON, || {
            traffic::udp::ask(&socket, 32).is_ok_and(|seen| *seen.ip() == own(n))
        });
        traffic::exchange(&office, at(own(n), 8053), 32);
    };
    uses(1);
    // Another device with another address, as PPP and VPNs have it.
    drop(first);
    wait::wait_until("the device is gone", wait::SOON, || {
        stage.net.host.ifindex("vpn0").is_none() && office.ifindex("vpn0").is_none()
    });
    let _second = connect(2);
    uses(2);
}

#[test]
fn a_way_that_the_host_refuses_is_refused_at_once() {
    let (stage, c1) = Stage::with_one("");
    let host = &stage.net.host;
    let told = |to: Ipv4Addr, want: &str| {
        let ping = traffic::ping_with(&c1.ns, to, 1, "-W 2");
        assert!(ping.received == 0 && ping.text.contains(want), "{want}: {}", ping.text);
    };
    for (kind, last, want) in [
        ("unreachable", 101, "Destination Host Unreachable"),
        ("prohibit", 102, "Packet filtered"),
        ("blackhole", 103, "100% packet loss"),
    ] {
        let to = Ipv4Addr::new(203, 0, 113, last);
        host.sh(&format!("ip route add {kind} {to}/32"));
        told(to, want);
    }
    host.sh("ip route del default");
    told(OUTSIDE, "Destination Net Unreachable");
    host.sh(&format!("ip route add default via {ROUTER}"));
    traffic::answers(&c1.ns, OUTSIDE);
    // A line that is unplugged, and plugged in again.
    host.sh(&format!("ip link set {UPLINK} down"));
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    host.sh(&format!("ip link set {UPLINK} up"));
    host.sh(&format!("ip route replace default via {ROUTER}"));
    wait::wait_until("the outside answers again", wait::SOON, || {
        traffic::ping(&c1.ns, OUTSIDE, 1).received == 1
    });
}

#[test]
fn a_line_without_an_address_uses_the_hosts_own() {
    // As routers have it: the address is on the loopback device, the lines have none.
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let provider = Netns::new("provider");
    veth(&stage.net.host, "up1", &provider, "lan0");
    let own = Ipv4Addr::new(10, 99, 5, 5);
    stage.net.host.sh(&format!("ip addr add {own}/32 dev lo"));
    stage.net.host.sh("ip route add 10.99.6.1/32 dev up1 src 10.99.5.5");
    provider.sh("ip addr add 10.99.6.1/32 dev lan0");
    provider.sh(&format!("ip route add {own}/32 dev lan0"));
    let (_far, _web) = (TcpServer::start(&provider, 80), TcpServer::start(&c1.ns, 80));
    wait::wait_until("the way out is open", wait::SOON, || {
        traffic::Conversation::open(&c1.ns, at(Ipv4Addr::new(10, 99, 6, 1), 80))
            .is_ok_and(|open| *open.seen_as.ip() == own)
    });
    traffic::reaches(&provider, at(own, 8080));
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 8080)).ip(), OUTSIDE);
}
