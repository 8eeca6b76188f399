//! IPv6 sources and neighbour discovery that are not the container's own.

use bascule_common::{
    abi::{DropReason, Endpoint},
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{DESTINATION, Frame, HOP_BY_HOP};

use super::{
    twin::{End, Twin},
    world::{C1, C2, WORLD, World, at6, gateway, interface, link_local, mac, six},
};

const ALL_NODES: &str = "ff02::1";
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

/// A solicitation or an advertisement: type, target, and an option with an Ethernet address.
fn about(src: &str, dst: &str, kind: u8, target: &str, option: Option<(u8, &str)>) -> Frame {
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    let mut body = target.octets().to_vec();
    if let Some((option, owner)) = option {
        body.extend([option, 1]);
        body.extend(mac(owner));
    }
    Frame::icmp(src, dst, kind, [0x20, 0, 0, 0], &body).ttl(255)
}

fn advertisement(target: &str, owner: &str) -> Frame {
    about(&link_local(C1), ALL_NODES, 136, target, Some((TARGET, owner)))
}

#[test]
fn a_foreign_address_is_dropped() {
    let mut twin = Twin::new(World::new());
    for source in [six(C2).to_string(), six(WORLD).to_string(), link_local(C2), "::1".into()] {
        let frame = Frame::udp(&format!("[{source}]:1"), &at6(C2, 2));
        twin.sends_near(1, &frame).dropped(DropReason::SpoofedIp);
        twin.sends(1, &frame).dropped(DropReason::SpoofedIp);
    }
    let frame = Frame::udp(&at6(C1, 1), &at6(C2, 2)).macs([2, 0, 0, 0, 0, 9], mac(C2));
    twin.frame(Walk::FromContainer, interface(1), &frame).dropped(DropReason::SpoofedMac);
    twin.sends(1, &Frame::udp(&at6(C1, 1), "[::1]:2")).dropped(DropReason::MartianLoopback);
}

#[test]
fn no_address_is_for_discovery_alone() {
    let mut twin = Twin::new(World::new());
    // Duplicate address detection, and a listener report of a router alert's.
    twin.sends_near(1, &about("::", "ff02::1:ff00:2", 135, &six(C1).to_string(), None)).passed();
    let report = Frame::icmp("::", "ff02::16", 143, [0; 4], &[])
        .extension(HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]);
    twin.sends_near(1, &report).passed();
    for frame in [
        Frame::udp("[::]:546", "[ff02::1:2]:547"),
        Frame::echo("::", ALL_NODES, 1),
        Frame::icmp("::", ALL_NODES, 1, [0; 4], &[0; 48]),
    ] {
        twin.sends_near(1, &frame).dropped(DropReason::SpoofedIp);
    }
    twin.sends(1, &Frame::udp("[::]:546", &at6(WORLD, 547))).dropped(DropReason::SpoofedIp);
    twin.sends(1, &Frame::tcp("[::]:546", &at6(C2, 547))).dropped(DropReason::SpoofedIp);
}

#[test]
fn a_link_local_source_is_not_routed() {
    let mut twin = Twin::new(World::new());
    let own = format!("[{}]:1", link_local(C1));
    twin.sends(1, &Frame::udp(&own, &at6(WORLD, 2))).dropped(DropReason::UnsupportedProto);
    twin.sends(1, &Frame::udp(&own, &at6("172.21.0.2", 2))).dropped(DropReason::UnsupportedProto);
    // The gateway is on the link.
    let router = format!("[{}]:53", link_local(&gateway(C1)));
    twin.sends(1, &Frame::udp(&own, &router)).passed();
    twin.sends(1, &Frame::udp(&own, &at6(&gateway(C1), 53))).passed();
}

#[test]
fn s64_solicitations_name_their_sender() {
    let mut twin = Twin::new(World::new());
    let target = six(C2).to_string();
    for source in [six(C1).to_string(), link_local(C1)] {
        let ask = |owner| about(&source, "ff02::1:ff00:3", 135, &target, Some((SOURCE, owner)));
        // Straight to whom it is about: the host's firewall has no say in it.
        twin.sends_near(1, &ask(C1)).delivered(2);
        twin.sends_near(1, &ask(C2)).dropped(DropReason::SpoofedNd);
    }
    let routers = Frame::icmp(&link_local(C1), "ff02::2", 133, [0; 4], &[]).ttl(255);
    twin.sends_near(1, &routers).passed();
}

