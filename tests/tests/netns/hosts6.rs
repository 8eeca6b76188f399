//! Hosts as they are, over IPv6: lines that change, tunnels, firewalls, stations plugged in by hand.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

use bascule_tests::{
    Agent, Container, Netns, Topology,
    agent::Settings,
    capture::Capture,
    firewall::{Firewalld, Ufw},
    topology::{HOST6, NEIGHBOUR6, OUTSIDE6, UPLINK, veth},
    traffic::{self, Conversation, TcpServer, UdpServer},
    tunnel::Tunnel,
    wait,
};

use crate::{Stage, at6, bridge_of};

fn tcp(ns: &Netns, port: u16) -> TcpServer {
    TcpServer::start_at(ns, at6(Ipv6Addr::UNSPECIFIED, port))
}

fn udp(ns: &Netns, port: u16) -> UdpServer {
    UdpServer::start_at(ns, at6(Ipv6Addr::UNSPECIFIED, port))
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// A host that speaks both, and a container of a network with a prefix of its own.
fn stage(options: &str) -> (Stage, Container) {
    let net = Topology::dual();
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "--ipv6 --subnet fd73::/64");
    let c1 = stage.agent.container("c1", "n1", options);
    (stage, c1)
}

/// How a server sees a socket's next datagram.
fn seen(socket: &std::net::UdpSocket) -> std::io::Result<Ipv6Addr> {
    traffic::udp::ask_as::<SocketAddrV6>(socket, 32).map(|seen| *seen.ip())
}

const SECOND: &str = "2001:db8:201::1";
const PROVIDER: &str = "2001:db8:201::ff";

/// A second provider; either refuses the other's addresses.
fn second_line(net: &Topology) -> Netns {
    let provider = Netns::new("provider");
    veth(&net.host, "up1", &provider, "lan0");
    veth(&net.outside, "eth1", &provider, "wan0");
    let address = |ns: &Netns, dev: &str, address: &str| {
        ns.sh(&format!("ip -6 addr add {address}/64 dev {dev} nodad"));
    };
    address(&net.host, "up1", SECOND);
    address(&provider, "lan0", PROVIDER);
    address(&provider, "wan0", "2001:db8:209::ff");
    address(&net.outside, "eth1", "2001:db8:209::7");
    let back = format!("2001:db8:201::/64 via 2001:db8:209::ff src {OUTSIDE6}");
    net.outside.sh(&format!("ip -6 route add {back}"));
    provider.sh(&format!("ip -6 route add {OUTSIDE6}/128 via 2001:db8:209::7"));
    provider.sysctl_set("net/ipv6/conf/all/forwarding", "1");
    for (ns, own) in [(&provider, "2001:db8:201::/64"), (&net.router, "2001:db8:100::/64")] {
        ns.sh("nft add table ip6 customers");
        ns.sh("nft add chain ip6 customers from { type filter hook forward priority 0 ; }");
        ns.sh(&format!("nft add rule ip6 customers from iifname lan0 ip6 saddr != {own} drop"));
    }
    provider
}

