//! Twin tests: the same frames through the walks on the host and through the real programs in the kernel,
//! which keeps the in-memory bodies honest and shows that what was proven on the host holds on the wire.

mod engine;
mod twin;

use bascule_common::{
    abi::{DropReason, Endpoint, Network},
    testing::{
        Frame, Transport,
        world::{
            C1, C2, C3, GATEWAY, GATEWAY2, HOST, ROUTER, UPLINK, WORLD, bridge, ip, mac, routed,
            tuple, veth,
        },
    },
    wire::{Icmp, proto, tcp},
};
use engine::Fate;
use twin::{Twin, source_port};

const SYN_ACK: u8 = tcp::SYN | tcp::ACK;

fn dropped(reason: DropReason) -> Fate {
    Fate::Drop(reason)
}

#[test]
fn s93_s94_s107_walls() {
    let twin = Twin::new(|world| world.network(2, GATEWAY2, Network::ICC | Network::INTERNAL));
    assert_eq!(twin.sends(1, &Frame::tcp((C1, 1), (C2, 2)).syn()).0, Fate::Redirect);
    assert_eq!(twin.sends(1, &Frame::udp((C1, 1), (C2, 2)).unchecked()).0, Fate::Redirect);
    assert_eq!(twin.sends(1, &Frame::echo(C1, C2, 9)).0, Fate::Redirect);
    assert_eq!(twin.sends(1, &Frame::new(C1, C2, Transport::Other(47))).0, Fate::Redirect);
    let within = routed(Frame::tcp((C1, 1), (C2, 2)), GATEWAY);
    assert_eq!(twin.sends(1, &within).0, Fate::Redirect);
    let across = routed(Frame::tcp((C1, 1), (C3, 2)).syn(), GATEWAY);
    assert_eq!(twin.sends(1, &across).0, dropped(DropReason::PolicyIsolation));
    let out = routed(Frame::tcp((C3, 1), (WORLD, 2)).syn(), GATEWAY2);
    assert_eq!(twin.sends(3, &out).0, dropped(DropReason::PolicyInternal));
    let host = routed(Frame::tcp((C3, 1), (HOST, 2)).syn(), GATEWAY2);
    assert_eq!(twin.sends(3, &host).0, dropped(DropReason::PolicyInternal));
    let own = routed(Frame::udp((C3, 1), (GATEWAY2, 53)), GATEWAY2);
    assert_eq!(twin.sends(3, &own).0, Fate::Pass);
}

#[test]
fn s96_s97_icc_and_links() {
    let twin = Twin::new(|world| {
        world.icc_off(1);
        world.link(1, 2, proto::TCP, 80);
        world.link(1, 2, proto::UDP, 53);
    });
    let icc = || dropped(DropReason::PolicyIcc);
    let request = Frame::tcp((C1, 4000), (C2, 80)).syn();
    assert_eq!(twin.sends(1, &request).0, Fate::Redirect);
    assert_eq!(twin.sends(2, &Frame::tcp((C2, 80), (C1, 4000)).flags(SYN_ACK)).0, Fate::Redirect);
    assert_eq!(twin.sends(2, &Frame::tcp((C2, 80), (C1, 4000)).syn()).0, icc());
    assert_eq!(twin.sends(1, &Frame::tcp((C1, 4000), (C2, 81)).syn()).0, icc());
    assert_eq!(twin.sends(1, &Frame::echo(C1, C2, 1)).0, icc());
    let refused = |about: &Frame| Frame::error(C2, C1, Icmp::UNREACHABLE, 3, about, 8);
    assert_eq!(twin.sends(2, &refused(&Frame::udp((C1, 7), (C2, 53)))).0, Fate::Redirect);
    assert_eq!(twin.sends(2, &refused(&Frame::udp((C1, 7), (C2, 54)))).0, icc());
    let datagram = |offset, more| Frame::udp((C1, 7), (C2, 53)).fragment(offset, more);
    assert_eq!(twin.sends(1, &datagram(16, false)).0, dropped(DropReason::FragNotFound));
    assert_eq!(twin.sends(1, &datagram(0, true)).0, Fate::Redirect);
    assert_eq!(twin.sends(1, &datagram(16, false)).0, Fate::Redirect);
    let group = Frame::udp((C1, 1), ("224.0.0.251", 5353)).to_mac([1, 0, 0x5e, 0, 0, 0xfb]);
    assert_eq!(twin.sends(1, &group).0, dropped(DropReason::Multicast));
}

