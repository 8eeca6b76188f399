//! Networks without a bridge between their containers (`-o bascule.l2=bpf`): they have what the others have.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6},
};

use bascule_common::abi::Ip6;
use bascule_tests::{
    Container, Netns,
    capture::Capture,
    frame::Body,
    topology::{HOST, HOST6, OUTSIDE, OUTSIDE6, ROUTER, UPLINK},
    traffic::{self, Conversation, TcpServer, UdpServer},
    wait,
};
use serde_json::Value;

use crate::{Stage, at, at6, bridge_of};

const L2: &str = "-o bascule.l2=bpf";
const ICC_OFF: &str = "-o com.docker.network.bridge.enable_icc=false";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1);
const SUBNETS: &str = "--subnet 172.30.1.0/24 --subnet fd73::/64";

/// A host with a network of both families and two containers on it.
fn pair(network: &str, options: &str) -> (Stage, Container, Container) {
    let stage = Stage::dual();
    stage.agent.network("n1", &format!("{L2} {SUBNETS} {network}"));
    let c1 = stage.agent.container("c1", "n1", options);
    let c2 = stage.agent.container("c2", "n1", "");
    (stage, c1, c2)
}

/// A server of a container on a port, in both families.
fn serve(container: &Container, port: u16) -> [TcpServer; 2] {
    [
        TcpServer::start_at(&container.ns, at(container.address(), port)),
        TcpServer::start_at(&container.ns, at6(container.address6(), port)),
    ]
}

/// The address of a station's link.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    Ip6::link_local(&mac).into()
}

#[test]
fn decisions_8_16_the_device_has_no_ports_and_the_host_asks_nobody() {
    let (stage, c1, _c2) = pair("", "");
    let (host, bridge) = (&stage.net.host, bridge_of(&stage, "n1"));
    let shown = stage.agent.inspect("network", "n1");
    assert_eq!(shown["Options"]["bascule.l2"], "bpf");
    assert_eq!(host.sh(&format!("ip link show master {bridge}")), "");
    let device = host.sh(&format!("ip -d link show dev {bridge}"));
    assert!(device.contains("NOARP") && device.contains("bridge "), "{device}");
    let addresses = host.sh(&format!("ip -6 addr show dev {bridge}"));
    for wanted in [GATEWAY6, link_local(host.mac(&bridge))] {
        assert!(addresses.contains(&format!("inet6 {wanted}/64")), "{addresses}");
    }
    assert!(!addresses.contains("tentative"), "{addresses}");
    traffic::answers(host, c1.address());
    traffic::answers(host, c1.address6());
    assert_eq!(host.sh(&format!("ip neigh show dev {bridge}")), "");
}

#[test]
fn n13_s93_neighbours_find_and_reach_each_other() {
    let (stage, c1, c2) = pair("", "");
    let _servers = serve(&c2, 80);
    let _udp = UdpServer::start_at(&c2.ns, at(c2.address(), 53));
    traffic::answers(&c1.ns, c2.address());
    traffic::answers(&c1.ns, c2.address6());
    traffic::answers(&c1.ns, format!("{}%eth0", link_local(c2.ns.mac("eth0"))));
    assert_eq!(*traffic::reaches(&c1.ns, at(c2.address(), 80)).ip(), c1.address());
    assert_eq!(*traffic::reaches(&c1.ns, at6(c2.address6(), 80)).ip(), c1.address6());
    assert_eq!(*traffic::exchange(&c1.ns, at(c2.address(), 53), 20_000).ip(), c1.address());
    let known = c1.ns.sh("ip neigh");
    let mac = stage.net.host.mac(&bridge_of(&stage, "n1"));
    let of = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    for to in [IpAddr::from(c2.address()), c2.address6().into()] {
        assert!(
            known.contains(&format!("{to} dev eth0 lladdr {}", of(c2.ns.mac("eth0")))),
            "{known}"
        );
    }
    traffic::answers(&c1.ns, GATEWAY);
    let known = c1.ns.sh("ip neigh");
    assert!(known.contains(&format!("{GATEWAY} dev eth0 lladdr {}", of(mac))), "{known}");
    // Who has been known for long is asked himself, and the way there is found again.
    c1.ns.sh("ip neigh flush all");
    traffic::answers(&c1.ns, c2.address6());
    traffic::answers(&c1.ns, c2.address());
}

