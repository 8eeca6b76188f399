//! Frames that are cut short, tagged, or something else altogether.

use bascule_common::{
    abi::DropReason,
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::Frame;

use super::{
    twin::Twin,
    world::{C1, C2, ROUTER_MAC, UPLINK, UPLINK_MAC, World, interface, mac},
};

#[test]
fn a_vlan_tag_is_dropped() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp("172.20.0.2:1", "172.20.0.3:2").macs(mac(C1), mac(C2)).vlan(7);
    twin.frame(Walk::FromContainer, interface(1), &frame).dropped(DropReason::Vlan);
}

#[test]
fn another_ethernet_protocol_follows_icc() {
    let mut bytes = [mac(C2), mac(C1)].concat();
    bytes.extend([0x88, 0xb5]);
    bytes.extend([0; 50]);
    let packet = FramePacket::new(bytes, interface(1));
    Twin::new(World::new()).packet(Walk::FromContainer, packet.clone()).passed();
    Twin::new(World::new().icc_off(1))
        .packet(Walk::FromContainer, packet)
        .dropped(DropReason::L2Proto);
}

#[test]
fn every_prefix_of_a_frame_ends_alike() {
    let frames = [
        Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").syn(),
        Frame::udp("172.20.0.2:40000", "203.0.113.7:53"),
        Frame::echo(C1, "203.0.113.7", 9),
        Frame::tcp("172.20.0.2:40000", "172.20.0.3:80").ip_options(&[1, 1, 1, 0]),
        Frame::error(C1, "203.0.113.7", 3, 3, 0, &Frame::udp("203.0.113.7:1", "172.20.0.2:2")),
    ];
    let mut twin = Twin::new(World::new());
    for frame in &frames {
        let bytes = frame.clone().macs(mac(C1), mac("172.20.0.1")).bytes();
        // The kernel's test run wants an IPv4 header behind an Ethernet header that promises one.
        for length in (34..bytes.len()).step_by(3) {
            let packet = FramePacket::new(bytes[..length].to_vec(), interface(1));
            let end = twin.packet(Walk::FromContainer, packet);
            assert!(end.verdict.is_err(), "{length} of {} bytes: {end:?}", bytes.len());
        }
        let uplink = frame.clone().macs(ROUTER_MAC, UPLINK_MAC).bytes();
        for length in (34..uplink.len()).step_by(7) {
            twin.packet(Walk::FromUplink, FramePacket::new(uplink[..length].to_vec(), UPLINK));
        }
    }
}

#[test]
fn contradicting_headers_are_malformed() {
    let mut twin = Twin::new(World::new());
    let good = Frame::udp("172.20.0.2:1", "172.20.0.3:2").macs(mac(C1), mac(C2)).bytes();
    for (at, value) in [
        (14, 0x65), // version 6
        (14, 0x44), // a header of 16 bytes
        (14, 0x4f), // a header longer than the packet
        (16, 0xff), // longer than the frame
        (17, 0x08), // shorter than its header
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        let packet = FramePacket::new(bytes, interface(1));
        twin.packet(Walk::FromContainer, packet).dropped(DropReason::Malformed);
    }
}

#[test]
fn any_bytes_end_alike() {
    // A small generator with a fixed seed: the frames are the same in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds = [
        Frame::tcp("172.20.0.2:40000", "203.0.113.7:80").macs(mac(C1), mac("172.20.0.1")),
        Frame::udp("172.20.0.2:40000", "198.51.100.1:8080").macs(mac(C1), mac("172.20.0.1")),
        Frame::error(C1, C2, 3, 3, 0, &Frame::tcp("172.20.0.3:1", "172.20.0.2:2"))
            .macs(mac(C1), mac(C2)),
    ];
    let mut twin = Twin::new(World::new().publish(1, 17, (8080, 80, 1), 2).icc_off(1));
    for round in 0..300_usize {
        let mut bytes = seeds[round % seeds.len()].bytes();
        for _ in 0..=next() % 4 {
            let at = 12 + usize::try_from(next()).unwrap_or(0) % (bytes.len() - 12);
            // Where the host would route to is a fixture, and not what is tested.
            if !(30..34).contains(&at) {
                bytes[at] = next().to_le_bytes()[0];
            }
        }
        let (walk, at) = match next() % 4 {
            0 => (Walk::FromUplink, UPLINK),
            1 => (Walk::ToContainer, interface(2)),
            _ => (Walk::FromContainer, interface(1)),
        };
        if walk == Walk::FromUplink {
            bytes[..6].copy_from_slice(&UPLINK_MAC);
        }
        twin.packet(walk, FramePacket::new(bytes, at));
    }
}
