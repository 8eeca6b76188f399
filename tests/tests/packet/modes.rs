//! Gateway modes, in both families: networks that are routed, published ports that are addressed directly, networks
//! without protection, trusted interfaces, and the mark that opens everything.

use bascule_common::{
    abi::{DropReason, Network, TrustKey},
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::{End, Twin},
    world::{BOTH, C1, C3, C4, C5, Family, ROUTER_MAC, UPLINK, UPLINK_MAC, WORLD, World},
};

const BLOCKED: DropReason = DropReason::DirectRoutingBlocked;

fn routed(family: Family) -> u32 {
    family.of(Network::ROUTED4, Network::ROUTED6)
}

fn direct(family: Family) -> u32 {
    family.of(Network::DIRECT4, Network::DIRECT6)
}

fn unprotected(family: Family) -> u32 {
    family.of(Network::UNPROTECTED4, Network::UNPROTECTED6)
}

/// A world in which a network has these flags more, and no masquerade.
fn with_flags(network: u32, flags: u32) -> World {
    World::new().with(|tables| {
        let network = tables.networks.get_mut(&network).expect("a network");
        network.flags &= !(Network::MASQUERADE4 | Network::MASQUERADE6);
        network.flags |= flags;
    })
}

fn tcp(family: Family, from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::tcp(&family.at(from.0, from.1), &family.at(to.0, to.1))
}

fn echo(family: Family, from: &str, to: &str) -> Frame {
    Frame::echo(&family.ip(from), &family.ip(to), 7)
}

#[test]
fn a_routed_network_answers_pings_from_outside() {
    for family in BOTH {
        let mut twin = Twin::new(with_flags(1, routed(family)));
        let seen = twin.arrives(&echo(family, WORLD, C1)).delivered(1);
        assert_eq!((seen.dst.to_string(), seen.ttl), (family.ip(C1), 63));
        let answer = Frame::echo_reply(&family.ip(C1), &family.ip(WORLD), 7);
        assert_eq!(twin.sends(1, &answer).left().src.to_string(), family.ip(C1));
        twin.arrives(&tcp(family, (WORLD, 1), (C1, 80)).syn()).dropped(BLOCKED);
        // Nobody has the address; a network that is not routed; the other family.
        twin.arrives(&echo(family, WORLD, "172.20.9.9")).dropped(BLOCKED);
        twin.arrives(&echo(family, WORLD, C3)).dropped(BLOCKED);
        let other = family.of(Family::Six, Family::Four);
        twin.arrives(&echo(other, WORLD, C1)).dropped(BLOCKED);
    }
}

#[test]
fn a_routed_network_is_reached_from_other_networks() {
    for family in BOTH {
        let mut twin = Twin::new(with_flags(2, routed(family)));
        let seen = twin.sends(1, &echo(family, C1, C3)).delivered(3);
        assert_eq!((seen.src.to_string(), seen.ttl), (family.ip(C1), 63));
        let answer = Frame::echo_reply(&family.ip(C3), &family.ip(C1), 7);
        twin.sends(3, &answer).delivered(1);
        twin.sends(1, &tcp(family, (C1, 1), (C3, 80)).syn()).dropped(DropReason::PolicyIsolation);
        // Not the other way, and not from an internal network.
        twin.sends(3, &echo(family, C3, C5)).dropped(DropReason::PolicyIsolation);
        twin.sends(4, &echo(family, "172.22.0.2", C3)).dropped(DropReason::PolicyIsolation);
    }
}

#[test]
fn a_routed_networks_published_ports_are_open_at_the_containers_address() {
    for family in BOTH {
        let flags = routed(family) | direct(family);
        let world = with_flags(1, flags).publish_on(family, 1, TCP, (8080, 80, 1), 1).served(1);
        let mut twin = Twin::new(world);
        let seen = twin.arrives(&tcp(family, (WORLD, 40_000), (C1, 80)).syn()).delivered(1);
        assert_eq!(seen.ports(), Some((40_000, 80)));
        let seen = twin.sends(1, &tcp(family, (C1, 80), (WORLD, 40_000)).syn_ack()).left();
        assert_eq!((seen.src.to_string(), seen.ports()), (family.ip(C1), Some((80, 40_000))));
        let rules = twin.tables.rule_stats.borrow()[&1];
        assert_eq!((rules.received.packets, rules.sent.packets, rules.connections), (1, 1, 1));
        twin.arrives(&tcp(family, (WORLD, 40_000), (C1, 81)).syn()).dropped(BLOCKED);
        twin.arrives(&tcp(family, (WORLD, 40_000), (C1, 8080)).syn()).dropped(BLOCKED);
        twin.arrives(&Frame::udp(&family.at(WORLD, 1), &family.at(C1, 80))).dropped(BLOCKED);
        // An answer whose flow was lost keeps the address that the client asked.
        twin.change(|tables| {
            tables.four.flows.borrow_mut().clear();
            tables.six.flows.borrow_mut().clear();
        });
        let seen = twin.sends(1, &tcp(family, (C1, 80), (WORLD, 40_000))).left();
        assert_eq!((seen.src.to_string(), seen.ports()), (family.ip(C1), Some((80, 40_000))));
        // From another network of the host too.
        twin.sends(3, &tcp(family, (C3, 40_000), (C1, 80)).syn()).delivered(1);
        twin.sends(3, &tcp(family, (C3, 40_000), (C1, 81)).syn())
            .dropped(DropReason::PolicyIsolation);
        // Sources that no packet from outside can have.
        twin.arrives(&tcp(family, (C3, 1), (C1, 80)).syn()).dropped(DropReason::SpoofedIp);
    }
}

