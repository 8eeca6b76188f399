//! Within a network: ICC, links, and the way by the gateway.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, C3, UPLINK, World, interface, mac},
};

fn tcp(from: &str, to: &str) -> Frame {
    Frame::tcp(from, to)
}

#[test]
fn s93_neighbours_talk_without_a_change_to_the_frame() {
    let mut twin = Twin::new(World::new());
    let frame = tcp("172.20.0.2:40000", "172.20.0.3:80").syn();
    let seen = twin.sends_near(1, &frame).delivered(2);
    assert_eq!(seen, frame.macs(mac(C1), mac(C2)));
    assert!(twin.tables.four.flows.borrow().is_empty(), "and nothing is tracked");
    twin.sends_near(1, &Frame::udp("172.20.0.2:1", "172.20.0.3:2")).delivered(2);
    twin.sends_near(1, &Frame::echo(C1, C2, 7)).delivered(2);
    twin.sends_near(1, &Frame::raw(C1, C2, 47, b"gre")).delivered(2);
}

#[test]
fn a_neighbour_addressed_by_the_gateway_is_one_hop_away() {
    let mut twin = Twin::new(World::new());
    let frame = tcp("172.20.0.2:40000", "172.20.0.3:80");
    let seen = twin.sends(1, &frame).delivered(2);
    assert_eq!(seen, frame.macs(mac("172.20.0.1"), mac(C2)).ttl(63));
    let expired = twin.sends(1, &tcp("172.20.0.2:40000", "172.20.0.3:80").ttl(1)).answered(11, 0);
    assert_eq!(
        (expired.src.to_string(), expired.dst.to_string()),
        ("172.20.0.1".into(), C1.into())
    );
}

#[test]
fn s94_another_network_is_out_of_reach() {
    let mut twin = Twin::new(World::new());
    twin.sends(1, &tcp("172.20.0.2:40000", "172.21.0.2:80").syn())
        .dropped(DropReason::PolicyIsolation);
    twin.sends(1, &Frame::echo(C1, C3, 1)).dropped(DropReason::PolicyIsolation);
    // An address of the other network that nobody has.
    twin.sends(1, &Frame::echo(C1, "172.21.9.9", 1)).dropped(DropReason::PolicyIsolation);
}

#[test]
fn moby_icc_014_s96_with_icc_off_nothing_passes() {
    let mut twin = Twin::new(World::new().icc_off(1));
    twin.sends_near(1, &tcp("172.20.0.2:40000", "172.20.0.3:80").syn())
        .dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &Frame::udp("172.20.0.2:1", "172.20.0.3:2")).dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &Frame::echo(C1, C2, 1)).dropped(DropReason::PolicyIcc);
    twin.sends(1, &Frame::echo(C1, C2, 1)).dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &Frame::raw(C1, C2, 47, b"gre")).dropped(DropReason::PolicyIcc);
    // Nobody has the address, and with ICC off nobody is told.
    twin.sends_near(1, &Frame::echo(C1, "172.20.9.9", 1)).dropped(DropReason::PolicyIcc);
}

#[test]
fn s97_a_link_opens_its_port_and_the_answers() {
    let world = World::new().icc_off(1).link(1, 2, TCP, 80).link(1, 2, UDP, 53);
    let mut twin = Twin::new(world);
    twin.sends_near(1, &tcp("172.20.0.2:40000", "172.20.0.3:80").syn()).delivered(2);
    twin.sends_near(2, &tcp("172.20.0.3:80", "172.20.0.2:40000").syn_ack()).delivered(1);
    twin.sends_near(2, &tcp("172.20.0.3:80", "172.20.0.2:40000").rst()).delivered(1);
    twin.sends_near(1, &Frame::udp("172.20.0.2:40000", "172.20.0.3:53")).delivered(2);
    twin.sends_near(2, &Frame::udp("172.20.0.3:53", "172.20.0.2:40000")).delivered(1);
    // Appendix D9: a bare SYN from the served port is no answer.
    twin.sends_near(2, &tcp("172.20.0.3:80", "172.20.0.2:22").syn()).dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &tcp("172.20.0.2:40000", "172.20.0.3:81").syn())
        .dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &Frame::udp("172.20.0.2:40000", "172.20.0.3:80"))
        .dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &Frame::echo(C1, C2, 1)).dropped(DropReason::PolicyIcc);
}

#[test]
fn an_error_about_linked_traffic_passes_and_others_do_not() {
    let mut twin = Twin::new(World::new().icc_off(1).link(1, 2, UDP, 53));
    let about = Frame::udp("172.20.0.2:40000", "172.20.0.3:53");
    twin.sends_near(2, &Frame::error(C2, C1, 3, 3, 0, &about)).delivered(1);
    let about = Frame::udp("172.20.0.2:40000", "172.20.0.3:54");
    twin.sends_near(2, &Frame::error(C2, C1, 3, 3, 0, &about)).dropped(DropReason::PolicyIcc);
}

#[test]
fn broadcast_and_multicast_follow_icc() {
    let frames = [
        Frame::udp("172.20.0.2:68", "255.255.255.255:67").macs(mac(C1), [0xff; 6]),
        Frame::udp("172.20.0.2:5353", "224.0.0.251:5353").macs(mac(C1), [1, 0, 0x5e, 0, 0, 0xfb]),
    ];
    let walk = bascule_common::testing::Walk::FromContainer;
    let mut twin = Twin::new(World::new());
    for frame in &frames {
        twin.frame(walk, interface(1), frame).passed();
    }
    drop(twin);
    let mut twin = Twin::new(World::new().icc_off(1));
    for frame in &frames {
        twin.frame(walk, interface(1), frame).dropped(DropReason::Multicast);
    }
}

#[test]
fn what_the_kernel_itself_delivers_is_judged_alike() {
    let walk = bascule_common::testing::Walk::ToContainer;
    let mut twin = Twin::new(World::new().icc_off(1));
    let arrived = |frame: &Frame, by: u32| {
        let mut packet = bascule_common::testing::FramePacket::new(frame.bytes(), interface(2));
        packet.arrived_by = by;
        packet
    };
    // From the host itself.
    let frame = tcp("172.20.0.1:40000", "172.20.0.3:80").macs(mac("172.20.0.1"), mac(C2));
    twin.packet(walk, arrived(&frame, 0)).passed();
    // Bridged from a neighbour, routed from another network, routed from outside.
    let frame = tcp("172.20.0.2:40000", "172.20.0.3:80").macs(mac(C1), mac(C2));
    twin.packet(walk, arrived(&frame, interface(1))).dropped(DropReason::PolicyIcc);
    let frame = tcp("172.21.0.2:40000", "172.20.0.3:80").macs(mac("172.20.0.1"), mac(C2));
    twin.packet(walk, arrived(&frame, interface(3))).dropped(DropReason::PolicyIsolation);
    let frame = tcp("203.0.113.7:40000", "172.20.0.3:80").macs(mac("172.20.0.1"), mac(C2));
    twin.packet(walk, arrived(&frame, UPLINK)).dropped(DropReason::DirectRoutingBlocked);
}