#[test]
fn n13_the_host_and_its_containers_reach_each_other() {
    let (stage, c1, _c2) = pair("", "");
    let (host, bridge) = (&stage.net.host, bridge_of(&stage, "n1"));
    let _inside = serve(&c1, 80);
    let _udp = UdpServer::start_at(&c1.ns, at(c1.address(), 53));
    let _host =
        [TcpServer::start(host, 81), TcpServer::start_at(host, at6(Ipv6Addr::UNSPECIFIED, 82))];
    let of_link = link_local(c1.ns.mac("eth0"));
    traffic::answers(host, format!("{of_link}%{bridge}"));
    assert_eq!(*traffic::reaches(host, at(c1.address(), 80)).ip(), GATEWAY);
    assert_eq!(*traffic::reaches(host, at6(c1.address6(), 80)).ip(), GATEWAY6);
    assert_eq!(*traffic::exchange(host, at(c1.address(), 53), 20_000).ip(), GATEWAY);
    for to in [IpAddr::from(GATEWAY), HOST.into(), GATEWAY6.into(), HOST6.into()] {
        traffic::answers(&c1.ns, to);
    }
    traffic::answers(&c1.ns, format!("{}%eth0", link_local(host.mac(&bridge))));
    for to in [GATEWAY, HOST] {
        assert_eq!(*traffic::reaches(&c1.ns, at(to, 81)).ip(), c1.address());
    }
    assert_eq!(*traffic::reaches(&c1.ns, at6(GATEWAY6, 82)).ip(), c1.address6());
    let (packets, _) = stage.agent.metrics().traffic("c1", "in");
    assert!(packets > 20, "what the host sends is counted: {packets}");
}

#[test]
fn n13_who_is_not_there_is_dropped_by_name() {
    let (stage, c1, _c2) = pair("", "");
    traffic::does_not_answer(&c1.ns, "172.30.1.99");
    traffic::does_not_answer(&c1.ns, "fd73::99");
    traffic::does_not_answer(&stage.net.host, "172.30.1.99");
    c1.ns.try_sh("ping -n -c 2 -W 1 -I eth0 224.0.0.251");
    c1.ns.try_sh("ping -n -c 2 -W 1 -b 172.30.1.255");
    let metrics = stage.agent.metrics();
    assert!(metrics.drops("c1", "no_endpoint") >= 2);
    assert!(metrics.drops("c1", "multicast") >= 2);
    assert!(metrics.drops_anywhere("no_endpoint") > metrics.drops("c1", "no_endpoint"));
}

#[test]
fn s64_a_duplicate_is_told_of() {
    let (_stage, c1, c2) = pair("", "");
    c1.ns.sysctl_set("net/ipv6/conf/eth0/accept_dad", "1");
    for (address, state) in
        [(c2.address6(), true), (GATEWAY6, true), ("fd73::77".parse().unwrap(), false)]
    {
        c1.ns.sh(&format!("ip -6 addr add {address}/64 dev eth0"));
        wait::wait_until("the search to end", wait::SOON, || {
            let shown = c1.ns.sh(&format!("ip -6 addr show dev eth0 to {address}"));
            let failed = shown.contains("dadfailed");
            assert!(state || !failed, "{shown}");
            failed == state && (state || !shown.contains("tentative"))
        });
    }
}

#[test]
fn n13_s118_the_way_out_is_masqueraded() {
    let (stage, c1, _c2) = pair("", "");
    let outside = &stage.net.outside;
    let _servers = [
        TcpServer::start(outside, 80),
        TcpServer::start_at(outside, at6(Ipv6Addr::UNSPECIFIED, 81)),
    ];
    let _udp = UdpServer::start(outside, 53);
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::answers(&c1.ns, OUTSIDE6);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
    assert_eq!(*traffic::reaches(&c1.ns, at6(OUTSIDE6, 81)).ip(), HOST6);
    assert_eq!(*traffic::exchange(&c1.ns, at(OUTSIDE, 53), 5_000).ip(), HOST);
    // Each router on the way is shown.
    let shown = c1.ns.sh(&format!("traceroute -n -q 1 -w 3 -m 6 -I {OUTSIDE}"));
    for router in [GATEWAY, ROUTER, OUTSIDE] {
        assert!(shown.contains(&router.to_string()), "{shown}");
    }
    let shown = c1.ns.sh(&format!("traceroute -6 -n -q 1 -w 3 -m 6 -U {OUTSIDE6}"));
    assert!(
        shown.contains(&GATEWAY6.to_string()) && shown.contains(&OUTSIDE6.to_string()),
        "{shown}"
    );
}

