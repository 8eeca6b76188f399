//! Published ports in IPv6: from outside, and from containers of the same host. Answers of containers whose
//! flow the table lost, in both families.

use bascule_common::abi::{Address as _, DropReason};
use bascule_tests::frame::{DESTINATION, Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{BOTH, C1, C2, C3, Family, HOST, WORLD, World, at6, gateway, ip, ip6, mac, six},
};

fn tcp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::tcp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::udp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn published() -> World {
    World::new().publish_on(Family::Six, 1, TCP, (8080, 80, 1), 1).publish_on(
        Family::Six,
        2,
        UDP,
        (53, 5353, 1),
        1,
    )
}

#[test]
fn s103_a_published_tcp_port_reaches_its_container_and_answers() {
    let mut twin = Twin::new(published());
    let seen = twin.arrives(&tcp((WORLD, 40_000), (HOST, 8080)).syn()).delivered(1);
    let want = tcp((WORLD, 40_000), (C1, 80)).syn();
    assert_eq!(seen, want.macs(mac(&gateway(C1)), mac(C1)).ttl(63), "the client's address is kept");
    let seen = twin.sends(1, &tcp((C1, 80), (WORLD, 40_000)).syn_ack()).left();
    assert_eq!((seen.src, seen.ports()), (six(HOST).into(), Some((8080, 40_000))));
    let rules = twin.tables.rule_stats.borrow()[&1];
    assert_eq!((rules.received.packets, rules.sent.packets, rules.connections), (1, 1, 1));
}

#[test]
fn a_published_udp_port_reaches_its_container_and_answers() {
    let mut twin = Twin::new(published());
    let seen = twin.arrives(&udp((WORLD, 4000), (HOST, 53)).padding(DESTINATION)).delivered(1);
    assert_eq!((seen.dst, seen.ports()), (six(C1).into(), Some((4000, 5353))));
    let answer = udp((C1, 5353), (WORLD, 4000));
    assert_eq!(twin.sends(1, &answer).left().ports(), Some((53, 4000)));
    // The same number of the other protocol is not published, nor is it in the other family.
    twin.arrives(&tcp((WORLD, 4000), (HOST, 53)).syn()).passed();
    twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).passed();
}

#[test]
fn a_range_maps_port_by_port() {
    let mut twin = Twin::new(World::new().publish_on(Family::Six, 1, TCP, (9800, 80, 4), 1));
    for offset in 0..4 {
        let seen = twin.arrives(&tcp((WORLD, 40_000), (HOST, 9800 + offset)).syn()).delivered(1);
        assert_eq!(seen.ports(), Some((40_000, 80 + offset)));
    }
    for port in [9799, 9804] {
        twin.arrives(&tcp((WORLD, 40_000), (HOST, port)).syn()).passed();
    }
}

#[test]
fn a_rule_whose_endpoint_went_away_is_down() {
    let mut twin = Twin::new(published().with(|tables| {
        tables.six.neighbours.retain(|_, neighbour| neighbour.endpoint != 1);
    }));
    twin.arrives(&udp((WORLD, 4000), (HOST, 53))).dropped(DropReason::EndpointDown);
}

#[test]
fn sources_that_cannot_come_from_outside_are_dropped() {
    let mut twin = Twin::new(published());
    for (source, reason) in [
        ("::1".to_owned(), DropReason::MartianLoopback),
        ("::".to_owned(), DropReason::MartianLoopback),
        ("ff02::1".to_owned(), DropReason::MartianLoopback),
        (six(C2).to_string(), DropReason::SpoofedIp),
        (six(HOST).to_string(), DropReason::SpoofedIp),
    ] {
        twin.arrives(&Frame::udp(&format!("[{source}]:1"), &at6(HOST, 53))).dropped(reason);
    }
    twin.arrives(&Frame::udp(&at6(WORLD, 1), "[::1]:53")).dropped(DropReason::MartianLoopback);
}

#[test]
fn what_ends_here_expires_here() {
    let mut twin = Twin::new(published());
    let last = udp((WORLD, 4000), (HOST, 53)).ttl(1);
    let expired = twin.arrives(&last).answered(3, 0);
    assert_eq!((expired.src, expired.dst), (last.dst, last.src));
    assert!(!twin.tables.endpoint_stats.borrow().contains_key(&1), "nothing reached the container");
}

