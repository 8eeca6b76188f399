//! Packets that are too long, hop limits that end, and segment sizes that are lowered in time, in both families.

use bascule_common::{
    abi::DropReason,
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{Body, DESTINATION, Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{BOTH, C1, C2, Family, HOST, UPLINK, WORLD, World, bridge, gateway, interface, mac},
};

/// A world whose containers and uplink have these MTUs.
fn with_mtus(containers: u16, uplink: u32) -> World {
    World::new().with(|tables| {
        tables.endpoints.values_mut().for_each(|endpoint| endpoint.mtu = containers);
        tables.four.neighbours.values_mut().for_each(|neighbour| neighbour.mtu = containers);
        tables.six.neighbours.values_mut().for_each(|neighbour| neighbour.mtu = containers);
        tables.uplinks.values_mut().for_each(|way| way.mtu = uplink);
    })
}

/// Bytes that a packet stands for where it is an error about one that is too long.
fn mtu(family: Family, error: &Frame) -> u16 {
    let Body::Icmp { rest: [a, b, c, d], .. } = error.body else { panic!("{error:?}") };
    assert_eq!([a, b], [0, 0], "{family:?}");
    u16::from_be_bytes([c, d])
}

fn too_big(family: Family) -> (u8, u8) {
    family.of((3, 4), (2, 0))
}

fn expired(family: Family) -> (u8, u8) {
    family.of((11, 0), (3, 0))
}

/// Options with a maximum segment size, behind so many bytes of nothing.
fn segments(nothing: usize, size: u16) -> Vec<u8> {
    let mut options = vec![1; nothing];
    options.extend([2, 4]);
    options.extend(size.to_be_bytes());
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// The announced segment size.
fn announced(frame: &Frame) -> u16 {
    let Body::Tcp { options, .. } = &frame.body else { panic!("{frame:?}") };
    let mut rest = options.as_slice();
    loop {
        match rest {
            [2, 4, a, b, ..] => return u16::from_be_bytes([*a, *b]),
            [1, after @ ..] => rest = after,
            [_, length, ..] => rest = &rest[usize::from(*length)..],
            _ => panic!("no segment size in {options:?}"),
        }
    }
}

#[test]
fn n26_a_packet_too_big_for_a_published_port_is_answered() {
    for family in BOTH {
        let world = with_mtus(1280, 1500).publish_on(family, 1, UDP, (53, 5353, 1), 1);
        let mut twin = Twin::new(world);
        let ask = Frame::udp(&family.at(WORLD, 4000), &family.at(HOST, 53)).data(&[7; 1400]);
        let (kind, code) = too_big(family);
        let error = twin.arrives(&ask).answered(kind, code);
        assert_eq!((error.src, error.dst, error.ttl), (ask.dst, ask.src, 64));
        assert_eq!(mtu(family, &error), 1280);
        let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?}") };
        assert_eq!(payload[..], ask.ip_bytes()[..payload.len()], "the packet as it was sent");
        // As long as it may be.
        let header = family.of(28, 48);
        twin.arrives(&ask.clone().data(&vec![7; 1280 - header])).delivered(1);
        twin.arrives(&ask.clone().data(&vec![7; 1281 - header])).answered(kind, code);
    }
}

#[test]
fn an_answer_quotes_no_more_than_it_has_to() {
    for family in BOTH {
        let world = with_mtus(1280, 1500).publish_on(family, 1, TCP, (80, 80, 1), 1);
        let mut twin = Twin::new(world);
        let (client, host) = (family.at(WORLD, 4000), family.at(HOST, 80));
        twin.arrives(&Frame::tcp(&client, &host).syn()).delivered(1);
        let long = Frame::tcp(&client, &host).data(&[7; 1400]);
        let (kind, code) = too_big(family);
        let error = twin.arrives(&long).answered(kind, code);
        let Body::Icmp { payload, .. } = &error.body else { panic!("{error:?}") };
        assert_eq!(payload.len(), family.of(40, 60), "its headers");
    }
    let mut twin = Twin::new(with_mtus(1280, 1500).publish_on(Family::Six, 1, UDP, (53, 53, 1), 1));
    let ask = Frame::udp(&Family::Six.at(WORLD, 1), &Family::Six.at(HOST, 53)).data(&[7; 1400]);
    twin.arrives(&ask.clone().padding(DESTINATION)).answered(2, 0);
    // Headers that do not fit into a quote: the sender is not told.
    let long = [&[6, 1, 52][..], &[0; 52]].concat();
    twin.arrives(&ask.extension(DESTINATION, &long)).dropped(DropReason::MtuExceeded);
}

#[test]
fn what_may_be_fragmented_is_the_kernels() {
    let family = Family::Four;
    let mut twin = Twin::new(with_mtus(1280, 1500).publish_on(family, 1, UDP, (53, 5353, 1), 1));
    let ask = Frame::udp("203.0.113.7:4000", "198.51.100.1:53").data(&[7; 1400]).fragment(0);
    let end = twin.arrives(&ask);
    end.passed();
    let seen = end.parsed();
    assert_eq!((seen.dst.to_string().as_str(), seen.ports()), (C1, Some((4000, 5353))));
    assert_eq!(seen.ttl, 64, "the kernel counts this hop");
    // What it makes of it arrives.
    for part in seen.fragments(1200) {
        let part = part.macs(mac(&gateway(C1)), mac(C1)).ttl(63);
        let mut packet = FramePacket::new(part.bytes(), interface(1));
        packet.arrived_by = UPLINK;
        twin.packet(Walk::ToContainer, packet).passed();
    }
}

#[test]
fn what_a_container_sends_too_big_is_answered_by_the_kernel() {
    for family in BOTH {
        let mut twin = Twin::new(with_mtus(1500, 1300));
        let out = Frame::udp(&family.at(C1, 50_000), &family.at(WORLD, 53)).data(&[7; 1400]);
        twin.sends(1, &out).passed();
        twin.sends(1, &out.data(b"short")).left();
    }
}

#[test]
fn answers_of_a_neighbours_published_port_are_answered_from_the_gateway() {
    for family in BOTH {
        let world = World::new().publish_on(family, 1, UDP, (53, 5353, 1), 1).with(|tables| {
            for neighbour in
                tables.four.neighbours.values_mut().chain(tables.six.neighbours.values_mut())
            {
                neighbour.mtu = if neighbour.endpoint == 1 { 1300 } else { 1500 };
            }
        });
        let mut twin = Twin::new(world);
        let ask = Frame::udp(&family.at(C2, 4000), &family.at(HOST, 53));
        twin.sends(2, &ask).delivered(1);
        let (kind, code) = too_big(family);
        let error = twin.sends(2, &ask.clone().data(&[7; 1400])).answered(kind, code);
        assert_eq!(error.src.to_string(), family.ip(&gateway(C2)));
        assert_eq!((error.dst, mtu(family, &error)), (ask.src, 1300));
        let (kind, code) = expired(family);
        let error = twin.sends(2, &ask.clone().ttl(1)).answered(kind, code);
        assert_eq!(error.src.to_string(), family.ip(&gateway(C2)));
    }
}

#[test]
fn nobody_is_told_about_an_error_a_later_fragment_or_too_often() {
    for family in BOTH {
        let world = World::new().publish_on(family, 1, UDP, (53, 5353, 1), 1);
        let mut twin = Twin::new(world);
        let (client, host) = (family.at(WORLD, 4000), family.at(HOST, 53));
        let ask = Frame::udp(&client, &host);
        let seen = twin.arrives(&ask).delivered(1);
        let (kind, code) = expired(family);
        let about = Frame::error(&family.ip(C1), &family.ip(WORLD), kind, code, 0, &seen).ttl(1);
        twin.sends(1, &about).dropped(DropReason::TtlExpired);
        let parts = ask.clone().data(&[7; 100]).fragment(0).fragments(48);
        twin.arrives(&parts[0]).delivered(1);
        twin.arrives(&parts[1].clone().ttl(1)).dropped(DropReason::TtlExpired);
        twin.arrives(&parts[0].clone().ttl(1)).answered(kind, code);
    }
}

#[test]
fn a_syn_announces_what_fits() {
    for family in BOTH {
        let mut twin = Twin::new(with_mtus(1500, 1300));
        let limit = family.of(1260, 1240);
        let out = Frame::tcp(&family.at(C1, 50_000), &family.at(WORLD, 80)).syn();
        for nothing in 0..6 {
            let syn = out.clone().tcp_options(&segments(nothing, 1460));
            assert_eq!(announced(&twin.sends(1, &syn).left()), limit, "behind {nothing} bytes");
        }
        let syn = out.clone().tcp_options(&segments(2, 536));
        assert_eq!(announced(&twin.sends(1, &syn).left()), 536, "it fits already");
        // Behind other options, and behind none.
        let many = [&[4, 2, 3, 3, 7][..], &segments(0, 1460), &[0; 3]].concat();
        let seen = twin.sends(1, &out.clone().tcp_options(&many)).left();
        assert_eq!(announced(&seen), limit);
        twin.sends(1, &out).left();
        let back = Frame::tcp(&family.at(WORLD, 80), &family.at(HOST, 50_000)).syn_ack();
        for nothing in [0, 1] {
            let seen = twin.arrives(&back.clone().tcp_options(&segments(nothing, 1460)));
            assert_eq!(announced(&seen.delivered(1)), limit);
        }
        // Nothing else is looked at.
        let data = Frame::tcp(&family.at(C1, 50_000), &family.at(WORLD, 80));
        let seen = twin.sends(1, &data.tcp_options(&segments(0, 1460))).left();
        assert_eq!(announced(&seen), 1460);
    }
}

#[test]
fn a_published_ports_syn_and_its_answer_announce_what_fits() {
    for family in BOTH {
        let world = with_mtus(1500, 1300).publish_on(family, 1, TCP, (8080, 80, 1), 1);
        let mut twin = Twin::new(world);
        let limit = family.of(1260, 1240);
        let ask = Frame::tcp(&family.at(WORLD, 40_000), &family.at(HOST, 8080)).syn();
        let seen = twin.arrives(&ask.tcp_options(&segments(1, 1460))).delivered(1);
        assert_eq!(announced(&seen), limit);
        let answer = Frame::tcp(&family.at(C1, 80), &family.at(WORLD, 40_000)).syn_ack();
        let seen = twin.sends(1, &answer.tcp_options(&segments(1, 1460))).left();
        assert_eq!(announced(&seen), limit);
    }
}

#[test]
fn options_that_cannot_be_read_are_left_alone() {
    for family in BOTH {
        let mut twin = Twin::new(with_mtus(1500, 1300));
        let out = Frame::tcp(&family.at(C1, 50_000), &family.at(WORLD, 80)).syn();
        for options in [
            [0, 2, 4, 5, 180, 0, 0, 0],
            [9, 0, 2, 4, 5, 180, 0, 0],
            [9, 1, 2, 4, 5, 180, 0, 0],
            [9, 40, 2, 4, 5, 180, 0, 0],
            [1, 1, 1, 1, 1, 1, 2, 4],
        ] {
            let syn = out.clone().tcp_options(&options);
            let Body::Tcp { options: seen, .. } = twin.sends(1, &syn).left().body else {
                panic!("{syn:?}")
            };
            assert_eq!(seen, options);
        }
    }
}

#[test]
fn what_the_kernel_forwards_is_not_answered_twice() {
    for family in BOTH {
        let mut twin = Twin::new(with_mtus(1500, 1300));
        let out = Frame::udp(&family.at(C1, 50_000), &family.at(WORLD, 53)).ttl(1);
        let seen = twin.leaves(bridge(1), &out).parsed();
        assert_eq!((seen.src.to_string(), seen.ttl), (family.ip(HOST), 1));
        twin.sends(1, &out).passed();
    }
}
