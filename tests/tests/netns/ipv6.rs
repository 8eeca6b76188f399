//! IPv6 at parity: addresses, the way out, published ports, and what keeps networks apart.

use std::net::{Ipv6Addr, TcpListener};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    capture::Capture,
    container,
    topology::{HOST, HOST6, NEIGHBOUR6, OUTSIDE6, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};
use serde_json::json;

use crate::{Stage, at6, bridge_of};

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const SUBNET: &str = "2001:db8:42::/64";

/// A host with an agent, a network of both families, and two containers on it.
fn pair(options: &str) -> (Stage, bascule_tests::Container, bascule_tests::Container) {
    let stage = Stage::dual();
    stage.agent.network("n1", &format!("--subnet {SUBNET}"));
    let c1 = stage.agent.container("c1", "n1", options);
    let c2 = stage.agent.container("c2", "n1", "");
    (stage, c1, c2)
}

fn has(ns: &bascule_tests::Netns, command: &str, wanted: &str) {
    let text = ns.sh(command);
    assert!(text.contains(wanted), "`{command}` in {} has no {wanted:?}:\n{text}", ns.name());
}

#[test]
fn s167_s169_s171_s172_s175_s180_everything_below_the_line_is_made() {
    let (stage, c1, _) = pair("");
    let ip = c1.address6();
    let mac = c1.ns.mac("eth0");
    // S169, S175: both addresses end with the Ethernet address.
    assert_eq!(ip.octets()[10..], mac, "{ip}");
    let link_local = Ipv6Addr::from(link_local_of(mac));
    has(&c1.ns, "ip -6 addr show dev eth0", &format!("inet6 {link_local}/64 scope link"));
    // S174, with the gateway that the network has.
    has(&c1.ns, "ip -6 route", "default via 2001:db8:42::1 dev eth0 metric 1024");
    assert_eq!(c1.ns.sysctl("net/ipv6/conf/eth0/accept_ra"), "0");
    let bridge = bridge_of(&stage, "n1");
    let host = &stage.net.host;
    has(host, &format!("ip -6 addr show dev {bridge}"), "inet6 2001:db8:42::1/64");
    // S171, and the host asks nobody who is where.
    has(host, "ip -6 route", &format!("{SUBNET} dev {bridge}"));
    has(host, &format!("ip -6 neigh show dev {bridge} {ip}"), "PERMANENT");
    assert_eq!(host.sysctl(&format!("net/ipv6/conf/{bridge}/accept_ra")), "0");
    for key in ["all", "default"] {
        assert_eq!(host.sysctl(&format!("net/ipv6/conf/{key}/forwarding")), "1", "S172 {key}");
    }
    traffic::answers(host, ip);
    traffic::answers(host, format!("{link_local}%{bridge}"));
    traffic::answers(&c1.ns, "2001:db8:42::1");
}

/// The link-local address of an Ethernet address.
fn link_local_of([a, b, c, d, e, f]: [u8; 6]) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

#[test]
fn s10_s35_inspection_shows_both_families() {
    let (stage, c1, _) = pair("");
    let network = stage.agent.inspect("network", "n1");
    assert_eq!((&network["EnableIPv4"], &network["EnableIPv6"]), (&json!(true), &json!(true)));
    let config = &network["IPAM"]["Config"][1];
    assert_eq!(config, &json!({"Subnet": SUBNET, "Gateway": "2001:db8:42::1"}));
    let ip = c1.address6();
    assert_eq!(network["Containers"][&c1.id]["IPv6Address"], json!(format!("{ip}/64")));
    let place = container::attachment(&stage.agent, "c1", "n1");
    assert_eq!(place["GlobalIPv6Address"], json!(ip.to_string()));
    assert_eq!(place["GlobalIPv6PrefixLen"], json!(64));
    assert_eq!(place["IPv6Gateway"], json!("2001:db8:42::1"));
    // P32: without a subnet, a unique local one.
    stage.agent.network("n2", "--ipv6");
    let n2 = stage.agent.inspect("network", "n2");
    let subnet = n2["IPAM"]["Config"][1]["Subnet"].as_str().expect("a subnet").to_owned();
    assert!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
    // MOBY-IPAM-024
    let c3 = stage.agent.container("c3", "n1", "--ip6 2001:db8:42::9988");
    assert_eq!(c3.address6().to_string(), "2001:db8:42::9988");
    let place = container::attachment(&stage.agent, "c3", "n1");
    assert_eq!(place["IPAMConfig"]["IPv6Address"], json!("2001:db8:42::9988"));
}

