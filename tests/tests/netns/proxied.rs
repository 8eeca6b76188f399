//! Processes of the host whose sockets cannot be led to a container: the agent's proxy serves them.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{
    Stage, at,
    local::{LOCALHOST, after_the_end, from, gateway, half_close, sent, udp},
};

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
fn p51_ten_thousand_ports_cost_the_host_no_socket() {
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
fn moby_pm_015_ipv6_loopback_reaches_an_ipv4_only_container() {
    let (stage, c1) =
        Stage::with_one("-p 8080:80 -p 53:53/udp -p 127.0.0.1:8081:80 -p 0.0.0.0:8082:80");
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
    // What is bound to an address of IPv4 is not behind one of IPv6; 0.0.0.0 is every address of IPv4.
    for port in [8081, 8082] {
        let refused = host.run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, port)));
        assert_eq!(refused.expect_err("not there").kind(), std::io::ErrorKind::ConnectionRefused);
    }
    host.sh("curl -sS --max-time 5 http://127.0.0.1:8082/");
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
