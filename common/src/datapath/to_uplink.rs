//! What leaves by an uplink, at its egress. The programs' own redirects and the host's traffic carry an
//! address of the host's and pass at once. What the kernel forwarded for a container, because the programs
//! handed it over, is masqueraded here by the same tables; nothing leaves with a container's address.

use crate::{
    abi::{DropReason, Ip4, Network},
    datapath::{
        conntrack, icmp, masquerade,
        parse::{self, Kind},
        rewrite::{self, Ttl},
        verdict::{Flat, Outcome, Verdict, in_parts},
    },
    io::{Kernel, Packet, Tables},
    wire::ethertype,
};

/// The walk.
#[inline(always)]
pub fn to_uplink<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    in_parts(
        packet,
        |packet| known(packet, tables, kernel),
        |packet| first(packet, tables, kernel),
        |packet| error(packet, tables),
    )
}

/// The first part: the host's own traffic, and flows that exist.
#[inline(never)]
fn known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_known(packet, tables, kernel))
}

/// The second part: first packets.
#[inline(never)]
fn first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_first(packet, tables, kernel))
}

/// An ICMP error of a container's. A function of its own, for its stack.
#[inline(never)]
fn error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Flat {
    Flat::new(try_error(packet, tables))
}

#[inline(always)]
fn try_error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    let view = parse::ipv4(packet)?;
    let (flow, quote) = icmp::related(packet, tables, &view).ok_or(DropReason::Untranslated)?;
    icmp::translate(packet, &view, &flow, &quote, Ttl::Keep)?;
    Ok(Verdict::PASS)
}

#[inline(always)]
fn try_known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    const DONE: Outcome = Ok(Verdict::PASS);
    if packet.protocol() != ethertype::IPV4 {
        return DONE;
    }
    let Ok(mut view) = parse::ipv4(packet) else { return DONE };
    if tables.local(view.key.src).is_some() || tables.subnet(view.key.src).is_none() {
        return DONE;
    }
    if view.kind == Kind::Error {
        return Ok(Verdict::ERROR);
    }
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let known = conntrack::find(tables, &view.key)
        .and_then(|flow| conntrack::follow(tables, kernel, &view, flow, 0));
    let Some(flow) = known else { return Ok(Verdict::FIRST) };
    let to = conntrack::rewritten(&view.key, &flow);
    rewrite::translate(packet, &view, &to, Ttl::Keep)?;
    DONE
}

#[inline(always)]
fn try_first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    let mut view = parse::ipv4(packet)?;
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
    let way = (ifindex, Ip4::UNSPECIFIED, &*uplink);
    masquerade::open(tables, kernel, &view.key, &network, entries, way).map_err(|reason| {
        if reason == DropReason::NoUplink { DropReason::Untranslated } else { reason }
    })?;
    Ok(Verdict::FIRST)
}
