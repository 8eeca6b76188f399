//! Broadcast, multicast and what else is not for one station: within a network, by stated rules.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use bascule_tests::{
    Container, Netns,
    capture::{Capture, inject},
    frame::Frame,
    topology::{HOST, OUTSIDE, ROUTER, UPLINK},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at, bridge_of};

const PORT: u16 = 5353;

/// A socket that hears a port of every address, groups included.
fn ear(ns: &Netns, group: Option<Ipv4Addr>) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind(at(Ipv4Addr::UNSPECIFIED, PORT))).expect("a port");
    if let Some(group) = group {
        let own = ns.addresses("eth0")[0].0;
        ns.run(|| socket.join_multicast_v4(&group, &own)).expect("join");
    }
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    socket
}

fn say(ns: &Netns, to: Ipv4Addr, word: &str) {
    let own = ns.addresses("eth0")[0].0;
    let socket = ns.run(|| UdpSocket::bind(at(own, 0))).expect("a port");
    socket.set_broadcast(true).expect("broadcast");
    socket.send_to(word.as_bytes(), at(to, PORT)).expect("send");
}

fn hears(socket: &UdpSocket) -> io::Result<(String, SocketAddrV4)> {
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let std::net::SocketAddr::V4(from) = from else { panic!("{from} is no IPv4 address") };
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// Two containers of one network, and one of another.
fn three() -> (Stage, [Container; 3]) {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.73.0.0/24");
    stage.agent.network("n2", "--subnet 10.74.0.0/24");
    let containers = [("c1", "n1"), ("c2", "n1"), ("c3", "n2")];
    let containers = containers.map(|(name, network)| stage.agent.container(name, network, ""));
    (stage, containers)
}

#[test]
fn broadcasts_are_heard_within_the_network_alone() {
    let (stage, [c1, c2, c3]) = three();
    let line = Capture::both_ways(&stage.net.host, UPLINK);
    let (host, near, far) = (ear(&stage.net.host, None), ear(&c2.ns, None), ear(&c3.ns, None));
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 73, 0, 255)] {
        say(&c1.ns, to, "hello");
        for ear in [&near, &host] {
            let (word, from) = hears(ear).unwrap_or_else(|e| panic!("{to} is not heard: {e}"));
            assert_eq!((word.as_str(), *from.ip()), ("hello", c1.address()));
        }
        assert!(hears(&far).is_err(), "{to} is heard in another network");
    }
    // Another network's broadcast address is no way into it.
    say(&c1.ns, Ipv4Addr::new(10, 74, 0, 255), "hello");
    assert!(hears(&far).is_err(), "a broadcast into another network");
    line.assert_none("a broadcast on the uplink", |packet| packet.src == c1.address());
}

#[test]
fn netav_mq_001_multicast_is_heard_within_the_network_with_the_own_address() {
    let (stage, [c1, c2, c3]) = three();
    let line = Capture::both_ways(&stage.net.host, UPLINK);
    for group in [Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::new(239, 1, 2, 3)] {
        let (near, far) = (ear(&c2.ns, Some(group)), ear(&c3.ns, Some(group)));
        // A group that somebody joins is known to the bridge a moment later.
        wait::wait_until(&format!("{group} is heard"), wait::SOON, || {
            say(&c1.ns, group, "hello");
            let heard = hears(&near);
            heard.is_ok_and(|(word, from)| word == "hello" && *from.ip() == c1.address())
        });
        assert!(hears(&far).is_err(), "{group} is heard in another network");
    }
    // The host and its router have groups of their own there.
    line.assert_none("a container's multicast on the uplink", |packet| {
        packet.dst.is_multicast() && packet.src == c1.address()
    });
}

#[test]
fn broadcasts_of_the_host_reach_its_containers() {
    let (stage, [c1, _, c3]) = three();
    let (near, far) = (ear(&c1.ns, None), ear(&c3.ns, None));
    let gateway = stage.net.host.addresses(&bridge_of(&stage, "n1"))[0].0;
    let socket = stage.net.host.run(|| UdpSocket::bind(at(gateway, 0))).expect("a port");
    socket.set_broadcast(true).expect("broadcast");
    socket.send_to(b"hello", at(Ipv4Addr::new(10, 73, 0, 255), PORT)).expect("send");
    let (_, from) = hears(&near).expect("the host's broadcast");
    assert_eq!(*from.ip(), gateway);
    assert!(hears(&far).is_err(), "a broadcast of the host in another network");
}

