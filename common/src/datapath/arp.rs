//! ARP from containers: only about their own address.

use crate::{
    abi::{DropReason, Endpoint, Ip4, Stat},
    datapath::{family, from_container::to_kernel, verdict::Outcome},
    io::{Packet, Tables},
    wire::{Arp, L3},
};

/// A message that a container sends. The bridge carries it, whether ICC is on or off: a gateway must be
/// found, and an address is no secret.
#[inline(always)]
pub fn from_container<P: Packet, T: Tables<Ip4>>(
    packet: &P,
    tables: &T,
    endpoint: &Endpoint,
) -> Outcome {
    let message: Arp = packet.load(L3).ok_or(DropReason::Malformed)?;
    if message.types != Arp::IPV4_OVER_ETHERNET {
        return Err(DropReason::Malformed);
    }
    let sender = Ip4::new(message.sender_ip);
    let own = message.sender_mac == endpoint.mac
        // 0.0.0.0 asks whether an address is free (RFC 5227).
        && (sender == endpoint.ip4
            || sender == Ip4::UNSPECIFIED
            || family::holds(tables, endpoint, sender));
    if !own && endpoint.flags & Endpoint::ALLOW_SPOOF == 0 {
        return Err(DropReason::SpoofedArp);
    }
    to_kernel(tables, Stat::ToNeighbourDiscovery)
}
