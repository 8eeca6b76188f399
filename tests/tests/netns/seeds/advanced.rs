//! The document of the daemon's options, and of networks by hand.

use std::net::{Ipv4Addr, SocketAddrV4};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, TcpServer},
};

use super::Reader;
use crate::{Stage, at};

#[test]
fn s60_s62_s97_s103_s104_s108_s114_s117_the_document_of_advanced_configuration() {
    let reader = Reader::with(&["--icc=false"]);
    let (host, outside) = (&reader.stage.net.host, &reader.stage.net.outside);
    assert_eq!(host.sysctl("net/ipv4/ip_forward"), "1");
    assert_eq!(host.addresses("bascule0"), [(Ipv4Addr::new(172, 17, 0, 1), 16)]);

    // With --icc=false a link opens what the other one exposes, and nothing else.
    reader.docker("docker run -d --name db --expose 80 busybox");
    reader.docker("docker run -d --name app --link db:db busybox");
    reader.docker("docker run -d --name other busybox");
    let (db, app) = (reader.attach("db"), reader.attach("app"));
    let _servers = [TcpServer::start(&db.ns, 80), TcpServer::start(&db.ns, 81)];
    let seen = traffic::reaches(&app.ns, at(db.address(), 80));
    assert_eq!(*seen.ip(), app.address(), "from its own address");
    traffic::unreachable(&app.ns, at(db.address(), 81));
    traffic::unreachable(&reader.attach("other").ns, at(db.address(), 80));

    // Out with the host's address; in by -P, -p and an address.
    let _world = TcpServer::start(outside, 80);
    assert_eq!(*traffic::reaches(&app.ns, at(OUTSIDE, 80)).ip(), HOST);
    reader.docker("docker run -d -P --name p1 --expose 80 busybox");
    reader.docker("docker run -d -p 80:80 --name p2 busybox");
    reader.docker(&format!("docker run -d -p {HOST}:8080:80 --name p3 busybox"));
    reader.docker(&format!("docker run -d -p {HOST}::80 --name p4 busybox"));
    for name in ["p1", "p2", "p3", "p4"] {
        let _server = TcpServer::start(&reader.attach(name).ns, 80);
        let shown = reader.docker(&format!("docker port {name} 80"));
        let published: SocketAddrV4 = shown.trim().parse().expect("an address and port");
        match name {
            "p1" | "p4" => assert!((49153..=65535).contains(&published.port()), "{published}"),
            "p2" => assert_eq!(published, at(Ipv4Addr::UNSPECIFIED, 80)),
            _ => assert_eq!(published, at(HOST, 8080)),
        }
        traffic::reaches(outside, at(HOST, published.port()));
    }
    assert_eq!(host.firewall_rules(), "", "and no rule does it");
}

#[test]
fn s55_s56_s57_s59_s72_s73_s118_the_document_of_the_default_bridge() {
    let options =
        ["--bip=192.168.1.5/24", "--fixed-cidr=192.168.1.0/25", "--mtu=1400", "--ip=198.51.100.1"];
    let reader = Reader::with(&options);
    let host = &reader.stage.net.host;
    assert_eq!(host.addresses("bascule0"), [(Ipv4Addr::new(192, 168, 1, 5), 24)]);
    reader.docker("$ sudo docker run -i -t --name c1 base /bin/bash");
    let inside = reader.attach("c1");
    let (address, prefix) = inside.ns.addresses("eth0")[0];
    assert!(prefix == 24 && address.octets()[3] < 128, "{address}/{prefix}");
    let routes = inside.ns.sh("ip route");
    assert!(routes.contains("default via 192.168.1.5 dev eth0"), "{routes}");
    assert!(routes.contains(&format!("src {address}")), "{routes}");
    assert!(inside.ns.sh("ip -o link show eth0").contains("mtu 1400"));
    assert!(host.sh("ip -o link show bascule0").contains("mtu 1400"));
    let files = reader.docker("docker exec c1 mount");
    for file in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        assert!(files.contains(&format!(" on {file} type ")), "{file} is not in {files}");
    }
    reader.docker("docker run -d -p 80:80 --name p1 busybox");
    assert_eq!(reader.docker("docker port p1 80"), format!("{HOST}:80"));
}

