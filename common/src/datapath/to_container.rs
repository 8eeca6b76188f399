//! What the kernel itself sends to a container, at the egress of the host end of its veth: from the host,
//! bridged, or routed. Packets that the programs redirect never pass here, so this costs them nothing.

use crate::{
    abi::{Direction, DropReason, Endpoint, Ip4, Ip6, Network, state},
    datapath::{
        conntrack,
        family::{self, BothTables, Family},
        parse::{self, Kind, View},
        policy::{self, Party},
        verdict::{Outcome, Verdict},
    },
    io::{Packet, Tables},
    wire::{Ethernet, L3, ethertype},
};

/// The walk.
#[inline(always)]
pub fn to_container<P: Packet, T: BothTables>(packet: &P, tables: &T) -> Outcome {
    match packet.protocol() {
        ethertype::IPV4 => judged::<Ip4, P, T>(packet, tables),
        ethertype::IPV6 => judged::<Ip6, P, T>(packet, tables),
        _ => other(packet, tables),
    }
}

/// The walk for frames that are not IP.
#[inline(always)]
pub fn other<P: Packet, T: Tables<Ip4>>(packet: &P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    received(packet, tables, endpoint.endpoint)
}

/// The walk for one family.
#[inline(always)]
pub fn judged<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    if packet.arrived_by() != 0 {
        forwarded(packet, tables, &endpoint)?;
    }
    received(packet, tables, endpoint.endpoint)
}

/// Counts a packet and lets it in.
#[inline(always)]
fn received<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T, endpoint: u32) -> Outcome {
    let bytes = packet.length().wrapping_sub(L3);
    tables.count_endpoint(endpoint, Direction::In, packet.segments(), bytes);
    Ok(Verdict::PASS)
}

/// A packet that came from elsewhere: the same rules as on the fast path, judged where it arrives.
#[inline(always)]
fn forwarded<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    endpoint: &Endpoint,
) -> Result<(), DropReason> {
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    let from = tables.endpoint(packet.arrived_by());
    if frame.dst[0] & 1 != 0 {
        // `from_container` judged what our containers send; a station plugged in by hand is judged by the
        // network's rule.
        let open = network.flags & Network::ICC != 0;
        return if open || from.is_some() { Ok(()) } else { Err(DropReason::Multicast) };
    }
    let mut view = family::view::<A, P>(packet)?;
    let to = Party { endpoint: endpoint.endpoint, flags: endpoint.flags };
    if let Some(from) = from {
        if from.network != endpoint.network {
            return Err(DropReason::PolicyIsolation);
        }
        // Neighbours are found whether they may talk or not.
        if view.kind == Kind::Icmp && A::discovers(packet, tables, &view, &from)? != A::UNSPECIFIED
        {
            return Ok(());
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
        None => of_flow(tables, &mut view, endpoint),
    }
}

/// A packet of a flow that was handed to the kernel to be fragmented.
#[inline(always)]
fn of_flow<A: Family, T: Tables<A>>(
    tables: &T,
    view: &mut View<A>,
    endpoint: &Endpoint,
) -> Result<(), DropReason> {
    const BLOCKED: DropReason = DropReason::DirectRoutingBlocked;
    parse::reunite(tables, view).ok_or(BLOCKED)?;
    let answer = conntrack::find(tables, &view.key.reversed()).ok_or(BLOCKED)?;
    let ours = answer.from == endpoint.endpoint && answer.state & state::IS_REPLY != 0;
    if ours { Ok(()) } else { Err(BLOCKED) }
}
