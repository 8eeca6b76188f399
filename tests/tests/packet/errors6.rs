//! ICMPv6 errors about translated flows, both ways.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{Body, DESTINATION, Frame, HOP_BY_HOP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, Family, HOST, ROUTER, WORLD, World, at6, gateway, six},
};

fn udp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::udp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn error(from: &str, to: &str, (kind, code, rest): (u8, u8, u32), about: &Frame) -> Frame {
    Frame::error(&six(from).to_string(), &six(to).to_string(), kind, code, rest, about)
}

fn quote(error: &Frame) -> Frame {
    let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?} is no ICMP") };
    Frame::parse_ip(payload).expect("a quote")
}

fn published() -> World {
    World::new().publish_on(Family::Six, 1, UDP, (53, 5353, 1), 1)
}

/// Port unreachable, no route, too big with its MTU, hop limit exceeded, and a bad header.
const ERRORS: [(u8, u8, u32); 5] = [(1, 4, 0), (1, 0, 0), (2, 0, 1280), (3, 0, 0), (4, 1, 40)];

#[test]
fn come_back_through_masquerade() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &udp((C1, 40_000), (WORLD, 53))).left();
    for what in ERRORS {
        for from in [WORLD, ROUTER] {
            let seen = twin.arrives(&error(from, HOST, what, &sent)).delivered(1);
            assert_eq!((seen.src, seen.dst), (six(from).into(), six(C1).into()));
            let quoted = quote(&seen);
            assert_eq!((quoted.src, quoted.ports()), (six(C1).into(), Some((40_000, 53))));
            assert!(
                matches!(seen.body, Body::Icmp { kind, code, rest, .. }
                    if (kind, code, u32::from_be_bytes(rest)) == what),
                "{seen:?}"
            );
        }
    }
}

#[test]
fn about_an_echo_come_back_with_its_identifier() {
    let mut twin = Twin::new(World::new());
    let (own, world) = (six(C1).to_string(), six(WORLD).to_string());
    let sent = twin.sends(1, &Frame::echo(&own, &world, 0x4242)).left();
    let seen = twin.arrives(&error(ROUTER, HOST, (3, 0, 0), &sent)).delivered(1);
    let Body::Icmp { rest, .. } = quote(&seen).body else { panic!("{seen:?}") };
    assert_eq!(rest, [0x42, 0x42, 0, 1]);
}

#[test]
fn with_the_shortest_quote_there_may_be() {
    let mut twin = Twin::new(World::new());
    let sent = twin.sends(1, &Frame::tcp(&at6(C1, 40_000), &at6(WORLD, 80)).syn()).left();
    let mut short = error(ROUTER, HOST, (2, 0, 1280), &sent);
    let Body::Icmp { payload, .. } = &mut short.body else { panic!("{short:?}") };
    payload.truncate(48);
    let seen = twin.arrives(&short).delivered(1);
    let Body::Icmp { payload, .. } = &seen.body else { panic!("{seen:?}") };
    assert_eq!(payload.len(), 48);
    assert_eq!(payload[40..44], [0x9c, 0x40, 0, 80], "ports of the container's own packet");
    // Shorter than the ports: about no flow.
    let Body::Icmp { payload, .. } = &mut short.body else { panic!("{short:?}") };
    payload.truncate(42);
    twin.arrives(&short).passed();
}

#[test]
fn with_extension_headers_in_the_quote_and_around_it() {
    let mut twin = Twin::new(World::new());
    let frame = udp((C1, 40_000), (WORLD, 53)).padding(HOP_BY_HOP).padding(DESTINATION);
    let sent = twin.sends(1, &frame).left();
    let about = error(ROUTER, HOST, (1, 0, 0), &sent);
    for about in [about.clone(), about.padding(DESTINATION)] {
        let quoted = quote(&twin.arrives(&about).delivered(1));
        assert_eq!((quoted.src, quoted.ports()), (six(C1).into(), Some((40_000, 53))));
        assert_eq!(quoted.extensions.len(), 2);
    }
    // About the first fragment, and about a later one, which nobody can tell the flow of.
    let parts = udp((C1, 40_000), (WORLD, 53)).data(&[7; 100]).fragments(48);
    let first = twin.sends(1, &parts[0]).left();
    let later = twin.sends(1, &parts[1]).left();
    twin.arrives(&error(ROUTER, HOST, (2, 0, 1280), &first)).delivered(1);
    twin.arrives(&error(ROUTER, HOST, (2, 0, 1280), &later)).passed();
}

#[test]
fn about_anothers_published_port_are_forged() {
    let mut twin = Twin::new(published());
    let seen = twin.arrives(&udp((WORLD, 4000), (HOST, 53))).delivered(1);
    twin.sends(2, &error(C2, WORLD, (1, 4, 0), &seen)).dropped(DropReason::CtInvalid);
}

#[test]
fn go_out_through_a_published_port() {
    let mut twin = Twin::new(published());
    let seen = twin.arrives(&udp((WORLD, 4000), (HOST, 53))).delivered(1);
    let out = twin.sends(1, &error(C1, WORLD, (1, 4, 0), &seen)).left();
    assert_eq!((out.src, out.dst), (six(HOST).into(), six(WORLD).into()));
    let quoted = quote(&out);
    assert_eq!((quoted.dst, quoted.ports()), (six(HOST).into(), Some((4000, 53))));
    // Its own hop limit ends here too.
    twin.sends(1, &error(C1, WORLD, (1, 4, 0), &seen).ttl(1)).dropped(DropReason::TtlExpired);
}

#[test]
fn come_in_to_a_published_port() {
    let mut twin = Twin::new(published());
    twin.arrives(&udp((WORLD, 4000), (HOST, 53))).delivered(1);
    let answer = twin.sends(1, &udp((C1, 5353), (WORLD, 4000))).left();
    let seen = twin.arrives(&error(ROUTER, HOST, (2, 0, 1280), &answer)).delivered(1);
    let quoted = quote(&seen);
    assert_eq!((quoted.src, quoted.ports()), (six(C1).into(), Some((5353, 4000))));
}

#[test]
fn come_back_through_a_hairpin() {
    let mut twin = Twin::new(published());
    let seen = twin.sends(2, &udp((C2, 4000), (HOST, 53))).delivered(1);
    let back = twin.sends(1, &error(C1, &gateway(C1), (1, 4, 0), &seen)).delivered(2);
    assert_eq!((back.src, back.dst), (six(HOST).into(), six(C2).into()));
    assert_eq!(quote(&back).ports(), Some((4000, 53)));
}

#[test]
fn about_nothing_of_ours_are_not_ours() {
    let mut twin = Twin::new(World::new());
    let strange = udp((HOST, 1234), (WORLD, 53));
    twin.arrives(&error(WORLD, HOST, (1, 4, 0), &strange)).passed();
    let direct = udp((C1, 1234), (WORLD, 53));
    twin.arrives(&error(WORLD, C1, (1, 4, 0), &direct)).dropped(DropReason::DirectRoutingBlocked);
    twin.sends(1, &error(C1, WORLD, (1, 4, 0), &strange)).dropped(DropReason::CtInvalid);
}
