//! Changes to a packet: translation, time to live, Ethernet addresses.

use crate::{
    abi::{DropReason, FlowKey4, Mac},
    datapath::parse::{Kind, View},
    io::{Checksum, Packet},
    wire::{Icmp, Ipv4, Ipv4Tail, Ports, checksum, proto, tcp, udp},
};

/// What happens to the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// This packet is routed here, by us.
    Decrement,
    /// It is not, or the kernel does it.
    Keep,
}

/// Gives the packet the tuple `to`. Later fragments have no layer 4 to change; its checksum, in the
/// first one, covers the addresses of them all.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    view: &View,
    to: &FlowKey4,
    ttl: Ttl,
) -> Result<(), DropReason> {
    try_translate(packet, view, to, ttl).ok_or(DropReason::ChecksumBad)
}

#[inline(always)]
fn try_translate<P: Packet>(packet: &mut P, view: &View, to: &FlowKey4, ttl: Ttl) -> Option<()> {
    let from = &view.key;
    let addresses =
        checksum::both(checksum::address(from.src, to.src), checksum::address(from.dst, to.dst));
    match view.kind {
        Kind::Ports => {
            let is_udp = from.proto == proto::UDP;
            let field = view.l4 + if is_udp { udp::CHECKSUM } else { tcp::CHECKSUM };
            packet.adjust(field, addresses, Checksum::Pseudo, is_udp)?;
            if (from.src_port, from.dst_port) != (to.src_port, to.dst_port) {
                let ports = checksum::both(
                    checksum::port(from.src_port, to.src_port),
                    checksum::port(from.dst_port, to.dst_port),
                );
                packet.adjust(field, ports, Checksum::Segment, is_udp)?;
                packet.store(view.l4, Ports { src: to.src_port, dst: to.dst_port })?;
            }
        }
        Kind::Echo => {
            // One of the two is the identifier, the other is 0 on both sides.
            let old = from.src_port.0 | from.dst_port.0;
            let new = to.src_port.0 | to.dst_port.0;
            if old != new {
                let field = view.l4 + Icmp::CHECKSUM;
                packet.adjust(field, checksum::word(old, new), Checksum::Segment, false)?;
                packet.store(view.l4 + Icmp::ID, new)?;
            }
        }
        Kind::Error | Kind::Portless | Kind::Later => {}
    }
    header(packet, to, addresses, ttl)
}

/// Replaces the addresses of the IP header, whose difference is `addresses`, and counts the time to live.
#[inline(always)]
fn header<P: Packet>(packet: &mut P, to: &FlowKey4, addresses: u32, ttl: Ttl) -> Option<()> {
    let mut tail: Ipv4Tail = packet.load(P::NETWORK + Ipv4::TAIL)?;
    let mut diff = addresses;
    if ttl == Ttl::Decrement {
        let [old, proto] = tail.ttl_proto.to_ne_bytes();
        let new = u16::from_ne_bytes([old.wrapping_sub(1), proto]);
        diff = checksum::both(diff, checksum::word(tail.ttl_proto, new));
        tail.ttl_proto = new;
    }
    tail.checksum = checksum::update(tail.checksum, diff);
    tail.src = to.src;
    tail.dst = to.dst;
    packet.store(P::NETWORK + Ipv4::TAIL, tail)
}

/// Counts the time to live of a packet that is routed here and not translated.
#[inline(always)]
pub fn decrement_ttl<P: Packet>(packet: &mut P, view: &View) -> Result<(), DropReason> {
    header(packet, &view.key, 0, Ttl::Decrement).ok_or(DropReason::ChecksumBad)
}

/// Replaces the Ethernet addresses.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &mut P, dst: Mac, src: Mac) -> Result<(), DropReason> {
    packet.address(dst, src).ok_or(DropReason::Malformed)
}