#[test]
fn n13_s97_published_ports_are_reached_from_everywhere() {
    let (stage, c1, c2) = pair("", "-p 8080:80 -p 5353:53/udp");
    stage.agent.network("n2", "");
    let other = stage.agent.container("c3", "n2", "");
    let _servers = serve(&c1, 80);
    let _udp = UdpServer::start_at(&c1.ns, at(c1.address(), 53));
    let (outside, host) = (&stage.net.outside, &stage.net.host);
    assert_eq!(*traffic::reaches(outside, at(HOST, 8080)).ip(), OUTSIDE);
    assert_eq!(*traffic::reaches(outside, at6(HOST6, 8080)).ip(), OUTSIDE6);
    assert_eq!(*traffic::exchange(outside, at(HOST, 5353), 5_000).ip(), OUTSIDE);
    // A neighbour, the container itself, another network, and processes of the host.
    for ns in [&c2.ns, &c1.ns, &other.ns, host] {
        traffic::reaches(ns, at(HOST, 8080));
        traffic::exchange(ns, at(HOST, 5353), 100);
    }
    for ns in [&c2.ns, &c1.ns] {
        traffic::reaches(ns, at(GATEWAY, 8080));
        traffic::reaches(ns, at6(HOST6, 8080));
    }
    for to in [Ipv4Addr::LOCALHOST, GATEWAY] {
        traffic::reaches(host, at(to, 8080));
    }
    traffic::reaches(host, at6(Ipv6Addr::LOCALHOST, 8080));
    traffic::refused(outside, at(HOST, 8081));
}

#[test]
fn n13_s94_isolation_and_direct_addressing_are_judged_alike() {
    let (stage, c1, _c2) = pair("", "");
    stage.agent.network("n2", "--ipv6");
    let other = stage.agent.container("c3", "n2", "");
    let _servers = (serve(&c1, 80), serve(&other, 80));
    for (from, to) in [(&c1, &other), (&other, &c1)] {
        traffic::does_not_answer(&from.ns, to.address());
        traffic::does_not_answer(&from.ns, to.address6());
        traffic::unreachable(&from.ns, at(to.address(), 80));
    }
    stage.net.route_to_host("172.30.1.0/24");
    stage.net.route6_to_host("fd73::/64");
    traffic::unreachable(&stage.net.outside, at(c1.address(), 80));
    traffic::unreachable(&stage.net.outside, at6(c1.address6(), 80));
    let metrics = stage.agent.metrics();
    assert!(metrics.drops("c1", "policy_isolation") > 0);
    assert!(metrics.drops("c1", "direct_routing_blocked") > 0);
}

#[test]
fn n13_p39_routed_networks_are_addressed_by_what_they_publish() {
    let mode = "-o com.docker.network.bridge.gateway_mode_ipv";
    let (stage, c1, _c2) = pair(&format!("{mode}4=routed {mode}6=routed"), "-p 80");
    let _servers = (serve(&c1, 80), serve(&c1, 81));
    stage.net.route_to_host("172.30.1.0/24");
    stage.net.route6_to_host("fd73::/64");
    let outside = &stage.net.outside;
    assert_eq!(*traffic::reaches(outside, at(c1.address(), 80)).ip(), OUTSIDE);
    assert_eq!(*traffic::reaches(outside, at6(c1.address6(), 80)).ip(), OUTSIDE6);
    traffic::answers(outside, c1.address());
    traffic::unreachable(outside, at(c1.address(), 81));
}

#[test]
fn n13_s96_s97_icc_off_and_links() {
    let (stage, _c1, _c2) = pair(ICC_OFF, "");
    let db = stage.agent.container("db", "n1", "--expose 5432/tcp");
    let app = stage.agent.container("app", "n1", "--link db:db");
    let stranger = stage.agent.container("stranger", "n1", "");
    let _servers = (serve(&db, 5432), serve(&db, 80));
    traffic::reaches(&app.ns, at(db.address(), 5432));
    traffic::reaches(&app.ns, at6(db.address6(), 5432));
    traffic::unreachable(&app.ns, at(db.address(), 80));
    traffic::unreachable(&stranger.ns, at(db.address(), 5432));
    traffic::does_not_answer(&stranger.ns, db.address6());
    traffic::answers(&stage.net.host, db.address());
    assert!(stage.agent.metrics().drops("stranger", "policy_icc") > 0);
}

