//! Processes of the host itself reach published ports, by every address of the host.

use std::{
    io::{Read as _, Write as _},
    net::{
        Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
    },
    os::unix::process::CommandExt as _,
    time::Duration,
};

use bascule_tests::{
    Netns,
    capture::{Capture, inject},
    frame::Frame,
    places, process,
    topology::{HOST, NEIGHBOUR, OUTSIDE, UPLINK},
    traffic::{self, Conversation, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

pub(crate) const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SHORT: Duration = Duration::from_millis(900);

pub(crate) fn gateway(stage: &Stage) -> Ipv4Addr {
    let network = stage.agent.inspect("network", "n1");
    network["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").parse().expect("it")
}

fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(ip.to_ipv6_mapped(), port, 0, 0))
}

pub(crate) fn udp(ns: &Netns, bind: impl Into<SocketAddr>) -> UdpSocket {
    let bind = bind.into();
    let socket = ns.run(|| UdpSocket::bind(bind)).unwrap_or_else(|e| panic!("bind {bind}: {e}"));
    socket.set_read_timeout(Some(SHORT)).expect("a time-out");
    socket
}

/// Sends a datagram and gives who answered, and whom the server saw.
pub(crate) fn sent(socket: &UdpSocket, to: impl Into<SocketAddr>) -> (SocketAddr, SocketAddr) {
    let to = to.into();
    socket.send_to(b"hello", to).unwrap_or_else(|e| panic!("send to {to}: {e}"));
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{to}: {e}"));
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let seen_as = answer.strip_suffix(" hello").expect("the echo").parse().expect("an address");
    (from, seen_as)
}

#[test]
fn s122_moby_pm_016_the_host_reaches_a_published_port_by_every_address() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let (host, gateway) = (&stage.net.host, gateway(&stage));
    for ip in [LOCALHOST, Ipv4Addr::new(127, 1, 2, 3), HOST, gateway] {
        let conversation = Conversation::open(host, at(ip, 8080)).expect("a connection");
        let peer = conversation.stream().peer_addr().expect("a peer");
        assert_eq!(peer, SocketAddr::V4(at(ip, 8080)), "getpeername tells what was asked for");
        assert_eq!(*conversation.seen_as.ip(), gateway, "the container sees its gateway");
    }
    // "Any address" is this host.
    let stream = host.run(|| TcpStream::connect((Ipv4Addr::UNSPECIFIED, 8080))).expect("0.0.0.0");
    assert_eq!(stream.peer_addr().expect("a peer"), SocketAddr::V4(at(LOCALHOST, 8080)));
    for address in [LOCALHOST, HOST, gateway] {
        let out = host.sh(&format!("curl -sS --max-time 5 http://{address}:8080/"));
        assert!(out.starts_with(&format!("{gateway}:")), "{out}");
    }
    // Other ports are as closed as ever, and so is this one once nobody publishes it.
    traffic::refused(host, at(LOCALHOST, 8081));
    stage.agent.ok("container rm -f c1");
    for ip in [LOCALHOST, HOST, gateway] {
        traffic::refused(host, at(ip, 8080));
    }
}

#[test]
fn s122_an_ipv6_socket_reaches_it_by_a_mapped_address() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp");
    let _tcp = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&c1.ns, 53);
    let host = &stage.net.host;
    for ip in [LOCALHOST, HOST] {
        let stream = host.run(|| TcpStream::connect(mapped(ip, 8080))).expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), mapped(ip, 8080));
        let socket = udp(host, (Ipv6Addr::UNSPECIFIED, 0));
        assert_eq!(sent(&socket, mapped(ip, 53)).0, mapped(ip, 53));
        host.run(|| socket.connect(mapped(ip, 53))).expect("connect");
        assert_eq!(socket.peer_addr().expect("a peer"), mapped(ip, 53));
    }
}

