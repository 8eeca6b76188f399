//! The way in: published ports, from outside and from containers.

use std::net::{Ipv4Addr, SocketAddrV4};

use bascule_tests::{
    Container,
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

#[test]
fn moby_pm_002_cni_pm_003_n10_p47_s103_s114_outside_reaches_a_published_port() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let server = TcpServer::start(&c1.ns, 80);
    for client in [&stage.net.outside, &stage.net.neighbour] {
        let own = client.addresses("eth0")[0].0;
        let seen_as = traffic::reaches(client, at(HOST, 8080));
        assert_eq!(*seen_as.ip(), own, "the client's address is kept");
    }
    assert!(server.peers().iter().all(|peer| peer.ip() != HOST));
    // A real HTTP client, as in the demo.
    let out = stage.net.outside.sh(&format!("curl -sS --max-time 5 http://{HOST}:8080/"));
    assert!(out.starts_with(&format!("{OUTSIDE}:")), "{out}");
    // Other ports of the host are the host's.
    traffic::refused(&stage.net.outside, at(HOST, 8081));
    assert_eq!(stage.agent.ok("port c1"), "80/tcp -> 0.0.0.0:8080");
}

#[test]
fn a_closed_port_behind_a_published_one_refuses() {
    let (stage, _c1) = Stage::with_one("-p 8080:80");
    traffic::refused(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn netav_pm_001_s121_udp_is_published_beside_tcp() {
    let (stage, c1) = Stage::with_one("-p 53:53/udp -p 53:5353/tcp");
    let _udp = UdpServer::start(&c1.ns, 53);
    let _tcp = TcpServer::start(&c1.ns, 5353);
    assert_eq!(*traffic::exchange(&stage.net.outside, at(HOST, 53), 64).ip(), OUTSIDE);
    assert_eq!(*traffic::exchange(&stage.net.outside, at(HOST, 53), 4000).ip(), OUTSIDE);
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 53)).ip(), OUTSIDE);
    let ports = stage.agent.ok("port c1");
    let mut ports: Vec<&str> = ports.lines().collect();
    ports.sort_unstable();
    assert_eq!(ports, ["53/udp -> 0.0.0.0:53", "5353/tcp -> 0.0.0.0:53"]);
}

#[test]
fn moby_pm_029_netav_pm_002_a_range_is_published_port_by_port() {
    let (stage, c1) = Stage::with_one("-p 9800-9803:80-83");
    let _servers: Vec<_> = (80..84).map(|port| TcpServer::start(&c1.ns, port)).collect();
    for offset in 0..4 {
        traffic::reaches(&stage.net.outside, at(HOST, 9800 + offset));
    }
    traffic::refused(&stage.net.outside, at(HOST, 9799));
    traffic::refused(&stage.net.outside, at(HOST, 9804));
}

#[test]
fn n8_n9_a_large_range_is_one_rule() {
    let (stage, c1) = Stage::with_one("-p 10000-19999:10000-19999/udp");
    let _first = UdpServer::start(&c1.ns, 10_000);
    let _last = UdpServer::start(&c1.ns, 19_999);
    traffic::exchange(&stage.net.outside, at(HOST, 10_000), 10);
    traffic::exchange(&stage.net.outside, at(HOST, 19_999), 10);
    let metrics = stage.agent.metrics();
    let series = metrics.select("bascule_port_packets_total", &[("proto", "udp")]).count();
    assert!((1..=2).contains(&series), "a range is one series a direction, not {series}");
}

#[test]
fn moby_pm_001_s113_a_free_port_is_chosen_from_the_dynamic_range() {
    let (stage, c1) = Stage::with_one("-p 80 -p 81");
    let _server = TcpServer::start(&c1.ns, 80);
    let ports = stage.agent.ok("port c1");
    let chosen: Vec<u16> = ports
        .lines()
        .map(|line| line.rsplit(':').next().expect("a port").parse().expect("a number"))
        .collect();
    assert_eq!(chosen.len(), 2, "{ports}");
    assert_ne!(chosen[0], chosen[1]);
    assert!(chosen.iter().all(|port| (49_153..=65_535).contains(port)), "{ports}");
    let line = ports.lines().find(|line| line.starts_with("80/tcp")).expect("port 80");
    let port = line.rsplit(':').next().expect("a port").parse().expect("a number");
    traffic::reaches(&stage.net.outside, at(HOST, port));
}

