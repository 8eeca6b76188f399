//! IPv6 neighbour discovery (RFC 4861) from containers: only about their own addresses, and never as a router.

use crate::{
    abi::{DropReason, Endpoint, Ip6},
    datapath::{
        family::{self, Family},
        parse::{Kind, View},
    },
    io::{Packet, Tables},
    wire::{NeighbourMessage, proto},
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Multicast listener query, reports and done (RFC 2710, RFC 3810).
const LISTENER: [u8; 4] = [130, 131, 132, 143];
/// Option type of the sender's and of the target's Ethernet address.
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// Whether the packet is neighbour discovery, or belongs to it.
#[inline(always)]
pub fn concerns<P: Packet>(packet: &P, view: &View<Ip6>) -> Result<bool, DropReason> {
    if view.kind != Kind::Icmp || view.key.proto != proto::ICMPV6 {
        return Ok(false);
    }
    let kind: u16 = packet.load(view.l4).ok_or(DropReason::Malformed)?;
    let kind = kind.to_ne_bytes()[0];
    Ok(LISTENER.contains(&kind) || (ROUTER_SOLICITATION..=REDIRECT).contains(&kind))
}

/// Whom neighbour discovery that the container may send is for: the address that a solicitation asks about, else
/// the destination; unspecified, if the packet is something else. Advertising routers, redirecting neighbours and
/// claiming others' addresses are refused.
#[inline(always)]
pub fn judge<P: Packet, T: Tables<Ip6>>(
    packet: &P,
    tables: &T,
    view: &View<Ip6>,
    endpoint: &Endpoint,
) -> Result<Ip6, DropReason> {
    const OTHER: Ip6 = Ip6::UNSPECIFIED;
    const SPOOFED: DropReason = DropReason::SpoofedNd;
    if view.kind != Kind::Icmp || view.key.proto != proto::ICMPV6 {
        return Ok(OTHER);
    }
    let kind: u16 = packet.load(view.l4).ok_or(DropReason::Malformed)?;
    let kind = kind.to_ne_bytes()[0];
    let dst = view.key.dst;
    if LISTENER.contains(&kind) {
        return Ok(dst);
    }
    if !(ROUTER_SOLICITATION..=REDIRECT).contains(&kind) {
        return Ok(OTHER);
    }
    if endpoint.flags & Endpoint::ALLOW_SPOOF != 0 {
        return Ok(dst);
    }
    // Nobody sends it in fragments, atomic ones included (RFC 6980), nor behind other extension headers: one
    // comparison refuses them all.
    if view.l4 != P::NETWORK + Ip6::HEADER || matches!(kind, ROUTER_ADVERTISEMENT | REDIRECT) {
        return Err(SPOOFED);
    }
    let Some(message) = packet.load::<NeighbourMessage>(view.l4) else {
        // Without an option it names no Ethernet address; whom it asks for is no secret.
        return if kind == NEIGHBOUR_ADVERTISEMENT { Err(SPOOFED) } else { Ok(dst) };
    };
    let [option, _, mac @ ..] = message.option;
    match kind {
        NEIGHBOUR_ADVERTISEMENT => {
            let target = message.target;
            let own = target == endpoint.ip6
                || target == Ip6::link_local(&endpoint.mac)
                || family::holds(tables, endpoint, target);
            if own && option == TARGET_LINK && mac == endpoint.mac { Ok(dst) } else { Err(SPOOFED) }
        }
        // The option of a solicitation teaches those who are asked.
        NEIGHBOUR_SOLICITATION if option == SOURCE_LINK && mac != endpoint.mac => Err(SPOOFED),
        NEIGHBOUR_SOLICITATION => Ok(message.target),
        _ => Ok(dst),
    }
}
