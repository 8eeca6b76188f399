//! Changes to a packet: translation, time to live, Ethernet addresses, segment size.

use crate::{
    abi::{DropReason, FlowKey, Mac},
    datapath::{
        family::Family,
        parse::{Kind, View},
    },
    io::{Checksum, Packet},
    wire::{Icmp, checksum, proto, tcp, udp},
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
pub fn translate<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
    to: &FlowKey<A>,
    ttl: Ttl,
) -> Result<(), DropReason> {
    try_translate(packet, view, to, ttl).ok_or(DropReason::ChecksumBad)
}

#[inline(always)]
fn try_translate<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
    to: &FlowKey<A>,
    ttl: Ttl,
) -> Option<()> {
    let from = &view.key;
    let addresses =
        checksum::both(A::difference(from.src, to.src), A::difference(from.dst, to.dst));
    match view.kind {
        Kind::Ports => {
            let is_udp = from.proto == proto::UDP;
            let field = view.l4 + if is_udp { udp::CHECKSUM } else { tcp::CHECKSUM };
            packet.adjust(field, addresses, Checksum::pseudo::<A>(), is_udp)?;
            if (from.src_port, from.dst_port) != (to.src_port, to.dst_port) {
                let ports = checksum::both(
                    checksum::port(from.src_port, to.src_port),
                    checksum::port(from.dst_port, to.dst_port),
                );
                packet.adjust(field, ports, Checksum::Segment, is_udp)?;
                return A::readdress_ports(packet, view.l4, to, addresses, ttl);
            }
        }
        Kind::Echo | Kind::Error | Kind::Icmp => {
            let field = view.l4 + Icmp::CHECKSUM;
            if A::ICMP_PSEUDO {
                packet.adjust(field, addresses, Checksum::pseudo::<A>(), false)?;
            }
            // One of the two is the identifier, the other is 0 on both sides; errors have none.
            let old = from.src_port.0 | from.dst_port.0;
            let new = to.src_port.0 | to.dst_port.0;
            if old != new {
                packet.adjust(field, checksum::word(old, new), Checksum::Segment, false)?;
                packet.store(view.l4 + Icmp::ID, new)?;
            }
        }
        Kind::Portless | Kind::Later => {}
    }
    A::readdress(packet, to, addresses, ttl)
}

/// Gives an ICMP error, whose checksum covers its quote too, other addresses of its own.
#[inline(always)]
pub fn outer<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
    to: &FlowKey<A>,
    ttl: Ttl,
) -> Option<()> {
    let from = &view.key;
    let addresses =
        checksum::both(A::difference(from.src, to.src), A::difference(from.dst, to.dst));
    if A::ICMP_PSEUDO {
        let field = view.l4 + Icmp::CHECKSUM;
        packet.adjust(field, addresses, Checksum::pseudo::<A>(), false)?;
    }
    A::readdress(packet, to, addresses, ttl)
}

/// Counts the time to live of a packet that is routed here and not translated.
#[inline(always)]
pub fn decrement_ttl<A: Family, P: Packet>(
    packet: &mut P,
    view: &View<A>,
) -> Result<(), DropReason> {
    A::readdress(packet, &view.key, 0, Ttl::Decrement).ok_or(DropReason::ChecksumBad)
}

/// Replaces the Ethernet addresses.
#[inline(always)]
pub fn ethernet<A: Family, P: Packet>(
    packet: &mut P,
    dst: Mac,
    src: Mac,
) -> Result<(), DropReason> {
    packet.address(dst, src, A::ETHERTYPE).ok_or(DropReason::Malformed)
}

/// Options of a SYN that are looked at for its maximum segment size; it is one of the first ones in practice.
const OPTIONS: u32 = 8;

/// Lowers the maximum segment size that a SYN announces to what fits into `mtu` bytes. What cannot be read is left
/// alone: a size too large costs an ICMP error, not the connection.
#[inline(always)]
pub fn clamp_segment_size<A: Family, P: Packet>(packet: &mut P, view: &View<A>, mtu: u32) {
    if view.tcp_flags & tcp::SYN != 0 && view.kind == Kind::Ports {
        let _ = try_clamp(packet, view, mtu);
    }
}

#[inline(always)]
fn try_clamp<A: Family, P: Packet>(packet: &mut P, view: &View<A>, mtu: u32) -> Option<()> {
    let limit = mtu.checked_sub(A::HEADER + tcp::LENGTH)?;
    let word: u16 = packet.load(view.l4 + tcp::OFFSET_FLAGS)?;
    let end = u32::from(word.to_ne_bytes()[0] >> 4) << 2;
    let mut at = tcp::LENGTH;
    for _ in 0..OPTIONS {
        if at + 4 > end {
            return None;
        }
        let word: u16 = packet.load(view.l4 + at)?;
        let [kind, length] = word.to_ne_bytes();
        match kind {
            tcp::OPTION_END => return None,
            tcp::OPTION_NOP => at += 1,
            tcp::OPTION_SEGMENT_SIZE => {
                let old: u16 = packet.load(view.l4 + at + 2)?;
                if u32::from(u16::from_be(old)) <= limit {
                    return None;
                }
                let new = (limit as u16).to_be();
                // At an odd offset the bytes count in the other order (RFC 1071, section 2 (B)).
                let odd = at & 1 != 0;
                let diff = if odd {
                    checksum::word(old.swap_bytes(), new.swap_bytes())
                } else {
                    checksum::word(old, new)
                };
                packet.adjust(view.l4 + tcp::CHECKSUM, diff, Checksum::Segment, false)?;
                return packet.store(view.l4 + at + 2, new);
            }
            _ if length >= 2 => at += u32::from(length & 0x3f),
            _ => return None,
        }
    }
    None
}
