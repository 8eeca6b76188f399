//! More connections than the table has room for: those that stand go on, by the mapping that they had.

use std::net::SocketAddrV4;

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    capture,
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{Conversation, TcpServer},
};

use crate::{Stage, at};

/// SYNs of a flood: each makes two entries, of 2,048 that there are.
const FLOOD: u32 = 8_000;

#[test]
fn appendix_d3_a_flood_of_syns_churns_the_table_and_established_flows_keep_their_mapping() {
    let net = Topology::dual();
    let settings = Settings::default().arg(&["--max-connections", "1024"]);
    let stage = Stage { agent: Agent::start_with(&net.host, settings), net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let outside = &stage.net.outside;
    let (served, serving) = (TcpServer::start(&c1.ns, 80), TcpServer::start(outside, 443));
    let mut inwards = Conversation::open(outside, at(HOST, 8080)).expect("a published port");
    let mut outwards = Conversation::open(&c1.ns, at(OUTSIDE, 443)).expect("a way out");
    inwards.say().expect("an answer");
    outwards.say().expect("an answer");
    let seen_as = serving.peers();
    let router = outside.sh("ip neigh show dev eth0");
    let router = router.lines().find(|line| line.contains("203.0.113.254"));
    let router = router.and_then(|line| line.split_whitespace().nth(2)).expect("the router");
    let (from, to) = (outside.mac("eth0"), bascule_tests::netns::parse_mac(router));
    // Nobody answers at these addresses: the connections stay half open.
    let flood = (0..FLOOD).map(|number| {
        let client = format!("203.0.113.{}:{}", 100 + number % 50, 2_000 + number / 50);
        let syn = Frame::tcp(&client, &SocketAddrV4::new(HOST, 8080).to_string()).syn();
        syn.macs(from, to).bytes()
    });
    capture::inject_all(outside, "eth0", flood);
    let opened = stage.agent.metrics().sum("bascule_port_connections_total", &[]);
    assert!(opened > 2_048.0, "the flood came in: {opened} connections");
    let early = stage.agent.metrics().sum("bascule_conntrack_early_drops_total", &[]);
    assert!(early > opened / 2.0, "the flood made room for itself: {early} of {opened}");
    let entered = || stage.agent.metrics().sum("bascule_conntrack_opened_total", &[]);
    let before = entered();
    inwards.say().expect("an answer after the flood");
    outwards.say().expect("an answer after the flood");
    assert_eq!(entered(), before, "neither was opened anew");
    assert_eq!(serving.peers(), seen_as, "no new connection, and the same port outside");
    drop(served);
}
