//! Cases of the field's own suites that a client of Docker can express, on one daemon whose networks are taken over.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
};

use bascule_tests::{
    Container, api, dockerd, process,
    topology::{HOST, NEIGHBOUR, OUTSIDE},
    traffic::{self, Conversation, TcpServer, UdpServer, udp},
    wait,
};
use serde_json::json;

use crate::{Stage, at};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const KEY: &str = "com.docker.network.bridge";

#[test]
fn what_a_client_of_docker_can_ask_for() {
    let stage = Stage::adopted(&["--live-restore"]);
    stage.docker.ok("network create --subnet 10.71.0.0/24 blue");
    stage.docker.ok("network create --subnet 10.72.0.0/24 green");
    moby_icc_018_two_networks_before_the_start(&stage);
    moby_icc_019_moby_pm_039_a_namespace_that_is_shared(&stage);
    moby_icc_020_moby_inc_016_none_and_the_default_network(&stage);
    moby_icc_022_moby_icc_023_ethernet_addresses(&stage);
    moby_icc_006_moby_icc_032_what_an_interface_is_like(&stage);
    moby_inc_008_moby_inc_010_modes_of_a_gateway(&stage);
    moby_mq_003_an_address_to_leave_by(&stage);
    moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(&stage);
    moby_pm_001_moby_pm_029_moby_pm_031_ports_that_docker_chooses(&stage);
    moby_pm_003_moby_pm_020_ports_that_somebody_had(&stage);
    moby_pm_033_moby_int_007_ports_follow_the_default_route(&stage);
    moby_pm_040_moby_pm_042_what_goes_through_a_port(&stage);
    s88_a_container_of_dockers_on_a_network_of_ours(&stage);
    moby_lc_008_restarts_on_several_networks(&stage);
    stage.docker.ok("network rm blue green");
    stage.settle();
    assert_eq!(stage.agent.ok("ps --quiet"), "");
}

fn open(stage: &Stage, name: &str) -> Container {
    let id = stage.docker.ok(&format!("inspect --format {{{{.Id}}}} {name}"));
    stage.docker.open(name, &id)
}

/// Runs a container that nobody is to start.
fn fails(stage: &Stage, options: &str) -> String {
    let line = format!("run --detach {options} {} /bin/busybox sleep 100000", dockerd::IMAGE);
    let out = stage.docker.cli(line.split_whitespace());
    assert!(!out.ok(), "`docker {line}` succeeded");
    out.stderr
}

/// The host's port of a published one.
fn published(stage: &Stage, container: &str, port: &str) -> u16 {
    let shown = stage.docker.ok(&format!("port {container} {port}"));
    let found = shown.lines().next().and_then(|line| line.rsplit(':').next()?.parse().ok());
    found.unwrap_or_else(|| panic!("{container} {port}: {shown}"))
}

/// The address that a container has on the network of another one.
fn beside(container: &Container, other: &Container) -> Ipv4Addr {
    let subnet = other.address().octets();
    let mine = ["eth0", "eth1"].map(|interface| container.address_on(interface));
    let found = mine.into_iter().find(|address| address.octets()[..3] == subnet[..3]);
    found.unwrap_or_else(|| panic!("{} is not where {} is", container.name, other.name))
}

fn moby_icc_018_two_networks_before_the_start(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!(
        "create --name two --network blue {} /bin/busybox sleep 100000",
        dockerd::IMAGE
    ));
    docker.ok("network connect green two");
    docker.ok("start two");
    let two = open(stage, "two");
    let one = docker.container("one", "blue", "");
    let other = docker.container("other", "green", "");
    stage.settle();
    assert_eq!(two.ns.interfaces().len(), 3);
    for from in [&one, &other] {
        traffic::answers(&from.ns, beside(&two, from));
    }
    traffic::does_not_answer(&one.ns, other.address());
    traffic::answers(&two.ns, OUTSIDE);
    docker.ok("rm --force one two other");
}

