//! The notes on the kinds of networks and on ports.

use std::net::Ipv4Addr;

use bascule_tests::{
    topology::{HOST, UPLINK},
    traffic::{self, TcpServer},
};

use super::{Reader, assert_id};
use crate::at;

#[test]
fn s4_s6_s27_s28_s29_s68_s112_s113_s115_s116_the_notes_on_docker_network() {
    let reader = Reader::new();
    let (host, outside) = (&reader.stage.net.host, &reader.stage.net.outside);
    assert_eq!(host.addresses("bascule0"), [(Ipv4Addr::new(172, 17, 0, 1), 16)]);
    reader.docker("docker run -d --name base1 busybox");
    reader.docker("docker run -d --name base2 busybox");
    // `brctl show`.
    let ports = host.sh("ip -o link show master bascule0");
    assert_eq!(ports.lines().count(), 2, "{ports}");
    let shown = host.sh("ip -d link show bascule0");
    assert!(shown.contains("stp_state 0 "), "STP enabled: no; {shown}");
    let _server = TcpServer::start(&reader.attach("base2").ns, 80);
    traffic::reaches(&reader.attach("base1").ns, at(Ipv4Addr::new(172, 17, 0, 3), 80));

    let line = "docker run --name mydocker1 -itd --network bridge -h mydocker1.rayx.me --dns 8.8.8.8 \
                --dns-search rayx.me --add-host www.rayx.me:54.12.17.68 --rm busybox:latest";
    assert_id(&reader.docker(line));
    assert_eq!(reader.docker("docker exec mydocker1 hostname"), "mydocker1.rayx.me");
    let hosts = reader.hosts("mydocker1");
    for line in ["54.12.17.68 www.rayx.me", "172.17.0.4 mydocker1.rayx.me mydocker1"] {
        assert!(hosts.iter().any(|found| found == line), "{line} is not in {hosts:?}");
    }
    let resolv = reader.docker("docker exec mydocker1 cat /etc/resolv.conf");
    for line in ["nameserver 8.8.8.8", "search rayx.me"] {
        assert!(resolv.lines().any(|found| found == line), "{line} is not in {resolv}");
    }
    reader.docker("docker stop -t 0 mydocker1");

    // A free port, a given one, a free one of an address, a given one of an address.
    let web = |name: &str, publish: &str| {
        let line = format!("docker run -d --name {name} -p {publish} ray-x/httpd-busybox:v0.2");
        assert_id(&reader.docker(&line));
        let server = TcpServer::start(&reader.attach(name).ns, 80);
        let shown = reader.docker(&format!("docker port {name}"));
        let (_, address) = shown.split_once("80/tcp -> ").expect("a published port");
        let at: std::net::SocketAddrV4 = address.trim().parse().expect("an address and port");
        (server, at)
    };
    let (_s1, free) = web("busybox-web1", "80");
    assert!(free.ip().is_unspecified() && free.port() >= 49153, "{free}");
    traffic::reaches(host, at(Ipv4Addr::LOCALHOST, free.port()));
    traffic::reaches(outside, at(HOST, free.port()));
    let (_s2, given) = web("busybox-web2", "8080:80");
    assert_eq!(given, at(Ipv4Addr::UNSPECIFIED, 8080));
    traffic::reaches(outside, at(HOST, 8080));
    host.sh(&format!("ip addr add 192.168.10.10/24 dev {UPLINK}"));
    let second = Ipv4Addr::new(192, 168, 10, 10);
    let (_s3, named) = web("busybox-web3", "192.168.10.10::80");
    assert!(*named.ip() == second && named.port() >= 49153, "{named}");
    traffic::reaches(host, named);
    traffic::refused(outside, at(HOST, named.port()));
    let (_s4, whole) = web("busybox-web4", "192.168.10.10:8081:80");
    assert_eq!(whole, at(second, 8081));
    traffic::reaches(host, whole);

    // Another container's network.
    reader.docker("docker run --name b1 -it busybox");
    reader.docker("docker run --name b2 -itd --network container:b1 busybox");
    let shared = |name| reader.docker(&format!("docker exec {name} readlink /proc/self/ns/net"));
    assert_eq!(shared("b1"), shared("b2"));
    let address = |name| reader.docker(&format!("docker exec {name} ip -4 -o addr show eth0"));
    assert_eq!(address("b1"), address("b2"));
    let _b1 = TcpServer::start_at(&reader.attach("b1").ns, at(Ipv4Addr::LOCALHOST, 80));
    reader.docker("docker exec b2 bash -c ':</dev/tcp/127.0.0.1/80'");

    // The host's.
    let links = reader.docker("docker run --name b3 --rm --network host busybox ip -o link");
    assert!(links.contains(UPLINK) && links.contains("bascule0"), "{links}");

    // None.
    let links = reader.docker("docker run --name b4 --rm --network none busybox ip -o link");
    assert!(links.contains("lo:") && !links.contains("eth0"), "{links}");

    // Several bridges on a host.
    let line = "docker network create -d bridge --subnet \"172.26.0.0/16\" --gateway \"172.26.0.2\" bridge1";
    assert_id(&reader.docker(line));
    reader.docker("docker run --name b5 -it --net bridge1 busybox");
    assert_eq!(reader.address("b5", "bridge1"), Ipv4Addr::new(172, 26, 0, 1));
    let routes = reader.attach("b5").ns.sh("ip route show default");
    assert!(routes.contains("via 172.26.0.2"), "{routes}");
    traffic::answers(&reader.attach("b5").ns, Ipv4Addr::new(172, 26, 0, 2));
    reader.refused("docker network create -d lo another");
}
