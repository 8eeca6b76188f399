//! What arrives from outside, at the ingress of an uplink: published ports, answers, and nothing else for
//! containers. Ordinary traffic of the host costs one look at its destination and one at its port.

use crate::{
    abi::{DropReason, Flow4, Ip4, Local},
    datapath::{
        conntrack, from_container, icmp,
        parse::{self, Kind, View},
        rewrite::{self, Ttl},
        service,
        verdict::{Flat, Outcome, Verdict, in_parts},
    },
    io::{Kernel, Packet, Tables},
    wire::ethertype,
};

/// The walk.
#[inline(always)]
pub fn from_uplink<P: Packet, T: Tables, K: Kernel>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Flat {
    in_parts(
        packet,
        |packet| known(packet, tables, kernel),
        |packet| first(packet, tables, kernel),
        |packet| error(packet, tables),
    )
}

/// The first part: flows that exist, and the host's own traffic.
#[inline(never)]
fn known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_known(packet, tables, kernel))
}

/// The second part: first packets to published ports.
#[inline(never)]
fn first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_first(packet, tables, kernel))
}

#[inline(always)]
fn try_first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    let mut view = parse::ipv4(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let local = tables.local(view.key.dst).ok_or(DropReason::UnpublishedPort)?;
    let rule = service::find(tables, local, &view.key).ok_or(DropReason::UnpublishedPort)?;
    service::open_from_outside(packet.interface(), tables, kernel, &view.key, rule)?;
    Ok(Verdict::FIRST)
}

/// An ICMP error, for the host or for a container. A function of its own, for its stack.
#[inline(never)]
fn error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Flat {
    Flat::new(try_error(packet, tables))
}

#[inline(always)]
fn try_error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    let view = &parse::ipv4(packet)?;
    let Some((flow, quote)) = icmp::related(packet, tables, view) else {
        // The host's own traffic has errors too.
        return if tables.local(view.key.dst).is_some() {
            Ok(Verdict::PASS)
        } else {
            Err(DropReason::DirectRoutingBlocked)
        };
    };
    if conntrack::verdict(&flow) == Verdict::PASS {
        icmp::translate(packet, view, &flow, &quote, Ttl::Keep)?;
        return Ok(Verdict::PASS);
    }
    expire(view)?;
    icmp::translate(packet, view, &flow, &quote, Ttl::Decrement)?;
    from_container::forward(packet, tables, &flow)
}

#[inline(always)]
fn try_known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    const NOT_OURS: Outcome = Ok(Verdict::PASS);
    if packet.protocol() != ethertype::IPV4 || packet.is_tagged() || !packet.is_for_host() {
        return NOT_OURS;
    }
    // What is malformed is no packet of ours; the kernel counts and drops it.
    let Ok(mut view) = parse::ipv4(packet) else { return NOT_OURS };
    // What is published on a loopback address is for processes of this host, and never on the wire.
    if view.key.dst.is_loopback() {
        return Err(DropReason::MartianLoopback);
    }
    let Some(local) = tables.local(view.key.dst) else {
        return not_for_host(packet, tables, kernel, &mut view);
    };
    match for_host(tables, kernel, &mut view, local)? {
        Known::Flow(flow) => translate(packet, tables, &view, &flow),
        Known::First => Ok(Verdict::FIRST),
        Known::Error => Ok(Verdict::ERROR),
        Known::Host => NOT_OURS,
    }
}

/// What a packet addressed to the host is.
enum Known {
    /// One of a flow.
    Flow(Flow4),
    /// The first one to a published port.
    First,
    /// An ICMP error.
    Error,
    /// The host's own.
    Host,
}

/// Finds the flow of a packet addressed to the host.
#[inline(always)]
fn for_host<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    view: &mut View,
    local: Local,
) -> Result<Known, DropReason> {
    if local.flags & Local::BROADCAST != 0 {
        return Ok(Known::Host);
    }
    if view.kind == Kind::Later && parse::reunite(tables, view).is_none() {
        return Ok(Known::Host);
    }
    if view.kind == Kind::Error {
        return Ok(Known::Error);
    }
    let rule = service::find(tables, local, &view.key);
    let may_be_flow = rule.is_some()
        || !matches!(view.kind, Kind::Ports | Kind::Later)
        || tables.config().is_some_and(|config| config.masquerades_with(view.key.dst_port));
    if !may_be_flow {
        return Ok(Known::Host);
    }
    let known = conntrack::find(tables, &view.key)
        .and_then(|flow| conntrack::follow(tables, kernel, view, flow, 0));
    let Some(flow) = known else {
        return Ok(if rule.is_some() { Known::First } else { Known::Host });
    };
    if view.first_fragment {
        parse::remember(tables, view);
    }
    Ok(Known::Flow(flow))
}

/// A packet for another address: of a container, which is not to be addressed directly, or passing by.
#[inline(always)]
fn not_for_host<P: Packet, T: Tables, K: Kernel>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    view: &mut View,
) -> Outcome {
    let group = view.key.dst == Ip4::BROADCAST || view.key.dst.is_multicast();
    if group || tables.subnet(view.key.dst).is_none() {
        return Ok(Verdict::PASS);
    }
    if view.kind == Kind::Error {
        return Ok(Verdict::ERROR);
    }
    // A network without masquerade: answers are addressed to the container itself.
    parse::reunite(tables, view).ok_or(DropReason::FragNotFound)?;
    let flow = conntrack::find(tables, &view.key)
        .and_then(|flow| conntrack::follow(tables, kernel, view, flow, 0))
        .ok_or(DropReason::DirectRoutingBlocked)?;
    translate(packet, tables, view, &flow)
}

/// A packet that ends here would be routed on.
#[inline(always)]
fn expire(view: &View) -> Result<(), DropReason> {
    if view.ttl <= 1 { Err(DropReason::TtlExpired) } else { Ok(()) }
}

/// Translates a packet of a flow and sends it on.
#[inline(always)]
fn translate<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: &View,
    flow: &Flow4,
) -> Outcome {
    let to = conntrack::rewritten(&view.key, flow);
    if conntrack::verdict(flow) == Verdict::PASS {
        // A station that was plugged in by hand: the kernel routes it there.
        rewrite::translate(packet, view, &to, Ttl::Keep)?;
        return Ok(Verdict::PASS);
    }
    expire(view)?;
    rewrite::translate(packet, view, &to, Ttl::Decrement)?;
    from_container::forward(packet, tables, flow)
}
