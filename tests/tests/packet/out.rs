//! Masquerade and back, networks without it, and what is not let out.

use bascule_common::{
    abi::{DropReason, Stat},
    io::Route,
};
use bascule_tests::frame::{Body, Frame};

use super::{
    twin::Twin,
    world::{C1, C2, C5, HOST, WORLD, World, gateway, mac},
};

fn identifier(frame: &Frame) -> u16 {
    match frame.body {
        Body::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
        _ => panic!("{frame:?} is no echo"),
    }
}

#[test]
fn cil_nat_007_s109_tcp_is_masqueraded_and_comes_back() {
    let mut twin = Twin::new(World::new());
    let out = Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").syn();
    let seen = twin.sends(1, &out).left();
    assert_eq!(seen.src.to_string(), HOST);
    assert_eq!(seen.dst.to_string(), WORLD);
    assert_eq!(seen.ttl, 63);
    let (port, 80) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    assert!(port >= 49_152, "{port}");
    let back = Frame::tcp("203.0.113.7:80", &format!("{HOST}:{port}")).syn_ack();
    let seen = twin.arrives(&back).delivered(1);
    let want = Frame::tcp("203.0.113.7:80", "172.20.0.2:40000").syn_ack();
    assert_eq!(seen, want.macs(mac(&gateway(C1)), mac(C1)).ttl(63));
    // The rest of the connection, to its end.
    for flags in [16, 24, 17] {
        let frame = Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").flags(flags);
        assert_eq!(twin.sends(1, &frame).left().ports(), Some((port, 80)));
    }
    let fin = Frame::tcp("203.0.113.7:80", &format!("{HOST}:{port}")).fin();
    twin.arrives(&fin).delivered(1);
    assert_eq!(twin.tables.four.flows.borrow().len(), 2, "one flow, two entries");
}

#[test]
fn s109_udp_is_masqueraded_and_comes_back() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53")).left();
    let (port, _) = seen.ports().expect("ports");
    let back = Frame::udp("203.0.113.7:53", &format!("{HOST}:{port}"));
    let seen = twin.arrives(&back).delivered(1);
    assert_eq!((seen.dst.to_string().as_str(), seen.ports()), (C1, Some((53, 40_000))));
    // Appendix D7: a datagram without a checksum stays without.
    let bare = Frame::udp("172.20.0.2:40000", "203.0.113.7:53").without_checksum();
    let seen = twin.sends(1, &bare).left();
    assert!(matches!(seen.body, Body::Udp { checksum: false, .. }), "{seen:?}");
}

#[test]
fn s109_echo_is_masqueraded_by_its_identifier() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(1, &Frame::echo(C1, WORLD, 0x4242)).left();
    assert_eq!(seen.src.to_string(), HOST);
    let outside = identifier(&seen);
    let seen = twin.arrives(&Frame::echo_reply(WORLD, HOST, outside)).delivered(1);
    assert_eq!(identifier(&seen), 0x4242);
    assert_eq!(seen.dst.to_string(), C1);
}

#[test]
fn protocols_without_ports_are_left_to_the_kernel() {
    let mut twin = Twin::new(World::new());
    let gre = Frame::raw(C1, WORLD, 47, b"not really gre");
    twin.sends(1, &gre).verdict.expect("not dropped");
    let seen = twin.leaves(super::world::bridge(1), &gre.ttl(63));
    assert_eq!(seen.parsed().src.to_string(), HOST);
    // One flow to each remote: there is nothing to tell a second one apart by.
    let second = Frame::raw(C2, WORLD, 47, b"not really gre");
    twin.sends(2, &second).dropped(DropReason::NatPortExhausted);
}

#[test]
fn cil_nat_015_what_the_kernel_forwarded_leaves_translated() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp("172.20.0.2:40000", "203.0.113.7:53").ttl(63);
    let seen = twin.leaves(super::world::bridge(1), &frame).parsed();
    assert_eq!((seen.src.to_string().as_str(), seen.ttl), (HOST, 63));
    // The host's own traffic is its own.
    twin.leaves(0, &Frame::udp("198.51.100.1:123", "203.0.113.7:123")).passed();
    // Routed for others.
    twin.leaves(7, &Frame::udp("10.9.9.9:123", "203.0.113.7:123")).passed();
    // An internal network's address, by whatever way.
    twin.leaves(super::world::bridge(3), &Frame::udp("172.22.0.2:1", "203.0.113.7:2"))
        .dropped(DropReason::PolicyInternal);
}

