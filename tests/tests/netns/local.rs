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
    Agent, Netns, Topology,
    agent::Settings,
    capture::{Capture, inject},
    frame::Frame,
    places, process,
    topology::{HOST, NEIGHBOUR, OUTSIDE, UPLINK},
    traffic::{self, Conversation, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SHORT: Duration = Duration::from_millis(900);

fn gateway(stage: &Stage) -> Ipv4Addr {
    let network = stage.agent.inspect("network", "n1");
    network["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").parse().expect("it")
}

fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(ip.to_ipv6_mapped(), port, 0, 0))
}

fn udp(ns: &Netns, bind: impl Into<SocketAddr>) -> UdpSocket {
    let bind = bind.into();
    let socket = ns.run(|| UdpSocket::bind(bind)).unwrap_or_else(|e| panic!("bind {bind}: {e}"));
    socket.set_read_timeout(Some(SHORT)).expect("a time-out");
    socket
}

/// Sends a datagram and gives who answered, and whom the server saw.
fn sent(socket: &UdpSocket, to: impl Into<SocketAddr>) -> (SocketAddr, SocketAddr) {
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
fn from(ns: &Netns, own: Ipv4Addr, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
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
fn after_the_end(ns: &Netns, port: u16) -> std::thread::JoinHandle<usize> {
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

fn half_close(mut stream: TcpStream) {
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
fn d11_a_socket_bound_to_loopback_is_served_by_the_proxy() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp");
    let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let host = stage.net.host.clone();
    let proxied = |proto: &str, agent: &bascule_tests::Agent| {
        agent.metrics().sum("bascule_proxy_opened_total", &[("proto", proto)]) as u64
    };
    for to in [at(LOCALHOST, 8080), at(Ipv4Addr::new(127, 0, 0, 2), 8080), at(HOST, 8080)] {
        let mut stream = from(&host, LOCALHOST, to).expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), SocketAddr::V4(to));
        stream.write_all(b"hello\n").expect("send");
        stream.shutdown(Shutdown::Write).expect("half a close");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and its end");
        assert!(answer.starts_with(&format!("{}:", gateway(&stage))), "{answer}");
        assert!(answer.ends_with("hello\n"), "{answer}");
    }
    assert_eq!(proxied("tcp", &stage.agent), 3);
    let socket = udp(&host, (LOCALHOST, 0));
    for ip in [LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), HOST, LOCALHOST] {
        assert_eq!(sent(&socket, at(ip, 53)).0, SocketAddr::V4(at(ip, 53)));
    }
    host.run(|| socket.connect((LOCALHOST, 53))).expect("connect");
    for size in [0, 1, 1_400, 60_000] {
        traffic::udp::ask(&socket, size).unwrap_or_else(|e| panic!("{size} bytes: {e}"));
    }
    assert_eq!(proxied("udp", &stage.agent), 3, "one conversation for each port that was asked");
    // Nothing is published there: the kernel refuses.
    let refused = from(&host, LOCALHOST, at(LOCALHOST, 8081)).expect_err("a closed port");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // The proxy lives and dies with its agent.
    stage.agent.kill9();
    let refused = from(&host, LOCALHOST, at(LOCALHOST, 8080)).expect_err("no proxy");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    stage.agent.restart();
    from(&host, LOCALHOST, at(LOCALHOST, 8080)).expect("a connection");
    // What is published no more is served no more.
    stage.agent.ok("container rm -f c1");
    let refused = from(&host, LOCALHOST, at(LOCALHOST, 8080)).expect_err("not published");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn d11_a_socket_bound_to_a_device_is_served_by_the_proxy() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let host = &stage.net.host;
    for (device, ip) in [("lo", LOCALHOST), (UPLINK, HOST)] {
        let out = host.sh(&format!("curl -sS --max-time 5 --interface {device} http://{ip}:8080/"));
        assert!(out.starts_with(&format!("{}:", gateway(&stage))), "{device}: {out}");
    }
    let opened = stage.agent.metrics().sum("bascule_proxy_opened_total", &[("proto", "tcp")]);
    assert_eq!(opened as u64, 2);
}

#[test]
fn d11_a_multipath_socket_is_served_by_the_proxy() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    for ip in [LOCALHOST, HOST] {
        let mut stream = stage.net.host.run(|| {
            use nix::sys::socket::SockaddrIn;
            // SAFETY: plain numbers.
            let raw =
                unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
            assert!(raw >= 0, "an MPTCP socket: {}", std::io::Error::last_os_error());
            // SAFETY: the descriptor is new, and nobody else's.
            let stream = unsafe { <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(raw) };
            nix::sys::socket::connect(raw, &SockaddrIn::from(at(ip, 8080))).expect("connect");
            stream
        });
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream.write_all(b"hello\n").expect("send");
        assert!(stream.read(&mut [0; 64]).expect("an answer") > 0, "{ip}");
    }
}

