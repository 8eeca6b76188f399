//! Published ports.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpListener, TcpStream},
    time::Duration,
};

use super::{IDLE, KEY, LOOPBACK, Way, at};
use crate::{
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer, udp},
    wait,
};

/// Whether somebody outside gets an answer of what a port leads to, and not just of who holds it.
pub(super) fn is_served(way: &Way<'_>, port: u16) -> bool {
    way.net.outside.run(|| traffic::greets(at(HOST, port), Duration::from_secs(1)))
}

/// All of it, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_pm_001_moby_pm_029_moby_pm_031_ports_that_are_chosen(way);
    moby_pm_003_moby_pm_006_moby_pm_020_ports_that_somebody_had(way);
    moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(way);
    moby_pm_008_moby_pm_028_one_port_at_several_addresses(way);
    moby_pm_033_moby_int_007_ports_follow_the_default_route(way);
    moby_pm_040_moby_pm_042_what_goes_through_a_port(way);
}

fn moby_pm_001_moby_pm_029_moby_pm_031_ports_that_are_chosen(way: &Way<'_>) {
    let net = way.net;
    let all =
        way.container("all", "blue", "-P --expose 80 --expose 53/udp -p 22 -p 9800-9803:90-93");
    let (_web, _names) = (TcpServer::start(&all.ns, 80), UdpServer::start(&all.ns, 53));
    let _shell = TcpServer::start(&all.ns, 22);
    let _last = TcpServer::start(&all.ns, 93);
    traffic::reaches(&net.outside, at(HOST, way.published("all", "80/tcp")));
    traffic::reaches(&net.outside, at(HOST, way.published("all", "22/tcp")));
    traffic::exchange(&net.outside, at(HOST, way.published("all", "53/udp")), 100);
    traffic::reaches(&net.outside, at(HOST, 9803));
    traffic::refused(&net.outside, at(HOST, 9804));
    // One after the other out of a range, until it is empty; what is given back is had again.
    let mut all: Vec<_> =
        ["r0", "r1"].map(|name| way.docker.container(name, "blue", "-p 7000-7001:82")).into();
    let error =
        way.docker.fails(&format!("run -d --name r2 --network blue -p 7000-7001:82 {IDLE}"));
    assert!(error.contains("allocated"), "{error}");
    way.docker.ok("rm --force r0 r2");
    all.remove(0);
    all.push(way.container("r3", "blue", "-p 7000-7001:82"));
    for (container, port) in all.iter().zip([7001, 7000]) {
        let server = TcpServer::start(&container.ns, 82);
        assert_eq!(way.published(&container.name, "82/tcp"), port);
        traffic::reaches(&net.outside, at(HOST, port));
        assert_eq!(server.peers().len(), 1, "{}", container.name);
    }
    way.remove("all r1 r3");
}

fn moby_pm_003_moby_pm_006_moby_pm_020_ports_that_somebody_had(way: &Way<'_>) {
    let (docker, net) = (way.docker, way.net);
    let holder = net.host.run(|| TcpListener::bind("0.0.0.0:8500")).expect("a free port");
    for (name, ports) in [
        ("web", "-p 8499:80 -p 8500:80"),
        ("range", "-p 8499-8501:80 -p 8499-8501:81 -p 8499-8501:82"),
    ] {
        let error = docker.fails(&format!("run -d --name {name} --network blue {ports} {IDLE}"));
        let words = ["0.0.0.0:8500", "address already in use"];
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
        for port in [8499, 8501] {
            traffic::refused(&net.outside, at(HOST, port));
        }
    }
    drop(holder);
    docker.ok("start web");
    for again in [true, false] {
        way.settle();
        let web = docker.open("web");
        let _server = TcpServer::start(&web.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8500));
        traffic::reaches(&net.host, at(LOOPBACK, 8500));
        drop(web);
        docker.ok("rm --force web");
        if again {
            docker.container("web", "green", "-p 8500:80");
        }
    }
    way.remove("range");
    traffic::refused(&net.outside, at(HOST, 8500));
}

fn moby_pm_009_moby_pm_036_a_network_that_publishes_at_one_address(way: &Way<'_>) {
    let net = way.net;
    way.network("near", &format!("-o {KEY}.host_binding_ipv4=127.0.0.1"));
    let c1 = way.container("c1", "near", "-p 8400:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let wanted = vec!["80/tcp -> 127.0.0.1:8400".to_owned()];
    wait::wait_equal("the port", wait::SOON, &wanted, || way.ports("c1"));
    traffic::reaches(&net.host, at(LOOPBACK, 8400));
    traffic::refused(&net.outside, at(HOST, 8400));
    way.remove("c1");
    way.docker.ok("network rm near");
}

fn moby_pm_008_moby_pm_028_one_port_at_several_addresses(way: &Way<'_>) {
    let net = way.net;
    let wanted = [
        ("near", "blue", "-p 127.0.0.1:8450:80"),
        ("far", "blue", "-p 198.51.100.1:8450:80 -p 8451:80"),
        ("names", "green", "-p 8451:53/udp -p [::1]:8452:80"),
    ];
    let all = way.containers(wanted);
    let servers = all.each_ref().map(|container| TcpServer::start(&container.ns, 80));
    let _names = UdpServer::start(&all[2].ns, 53);
    traffic::reaches(&net.host, at(LOOPBACK, 8450));
    traffic::reaches(&net.outside, at(HOST, 8450));
    traffic::reaches(&net.outside, at(HOST, 8451));
    traffic::exchange(&net.outside, at(HOST, 8451), 100);
    assert_eq!(servers.each_ref().map(|server| server.peers().len()), [1, 2, 0]);
    // Of IPv6 there is nothing to publish where the container has none.
    let six = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 8452, 0, 0);
    traffic::refused(&net.host, six);
    traffic::refused(&net.host, at(LOOPBACK, 8452));
    way.remove("near far names");
}

fn moby_pm_033_moby_int_007_ports_follow_the_default_route(way: &Way<'_>) {
    let (docker, net) = (way.docker, way.net);
    way.network("inner", "--internal");
    let web = docker.container("web", "green", "-p 8600:80");
    for network in ["inner", "blue"] {
        docker.ok(&format!("network connect {network} web"));
    }
    way.settle();
    let server = TcpServer::start(&web.ns, 80);
    let leads = |ns| {
        wait::wait_until("the port", wait::SOON, || is_served(way, 8600));
        traffic::reaches(&net.host, at(LOOPBACK, 8600));
        traffic::answers(ns, OUTSIDE);
        assert_eq!(way.published("web", "80/tcp"), 8600);
    };
    leads(&web.ns);
    // From one network to another, and back.
    docker.ok("network disconnect green web");
    way.settle();
    leads(&web.ns);
    docker.ok("network connect green web");
    way.settle();
    leads(&web.ns);
    drop(server);
    docker.ok("restart --time 0 web");
    way.settle();
    let web = docker.open("web");
    let _server = TcpServer::start(&web.ns, 80);
    leads(&web.ns);
    for network in ["green", "blue"] {
        docker.ok(&format!("network disconnect {network} web"));
    }
    way.settle();
    assert!(!is_served(way, 8600));
    docker.ok("stop --time 0 web");
    way.settle();
    traffic::refused(&net.outside, at(HOST, 8600));
    way.remove("web");
    docker.ok("network rm inner");
}

fn moby_pm_040_moby_pm_042_what_goes_through_a_port(way: &Way<'_>) {
    let net = way.net;
    let web = way.container("web", "blue", "-p 8700:80 -p 8701:53/udp");
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
    way.remove("web");
}