#[test]
fn spoofed_malformed_and_unknown_frames() {
    let twin = Twin::new(|_| {});
    let good = Frame::tcp((C1, 1), (C2, 2));
    assert_eq!(twin.sends(1, &good.clone().from_mac(mac(C2))).0, dropped(DropReason::SpoofedMac));
    let other = Frame::tcp((C2, 1), (C1, 2)).from_mac(mac(C1));
    assert_eq!(twin.sends(1, &other).0, dropped(DropReason::SpoofedIp));
    let martian = routed(Frame::tcp((C1, 1), ("127.0.0.1", 2)), GATEWAY);
    assert_eq!(twin.sends(1, &martian).0, dropped(DropReason::MartianLoopback));
    let walk = bascule_common::testing::Walk::FromContainer;
    let nobody = twin.step(walk, UPLINK, UPLINK, good.build());
    assert_eq!(nobody.0, dropped(DropReason::AgentNotReady));
    for (at, value, reason) in [
        (14, 0x65, DropReason::Malformed),
        (14, 0x44, DropReason::Malformed),
        (16, 0xff, DropReason::Malformed),
        (12, 0x88, DropReason::Malformed),
    ] {
        let mut bytes = good.build();
        bytes[at] = value;
        if at == 12 {
            // Another protocol is carried where the network is open.
            assert_eq!(twin.step(walk, veth(1), veth(1), bytes).0, Fate::Pass);
            continue;
        }
        assert_eq!(twin.step(walk, veth(1), veth(1), bytes).0, dropped(reason), "byte {at}");
    }
    let mut short = good.build();
    short.truncate(36);
    short[16..18].copy_from_slice(&22u16.to_be_bytes());
    assert_eq!(twin.step(walk, veth(1), veth(1), short).0, dropped(DropReason::Malformed));
    let mut tagged = good.build();
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(twin.step(walk, veth(1), veth(1), tagged).0, dropped(DropReason::Vlan));
}

/// An ARP request of c1's, with what it says of itself.
fn arp(sender_mac: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
    let mut bytes = [0xff; 6].to_vec();
    bytes.extend(mac(C1));
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(sender_mac);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend([172, 20, 0, 1]);
    bytes
}

#[test]
fn arp_is_about_the_own_address() {
    let twin = Twin::new(|_| {});
    let send =
        |bytes| twin.step(bascule_common::testing::Walk::FromContainer, veth(1), veth(1), bytes).0;
    assert_eq!(send(arp(mac(C1), [172, 20, 0, 2])), Fate::Pass);
    assert_eq!(send(arp(mac(C1), [0, 0, 0, 0])), Fate::Pass);
    assert_eq!(send(arp(mac(C1), [172, 20, 0, 3])), dropped(DropReason::SpoofedArp));
    assert_eq!(send(arp(mac(C2), [172, 20, 0, 2])), dropped(DropReason::SpoofedArp));
}