#[test]
fn ten_thousand_ports_cost_the_host_no_socket() {
    let stage = Stage::new();
    let sockets = || stage.net.host.sh("ss -Hltun").lines().count();
    let before = sockets();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 20000-29999:30000-39999");
    let _server = TcpServer::start(&c1.ns, 35_000);
    traffic::reaches(&stage.net.host, at(LOCALHOST, 25_000));
    from(&stage.net.host, LOCALHOST, at(LOCALHOST, 25_000)).expect("by the proxy");
    assert_eq!(sockets(), before);
}

#[test]
fn d11_without_cgroup2_the_proxy_serves_everybody() {
    let net = Topology::new();
    let settings = Settings::default().env("BASCULE_CGROUP", "/proc");
    let stage = Stage { agent: Agent::start_with(&net.host, settings), net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80 -p 53:53/udp");
    let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let host = &stage.net.host;
    for ip in [LOCALHOST, HOST, gateway(&stage)] {
        assert_eq!(*traffic::reaches(host, at(ip, 8080)).ip(), gateway(&stage));
        let socket = udp(host, (Ipv4Addr::UNSPECIFIED, 0));
        assert_eq!(sent(&socket, at(ip, 53)).0, SocketAddr::V4(at(ip, 53)));
    }
    // The outside is not the proxy's business.
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 8080)).ip(), OUTSIDE);
    let warning = "reach them by the agent's proxy alone";
    assert!(stage.agent.log().contains(warning), "{}", stage.agent.log());
    assert!(stage.agent.ok("status").contains(warning));
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
fn moby_pm_015_ipv6_loopback_reaches_an_ipv4_only_container() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 53:53/udp -p 127.0.0.1:8081:80");
    let _servers = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let host = &stage.net.host;
    let out = host.sh("curl -sS --max-time 5 http://[::1]:8080/");
    assert!(out.starts_with(&format!("{}:", gateway(&stage))), "{out}");
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 53));
    let socket = udp(host, (Ipv6Addr::UNSPECIFIED, 0));
    assert_eq!(sent(&socket, to).0, to);
    host.run(|| socket.connect(to)).expect("connect");
    socket.send(b"again").expect("send");
    assert!(socket.recv(&mut [0; 64]).is_ok());
    // What is bound to an address of IPv4 is not behind one of IPv6.
    let refused = host.run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 8081)));
    assert_eq!(refused.expect_err("not there").kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn moby_pm_040_the_proxy_passes_half_a_close_and_a_reset_on() {
    let (stage, c1) = Stage::with_one("-p 8080:80 -p 8081:81");
    let server = after_the_end(&c1.ns, 80);
    half_close(from(&stage.net.host, LOCALHOST, at(LOCALHOST, 8080)).expect("connect"));
    assert_eq!(server.join().expect("the server"), 3 << 20);
    // Nobody listens in the container: the client's connection is reset, not left hanging.
    let mut stream = from(&stage.net.host, LOCALHOST, at(LOCALHOST, 8081)).expect("connect");
    let end = stream.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    wait::wait_until("both are over", wait::SOON, || {
        stage.agent.metrics().sum("bascule_proxy_connections", &[]) < 0.5
    });
    let labels = [("proto", "tcp"), ("reason", "unreachable")];
    assert_eq!(stage.agent.metrics().sum("bascule_proxy_refused_total", &labels) as u64, 1);
}

#[test]
fn moby_pm_042_a_datagram_for_a_service_that_is_not_up_breaks_nothing() {
    let (stage, c1) = Stage::with_one("-p 53:53/udp");
    let host = &stage.net.host;
    let sockets = [udp(host, (Ipv4Addr::UNSPECIFIED, 0)), udp(host, (LOCALHOST, 0))];
    for socket in &sockets {
        for _ in 0..3 {
            socket.send_to(b"early", at(LOCALHOST, 53)).expect("send");
        }
    }
    let _server = UdpServer::start(&c1.ns, 53);
    for socket in &sockets {
        wait::wait_until("an answer", wait::SOON, || {
            socket.send_to(b"hello", at(LOCALHOST, 53)).is_ok() && socket.recv(&mut [0; 64]).is_ok()
        });
    }
}

#[test]
fn the_proxys_own_ports_can_be_published() {
    let (stage, c1) = Stage::with_one("");
    let host = &stage.net.host;
    let listening = host.sh("ss -Hltn src 127.0.0.1");
    let ports: Vec<u16> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')?.1.parse().ok())
        .filter(|port| *port != bascule_tests::agent::METRICS.port())
        .collect();
    let [port] = ports[..] else { panic!("the proxy has one listener: {listening}") };
    drop(c1);
    let c2 = stage.agent.container("c2", "n1", &format!("-p {port}:80"));
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::reaches(host, at(LOCALHOST, port));
    from(host, LOCALHOST, at(LOCALHOST, port)).expect("by the proxy");
    traffic::reaches(&stage.net.outside, at(HOST, port));
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
