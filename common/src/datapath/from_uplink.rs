//! What arrives from outside, at the ingress of an uplink: published ports, answers, and nothing else for
//! containers. Ordinary traffic of the host costs one look at its destination and one at its port.

use crate::{
    abi::{DropReason, Flow, Ip4, Ip6, Local, Network, Subnet},
    datapath::{
        answer, conntrack, direct,
        family::{self, BothKernels, BothTables, Family},
        from_container, icmp,
        parse::{self, Kind, View},
        rewrite::{self, Ttl},
        service, short,
        verdict::{Outcome, Told, Verdict, in_parts},
        watched,
    },
    io::{Kernel, Packet, Tables},
    wire::ethertype,
};

/// The walk.
#[inline(always)]
pub fn from_uplink<P: Packet, T: BothTables, K: BothKernels>(
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
        |packet| short::from_uplink(packet, tables, kernel),
        |packet, told| known(packet, tables, kernel, told),
        |packet| {
            conntrack::refresh(packet, tables, kernel).and_then(|_| short::keep(packet, tables))
        },
        |packet| first(packet, tables, kernel),
        |packet| icmp::requoted(packet, tables),
        |packet| error(packet, tables),
        |packet, end| watched::arrived(packet, tables, end),
    )
}

/// The first part: flows that exist, and the host's own traffic.
#[inline(always)]
pub fn known<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    told: Told,
) -> Outcome {
    const NOT_OURS: Outcome = Ok(Verdict::PASS);
    if packet.is_tagged() || !packet.is_for_host() {
        return NOT_OURS;
    }
    // What is malformed is no packet of ours; the kernel counts and drops it.
    let Some(header) = A::header(packet) else { return NOT_OURS };
    let (_, dst) = A::addresses(&header);
    // What is published on a loopback address alone is in the tables too.
    if dst.is_loopback() {
        return Err(DropReason::MartianLoopback);
    }
    let local = tables.local(dst);
    if local.is_none() && (dst.is_group() || tables.subnet(dst).is_none()) {
        return NOT_OURS;
    }
    let Ok(mut view) = A::view(packet, &header) else { return NOT_OURS };
    let found = match local {
        None => not_for_host(tables, &mut view)?,
        Some(local) => for_host(tables, &mut view, local),
    };
    match found {
        Known::Flow(flow) => {
            if conntrack::waits(tables, kernel, told, &view, &flow) {
                return Ok(Verdict::STALE);
            }
            if view.first_fragment {
                parse::remember(tables, &view);
            }
            translate(packet, tables, &view, &flow)
        }
        Known::First => Ok(Verdict::FIRST),
        Known::Error => Ok(Verdict::ERROR),
        Known::Host => NOT_OURS,
    }
}

/// The part for first packets: to published ports, and to containers that may be addressed directly.
#[inline(always)]
pub fn first<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let mut view = family::view::<A, P>(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let ifindex = packet.interface();
    let mtu = tables.uplink(ifindex).map_or(0xffff, |uplink| uplink.mtu);
    let Some(local) = tables.local(view.key.dst) else {
        let subnet = tables.subnet(view.key.dst).ok_or(DropReason::DirectRoutingBlocked)?;
        let marked = tables.config().is_some_and(|config| config.accepts_mark(packet.mark()));
        return directly(tables, kernel, &view, subnet, (ifindex, mtu), marked);
    };
    let rule = service::find(tables, local, &view.key).ok_or(DropReason::UnpublishedPort)?;
    service::open_from_outside((ifindex, mtu), tables, kernel, &view.key, rule)?;
    Ok(Verdict::FIRST)
}

