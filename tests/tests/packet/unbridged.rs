//! Networks without a bridge: neighbours are answered for, the host gets what is for it, and what the host sends
//! finds its container.

use bascule_common::{
    abi::{DropReason, Local, Network},
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{Body, DESTINATION, Frame};

use super::{
    twin::{End, Twin},
    world::{
        BOTH, C1, C2, C3, Family, WORLD, World, bridge, gateway, interface, ip, link_local, mac,
        six,
    },
};

const SOURCE: (u8, u8) = (1, 1);
/// The option of enhanced duplicate address detection (RFC 7527), which Linux sends.
const NONCE: (u8, u8) = (14, 1);

fn unbridged() -> Twin {
    Twin::new(World::new().unbridge(1))
}

/// An ARP message of the first container's.
fn arp(operation: u8, from: &str, about: &str) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac(C1)].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac(C1));
    frame.extend(ip(from).octets());
    frame.extend([0; 6]);
    frame.extend(ip(about).octets());
    frame
}

fn sends(twin: &mut Twin, bytes: Vec<u8>) -> End {
    twin.packet(Walk::FromContainer, FramePacket::new(bytes, interface(1)))
}

/// Asks by ARP, and demands an answer that says `owner`.
#[track_caller]
fn resolved(twin: &mut Twin, from: &str, about: &str, owner: &str) {
    let end = sends(twin, arp(1, from, about));
    assert_eq!(end.verdict, Ok(bascule_common::datapath::Verdict::deliver(interface(1))));
    let mut wanted = [mac(C1), mac(owner)].concat();
    wanted.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    wanted.extend(mac(owner));
    wanted.extend(ip(about).octets());
    wanted.extend(mac(C1));
    wanted.extend(ip(from).octets());
    assert_eq!(end.bytes, wanted);
}

#[test]
fn n13_arp_is_answered_for_neighbours_and_the_host() {
    let mut twin = unbridged();
    resolved(&mut twin, C1, C2, C2);
    resolved(&mut twin, C1, &gateway(C1), &gateway(C1));
    // Linux answers for every address of the host's, and to those who have none yet (RFC 5227).
    resolved(&mut twin, C1, super::world::HOST, &gateway(C1));
    resolved(&mut twin, "0.0.0.0", C2, C2);
    // Nobody else has the container's own address, and an announcement is no question.
    sends(&mut twin, arp(1, "0.0.0.0", C1)).handed(bridge(1));
    sends(&mut twin, arp(1, C1, C1)).handed(bridge(1));
    sends(&mut twin, arp(2, C1, C2)).handed(bridge(1));
    for nobody in ["172.20.9.9", C3, WORLD, "127.0.0.1", "172.20.255.255"] {
        sends(&mut twin, arp(1, C1, nobody)).dropped(DropReason::NoEndpoint);
    }
    sends(&mut twin, arp(1, C2, &gateway(C1))).dropped(DropReason::SpoofedArp);
}

#[test]
fn n13_with_icc_off_neighbours_are_found_and_not_reached() {
    let mut twin = Twin::new(World::new().unbridge(1).icc_off(1));
    resolved(&mut twin, C1, C2, C2);
    for family in BOTH {
        let frame = Frame::echo(&family.ip(C1), &family.ip(C2), 1);
        twin.sends_near(1, &frame).dropped(DropReason::PolicyIcc);
    }
}

/// A solicitation of the first container's.
fn ask(src: &str, target: &str, option: Option<(u8, u8)>) -> Frame {
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    let mut body = target.octets().to_vec();
    if let Some((kind, units)) = option {
        body.extend([kind, units]);
        body.extend(mac(C1));
    }
    let [.., a, b, c] = target.octets();
    let group = format!("ff02::1:ff{a:02x}:{b:02x}{c:02x}");
    Frame::icmp(src, &group, 135, [0; 4], &body).ttl(255)
}

