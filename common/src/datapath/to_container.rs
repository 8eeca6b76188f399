//! What the kernel itself sends to a container, at the egress of the host end of its veth: from the host,
//! bridged, or routed. Packets that the programs redirect never pass here, so this costs them nothing.

use crate::{
    abi::{Direction, DropReason, Endpoint, Network},
    datapath::{
        parse,
        policy::{self, Party},
        verdict::{Flat, Outcome, Verdict},
    },
    io::{Packet, Tables},
    wire::{Ethernet, L3, ethertype},
};

/// The walk.
#[inline(always)]
pub fn to_container<P: Packet, T: Tables>(packet: &P, tables: &T) -> Flat {
    Flat::new(try_to_container(packet, tables))
}

#[inline(always)]
fn try_to_container<P: Packet, T: Tables>(packet: &P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if packet.arrived_by() != 0 && frame.ethertype == ethertype::IPV4 {
        forwarded(packet, tables, &frame, &endpoint)?;
    }
    let bytes = packet.length().wrapping_sub(L3);
    tables.count_endpoint(endpoint.endpoint, Direction::In, packet.segments(), bytes);
    Ok(Verdict::PASS)
}

/// A packet that came from elsewhere: the same rules as on the fast path, judged where it arrives.
#[inline(always)]
fn forwarded<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    frame: &Ethernet,
    endpoint: &Endpoint,
) -> Result<(), DropReason> {
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    if frame.dst[0] & 1 != 0 {
        // `from_container` judged it; a station plugged in by hand is judged by the network's rule.
        return if network.flags & Network::ICC != 0 { Ok(()) } else { Err(DropReason::Multicast) };
    }
    let view = parse::ipv4(packet)?;
    let to = Party { endpoint: endpoint.endpoint, flags: endpoint.flags };
    if let Some(from) = tables.endpoint(packet.arrived_by()) {
        if from.network != endpoint.network {
            return Err(DropReason::PolicyIsolation);
        }
        let from = Party { endpoint: from.endpoint, flags: from.flags };
        return policy::same_network(packet, tables, &network, &view, from, to);
    }
    if frame.src != endpoint.gateway_mac {
        // Bridged from a port that is not ours: a station of this network, plugged in by hand.
        return if network.flags & Network::ICC != 0 { Ok(()) } else { Err(DropReason::PolicyIcc) };
    }
    // Routed by the kernel.
    match tables.subnet(view.key.src) {
        Some(subnet) if subnet.network == endpoint.network => {
            let from = Party { endpoint: u32::MAX, flags: 0 };
            policy::same_network(packet, tables, &network, &view, from, to)
        }
        Some(_) => Err(DropReason::PolicyIsolation),
        None => Err(DropReason::DirectRoutingBlocked),
    }
}
