//! Cases of the field's own suites that a client of Docker can express, on networks of our driver.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
};

use bascule_tests::{
    Container, process,
    topology::{HOST, NEIGHBOUR, OUTSIDE},
    traffic::{self, TcpServer, UdpServer, udp},
    wait,
};

use crate::stage::Stage;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const KEY: &str = "com.docker.network.bridge";

const fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

#[test]
fn what_a_client_of_docker_can_ask_the_driver_for() {
    let stage = Stage::start(&[]);
    stage.docker.ok("network create -d bascule --subnet 10.81.1.0/24 blue");
    stage.docker.ok("network create -d bascule --subnet 10.81.2.0/24 green");
    moby_rd_002_a_driver_that_is_not_there(&stage);
    moby_icc_018_two_networks_before_the_start(&stage);
    moby_icc_019_moby_pm_039_a_namespace_that_is_shared(&stage);
    moby_icc_022_an_ethernet_address_is_nobody_elses(&stage);
    moby_mq_001_moby_mq_003_how_a_network_leaves_the_host(&stage);
    moby_inc_007_moby_inc_008_moby_inc_010_who_comes_from_outside(&stage);
    moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(&stage);
    moby_pm_020_a_port_that_somebody_just_had(&stage);
    moby_pm_040_moby_pm_042_what_goes_through_a_port(&stage);
    moby_lc_008_restarts_on_several_networks(&stage);
    stage.docker.ok("network rm blue green");
    assert_eq!(stage.agent.ok("ps -aq"), "");
}

fn open(stage: &Stage, name: &str) -> Container {
    let id = stage.docker.ok(&format!("inspect --format {{{{.Id}}}} {name}"));
    stage.docker.open(name, &id)
}

fn moby_rd_002_a_driver_that_is_not_there(stage: &Stage) {
    let why = stage.fails("network create -d nosuchdriver nowhere");
    assert!(why.contains("nosuchdriver") && why.contains("not found"), "{why}");
}

fn moby_icc_018_two_networks_before_the_start(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("create --name two --network blue busybox /bin/busybox sleep 1000");
    docker.ok("network connect green two");
    docker.ok("start two");
    let two = open(stage, "two");
    let one = docker.container("one", "blue", "");
    let other = docker.container("other", "green", "");
    assert_eq!(two.ns.interfaces().len(), 3);
    let mine = ["eth0", "eth1"].map(|interface| two.address_on(interface));
    for from in [&one, &other] {
        let subnet = from.address().octets();
        let beside = mine.iter().find(|address| address.octets()[..3] == subnet[..3]);
        traffic::answers(&from.ns, beside.expect("an address on that network"));
    }
    traffic::does_not_answer(&one.ns, other.address());
    traffic::answers(&two.ns, OUTSIDE);
    docker.ok("rm -f one two other");
}

fn moby_icc_019_moby_pm_039_a_namespace_that_is_shared(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let web = docker.container("web", "blue", "-p 8080:80");
    let inner = docker.container("inner", "container:web", "");
    assert_eq!(inner.ns.inode(), web.ns.inode());
    let _server = TcpServer::start(&inner.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8080));
    traffic::reaches(&net.host, at(LOOPBACK, 8080));
    traffic::reaches(&inner.ns, at(HOST, 8080));
    assert_eq!(stage.agent.ok("ps -q").lines().count(), 1, "one endpoint, one container");
    docker.ok("rm -f inner web");
}

