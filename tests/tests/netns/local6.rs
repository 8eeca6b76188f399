//! Processes of the host itself reach published ports by IPv6, too.

use std::{
    io::{Read as _, Write as _},
    net::{
        IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
    },
    time::Duration,
};

use bascule_tests::{
    Agent, Container, Netns, Topology,
    capture::inject,
    topology::{HOST, HOST6, NEIGHBOUR6, UPLINK},
    traffic::{self, Conversation, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

const LOCALHOST: Ipv6Addr = Ipv6Addr::LOCALHOST;

fn at6(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

/// A host with both families, and a container of a network with both.
fn dual(options: &str) -> (Stage, Container) {
    let net = Topology::dual();
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "--ipv6");
    let c1 = stage.agent.container("c1", "n1", options);
    (stage, c1)
}

fn gateway(stage: &Stage) -> Ipv6Addr {
    let network = stage.agent.inspect("network", "n1");
    let configs = network["IPAM"]["Config"].as_array().expect("subnets").clone();
    let gateways = configs.iter().filter_map(|config| config["Gateway"].as_str());
    let mut gateways = gateways.filter_map(|text| text.parse().ok());
    gateways.next().expect("an IPv6 gateway")
}

fn servers(container: &Container) -> (TcpServer, UdpServer) {
    let any = Ipv6Addr::UNSPECIFIED;
    (TcpServer::start_at(&container.ns, (any, 80)), UdpServer::start_at(&container.ns, (any, 53)))
}

/// The link-local address of an interface, with its scope.
fn link_local(ns: &Netns, interface: &str, port: u16) -> SocketAddrV6 {
    let shown = ns.sh(&format!("ip -6 -o addr show dev {interface} scope link"));
    let text = shown.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next());
    let ip = text.expect("a link-local address").parse().expect("an address");
    SocketAddrV6::new(ip, port, 0, ns.ifindex(interface).expect("an interface"))
}

fn udp(ns: &Netns, own: Ipv6Addr) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind((own, 0))).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
    socket
}

fn sent(socket: &UdpSocket, to: impl Into<SocketAddr>) -> SocketAddr {
    let to = to.into();
    socket.send_to(b"hello", to).unwrap_or_else(|e| panic!("send to {to}: {e}"));
    let mut buffer = [0; 256];
    socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{to}: {e}")).1
}

#[test]
fn moby_pm_016_the_host_reaches_a_dual_stack_container_by_every_address() {
    let (stage, c1) = dual("-p 8080:80 -p 53:53/udp");
    let _servers = servers(&c1);
    let (host, gateway) = (&stage.net.host, gateway(&stage));
    for ip in [LOCALHOST, HOST6, gateway] {
        let conversation = Conversation::open(host, at6(ip, 8080)).expect("a connection");
        let peer = conversation.stream().peer_addr().expect("a peer");
        assert_eq!(peer, SocketAddr::V6(at6(ip, 8080)), "getpeername tells what was asked for");
        assert_eq!(*conversation.seen_as.ip(), gateway, "the container sees its gateway");
    }
    let out = host.sh("curl -sS --max-time 5 http://[::]:8080/");
    assert!(out.starts_with(&format!("[{gateway}]:")), "{out}");
    let socket = udp(host, Ipv6Addr::UNSPECIFIED);
    for ip in [LOCALHOST, HOST6, gateway, LOCALHOST] {
        assert_eq!(sent(&socket, at6(ip, 53)), SocketAddr::V6(at6(ip, 53)));
    }
    host.run(|| socket.connect(at6(HOST6, 53))).expect("connect");
    assert_eq!(socket.peer_addr().expect("a peer"), SocketAddr::V6(at6(HOST6, 53)));
    socket.send(b"hello").expect("send");
    assert!(socket.recv(&mut [0; 64]).expect("an answer") > 0);
    // IPv4, as ever; the server sees it by its own family.
    for ip in [Ipv4Addr::LOCALHOST, HOST] {
        let mut stream = host.run(|| TcpStream::connect((ip, 8080))).expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), SocketAddr::V4(at(ip, 8080)));
        stream.write_all(b"hello\n").expect("send");
        assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
    }
    let led = stage.agent.metrics().sum("bascule_proxy_opened_total", &[]) as u64;
    assert_eq!(led, 0, "no proxy is needed for any of them");
    stage.agent.ok("container rm -f c1");
    for ip in [LOCALHOST, HOST6, gateway] {
        traffic::refused(host, at6(ip, 8080));
    }
}

