//! Ports that the agent chooses: out of which range, and which of it are left alone.

use std::net::TcpStream;

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer},
};
use socket2::{Domain, Socket, Type};

use crate::at;

/// A connection of a process of the host, from a port of its own.
fn connected(net: &Topology, port: u16) -> TcpStream {
    net.host.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&at(HOST, port).into()).expect("the port is free");
        socket.connect(&at(OUTSIDE, 7000).into()).expect("the outside listens");
        socket.into()
    })
}

#[test]
fn s112_moby_pm_001_ports_are_chosen_from_the_kernels_range_where_that_is_asked_for() {
    let net = Topology::new();
    net.host.sysctl_set("net/ipv4/ip_local_port_range", "40000 40005");
    net.host.sysctl_set("net/ipv4/ip_local_reserved_ports", "40001");
    let _server = TcpServer::start(&net.outside, 7000);
    let busy = connected(&net, 40000);
    let _listens = TcpServer::start(&net.host, 40003);
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--publish-range=auto"]));
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 22 -P --expose 80");
    // The first is a connection's, the second reserved, the fourth a listener's.
    let ports = agent.ok("port c1");
    assert_eq!(ports, "22/tcp -> 0.0.0.0:40002\n80/tcp -> 0.0.0.0:40004");
    let _web = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 40004));
    drop(busy);

    // The range is asked for each time, and a port that is named need not be in it.
    net.host.sysctl_set("net/ipv4/ip_local_port_range", "41000 41010");
    agent.container("c2", "n1", "-p 80 -p 40001:81");
    assert_eq!(agent.ok("port c2"), "80/tcp -> 0.0.0.0:41000\n81/tcp -> 0.0.0.0:40001");
}

#[test]
fn s112_s117_the_range_of_chosen_ports_can_be_named() {
    let net = Topology::new();
    let settings = Settings::default().env("BASCULE_PUBLISH_RANGE", "30000-30001");
    let agent = Agent::start_with(&net.host, settings);
    agent.network("n1", "");
    agent.container("c1", "n1", "-p 80 -p 81");
    assert_eq!(agent.ok("port c1"), "80/tcp -> 0.0.0.0:30000\n81/tcp -> 0.0.0.0:30001");
    agent.ok("container create --name c2 --network n1 -p 80");
    let error = agent.refused("start c2");
    assert!(error.contains("all ports are allocated on 0.0.0.0 for 80/tcp"), "{error}");
}