#[test]
fn s122_datagrams_come_from_where_they_were_sent_to() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 53:53/udp");
    let c2 = stage.agent.container("c2", "n1", "-p 54:53/udp");
    let _servers = [UdpServer::start(&c1.ns, 53), UdpServer::start(&c2.ns, 53)];
    let _far = UdpServer::start(&stage.net.outside, 53);
    let (host, gateway) = (&stage.net.host, gateway(&stage));
    // One socket, several destinations, ours and others.
    let socket = udp(host, (Ipv4Addr::UNSPECIFIED, 0));
    for to in [at(LOCALHOST, 53), at(HOST, 54), at(gateway, 53), at(OUTSIDE, 53), at(LOCALHOST, 53)]
    {
        let (from, seen_as) = sent(&socket, to);
        assert_eq!(from, SocketAddr::V4(to));
        let expected = if *to.ip() == OUTSIDE { HOST } else { gateway };
        assert_eq!(seen_as.ip(), expected);
    }
    // The container itself is no published port: it answers as itself.
    let to = at(c2.address(), 53);
    let fresh = udp(host, (Ipv4Addr::UNSPECIFIED, 0));
    assert_eq!(sent(&fresh, to).0, SocketAddr::V4(to));
    // Connected, and connected anew.
    for ip in [LOCALHOST, HOST] {
        host.run(|| socket.connect((ip, 53))).expect("connect");
        assert_eq!(socket.peer_addr().expect("a peer"), SocketAddr::V4(at(ip, 53)));
        assert_eq!(*traffic::udp::ask(&socket, 100).expect("an answer").ip(), gateway);
    }
}

#[test]
fn cil_lb_010_other_namespaces_are_not_touched() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let server = TcpServer::start(&c1.ns, 80);
    // The same test process, and so the same cgroup, in another namespace.
    let own = TcpServer::start_at(&stage.net.neighbour, at(LOCALHOST, 8080));
    traffic::reaches(&stage.net.neighbour, at(LOCALHOST, 8080));
    assert_eq!((own.peers().len(), server.peers().len()), (1, 0));
    let c2 = stage.agent.container("c2", "n1", "");
    traffic::refused(&c2.ns, at(LOCALHOST, 8080));
    traffic::refused(&c1.ns, at(LOCALHOST, 8080));
}

#[test]
fn s122_a_process_in_a_cgroup_further_down_is_served() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let below = places::cgroup().join(format!("below-{}", std::process::id()));
    std::fs::create_dir_all(&below).expect("a cgroup");
    let procs = std::fs::OpenOptions::new().write(true).open(below.join("cgroup.procs"));
    let mut procs = procs.expect("its processes");
    let mut command = stage.net.host.command("curl");
    command.args(["-sS", "--max-time", "5", "http://127.0.0.1:8080/"]);
    // SAFETY: one system call, between fork and exec.
    unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    let out = process::run(&mut command, process::LIMIT);
    assert!(out.ok() && out.stdout.starts_with(&gateway(&stage).to_string()), "{out:?}");
    wait::wait_until("the cgroup is empty", wait::SOON, || std::fs::remove_dir(&below).is_ok());
}

/// A connection whose own end is bound.
pub(crate) fn from(
    ns: &Netns,
    own: Ipv4Addr,
    to: impl Into<SocketAddr>,
) -> std::io::Result<TcpStream> {
    let to = to.into();
    ns.run(|| {
        use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
        let kind = SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Inet, SockType::Stream, kind, None)?;
        let SocketAddr::V4(to) = to else { panic!("IPv4 only") };
        let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
        socket::bind(raw, &SockaddrIn::from(std::net::SocketAddrV4::new(own, 0)))?;
        let stream = TcpStream::from(fd);
        socket::connect(raw, &SockaddrIn::from(to))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    })
}

#[test]
fn d11_a_socket_bound_to_an_address_of_the_host_is_led_too() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let stream = from(&stage.net.host, HOST, at(LOCALHOST, 8080)).expect("a connection");
    assert_eq!(stream.peer_addr().expect("a peer"), SocketAddr::V4(at(LOCALHOST, 8080)));
    assert_eq!(stream.local_addr().expect("an address").ip(), HOST);
}

/// A server that says what it got, backwards, once the client has said everything.
pub(crate) fn after_the_end(ns: &Netns, port: u16) -> std::thread::JoinHandle<usize> {
    let listener = ns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).expect("listen");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut request = Vec::new();
        stream.read_to_end(&mut request).expect("the request");
        request.reverse();
        stream.write_all(&request).expect("answer");
        request.len()
    })
}

pub(crate) fn half_close(mut stream: TcpStream) {
    let request: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[0]).collect();
    let mut answer = Vec::new();
    let sending = stream.try_clone().expect("the stream");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sending = sending;
            sending.write_all(&request).expect("send");
            sending.shutdown(Shutdown::Write).expect("half a close");
        });
        stream.read_to_end(&mut answer).expect("no reset");
    });
    answer.reverse();
    assert!(answer == request, "{} of {} bytes came back", answer.len(), request.len());
}

