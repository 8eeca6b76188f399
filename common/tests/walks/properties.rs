//! What holds for every frame, in both families.

use bascule_common::{
    abi::DropReason,
    datapath::{Kind, Outcome, Verdict},
    testing::{
        Frame, FramePacket, Walk, run,
        world::{C1, C2, GATEWAY, HOST, ROUTER, UPLINK, WORLD, World, mac, routed, veth},
    },
    wire::{Icmp, proto},
};
use proptest::prelude::*;

/// What a frame carries.
#[derive(Clone, Copy, Debug)]
enum Carries {
    Tcp,
    Udp,
    Echo,
}

fn carries() -> impl Strategy<Value = Carries> {
    prop_oneof![Just(Carries::Tcp), Just(Carries::Udp), Just(Carries::Echo)]
}

/// Extension headers of a frame: none in IPv4.
fn chain() -> impl Strategy<Value = Option<Vec<u8>>> {
    let number = prop_oneof![
        Just(proto::HOP_BY_HOP),
        Just(proto::ROUTING),
        Just(proto::DESTINATION),
        Just(proto::AH),
        Just(proto::FRAGMENT),
    ];
    prop::option::of(prop::collection::vec(number, 0..=6))
}

/// A frame from one to another; an answer where it says so.
fn frame(
    what: Carries,
    chain: Option<&Vec<u8>>,
    (from, to): ((&str, u16), (&str, u16)),
    reply: bool,
    payload: &[u8],
) -> Frame {
    let frame = match what {
        Carries::Tcp => Frame::tcp(from, to),
        Carries::Udp => Frame::udp(from, to),
        Carries::Echo if reply => Frame::echo_reply(from.0, to.0, to.1),
        Carries::Echo => Frame::echo(from.0, to.0, from.1),
    };
    let frame = frame.payload(payload);
    match chain {
        Some(chain) => Frame { six: true, chain: chain.clone(), ..frame },
        None => frame,
    }
}

