//! Fragments through translations.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{Frame, MF, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, HOST, World},
};

/// Three fragments of a datagram.
fn parts(src: &str, dst: &str) -> Vec<Frame> {
    Frame::udp(src, dst).data(&[7; 100]).fragment(0).id(0x77).fragments(48)
}

#[test]
fn leave_together_and_come_back_together() {
    let mut twin = Twin::new(World::new());
    let mut port = 0;
    for (index, part) in parts("172.20.0.2:40000", "203.0.113.7:53").iter().enumerate() {
        let end = twin.sends(1, part);
        let seen = end.left();
        assert_eq!(seen.src.to_string(), HOST);
        if index == 0 {
            port = u16::from_be_bytes([end.bytes[34], end.bytes[35]]);
        }
    }
    for part in parts("203.0.113.7:53", &format!("{HOST}:{port}")) {
        assert_eq!(twin.arrives(&part).delivered(1).dst.to_string(), C1);
    }
}

#[test]
fn cil_frg_002_of_a_published_port_arrive_together() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1));
    for part in parts("203.0.113.7:4000", "198.51.100.1:53") {
        assert_eq!(twin.arrives(&part).delivered(1).dst.to_string(), C1);
    }
    for part in parts("172.20.0.2:5353", "203.0.113.7:4000") {
        assert_eq!(twin.sends(1, &part).left().src.to_string(), HOST);
    }
}

#[test]
fn without_their_first_one_are_lost() {
    let mut twin = Twin::new(World::new());
    let parts = parts("172.20.0.2:40000", "203.0.113.7:53");
    twin.sends(1, &parts[1]).dropped(DropReason::FragNotFound);
    twin.sends(1, &parts[0]).left();
    twin.sends(1, &parts[2]).left();
    // For the host itself they are the host's to wait for.
    let theirs = Frame::udp("203.0.113.7:1", "198.51.100.1:2").fragment(0).data(&[7; 100]);
    twin.arrives(&theirs.fragments(48)[1]).passed();
}

#[test]
fn appendix_d6_overlapping_ones_change_nobodys_mind() {
    let mut twin =
        Twin::new(World::new().publish(1, UDP, (53, 5353, 1), 1).publish(2, UDP, (54, 53, 1), 2));
    let [first, middle, last] = &parts("203.0.113.7:4000", "198.51.100.1:53")[..] else {
        panic!("three fragments");
    };
    twin.arrives(first).delivered(1);
    // Over the ports, over what was there, and what was there once more: all goes where the first one went, for the
    // container's own stack to judge (Linux drops such a datagram).
    let over = |units: u16| last.clone().fragment(MF | units);
    for part in [&over(1), middle, &over(3), middle, last] {
        assert_eq!(twin.arrives(part).delivered(1).dst.to_string(), C1);
    }
    // A second beginning, to another port: it goes where it asks to, and what follows follows it.
    let second = &parts("203.0.113.7:4000", "198.51.100.1:54")[0];
    assert_eq!(twin.arrives(second).delivered(2).dst.to_string(), C2);
    assert_eq!(twin.arrives(middle).delivered(2).dst.to_string(), C2);
    // To one that is not published: that is the host's, and nothing of it is a container's.
    let closed = &parts("203.0.113.7:4000", "198.51.100.1:55")[0];
    twin.arrives(closed).passed();
}

#[test]
fn within_a_network_are_nobodys_business() {
    let mut twin = Twin::new(World::new());
    for part in parts("172.20.0.2:40000", "172.20.0.3:53").iter().rev() {
        twin.sends_near(1, part).delivered(2);
    }
}

#[test]
fn with_icc_off_follow_their_first_one() {
    let mut twin = Twin::new(World::new().icc_off(1).link(1, 2, UDP, 53));
    let open = parts("172.20.0.2:40000", "172.20.0.3:53");
    twin.sends_near(1, &open[1]).dropped(DropReason::FragNotFound);
    for part in &open {
        twin.sends_near(1, part).delivered(2);
    }
    let closed = Frame::udp("172.20.0.2:40000", "172.20.0.3:54").data(&[7; 100]).id(0x78);
    twin.sends_near(1, &closed.fragments(48)[0]).dropped(DropReason::PolicyIcc);
}