#[test]
fn to_oneself() {
    let mut twin = Twin::new(published());
    let seen = twin.sends(1, &tcp((C1, 40_000), (HOST, 8080)).syn()).delivered(1);
    assert_eq!((seen.src, seen.dst), (six(&gateway(C1)).into(), six(C1).into()));
    let (port, 80) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    let seen = twin.sends(1, &tcp((C1, 80), (&gateway(C1), port)).syn_ack()).delivered(1);
    assert_eq!((seen.src, seen.ports()), (six(HOST).into(), Some((8080, 40_000))));
}

#[test]
fn to_a_neighbour_and_to_another_network() {
    let mut twin = Twin::new(published());
    let seen = twin.sends(2, &udp((C2, 4000), (HOST, 53))).delivered(1);
    assert_eq!(seen.src, six(&gateway(C2)));
    let (port, 5353) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    let seen = twin.sends(1, &udp((C1, 5353), (&gateway(C1), port))).delivered(2);
    assert_eq!((seen.src, seen.ports()), (six(HOST).into(), Some((53, 4000))));
    let seen = twin.sends(3, &tcp((C3, 40_000), (HOST, 8080)).syn()).delivered(1);
    assert_eq!((seen.src, seen.ports()), (six(C3).into(), Some((40_000, 80))));
    let seen = twin.sends(1, &tcp((C1, 80), (C3, 40_000)).syn_ack()).delivered(3);
    assert_eq!((seen.src, seen.ports()), (six(HOST).into(), Some((8080, 40_000))));
    // The flow opens nothing else between the networks.
    twin.sends(1, &tcp((C1, 81), (C3, 40_000)).syn_ack()).dropped(DropReason::PolicyIsolation);
    // An internal network does not use them.
    twin.sends(4, &tcp(("172.22.0.2", 40_000), (HOST, 8080)).syn())
        .dropped(DropReason::PolicyInternal);
}

#[test]
fn an_answer_whose_flow_was_lost_has_its_port_back() {
    for family in BOTH {
        let world = World::new()
            .publish_on(family, 1, TCP, (8080, 80, 1), 1)
            .publish_on(family, 2, UDP, (5300, 53, 4), 1)
            .served(1)
            .served(2);
        let mut twin = Twin::new(world);
        let (client, host) = (family.at(WORLD, 40_000), |port| family.at(HOST, port));
        twin.arrives(&Frame::tcp(&client, &host(8080)).syn()).delivered(1);
        twin.arrives(&Frame::udp(&client, &host(5302))).delivered(1);
        twin.change(|tables| {
            tables.four.flows.borrow_mut().clear();
            tables.six.flows.borrow_mut().clear();
        });
        let seen = twin.sends(1, &Frame::tcp(&family.at(C1, 80), &client)).left();
        assert_eq!((seen.src.to_string(), seen.ports()), (family.ip(HOST), Some((8080, 40_000))));
        let seen = twin.sends(1, &Frame::udp(&family.at(C1, 55), &client)).left();
        assert_eq!(seen.ports(), Some((5302, 40_000)));
        twin.arrives(&Frame::tcp(&client, &host(8080))).delivered(1);
        // A request of the container's own, and a port that is not published: masqueraded.
        let out = twin.sends(1, &Frame::tcp(&family.at(C1, 80), &family.at(WORLD, 41_000)).syn());
        assert_ne!(out.left().ports(), Some((8080, 41_000)));
        let out = twin.sends(1, &Frame::udp(&family.at(C1, 57), &client)).left();
        assert!(out.ports().expect("ports").0 >= 49_152);
    }
}

#[test]
fn an_answer_of_a_port_on_one_address_comes_from_that_address() {
    let second = "198.51.100.2";
    for family in BOTH {
        let world = World::new().publish_on(family, 1, UDP, (5300, 53, 1), 1).served(1);
        let mut twin = Twin::new(world.with(|tables| {
            tables.rules.get_mut(&1).expect("the rule").host =
                family.of(ip(second).to_any(), ip6(second).to_any());
        }));
        let answer = Frame::udp(&family.at(C1, 53), &family.at(WORLD, 40_000));
        let seen = twin.sends(1, &answer).left();
        assert_eq!((seen.src.to_string(), seen.ports()), (family.ip(second), Some((5300, 40_000))));
    }
}