#[test]
fn s115_s116_s118_netav_pm_003_a_port_on_one_address_is_closed_on_the_others() {
    let stage = Stage::new();
    stage.net.host.sh(&format!("ip addr add 198.51.100.2/24 dev {UPLINK}"));
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 198.51.100.2:8080:80");
    let second = Ipv4Addr::new(198, 51, 100, 2);
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(second, 8080));
    traffic::refused(&stage.net.outside, at(HOST, 8080));
    // The other address has room for another container.
    let c2 = stage.agent.container("c2", "n1", &format!("-p {HOST}:8080:80"));
    traffic::refused(&stage.net.outside, at(HOST, 8080));
    let other = TcpServer::start(&c2.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    assert_eq!(other.peers().len(), 1);
    // S118: every other port is on every address.
    let c3 = stage.agent.container("c3", "n1", "-p 8081:80");
    let _server = TcpServer::start(&c3.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8081));
    traffic::reaches(&stage.net.outside, at(second, 8081));
}

#[test]
fn s117_an_explicit_port_may_be_any_and_lie_in_the_masquerade_range() {
    let (stage, c1) = Stage::with_one("-p 50000:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 50_000));
    // A container that asks to leave by that very port leaves by another.
    let _far = TcpServer::start(&stage.net.outside, 80);
    let out = c1.ns.sh(&format!("curl -sS --max-time 5 --local-port 50000 http://{OUTSIDE}/"));
    assert!(out.starts_with(&format!("{HOST}:")), "{out}");
    assert_ne!(out.trim(), format!("{HOST}:50000"));
    traffic::reaches(&stage.net.outside, at(HOST, 50_000));
}

/// Who a server behind a published port sees when a container comes in by the host's address.
fn hairpin(client: &Container, host: Ipv4Addr, port: u16) -> SocketAddrV4 {
    traffic::reaches(&client.ns, at(host, port))
}

#[test]
fn moby_pm_039_p46_n41_hairpin_to_oneself() {
    let (_stage, c1) = Stage::with_one("-p 8080:80 -p 8053:53/udp");
    let _server = TcpServer::start(&c1.ns, 80);
    let _udp = UdpServer::start(&c1.ns, 53);
    let seen_as = hairpin(&c1, HOST, 8080);
    assert_ne!(*seen_as.ip(), c1.address(), "a server would answer itself past the translation");
    traffic::exchange(&c1.ns, at(HOST, 8053), 64);
}

#[test]
fn p46_n41_hairpin_to_a_neighbour_of_the_same_network() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let server = stage.agent.container("server", "n1", "-p 8080:80 -p 8053:53/udp");
    let client = stage.agent.container("client", "n1", "");
    let tcp = TcpServer::start(&server.ns, 80);
    let _udp = UdpServer::start(&server.ns, 53);
    let seen_as = hairpin(&client, HOST, 8080);
    assert_ne!(*seen_as.ip(), client.address(), "the server would answer directly");
    traffic::exchange(&client.ns, at(HOST, 8053), 64);
    assert_eq!(tcp.peers().len(), 1);
}

#[test]
fn moby_pm_013_moby_pm_019_p69_hairpin_to_another_network() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let server = stage.agent.container("server", "n1", "-p 8080:80 -p 8053:53/udp");
    let client = stage.agent.container("client", "n2", "");
    let _tcp = TcpServer::start(&server.ns, 80);
    let _udp = UdpServer::start(&server.ns, 53);
    assert_eq!(*hairpin(&client, HOST, 8080).ip(), client.address());
    assert_eq!(*traffic::exchange(&client.ns, at(HOST, 8053), 64).ip(), client.address());
    // MOBY-INC-006, MOBY-PM-019: by any address of the host, gateways included.
    let gateway = |name: &str| -> Ipv4Addr {
        let network = stage.agent.inspect("network", name);
        let text = network["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").to_owned();
        text.parse().expect("an address")
    };
    for address in [gateway("n1"), gateway("n2"), gateway("bridge")] {
        hairpin(&client, address, 8080);
    }
    // Still no way to the address itself.
    traffic::unreachable(&client.ns, at(server.address(), 80));
}