#[test]
fn moby_pm_040_half_closed_tcp_gets_its_whole_answer() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let server = after_the_end(&c1.ns, 80);
    half_close(stage.net.host.run(|| TcpStream::connect((LOCALHOST, 8080))).expect("connect"));
    assert_eq!(server.join().expect("the server"), 3 << 20);
}

#[test]
fn s122_a_container_that_comes_back_with_another_address_is_found() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp");
    let host = &stage.net.host;
    let before = c1.address();
    let socket = udp(host, (Ipv4Addr::UNSPECIFIED, 0));
    {
        let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
        traffic::reaches(host, at(LOCALHOST, 8080));
        sent(&socket, at(LOCALHOST, 53));
    }
    stage.agent.ok("container rm -f c1");
    // Somebody else gets the address, and is not asked.
    let other = stage.agent.container("other", "n1", &format!("--ip {before}"));
    let strangers = (TcpServer::start(&other.ns, 80), UdpServer::start(&other.ns, 53));
    let c2 = stage.agent.container("c2", "n1", "-p 8080:80 -p 53:53/udp");
    assert_ne!(c2.address(), before);
    let servers = (TcpServer::start(&c2.ns, 80), UdpServer::start(&c2.ns, 53));
    traffic::reaches(host, at(LOCALHOST, 8080));
    assert_eq!(sent(&socket, at(LOCALHOST, 53)).0, SocketAddr::V4(at(LOCALHOST, 53)));
    assert_eq!((servers.0.peers().len(), servers.1.peers().len()), (1, 1));
    assert_eq!((strangers.0.peers().len(), strangers.1.peers().len()), (0, 0));
    // Asked directly, the stranger is itself: what the socket once asked for is forgotten.
    let to = at(before, 53);
    assert_eq!(sent(&socket, to).0, SocketAddr::V4(to));
}

#[test]
fn d2_without_an_agent_host_processes_are_served_as_before() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp");
    let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let host = stage.net.host.clone();
    let mut conversation = Conversation::open(&host, at(LOCALHOST, 8080)).expect("a connection");
    stage.agent.kill9();
    conversation.say().expect("a connection that lives on");
    traffic::reaches(&host, at(LOCALHOST, 8080));
    let socket = udp(&host, (Ipv4Addr::UNSPECIFIED, 0));
    assert_eq!(sent(&socket, at(LOCALHOST, 53)).0, SocketAddr::V4(at(LOCALHOST, 53)));
    stage.agent.restart();
    conversation.say().expect("a connection that lives on");
    traffic::reaches(&host, at(HOST, 8080));
}

#[test]
fn p41_n4_n15_published_on_loopback_is_for_the_host_alone() {
    let (stage, c1) = Stage::with_one("-p 127.0.0.1:8080:80 -p 127.0.0.2:8081:80");
    let server = TcpServer::start(&c1.ns, 80);
    let (host, neighbour) = (&stage.net.host, &stage.net.neighbour);
    traffic::reaches(host, at(LOCALHOST, 8080));
    traffic::reaches(host, at(Ipv4Addr::new(127, 0, 0, 2), 8081));
    // Each is bound to its own address.
    traffic::refused(host, at(Ipv4Addr::new(127, 0, 0, 2), 8080));
    traffic::refused(host, at(LOCALHOST, 8081));
    for port in [8080, 8081] {
        traffic::refused(host, at(HOST, port));
        traffic::refused(neighbour, at(HOST, port));
        traffic::refused(&stage.net.outside, at(HOST, port));
        traffic::refused(&c1.ns, at(gateway(&stage), port));
    }
    let asked = server.peers().len();
    // An attacker on the segment writes the address into the packet; even where the host would let such
    // packets in.
    for localnet in ["0", "1"] {
        host.sysctl_set(&format!("net/ipv4/conf/{UPLINK}/route_localnet"), localnet);
        let inside = Capture::arriving(&c1.ns, "eth0");
        let answers = Capture::arriving(neighbour, "eth0");
        let before = stage.agent.metrics().drops_anywhere("martian_loopback");
        for (ip, port) in [("127.0.0.1", 8080), ("127.0.0.2", 8081)] {
            let frame = Frame::tcp(&format!("{NEIGHBOUR}:40000"), &format!("{ip}:{port}")).syn();
            let frame = frame.macs(neighbour.mac("eth0"), host.mac(UPLINK));
            inject(neighbour, "eth0", &frame.bytes());
        }
        wait::wait_until("the packets are refused", wait::SOON, || {
            stage.agent.metrics().drops_anywhere("martian_loopback") == before + 2
        });
        inside.assert_none("a packet of the attacker", |packet| packet.src == NEIGHBOUR);
        answers.assert_none("an answer", |packet| packet.src.is_loopback());
    }
    assert_eq!(server.peers().len(), asked);
}

