//! ICMP errors about translated flows, both ways.

use bascule_common::{
    abi::DropReason,
    testing::{FramePacket, Walk},
};
use bascule_tests::{
    checksum,
    frame::{Body, Frame, TCP, UDP},
};

use super::{
    twin::Twin,
    world::{BOTH, C1, C2, Family, HOST, ROUTER, UPLINK, WORLD, World, gateway},
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

/// What a frame quotes, after its transport checksum was verified.
#[track_caller]
fn sound(error: &Frame) -> Frame {
    let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?} is no ICMP") };
    checksum::verify_quote(payload).unwrap_or_else(|wrong| panic!("{wrong}"));
    quote(error)
}

/// The family's error that says "too big", about a packet.
fn too_big(family: Family, from: &str, to: &str, about: &Frame) -> Frame {
    let (kind, code) = family.of((3, 4), (2, 0));
    Frame::error(&family.ip(from), &family.ip(to), kind, code, 1280, about)
}

#[test]
fn cil_nat_005_the_quoted_transport_checksum_is_right_both_ways() {
    for family in BOTH {
        let (client, server) = (family.at(C1, 40_000), family.at(WORLD, 53));
        let mut twin =
            Twin::new(World::new().publish_on(family, 1, UDP, (53, 5353, 1), 1).publish_on(
                family,
                2,
                TCP,
                (80, 8080, 1),
                1,
            ));
        for frame in [
            Frame::udp(&client, &server),
            Frame::tcp(&client, &server).syn(),
            Frame::echo(&family.ip(C1), &family.ip(WORLD), 0x4242),
        ] {
            let sent = twin.sends(1, &frame).left();
            let seen = twin.arrives(&too_big(family, ROUTER, HOST, &sent)).delivered(1);
            assert_eq!(sound(&seen).src.to_string(), family.ip(C1));
        }
        for (frame, own) in [
            (Frame::udp(&family.at(WORLD, 4000), &family.at(HOST, 53)), 5353),
            (Frame::tcp(&family.at(WORLD, 4000), &family.at(HOST, 80)).syn(), 8080),
        ] {
            let seen = twin.arrives(&frame).delivered(1);
            assert_eq!(seen.ports(), Some((4000, own)));
            let out = twin.sends(1, &too_big(family, C1, WORLD, &seen)).left();
            assert_eq!(sound(&out).ports(), frame.ports());
            // A neighbour, by the same port.
            let near = Frame { src: family.ip(C2).parse().expect("an address"), ..frame };
            let seen = twin.sends(2, &near).delivered(1);
            let back = twin.sends(1, &too_big(family, C1, &gateway(C1), &seen)).delivered(2);
            assert_eq!(sound(&back).ports(), near.ports());
        }
    }
}

#[test]
fn cil_nat_005_a_checksum_that_is_not_quoted_is_not_made_up() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").syn()).left();
    let whole = sent.ip_bytes();
    // Up to the checksum, into it, and past it; and with bytes behind the packet that are none of its own.
    for (length, behind) in [(36, 0), (37, 0), (38, 0), (36, 8)] {
        let mut error = Frame::error(ROUTER, HOST, 3, 4, 1280, &sent);
        let Body::Icmp { payload, .. } = &mut error.body else { panic!("{error:?}") };
        payload.truncate(length);
        let mut bytes = error.macs(super::world::ROUTER_MAC, super::world::UPLINK_MAC).bytes();
        bytes.extend(vec![0xaa; behind]);
        let packet = FramePacket::new(bytes, UPLINK);
        let end = twin.packet(Walk::FromUplink, packet);
        let Body::Icmp { payload, .. } = end.delivered(1).body else { panic!("no ICMP") };
        assert_eq!(payload.len(), length);
        assert_eq!(payload[36..] != whole[36..length], length == 38, "{length} bytes quoted");
        assert!(end.bytes.ends_with(&vec![0xaa; behind]));
    }
    // A datagram without a checksum has none afterwards.
    let frame = Frame::udp("172.20.0.2:40000", "203.0.113.7:53").without_checksum();
    let sent = twin.sends(1, &frame).left();
    let seen = twin.arrives(&Frame::error(ROUTER, HOST, 3, 4, 1280, &sent)).delivered(1);
    assert!(matches!(quote(&seen).body, Body::Udp { checksum: false, .. }), "{seen:?}");
}

#[test]
fn cil_nat_005_errors_that_are_not_translated_are_left_alone() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    let seen = twin.arrives(&Frame::udp("203.0.113.7:4000", "198.51.100.1:53")).delivered(1);
    // Somebody else's flow, told to the host; and to a neighbour, past the gateway.
    let lie = Frame::error(C2, HOST, 3, 3, 0, &seen);
    let sent = lie.clone().macs(super::world::mac(C2), super::world::mac(&gateway(C2))).bytes();
    assert_eq!(twin.sends(2, &lie).bytes, sent);
    let near = Frame::error(C1, C2, 3, 3, 0, &seen);
    assert_eq!(sound(&twin.sends_near(1, &near).delivered(2)), quote(&near));
}
