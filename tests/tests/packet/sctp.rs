//! SCTP: addresses are translated, ports and the checksum that covers them stay; no port of it is published
//! (P45, MOBY-PM-043, CIL-LB-009).

use bascule_common::abi::DropReason;
use bascule_tests::{
    frame::{Body, Frame, TCP},
    sctp::{self, SCTP},
};

use super::{
    twin::{End, Twin},
    world::{BOTH, C1, C2, C3, Family, HOST, UPLINK, WORLD, World, bridge},
};

fn packet(family: Family, (src, from): (&str, u16), (dst, to): (&str, u16)) -> Frame {
    Frame::raw(&family.ip(src), &family.ip(dst), SCTP, &sctp::init(from, to))
}

/// The SCTP packet in a frame.
fn carried(frame: &Frame) -> &[u8] {
    match &frame.body {
        Body::Raw { proto: SCTP, payload } => payload,
        other => panic!("{other:?} is no SCTP"),
    }
}

/// The frame as it leaves, whoever sends it out: the programs, or the kernel past the one of the uplink.
fn out(twin: &mut Twin, container: u32, frame: &Frame) -> End {
    let end = twin.sends(container, frame);
    match end.verdict {
        Ok(verdict) if verdict.ifindex != UPLINK => twin.leaves(bridge(1), &frame.clone().ttl(63)),
        _ => end,
    }
}

#[test]
fn moby_pm_043_sctp_leaves_with_the_hosts_address_and_its_own_ports() {
    for family in BOTH {
        let mut twin = Twin::new(World::new());
        let sent = packet(family, (C1, 4000), (WORLD, 300));
        let seen = out(&mut twin, 1, &sent).parsed();
        assert_eq!(seen.src.to_string(), family.ip(HOST));
        assert_eq!(carried(&seen), sctp::init(4000, 300), "ports and checksum are the container's");
        assert!(sctp::is_intact(carried(&seen)));
        let back = twin.arrives(&packet(family, (WORLD, 300), (HOST, 4000))).delivered(1);
        assert_eq!(
            (back.dst.to_string(), carried(&back)),
            (family.ip(C1), &*sctp::init(300, 4000))
        );
        // What it implies: a second client with the same port to the same server has to wait.
        let other = packet(family, (C2, 4000), (WORLD, 300));
        out(&mut twin, 2, &other).dropped(DropReason::NatPortExhausted);
        out(&mut twin, 2, &packet(family, (C2, 4001), (WORLD, 300))).parsed();
        // Nobody has asked for this.
        twin.arrives(&packet(family, (WORLD, 301), (HOST, 4000))).passed();
    }
}

#[test]
fn moby_pm_043_no_port_of_sctp_is_published() {
    for family in BOTH {
        let world = World::new().publish_on(family, 1, TCP, (300, 65_000, 1), 1);
        let mut twin = Twin::new(world);
        // TCP's number is TCP's: SCTP to it is the host's.
        twin.arrives(&packet(family, (WORLD, 4000), (HOST, 300))).passed();
        twin.sends(2, &packet(family, (C2, 4000), (HOST, 300))).passed();
        assert!(twin.tables.four.flows.borrow().is_empty());
        assert!(twin.tables.six.flows.borrow().is_empty());
    }
}

#[test]
fn p45_cil_lb_009_sctp_passes_within_a_network_and_nowhere_else_inside() {
    for family in BOTH {
        let near = packet(family, (C1, 4000), (C2, 300));
        let mut twin = Twin::new(World::new());
        assert_eq!(carried(&twin.sends_near(1, &near).delivered(2)), sctp::init(4000, 300));
        twin.sends(1, &packet(family, (C1, 4000), (C3, 300))).dropped(DropReason::PolicyIsolation);
        // One world at a time.
        drop(twin);
        let mut twin = Twin::new(World::new().icc_off(1));
        twin.sends_near(1, &near).dropped(DropReason::PolicyIcc);
    }
}
