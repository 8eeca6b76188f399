//! What leaves by an uplink, at its egress. The programs' own redirects and the host's traffic carry an
//! address of the host's and pass at once. What the kernel forwarded for a container, because the programs
//! handed it over, is masqueraded here by the same tables; nothing leaves with a container's address.

use crate::{
    abi::{DropReason, Ip4, Ip6, Network},
    datapath::{
        conntrack,
        family::{self, BothKernels, BothTables, Family},
        icmp,
        masquerade::{self, Way},
        parse::{self, Kind},
        rewrite::{self, Ttl},
        short,
        verdict::{End as _, Outcome, Told, Verdict, in_parts},
    },
    io::{Kernel, Packet, Tables},
    wire::ethertype,
};

/// The walk.
#[inline(always)]
pub fn to_uplink<P: Packet, T: BothTables, K: BothKernels>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    match packet.protocol() {
        ethertype::IPV4 => walk::<Ip4, P, T, K>(packet, tables, kernel),
        ethertype::IPV6 => walk::<Ip6, P, T, K>(packet, tables, kernel),
        _ => Ok(Verdict::PASS),
    }
}

fn walk<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    in_parts(
        packet,
        |_| Outcome::WHOLE,
        |packet, told| known(packet, tables, kernel, told),
        |packet| {
            conntrack::refresh(packet, tables, kernel)?;
            short::restarted(packet, tables)
        },
        |packet| first(packet, tables, kernel),
        |packet| icmp::requoted(packet, tables),
        |packet| error(packet, tables),
        // What leaves here was seen where it came from.
        |_, _| {},
    )
}

/// The first part: the host's own traffic, and flows that exist.
#[inline(always)]
pub fn known<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    told: Told,
) -> Outcome {
    const DONE: Outcome = Ok(Verdict::PASS);
    let Some(header) = A::header(packet) else { return DONE };
    let (src, _) = A::addresses(&header);
    if tables.local(src).is_some() || tables.subnet(src).is_none() {
        return DONE;
    }
    // It would leave with a container's address.
    let mut view = A::view(packet, &header).map_err(|_| DropReason::Untranslated)?;
    if view.kind == Kind::Error {
        return Ok(Verdict::ERROR);
    }
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let Some(flow) = conntrack::find(tables, &view.key) else { return Ok(Verdict::FIRST) };
    if conntrack::waits(tables, kernel, told, &view, &flow) {
        return Ok(Verdict::STALE);
    }
    let to = conntrack::rewritten(&view.key, &flow);
    rewrite::translate(packet, &view, &to, Ttl::Keep)?;
    DONE
}

/// The part for first packets.
#[inline(always)]
pub fn first<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let mut view = family::view::<A, P>(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let subnet = tables.subnet(view.key.src).ok_or(DropReason::Untranslated)?;
    let network = tables.network(subnet.network).ok_or(DropReason::Untranslated)?;
    if network.flags & Network::INTERNAL != 0 {
        return Err(DropReason::PolicyInternal);
    }
    let ifindex = packet.interface();
    let uplink = tables.uplink(ifindex).ok_or(DropReason::Untranslated)?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    // An address that no endpoint holds was plugged in by hand: the answers to it are translated, and
    // routed by the kernel, which is what an empty entry says.
    if let Some(neighbour) = tables.neighbour(subnet.network, view.key.src) {
        entries.reply = conntrack::deliver_to(&neighbour);
    }
    let way = Way { ifindex, next_hop: A::UNSPECIFIED, mtu: 0, uplink: &uplink };
    masquerade::open(tables, kernel, &view.key, &network, entries, way).map_err(|reason| {
        if reason == DropReason::NoUplink { DropReason::Untranslated } else { reason }
    })?;
    Ok(Verdict::FIRST)
}

/// The part for ICMP errors of a container's.
#[inline(always)]
pub fn error<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let view = family::view::<A, P>(packet)?;
    let (flow, quote) = icmp::related(packet, tables, &view).ok_or(DropReason::Untranslated)?;
    icmp::translate(packet, &view, &flow, &quote, Ttl::Keep)?;
    Ok(Verdict::PASS)
}