/// Opens a flow to a container that is addressed directly, if it may be.
#[inline(always)]
fn directly<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    view: &View<A>,
    subnet: Subnet,
    (ifindex, mtu): (u32, u32),
    marked: bool,
) -> Outcome {
    const BLOCKED: DropReason = DropReason::DirectRoutingBlocked;
    let network = tables.network(subnet.network).ok_or(BLOCKED)?;
    if network.flags & Network::INTERNAL != 0 {
        return Err(BLOCKED);
    }
    let to = tables.neighbour(subnet.network, view.key.dst).ok_or(BLOCKED)?;
    let rule = if marked {
        0
    } else {
        direct::allowed(tables, view, &network, (subnet.network, &to), Some(ifindex))
            .ok_or(BLOCKED)?
    };
    service::may_come_from_outside(tables, view.key.src)?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.reply = conntrack::leave_by(ifindex, A::UNSPECIFIED, conntrack::narrower(mtu, 0));
    direct::open(tables, kernel, &view.key, entries, &to, rule)?;
    Ok(Verdict::FIRST)
}

/// The part for ICMP errors, for the host or for a container.
#[inline(always)]
pub fn error<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let view = &family::view::<A, P>(packet)?;
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
    if view.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    icmp::translate(packet, view, &flow, &quote, Ttl::Decrement)?;
    from_container::forward(packet, tables, &flow)
}

/// What a packet addressed to the host is.
enum Known<A> {
    /// One of a flow.
    Flow(Flow<A>),
    /// The first one to a published port.
    First,
    /// An ICMP error.
    Error,
    /// The host's own.
    Host,
}

/// Finds the flow of a packet addressed to the host.
#[inline(always)]
fn for_host<A: Family, T: Tables<A>>(tables: &T, view: &mut View<A>, local: Local) -> Known<A> {
    if local.flags & Local::BROADCAST != 0 {
        return Known::Host;
    }
    if view.kind == Kind::Later && parse::reunite(tables, view).is_none() {
        return Known::Host;
    }
    if view.kind == Kind::Error {
        return Known::Error;
    }
    let rule = service::find(tables, local, &view.key);
    let may_be_flow = rule.is_some()
        || !matches!(view.kind, Kind::Ports | Kind::Later)
        || tables.config().is_some_and(|config| config.masquerades_with(view.key.dst_port));
    if !may_be_flow {
        return Known::Host;
    }
    match conntrack::find(tables, &view.key) {
        Some(flow) => Known::Flow(flow),
        None if rule.is_some() => Known::First,
        None => Known::Host,
    }
}

/// A packet for a container's own address: an answer on a network without masquerade, or addressed directly.
#[inline(always)]
fn not_for_host<A: Family, T: Tables<A>>(
    tables: &T,
    view: &mut View<A>,
) -> Result<Known<A>, DropReason> {
    if view.kind == Kind::Error {
        return Ok(Known::Error);
    }
    parse::reunite(tables, view).ok_or(DropReason::FragNotFound)?;
    Ok(conntrack::find(tables, &view.key).map_or(Known::First, Known::Flow))
}

/// Translates a packet of a flow and sends it on.
#[inline(always)]
fn translate<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    view: &View<A>,
    flow: &Flow<A>,
) -> Outcome {
    if conntrack::verdict(flow) == Verdict::PASS {
        // A station that was plugged in by hand: the kernel routes it there.
        let to = conntrack::rewritten(&view.key, flow);
        rewrite::translate(packet, view, &to, Ttl::Keep)?;
        return Ok(Verdict::PASS);
    }
    from_container::translated(packet, tables, view, flow)
}

/// The part for packets that are answered by an ICMP error: from the address that was asked for, if it is the
/// host's, so that a published port looks like one.
#[inline(always)]
pub fn answered<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    verdict: &Verdict,
) -> Outcome {
    let header = A::header(packet).ok_or(DropReason::Malformed)?;
    let (_, dst) = A::addresses(&header);
    let source = if tables.local(dst).is_some() {
        dst
    } else {
        tables.uplink(packet.interface()).map_or(A::UNSPECIFIED, |uplink| A::source(&uplink))
    };
    answer::write(packet, tables, verdict, source)
}