#[test]
fn moby_mq_001_s110_without_masquerade_the_address_stays() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::tcp("172.23.0.2:40000", "203.0.113.7:80").syn();
    let seen = twin.sends(5, &frame).left();
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (C5, Some((40_000, 80))));
    let back = Frame::tcp("203.0.113.7:80", "172.23.0.2:40000").syn_ack();
    twin.arrives(&back).delivered(5);
    // S111: nobody asked for this one.
    let other = Frame::tcp("203.0.113.7:80", "172.23.0.2:40001").syn_ack();
    twin.arrives(&other).dropped(DropReason::DirectRoutingBlocked);
}

#[test]
fn s107_an_internal_network_stays_inside() {
    let mut twin = Twin::new(World::new());
    twin.sends(4, &Frame::udp("172.22.0.2:1", "203.0.113.7:53"))
        .dropped(DropReason::PolicyInternal);
    twin.sends(4, &Frame::udp("172.22.0.2:1", "198.51.100.1:53"))
        .dropped(DropReason::PolicyInternal);
    twin.sends(4, &Frame::udp("172.22.0.2:1", "172.22.0.1:53")).passed();
}

#[test]
fn s111_direct_access_from_outside_is_dropped() {
    let mut twin = Twin::new(World::new().publish(1, 6, (8080, 80, 1), 1));
    twin.arrives(&Frame::tcp("203.0.113.7:40000", "172.20.0.2:80").syn())
        .dropped(DropReason::DirectRoutingBlocked);
    twin.arrives(&Frame::echo(WORLD, C1, 1)).dropped(DropReason::DirectRoutingBlocked);
    twin.arrives(&Frame::udp("203.0.113.7:1", "172.20.9.9:2"))
        .dropped(DropReason::DirectRoutingBlocked);
}

#[test]
fn the_hosts_own_traffic_is_not_touched() {
    let mut twin = Twin::new(World::new());
    twin.arrives(&Frame::tcp("203.0.113.7:40000", "198.51.100.1:22").syn()).passed();
    twin.arrives(&Frame::udp("203.0.113.7:53", "198.51.100.1:50000")).passed();
    twin.arrives(&Frame::echo(WORLD, HOST, 1)).passed();
    twin.arrives(&Frame::udp("203.0.113.7:1", "198.51.100.255:137")).passed();
    twin.arrives(&Frame::udp("203.0.113.7:1", "10.9.9.9:2")).passed();
    let sum: u64 = twin.tables.stats.borrow().values().sum();
    assert_eq!(sum, 0, "and nothing is counted");
}

#[test]
fn s105_forwarding_off_is_a_reason() {
    let mut twin = Twin::new(World::new());
    twin.kernel.ns.sysctl_set("net/ipv4/ip_forward", "0");
    twin.route(Route::ForwardingOff);
    let end = twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53"));
    twin.kernel.ns.sysctl_set("net/ipv4/ip_forward", "1");
    end.dropped(DropReason::ForwardingOff);
}

#[test]
fn a_way_out_that_is_no_uplink_is_a_reason() {
    let mut twin = Twin::new(World::new().with(|tables| tables.uplinks.clear()));
    twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53")).dropped(DropReason::NoUplink);
}

#[test]
fn a_route_that_the_kernel_does_not_have_is_its_business() {
    let mut twin = Twin::new(World::new());
    twin.kernel.ns.sh("ip route add unreachable 192.88.99.0/24");
    twin.route(Route::Kernel);
    let end = twin.sends(1, &Frame::udp("172.20.0.2:40000", "192.88.99.1:53"));
    twin.kernel.ns.sh("ip route del unreachable 192.88.99.0/24");
    end.passed();
    assert_eq!(twin.tables.stats.borrow().get(&Stat::ToRouting), Some(&1));
}

#[test]
fn s87_a_station_plugged_in_by_hand_leaves_and_gets_its_answers() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp("172.20.9.9:40000", "203.0.113.7:99").ttl(63);
    let seen = twin.leaves(super::world::bridge(1), &frame).parsed();
    assert_eq!(seen.src.to_string(), HOST);
    let back = Frame::udp("203.0.113.7:99", &format!("{HOST}:{}", seen.ports().expect("ports").0));
    let end = twin.arrives(&back);
    end.passed();
    assert_eq!(end.parsed().dst.to_string(), "172.20.9.9", "the kernel routes it there");
}

#[test]
fn nothing_leaves_that_cannot_be_translated() {
    let mut twin = Twin::new(World::new());
    let orphan =
        Frame::udp("172.20.0.2:1", "203.0.113.7:2").data(&[7; 100]).fragments(48)[1].clone();
    twin.leaves(super::world::bridge(1), &orphan).dropped(DropReason::FragNotFound);
    let about = Frame::udp("203.0.113.7:1", "172.20.0.2:2");
    twin.leaves(super::world::bridge(1), &Frame::error(C1, WORLD, 3, 3, 0, &about))
        .dropped(DropReason::Untranslated);
}
