//! ICMP errors about translated packets: the quote and the outer addresses are translated; the quoted
//! transport checksum is left as it is: it may lie beyond the eight quoted bytes, and nobody verifies it.

use crate::{
    abi::{DropReason, Flow, FlowKey},
    datapath::{
        conntrack,
        family::Family,
        parse::{Quote, View},
        rewrite::{self, Ttl},
    },
    io::{Checksum, Packet, Tables},
    wire::{Icmp, Ports, checksum},
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