#[test]
fn n13_internal_networks_stay_inside() {
    let (stage, c1, c2) = pair("--internal", "");
    let leaving = Capture::both_ways(&stage.net.host, UPLINK);
    traffic::answers(&c1.ns, c2.address());
    traffic::answers(&c1.ns, GATEWAY);
    traffic::answers(&stage.net.host, c1.address());
    c1.ns.try_sh(&format!("ip route add default via {GATEWAY}"));
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    traffic::does_not_answer(&c1.ns, HOST);
    assert!(stage.agent.metrics().drops("c1", "policy_internal") >= 4);
    let of_c1 = IpAddr::from(c1.address());
    leaving.assert_none("a packet of an internal network", |packet| packet.src == of_c1);
}

#[test]
fn n13_traffic_outlives_the_agent() {
    let (mut stage, c1, c2) = pair("", "-p 8080:80");
    let _servers = serve(&c1, 80);
    let host = stage.net.host.clone();
    let mut open = [
        Conversation::open(&stage.net.outside, at(HOST, 8080)).expect("from outside"),
        Conversation::open(&host, at(c1.address(), 80)).expect("from the host"),
        Conversation::open(&c2.ns, at(c1.address(), 80)).expect("from a neighbour"),
    ];
    let check = |open: &mut [Conversation<_>], host: &Netns, outside: &Netns| {
        open.iter_mut().for_each(|c| c.say().expect("it goes on"));
        c2.ns.sh("ip neigh flush all");
        traffic::answers(&c2.ns, c1.address());
        traffic::answers(host, c1.address6());
        traffic::reaches(outside, at(HOST, 8080));
    };
    check(&mut open, &host, &stage.net.outside);
    stage.agent.kill9();
    check(&mut open, &host, &stage.net.outside);
    stage.agent.launch();
    stage.agent.wait_ready();
    check(&mut open, &host, &stage.net.outside);
    stage.agent.restart();
    check(&mut open, &host, &stage.net.outside);
    // What somebody changes on the device is put right.
    let bridge = bridge_of(&stage, "n1");
    host.sh(&format!("ip link set {bridge} arp on"));
    wait::wait_until("ARP to be off again", wait::SOON, || {
        host.sh(&format!("ip link show dev {bridge}")).contains("NOARP")
    });
    drop(open);
    stage.agent.ok("container rm -f c1 c2");
    stage.agent.ok("network rm n1");
    assert!(!host.interfaces().contains(&bridge));
}

#[test]
fn n13_cleanup_leaves_nothing_of_it() {
    let (mut stage, c1, c2) = pair("", "-p 8080:80");
    traffic::answers(&c1.ns, c2.address());
    let bridge = bridge_of(&stage, "n1");
    stage.agent.kill9();
    drop((c1, c2));
    let out = stage.agent.cleanup(&[]);
    assert!(out.ok(), "{out:?}");
    let left = stage.net.host.interfaces();
    assert!(
        !left.contains(&bridge) && !left.iter().any(|name| name.starts_with("bsc")),
        "{left:?}"
    );
    assert_eq!(stage.agent.places.pins(), Vec::<String>::new());
}