#[test]
fn hairpin_works_with_icc_off_because_the_port_is_published() {
    let stage = Stage::new();
    stage.agent.network("n1", "-o com.docker.network.bridge.enable_icc=false");
    let server = stage.agent.container("server", "n1", "-p 8080:80");
    let client = stage.agent.container("client", "n1", "");
    let _tcp = TcpServer::start(&server.ns, 80);
    hairpin(&client, HOST, 8080);
    traffic::unreachable(&client.ns, at(server.address(), 80));
}

#[test]
fn moby_pm_025_a_port_is_allocated_once() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    stage.agent.ok("container create --name c2 --network n1 -p 8080:80");
    let error = stage.agent.refused("container start c2");
    assert!(error.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{error}");
    // Nothing changed: c1 serves, c2 can have another.
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    assert!(stage.agent.ok("container ls").contains("c1"));
    let listed = stage.agent.ok("container ls");
    assert!(!listed.split_whitespace().any(|word| word == "c2"), "c2 does not run");
    stage.agent.ok("container stop c1");
    stage.agent.ok("container start c2");
}

#[test]
fn moby_pm_003_a_port_of_a_host_process_is_refused() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let holder = TcpServer::start(&stage.net.host, 8080);
    stage.agent.ok("container create --name c1 --network n1 -p 8080:80");
    let error = stage.agent.refused("container start c1");
    assert!(
        error.contains("failed to bind host port 0.0.0.0:8080/tcp: address already in use"),
        "{error}"
    );
    // The host's server is not disturbed, and the retry succeeds once it is gone.
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    drop(holder);
    stage.agent.ok("container start c1");
    let id = stage.agent.inspect("container", "c1")["Id"].as_str().expect("an id").to_owned();
    let c1 = Container::open(&stage.agent, "c1", &id);
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn p44_n40_a_host_process_cannot_take_a_published_port() {
    let (stage, _c1) = Stage::with_one("-p 8080:80 -p 5353:53/udp");
    let bind = |address: SocketAddrV4| {
        stage.net.host.run(|| std::net::TcpListener::bind(address)).map(drop).map_err(|e| e.kind())
    };
    let in_use = Err(std::io::ErrorKind::AddrInUse);
    assert_eq!(bind(at(Ipv4Addr::UNSPECIFIED, 8080)), in_use);
    assert_eq!(bind(at(HOST, 8080)), in_use);
    assert_eq!(bind(at(HOST, 8081)), Ok(()));
    let udp = stage.net.host.run(|| std::net::UdpSocket::bind(at(HOST, 5353)));
    assert_eq!(udp.map(drop).map_err(|e| e.kind()), in_use);
    let tcp6 = stage.net.host.run(|| std::net::TcpListener::bind("[::]:8080"));
    assert_eq!(tcp6.map(drop).map_err(|e| e.kind()), in_use, "[::] is every address too");
    // Other namespaces have ports of their own.
    drop(TcpServer::start(&stage.net.outside, 8080));
    // The kernel's own choice never is a published port, and the reservation ends with the container.
    let reserved = stage.net.host.sysctl("net/ipv4/ip_local_reserved_ports");
    assert!(reserved.contains("8080"), "{reserved}");
    stage.agent.ok("container stop c1");
    assert_eq!(bind(at(HOST, 8080)), Ok(()));
    let reserved = stage.net.host.sysctl("net/ipv4/ip_local_reserved_ports");
    assert!(!reserved.contains("8080"), "{reserved}");
}

#[test]
fn moby_pm_020_moby_pm_045_n16_a_port_is_used_again_at_once() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    drop(server);
    stage.agent.ok("container rm -f c1");
    traffic::refused(&stage.net.outside, at(HOST, 8080));
    let c2 = stage.agent.container("c2", "n1", "-p 8080:80");
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}

#[test]
fn moby_pm_031_s112_publish_all_publishes_what_is_exposed() {
    let (stage, c1) = Stage::with_one("--expose 80 --expose 53/udp -P");
    let ports = stage.agent.ok("port c1");
    assert_eq!(ports.lines().count(), 2, "{ports}");
    let line = ports.lines().find(|line| line.starts_with("80/tcp -> 0.0.0.0:")).expect("80/tcp");
    let port: u16 = line.rsplit(':').next().expect("a port").parse().expect("a number");
    assert!((49_153..=65_535).contains(&port), "S112: {port}");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, port));
}
