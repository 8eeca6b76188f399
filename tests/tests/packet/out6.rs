//! Masquerade and back in IPv6, networks without it, and what is not let out.

use bascule_common::{
    abi::{DropReason, Stat},
    io::Route,
};
use bascule_tests::frame::{Body, Frame};

use super::{
    twin::Twin,
    world::{C1, C2, C4, C5, HOST, WORLD, World, at6, bridge, gateway, mac, six},
};

fn tcp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::tcp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::udp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn identifier(frame: &Frame) -> u16 {
    match frame.body {
        Body::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
        _ => panic!("{frame:?} is no echo"),
    }
}

#[test]
fn s109_tcp_is_masqueraded_and_comes_back() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(1, &tcp((C1, 40_000), (WORLD, 80)).syn()).left();
    assert_eq!((seen.src, seen.dst, seen.ttl), (six(HOST).into(), six(WORLD).into(), 63));
    let (port, 80) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    assert!(port >= 49_152, "{port}");
    let seen = twin.arrives(&tcp((WORLD, 80), (HOST, port)).syn_ack()).delivered(1);
    let want = tcp((WORLD, 80), (C1, 40_000)).syn_ack();
    assert_eq!(seen, want.macs(mac(&gateway(C1)), mac(C1)).ttl(63));
    for flags in [16, 24, 17] {
        let frame = tcp((C1, 40_000), (WORLD, 80)).flags(flags);
        assert_eq!(twin.sends(1, &frame).left().ports(), Some((port, 80)));
    }
    twin.arrives(&tcp((WORLD, 80), (HOST, port)).fin()).delivered(1);
    assert_eq!(twin.tables.six.flows.borrow().len(), 2, "one flow, two entries");
}

#[test]
fn s109_udp_is_masqueraded_and_comes_back() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(1, &udp((C1, 40_000), (WORLD, 53))).left();
    let (port, _) = seen.ports().expect("ports");
    let seen = twin.arrives(&udp((WORLD, 53), (HOST, port))).delivered(1);
    assert_eq!((seen.dst, seen.ports()), (six(C1).into(), Some((53, 40_000))));
    // Lengths of both parities: the last byte counts alone.
    for length in 0..20 {
        twin.sends(1, &udp((C1, 40_000), (WORLD, 53)).data(&vec![0xa5; length])).left();
    }
}

#[test]
fn s109_echo_is_masqueraded_by_its_identifier() {
    let mut twin = Twin::new(World::new());
    let (own, host, world) = (six(C1).to_string(), six(HOST).to_string(), six(WORLD).to_string());
    let seen = twin.sends(1, &Frame::echo(&own, &world, 0x4242)).left();
    assert_eq!(seen.src, six(HOST));
    let reply = Frame::echo_reply(&world, &host, identifier(&seen));
    let seen = twin.arrives(&reply).delivered(1);
    assert_eq!((seen.dst, identifier(&seen)), (six(C1).into(), 0x4242));
}

#[test]
fn equal_ports_of_two_containers_get_two_outside() {
    let mut twin = Twin::new(World::new());
    let first = twin.sends(1, &udp((C1, 50_000), (WORLD, 53))).left().ports().expect("ports").0;
    let second = twin.sends(2, &udp((C2, 50_000), (WORLD, 53))).left().ports().expect("ports").0;
    assert_eq!(first, 50_000, "a port of the range is kept where it is free");
    assert_ne!(first, second);
    for (port, container) in [(first, 1), (second, 2)] {
        twin.arrives(&udp((WORLD, 53), (HOST, port))).delivered(container);
    }
}

#[test]
fn a_stale_generation_is_never_followed() {
    let mut twin = Twin::new(World::new());
    let port = twin.sends(1, &udp((C1, 1000), (WORLD, 53))).left().ports().expect("ports").0;
    let back = udp((WORLD, 53), (HOST, port));
    twin.arrives(&back).delivered(1);
    twin.change(|tables| {
        tables.generations.insert(1, 77);
    });
    twin.arrives(&back).passed();
}

#[test]
fn what_the_kernel_forwarded_leaves_translated() {
    let mut twin = Twin::new(World::new());
    let seen = twin.leaves(bridge(1), &udp((C1, 40_000), (WORLD, 53)).ttl(63)).parsed();
    assert_eq!((seen.src, seen.ttl), (six(HOST).into(), 63));
    let back = udp((WORLD, 53), (HOST, seen.ports().expect("ports").0));
    twin.arrives(&back).delivered(1);
    // The host's own, another's, and an internal network's.
    twin.leaves(0, &udp((HOST, 1), (WORLD, 2))).passed();
    twin.leaves(7, &udp(("10.9.9.9", 1), (WORLD, 2))).passed();
    twin.leaves(bridge(3), &udp((C4, 1), (WORLD, 2))).dropped(DropReason::PolicyInternal);
    let orphan = udp((C1, 1), (WORLD, 2)).data(&[7; 100]).fragments(48)[1].clone();
    twin.leaves(bridge(1), &orphan).dropped(DropReason::FragNotFound);
}