fn moby_icc_019_moby_pm_039_a_namespace_that_is_shared(stage: &Stage) {
    let docker = &stage.docker;
    let web = docker.container("web", "blue", "-p 8080:80");
    let inner = docker.container("inner", "container:web", "");
    stage.settle_but(&[&inner.id]);
    assert_eq!(inner.ns.inode(), web.ns.inode());
    let _server = TcpServer::start(&inner.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&inner.ns, at(HOST, 8080));
    traffic::reaches(&stage.net.host, at(LOOPBACK, 8080));
    docker.ok("rm --force inner web");
}

fn moby_icc_020_moby_inc_016_none_and_the_default_network(stage: &Stage) {
    let docker = &stage.docker;
    let alone = docker.container("alone", "none", "");
    assert_eq!(alone.ns.interfaces(), ["lo"]);
    let d1 = docker.container("d1", "bridge", "");
    let d2 = docker.container("d2", "bridge", "");
    stage.settle_but(&[&alone.id]);
    traffic::answers(&d1.ns, d2.address());
    let named = docker.cli("exec d1 /bin/busybox ping -c 1 -W 1 d2".split(' '));
    assert!(!named.ok(), "no names on the default network: {}", named.stdout);
    docker.ok("rm --force alone d1 d2");
}

fn moby_icc_022_moby_icc_023_ethernet_addresses(stage: &Stage) {
    let docker = &stage.docker;
    // The command line does not say it to this version of the API.
    let body = json!({"Image": dockerd::IMAGE, "Cmd": ["/bin/busybox", "sleep", "100000"],
                      "MacAddress": "02:00:5e:00:00:99", "HostConfig": {"NetworkMode": "blue"}});
    let path = "/v1.41/containers/create?name=mac";
    let answer = api::request(&docker.socket(), "POST", path, Some(&body)).expect("Docker answers");
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    let c1 = docker.container("c1", "blue", "");
    docker.ok("stop --time 0 c1");
    docker.ok("start mac");
    let c2 = docker.container("c2", "blue", "");
    docker.ok("start c1");
    drop(c1);
    let (c1, mac) = (open(stage, "c1"), open(stage, "mac"));
    stage.settle();
    assert_ne!(c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    for _ in 0..2 {
        let mac = open(stage, "mac");
        assert_eq!(mac.ns.mac("eth0"), [2, 0, 0x5e, 0, 0, 0x99]);
        traffic::answers(&mac.ns, c1.address());
        traffic::answers(&c2.ns, mac.address());
        docker.ok("restart --time 0 mac");
        stage.settle();
    }
    drop(mac);
    docker.ok("rm --force mac c1 c2");
}

fn moby_icc_006_moby_icc_032_what_an_interface_is_like(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!(
        "network create -o com.docker.network.driver.mtu=1400 -o {KEY}.name=own0 \
         -o com.docker.network.container_iface_prefix=lan narrow"
    ));
    let sysctl = "--sysctl net.ipv6.conf.all.disable_ipv6=1";
    let n1 = docker.container("n1", "narrow", sysctl);
    let n2 = docker.container("n2", "narrow", "");
    stage.settle();
    assert!(stage.net.host.ifindex("own0").is_some());
    assert!(n1.ns.sh("ip link show lan0").contains("mtu 1400"));
    assert!(!n1.ns.sh("ip address").contains("inet6"));
    let to = n2.address_on("lan0");
    assert_eq!(traffic::ping_with(&n1.ns, to, 1, "-s 1372 -M do").received, 1);
    assert_eq!(traffic::ping_with(&n1.ns, OUTSIDE, 1, "-s 1372 -M do").received, 1);
    docker.ok("rm --force n1 n2");
    docker.ok("network rm narrow");
}