#[test]
fn s64_advertisements_are_about_oneself() {
    let mut twin = Twin::new(World::new());
    let (own, other) = (six(C1).to_string(), six(C2).to_string());
    for target in [own.clone(), link_local(C1)] {
        twin.sends_near(1, &advertisement(&target, C1)).passed();
        twin.sends_near(1, &advertisement(&target, C2)).dropped(DropReason::SpoofedNd);
    }
    for target in [other, link_local(C2), six(&gateway(C1)).to_string()] {
        let forged = advertisement(&target, C1);
        twin.sends_near(1, &forged).dropped(DropReason::SpoofedNd);
        twin.sends_near(1, &forged.clone().padding(DESTINATION)).dropped(DropReason::SpoofedNd);
        twin.sends_near(1, &forged.clone().padding(HOP_BY_HOP).padding(DESTINATION))
            .dropped(DropReason::SpoofedNd);
        // To one victim, and to the gateway.
        let mut one = about(&own, &six(C2).to_string(), 136, &target, Some((TARGET, C1)));
        twin.sends_near(1, &one).dropped(DropReason::SpoofedNd);
        one.dst = six(&gateway(C1)).into();
        twin.sends(1, &one).dropped(DropReason::SpoofedNd);
    }
    // Without the option nothing says whose it is.
    let bare = about(&own, ALL_NODES, 136, &own, None);
    twin.sends_near(1, &bare).dropped(DropReason::SpoofedNd);
}

#[test]
fn s64_containers_are_no_routers() {
    let mut twin = Twin::new(World::new());
    for kind in [134, 137] {
        let frame = Frame::icmp(&link_local(C1), ALL_NODES, kind, [0; 4], &[0; 32]).ttl(255);
        for frame in
            [frame.clone(), frame.clone().padding(DESTINATION), frame.fragment6(0, false, 1)]
        {
            twin.sends_near(1, &frame).dropped(DropReason::SpoofedNd);
        }
    }
}

#[test]
fn s64_rfc_6980_discovery_in_fragments_is_refused() {
    let mut twin = Twin::new(World::new());
    // RFC 6980, even about oneself: nobody sees what else there is.
    let parts = advertisement(&six(C1).to_string(), C1).fragments(24);
    twin.sends_near(1, &parts[0]).dropped(DropReason::SpoofedNd);
    // One fragment that is the whole of it (RFC 6946), and other headers in front.
    let (own, other) = (advertisement(&six(C1).to_string(), C1), six(C2).to_string());
    let ask = about(&link_local(C1), "ff02::1:ff00:3", 135, &other, Some((SOURCE, C1)));
    for message in [own, ask] {
        twin.sends_near(1, &message.clone().fragment6(0, false, 7)).dropped(DropReason::SpoofedNd);
        twin.sends_near(1, &message.clone().padding(HOP_BY_HOP)).dropped(DropReason::SpoofedNd);
        twin.sends_near(1, &message).verdict.expect("as it is, it passes");
    }
    // The headers alone first, the message later (RFC 7112).
    let mut first = Frame::raw(&link_local(C1), ALL_NODES, 58, &[]).fragment6(0, true, 9);
    first = first.padding(DESTINATION);
    twin.sends_near(1, &first).dropped(DropReason::Malformed);
}

#[test]
fn listener_messages_pass() {
    let mut twin = Twin::new(World::new());
    for kind in [131, 132, 143] {
        let alert = [0, 5, 2, 0, 0, 1, 0];
        let frame = Frame::icmp(&link_local(C1), "ff02::16", kind, [0; 4], &[0; 16])
            .extension(HOP_BY_HOP, &alert);
        twin.sends_near(1, &frame).passed();
    }
}

#[test]
fn an_endpoint_that_may_carry_any_source_may() {
    let world = World::new().with(|tables| {
        let endpoint = tables.endpoints.get_mut(&interface(1)).expect("an endpoint");
        endpoint.flags |= Endpoint::ALLOW_SPOOF;
    });
    let mut twin = Twin::new(world);
    twin.sends_near(1, &Frame::udp(&at6("172.20.9.9", 1), &at6(C2, 2))).delivered(2);
    twin.sends_near(1, &advertisement(&six(C2).to_string(), C1)).passed();
}

#[test]
fn every_prefix_of_a_frame_ends_alike() {
    let frames = [
        Frame::tcp(&at6(C1, 40_000), &at6(WORLD, 80)).syn(),
        Frame::udp(&at6(C1, 40_000), &at6(WORLD, 53)).padding(HOP_BY_HOP).authentication(),
        advertisement(&six(C1).to_string(), C1),
        Frame::error(
            &six(C1).to_string(),
            &six(WORLD).to_string(),
            1,
            4,
            0,
            &Frame::udp(&at6(WORLD, 1), &at6(C1, 2)),
        ),
    ];
    let mut twin = Twin::new(World::new());
    for frame in &frames {
        let bytes = frame.clone().macs(mac(C1), mac(&gateway(C1))).bytes();
        for length in (54..bytes.len()).step_by(5) {
            let end = send(&mut twin, bytes[..length].to_vec());
            end.dropped(DropReason::Malformed);
        }
    }
}

fn send(twin: &mut Twin, bytes: Vec<u8>) -> End {
    twin.packet(Walk::FromContainer, FramePacket::new(bytes, interface(1)))
}
