//! What the bytes of a frame say, read by hand.

use std::net::Ipv4Addr;

use crate::wire::{checksum, proto};

/// Source address and port, destination address and port.
pub type Tuple = ((Ipv4Addr, u16), (Ipv4Addr, u16));

/// The tuple of an IPv4 packet that starts at `at`.
pub fn tuple(bytes: &[u8], at: usize) -> Tuple {
    let address =
        |from: usize| Ipv4Addr::new(bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]);
    let word = |from: usize| u16::from_be_bytes([bytes[from], bytes[from + 1]]);
    let l4 = at + usize::from(bytes[at] & 0x0f) * 4;
    let (src, dst) = match bytes[at + 9] {
        // An echo's identifier stands for both.
        proto::ICMP => (word(l4 + 4), word(l4 + 4)),
        _ => (word(l4), word(l4 + 2)),
    };
    ((address(at + 12), src), (address(at + 16), dst))
}

/// Computes every checksum of a frame from scratch.
pub fn assert_checksums(bytes: &[u8]) {
    if bytes[12..14] == [0x86, 0xdd] {
        return assert_checksums6(bytes);
    }
    let header = usize::from(bytes[14] & 0x0f) * 4;
    assert_eq!(
        checksum::fold(checksum::sum(&bytes[14..14 + header])),
        0xffff,
        "IP header checksum"
    );
    let fragment = u16::from_be_bytes([bytes[20], bytes[21]]) & 0x3fff;
    if fragment != 0 {
        return;
    }
    let segment = &bytes[14 + header..];
    let pseudo = |proto: u8| {
        let mut all = bytes[26..34].to_vec();
        all.extend([0, proto]);
        all.extend((segment.len() as u16).to_be_bytes());
        all.extend(segment);
        checksum::fold(checksum::sum(&all))
    };
    match bytes[23] {
        proto::ICMP => {
            assert_eq!(checksum::fold(checksum::sum(segment)), 0xffff, "ICMP checksum");
        }
        proto::UDP if segment[6..8] == [0, 0] => {}
        proto @ (proto::TCP | proto::UDP) => {
            assert_eq!(pseudo(proto), 0xffff, "transport checksum")
        }
        _ => {}
    }
}

/// The same for IPv6, of frames whose extension headers are of eight bytes each.
fn assert_checksums6(bytes: &[u8]) {
    let (mut at, mut next) = (54, bytes[20]);
    while matches!(
        next,
        proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::DESTINATION | proto::AH
    ) {
        if next == proto::FRAGMENT && u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]) != 0 {
            return;
        }
        next = bytes[at];
        at += 8;
    }
    if matches!(next, proto::TCP | proto::UDP | proto::ICMPV6) {
        let segment = &bytes[at..];
        let mut all = bytes[22..54].to_vec();
        all.extend((segment.len() as u32).to_be_bytes());
        all.extend([0, 0, 0, next]);
        all.extend(segment);
        assert_eq!(checksum::fold(checksum::sum(&all)), 0xffff, "transport checksum");
    }
}