fn moby_icc_022_an_ethernet_address_is_nobody_elses(stage: &Stage) {
    let docker = &stage.docker;
    drop(docker.container("c1", "blue", ""));
    docker.ok("stop -t 0 c1");
    let c2 = docker.container("c2", "blue", "");
    docker.ok("start c1");
    let c1 = open(stage, "c1");
    assert_ne!(c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    traffic::answers(&c1.ns, c2.address());
    docker.ok("rm -f c1 c2");
}

fn moby_mq_001_moby_mq_003_how_a_network_leaves_the_host(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let second = Ipv4Addr::new(198, 51, 100, 77);
    net.host.sh(&format!("ip addr add {second}/24 dev up0"));
    docker.ok(&format!(
        "network create -d bascule --subnet 10.81.3.0/24 -o {KEY}.enable_ip_masquerade=false bare"
    ));
    docker
        .ok(&format!("network create -d bascule -o com.docker.network.host_ipv4={second} leaving"));
    let bare = docker.container("bare", "bare", "");
    let leaving = docker.container("leaving", "leaving", "");
    let plain = docker.container("plain", "blue", "");
    net.route_to_host("10.81.3.0/24");
    let _near = TcpServer::start(&net.neighbour, 80);
    for (from, source) in [(&bare, bare.address()), (&leaving, second), (&plain, HOST)] {
        let seen = traffic::reaches(&from.ns, at(NEIGHBOUR, 80));
        assert_eq!(*seen.ip(), source, "{}", from.name);
    }
    docker.ok("rm -f bare leaving plain");
    docker.ok("network rm bare leaving");
    net.host.sh(&format!("ip addr del {second}/24 dev up0"));
}

fn moby_inc_007_moby_inc_008_moby_inc_010_who_comes_from_outside(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    docker.ok(&format!(
        "network create -d bascule --subnet 10.81.4.0/24 -o {KEY}.gateway_mode_ipv4=routed routed"
    ));
    docker.ok(&format!(
        "network create -d bascule --subnet 10.81.5.0/24 -o {KEY}.trusted_host_interfaces=up0 trusted"
    ));
    let nat = docker.container("nat", "blue", "-p 8300:80");
    let routed = docker.container("routed", "routed", "-p 8301:80");
    let trusted = docker.container("trusted", "trusted", "");
    for subnet in ["10.81.1.0/24", "10.81.4.0/24", "10.81.5.0/24"] {
        net.route_to_host(subnet);
    }
    let all = [&nat, &routed, &trusted];
    let _servers = all.map(|c| [80, 81].map(|port| TcpServer::start(&c.ns, port)));
    let from = &net.neighbour;
    traffic::unreachable(from, at(nat.address(), 80));
    traffic::does_not_answer(from, nat.address());
    traffic::answers(from, routed.address());
    traffic::reaches(from, at(routed.address(), 80));
    traffic::unreachable(from, at(routed.address(), 81));
    traffic::reaches(from, at(trusted.address(), 81));
    docker.ok("rm -f nat routed trusted");
    docker.ok("network rm routed trusted");
}

fn moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    docker.ok(&format!("network create -d bascule -o {KEY}.host_binding_ipv4=127.0.0.1 near"));
    let c1 = docker.container("c1", "near", "-p 8400:80");
    let _server = TcpServer::start(&c1.ns, 80);
    assert_eq!(stage.ports("c1"), ["80/tcp -> 127.0.0.1:8400"]);
    traffic::reaches(&net.host, at(LOOPBACK, 8400));
    traffic::tcp::refused(&net.outside, at(HOST, 8400));
    docker.ok("rm -f c1");
    docker.ok("network rm near");
}

fn moby_pm_020_a_port_that_somebody_just_had(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    for network in ["blue", "green", "blue"] {
        let web = docker.container("web", network, "-p 8500:80");
        let _server = TcpServer::start(&web.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8500));
        traffic::reaches(&net.host, at(LOOPBACK, 8500));
        docker.ok("rm -f web");
    }
}

fn moby_pm_040_moby_pm_042_what_goes_through_a_port(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let web = docker.container("web", "blue", "-p 8700:80 -p 8701:53/udp");
    // Half closed by the client, and answered then.
    let listener = web.ns.run(|| TcpListener::bind("0.0.0.0:80")).expect("a listener");
    for (from, to) in [(&net.host, LOOPBACK), (&net.outside, HOST)] {
        let client = from.spawn(move || {
            let mut stream = TcpStream::connect(at(to, 8700)).expect("a connection");
            stream.write_all(b"question").expect("a question");
            stream.shutdown(Shutdown::Write).expect("half of it is closed");
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).expect("the whole answer");
            heard
        });
        let (mut server, _) = listener.accept().expect("a client");
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).expect("the end of the question");
        server.write_all(&asked).expect("an answer");
        drop(server);
        assert_eq!(client.join().expect("a thread"), b"question");
    }
    // Nobody listens yet; the first failure breaks nothing.
    let socket = udp::client(&net.outside, at(HOST, 8701)).expect("a socket");
    assert!(udp::ask(&socket, 100).is_err());
    let _server = UdpServer::start(&web.ns, 53);
    wait::wait_until("an answer", wait::SOON, || udp::ask(&socket, 100).is_ok());
    docker.ok("rm -f web");
}

fn moby_lc_008_restarts_on_several_networks(stage: &Stage) {
    let docker = &stage.docker;
    docker.container("first", "blue", "--network-alias foo --restart always");
    docker.container("second", "blue", "");
    for name in ["first", "second"] {
        docker.ok(&format!("network connect green {name}"));
    }
    let pings = |from: &str, name: &str| {
        docker.cli(["exec", from, "/bin/busybox", "ping", "-c", "1", "-W", "2", name]).ok()
    };
    // It dies, and Docker starts it again.
    let pid = || docker.ok("inspect --format {{.State.Pid}} first");
    let before = pid();
    let killed = process::run(docker.inside("kill").args(["-9", &before]), process::LIMIT);
    assert!(killed.ok(), "{}", killed.stderr);
    wait::wait_until("the next process", wait::START, || !["0", &before].contains(&pid().as_str()));
    for name in ["first", "foo"] {
        wait::wait_until(name, wait::START, || pings("second", name));
    }
    // The other one is stopped, and started.
    docker.ok("stop --time 0 second");
    assert!(!pings("first", "second"));
    docker.ok("start second");
    wait::wait_until("second", wait::START, || pings("first", "second"));
    docker.ok("network disconnect blue second");
    wait::wait_until("second, by the other network", wait::START, || pings("first", "second"));
    docker.ok("rm --force first second");
}