#[test]
fn s109_masquerade_there_and_back() {
    let twin = Twin::new(|_| {});
    for frame in [
        Frame::tcp((C1, 40_000), (WORLD, 443)).syn(),
        Frame::udp((C1, 40_000), (WORLD, 53)),
        Frame::udp((C1, 40_001), (WORLD, 53)).unchecked(),
        Frame::udp((C1, 40_002), (WORLD, 53)).options(&[1, 1, 1, 0]),
    ] {
        let before = tuple(&frame.build(), 14);
        let (fate, bytes) = twin.sends(1, &routed(frame.clone(), GATEWAY));
        assert_eq!(fate, Fate::Redirect);
        let port = source_port(&bytes);
        let answer = match bytes[23] {
            proto::TCP => Frame::tcp((WORLD, 443), (HOST, port)).flags(SYN_ACK),
            _ => Frame::udp((WORLD, 53), (HOST, port)),
        };
        let (fate, bytes) = twin.arrives(answer);
        assert_eq!(fate, Fate::Redirect);
        assert_eq!(tuple(&bytes, 14), (before.1, before.0));
        assert_eq!(twin.sends(1, &routed(frame, GATEWAY)).0, Fate::Redirect, "the third packet");
    }
    let (_, bytes) = twin.sends(1, &routed(Frame::echo(C1, WORLD, 77), GATEWAY));
    let answer = Frame::echo_reply(WORLD, HOST, source_port(&bytes));
    assert_eq!(twin.arrives(answer).0, Fate::Redirect);
    // Protocols without ports: by address, one flow to each remote.
    let gre = |from| routed(Frame::new(from, WORLD, Transport::Other(47)), GATEWAY);
    assert_eq!(twin.sends(1, &gre(C1)).0, Fate::Redirect);
    assert_eq!(twin.sends(2, &gre(C2)).0, dropped(DropReason::NatPortExhausted));
    // The host's own traffic, unasked.
    assert_eq!(twin.arrives(Frame::tcp((WORLD, 1), (HOST, 22)).syn()).0, Fate::Pass);
    assert_eq!(twin.arrives(Frame::udp((WORLD, 1), (HOST, 60_000))).0, Fate::Pass);
}

#[test]
fn s110_without_masquerade() {
    let twin = Twin::new(|world| world.network(1, GATEWAY, Network::ICC));
    let (fate, bytes) = twin.sends(1, &routed(Frame::udp((C1, 4000), (WORLD, 53)), GATEWAY));
    assert_eq!((fate, source_port(&bytes)), (Fate::Redirect, 4000));
    assert_eq!(twin.arrives(Frame::udp((WORLD, 53), (C1, 4000))).0, Fate::Redirect);
    let stranger = Frame::udp((WORLD, 54), (C1, 4000));
    assert_eq!(twin.arrives(stranger).0, dropped(DropReason::DirectRoutingBlocked));
}

#[test]
fn s103_s111_published_ports() {
    let mut twin = Twin::new(|world| {
        world.publish(5, proto::TCP, (8080, 80, 1), 1);
        world.publish(6, proto::UDP, (9000, 5000, 1000), 1);
    });
    let (fate, bytes) = twin.arrives(Frame::tcp((WORLD, 5555), (HOST, 8080)).syn());
    assert_eq!(fate, Fate::Redirect);
    assert_eq!(tuple(&bytes, 14).1.1, 80);
    let answer = routed(Frame::tcp((C1, 80), (WORLD, 5555)).flags(SYN_ACK), GATEWAY);
    let (fate, bytes) = twin.sends(1, &answer);
    assert_eq!((fate, source_port(&bytes)), (Fate::Redirect, 8080));
    let (_, bytes) = twin.arrives(Frame::udp((WORLD, 5555), (HOST, 9999)));
    assert_eq!(tuple(&bytes, 14).1.1, 5999);
    let direct = || dropped(DropReason::DirectRoutingBlocked);
    assert_eq!(twin.arrives(Frame::tcp((WORLD, 5), (C1, 80)).syn()).0, direct());
    assert_eq!(twin.arrives(Frame::echo(WORLD, C1, 5)).0, direct());
    let spoofed = Frame::tcp((C2, 5), (HOST, 8080)).syn();
    assert_eq!(twin.arrives(spoofed).0, dropped(DropReason::SpoofedIp));
    let late = Frame::tcp((WORLD, 7), (HOST, 8080)).syn().ttl(1);
    assert_eq!(twin.arrives(late).0, dropped(DropReason::TtlExpired));
    // The port goes to another container: the client's next datagram arrives there.
    twin.change(|world| {
        world.tables.generations.insert(1, 2);
        world.publish(7, proto::UDP, (9000, 5000, 1000), 2);
    });
    let (fate, bytes) = twin.arrives(Frame::udp((WORLD, 5555), (HOST, 9999)));
    assert_eq!((fate, tuple(&bytes, 14).1), (Fate::Redirect, (C2.parse().expect("c2"), 5999)));
}