#[test]
fn appendix_d5_flows_follow_routes_and_rules() {
    let (stage, c1) = stage("-p 8080:80");
    let _provider = second_line(&stage.net);
    stage.agent.network("n2", "--ipv6 --subnet fd74::/64");
    let c2 = stage.agent.container("c2", "n2", "");
    let _udp = udp(&stage.net.outside, 53);
    let _tcp = tcp(&c1.ns, 80);
    let host = &stage.net.host;
    host.sh(&format!("ip -6 route add default via {PROVIDER} dev up1 table 102"));
    host.sh("ip -6 rule add from fd74::/64 lookup 102");
    host.sh(&format!("ip -6 rule add from {SECOND} lookup 102"));
    let sockets =
        [&c1, &c2].map(|c| traffic::udp::client(&c.ns, at6(OUTSIDE6, 53)).expect("a socket"));
    for (socket, want) in sockets.iter().zip([HOST6, ip(SECOND)]) {
        wait::wait_until("the first answer", wait::SOON, || seen(socket).is_ok_and(|s| s == want));
    }
    for round in 0..8 {
        for (socket, want) in sockets.iter().zip([HOST6, ip(SECOND)]) {
            assert_eq!(seen(socket).unwrap_or_else(|e| panic!("{round} {want}: {e}")), want);
        }
        traffic::reaches(&stage.net.outside, at6(ip(SECOND), 8080));
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    host.sh(&format!("ip -6 route replace default via {PROVIDER} dev up1"));
    wait::wait_until("the same socket's datagrams use the new line", wait::SOON, || {
        seen(&sockets[0]).is_ok_and(|seen| seen == ip(SECOND))
    });
}

#[test]
fn appendix_d5_a_flow_survives_a_new_prefix() {
    let (stage, c1) = stage("-p 8080:80");
    let (_far, _near) = (udp(&stage.net.outside, 53), tcp(&c1.ns, 80));
    let socket = traffic::udp::client(&c1.ns, at6(OUTSIDE6, 53)).expect("a socket");
    assert_eq!(seen(&socket).expect("an answer"), HOST6);
    let new = ip("2001:db8:100::77");
    stage.net.host.sh(&format!("ip -6 addr add {new}/64 dev {UPLINK} nodad"));
    stage.net.host.sh(&format!("ip -6 addr del {HOST6}/64 dev {UPLINK}"));
    wait::wait_until("the same socket's datagrams bear the new address", wait::SOON, || {
        seen(&socket).is_ok_and(|seen| seen == new)
    });
    traffic::reaches(&stage.net.outside, at6(new, 8080));
}

#[test]
fn appendix_d5_a_vpn_is_an_uplink() {
    let (stage, c1) = stage("-p 8080:80 -p 8053:53/udp");
    let office = Netns::new("office");
    let _tunnel = Tunnel::start(&stage.net.host, &office, "vpn0");
    let (own, far) = (ip("fd99:7::1"), ip("fd99:7::2"));
    for (ns, address) in [(&stage.net.host, own), (&office, far)] {
        ns.sh("ip link set vpn0 mtu 1380");
        ns.sh(&format!("ip -6 addr add {address}/64 dev vpn0 nodad"));
    }
    let (_tcp, _udp) = (tcp(&c1.ns, 80), udp(&c1.ns, 53));
    let (_far, _far_udp) = (tcp(&office, 80), udp(&office, 53));
    wait::wait_until("the tunnel is an uplink", wait::SOON, || {
        Conversation::open(&c1.ns, at6(far, 80)).is_ok_and(|open| *open.seen_as.ip() == own)
    });
    assert_eq!(*traffic::exchange(&c1.ns, at6(far, 53), 64).ip(), own);
    traffic::answers(&c1.ns, far);
    assert_eq!(*traffic::reaches(&office, at6(own, 8080)).ip(), far);
    assert_eq!(*traffic::exchange(&office, at6(own, 8053), 64).ip(), far);
    traffic::answers(&c1.ns, OUTSIDE6);
    // N26: narrower than the network, both ways.
    let flow = traffic::iperf(&office, 5202, &c1.ns, at6(far, 5202), 1, "");
    assert!(flow.received > 1 << 20, "out: {flow:?}");
    let flow = traffic::iperf(&office, 5202, &c1.ns, at6(far, 5202), 1, "-R");
    assert!(flow.received > 1 << 20, "in: {flow:?}");
}

#[test]
fn n5_n38_firewalls_lose_nothing() {
    let (stage, c1) = stage("-p 8080:80 -p 8053:53/udp");
    let c2 = stage.agent.container("c2", "n1", "");
    stage.agent.network("n2", "--ipv6 --subnet fd74::/64");
    let c3 = stage.agent.container("c3", "n2", "");
    let host = &stage.net.host;
    let _servers = (tcp(&c1.ns, 80), udp(&c1.ns, 53), udp(&stage.net.outside, 53));
    for switch in ["0", "1"] {
        host.sysctl_set("net/bridge/bridge-nf-call-ip6tables", switch);
        host.sh("ip6tables-legacy -P FORWARD DROP");
        for client in [&stage.net.outside, &stage.net.neighbour, &c2.ns, &c3.ns] {
            traffic::reaches(client, at6(HOST6, 8080));
        }
        traffic::reaches(&c2.ns, at6(c1.address6(), 80));
        traffic::unreachable(&c3.ns, at6(c1.address6(), 80));
        traffic::exchange(&c3.ns, at6(OUTSIDE6, 53), 64);
    }
    let sockets = [
        (&stage.net.outside, at6(HOST6, 8053)),
        (&c2.ns, at6(c1.address6(), 53)),
        (&c3.ns, at6(OUTSIDE6, 53)),
    ]
    .map(|(client, to)| traffic::udp::client(client, to).expect("a socket"));
    let file = stage.agent.places.root().join("trap.nft");
    let trap = "table ip6 trap {\n chain f {\n \
                type filter hook forward priority -300 ; policy drop ;\n }\n}\n";
    std::fs::write(&file, trap).expect("a ruleset");
    for round in 0..20 {
        host.sh(&format!("nft -f {}", file.display()));
        for socket in &sockets {
            seen(socket).unwrap_or_else(|e| panic!("round {round}: {e}"));
        }
        host.sh("nft flush ruleset");
        for socket in &sockets {
            seen(socket).unwrap_or_else(|e| panic!("round {round}, flushed: {e}"));
        }
    }
}

#[test]
fn s104_a_host_that_does_not_forward() {
    let net = Topology::dual();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--ip-forward=false"]));
    let stage = Stage { agent, net };
    stage.agent.network("n1", "--ipv6");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    assert_eq!(stage.net.host.sysctl("net/ipv6/conf/all/forwarding"), "0");
    let (_tcp, _far) = (tcp(&c1.ns, 80), tcp(&stage.net.outside, 80));
    traffic::unreachable(&c1.ns, at6(OUTSIDE6, 80));
    traffic::unreachable(&stage.net.outside, at6(HOST6, 8080));
    traffic::reaches(&c2.ns, at6(c1.address6(), 80));
    wait::wait_until("the drops are counted", wait::SOON, || {
        stage.agent.metrics().drops_anywhere("forwarding_off") >= 2
    });
    let log = stage.agent.log();
    let warned = log.lines().any(|line| line.contains("WARN") && line.contains("IPv6"));
    assert!(warned, "MOBY-MQ-005: {log}");
}

#[test]
fn s87_s89_stations_and_links_by_hand() {
    let (stage, c1) = stage("");
    let c2 = stage.agent.container("c2", "n1", "");
    let bridge = bridge_of(&stage, "n1");
    let station = Netns::new("station");
    veth(&stage.net.host, "hand0", &station, "eth0");
    stage.net.host.sh(&format!("ip link set hand0 master {bridge}"));
    stage.net.host.wait_forwarding("hand0");
    station.wait_up("eth0");
    let (own, gateway) = (ip("fd73::99"), ip("fd73::1"));
    station.sh(&format!("ip -6 addr add {own}/64 dev eth0 nodad"));
    station.sh(&format!("ip -6 route add default via {gateway}"));
    let _servers = (tcp(&c1.ns, 80), tcp(&station, 80), tcp(&stage.net.outside, 80));
    traffic::answers(&station, gateway);
    traffic::reaches(&station, at6(c1.address6(), 80));
    traffic::reaches(&c1.ns, at6(own, 80));
    assert_eq!(*traffic::reaches(&station, at6(OUTSIDE6, 80)).ip(), HOST6);
    // Point to point, beside the network.
    veth(&c1.ns, "ptp0", &c2.ns, "ptp0");
    let (a, b) = (ip("fd01::1"), ip("fd01::2"));
    for (ns, own, far) in [(&c1.ns, a, b), (&c2.ns, b, a)] {
        ns.sh(&format!("ip -6 addr add {own}/128 dev ptp0 nodad"));
        ns.sh(&format!("ip -6 route add {far}/128 dev ptp0"));
    }
    assert_eq!(*traffic::reaches(&c2.ns, at6(a, 80)).ip(), b);
    traffic::answers(&c1.ns, NEIGHBOUR6);
}

#[test]
fn s77_a_bridge_that_is_brought_has_both_families() {
    let net = Topology::dual();
    net.host.sh("ip link add bridge0 type bridge");
    net.host.sh("ip addr add 192.168.5.1/24 dev bridge0");
    net.host.sh("ip -6 addr add fd05::1/64 dev bridge0 nodad");
    net.host.sh("ip link set bridge0 up");
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "--ipv6 -o com.docker.network.bridge.name=bridge0");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    assert_eq!(c1.address6().segments()[0], 0xfd05);
    let _servers = (tcp(&c1.ns, 80), tcp(&stage.net.outside, 80));
    traffic::reaches(&c2.ns, at6(c1.address6(), 80));
    traffic::answers(&c2.ns, ip("fd05::1"));
    assert_eq!(*traffic::reaches(&c2.ns, at6(OUTSIDE6, 80)).ip(), HOST6);
    assert_eq!(*traffic::reaches(&stage.net.outside, at6(HOST6, 8080)).ip(), OUTSIDE6);
    stage.agent.ok("container rm -f c1 c2");
    stage.agent.ok("network rm n1");
    let shown = stage.net.host.sh("ip -6 addr show dev bridge0");
    assert!(shown.contains("fd05::1/64"), "{shown}");
}