fn moby_inc_008_moby_inc_010_modes_of_a_gateway(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    // This version of Docker knows none of these, and keeps them.
    docker.ok(&format!(
        "network create -o {KEY}.gateway_mode_ipv4=routed --subnet 10.73.0.0/24 routed"
    ));
    docker.ok(&format!(
        "network create -o {KEY}.trusted_host_interfaces=up0 --subnet 10.74.0.0/24 trusted"
    ));
    let routed = docker.container("routed", "routed", "-p 8300:80");
    let trusted = docker.container("trusted", "trusted", "");
    stage.settle();
    net.route_to_host("10.73.0.0/24");
    net.route_to_host("10.74.0.0/24");
    let _servers = [&routed, &trusted].map(|c| [80, 81].map(|port| TcpServer::start(&c.ns, port)));
    traffic::answers(&net.neighbour, routed.address());
    traffic::reaches(&net.neighbour, at(routed.address(), 80));
    traffic::unreachable(&net.neighbour, at(routed.address(), 81));
    // It leaves as itself.
    let _near = TcpServer::start(&net.neighbour, 80);
    let seen = traffic::reaches(&routed.ns, at(NEIGHBOUR, 80));
    assert_eq!(*seen.ip(), routed.address());
    traffic::reaches(&net.neighbour, at(trusted.address(), 81));
    docker.ok("rm --force routed trusted");
    docker.ok("network rm routed trusted");
}

fn moby_mq_003_an_address_to_leave_by(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let second = Ipv4Addr::new(198, 51, 100, 77);
    net.host.sh(&format!("ip addr add {second}/24 dev up0"));
    docker.ok(&format!("network create -o com.docker.network.host_ipv4={second} leaving"));
    let c1 = docker.container("c1", "leaving", "");
    stage.settle();
    let _far = TcpServer::start(&net.outside, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), second);
    docker.ok("rm --force c1");
    docker.ok("network rm leaving");
    net.host.sh(&format!("ip addr del {second}/24 dev up0"));
}

fn moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    docker.ok(&format!("network create -o {KEY}.host_binding_ipv4=127.0.0.1 near"));
    let c1 = docker.container("c1", "near", "-p 8400:80");
    stage.settle();
    let _server = TcpServer::start(&c1.ns, 80);
    assert_eq!(docker.ok("port c1"), "80/tcp -> 127.0.0.1:8400");
    traffic::reaches(&net.host, at(LOOPBACK, 8400));
    traffic::refused(&net.outside, at(HOST, 8400));
    docker.ok("rm --force c1");
    docker.ok("network rm near");
}

fn moby_pm_001_moby_pm_029_moby_pm_031_ports_that_docker_chooses(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let all = docker.container("all", "blue", "-P --expose 80 --expose 53/udp -p 22");
    stage.settle();
    let (_web, _names) = (TcpServer::start(&all.ns, 80), UdpServer::start(&all.ns, 53));
    let _shell = TcpServer::start(&all.ns, 22);
    traffic::reaches(&net.outside, at(HOST, published(stage, "all", "80")));
    traffic::reaches(&net.outside, at(HOST, published(stage, "all", "22")));
    traffic::exchange(&net.outside, at(HOST, published(stage, "all", "53/udp")), 100);
    // One after the other out of a range, until it is empty; what is given back is had again.
    let mut all: Vec<_> =
        ["r0", "r1"].map(|name| docker.container(name, "blue", "-p 7000-7001:82")).into();
    let error = fails(stage, "--name r2 --network blue -p 7000-7001:82");
    assert!(error.contains("all ports are allocated"), "{error}");
    docker.ok("rm --force r0 r2");
    all.remove(0);
    all.push(docker.container("r3", "blue", "-p 7000-7001:82"));
    stage.settle();
    for (container, port) in all.iter().zip([7001, 7000]) {
        let server = TcpServer::start(&container.ns, 82);
        assert_eq!(published(stage, &container.name, "82"), port);
        traffic::reaches(&net.outside, at(HOST, port));
        assert_eq!(server.peers().len(), 1, "{}", container.name);
    }
    docker.ok("rm --force all r1 r3");
}

