//! ICMP errors that the programs make themselves, where the kernel cannot make the right one: a packet to a
//! published port is addressed to the host, so that the kernel would deliver it.

use crate::{
    abi::{DropReason, Mac},
    datapath::{
        family::{self, Family},
        parse::Kind,
        verdict::{Kind as Fate, Outcome, Verdict},
    },
    io::{Packet, Tables},
    wire::{Ethernet, Macs, checksum, proto, tcp},
};

/// Bytes of layer 4 that are quoted: the ports and the sequence number.
const QUOTED: u32 = 8;
/// Most bytes of the packet that are quoted.
const MOST: u32 = 96;
/// Length of an ICMP header, in bytes.
const ICMP: u32 = 8;

/// Turns the packet into the ICMP error that answers it, from `source`, and sends it back. The reason of the drop
/// stands where none can be made.
#[inline(always)]
pub fn write<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    verdict: &Verdict,
    source: A,
) -> Outcome {
    let reason = verdict.answers().unwrap_or(DropReason::Malformed);
    let view = family::view::<A, P>(packet)?;
    // RFC 1122, section 3.2.2: never about an error, a later fragment, or a source that is no single host.
    let src = view.key.src;
    if matches!(view.kind, Kind::Error | Kind::Later)
        || src.is_group()
        || src == A::UNSPECIFIED
        || source == A::UNSPECIFIED
        || !tables.may_answer()
    {
        return Err(reason);
    }
    // The kernel does not cut a packet in front of a checksum that it still has to fill in.
    let quoted = if view.key.proto == proto::TCP { tcp::LENGTH } else { QUOTED };
    let front = view.l4.wrapping_sub(P::NETWORK);
    if front > MOST - quoted {
        return Err(reason);
    }
    let length = front + quoted;
    let macs = if P::NETWORK == 0 { None } else { packet.load::<Ethernet>(0) };
    let too_big = verdict.kind == Fate::TooBig;
    let mtu = if too_big { verdict.ifindex } else { 0 };
    packet.make_room(P::NETWORK + length, A::HEADER + ICMP).ok_or(reason)?;
    if let Some(Ethernet { dst, src, .. }) = macs {
        turn(packet, dst, src).ok_or(reason)?;
    }
    A::write_header(packet, source, src, ICMP + length).ok_or(reason)?;
    let at = P::NETWORK + A::HEADER;
    let (kind, code) = if too_big { A::TOO_BIG } else { A::TIME_EXCEEDED };
    packet.store(at, u32::from_ne_bytes([kind, code, 0, 0])).ok_or(reason)?;
    // ICMPv4 has 16 bits for the MTU, behind 16 unused ones (RFC 1191); ICMPv6 has 32.
    packet.store(at + 4, mtu.to_be()).ok_or(reason)?;
    let mut sum = if A::ICMP_PSEUDO {
        checksum::both(
            A::difference(A::UNSPECIFIED, source),
            checksum::both(
                A::difference(A::UNSPECIFIED, src),
                (ICMP + length + u32::from(A::ICMP)).to_be(),
            ),
        )
    } else {
        0
    };
    for word in 0..(ICMP + MOST) / 4 {
        if word * 4 >= ICMP + length {
            break;
        }
        let value: u32 = packet.load(at + word * 4).ok_or(reason)?;
        sum = checksum::both(sum, value);
    }
    packet.store(at + 2, !checksum::fold(sum)).ok_or(reason)?;
    Ok(Verdict::BACK)
}

/// Sends the frame back to whom it came from.
#[inline(always)]
fn turn<P: Packet>(packet: &mut P, dst: Mac, src: Mac) -> Option<()> {
    packet.store(0, Macs { dst: src, src: dst })
}