/// Source port, or the identifier, of a frame.
fn source_port(what: Carries, frame: &Frame, bytes: &[u8]) -> u16 {
    let at = frame.l4() + if matches!(what, Carries::Echo) { 4 } else { 0 };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The frame that an index stands for.
fn some_frame(index: u8, six: bool) -> Frame {
    let about = Frame { six, ..Frame::udp((HOST, 50_000), (WORLD, 99)) };
    let frame = match index % 9 {
        0 => routed(Frame::tcp((C1, 40_000), (WORLD, 443)).syn(), GATEWAY),
        1 => Frame::udp((WORLD, 99), (HOST, 50_000)),
        2 => routed(Frame::echo(C1, WORLD, 3), GATEWAY),
        3 => Frame::error(ROUTER, HOST, Icmp::UNREACHABLE, 4, &about, 8),
        4 => Frame::tcp((WORLD, 1), (HOST, 8080)).syn(),
        5 => routed(Frame::tcp((C1, 4000), (HOST, 8080)).syn(), GATEWAY),
        6 => Frame::tcp((C1, 4000), (C2, 80)).syn(),
        7 => routed(Frame::error(C1, WORLD, Icmp::UNREACHABLE, 3, &about, 8), GATEWAY),
        _ => routed(Frame::udp((C1, 50_000), (WORLD, 99)).ttl(1), GATEWAY),
    };
    Frame { six, ..frame }
}

/// Whether a walk ended: nothing is left undecided, and nothing is to be answered that was not.
fn is_an_end(end: &Outcome) -> bool {
    match end {
        Ok(verdict) => {
            matches!(verdict.kind, Kind::Pass | Kind::Deliver | Kind::Leave | Kind::Back)
                && verdict.clamp == 0
        }
        // Never an entry that was lost on the way: the tables here have room.
        Err(reason) => *reason != DropReason::CtTableFull,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Masquerade and back is the identity, and what is patched is what would be computed anew: both ways the
    /// frames are, byte for byte, those that are built with the new tuple.
    #[test]
    fn masquerade_and_back_is_the_identity(
        what in carries(), chain in chain(), sport in 1u16.., dport in 1u16..,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let world = World::new();
        let dport = if matches!(what, Carries::Echo) { sport } else { dport };
        let make = |from, to, reply| frame(what, chain.as_ref(), (from, to), reply, &payload);
        let there = routed(make((C1, sport), (WORLD, dport), false), GATEWAY);
        let (end, bytes) = world.container_sends(1, &there);
        prop_assert_eq!(end.map(|verdict| (verdict.kind, verdict.ifindex)), Ok((Kind::Leave, UPLINK)));
        let port = source_port(what, &there, &bytes);
        prop_assert!(port >= 49_152);
        let want = Frame {
            dst_mac: there.dst_mac,
            src_mac: there.src_mac,
            ..make((HOST, port), (WORLD, dport), false).ttl(63)
        };
        prop_assert_eq!(bytes, want.build());
        let back = make((WORLD, dport), (HOST, port), true);
        let (end, bytes) = world.uplink_gets(&back);
        prop_assert_eq!(end, Ok(Verdict::deliver(veth(1))));
        let want = make((WORLD, dport), (C1, sport), true).ttl(63);
        prop_assert_eq!(bytes, want.to_mac(mac(C1)).from_mac(mac(GATEWAY)).build());
    }

    /// So are a published port and its answers.
    #[test]
    fn a_published_port_and_back_is_the_identity(
        udp: bool, chain in chain(), client in 1u16.., offset in 0u16..4,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut world = World::new();
        let (what, number) = if udp { (Carries::Udp, proto::UDP) } else { (Carries::Tcp, proto::TCP) };
        world = world.publish(5, number, (9000, 80, 4), 1);
        world = world.publish6(6, number, (9000, 80, 4), 1);
        let make = |from, to| frame(what, chain.as_ref(), (from, to), false, &payload);
        let (end, bytes) = world.uplink_gets(&make((WORLD, client), (HOST, 9000 + offset)));
        prop_assert_eq!(end, Ok(Verdict::deliver(veth(1))));
        let want = make((WORLD, client), (C1, 80 + offset)).ttl(63);
        prop_assert_eq!(bytes, want.to_mac(mac(C1)).from_mac(mac(GATEWAY)).build());
        let answer = routed(make((C1, 80 + offset), (WORLD, client)), GATEWAY);
        let (end, bytes) = world.container_sends(1, &answer);
        prop_assert_eq!(end.map(|verdict| verdict.kind), Ok(Kind::Leave));
        let want = make((HOST, 9000 + offset), (WORLD, client)).ttl(63);
        prop_assert_eq!(bytes, want.to_mac(answer.dst_mac).from_mac(answer.src_mac).build());
    }

    /// Any bytes behind an Ethernet header, and any without one: nothing panics, and there is an end.
    #[test]
    fn any_bytes_have_an_end(
        bytes in prop::collection::vec(any::<u8>(), 0..140), six: bool, whose in 0u8..3,
        segment_size in prop_oneof![Just(0u32), 1u32..3000],
    ) {
        let world = World::busy();
        let mut framed = [[2; 6], mac(C1)].concat();
        if whose > 0 {
            framed[..6].copy_from_slice(&mac(if whose == 1 { GATEWAY } else { C2 }));
        }
        framed.extend(if six { [0x86, 0xdd] } else { [8, 0] });
        framed.extend(&bytes);
        for walk in Walk::ALL {
            for bytes in [&framed, &bytes] {
                let mut packet = FramePacket::new(bytes.clone(), veth(1));
                packet.segment_size = segment_size;
                let end = run(walk, &mut packet, &world.tables, &world.kernel).outcome;
                prop_assert!(is_an_end(&end), "{:?}: {:?}", walk, end);
            }
            let mut packet = FramePacket::bare(bytes.clone(), UPLINK);
            packet.segment_size = segment_size;
            if matches!(walk, Walk::FromUplink | Walk::ToUplink) {
                let end = run(walk, &mut packet, &world.tables, &world.kernel).outcome;
                prop_assert!(is_an_end(&end), "{:?}: {:?}", walk, end);
            }
        }
    }

    /// Frames that get past the first checks, with some bytes spoiled and the end cut: nothing panics, there is an
    /// end, what is dropped has not been delivered, and nothing leaves with an address that is masqueraded.
    #[test]
    fn spoiled_frames_have_an_end(
        index: u8, six: bool, spoil in prop::collection::vec((12usize..110, any::<u8>()), 0..4),
        cut in 14usize..160, chain in chain(),
    ) {
        let world = World::busy();
        let mut frame = some_frame(index, six);
        if let (true, Some(chain)) = (six, chain) {
            frame.chain = chain;
        }
        let mut bytes = frame.build();
        for (at, value) in spoil {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        for walk in Walk::ALL {
            let interface =
                if matches!(walk, Walk::FromUplink | Walk::ToUplink) { UPLINK } else { veth(1) };
            // Again, when it may have a flow.
            for _ in 0..2 {
                world.tables.endpoint_stats.borrow_mut().clear();
                let mut packet = FramePacket::new(bytes.clone(), interface);
                let end = run(walk, &mut packet, &world.tables, &world.kernel).outcome;
                prop_assert!(is_an_end(&end), "{:?}: {:?}", walk, end);
                let received: u64 = world
                    .tables
                    .endpoint_stats
                    .borrow()
                    .values()
                    .map(|counters| counters.received.packets)
                    .sum();
                match end {
                    Ok(verdict) if verdict.kind == Kind::Deliver => prop_assert_eq!(received, 1),
                    Ok(verdict) if verdict.kind == Kind::Leave => {
                        prop_assert!(!leaks(&packet.bytes), "{:02x?}", packet.bytes);
                    }
                    Err(_) => prop_assert_eq!(received, 0),
                    Ok(_) => {}
                }
            }
        }
    }
}

/// Whether the source of a frame is an address of a masqueraded network.
fn leaks(bytes: &[u8]) -> bool {
    match bytes[12..14] {
        [0x08, 0x00] => bytes[26] == 172 && matches!(bytes[27], 20 | 21),
        _ => bytes[22..27] == [0xfd, 0, 1, 0x72, 0] && matches!(bytes[27], 0x20 | 0x21),
    }
}