#[test]
fn s116_n42_one_port_of_two_addresses_leads_to_two_containers() {
    let stage = Stage::new();
    let second = Ipv4Addr::new(198, 51, 100, 2);
    stage.net.host.sh(&format!("ip addr add {second}/24 dev {UPLINK}"));
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", &format!("-p {HOST}:8080:80"));
    let c2 = stage.agent.container("c2", "n1", &format!("-p {second}:8080:80"));
    let servers = [TcpServer::start(&c1.ns, 80), TcpServer::start(&c2.ns, 80)];
    let asked = || [servers[0].peers().len(), servers[1].peers().len()];
    for (turn, client) in [&stage.net.host, &stage.net.outside].into_iter().enumerate() {
        traffic::reaches(client, at(HOST, 8080));
        assert_eq!(asked(), [turn + 1, turn]);
        traffic::reaches(client, at(second, 8080));
        assert_eq!(asked(), [turn + 1, turn + 1]);
    }
    traffic::refused(&stage.net.host, at(LOCALHOST, 8080));
    traffic::refused(&stage.net.host, at(gateway(&stage), 8080));
}

#[test]
fn answers_to_the_host_are_no_requests_of_a_container() {
    // Walk 6 of the design: a host process whose own port is a published one would have its answers led
    // astray. The kernel never chooses such a port, and nobody may ask for it.
    let (stage, c1) = Stage::with_one("-p 40001-40006:5001-5006/udp");
    let _server = UdpServer::start(&c1.ns, 5001);
    let host = &stage.net.host;
    host.sysctl_set("net/ipv4/ip_local_port_range", "40000 40007");
    let sockets: Vec<UdpSocket> = (0..2).map(|_| udp(host, (Ipv4Addr::UNSPECIFIED, 0))).collect();
    for socket in &sockets {
        assert_eq!(sent(socket, at(LOCALHOST, 40_001)).0, SocketAddr::V4(at(LOCALHOST, 40_001)));
        let own = socket.local_addr().expect("an address").port();
        assert!([40_000, 40_007].contains(&own), "the kernel chose {own}");
    }
    let refused = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 40_003)));
    assert_eq!(refused.expect_err("a published port").kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn s107_a_container_of_an_internal_network_alone_publishes_nothing_to_the_host() {
    let stage = Stage::new();
    stage.agent.network("n1", "--internal");
    let out = stage.agent.cli("container create --name c1 --network n1 -p 8080:80".split(' '));
    if out.ok() {
        stage.agent.ok("container start c1");
    }
    for ip in [LOCALHOST, HOST] {
        traffic::refused(&stage.net.host, at(ip, 8080));
        from(&stage.net.host, LOCALHOST, at(ip, 8080)).expect_err("not published");
    }
}

#[test]
fn s123_connections_of_the_host_are_counted_for_their_port() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp");
    let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    for _ in 0..3 {
        traffic::reaches(&stage.net.host, at(LOCALHOST, 8080));
    }
    let socket = udp(&stage.net.host, (Ipv4Addr::UNSPECIFIED, 0));
    for _ in 0..3 {
        sent(&socket, at(LOCALHOST, 53));
    }
    let metrics = stage.agent.metrics();
    let opened = |proto| {
        let labels = [("container", "c1"), ("proto", proto)];
        metrics.sum("bascule_port_connections_total", &labels) as u64
    };
    assert_eq!((opened("tcp"), opened("udp")), (3, 1));
}

#[test]
fn a_container_and_the_host_ask_from_one_port_and_each_gets_its_answer() {
    // Both are the gateway to the server: the answers must not be taken for each other's.
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 53:53/udp");
    let c2 = stage.agent.container("c2", "n1", "");
    let _server = UdpServer::start(&c1.ns, 53);
    let own = udp(&stage.net.host, (Ipv4Addr::UNSPECIFIED, 33_333));
    let containers = udp(&c2.ns, (Ipv4Addr::UNSPECIFIED, 33_333));
    for _ in 0..2 {
        assert_eq!(sent(&own, at(LOCALHOST, 53)).0, SocketAddr::V4(at(LOCALHOST, 53)));
        assert_eq!(sent(&containers, at(HOST, 53)).0, SocketAddr::V4(at(HOST, 53)));
    }
}
