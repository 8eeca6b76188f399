//! ICMP errors about a translated flow (RFC 5508 section 4).
//!
//! The quoted packet is the one that was last sent, so its reverse is the key of an entry: the answers'.
//! What that entry does to an answer is undone in the quote. The quoted transport checksum is left as it
//! is: it may lie beyond the eight quoted bytes, and nobody verifies it.

use crate::{
    abi::{DropReason, Flow4, FlowKey4},
    datapath::{
        conntrack,
        parse::{self, Quote, View},
        rewrite::{self, Ttl},
    },
    io::{Checksum, Packet, Tables},
    wire::{Icmp, Ports, checksum},
};

/// Offset of the addresses in an IPv4 header, in bytes.
const ADDRESSES: u32 = 12;
/// Offset of the checksum in an IPv4 header, in bytes.
const HEADER_CHECKSUM: u32 = 10;

/// The flow that an ICMP error is about, with the quote. None: it is about none of ours.
#[inline(always)]
pub fn related<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    view: &View,
) -> Option<(Flow4, Quote)> {
    let quote = parse::quote(packet, view)?;
    let flow = conntrack::find(tables, &quote.key.reversed())?;
    Some((flow, quote))
}

/// Translates an ICMP error: its quote, and its own addresses.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    view: &View,
    flow: &Flow4,
    quote: &Quote,
    ttl: Ttl,
) -> Result<(), DropReason> {
    try_translate(packet, view, flow, quote, ttl).ok_or(DropReason::ChecksumBad)
}

#[inline(always)]
fn try_translate<P: Packet>(
    packet: &mut P,
    view: &View,
    flow: &Flow4,
    quote: &Quote,
    ttl: Ttl,
) -> Option<()> {
    let old = &quote.key;
    let new = conntrack::rewritten(&old.reversed(), flow).reversed();
    let addresses =
        checksum::both(checksum::address(old.src, new.src), checksum::address(old.dst, new.dst));
    let header_checksum = checksum::update(quote.checksum, addresses);
    let mut diff = checksum::both(addresses, checksum::word(quote.checksum, header_checksum));
    packet.store(quote.l3 + HEADER_CHECKSUM, header_checksum)?;
    packet.store(quote.l3 + ADDRESSES, new.src)?;
    packet.store(quote.l3 + ADDRESSES + 4, new.dst)?;
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
    let outer = FlowKey4 { src, dst: new.src, ..view.key };
    rewrite::translate(packet, view, &outer, ttl).ok()
}