#[test]
fn appendix_d12_ufw_and_firewalld() {
    let (stage, c1) = stage("-p 8080:80 -p 8053:53/udp");
    let c2 = stage.agent.container("c2", "n1", "");
    let _servers = (tcp(&c1.ns, 80), udp(&c1.ns, 53), tcp(&stage.net.outside, 80));
    let _own = tcp(&stage.net.host, 2222);
    let works = || {
        for client in [&stage.net.outside, &stage.net.neighbour, &c2.ns] {
            traffic::reaches(client, at6(HOST6, 8080));
            traffic::exchange(client, at6(HOST6, 8053), 64);
        }
        traffic::reaches(&c2.ns, at6(c1.address6(), 80));
        assert_eq!(*traffic::reaches(&c2.ns, at6(OUTSIDE6, 80)).ip(), HOST6);
        traffic::unreachable(&stage.net.outside, at6(HOST6, 2222));
    };
    let ufw = Ufw::new(&stage.net.host);
    ufw.run("--force enable");
    works();
    ufw.run("disable");
    let firewalld = Firewalld::start(&stage.net.host);
    // firewalld refuses what is not allowed, and ufw says nothing: either way nobody gets in.
    let shut = || Conversation::open(&stage.net.outside, at6(HOST6, 2222)).is_err();
    wait::wait_until("the host's own port is shut", wait::SOON, shut);
    for _ in 0..3 {
        traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
        assert_eq!(*traffic::reaches(&c2.ns, at6(OUTSIDE6, 80)).ip(), HOST6);
        assert!(firewalld.cmd("--reload").ok());
    }
}

