//! Networks without a bridge between their containers (`-o bascule.l2=bpf`), of which there may be more than a bridge
//! has ports. What a bridge does for the others is done here: who asks for a neighbour by ARP or neighbour discovery
//! is answered at once, what is for the host goes to the device that holds the gateway's addresses, and what the host
//! sends there to the container.

use crate::{
    abi::{Direction, DropReason, Endpoint, Ip4, Ip6, Local, Mac, Network},
    datapath::{
        family::{self, BothTables, Family},
        names, rewrite,
        verdict::{Outcome, Verdict},
    },
    io::{Packet, Tables},
    wire::{Arp, Icmp, Ipv6, L3, Macs, checksum, ethertype, proto},
};

/// A solicitation or advertisement of RFC 4861 up to its options, and with one.
const MESSAGE: u32 = 24;
const WITH_OPTION: u32 = 32;
/// Offset of the target's address in either.
const TARGET: u32 = 8;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: of a router, asked for, better than what was known.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// The option that names the target's Ethernet address, and its length in units of eight bytes.
const TARGET_LINK: [u8; 2] = [2, 1];
/// Hop limit of what no router has passed on.
const FROM_THE_LINK: u8 = 255;
/// `ff02::1`, and its Ethernet address.
const ALL_NODES: Ip6 = Ip6([0xff02_0000_u32.to_be(), 0, 0, 1u32.to_be()]);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// What the walk of a container's frame left to the kernel: where there is a bridge, it goes there, unless it is a
/// question about names. A part of its own,
/// where redirected packets never come.
#[inline(always)]
pub fn handed<P: Packet, T: BothTables>(packet: &mut P, tables: &T) -> Outcome {
    let endpoint = Tables::<Ip4>::endpoint(tables, packet.interface());
    let endpoint = endpoint.ok_or(DropReason::AgentNotReady)?;
    let network = Tables::<Ip4>::network(tables, endpoint.network);
    let network = network.ok_or(DropReason::AgentNotReady)?;
    if let Some(verdict) = names::question(packet, tables, &network) {
        return Ok(verdict);
    }
    if network.flags & Network::L2_BPF == 0 {
        return Ok(Verdict::PASS);
    }
    let answered = match packet.protocol() {
        ethertype::ARP => resolve(packet, tables, &endpoint, &network)?,
        ethertype::IPV6 => discover(packet, tables, &endpoint, &network)?,
        _ => None,
    };
    if answered.is_none() {
        return Ok(Verdict::host(network.bridge));
    }
    let bytes = packet.length().wrapping_sub(L3);
    Tables::<Ip4>::count_endpoint(tables, endpoint.endpoint, Direction::In, 1, bytes);
    Ok(Verdict::deliver(endpoint.ifindex))
}

/// Whom an address belongs to.
enum Holder {
    /// Who asks.
    Asker,
    /// Somebody else of the network.
    Neighbour(Mac),
    /// The host.
    Host,
}

/// Finds the holder of an address; `on_link` says whether one of the host's is to be found on the network.
#[inline(always)]
fn holder<A: Family, T: Tables<A>>(
    tables: &T,
    endpoint: &Endpoint,
    address: A,
    on_link: impl Fn(Local) -> bool,
) -> Result<Holder, DropReason> {
    if let Some(to) = tables.neighbour(endpoint.network, address) {
        let own = to.endpoint == endpoint.endpoint;
        return Ok(if own { Holder::Asker } else { Holder::Neighbour(to.mac) });
    }
    match tables.local(address) {
        Some(local) if on_link(local) && !address.is_loopback() => Ok(Holder::Host),
        _ => Err(DropReason::NoEndpoint),
    }
}

