//! ICMP errors about translated packets: the quote and the outer addresses are translated, and so is the quoted
//! transport checksum, where it is quoted (RFC 5508, section 4.2).

use crate::{
    abi::{DropReason, Flow, FlowKey},
    datapath::{
        conntrack,
        family::{self, Family},
        parse::{self, Kind, Quote, View},
        rewrite::{self, Ttl},
        verdict::{Outcome, Verdict},
    },
    io::{Checksum, Packet, Tables},
    wire::{Icmp, Ports, checksum, proto, tcp, udp},
};

/// The flow that an ICMP error is about, with the quote. None: it is about none of ours.
#[inline(always)]
pub fn related<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    view: &View<A>,
) -> Option<(Flow<A>, Quote<A>)> {
    let quote = A::quote(packet, view)?;
    let flow = conntrack::find(tables, &quote.key.reversed())?;
    Some((flow, quote))
}

/// The part for what ICMP errors quote, before that for the errors themselves.
#[inline(always)]
pub fn requoted<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let _ = requote(packet, tables, |_| true);
    Ok(Verdict::PASS)
}

/// Gives the transport checksum inside the quote what [`translate`] is about to change, where the flow is one that the
/// error may be about. A part of its own and before the other, for the stack.
#[inline(always)]
pub fn requote<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    may: impl Fn(&Flow<A>) -> bool,
) -> Option<()> {
    let view = &family::view::<A, P>(packet).ok()?;
    if view.kind != Kind::Error {
        return None;
    }
    let (flow, quote) = related(packet, tables, view)?;
    if !may(&flow) {
        return None;
    }
    let old = &quote.key;
    let new = conntrack::rewritten(&old.reversed(), &flow).reversed();
    let mut diff = checksum::both(
        checksum::port(old.src_port, new.src_port),
        checksum::port(old.dst_port, new.dst_port),
    );
    if !quote.echo || A::ICMP_PSEUDO {
        let addresses =
            checksum::both(A::difference(old.src, new.src), A::difference(old.dst, new.dst));
        diff = checksum::both(diff, addresses);
    }
    let field = match old.proto {
        proto::TCP => tcp::CHECKSUM,
        proto::UDP => udp::CHECKSUM,
        _ if quote.echo => Icmp::CHECKSUM,
        _ => return None,
    };
    let at = parse::bounded(quote.l4) + field;
    // Behind the end of the packet there may be padding of the frame.
    if at + 2 > P::NETWORK + view.length {
        return None;
    }
    let was: u16 = packet.load(at)?;
    if old.proto == proto::UDP && was == 0 {
        return None;
    }
    let now = match checksum::update(was, diff) {
        0 if old.proto == proto::UDP => 0xffff,
        now => now,
    };
    packet.store(at, now)?;
    packet.adjust(
        parse::bounded(view.l4) + Icmp::CHECKSUM,
        checksum::word(was, now),
        Checksum::Segment,
        false,
    )
}

/// Translates an ICMP error: its quote, and its own addresses.
#[inline(always)]
pub fn translate<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
    flow: &Flow<A>,
    quote: &Quote<A>,
    ttl: Ttl,
) -> Result<(), DropReason> {
    try_translate(packet, view, flow, quote, ttl).ok_or(DropReason::ChecksumBad)
}

#[inline(always)]
fn try_translate<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
    flow: &Flow<A>,
    quote: &Quote<A>,
    ttl: Ttl,
) -> Option<()> {
    let old = &quote.key;
    let new = conntrack::rewritten(&old.reversed(), flow).reversed();
    let addresses =
        checksum::both(A::difference(old.src, new.src), A::difference(old.dst, new.dst));
    let mut diff = A::requote(packet, quote, new.src, new.dst, addresses)?;
    let ports = checksum::both(
        checksum::port(old.src_port, new.src_port),
        checksum::port(old.dst_port, new.dst_port),
    );
    if quote.ports {
        packet.store(quote.l4, Ports { src: new.src_port, dst: new.dst_port })?;
        diff = checksum::both(diff, ports);
    } else if quote.echo {
        packet.store(quote.l4 + Icmp::ID, new.src_port.0 | new.dst_port.0)?;
        diff = checksum::both(diff, ports);
    }
    packet.adjust(view.l4 + Icmp::CHECKSUM, diff, Checksum::Segment, false)?;
    // The error comes from the other end itself, or from a router on the way, which keeps its address.
    let src = if view.key.src == old.dst { new.dst } else { view.key.src };
    let outer = FlowKey { src, dst: new.src, ..view.key };
    rewrite::outer(packet, view, &outer, ttl)
}
