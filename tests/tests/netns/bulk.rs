//! Bulk transfers through every translation, with every offload that virtual links have.

use std::net::Ipv4Addr;

use bascule_tests::{
    Container, Netns,
    topology::{HOST, OUTSIDE},
    traffic::iperf,
};

use crate::{Stage, at};

const PORT: u16 = 5201;

/// Both ways, a second each: enough for GSO and GRO to show, and for a lost translation to stall.
#[track_caller]
fn both_ways(server: &Netns, client: &Netns, to: Ipv4Addr) {
    for options in ["", "-R"] {
        let flow = iperf(server, PORT, client, at(to, PORT), 1, options);
        assert!(flow.received > 10 << 20, "{} to {to} {options}: {flow:?}", client.name());
    }
}

fn published(stage: &Stage, network: &str) -> Container {
    stage.agent.container("server", network, "-p 5201:5201")
}

#[test]
fn p58_within_a_network() {
    let (_stage, c1, c2) = Stage::with_pair();
    both_ways(&c2.ns, &c1.ns, c2.address());
}

#[test]
fn masqueraded() {
    let (stage, c1) = Stage::with_one("");
    both_ways(&stage.net.outside, &c1.ns, OUTSIDE);
}

#[test]
fn published_to_the_outside() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let server = published(&stage, "n1");
    both_ways(&server.ns, &stage.net.outside, HOST);
}

#[test]
fn hairpin_to_another_network() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let server = published(&stage, "n1");
    let client = stage.agent.container("client", "n2", "");
    both_ways(&server.ns, &client.ns, HOST);
}

#[test]
fn hairpin_within_a_network_and_to_oneself() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let server = published(&stage, "n1");
    let client = stage.agent.container("client", "n1", "");
    both_ways(&server.ns, &client.ns, HOST);
    both_ways(&server.ns, &server.ns, HOST);
}

#[test]
fn between_host_and_container() {
    let (stage, c1) = Stage::with_one("");
    both_ways(&c1.ns, &stage.net.host, c1.address());
}

#[test]
fn udp_with_segmentation_offload() {
    let (stage, c1) = Stage::with_one("");
    let options = "-u -b 100M --length 1400";
    let flow = iperf(&stage.net.outside, PORT, &c1.ns, at(OUTSIDE, PORT), 1, options);
    assert!(flow.received > 1 << 20, "{flow:?}");
}
