//! Further addresses of the link (`--link-local-ip`): the network's own, and nobody else's.

use std::net::Ipv4Addr;

use bascule_tests::{
    Container,
    topology::OUTSIDE,
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, at};

const ONE: Ipv4Addr = Ipv4Addr::new(169, 254, 5, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(169, 254, 5, 2);

/// Two containers of a network, one with its addresses from the start, one by `connect`.
fn pair(options: &str) -> (Stage, Container, Container) {
    let stage = Stage::dual();
    let agent = &stage.agent;
    agent.network("n1", &format!("--ipv6 {options}"));
    let own = "--network name=n1,link-local-ip=169.254.5.1,link-local-ip=fe80::5:1";
    let id = agent.ok(&format!("run -d --name c1 {own}"));
    let c1 = Container::open(agent, "c1", &id);
    agent.network("n2", "");
    let c2 = agent.container("c2", "n2", "");
    agent.ok("network connect --link-local-ip 169.254.5.2 --link-local-ip fe80::5:2 n1 c2");
    (stage, c1, c2)
}

/// Pings once and again from an address of its own, and says what came back.
fn pings(from: &Container, to: &str, options: &str) -> u32 {
    traffic::ping_with(&from.ns, to, 2, &format!("-i 0.2 -W 1 {options}")).received
}

fn talk(c1: &Container, c2: &Container) {
    // A neighbour may have had another Ethernet address until now: it is told of the new one.
    wait::wait_until("they know each other", wait::SOON, || {
        pings(c1, "169.254.5.2", "-I 169.254.5.1") == 2
            && pings(c1, "fe80::5:2%eth0", "-I fe80::5:1%eth0") == 2
    });
    assert_eq!(pings(c2, "169.254.5.1", ""), 2);
    let last = c2.ns.interfaces().pop().expect("an interface");
    traffic::answers(&c2.ns, format!("fe80::5:1%{last}"));
    let _server = TcpServer::start(&c1.ns, 80);
    assert_eq!(*traffic::reaches(&c2.ns, at(ONE, 80)).ip(), TWO);
}

#[test]
fn p13_addresses_of_the_link_work_on_their_network() {
    let (mut stage, c1, c2) = pair("");
    talk(&c1, &c2);
    let found = stage.agent.inspect("container", "c2");
    let found = &found["NetworkSettings"]["Networks"]["n1"]["IPAMConfig"]["LinkLocalIPs"];
    assert_eq!(found, &serde_json::json!(["169.254.5.2", "fe80::5:2"]));
    // Others' addresses of the link are nobody's to send from.
    let dropped = |stage: &Stage| {
        stage.agent.metrics().sum("bascule_endpoint_drops_total", &[("reason", "spoofed_ip")])
    };
    let before = dropped(&stage);
    c1.ns.sh("ip addr add 169.254.5.9/16 dev eth0");
    assert_eq!(pings(&c1, "169.254.5.2", "-I 169.254.5.9"), 0);
    assert!(dropped(&stage) > before, "as spoofed_ip");
    // Nor does one leave the link.
    assert_eq!(pings(&c1, &OUTSIDE.to_string(), "-I 169.254.5.1"), 0);
    traffic::answers(&c1.ns, OUTSIDE);
    // A container of another network has no part in it.
    let c3 = stage.agent.container("c3", "n2", "--link-local-ip 169.254.5.3");
    assert_eq!(pings(&c3, "169.254.5.1", "-I 169.254.5.3"), 0);
    stage.agent.restart();
    talk(&c1, &c2);
    stage.agent.ok("network disconnect n1 c2");
    assert_eq!(pings(&c1, "169.254.5.2", "-I 169.254.5.1"), 0);
    let refused = stage.agent.refused("network connect --link-local-ip 169.254.5.1 n1 c2");
    assert!(refused.contains("Address already in use"), "{refused}");
    stage.agent.ok("network connect --link-local-ip 169.254.5.2 --link-local-ip fe80::5:2 n1 c2");
    talk(&c1, &c2);
}

#[test]
fn p13_addresses_of_the_link_work_without_a_bridge() {
    let (_stage, c1, c2) = pair("-o bascule.l2=bpf");
    talk(&c1, &c2);
}

#[test]
fn p13_addresses_of_the_link_obey_icc() {
    let (_stage, c1, c2) = pair("-o com.docker.network.bridge.enable_icc=false");
    assert_eq!(pings(&c1, "169.254.5.2", "-I 169.254.5.1"), 0);
    assert_eq!(pings(&c2, "fe80::5:1%eth1", ""), 0);
}