#[test]
fn broadcasts_from_outside_are_the_hosts_and_no_containers() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.73.0.0/24");
    let c1 = stage.agent.container("c1", "n1", &format!("-p {PORT}:{PORT}/udp"));
    let inside = ear(&c1.ns, None);
    stage.net.route_to_host("10.73.0.0/24");
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(198, 51, 100, 255), Ipv4Addr::new(10, 73, 0, 255)]
    {
        say(&stage.net.neighbour, to, "hello");
        assert!(hears(&inside).is_err(), "{to} from outside reached a container");
    }
}

#[test]
fn dhcp_of_a_container_is_dropped_by_rule() {
    // Addresses are the agent's to give: a client without one is a spoofer, and is counted as such.
    let (stage, [c1, c2, _]) = three();
    let capture = Capture::arriving(&c2.ns, "eth0");
    let discover = Frame::udp("0.0.0.0:68", "255.255.255.255:67").data(b"discover");
    inject(&c1.ns, "eth0", &discover.macs(c1.ns.mac("eth0"), [0xff; 6]).bytes());
    wait::wait_until("the drop is counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "spoofed_ip") > 0
    });
    capture.assert_none("a request for an address", |packet| packet.ports() == Some((68, 67)));
}

const UDHCPC: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip addr flush dev $interface
ip addr add $ip/$mask dev $interface
ip route replace default via $router dev $interface
";

/// Runs a DHCP server and a client, both of busybox, until the client has its lease.
fn lease(
    server: (&Netns, &str),
    client: (&Netns, &str),
    range: (Ipv4Addr, Ipv4Addr),
    by: Ipv4Addr,
) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let (leases, conf, script) =
        (dir.path().join("leases"), dir.path().join("conf"), dir.path().join("script"));
    std::fs::write(&leases, "").expect("leases");
    let text = format!(
        "start {}\nend {}\ninterface {}\nlease_file {}\npidfile {}\n\
         option subnet 255.255.255.0\noption router {by}\noption lease 600\n",
        range.0,
        range.1,
        server.1,
        leases.display(),
        dir.path().join("pid").display()
    );
    std::fs::write(&conf, text).expect("a configuration");
    std::fs::write(&script, UDHCPC).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = server.0.command("busybox");
    command.args(["udhcpd", "-f"]).arg(&conf);
    let mut serving = command.spawn().expect("udhcpd");
    let script = script.display();
    let out =
        client.0.try_sh(&format!("busybox udhcpc -i {} -f -q -n -t 10 -T 1 -s {script}", client.1));
    serving.kill().ok();
    serving.wait().ok();
    assert!(out.ok(), "udhcpc in {}: {}{}", client.0.name(), out.stdout, out.stderr);
}

#[test]
fn appendix_d5_the_hosts_own_dhcp_works_and_is_followed() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let leased = Ipv4Addr::new(198, 51, 100, 50);
    stage.net.host.sh(&format!("ip addr flush dev {UPLINK}"));
    lease((&stage.net.router, "lan0"), (&stage.net.host, UPLINK), (leased, leased), ROUTER);
    assert_eq!(stage.net.host.addresses(UPLINK), [(leased, 24)]);
    wait::wait_until("the leased address is published on", wait::SOON, || {
        traffic::Conversation::open(&stage.net.outside, at(leased, 8080)).is_ok()
    });
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), leased);
    assert_ne!(leased, HOST);
}

#[test]
fn a_dhcp_server_in_a_container_serves_stations_plugged_in_by_hand() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.73.0.0/24");
    let server = stage.agent.container("dhcp", "n1", "");
    let station = Netns::new("station");
    bascule_tests::topology::veth(&stage.net.host, "hand0", &station, "eth0");
    stage.net.host.sh(&format!("ip link set hand0 master {}", bridge_of(&stage, "n1")));
    stage.net.host.wait_forwarding("hand0");
    station.wait_up("eth0");
    let (own, gateway) = (Ipv4Addr::new(10, 73, 0, 200), Ipv4Addr::new(10, 73, 0, 1));
    lease((&server.ns, "eth0"), (&station, "eth0"), (own, own), gateway);
    assert_eq!(station.addresses("eth0"), [(own, 24)]);
    traffic::answers(&station, OUTSIDE);
    traffic::answers(&station, server.address());
}