/// Demands an advertisement of `target`: to whom, flags, and whose Ethernet address it says, if any.
#[track_caller]
fn advertised(end: &End, target: &str, to: &str, flags: u8, owner: Option<&str>) {
    let frame = end.delivered(1);
    assert_eq!((frame.src.to_string(), frame.dst.to_string()), (target.into(), to.into()));
    assert_eq!(frame.ttl, 255, "no router has passed it on");
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    let mut payload = target.octets().to_vec();
    if let Some(owner) = owner {
        payload.extend([2, 1]);
        payload.extend(mac(owner));
    }
    let Body::Icmp { kind, code, rest, payload: found } = &frame.body else { panic!("{frame:?}") };
    assert_eq!((*kind, *code, *rest), (136, 0, [flags, 0, 0, 0]));
    assert_eq!(found[..payload.len()], payload);
}

#[test]
fn n13_s64_solicitations_are_answered_for_neighbours_and_the_host() {
    let mut twin = unbridged();
    let (own, other, router) = (six(C1), six(C2).to_string(), six(&gateway(C1)).to_string());
    for source in [own.to_string(), link_local(C1)] {
        for target in [other.clone(), link_local(C2)] {
            let end = twin.sends_near(1, &ask(&source, &target, Some(SOURCE)));
            advertised(&end, &target, &source, 0x60, Some(C2));
        }
        for target in [router.clone(), link_local(&gateway(C1))] {
            let end = twin.sends_near(1, &ask(&source, &target, Some(SOURCE)));
            advertised(&end, &target, &source, 0xe0, Some(&gateway(C1)));
        }
    }
    // Without an option there is no room for one.
    let end = twin.sends_near(1, &ask(&own.to_string(), &other, None));
    advertised(&end, &other, &own.to_string(), 0x60, None);
    // An interface answers for its own addresses, not for others of the host's.
    let elsewhere = six(super::world::HOST).to_string();
    for nobody in [elsewhere, six("172.20.9.9").to_string(), six(C3).to_string()] {
        let frame = ask(&own.to_string(), &nobody, Some(SOURCE));
        twin.sends_near(1, &frame).dropped(DropReason::NoEndpoint);
    }
}

#[test]
fn s64_duplicates_are_told_of_and_oneself_is_none() {
    let mut twin = unbridged();
    let other = six(C2).to_string();
    for (option, owner) in [(Some(NONCE), Some(C2)), (None, None)] {
        let end = twin.sends_near(1, &ask("::", &other, option));
        advertised(&end, &other, "ff02::1", 0x20, owner);
        for own in [six(C1).to_string(), link_local(C1)] {
            twin.sends_near(1, &ask("::", &own, option)).handed(bridge(1));
        }
    }
}

#[test]
fn s64_neighbours_that_are_known_are_asked_themselves() {
    let mut twin = unbridged();
    let mut probe = ask(&six(C1).to_string(), &six(C2).to_string(), Some(SOURCE));
    probe.dst = six(C2).into();
    twin.sends_near(1, &probe).delivered(2);
    // The gateway is not: its device asks and answers nobody.
    let target = six(&gateway(C1)).to_string();
    let mut probe = ask(&six(C1).to_string(), &target, Some(SOURCE));
    probe.dst = six(&gateway(C1)).into();
    let end = twin.sends(1, &probe);
    advertised(&end, &target, &six(C1).to_string(), 0xe0, Some(&gateway(C1)));
}

#[test]
fn n13_broken_solicitations_are_not_answered() {
    let mut twin = unbridged();
    let good = ask(&six(C1).to_string(), &six(C2).to_string(), Some(SOURCE));
    twin.sends_near(1, &good.clone().ttl(254)).dropped(DropReason::Malformed);
    twin.sends_near(1, &good.clone().padding(DESTINATION)).dropped(DropReason::SpoofedNd);
    let mut forged = good;
    forged.src = six(C2).into();
    twin.sends_near(1, &forged).dropped(DropReason::SpoofedIp);
}