#[test]
fn s87_a_station_plugged_in_by_hand_leaves_and_gets_its_answers() {
    let mut twin = Twin::new(World::new());
    let seen = twin.leaves(bridge(1), &udp(("172.20.9.9", 40_000), (WORLD, 99)).ttl(63)).parsed();
    assert_eq!(seen.src, six(HOST));
    let end = twin.arrives(&udp((WORLD, 99), (HOST, seen.ports().expect("ports").0)));
    end.passed();
    assert_eq!(end.parsed().dst, six("172.20.9.9"), "the kernel routes it there");
}

#[test]
fn s110_without_masquerade_the_address_stays() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(5, &tcp((C5, 40_000), (WORLD, 80)).syn()).left();
    assert_eq!((seen.src, seen.ports()), (six(C5).into(), Some((40_000, 80))));
    twin.arrives(&tcp((WORLD, 80), (C5, 40_000)).syn_ack()).delivered(5);
    twin.arrives(&tcp((WORLD, 80), (C5, 40_001)).syn_ack())
        .dropped(DropReason::DirectRoutingBlocked);
}

#[test]
fn s107_an_internal_network_stays_inside() {
    let mut twin = Twin::new(World::new());
    twin.sends(4, &udp((C4, 1), (WORLD, 53))).dropped(DropReason::PolicyInternal);
    twin.sends(4, &udp((C4, 1), (HOST, 53))).dropped(DropReason::PolicyInternal);
    twin.sends(4, &udp((C4, 1), ("172.22.0.1", 53))).passed();
    twin.sends(4, &udp((C4, 1), ("172.20.0.2", 53))).dropped(DropReason::PolicyIsolation);
}

#[test]
fn s111_direct_access_from_outside_is_dropped() {
    let mut twin = Twin::new(World::new());
    for frame in [
        tcp((WORLD, 40_000), (C1, 80)).syn(),
        udp((WORLD, 1), ("172.20.9.9", 2)),
        Frame::echo(&six(WORLD).to_string(), &six(C1).to_string(), 1),
    ] {
        twin.arrives(&frame).dropped(DropReason::DirectRoutingBlocked);
    }
}

#[test]
fn the_hosts_own_traffic_is_not_touched() {
    let mut twin = Twin::new(World::new());
    let (host, world) = (six(HOST).to_string(), six(WORLD).to_string());
    for frame in [
        tcp((WORLD, 40_000), (HOST, 22)).syn(),
        udp((WORLD, 53), (HOST, 50_000)),
        Frame::echo(&world, &host, 1),
        udp((WORLD, 1), ("10.9.9.9", 2)),
        Frame::icmp("fe80::1", "ff02::1", 134, [0; 4], &[0; 8]).ttl(255),
        Frame::icmp("fe80::1", &host, 135, [0; 4], &[0; 24]).ttl(255),
        Frame::icmp("fe80::1", "fe80::2", 136, [0; 4], &[0; 24]).ttl(255),
    ] {
        twin.arrives(&frame).passed();
    }
    let sum: u64 = twin.tables.stats.borrow().values().sum();
    assert_eq!(sum, 0, "and nothing is counted");
}

#[test]
fn s105_forwarding_off_is_a_reason() {
    let mut twin = Twin::new(World::new());
    twin.kernel.ns.sysctl_set("net/ipv6/conf/br1/forwarding", "0");
    twin.route6(Route::ForwardingOff);
    let end = twin.sends(1, &udp((C1, 40_000), (WORLD, 53)));
    twin.kernel.ns.sysctl_set("net/ipv6/conf/br1/forwarding", "1");
    end.dropped(DropReason::ForwardingOff);
}

#[test]
fn a_route_that_the_kernel_does_not_have_is_its_business() {
    let mut twin = Twin::new(World::new());
    twin.kernel.ns.sh("ip -6 route add unreachable 2001:db8:9::/48");
    twin.route6(Route::Kernel);
    let end = twin.sends(1, &Frame::udp(&at6(C1, 40_000), "[2001:db8:9::1]:53"));
    twin.kernel.ns.sh("ip -6 route del unreachable 2001:db8:9::/48");
    end.passed();
    assert_eq!(twin.tables.stats.borrow().get(&Stat::ToRouting), Some(&1));
}

#[test]
fn a_way_out_that_is_no_uplink_is_a_reason() {
    let mut twin = Twin::new(World::new().with(|tables| tables.uplinks.clear()));
    twin.sends(1, &udp((C1, 40_000), (WORLD, 53))).dropped(DropReason::NoUplink);
}

#[test]
fn an_uplink_without_an_address_of_the_family_is_no_way_out() {
    let mut twin = Twin::new(World::new().with(|tables| {
        for uplink in tables.uplinks.values_mut() {
            uplink.masquerade6 = bascule_common::abi::Ip6::UNSPECIFIED;
        }
    }));
    twin.sends(1, &udp((C1, 40_000), (WORLD, 53))).dropped(DropReason::NoUplink);
    twin.sends(5, &udp((C5, 40_000), (WORLD, 53))).left();
}
