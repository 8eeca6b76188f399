//! Published ports: of every form, refused, moved and given back.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use bascule_tests::{Topology, topology::HOST, traffic};

use crate::stage::Stage;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn on_host(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(HOST, port)
}

#[test]
fn ports_of_a_real_docker() {
    let net = Topology::dual();
    net.host.sysctl_set("net/ipv4/ip_local_reserved_ports", "49153-49169");
    let stage = Stage::within(net, &[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 n1");
    moby_pm_016_moby_rd_019_every_form_of_a_mapping(&stage);
    moby_pm_025_a_port_that_is_taken(&stage);
    moby_pm_027_moby_pm_031_ports_that_we_choose(&stage);
    stage.docker.ok("network rm n1");
}

fn moby_pm_016_moby_rd_019_every_form_of_a_mapping(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let web = docker.container(
        "web",
        "n1",
        "-p 8080:80 -p 8053:53/udp -p 127.0.0.1:8081:80 -p 198.51.100.1:8082:80 -p 9000-9399:9000-9399",
    );
    let _web = traffic::TcpServer::start(&web.ns, 80);
    let _names = traffic::UdpServer::start(&web.ns, 53);
    let _last = traffic::TcpServer::start(&web.ns, 9399);
    let seen = traffic::reaches(&net.outside, on_host(8080));
    assert_eq!(*seen.ip(), bascule_tests::topology::OUTSIDE, "the client's own address");
    traffic::exchange(&net.outside, on_host(8053), 100);
    traffic::reaches(&net.outside, on_host(8082));
    traffic::reaches(&net.outside, on_host(9399));
    traffic::tcp::refused(&net.outside, on_host(8081));
    traffic::reaches(&net.host, SocketAddrV4::new(LOOPBACK, 8081));
    traffic::reaches(&net.host, SocketAddrV4::new(LOOPBACK, 8080));
    traffic::reaches(&web.ns, on_host(8080));
    let ports = stage.way().ports("web");
    for line in [
        "53/udp -> 0.0.0.0:8053",
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> 127.0.0.1:8081",
        "80/tcp -> 198.51.100.1:8082",
        "9000/tcp -> 0.0.0.0:9000",
    ] {
        assert!(ports.iter().any(|shown| shown == line), "{line}: {ports:?}");
    }
    assert_eq!(docker.ok("port web"), "", "Docker cannot show them");
    docker.ok("rm -f web");
    traffic::tcp::refused(&net.outside, on_host(8080));
}

fn moby_pm_025_a_port_that_is_taken(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    docker.container("a1", "n1", "-p 8080:80");
    let why = stage.docker.fails(
        "run -d --name b1 --network n1 -p 8090:81 -p 8080:80 busybox /bin/busybox sleep 1000",
    );
    assert!(why.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{why}");
    assert_eq!(stage.agent.ok("ps -q").lines().count(), 1, "nothing of it is left");
    docker.ok("rm -f b1");
    let holder = net.host.run(|| TcpListener::bind("0.0.0.0:8090")).expect("a free port");
    let why = stage
        .docker
        .fails("run -d --name b1 --network n1 -p 8090:81 busybox /bin/busybox sleep 1000");
    assert!(
        why.contains("failed to bind host port 0.0.0.0:8090/tcp: address already in use"),
        "{why}"
    );
    drop(holder);
    docker.ok("start b1");
    let refused = net.host.run(|| TcpListener::bind("0.0.0.0:8090"));
    assert!(refused.is_err(), "it is reserved now");
    let why = stage
        .docker
        .fails("run -d --name s1 --network n1 -p 8091:81/sctp busybox /bin/busybox sleep 1000");
    assert!(why.contains("sctp"), "{why}");
    docker.ok("rm -f a1 b1 s1");
}

fn moby_pm_027_moby_pm_031_ports_that_we_choose(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    // What others have reserved is nobody's choice, and granted to whoever asks for it.
    let options = "-P --expose 80 --expose 53/udp -p 127.0.0.1::81 -p 49160:82";
    let all = docker.container("all", "n1", options);
    let _servers = [80, 82].map(|port| traffic::TcpServer::start(&all.ns, port));
    let port = |inner: &str| stage.way().published("all", inner);
    assert!(port("80/tcp") >= 49_170 && port("53/udp") >= 49_170, "{}", port("80/tcp"));
    traffic::reaches(&net.outside, on_host(port("80/tcp")));
    traffic::reaches(&net.outside, on_host(49_160));
    let ports = stage.way().ports("all");
    assert!(ports.iter().any(|line| line.starts_with("81/tcp -> 127.0.0.1:")), "{ports:?}");
    docker.ok("rm -f all");
}