fn moby_pm_003_moby_pm_020_ports_that_somebody_had(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let holder = net.host.run(|| TcpListener::bind("0.0.0.0:8500")).expect("a free port");
    let error = fails(stage, "--name web --network blue -p 8499:80 -p 8500:80");
    assert!(error.contains("address already in use"), "{error}");
    traffic::refused(&net.outside, at(HOST, 8499));
    drop(holder);
    docker.ok("start web");
    for again in [true, false] {
        stage.settle();
        let web = open(stage, "web");
        let _server = TcpServer::start(&web.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8500));
        traffic::reaches(&net.host, at(LOOPBACK, 8500));
        drop(web);
        docker.ok("rm --force web");
        if again {
            docker.container("web", "green", "-p 8500:80");
        }
    }
}

fn moby_pm_033_moby_int_007_ports_follow_the_default_route(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    docker.ok("network create --internal inner");
    let web = docker.container("web", "green", "-p 8600:80");
    docker.ok("network connect inner web");
    docker.ok("network connect blue web");
    stage.settle();
    let _server = TcpServer::start(&web.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8600));
    traffic::answers(&web.ns, OUTSIDE);
    // From one network to another, and back.
    docker.ok("network disconnect green web");
    stage.settle();
    wait::wait_until("the port at the other network", wait::SOON, || {
        Conversation::open(&net.outside, at(HOST, 8600)).is_ok()
    });
    traffic::answers(&web.ns, OUTSIDE);
    docker.ok("network disconnect blue web");
    stage.settle();
    assert!(Conversation::open(&net.outside, at(HOST, 8600)).is_err());
    docker.ok("rm --force web");
    docker.ok("network rm inner");
}

fn moby_pm_040_moby_pm_042_what_goes_through_a_port(stage: &Stage) {
    let (docker, net) = (&stage.docker, &stage.net);
    let web = docker.container("web", "blue", "-p 8700:80 -p 8701:53/udp");
    stage.settle();
    // Half closed by the client, and answered then.
    let listener = web.ns.run(|| TcpListener::bind("0.0.0.0:80")).expect("a listener");
    for (from, to) in [(&net.host, LOOPBACK), (&net.outside, HOST)] {
        let client = from.spawn(move || {
            let mut stream = TcpStream::connect(SocketAddrV4::new(to, 8700)).expect("a connection");
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
    docker.ok("rm --force web");
}

fn s88_a_container_of_dockers_on_a_network_of_ours(stage: &Stage) {
    let (docker, agent, net) = (&stage.docker, &stage.agent, &stage.net);
    agent.network("own", "--subnet 10.75.0.0/24");
    let bare = docker.container("bare", "none", "");
    // Docker's containers are Docker's; a namespace is one of ours where it is said to be.
    let blue = docker.container("blue1", "blue", "");
    stage.settle_but(&[&bare.id]);
    let why = agent.refused("network connect own blue1");
    assert!(why.contains("Docker"), "{why}");
    for name in ["pid:1", "netns:/run/netns/blue"] {
        let why = agent.refused(&format!("network connect own {name}"));
        assert!(why.contains("`bascule container create --network own --"), "{why}");
    }
    let netns = bare.ns.path();
    agent.ok(&format!(
        "container create --name bare-own --network own --netns {} -p 8800:80",
        netns.display()
    ));
    agent.ok("container start bare-own");
    let peer = agent.container("peer", "own", "");
    let _server = TcpServer::start(&bare.ns, 80);
    traffic::reaches(&peer.ns, at(bare.address(), 80));
    traffic::reaches(&net.outside, at(HOST, 8800));
    traffic::answers(&bare.ns, OUTSIDE);
    traffic::does_not_answer(&blue.ns, bare.address());
    let pinged = docker.ok(&format!("exec bare /bin/busybox ping -c 1 -W 5 {}", peer.address()));
    assert!(pinged.contains("1 packets received"), "{pinged}");
    agent.ok("rm -f bare-own peer");
    assert_eq!(bare.ns.interfaces(), ["lo"]);
    agent.ok("network rm own");
    docker.ok("rm --force bare blue1");
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
