//! The deny list: whether a frame's source is on it. Asked in XDP where an uplink can run it, and at the
//! beginning of `from_uplink` where it cannot.
//!
//! Nothing here has state that a peer could fill: the tries are the agent's alone, and the counters have
//! one slot for each of their prefixes.

use crate::{
    abi::{Ip4, Ip6, deny::TOTAL},
    io::Packet,
    wire::{Ethernet, Ipv4, Ipv6, L3, Wire, ethertype},
};

/// VLAN tags that are looked behind: one of the customer's in one of the provider's.
const TAGS: u32 = 2;
/// Length of a VLAN tag, and where in it the next EtherType is, in bytes.
const TAG: (u32, u32) = (4, 2);

/// A frame as it came in.
pub trait Frame {
    /// The bytes at `offset` from the start of the frame, or none where the frame ends before.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;
    /// Length of the frame, in bytes.
    fn length(&self) -> u32;
}

/// The list and its counters.
pub trait List {
    /// Whether `from_uplink` has to ask: there is a list, and an uplink without XDP.
    fn is_asked_late(&self) -> bool;
    /// The slot of the longest prefix that an IPv4 address is in.
    fn find4(&self, src: Ip4) -> Option<u32>;
    /// The slot of the longest prefix that an IPv6 address is in.
    fn find6(&self, src: Ip6) -> Option<u32>;
    /// Adds to a slot's counters.
    fn count_denied(&self, slot: u32, packets: u32, bytes: u32);
}

/// A frame that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Slot of the prefix.
    pub slot: u32,
    /// Offset of the IP header, in bytes.
    pub network: u32,
    /// EtherType of what is there, in network byte order.
    pub ethertype: u16,
}

/// Whether a frame that has come in by an Ethernet device is denied; if so it is counted, for its prefix
/// and in all.
#[inline(always)]
pub fn judge<F: Frame, L: List>(frame: &F, list: &L) -> Option<Match> {
    let ethernet: Ethernet = frame.load(0)?;
    let found = find(frame, list, ethernet.ethertype, L3)?;
    let bytes = frame.length().wrapping_sub(found.network);
    list.count_denied(found.slot, 1, bytes);
    list.count_denied(TOTAL, 1, bytes);
    Some(found)
}

/// Whether a packet is denied that no XDP program has seen; if so it is counted for its prefix. One that
/// is denied is to be dropped as [`crate::abi::DropReason::DenyCidr`].
#[inline(always)]
pub fn is_denied<P: Packet, L: List>(packet: &P, list: &L) -> bool {
    list.is_asked_late() && is_listed(packet, list)
}

/// The rest of [`is_denied`], a function of its own for its stack.
#[inline(never)]
fn is_listed<P: Packet, L: List>(packet: &P, list: &L) -> bool {
    let Some(found) = find(&Late(packet), list, packet.protocol(), P::NETWORK) else {
        return false;
    };
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    list.count_denied(found.slot, packet.segments(), bytes);
    true
}

/// A packet that the kernel has taken apart already.
struct Late<'a, P>(&'a P);

impl<P: Packet> Frame for Late<'_, P> {
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        self.0.load(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.length()
    }
}