#[test]
fn s173_uplinks_that_go_by_advertisements_go_on() {
    let net = Topology::dual();
    net.host.sysctl_set(&format!("net/ipv6/conf/{UPLINK}/accept_ra"), "1");
    net.host.sysctl_set("net/ipv6/conf/all/forwarding", "0");
    let mut agent = Agent::start(&net.host);
    let state = || {
        ["all/forwarding".to_owned(), format!("{UPLINK}/accept_ra")]
            .map(|key| net.host.sysctl(&format!("net/ipv6/conf/{key}")))
    };
    agent.network("n4", "");
    assert_eq!(state(), ["0", "1"], "nobody wants IPv6");
    agent.network("n6", "--ipv6");
    assert_eq!(state(), ["1", "2"]);
    // What was changed is given back.
    agent.stop();
    assert!(agent.cleanup(&["--purge"]).ok());
    assert_eq!(state(), ["0", "1"]);
}

#[test]
fn moby_icc_003_moby_icc_004_containers_of_a_network_talk() {
    let (stage, c1, c2) = pair("");
    let _server = TcpServer::start_at(&c2.ns, (ANY, 80));
    let _udp = UdpServer::start_at(&c2.ns, (ANY, 53));
    traffic::answers(&c1.ns, c2.address6());
    let seen_as = traffic::reaches(&c1.ns, at6(c2.address6(), 80));
    assert_eq!(*seen_as.ip(), c1.address6(), "S99");
    assert_eq!(*traffic::exchange(&c1.ns, at6(c2.address6(), 53), 1000).ip(), c1.address6());
    let link_local = Ipv6Addr::from(link_local_of(c2.ns.mac("eth0")));
    traffic::answers(&c1.ns, format!("{link_local}%eth0"));
    // The host's own way in, by the bridge.
    assert_eq!(
        traffic::reaches(&stage.net.host, at6(c2.address6(), 80)).ip().to_string(),
        "2001:db8:42::1"
    );
}

#[test]
fn moby_inc_001_netav_iso_001_networks_are_apart_and_icc_off_holds_for_ipv6() {
    let (stage, c1, c2) = pair("");
    stage.agent.network("n2", "--ipv6 -o com.docker.network.bridge.enable_icc=false");
    let c3 = stage.agent.container("c3", "n2", "");
    let c4 = stage.agent.container("c4", "n2", "");
    let _servers = [&c1, &c4].map(|c| TcpServer::start_at(&c.ns, (ANY, 80)));
    traffic::does_not_answer(&c3.ns, c1.address6());
    traffic::unreachable(&c3.ns, at6(c1.address6(), 80));
    traffic::answers(&c2.ns, c1.address6());
    // S96
    traffic::does_not_answer(&c3.ns, c4.address6());
    traffic::unreachable(&c3.ns, at6(c4.address6(), 80));
}

#[test]
fn p42_n36_ipv6_leaves_with_the_hosts_address() {
    let (stage, c1, _) = pair("");
    let _server = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    let _udp = UdpServer::start_at(&stage.net.outside, (ANY, 53));
    let _near = TcpServer::start_at(&stage.net.neighbour, (ANY, 80));
    let capture = Capture::arriving(&stage.net.outside, "eth0");
    let seen_as = traffic::reaches(&c1.ns, at6(OUTSIDE6, 80));
    assert_eq!(*seen_as.ip(), HOST6);
    assert!((49_152..=65_535).contains(&seen_as.port()), "{seen_as} is outside the range");
    assert_eq!(*traffic::exchange(&c1.ns, at6(OUTSIDE6, 53), 1000).ip(), HOST6);
    assert_eq!(*traffic::reaches(&c1.ns, at6(NEIGHBOUR6, 80)).ip(), HOST6);
    traffic::answers(&c1.ns, OUTSIDE6);
    traffic::refused(&c1.ns, at6(OUTSIDE6, 81));
    drop(capture);
    // S111: nobody gets in.
    stage.net.route6_to_host(SUBNET);
    let _inside = TcpServer::start_at(&c1.ns, (ANY, 80));
    traffic::unreachable(&stage.net.outside, at6(c1.address6(), 80));
    traffic::does_not_answer(&stage.net.outside, c1.address6());
}