#[test]
fn multicast_is_heard_within_the_network_alone() {
    let (stage, c1) = stage("");
    let c2 = stage.agent.container("c2", "n1", "");
    stage.agent.network("n2", "--ipv6 --subnet fd74::/64");
    let c3 = stage.agent.container("c3", "n2", "");
    let line = Capture::both_ways(&stage.net.host, UPLINK);
    for group in [ip("ff02::fb"), ip("ff05::1234")] {
        let ear = |container: &Container| {
            let socket = container.ns.run(|| UdpSocket::bind(at6(Ipv6Addr::UNSPECIFIED, 5353)));
            let socket = socket.expect("a port");
            let index = container.ns.ifindex("eth0").expect("eth0");
            container.ns.run(|| socket.join_multicast_v6(&group, index)).expect("join");
            socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("set");
            socket
        };
        let (near, far) = (ear(&c2), ear(&c3));
        let index = c1.ns.ifindex("eth0").expect("eth0");
        let own = c1.ns.run(|| UdpSocket::bind(at6(c1.address6(), 0))).expect("a socket");
        let to = SocketAddrV6::new(group, 5353, 0, index);
        let mut buffer = [0; 16];
        wait::wait_until(&format!("{group} is heard"), wait::SOON, || {
            own.send_to(b"hello", to).expect("send");
            near.recv_from(&mut buffer).is_ok_and(|(_, from)| from.ip() == c1.address6())
        });
        assert!(far.recv_from(&mut buffer).is_err(), "{group} is heard in another network");
    }
    let hello = line.raw().iter().any(|bytes| bytes.ends_with(b"hello"));
    assert!(!hello, "a container's multicast left the host");
}