/// Finds the prefix that the source of a frame is in, from the EtherType of what is at `network` on.
#[inline(always)]
fn find<F: Frame, L: List>(
    frame: &F,
    list: &L,
    mut ethertype: u16,
    mut network: u32,
) -> Option<Match> {
    for _ in 0..TAGS {
        if ethertype == ethertype::VLAN || ethertype == ethertype::QINQ {
            ethertype = frame.load(network + TAG.1)?;
            network += TAG.0;
        }
    }
    let slot = match ethertype {
        ethertype::IPV4 => {
            let header: Ipv4 = frame.load(network)?;
            if header.version_ihl >> 4 != 4 {
                return None;
            }
            list.find4(header.src)
        }
        ethertype::IPV6 => {
            let header: Ipv6 = frame.load(network)?;
            if header.version[0] >> 4 != 6 {
                return None;
            }
            list.find6(header.src)
        }
        // Nobody's address: ARP above all, without which a denied neighbour could not be told apart.
        _ => None,
    }?;
    Some(Match { slot, network, ethertype })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use proptest::prelude::*;

    use super::*;

    struct Bytes(Vec<u8>);

    impl Frame for Bytes {
        fn load<T: Wire>(&self, offset: u32) -> Option<T> {
            let bytes = self.0.get(offset as usize..)?.get(..size_of::<T>())?;
            // SAFETY: there are enough bytes, and any bytes are a Wire.
            Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
        }

        fn length(&self) -> u32 {
            self.0.len() as u32
        }
    }

    #[derive(Default)]
    struct Prefixes {
        late: bool,
        v4: Vec<(u32, [u8; 4], u32)>,
        v6: Vec<(u32, [u8; 16], u32)>,
        counted: RefCell<BTreeMap<u32, (u32, u32)>>,
    }

    fn longest<const N: usize>(list: &[(u32, [u8; N], u32)], ip: [u8; N]) -> Option<u32> {
        let bit = |bytes: &[u8; N], at: u32| bytes[at as usize / 8] >> (7 - at % 8) & 1;
        let inside = |(length, prefix, _): &&(u32, [u8; N], u32)| {
            (0..*length).all(|at| bit(prefix, at) == bit(&ip, at))
        };
        list.iter().filter(inside).max_by_key(|(length, ..)| *length).map(|(.., slot)| *slot)
    }

    impl List for Prefixes {
        fn is_asked_late(&self) -> bool {
            self.late
        }
        fn find4(&self, src: Ip4) -> Option<u32> {
            longest(&self.v4, src.octets())
        }
        fn find6(&self, src: Ip6) -> Option<u32> {
            longest(&self.v6, src.octets())
        }
        fn count_denied(&self, slot: u32, packets: u32, bytes: u32) {
            let mut counted = self.counted.borrow_mut();
            let entry = counted.entry(slot).or_default();
            *entry = (entry.0 + packets, entry.1 + bytes);
        }
    }

    fn list() -> Prefixes {
        let documentation = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Prefixes {
            v4: vec![(24, [198, 51, 100, 0], 1), (32, [198, 51, 100, 9], 2)],
            v6: vec![(32, documentation, 3)],
            ..Prefixes::default()
        }
    }

    /// A frame with these tags and this source.
    fn frame(tags: &[u16], src: &[u8]) -> Bytes {
        let mut bytes = vec![2; 12];
        for tag in tags {
            bytes.extend(tag.to_ne_bytes());
            bytes.extend([0, 7]);
        }
        if src.len() == 4 {
            bytes.extend(ethertype::IPV4.to_ne_bytes());
            bytes.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0]);
            bytes.extend(src);
            bytes.extend([203, 0, 113, 1]);
        } else {
            bytes.extend(ethertype::IPV6.to_ne_bytes());
            bytes.extend([0x60, 0, 0, 0, 0, 0, 59, 64]);
            bytes.extend(src);
            bytes.extend([0; 16]);
        }
        Bytes(bytes)
    }

    fn v6(first: [u8; 4]) -> [u8; 16] {
        let mut ip = [0; 16];
        ip[..4].copy_from_slice(&first);
        ip
    }

    #[test]
    fn the_longest_prefix_of_the_source_counts_and_so_does_the_sum() {
        let list = list();
        assert_eq!(judge(&frame(&[], &[198, 51, 100, 7]), &list).map(|m| m.slot), Some(1));
        assert_eq!(judge(&frame(&[], &[198, 51, 100, 9]), &list).map(|m| m.slot), Some(2));
        assert_eq!(judge(&frame(&[], &[198, 51, 101, 9]), &list), None);
        assert_eq!(judge(&frame(&[], &v6([0x20, 1, 0x0d, 0xb8])), &list).map(|m| m.slot), Some(3));
        assert_eq!(judge(&frame(&[], &v6([0x20, 1, 0x0d, 0xb9])), &list), None);
        let counted = list.counted.into_inner();
        assert_eq!(
            counted,
            BTreeMap::from([(0, (3, 80)), (1, (1, 20)), (2, (1, 20)), (3, (1, 40))])
        );
    }

    #[test]
    fn two_tags_are_looked_behind_and_a_third_is_nobodys() {
        let list = list();
        for (tags, network) in [
            (&[ethertype::VLAN][..], 18),
            (&[ethertype::QINQ, ethertype::VLAN], 22),
            (&[ethertype::VLAN, ethertype::VLAN], 22),
        ] {
            let found = judge(&frame(tags, &[198, 51, 100, 7]), &list);
            assert_eq!(found, Some(Match { slot: 1, network, ethertype: ethertype::IPV4 }));
            assert!(judge(&frame(tags, &v6([0x20, 1, 0x0d, 0xb8])), &list).is_some());
        }
        let three = [ethertype::VLAN; 3];
        assert_eq!(judge(&frame(&three, &[198, 51, 100, 7]), &list), None);
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_left_to_the_kernel() {
        let list = list();
        let Bytes(whole) = frame(&[], &[198, 51, 100, 7]);
        for length in 0..whole.len() {
            assert_eq!(judge(&Bytes(whole[..length].to_vec()), &list), None);
        }
        let mut other = whole;
        other[14] = 0x65;
        assert_eq!(judge(&Bytes(other), &list), None);
    }

    proptest! {
        #[test]
        fn no_frame_panics_and_none_is_denied_by_an_empty_list(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = Bytes(bytes);
            judge(&bytes, &list());
            prop_assert_eq!(judge(&bytes, &Prefixes::default()), None);
        }
    }
}