/// Makes the answer of an ARP request. None: it is something else, or about the container itself.
#[inline(always)]
fn resolve<P: Packet, T: Tables<Ip4>>(
    packet: &mut P,
    tables: &T,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Option<()>, DropReason> {
    let asked: Arp = packet.load(L3).ok_or(DropReason::Malformed)?;
    if asked.operation != Arp::REQUEST {
        return Ok(None);
    }
    // As Linux does, the host answers for whatever address it has (arp_ignore=0).
    let single = |local: Local| local.flags & Local::BROADCAST == 0;
    let mac = match holder(tables, endpoint, Ip4::new(asked.target_ip), single)? {
        Holder::Asker => return Ok(None),
        Holder::Neighbour(mac) => mac,
        Holder::Host => network.gateway_mac,
    };
    let answer = Arp {
        types: asked.types,
        operation: Arp::REPLY,
        sender_mac: mac,
        sender_ip: asked.target_ip,
        target_mac: asked.sender_mac,
        target_ip: asked.sender_ip,
    };
    packet.store(L3, answer).ok_or(DropReason::Malformed)?;
    packet.store(0, Macs { dst: endpoint.mac, src: mac }).ok_or(DropReason::Malformed)?;
    Ok(Some(()))
}

/// Makes the advertisement that answers a solicitation, of the walk's permission. None: it is something else, or about
/// the container itself.
#[inline(always)]
fn discover<P: Packet, T: Tables<Ip6>>(
    packet: &mut P,
    tables: &T,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Option<()>, DropReason> {
    const BROKEN: DropReason = DropReason::Malformed;
    let view = family::view::<Ip6, P>(packet)?;
    if view.key.proto != proto::ICMPV6 {
        return Ok(None);
    }
    let kind: u16 = packet.load(view.l4).ok_or(BROKEN)?;
    let [kind, code] = kind.to_ne_bytes();
    if kind != SOLICITATION {
        return Ok(None);
    }
    const AT: u32 = L3 + Ip6::HEADER;
    if view.l4 != AT || view.ttl != FROM_THE_LINK || code != 0 {
        return Err(BROKEN);
    }
    let target: Ip6 = packet.load(AT + TARGET).ok_or(BROKEN)?;
    // Unlike ARP, an interface answers for its own addresses alone.
    let of_gateway = |local: Local| local.flags & Local::GATEWAY != 0;
    let (mac, router) = match holder(tables, endpoint, target, of_gateway)? {
        Holder::Asker => return Ok(None),
        Holder::Neighbour(mac) => (mac, 0),
        Holder::Host => (network.gateway_mac, ROUTER),
    };
    // Who looks for duplicates has no address yet: all are told, and who looks knows by it (RFC 4862).
    let src = view.key.src;
    let (to, to_mac, flags) = if src == Ip6::UNSPECIFIED {
        (ALL_NODES, ALL_NODES_MAC, router | OVERRIDE)
    } else {
        (src, endpoint.mac, router | SOLICITED | OVERRIDE)
    };
    // Only what has no option at all has no room for one.
    let length = if view.length >= Ip6::HEADER + WITH_OPTION { WITH_OPTION } else { MESSAGE };
    let header = Ipv6 {
        version: [0x60, 0, 0, 0],
        payload_length: (length as u16).to_be(),
        next_header: proto::ICMPV6,
        hop_limit: FROM_THE_LINK,
        src: target,
        dst: to,
    };
    packet.store(L3, header).ok_or(BROKEN)?;
    packet.store(AT, u32::from_ne_bytes([ADVERTISEMENT, 0, 0, 0])).ok_or(BROKEN)?;
    packet.store(AT + 4, u32::from_ne_bytes([flags, 0, 0, 0])).ok_or(BROKEN)?;
    if length == WITH_OPTION {
        let ([a, b, c, d, e, f], [kind, units]) = (mac, TARGET_LINK);
        let option = [u32::from_ne_bytes([kind, units, a, b]), u32::from_ne_bytes([c, d, e, f])];
        packet.store(AT + MESSAGE, option[0]).ok_or(BROKEN)?;
        packet.store(AT + MESSAGE + 4, option[1]).ok_or(BROKEN)?;
    }
    let mut sum = checksum::both(
        Ip6::difference(Ip6::UNSPECIFIED, target),
        checksum::both(
            Ip6::difference(Ip6::UNSPECIFIED, to),
            (length + u32::from(proto::ICMPV6)).to_be(),
        ),
    );
    for word in 0..WITH_OPTION / 4 {
        if word * 4 >= length {
            break;
        }
        let value: u32 = packet.load(AT + word * 4).ok_or(BROKEN)?;
        sum = checksum::both(sum, value);
    }
    packet.store(AT + Icmp::CHECKSUM, !checksum::fold(sum)).ok_or(BROKEN)?;
    packet.store(0, Macs { dst: to_mac, src: mac }).ok_or(BROKEN)?;
    Ok(Some(()))
}

/// What the host sends to such a network, at the egress of the device that holds the gateway's addresses. Its own
/// frames and those that it forwards alike leave by the container's veth, where [`super::to_container()`] judges them.
#[inline(always)]
pub fn to_bridge<P: Packet, T: BothTables>(packet: &mut P, tables: &T) -> Outcome {
    match packet.protocol() {
        ethertype::IPV4 => led::<Ip4, P, T>(packet, tables),
        ethertype::IPV6 => led::<Ip6, P, T>(packet, tables),
        _ => Err(DropReason::L2Proto),
    }
}

/// The walk for one family. The device asks for no neighbours: the frame has the device's own address yet.
#[inline(always)]
pub fn led<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let network = tables.stands_for(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let header = A::header(packet).ok_or(DropReason::Malformed)?;
    let (_, dst) = A::addresses(&header);
    let Some(to) = tables.neighbour(network, dst) else {
        let broadcast = tables.local(dst).is_some_and(|l| l.flags & Local::BROADCAST != 0);
        let group = dst.is_group() || broadcast;
        return Err(if group { DropReason::Multicast } else { DropReason::NoEndpoint });
    };
    rewrite::ethernet::<A, P>(packet, to.mac, to.gateway_mac)?;
    Ok(Verdict::send(to.ifindex))
}
