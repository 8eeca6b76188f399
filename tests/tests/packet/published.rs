//! Published ports from outside.

use bascule_common::abi::{Address as _, DropReason, Local};
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, HOST, WORLD, World, gateway, ip, mac},
};

#[test]
fn cil_lb_001_s103_a_published_tcp_port_reaches_its_container_and_answers() {
    let mut twin = Twin::new(World::new().publish(1, TCP, (8080, 80, 1), 1));
    let syn = Frame::tcp("203.0.113.7:40000", "198.51.100.1:8080").syn();
    let seen = twin.arrives(&syn).delivered(1);
    let want = Frame::tcp("203.0.113.7:40000", "172.20.0.2:80").syn();
    assert_eq!(seen, want.macs(mac(&gateway(C1)), mac(C1)).ttl(63), "the client's address is kept");
    let answer = Frame::tcp("172.20.0.2:80", "203.0.113.7:40000").syn_ack();
    let seen = twin.sends(1, &answer).left();
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (HOST, Some((8080, 40_000))));
    let rules = twin.tables.rule_stats.borrow()[&1];
    assert_eq!((rules.received.packets, rules.sent.packets, rules.connections), (1, 1, 1));
}

#[test]
fn a_published_udp_port_reaches_its_container_and_answers() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 2));
    let seen = twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(2);
    assert_eq!((seen.dst.to_string().as_str(), seen.ports()), (C2, Some((4000, 5353))));
    let answer = Frame::udp("172.20.0.3:5353", "203.0.113.7:4000");
    assert_eq!(twin.sends(2, &answer).left().ports(), Some((53, 4000)));
    // The same number of the other protocol is not published.
    twin.arrives(&Frame::tcp("203.0.113.7:4000", "198.51.100.1:53").syn()).passed();
}

#[test]
fn a_range_maps_port_by_port() {
    let mut twin = Twin::new(World::new().publish(1, TCP, (9800, 80, 4), 1));
    for offset in 0..4 {
        let to = format!("{HOST}:{}", 9800 + offset);
        let seen = twin.arrives(&Frame::tcp("203.0.113.7:40000", &to).syn()).delivered(1);
        assert_eq!(seen.ports(), Some((40_000, 80 + offset)));
    }
    for port in [9799, 9804] {
        let to = format!("{HOST}:{port}");
        twin.arrives(&Frame::tcp("203.0.113.7:40000", &to).syn()).passed();
    }
}

#[test]
fn s116_a_port_on_one_address_is_in_that_addresss_table() {
    let second = "198.51.100.2";
    let world = World::new()
        .with(|tables| {
            tables.four.locals.insert(ip(second), Local { table: 2, flags: 0 });
        })
        .publish_in(2, 1, TCP, (8080, 80, 1), 1);
    let mut twin = Twin::new(world);
    twin.arrives(&Frame::tcp("203.0.113.7:40000", "198.51.100.2:8080").syn()).delivered(1);
    twin.arrives(&Frame::tcp("203.0.113.7:40000", "198.51.100.1:8080").syn()).passed();
}

#[test]
fn a_client_port_taken_by_another_client_is_no_clash() {
    let mut twin =
        Twin::new(World::new().publish(1, TCP, (8080, 80, 1), 1).publish(2, TCP, (8081, 80, 1), 1));
    // The same client and port to two published ports that lead to one: the answers must differ.
    let first = Frame::tcp("203.0.113.7:40000", "198.51.100.1:8080").syn();
    let second = Frame::tcp("203.0.113.7:40000", "198.51.100.1:8081").syn();
    let a = twin.arrives(&first).delivered(1).ports().expect("ports").0;
    let b = twin.arrives(&second).delivered(1).ports().expect("ports").0;
    assert_ne!(a, b);
    for (port, host) in [(a, 8080), (b, 8081)] {
        let answer = Frame::tcp("172.20.0.2:80", &format!("{WORLD}:{port}")).syn_ack();
        assert_eq!(twin.sends(1, &answer).left().ports(), Some((host, 40_000)));
    }
}

#[test]
fn cil_lb_005_a_rule_whose_endpoint_went_away_is_down() {
    let world = World::new().publish(1, TCP, (8080, 80, 1), 1).with(|tables| {
        tables.four.neighbours.retain(|_, neighbour| neighbour.endpoint != 1);
    });
    let mut twin = Twin::new(world);
    twin.arrives(&Frame::tcp("203.0.113.7:40000", "198.51.100.1:8080").syn())
        .dropped(DropReason::EndpointDown);
}

#[test]
fn sources_that_cannot_come_from_outside_are_dropped() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 53, 1), 1));
    for (source, reason) in [
        ("127.0.0.1:1", DropReason::MartianLoopback),
        ("224.0.0.1:1", DropReason::MartianLoopback),
        ("172.20.0.3:1", DropReason::SpoofedIp),
        ("198.51.100.1:1", DropReason::SpoofedIp),
    ] {
        twin.arrives(&Frame::udp(source, "198.51.100.1:53")).dropped(reason);
    }
}

#[test]
fn an_unpublished_port_is_the_hosts_again() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 53, 1), 1));
    twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(1);
    twin.change(|tables| {
        tables.ports.clear();
        tables.rules.clear();
        tables.four.flows.borrow_mut().clear();
    });
    twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).passed();
}

#[test]
fn what_ends_here_expires_here() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 53, 1), 1));
    let last = Frame::udp("203.0.113.7:4000", "198.51.100.1:53").ttl(1);
    // The kernel would deliver it to the host: the programs answer, as the host.
    let expired = twin.arrives(&last).answered(11, 0);
    assert_eq!((expired.src, expired.dst), (last.dst, last.src));
    assert!(!twin.tables.endpoint_stats.borrow().contains_key(&1), "nothing reached the container");
}

#[test]
fn n14_a_moved_port_takes_its_clients_along() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 53, 1), 1));
    let ask = Frame::udp("203.0.113.7:4000", "198.51.100.1:53");
    twin.arrives(&ask).delivered(1);
    twin.change(|tables| {
        tables.generations.insert(1, 77);
        let rule = tables.rules.get_mut(&1).expect("the rule");
        (rule.endpoint, rule.generation, rule.address) = (2, 2, ip(C2).to_any());
    });
    assert_eq!(twin.arrives(&ask).delivered(2).dst.to_string(), C2);
}
