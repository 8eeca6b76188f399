//! IPv6 within a network without IPv6 addresses: neighbour discovery and link-local traffic follow the ICC
//! rule; everything else has no business here.

use crate::{
    abi::{DropReason, Endpoint, Mac, Network, Stat},
    datapath::{from_container::to_kernel, verdict::Outcome},
    io::{Packet, Tables},
    wire::{Ethernet, Ipv6, L3, NeighbourMessage, proto},
};

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Offset of the payload, in bytes.
const PAYLOAD: u32 = L3 + size_of::<Ipv6>() as u32;

/// A packet that a container sends.
#[inline(always)]
pub fn from_container<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    frame: &Ethernet,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let header: Ipv6 = packet.load(L3).ok_or(DropReason::Malformed)?;
    let guarded = endpoint.flags & Endpoint::ALLOW_SPOOF == 0;
    let unspecified = header.src == [0; 16];
    if guarded && !unspecified && header.src != link_local(&endpoint.mac) {
        return Err(DropReason::SpoofedIp);
    }
    let discovery = match header.next_header {
        proto::ICMPV6 => is_discovery(packet, endpoint, guarded, PAYLOAD)?,
        // Multicast listener reports carry a router alert (RFC 3810).
        proto::HOP_BY_HOP => {
            let next: u16 = packet.load(PAYLOAD).ok_or(DropReason::Malformed)?;
            let [next, units] = next.to_ne_bytes();
            next == proto::ICMPV6
                && units == 0
                && is_discovery(packet, endpoint, guarded, PAYLOAD + 8)?
        }
        _ => false,
    };
    if unspecified && !discovery {
        return Err(DropReason::SpoofedIp);
    }
    let within = header.dst[0] == 0xff || (header.dst[0] == 0xfe && header.dst[1] & 0xc0 == 0x80);
    if !within {
        return Err(DropReason::UnsupportedProto);
    }
    if discovery {
        return to_kernel(tables, Stat::ToNeighbourDiscovery);
    }
    // The host's own link-local address is reached; other stations only where the network is open.
    if network.flags & Network::ICC == 0 && frame.dst != endpoint.gateway_mac {
        return Err(if header.dst[0] == 0xff {
            DropReason::Multicast
        } else {
            DropReason::PolicyIcc
        });
    }
    to_kernel(tables, Stat::ToOtherProtocol)
}

/// Whether the ICMPv6 message at an offset is neighbour discovery that the container may send. Advertising routers,
/// redirecting neighbours and claiming others' addresses are refused.
#[inline(always)]
fn is_discovery<P: Packet>(
    packet: &P,
    endpoint: &Endpoint,
    guarded: bool,
    at: u32,
) -> Result<bool, DropReason> {
    let kind: u16 = packet.load(at).ok_or(DropReason::Malformed)?;
    match kind.to_ne_bytes()[0] {
        ROUTER_ADVERTISEMENT | REDIRECT if guarded => Err(DropReason::SpoofedNd),
        NEIGHBOUR_ADVERTISEMENT if guarded => {
            let message: NeighbourMessage = packet.load(at).ok_or(DropReason::SpoofedNd)?;
            let [_, _, mac @ ..] = message.option;
            if message.target != link_local(&endpoint.mac) || mac != endpoint.mac {
                return Err(DropReason::SpoofedNd);
            }
            Ok(true)
        }
        NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => Ok(true),
        // Router solicitation, and multicast listener reports.
        133 | 143 | 131 | 132 => Ok(true),
        _ => Ok(false),
    }
}

/// The link-local address of an Ethernet address (RFC 4291, appendix A).
#[inline(always)]
pub const fn link_local(mac: &Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = *mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}