#[test]
fn hairpins() {
    for (server, gateway) in [(1, GATEWAY), (2, GATEWAY), (3, GATEWAY2)] {
        let twin = Twin::new(|world| world.publish(5, proto::TCP, (8080, 80, 1), server));
        let request = routed(Frame::tcp((C1, 4000), (HOST, 8080)).syn(), GATEWAY);
        let (fate, bytes) = twin.sends(1, &request);
        assert_eq!(fate, Fate::Redirect);
        let ((src, port), (dst, _)) = tuple(&bytes, 14);
        let answer = Frame::tcp((&dst.to_string(), 80), (&src.to_string(), port)).flags(SYN_ACK);
        let (fate, bytes) = twin.sends(server, &routed(answer, gateway));
        assert_eq!((fate, source_port(&bytes)), (Fate::Redirect, 8080));
        // Only a SYN asks: answers to the host's own connections are none.
        let stray = routed(Frame::tcp((C2, 4001), (HOST, 8080)), GATEWAY);
        assert_eq!(twin.sends(2, &stray).0, Fate::Pass);
    }
}

#[test]
fn icmp_errors_both_ways() {
    let twin = Twin::new(|world| world.publish(5, proto::UDP, (5353, 53, 1), 1));
    for sent in [Frame::udp((C1, 40_000), (WORLD, 99)), Frame::tcp((C1, 40_000), (WORLD, 99)).syn()]
    {
        let (_, bytes) = twin.sends(1, &routed(sent.clone(), GATEWAY));
        let port = source_port(&bytes);
        let seen = match bytes[23] {
            proto::UDP => Frame::udp((HOST, port), (WORLD, 99)),
            _ => Frame::tcp((HOST, port), (WORLD, 99)).syn(),
        };
        for (kind, code) in
            [(Icmp::UNREACHABLE, 3), (Icmp::UNREACHABLE, 4), (Icmp::TIME_EXCEEDED, 0)]
        {
            let error = Frame::error("203.0.113.77", HOST, kind, code, &seen, 8);
            let (fate, bytes) = twin.arrives(error);
            assert_eq!(fate, Fate::Redirect);
            assert_eq!(tuple(&bytes, 42), tuple(&sent.build(), 14));
        }
        let optioned = seen.options(&[1, 1, 1, 0]);
        let error = Frame::error(ROUTER, HOST, Icmp::UNREACHABLE, 1, &optioned, 8);
        assert_eq!(twin.arrives(error).0, Fate::Redirect, "a quote with options");
    }
    let (_, bytes) = twin.sends(1, &routed(Frame::echo(C1, WORLD, 7), GATEWAY));
    let seen = Frame::echo(HOST, WORLD, source_port(&bytes));
    let error = Frame::error(ROUTER, HOST, Icmp::TIME_EXCEEDED, 0, &seen, 8);
    assert_eq!(twin.arrives(error).0, Fate::Redirect);

    let request = Frame::udp((WORLD, 7777), (HOST, 5353));
    twin.arrives(request.clone());
    let got = Frame::udp((WORLD, 7777), (C1, 53));
    let refusal = |from| Frame::error(from, WORLD, Icmp::UNREACHABLE, 3, &got, 8);
    let (fate, bytes) = twin.sends(1, &routed(refusal(C1), GATEWAY));
    assert_eq!(fate, Fate::Redirect);
    assert_eq!(tuple(&bytes, 42), tuple(&request.build(), 14));
    let forged = twin.sends(2, &routed(refusal(C2), GATEWAY)).0;
    assert_eq!(forged, dropped(DropReason::CtInvalid));
    let about_nothing = Frame::udp((HOST, 1), (WORLD, 2));
    let error = Frame::error(ROUTER, HOST, Icmp::UNREACHABLE, 1, &about_nothing, 8);
    assert_eq!(twin.arrives(error).0, Fate::Pass, "the host's own");
}

