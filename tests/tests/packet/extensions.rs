//! IPv6 extension headers through every translation.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{DESTINATION, Frame, HOP_BY_HOP, ROUTING, UDP};

use super::{
    twin::Twin,
    world::{C1, Family, HOST, WORLD, World, at6, six},
};

/// A packet behind chains of headers, from none to as many as are followed.
fn chained(frame: &Frame) -> Vec<Frame> {
    let long = [&[2, 1, 20][..], &[0; 20]].concat();
    vec![
        frame.clone(),
        frame.clone().padding(HOP_BY_HOP),
        frame.clone().padding(ROUTING),
        frame.clone().padding(DESTINATION),
        frame.clone().extension(DESTINATION, &long),
        frame.clone().authentication(),
        frame.clone().padding(HOP_BY_HOP).padding(ROUTING).authentication().padding(DESTINATION),
        frame
            .clone()
            .padding(HOP_BY_HOP)
            .padding(DESTINATION)
            .padding(ROUTING)
            .fragment6(0, false, 7)
            .authentication()
            .padding(DESTINATION),
    ]
}

#[test]
fn are_kept_through_masquerade_and_back() {
    let mut twin = Twin::new(World::new());
    for frame in [
        Frame::udp(&at6(C1, 50_000), &at6(WORLD, 53)),
        Frame::tcp(&at6(C1, 50_000), &at6(WORLD, 80)),
        Frame::echo(&six(C1).to_string(), &six(WORLD).to_string(), 50_000),
    ] {
        for frame in chained(&frame) {
            let seen = twin.sends(1, &frame).left();
            assert_eq!((seen.src, &seen.extensions), (six(HOST).into(), &frame.extensions));
        }
    }
    for back in chained(&Frame::udp(&at6(WORLD, 53), &at6(HOST, 50_000))) {
        let seen = twin.arrives(&back).delivered(1);
        assert_eq!((seen.dst, seen.extensions), (six(C1).into(), back.extensions));
    }
}

#[test]
fn are_kept_on_the_way_to_a_published_port() {
    let mut twin = Twin::new(World::new().publish_on(Family::Six, 1, UDP, (53, 5353, 1), 1));
    for ask in chained(&Frame::udp(&at6(WORLD, 4000), &at6(HOST, 53))) {
        let seen = twin.arrives(&ask).delivered(1);
        assert_eq!((seen.ports(), seen.extensions), (Some((4000, 5353)), ask.extensions));
    }
}

#[test]
fn chains_that_are_too_long_are_malformed() {
    let mut frame = Frame::udp(&at6(C1, 50_000), &at6(WORLD, 53));
    for _ in 0..7 {
        frame = frame.padding(DESTINATION);
    }
    let mut twin = Twin::new(World::new());
    twin.sends(1, &frame).dropped(DropReason::Malformed);
    // What nobody can read is the host's, and it does not leave with a container's address.
    let (src, dst) = (frame.src, frame.dst);
    twin.leaves(10, &frame).dropped(DropReason::Untranslated);
    (frame.src, frame.dst) = (dst, six(HOST).into());
    twin.arrives(&frame).passed();
    assert_ne!(src, frame.src);
}

#[test]
fn that_promise_more_than_there_is_are_malformed() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp(&at6(C1, 50_000), &at6(WORLD, 53));
    for number in [HOP_BY_HOP, ROUTING, DESTINATION] {
        let lying = frame.clone().extension(number, &[200, 1, 4, 0, 0, 0, 0]);
        twin.sends(1, &lying).dropped(DropReason::Malformed);
    }
    // The last header ends the packet.
    let bare = Frame::raw(&six(C1).to_string(), &six(WORLD).to_string(), UDP, &[]);
    twin.sends(1, &bare.padding(DESTINATION)).dropped(DropReason::Malformed);
}

#[test]
fn no_next_header_is_a_protocol_without_ports() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::raw(&six(C1).to_string(), &six(WORLD).to_string(), 59, b"");
    assert_eq!(twin.sends(1, &frame).left().src, six(HOST));
}