#[test]
fn without_protection_everything_comes_in_and_answers() {
    for family in BOTH {
        let world = with_flags(1, unprotected(family));
        let mut twin = Twin::new(world);
        for frame in [
            tcp(family, (WORLD, 40_000), (C1, 22)).syn(),
            Frame::udp(&family.at(WORLD, 1), &family.at(C1, 2)),
            echo(family, WORLD, C1),
            Frame::raw(&family.ip(WORLD), &family.ip(C1), 47, b"gre"),
        ] {
            twin.arrives(&frame).delivered(1);
        }
        twin.sends(1, &tcp(family, (C1, 22), (WORLD, 40_000)).syn_ack()).left();
        let other = family.of(Family::Six, Family::Four);
        twin.arrives(&tcp(other, (WORLD, 40_000), (C1, 22)).syn()).dropped(BLOCKED);
        // Other networks stay apart, where it is not routed.
        twin.sends(3, &echo(family, C3, C1)).dropped(DropReason::PolicyIsolation);
    }
}

#[test]
fn a_trusted_interface_comes_in() {
    for family in BOTH {
        let world = with_flags(1, Network::HAS_TRUSTED);
        let mut twin = Twin::new(world);
        let frame = tcp(family, (WORLD, 40_000), (C1, 22)).syn();
        twin.arrives(&frame).dropped(BLOCKED);
        twin.change(|tables| {
            tables.trusted.insert(TrustKey { network: 1, ifindex: UPLINK }, 1);
        });
        twin.arrives(&frame).delivered(1);
        twin.arrives(&tcp(family, (WORLD, 40_000), (C3, 22)).syn()).dropped(BLOCKED);
    }
}

#[test]
fn the_accepted_mark_comes_in() {
    for family in BOTH {
        let world = World::new().with(|tables| {
            (tables.config.accept_mark, tables.config.accept_mark_mask) = (0x10, 0xf0);
        });
        let mut twin = Twin::new(world);
        let mut marked = |mark: u32, port: u16| -> End {
            let frame = tcp(family, (WORLD, port), (C1, 22)).syn().macs(ROUTER_MAC, UPLINK_MAC);
            let mut packet = FramePacket::new(frame.bytes(), UPLINK);
            packet.mark = mark;
            twin.packet(Walk::FromUplink, packet)
        };
        marked(0, 1).dropped(BLOCKED);
        marked(0x20, 2).dropped(BLOCKED);
        marked(0x1f, 3).delivered(1);
        // Of a flow that exists, no packet needs a mark.
        marked(0, 3).delivered(1);
    }
}

#[test]
fn fragments_to_a_container_follow_their_first_one() {
    for family in BOTH {
        let flags = routed(family) | direct(family);
        let world = with_flags(1, flags).publish_on(family, 1, UDP, (53, 53, 1), 1).served(1);
        let mut twin = Twin::new(world);
        let whole = Frame::udp(&family.at(WORLD, 1), &family.at(C1, 53)).data(&[7; 100]);
        let parts = whole.fragment(0).fragments(48);
        twin.arrives(&parts[1]).dropped(DropReason::FragNotFound);
        for part in &parts {
            twin.arrives(part).delivered(1);
        }
        assert_eq!(twin.tables.endpoint_stats.borrow()[&1].received.packets, 3);
    }
}

#[test]
fn an_internal_network_is_not_addressed_from_outside_whatever_its_mode() {
    for family in BOTH {
        let all = routed(family) | direct(family) | unprotected(family) | Network::HAS_TRUSTED;
        let world = with_flags(3, all).publish_on(family, 1, TCP, (8080, 80, 1), 4).served(1);
        let mut twin = Twin::new(world.with(|tables| {
            tables.trusted.insert(TrustKey { network: 3, ifindex: UPLINK }, 1);
            (tables.config.accept_mark, tables.config.accept_mark_mask) = (1, 1);
        }));
        for frame in [
            tcp(family, (WORLD, 40_000), (C4, 80)).syn(),
            Frame::udp(&family.at(WORLD, 1), &family.at(C4, 2)),
            echo(family, WORLD, C4),
        ] {
            let frame = frame.macs(ROUTER_MAC, UPLINK_MAC);
            let mut packet = FramePacket::new(frame.bytes(), UPLINK);
            packet.mark = 1;
            twin.packet(Walk::FromUplink, packet).dropped(BLOCKED);
        }
    }
}