#[test]
fn s165_s166_s174_the_document_of_ipv6() {
    let net = Topology::dual();
    let options = ["--ipv6", "--fixed-cidr-v6=2001:db8:1::/64"];
    let agent = Agent::start_with(&net.host, Settings::default().arg(&options));
    let reader = Reader { stage: Stage { agent, net } };
    let host = &reader.stage.net.host;
    assert!(host.sh("ip -6 addr show bascule0").contains("fe80::1/64"));
    assert!(host.sh("ip -6 route").contains("2001:db8:1::/64 dev bascule0"));
    assert_eq!(host.sysctl("net/ipv6/conf/all/forwarding"), "1");
    let line = "docker run --rm -i ubuntu bash -c \"ip -6 addr show dev eth0; ip -6 route show\"";
    let shown = reader.docker(line);
    for fact in [
        "inet6 2001:db8:1::242:ac11:2/64 scope global",
        "inet6 fe80::42:acff:fe11:2/64 scope link",
        "2001:db8:1::/64 dev eth0",
        "fe80::/64 dev eth0",
        "default via fe80::1 dev eth0",
    ] {
        assert!(shown.contains(fact), "{fact} is not in {shown}");
    }
}

#[test]
fn s77_s78_s79_s87_s89_the_document_of_bridges_and_links_by_hand() {
    let net = Topology::new();
    net.host.sh("ip link add bridge0 type bridge");
    net.host.sh("ip addr add 192.168.5.1/24 dev bridge0");
    net.host.sh("ip link set dev bridge0 up");
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["-b=bridge0"]));
    let reader = Reader { stage: Stage { agent, net } };
    let (host, outside) = (&reader.stage.net.host, &reader.stage.net.outside);
    reader.docker("docker run -d --name c1 base");
    let c1 = reader.attach("c1");
    assert_eq!(c1.ns.addresses("eth0"), [(Ipv4Addr::new(192, 168, 5, 2), 24)]);
    assert!(c1.ns.sh("ip route show default").contains("via 192.168.5.1 dev eth0"));
    // `brctl show`, as containers start and stop.
    let ports = || host.sh("ip -o link show master bridge0").matches("bsc").count();
    assert_eq!(ports(), 1, "its end is on it");
    reader.docker("docker run -d --name brief base");
    assert_eq!(ports(), 2);
    reader.docker("docker stop -t 0 brief");
    assert_eq!(ports(), 1);
    let _world = TcpServer::start(outside, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST, "masqueraded");

    // An interface by hand, in a container without any.
    reader.docker("$ sudo docker run -d --name hand --net=none base sleep 600");
    let hand = reader.attach("hand").ns;
    let pid = reader.docker("$ sudo docker inspect -f '{{.State.Pid}}' hand");
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("its namespace");
    assert_eq!(link.to_string_lossy(), format!("net:[{}]", hand.inode()), "by its process");
    assert_eq!(hand.interfaces(), ["lo"]);
    host.sh("ip link add A type veth peer name B");
    host.sh("ip link set A master bridge0");
    host.sh("ip link set A up");
    host.sh(&format!("ip link set B netns {}", hand.path().display()));
    hand.sh("ip link set dev B name eth0");
    hand.sh("ip link set eth0 address 12:34:56:78:9a:bc");
    hand.sh("ip link set eth0 up");
    hand.sh("ip addr add 192.168.5.99/24 dev eth0");
    hand.sh("ip route add default via 192.168.5.1");
    host.wait_forwarding("A");
    hand.wait_up("eth0");
    traffic::answers(&hand, Ipv4Addr::new(192, 168, 5, 1));
    traffic::answers(&hand, c1.address());
    assert_eq!(*traffic::reaches(&hand, at(OUTSIDE, 80)).ip(), HOST);
    // From inside, the same commands are not allowed.
    let error = reader.refused("docker exec hand ip link set dev eth0 down");
    assert!(error.contains("Operation not permitted"), "{error}");

    // A link of two containers, beside what they have.
    reader.docker("$ sudo docker run -i -t --name two --net=none base /bin/bash");
    let two = reader.attach("two").ns;
    host.sh("ip link add P type veth peer name Q");
    for (end, ns, own, other) in
        [("P", &c1.ns, "10.1.1.1", "10.1.1.2"), ("Q", &two, "10.1.1.2", "10.1.1.1")]
    {
        host.sh(&format!("ip link set {end} netns {}", ns.path().display()));
        ns.sh(&format!("ip addr add {own}/32 dev {end}"));
        ns.sh(&format!("ip link set {end} up"));
        ns.sh(&format!("ip route add {other}/32 dev {end}"));
    }
    c1.ns.wait_up("P");
    two.wait_up("Q");
    traffic::answers(&c1.ns, Ipv4Addr::new(10, 1, 1, 2));
    traffic::answers(&two, Ipv4Addr::new(10, 1, 1, 1));
    assert!(host.ifindex(UPLINK).is_some());

    // What was plugged in goes with its container.
    drop(hand);
    reader.docker("docker rm -f hand");
    bascule_tests::wait::wait_until("A is gone", bascule_tests::wait::SOON, || {
        host.ifindex("A").is_none()
    });
}
