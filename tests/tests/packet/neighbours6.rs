//! Within a network, in IPv6: ICC, links, and the way by the gateway.

use bascule_common::{
    abi::DropReason,
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{DESTINATION, Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, C3, UPLINK, World, at6, gateway, interface, link_local, mac, six},
};

fn tcp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::tcp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::udp(&at6(from.0, from.1), &at6(to.0, to.1))
}

fn echo(from: &str, to: &str) -> Frame {
    Frame::echo(&six(from).to_string(), &six(to).to_string(), 7)
}

#[test]
fn s93_neighbours_talk_without_a_change_to_the_frame() {
    let mut twin = Twin::new(World::new());
    let frame = tcp((C1, 40_000), (C2, 80)).syn();
    let seen = twin.sends_near(1, &frame).delivered(2);
    assert_eq!(seen, frame.macs(mac(C1), mac(C2)));
    let (one, two) = (six(C1).to_string(), six(C2).to_string());
    for frame in [
        udp((C1, 1), (C2, 2)),
        udp((C1, 1), (C2, 2)).padding(DESTINATION),
        echo(C1, C2),
        Frame::raw(&one, &two, 47, b"gre"),
        Frame::echo(&link_local(C1), &link_local(C2), 1),
        udp((C1, 1), (C2, 2)).fragments(8)[1].clone(),
    ] {
        let seen = twin.sends_near(1, &frame).delivered(2);
        assert_eq!(seen, frame.macs(mac(C1), mac(C2)));
    }
    assert!(twin.tables.six.flows.borrow().is_empty(), "and nothing is tracked");
}

#[test]
fn a_neighbour_addressed_by_the_gateway_is_one_hop_away() {
    let mut twin = Twin::new(World::new());
    let frame = tcp((C1, 40_000), (C2, 80));
    let seen = twin.sends(1, &frame).delivered(2);
    assert_eq!(seen, frame.clone().macs(mac(&gateway(C1)), mac(C2)).ttl(63));
    let expired = twin.sends(1, &frame.ttl(1)).answered(3, 0);
    assert_eq!((expired.src, expired.dst), (six(&gateway(C1)).into(), six(C1).into()));
}

#[test]
fn s94_another_network_is_out_of_reach() {
    let mut twin = Twin::new(World::new());
    twin.sends(1, &tcp((C1, 40_000), (C3, 80)).syn()).dropped(DropReason::PolicyIsolation);
    twin.sends(1, &echo(C1, C3)).dropped(DropReason::PolicyIsolation);
    twin.sends(1, &echo(C1, "172.21.9.9")).dropped(DropReason::PolicyIsolation);
}

#[test]
fn s96_with_icc_off_nothing_passes() {
    let mut twin = Twin::new(World::new().icc_off(1));
    let (one, two) = (six(C1).to_string(), six(C2).to_string());
    for frame in [
        tcp((C1, 40_000), (C2, 80)).syn(),
        udp((C1, 1), (C2, 2)),
        udp((C1, 1), (C2, 2)).padding(DESTINATION),
        echo(C1, C2),
        Frame::raw(&one, &two, 47, b"gre"),
        Frame::echo(&link_local(C1), &link_local(C2), 1),
        echo(C1, "172.20.9.9"),
    ] {
        twin.sends_near(1, &frame).dropped(DropReason::PolicyIcc);
    }
    twin.sends(1, &echo(C1, C2)).dropped(DropReason::PolicyIcc);
}

#[test]
fn s97_a_link_opens_its_port_and_the_answers() {
    let world = World::new().icc_off(1).link(1, 2, TCP, 80).link(1, 2, UDP, 53);
    let mut twin = Twin::new(world);
    twin.sends_near(1, &tcp((C1, 40_000), (C2, 80)).syn()).delivered(2);
    twin.sends_near(2, &tcp((C2, 80), (C1, 40_000)).syn_ack()).delivered(1);
    twin.sends_near(1, &udp((C1, 40_000), (C2, 53)).padding(DESTINATION)).delivered(2);
    twin.sends_near(2, &udp((C2, 53), (C1, 40_000))).delivered(1);
    // Appendix D9: a bare SYN from the served port is no answer.
    twin.sends_near(2, &tcp((C2, 80), (C1, 22)).syn()).dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &tcp((C1, 40_000), (C2, 81)).syn()).dropped(DropReason::PolicyIcc);
    twin.sends_near(1, &echo(C1, C2)).dropped(DropReason::PolicyIcc);
    // An error about what the link opened, and one about what it did not.
    let (one, two) = (six(C1).to_string(), six(C2).to_string());
    let open = Frame::error(&two, &one, 1, 4, 0, &udp((C1, 40_000), (C2, 53)));
    twin.sends_near(2, &open).delivered(1);
    let closed = Frame::error(&two, &one, 1, 4, 0, &udp((C1, 40_000), (C2, 54)));
    twin.sends_near(2, &closed).dropped(DropReason::PolicyIcc);
}

#[test]
fn with_icc_off_fragments_follow_their_first_one() {
    let mut twin = Twin::new(World::new().icc_off(1).link(1, 2, UDP, 53));
    let open = udp((C1, 40_000), (C2, 53)).data(&[7; 100]).fragments(48);
    twin.sends_near(1, &open[1]).dropped(DropReason::FragNotFound);
    for part in &open {
        twin.sends_near(1, part).delivered(2);
    }
}

#[test]
fn multicast_follows_icc() {
    let frame = Frame::udp(&at6(C1, 5353), "[ff02::fb]:5353");
    Twin::new(World::new()).sends_near(1, &frame).passed();
    Twin::new(World::new().icc_off(1)).sends_near(1, &frame).dropped(DropReason::Multicast);
    // Routed by way of the gateway's station, a group is nobody's.
    let wide = Frame::udp(&at6(C1, 5353), "[ff0e::fb]:5353");
    Twin::new(World::new()).sends(1, &wide).dropped(DropReason::Multicast);
}

#[test]
fn what_the_kernel_itself_delivers_is_judged_alike() {
    let mut twin = Twin::new(World::new().icc_off(1));
    let mut arrives = |frame: &Frame, by: u32| {
        let mut packet = FramePacket::new(frame.bytes(), interface(2));
        packet.arrived_by = by;
        twin.packet(Walk::ToContainer, packet)
    };
    let own = gateway(C1);
    arrives(&tcp((&own, 40_000), (C2, 80)).macs(mac(&own), mac(C2)), 0).passed();
    arrives(&tcp((C1, 40_000), (C2, 80)).macs(mac(C1), mac(C2)), interface(1))
        .dropped(DropReason::PolicyIcc);
    arrives(&tcp((C3, 40_000), (C2, 80)).macs(mac(&own), mac(C2)), interface(3))
        .dropped(DropReason::PolicyIsolation);
    arrives(&tcp(("203.0.113.7", 40_000), (C2, 80)).macs(mac(&own), mac(C2)), UPLINK)
        .dropped(DropReason::DirectRoutingBlocked);
}
