//! Translation where ports run short: every port towards one server in use, the same port wanted by several, and
//! ports of the range that are somebody else's.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use bascule_tests::{
    Netns,
    capture::inject_all,
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer, udp},
    wait,
};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};

use crate::{Stage, at, bridge_of};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A UDP socket with a port of its own choice.
fn bound(ns: &Netns, port: u16) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind(at(ANY, port))).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(900))).expect("a timeout");
    socket
}

/// Asks an echo server, and gives the client's address as it saw it, and who answered.
fn ask(ns: &Netns, socket: &UdpSocket, to: SocketAddrV4) -> Option<(SocketAddrV4, SocketAddr)> {
    ns.run(|| socket.send_to(b"x", to)).expect("send");
    let mut buffer = [0; 64];
    let (length, peer) = socket.recv_from(&mut buffer).ok()?;
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Some((answer.split_whitespace().next()?.parse().ok()?, peer))
}

/// A TCP connection from a chosen port, which others may use as well.
fn connect_from(ns: &Netns, port: u16, to: SocketAddrV4) -> TcpStream {
    ns.run(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(at(ANY, port)))?;
        socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok::<_, nix::errno::Errno>(TcpStream::from(fd))
    })
    .unwrap_or_else(|error| panic!("from port {port} to {to}: {error}"))
}

#[test]
fn ports_towards_one_server_run_out_with_a_reason_and_come_back() {
    const RANGE: usize = 65_536 - 49_152;
    let (stage, c1, c2) = Stage::with_pair();
    let server = UdpServer::start(&stage.net.outside, 53);
    let early = udp::client(&c2.ns, at(OUTSIDE, 53)).expect("a socket");
    let before = udp::ask(&early, 10).expect("an answer");
    let (own, bridge) = (c1.ns.mac("eth0"), stage.net.host.mac(&bridge_of(&stage, "n1")));
    let address = c1.address();
    let frame = |port: u16| {
        Frame::udp(&format!("{address}:{port}"), &format!("{OUTSIDE}:9"))
            .macs(own, bridge)
            .data(b"")
            .bytes()
    };
    // More flows to one port of one server than there are ports to tell them apart by.
    inject_all(&c1.ns, "eth0", (1_024..1_024 + 24_000).map(frame));
    let exhausted = || stage.agent.metrics().sum("bascule_nat_port_exhausted_total", &[]);
    wait::wait_until("the drops are counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "nat_port_exhausted") >= (24_000 - RANGE) as u64
    });
    assert!(exhausted() >= (24_000 - RANGE) as f64, "{}", exhausted());
    let to_the_full = |ns: &Netns| ask(ns, &bound(ns, 0), at(OUTSIDE, 9));
    let full = UdpServer::start(&stage.net.outside, 9);
    // The rest finds a port now and then; most do not, and are told so by the counter alone.
    let lost = (0..4).filter(|_| to_the_full(&c2.ns).is_none()).count();
    assert!(lost >= 1, "every search found a port");
    // Other servers are not touched, nor are connections that stand.
    assert_eq!(udp::ask(&early, 10).expect("still answered"), before);
    traffic::exchange(&c2.ns, at(OUTSIDE, 53), 10);
    // With the container its ports come back, at once.
    stage.agent.ok("container rm -f c1");
    for _ in 0..4 {
        assert!(to_the_full(&c2.ns).is_some(), "the ports are still taken");
    }
    drop((server, full));
}

#[test]
fn appendix_d4_three_containers_ask_one_server_from_one_port() {
    let (stage, c1, c2) = Stage::with_pair();
    let c3 = stage.agent.container("c3", "n1", "");
    let _server = UdpServer::start(&stage.net.outside, 53);
    let _tcp = TcpServer::start(&stage.net.outside, 80);
    let sockets = [&c1, &c2, &c3].map(|c| (&c.ns, bound(&c.ns, 50_000)));
    for _ in 0..2 {
        let seen = sockets
            .each_ref()
            .map(|(ns, socket)| ask(ns, socket, at(OUTSIDE, 53)).expect("an answer").0);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 3, "{seen:?}");
        assert_eq!(seen[0], at(HOST, 50_000), "a port of the range is kept where it is free");
    }
    let streams: Vec<_> =
        [&c1, &c2, &c3].map(|c| connect_from(&c.ns, 50_001, at(OUTSIDE, 80))).into();
    assert_eq!(streams.len(), 3);
}

#[test]
fn one_client_socket_reaches_one_container_by_two_published_ports() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 8081:80 -p 8080:80/udp -p 8081:80/udp");
    let _udp = UdpServer::start(&c1.ns, 80);
    let tcp = TcpServer::start(&c1.ns, 80);
    let client = &stage.net.outside;
    let socket = bound(client, 5_000);
    for _ in 0..2 {
        for port in [8080, 8081] {
            let (_, peer) = ask(client, &socket, at(HOST, port)).expect("an answer");
            assert_eq!(peer, at(HOST, port).into(), "another port answers");
        }
    }
    // Two connections that only the published port tells apart.
    let streams = [8080, 8081].map(|port| connect_from(client, 5_001, at(HOST, port)));
    wait::wait_until("both are accepted", wait::SOON, || tcp.peers().len() == 2);
    let seen: BTreeSet<_> = tcp.peers().into_iter().collect();
    assert_eq!(seen.len(), 2, "the container tells them apart too: {seen:?}");
    assert!(seen.iter().all(|peer| peer.ip() == OUTSIDE), "{seen:?}");
    drop(streams);
}

#[test]
fn a_process_of_the_host_keeps_its_port_of_the_range() {
    let (stage, c1) = Stage::with_one("");
    let host = &stage.net.host;
    let _server = UdpServer::start(&stage.net.outside, 53);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let own = bound(host, 50_000);
    let listener = TcpServer::start(host, 50_001);
    let inside = bound(&c1.ns, 50_000);
    for _ in 0..2 {
        let (seen, _) = ask(&c1.ns, &inside, at(OUTSIDE, 53)).expect("an answer inside");
        assert_ne!(seen, at(HOST, 50_000), "the host's port was taken");
        let (seen, _) = ask(host, &own, at(OUTSIDE, 53)).expect("an answer for the host");
        assert_eq!(seen, at(HOST, 50_000));
    }
    let out = c1.ns.sh(&format!("curl -sS --max-time 5 --local-port 50001 http://{OUTSIDE}/"));
    assert_ne!(out.trim(), format!("{HOST}:50001"));
    traffic::reaches(&stage.net.outside, at(HOST, 50_001));
    assert_eq!(listener.peers().len(), 1);
}