#[test]
fn moby_pm_016_link_local_addresses_and_bound_sockets_are_the_proxys() {
    let (stage, c1) = dual("-p 8080:80 -p 53:53/udp");
    let _servers = servers(&c1);
    let host = &stage.net.host;
    let local = link_local(host, UPLINK, 8080);
    let mut stream = host.run(|| TcpStream::connect(local)).expect("a connection");
    assert_eq!(stream.peer_addr().expect("a peer"), SocketAddr::V6(local));
    stream.write_all(b"hello\n").expect("send");
    assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
    // Bound to ::1: no route leads from there to a container.
    let socket = udp(host, LOCALHOST);
    assert_eq!(sent(&socket, at6(LOCALHOST, 53)), SocketAddr::V6(at6(LOCALHOST, 53)));
    let out = host.sh("curl -sS --max-time 5 --interface ::1 http://[::1]:8080/");
    assert!(out.starts_with(&format!("[{}]:", gateway(&stage))), "{out}");
    let opened = stage.agent.metrics().sum("bascule_proxy_opened_total", &[]) as u64;
    assert_eq!(opened, 3);
}

#[test]
fn a_link_local_address_of_another_host_is_that_hosts() {
    // The router is fe80::1 on the segment, and the bridge of the host could be, too.
    let (stage, c1) = dual("-p 8080:80");
    let server = servers(&c1);
    let (host, neighbour) = (&stage.net.host, &stage.net.neighbour);
    let own = link_local(host, UPLINK, 8080);
    host.sh("ip -6 addr add fe80::1/64 dev lo nodad");
    neighbour.sh("ip -6 addr add fe80::1/64 dev eth0 nodad");
    let listener = neighbour.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080)));
    let listener = listener.expect("a service of the neighbour");
    let to = SocketAddrV6::new("fe80::1".parse().expect("it"), 8080, 0, own.scope_id());
    host.run(|| TcpStream::connect(to)).expect("a connection");
    let (_, peer) = listener.accept().expect("the neighbour is asked");
    assert_eq!(peer.ip(), IpAddr::V6(*own.ip()));
    assert!(server.0.peers().is_empty());
}

/// A SYN over IPv6, with its Ethernet header.
fn syn(macs: ([u8; 6], [u8; 6]), src: SocketAddrV6, dst: SocketAddrV6) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(src.port().to_be_bytes());
    segment.extend(dst.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let (from, to) = (src.ip().octets(), dst.ip().octets());
    let mut sum = 6 + segment.len();
    for bytes in [&from[..], &to, &segment] {
        sum +=
            bytes.chunks(2).map(|p| usize::from(u16::from_be_bytes([p[0], p[1]]))).sum::<usize>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let check = !u16::try_from(sum).expect("16 bits");
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    let mut frame = Vec::from(macs.1);
    frame.extend(macs.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(segment);
    frame
}

#[test]
fn p41_n4_published_on_ipv6_loopback_is_for_the_host_alone() {
    let (stage, c1) = dual("-p [::1]:8080:80");
    let server = servers(&c1);
    let (host, neighbour) = (&stage.net.host, &stage.net.neighbour);
    traffic::reaches(host, at6(LOCALHOST, 8080));
    traffic::refused(host, at6(HOST6, 8080));
    traffic::refused(host, at(Ipv4Addr::LOCALHOST, 8080));
    traffic::refused(neighbour, at6(HOST6, 8080));
    let before = stage.agent.metrics().drops_anywhere("martian_loopback");
    let macs = (neighbour.mac("eth0"), host.mac(UPLINK));
    inject(neighbour, "eth0", &syn(macs, at6(NEIGHBOUR6, 40_000), at6(LOCALHOST, 8080)));
    wait::wait_until("the packet is refused", wait::SOON, || {
        stage.agent.metrics().drops_anywhere("martian_loopback") == before + 1
    });
    assert_eq!(server.0.peers().len(), 1);
}

#[test]
fn n42_one_port_of_two_ipv6_addresses_leads_to_two_containers() {
    let net = Topology::dual();
    let second = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2);
    net.host.sh(&format!("ip -6 addr add {second}/64 dev {UPLINK} nodad"));
    let stage = Stage { agent: Agent::start(&net.host), net };
    stage.agent.network("n1", "--ipv6");
    let c1 = stage.agent.container("c1", "n1", &format!("-p [{HOST6}]:8080:80"));
    let c2 = stage.agent.container("c2", "n1", &format!("-p [{second}]:8080:80"));
    let servers = [servers(&c1), servers(&c2)];
    let asked = || [servers[0].0.peers().len(), servers[1].0.peers().len()];
    for (turn, client) in [&stage.net.host, &stage.net.outside].into_iter().enumerate() {
        traffic::reaches(client, at6(HOST6, 8080));
        assert_eq!(asked(), [turn + 1, turn]);
        traffic::reaches(client, at6(second, 8080));
        assert_eq!(asked(), [turn + 1, turn + 1]);
    }
    traffic::refused(&stage.net.host, at6(LOCALHOST, 8080));
}