#[test]
fn what_the_kernel_forwards() {
    let twin = Twin::new(|world| {
        world.tables.locals.remove(&ip("172.21.0.1"));
        world.network(2, GATEWAY2, Network::ICC | Network::INTERNAL);
    });
    let own = Frame::udp((HOST, 1), (WORLD, 2));
    assert_eq!(twin.leaves(&own), (Fate::Pass, own.build()));
    let (fate, bytes) = twin.leaves(&Frame::udp((C1, 40_000), (WORLD, 99)));
    assert_eq!((fate, bytes[26..30].to_vec()), (Fate::Pass, vec![198, 51, 100, 1]));
    let first = Frame::udp((C1, 40_009), (WORLD, 99)).fragment(0, true);
    let later = Frame::udp((C1, 40_009), (WORLD, 99)).fragment(16, false);
    assert_eq!(twin.leaves(&first).0, Fate::Pass);
    let (fate, bytes) = twin.leaves(&later);
    assert_eq!((fate, bytes[26..30].to_vec()), (Fate::Pass, vec![198, 51, 100, 1]));
    let orphan = Frame::udp((C1, 1), (WORLD, 99)).fragment(64, false);
    let orphan = Frame { id: 99, ..orphan };
    assert_eq!(twin.leaves(&orphan).0, dropped(DropReason::FragNotFound));
    let internal = Frame::udp((C3, 1), (WORLD, 99));
    assert_eq!(twin.leaves(&internal).0, dropped(DropReason::PolicyInternal));
    let by_hand = Frame::udp(("172.20.9.9", 40_000), (WORLD, 99));
    let (fate, bytes) = twin.leaves(&by_hand);
    assert_eq!(fate, Fate::Pass);
    let (fate, bytes) = twin.arrives(Frame::udp((WORLD, 99), (HOST, source_port(&bytes))));
    assert_eq!((fate, bytes[30..34].to_vec()), (Fate::Pass, vec![172, 20, 9, 9]));
    let error = Frame::error(C1, WORLD, Icmp::UNREACHABLE, 3, &Frame::udp((WORLD, 1), (C1, 2)), 8);
    assert_eq!(twin.leaves(&error).0, dropped(DropReason::Untranslated));
}

#[test]
fn what_the_kernel_sends_to_a_container() {
    let twin = Twin::new(|world| world.icc_off(2));
    let host = Frame::tcp((GATEWAY, 1), (C1, 2)).from_mac(mac(GATEWAY));
    assert_eq!(twin.receives(1, 0, &host).0, Fate::Pass, "the host itself");
    let neighbour = Frame::tcp((C2, 1), (C1, 2));
    assert_eq!(twin.receives(1, veth(2), &neighbour).0, Fate::Pass, "bridged");
    let across = Frame::tcp((C3, 1), (C1, 2)).from_mac(mac(GATEWAY));
    assert_eq!(twin.receives(1, veth(3), &across).0, dropped(DropReason::PolicyIsolation));
    assert_eq!(twin.receives(1, bridge(2), &across).0, dropped(DropReason::PolicyIsolation));
    let outside = Frame::tcp((WORLD, 1), (C1, 2)).from_mac(mac(GATEWAY));
    assert_eq!(twin.receives(1, UPLINK, &outside).0, dropped(DropReason::DirectRoutingBlocked));
    let by_hand = Frame::tcp(("172.21.0.9", 1), (C3, 2));
    assert_eq!(twin.receives(3, UPLINK, &by_hand).0, dropped(DropReason::PolicyIcc));
}

#[test]
fn ports_run_out_by_name_and_evicted_flows_return() {
    let twin = Twin::new(|world| {
        (world.tables.config.masquerade_first, world.tables.config.masquerade_last) =
            (50_000, 50_003);
    });
    let frame = |port| routed(Frame::udp((C1, port), (WORLD, 99)), GATEWAY);
    for port in 50_000..=50_003 {
        assert_eq!(twin.sends(1, &frame(port)).0, Fate::Redirect);
    }
    assert_eq!(twin.sends(1, &frame(1234)).0, dropped(DropReason::NatPortExhausted));
}

#[test]
fn a_container_that_may_spoof() {
    let twin = Twin::new(|world| {
        let endpoint = world.tables.endpoints.get_mut(&veth(1)).expect("c1");
        endpoint.flags |= Endpoint::ALLOW_SPOOF;
    });
    let frame = Frame::tcp(("172.20.0.99", 1), (C2, 2)).from_mac([2, 0, 0, 0, 0, 9]);
    assert_eq!(twin.sends(1, &frame).0, Fate::Redirect);
}