#[test]
fn n13_neighbours_talk_and_nobody_else_is_there() {
    let mut twin = unbridged();
    for family in BOTH {
        let frame = Frame::tcp(&family.at(C1, 40_000), &family.at(C2, 80)).syn();
        twin.sends_near(1, &frame).delivered(2);
        twin.sends_near(1, &Frame::echo(&family.ip(C1), &family.ip("172.20.9.9"), 1))
            .dropped(DropReason::NoEndpoint);
        twin.sends(1, &Frame::echo(&family.ip(C1), &family.ip(C3), 1))
            .dropped(DropReason::PolicyIsolation);
        twin.sends(1, &Frame::udp(&family.at(C1, 7), &family.at(WORLD, 53))).left();
    }
    let group = [0x01, 0x00, 0x5e, 0, 0, 0xfb];
    let frame = Frame::udp("172.20.0.2:5353", "224.0.0.251:5353").macs(mac(C1), group);
    twin.frame(Walk::FromContainer, interface(1), &frame).dropped(DropReason::Multicast);
    let frame = Frame::udp(&Family::Six.at(C1, 5353), "[ff02::fb]:5353");
    twin.sends_near(1, &frame).dropped(DropReason::Multicast);
    let lldp = [&[0xff; 6][..], &mac(C1), &[0x88, 0xcc], &[0; 50]].concat();
    sends(&mut twin, lldp).dropped(DropReason::L2Proto);
}

#[test]
fn n13_what_is_for_the_host_goes_there_and_nowhere_else() {
    let mut twin = unbridged();
    for family in BOTH {
        let frame = Frame::tcp(&family.at(C1, 40_000), &family.at(&gateway(C1), 22)).syn();
        twin.sends(1, &frame).handed(bridge(1));
        let frame = Frame::udp(&family.at(C1, 40_000), &family.at(super::world::HOST, 53));
        twin.sends(1, &frame).handed(bridge(1));
    }
    let routers = Frame::icmp(&link_local(C1), "ff02::2", 133, [0; 4], &[]).ttl(255);
    twin.sends_near(1, &routers).handed(bridge(1));
    // Where there is a bridge nothing has changed.
    let frame = Frame::udp("172.21.0.2:1", "172.21.0.1:2");
    twin.sends(3, &frame).passed();
}

#[test]
fn n13_what_the_host_sends_finds_its_container() {
    let mut twin = unbridged();
    let own = mac(&gateway(C1));
    let mut leaves = |frame: &Frame| twin.frame(Walk::ToBridge, bridge(1), frame);
    for family in BOTH {
        let frame = Frame::tcp(&family.at(&gateway(C1), 40_000), &family.at(C2, 80)).macs(own, own);
        assert_eq!(leaves(&frame).sent(2), frame.clone().macs(own, mac(C2)));
        let whole = Frame::udp(&family.at(WORLD, 53), &family.at(C2, 80)).data(&[7; 100]);
        for part in whole.fragments(48) {
            let part = part.macs(own, own);
            assert_eq!(leaves(&part).sent(2), part.clone().macs(own, mac(C2)));
        }
        leaves(&Frame::echo(&family.ip(&gateway(C1)), &family.ip("172.20.9.9"), 1))
            .dropped(DropReason::NoEndpoint);
        // Another network's container is not behind this device.
        leaves(&Frame::echo(&family.ip(&gateway(C1)), &family.ip(C3), 1))
            .dropped(DropReason::NoEndpoint);
    }
    leaves(&Frame::echo(&link_local(&gateway(C1)), &link_local(C2), 1)).sent(2);
    leaves(&Frame::udp("172.20.0.1:5353", "224.0.0.251:5353")).dropped(DropReason::Multicast);
    leaves(&Frame::udp("172.20.0.1:1", "172.20.255.255:2")).dropped(DropReason::NoEndpoint);
    twin.change(|tables| {
        let broadcast = Local { table: 0, flags: Local::BROADCAST };
        tables.four.locals.insert(ip("172.20.255.255"), broadcast);
    });
    let end =
        twin.frame(Walk::ToBridge, bridge(1), &Frame::udp("172.20.0.1:1", "172.20.255.255:2"));
    end.dropped(DropReason::Multicast);
    let arp = [&[0xff; 6][..], &own, &[0x08, 0x06], &[0; 28]].concat();
    twin.packet(Walk::ToBridge, FramePacket::new(arp, bridge(1))).dropped(DropReason::L2Proto);
}

#[test]
fn n13_a_device_that_nobody_knows_lets_nothing_through() {
    let mut twin = Twin::new(World::new());
    let frame = Frame::udp("172.20.0.1:1", "172.20.0.2:2");
    twin.frame(Walk::ToBridge, bridge(1), &frame).dropped(DropReason::AgentNotReady);
    assert_eq!(twin.tables.networks[&1].flags & Network::L2_BPF, 0);
}