#[test]
fn n13_why_says_what_happens() {
    let (stage, c1, _c2) = pair("", "");
    stage.agent.network("n2", "");
    stage.agent.container("c3", "n2", "");
    let why = |line: &str| -> Value {
        let text = stage.agent.ok(&format!("--output json why {line}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("why {line}: {error}: {text}"))
    };
    let programs = |answer: &Value, way: &str| -> Vec<String> {
        let parts = answer["Parts"].as_array().expect("parts").iter();
        let of_way = parts.filter(|part| part["Way"] == way);
        of_way.map(|part| part["Program"].as_str().expect("a program").to_owned()).collect()
    };
    let answer = why("c1 c2");
    assert_eq!((&answer["Verdict"], &answer["Answer"]), (&"delivered".into(), &"delivered".into()));
    let answer = why(&format!("host {}", c1.address()));
    assert_eq!(answer["Verdict"], "delivered", "{answer:#}");
    assert_eq!(programs(&answer, "request"), ["to_bridge", "to_container"]);
    assert_eq!(
        (programs(&answer, "answer"), &answer["Answer"]),
        (vec!["from_container".to_owned()], &"host".into())
    );
    let answer = why("host 172.30.1.99");
    assert_eq!((&answer["Verdict"], &answer["Reason"]), (&"dropped".into(), &"no_endpoint".into()));
    let answer = why("c1 172.30.1.99");
    assert_eq!((&answer["Verdict"], &answer["Reason"]), (&"dropped".into(), &"no_endpoint".into()));
    let answer = why("c1 c3");
    assert_eq!(
        (&answer["Verdict"], &answer["Reason"]),
        (&"dropped".into(), &"policy_isolation".into())
    );
}

#[test]
fn n13_the_host_says_what_it_does_not_have_without_ipv6_too() {
    let stage = Stage::new();
    let host = &stage.net.host;
    host.sysctl_set("net/ipv4/conf/all/rp_filter", "1");
    host.sysctl_set("net/ipv4/conf/default/rp_filter", "1");
    stage.agent.network("n1", &format!("{L2} --subnet 172.30.1.0/24"));
    let c1 = stage.agent.container("c1", "n1", "");
    host.sh("ip route add unreachable 192.0.2.0/25");
    host.sh("ip route add prohibit 192.0.2.128/25");
    let errors = Capture::arriving(&c1.ns, "eth0");
    for to in [GATEWAY, HOST] {
        traffic::refused(&c1.ns, at(to, 81));
        let refused = traffic::udp::try_exchange(&c1.ns, at(to, 54), 20);
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionRefused),
            "{to}"
        );
    }
    for (to, code) in [("192.0.2.7", 1), ("192.0.2.207", 13)] {
        traffic::does_not_answer(&c1.ns, to);
        errors.wait_for(&format!("what the host says of {to}"), |packet| {
            let said = matches!(packet.body, Body::Icmp { kind: 3, code: c, .. } if c == code);
            said && packet.src == IpAddr::from(GATEWAY)
        });
    }
    // Without any way out.
    host.sh("ip route del default");
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    errors.wait_for("that there is no way", |packet| {
        matches!(packet.body, Body::Icmp { kind: 3, code: 0, .. })
    });
    // Who has gone is not told to the host's own sockets, either: the frame is dropped by name.
    traffic::does_not_answer(host, "172.30.1.99");
    assert!(stage.agent.metrics().drops_anywhere("no_endpoint") > 0);
}

#[test]
fn n13_link_local_addresses_work_within_the_network() {
    let stage = Stage::new();
    stage.agent.network("n1", &format!("{L2} --subnet 172.30.1.0/24"));
    let [a, b] = ["169.254.7.1", "169.254.7.2"];
    let with = |name, address: &str| {
        stage.agent.container(name, "n1", &format!("--link-local-ip {address}"))
    };
    let (c1, c2) = (with("c1", a), with("c2", b));
    for (from, to) in [(&c1, b), (&c2, a)] {
        traffic::answers(&from.ns, to);
        let ping = traffic::ping_with(&from.ns, to, 1, &format!("-I {}", from.address()));
        assert_eq!(ping.received, 1, "{}", ping.text);
    }
    let _server = UdpServer::start(&c2.ns, 53);
    traffic::exchange(&c1.ns, at(b.parse().unwrap(), 53), 3_000);
    let refused = traffic::udp::try_exchange(&c1.ns, at(b.parse().unwrap(), 54), 20);
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn n13_s168_link_local_addresses_answer_without_ipv6_too() {
    let stage = Stage::new();
    let host = &stage.net.host;
    stage.agent.network("n1", &format!("{L2} --subnet 172.30.1.0/24"));
    let (c1, c2) = (stage.agent.container("c1", "n1", ""), stage.agent.container("c2", "n1", ""));
    let bridge = bridge_of(&stage, "n1");
    let [of_host, one, two] =
        [host.mac(&bridge), c1.ns.mac("eth0"), c2.ns.mac("eth0")].map(link_local);
    for (ns, to, device) in
        [(&c1.ns, of_host, "eth0"), (&c1.ns, two, "eth0"), (host, one, bridge.as_str())]
    {
        traffic::answers(ns, format!("{to}%{device}"));
    }
    let scope = c1.ns.ifindex("eth0").expect("an interface");
    traffic::refused(&c1.ns, SocketAddrV6::new(of_host, 81, 0, scope));
    let asked = SocketAddrV6::new(of_host, 54, 0, scope);
    let refused = traffic::udp::try_exchange(&c1.ns, asked, 20);
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
    // Where the operator has switched IPv6 off it stays off.
    host.sysctl_set("net/ipv6/conf/default/disable_ipv6", "1");
    stage.agent.network("n2", &format!("{L2} --subnet 172.30.2.0/24"));
    stage.agent.container("c3", "n2", "");
    let bridge = bridge_of(&stage, "n2");
    assert_eq!(host.sh(&format!("ip -6 addr show dev {bridge}")), "");
    assert_eq!(host.sysctl(&format!("net/ipv6/conf/{bridge}/disable_ipv6")), "1");
}
