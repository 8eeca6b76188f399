//! ICMP errors about translated flows, both ways.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{Body, Frame, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, HOST, ROUTER, UPLINK, WORLD, World, gateway},
};

fn quote(error: &Frame) -> Frame {
    let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?} is no ICMP") };
    Frame::parse_ip(payload).expect("a quote")
}

/// Unreachable, time exceeded, and fragmentation needed with its MTU.
const ERRORS: [(u8, u8, u32); 4] = [(3, 3, 0), (3, 1, 0), (11, 0, 0), (3, 4, 1280)];

#[test]
fn cil_nat_002_come_back_through_masquerade() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53")).left();
    for (kind, code, rest) in ERRORS {
        for from in [WORLD, ROUTER] {
            let error = Frame::error(from, HOST, kind, code, rest, &sent);
            let seen = twin.arrives(&error).delivered(1);
            assert_eq!((seen.src.to_string().as_str(), seen.dst.to_string().as_str()), (from, C1));
            let quoted = quote(&seen);
            assert_eq!(quoted.src.to_string(), C1);
            assert_eq!(quoted.ports(), Some((40_000, 53)));
            assert!(
                matches!(seen.body, Body::Icmp { kind: k, code: c, rest: r, .. }
                    if (k, c, u32::from_be_bytes(r)) == (kind, code, rest)),
                "{seen:?}"
            );
        }
    }
}

#[test]
fn cil_nat_002_about_an_echo_come_back_with_its_identifier() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::echo(C1, WORLD, 0x4242)).left();
    let seen = twin.arrives(&Frame::error(ROUTER, HOST, 11, 0, 0, &sent)).delivered(1);
    let Body::Icmp { rest, .. } = quote(&seen).body else { panic!("{seen:?}") };
    assert_eq!(rest, [0x42, 0x42, 0, 1]);
}

#[test]
fn cil_nat_001_with_the_shortest_quote_there_may_be() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").syn()).left();
    let mut error = Frame::error(ROUTER, HOST, 3, 4, 1280, &sent);
    let Body::Icmp { payload, .. } = &mut error.body else { panic!("{error:?}") };
    payload.truncate(28);
    let seen = twin.arrives(&error).delivered(1);
    let Body::Icmp { payload, .. } = &seen.body else { panic!("{seen:?}") };
    assert_eq!(payload.len(), 28);
    assert_eq!(payload[20..24], [0x9c, 0x40, 0, 80], "ports of the container's own packet");
    // Shorter than the ports: about no flow.
    let Body::Icmp { payload, .. } = &mut error.body else { panic!("{error:?}") };
    payload.truncate(22);
    twin.arrives(&error).passed();
}

#[test]
fn with_options_in_the_quote() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53")).left();
    let error = Frame::error(ROUTER, HOST, 3, 1, 0, &sent.ip_options(&[1, 1, 1, 0]));
    assert_eq!(quote(&twin.arrives(&error).delivered(1)).ports(), Some((40_000, 53)));
}

#[test]
fn about_anothers_published_port_are_forged() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    let seen = twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(1);
    twin.sends(2, &Frame::error(C2, WORLD, 3, 3, 0, &seen)).dropped(DropReason::CtInvalid);
}

#[test]
fn n27_go_out_through_a_published_port() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    let seen = twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(1);
    let error = Frame::error(C1, WORLD, 3, 3, 0, &seen);
    let out = twin.sends(1, &error).left();
    assert_eq!((out.src.to_string().as_str(), out.dst.to_string().as_str()), (HOST, WORLD));
    let quoted = quote(&out);
    assert_eq!((quoted.dst.to_string().as_str(), quoted.ports()), (HOST, Some((4000, 53))));
}

#[test]
fn cil_nat_009_come_in_to_a_published_port() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(1);
    let answer = twin.sends(1, &Frame::udp("172.20.0.2:5353", "203.0.113.7:4000")).left();
    let error = Frame::error(ROUTER, HOST, 3, 4, 1280, &answer);
    let seen = twin.arrives(&error).delivered(1);
    let quoted = quote(&seen);
    assert_eq!((quoted.src.to_string().as_str(), quoted.ports()), (C1, Some((5353, 4000))));
}

#[test]
fn come_back_through_a_hairpin() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    let seen = twin.sends(2, &Frame::udp("172.20.0.3:4000", "198.51.100.1:53")).delivered(1);
    let error = Frame::error(C1, &gateway(C1), 3, 3, 0, &seen);
    let back = twin.sends(1, &error).delivered(2);
    assert_eq!((back.src.to_string().as_str(), back.dst.to_string().as_str()), (HOST, C2));
    assert_eq!(quote(&back).ports(), Some((4000, 53)));
}

#[test]
fn about_nothing_of_ours_are_not_ours() {
    let mut twin = Twin::new(World::new());
    let strange = Frame::udp("198.51.100.1:1234", "203.0.113.7:53");
    twin.arrives(&Frame::error(WORLD, HOST, 3, 3, 0, &strange)).passed();
    // A container that lies about a flow that is not its own.
    let sent = twin.sends(1, &Frame::udp("172.20.0.2:40000", "203.0.113.7:53")).left();
    let lie = Frame::error(C2, HOST, 3, 3, 0, &sent);
    assert_ne!(twin.sends(2, &lie).verdict.map(|verdict| verdict.ifindex), Ok(UPLINK));
}
