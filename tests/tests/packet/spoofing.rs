//! Sources that are not the container's own.

use std::net::Ipv4Addr;

use bascule_common::{
    abi::{DropReason, Ip4, NeighbourKey},
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::Frame;

use super::{
    twin::{End, Twin},
    world::{C1, C2, World, interface, mac},
};

fn send(twin: &mut Twin, bytes: Vec<u8>) -> End {
    twin.packet(Walk::FromContainer, FramePacket::new(bytes, interface(1)))
}

/// An ARP message.
fn arp(operation: u8, mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], super::world::mac(C1)].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(ip);
    frame.extend([0; 6]);
    frame.extend([172, 20, 0, 1]);
    frame
}

#[test]
fn a_foreign_mac_is_dropped() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp("172.20.0.2:1", "172.20.0.3:2").macs([2, 0, 0, 0, 0, 9], mac(C2));
    send(&mut twin, frame.bytes()).dropped(DropReason::SpoofedMac);
}

#[test]
fn a_foreign_address_is_dropped() {
    let mut twin = Twin::new(World::new());
    for source in ["172.20.0.3:1", "203.0.113.7:1", "0.0.0.0:1", "127.0.0.1:1"] {
        let frame = Frame::udp(source, "172.20.0.3:2").macs(mac(C1), mac(C2));
        send(&mut twin, frame.bytes()).dropped(DropReason::SpoofedIp);
    }
    let frame = Frame::udp("172.20.0.2:1", "127.0.0.1:2").macs(mac(C1), mac("172.20.0.1"));
    send(&mut twin, frame.bytes()).dropped(DropReason::MartianLoopback);
}

#[test]
fn arp_about_somebody_else_is_dropped() {
    let mut twin = Twin::new(World::new());
    send(&mut twin, arp(1, mac(C1), [172, 20, 0, 2])).passed();
    // RFC 5227: a probe asks with no address.
    send(&mut twin, arp(1, mac(C1), [0; 4])).passed();
    send(&mut twin, arp(2, mac(C1), [172, 20, 0, 1])).dropped(DropReason::SpoofedArp);
    send(&mut twin, arp(2, mac(C2), [172, 20, 0, 2])).dropped(DropReason::SpoofedArp);
    let mut cut = arp(1, mac(C1), [172, 20, 0, 2]);
    cut.truncate(30);
    send(&mut twin, cut).dropped(DropReason::Malformed);
}

#[test]
fn p13_further_addresses_of_the_link_stay_on_it() {
    let world = World::new().with(|tables| {
        for (owner, further) in [(C1, [169, 254, 5, 1]), (C2, [169, 254, 5, 2])] {
            let own: Ipv4Addr = owner.parse().expect("an address");
            let found = tables.four.neighbours.iter().find(|(key, _)| key.address == own.into());
            let (key, value) = found.map(|(key, value)| (*key, *value)).expect("a neighbour");
            let key = NeighbourKey { address: Ip4::new(further), ..key };
            tables.four.neighbours.insert(key, value);
        }
    });
    let mut twin = Twin::new(world);
    let near = |source: &str| Frame::udp(source, "169.254.5.2:2").macs(mac(C1), mac(C2));
    send(&mut twin, near("169.254.5.1:1").bytes()).delivered(2);
    send(&mut twin, near("169.254.5.2:1").bytes()).dropped(DropReason::SpoofedIp);
    send(&mut twin, near("169.254.5.3:1").bytes()).dropped(DropReason::SpoofedIp);
    let away = Frame::udp("169.254.5.1:1", "203.0.113.7:2").macs(mac(C1), mac("172.20.0.1"));
    send(&mut twin, away.bytes()).dropped(DropReason::SpoofedIp);
    send(&mut twin, arp(2, mac(C1), [169, 254, 5, 1])).passed();
    send(&mut twin, arp(2, mac(C1), [169, 254, 5, 2])).dropped(DropReason::SpoofedArp);
}

#[test]
fn an_endpoint_that_may_carry_any_source_may() {
    let world = World::new().with(|tables| {
        let endpoint = tables.endpoints.get_mut(&interface(1)).expect("an endpoint");
        endpoint.flags |= bascule_common::abi::Endpoint::ALLOW_SPOOF;
    });
    let mut twin = Twin::new(world);
    let frame = Frame::udp("172.20.9.9:1", "172.20.0.3:2").macs([2, 0, 0, 0, 0, 9], mac(C2));
    send(&mut twin, frame.bytes()).delivered(2);
    send(&mut twin, arp(2, [2, 0, 0, 0, 0, 9], [172, 20, 9, 9])).passed();
}

#[test]
fn an_unknown_endpoint_is_dropped_until_the_agent_knows_it() {
    let world = World::new().with(|tables| {
        tables.endpoints.remove(&interface(1));
    });
    let mut twin = Twin::new(world);
    let frame = Frame::udp("172.20.0.2:1", "172.20.0.3:2").macs(mac(C1), mac(C2));
    send(&mut twin, frame.bytes()).dropped(DropReason::AgentNotReady);
    let to = FramePacket::new(frame.bytes(), interface(1));
    twin.packet(Walk::ToContainer, to).dropped(DropReason::AgentNotReady);
}