#[test]
fn moby_pm_017_n13_published_ports_are_reached_by_ipv6_with_the_clients_address() {
    let (stage, c1, c2) = pair("-p 8080:80 -p 5353:53/udp");
    let server = TcpServer::start_at(&c1.ns, (ANY, 80));
    let _udp = UdpServer::start_at(&c1.ns, (ANY, 53));
    let seen_as = traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
    assert_eq!(*seen_as.ip(), OUTSIDE6);
    assert_eq!(server.peers(), [seen_as.into()]);
    assert_eq!(*traffic::exchange(&stage.net.outside, at6(HOST6, 5353), 1000).ip(), OUTSIDE6);
    assert_eq!(*traffic::reaches(&stage.net.neighbour, at6(HOST6, 8080)).ip(), NEIGHBOUR6);
    // P46, MOBY-PM-019: peers, the container itself, and the gateway's address.
    traffic::reaches(&c2.ns, at6(HOST6, 8080));
    traffic::reaches(&c1.ns, at6(HOST6, 8080));
    traffic::reaches(&c2.ns, at6("2001:db8:42::1".parse().expect("an address"), 8080));
    assert_eq!(
        stage.agent.ok("port c1"),
        "53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    );
    let inspected = stage.agent.inspect("container", "c1");
    let both =
        json!([{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]);
    assert_eq!(inspected["NetworkSettings"]["Ports"]["80/tcp"], both);
    let connections = |host_ip: &str| {
        stage.agent.metrics().sum(
            "bascule_port_connections_total",
            &[("host_ip", host_ip), ("host_port", "8080"), ("proto", "tcp")],
        )
    };
    assert!(connections("::") >= 4.0, "{}", connections("::"));
    assert!(connections("0.0.0.0") < 1.0, "{}", connections("0.0.0.0"));
}

#[test]
fn cni_pm_005_n14_a_named_address_is_published_on_alone() {
    let stage = Stage::dual();
    stage.net.host.sh(&format!("ip -6 addr add 2001:db8:100::2/64 dev {UPLINK} nodad"));
    stage.agent.network("n1", &format!("--subnet {SUBNET}"));
    let second = "2001:db8:100::2".parse().expect("an address");
    // The same port of two addresses leads to two containers.
    let c1 = stage.agent.container("c1", "n1", &format!("-p [{HOST6}]:8080:80"));
    let c2 = stage.agent.container("c2", "n1", &format!("-p [{second}]:8080:80"));
    let servers = [&c1, &c2].map(|c| TcpServer::start_at(&c.ns, (ANY, 80)));
    traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
    traffic::reaches(&stage.net.outside, at6(second, 8080));
    assert_eq!([servers[0].peers().len(), servers[1].peers().len()], [1, 1]);
    traffic::refused(&stage.net.outside, crate::at(HOST, 8080));
    // The host cannot take them, and others can be had.
    let bind = |ip: Ipv6Addr| stage.net.host.run(|| TcpListener::bind(at6(ip, 8080)).map(drop));
    for taken in [HOST6, second, ANY] {
        let error = bind(taken).expect_err("the port is published");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{taken}");
    }
    bind(Ipv6Addr::LOCALHOST).expect("nobody has ::1's");
    let refusal = |at: &str| {
        stage.agent.ok(&format!("container create --name c3 --network n1 -p {at}:80"));
        let text = stage.agent.refused("container start c3");
        stage.agent.ok("container rm c3");
        text
    };
    let text = refusal("[::]:8080");
    assert!(text.contains("Bind for :::8080 failed: port is already allocated"), "{text}");
    let held = stage.net.host.run(|| TcpListener::bind(at6(ANY, 7070))).expect("free");
    let text = refusal("[::]:7070");
    assert!(text.contains("host port [::]:7070/tcp: address already in use"), "{text}");
    drop(held);
}

#[test]
fn p8_moby_icc_009_a_network_without_ipv4() {
    let stage = Stage::dual();
    stage.agent.network("n1", "--ipv4=false --ipv6");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    assert!(c1.ns.addresses("eth0").is_empty());
    has(&c1.ns, "ip -4 addr show dev lo", "127.0.0.1/8");
    assert_eq!(stage.agent.inspect("network", "n1")["EnableIPv4"], json!(false));
    let _server = TcpServer::start_at(&c1.ns, (ANY, 80));
    traffic::answers(&c1.ns, c2.address6());
    traffic::answers(&c1.ns, OUTSIDE6);
    traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
    assert_eq!(stage.agent.ok("port c1"), "80/tcp -> [::]:8080");
}

#[test]
fn s166_s174_the_default_network_by_fe80_1() {
    let net = Topology::dual();
    let settings = Settings::default().arg(&["--ipv6", "--fixed-cidr-v6=2001:db8:1::/64"]);
    let stage = Stage { agent: Agent::start_with(&net.host, settings), net };
    let host = &stage.net.host;
    has(host, "ip -6 addr show dev bascule0", "inet6 fe80::1/64 scope link");
    has(host, "ip -6 route", "2001:db8:1::/64 dev bascule0");
    let c1 = stage.agent.container("c1", "bridge", "-p 8080:80");
    has(&c1.ns, "ip -6 route", "default via fe80::1 dev eth0 metric 1024");
    has(&c1.ns, "ip -6 route", "2001:db8:1::/64 dev eth0");
    assert_eq!(c1.address6().to_string(), "2001:db8:1::242:ac11:2", "S169");
    let _server = TcpServer::start_at(&c1.ns, (ANY, 80));
    traffic::answers(&c1.ns, "fe80::1%eth0");
    traffic::answers(&c1.ns, OUTSIDE6);
    traffic::reaches(&stage.net.outside, at6(HOST6, 8080));
    // A hairpin comes from the bridge's other address: `fe80::1` is answered on the link, past the flow.
    let c2 = stage.agent.container("c2", "bridge", "");
    for client in [&c1, &c2] {
        let seen_as = traffic::reaches(&client.ns, at6(HOST6, 8080));
        assert_eq!(seen_as.ip().to_string(), "2001:db8:1::1");
    }
}

#[test]
fn moby_icc_005_four_kinds_of_subnet_of_the_default_network() {
    let net = Topology::dual();
    let mut agent = Agent::prepare(&net.host, Settings::default());
    for subnet in ["", "fd00:1235::/64", "fe80::/64", "fe80:1236::/64"] {
        let fixed = format!("--fixed-cidr-v6={subnet}");
        let args = if subnet.is_empty() { vec!["--ipv6"] } else { vec!["--ipv6", &fixed] };
        agent.launch_with(&Settings::default().arg(&args));
        agent.wait_ready();
        let c1 = agent.container("c1", "bridge", "");
        agent.container("c2", "bridge", "");
        let place = container::attachment(&agent, "c2", "bridge");
        let ip = place["GlobalIPv6Address"].as_str().expect("an address").to_owned();
        let zone = if ip.starts_with("fe80") { "%eth0" } else { "" };
        traffic::answers(&c1.ns, format!("{ip}{zone}"));
        agent.ok("container rm -f c1 c2");
        agent.stop();
        // Another subnet takes another default network.
        agent.launch_with(&Settings::default().arg(&["--ipv6=false"]));
        agent.wait_ready();
        agent.stop();
    }
    agent.launch();
    agent.wait_ready();
}

#[test]
fn appendix_d_a_restart_keeps_ipv6_and_its_connections() {
    let (mut stage, c1, _) = pair("-p 8080:80");
    let _server = TcpServer::start_at(&c1.ns, (ANY, 80));
    let _far = TcpServer::start_at(&stage.net.outside, (ANY, 80));
    let mut inward =
        traffic::Conversation::open(&stage.net.outside, at6(HOST6, 8080)).expect("open");
    let mut outward = traffic::Conversation::open(&c1.ns, at6(OUTSIDE6, 80)).expect("open");
    stage.agent.restart();
    inward.say().expect("goes on");
    outward.say().expect("goes on");
    let actions = |stage: &Stage| {
        let text = stage.agent.ok("status --output json");
        let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        status["Reconcile"]["Repairs"].clone()
    };
    assert_eq!(actions(&stage), json!({}), "a start finds nothing to repair");
    // What somebody takes away comes back.
    let ip = c1.address6();
    stage.net.host.sh(&format!("ip -6 addr del 2001:db8:42::1/64 dev {}", bridge_of(&stage, "n1")));
    wait::wait_until("the gateway's address", wait::SOON, || {
        stage.net.host.sh("ip -6 addr").contains("2001:db8:42::1/64")
    });
    // Its route comes with it, a moment later.
    wait::wait_until("the host reaches the container", wait::SOON, || {
        traffic::ping(&stage.net.host, ip, 1).received == 1
    });
    traffic::answers(&stage.net.host, ip);
}

#[test]
fn moby_inc_002_netav_int_001_s107_internal_networks_of_ipv6_have_no_way_out() {
    let stage = Stage::dual();
    stage.agent.network("n1", &format!("--internal --subnet {SUBNET}"));
    stage.agent.network("n2", "--internal --ipv6");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let c3 = stage.agent.container("c3", "n2", "");
    traffic::answers(&c1.ns, c2.address6());
    for target in [c3.address6(), OUTSIDE6] {
        let ping = c1.ns.try_sh(&format!("ping -c 1 -W 1 {target}"));
        assert!(ping.stderr.contains("Network is unreachable"), "{ping:?}");
    }
    // Whoever makes a route of his own is stopped all the same.
    c1.ns.sh("ip -6 route add default via 2001:db8:42::1");
    for target in [c3.address6(), OUTSIDE6, HOST6] {
        traffic::does_not_answer(&c1.ns, target);
    }
    stage.net.route6_to_host(SUBNET);
    traffic::does_not_answer(&stage.net.outside, c1.address6());
    let place = container::attachment(&stage.agent, "c1", "n1");
    assert_eq!(place["IPv6Gateway"], json!(""));
}
