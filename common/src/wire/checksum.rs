//! Internet checksums, changed by difference (RFC 1071, RFC 1624).
//!
//! Sums are over 16-bit words in whatever byte order they were loaded: one's complement addition does
//! not care, as long as one order is kept (RFC 1071, section 2 (B)).

use crate::abi::{Ip4, Ip6, Port};

/// One's complement addition of 32-bit partial sums.
#[inline(always)]
const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    sum as u32 + (sum >> 32) as u32
}

/// The difference that replacing an address makes.
#[inline(always)]
pub const fn address(old: Ip4, new: Ip4) -> u32 {
    add(!old.0, new.0)
}

/// The difference that replacing an IPv6 address makes.
#[inline(always)]
pub const fn address6(old: Ip6, new: Ip6) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (old.0, new.0);
    // Eight words of 32 bits do not overflow 64.
    let sum =
        !a as u64 + !b as u64 + !c as u64 + !d as u64 + e as u64 + f as u64 + g as u64 + h as u64;
    add(sum as u32, (sum >> 32) as u32)
}

/// The difference that replacing a 16-bit field makes.
#[inline(always)]
pub const fn word(old: u16, new: u16) -> u32 {
    !old as u32 + new as u32
}

/// The difference that replacing a port makes.
#[inline(always)]
pub const fn port(old: Port, new: Port) -> u32 {
    word(old.0, new.0)
}

/// Both differences together.
#[inline(always)]
pub const fn both(a: u32, b: u32) -> u32 {
    add(a, b)
}

/// A partial sum folded to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    folded(sum as u64)
}

/// The same of less than 33 bits: in words that BPF has, which counts carries by comparisons.
#[inline(always)]
const fn folded(sum: u64) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    ((twice & 0xffff) + (twice >> 16)) as u16
}

/// The checksum after a change: `~(~checksum + diff)` (RFC 1624, equation 3).
#[inline(always)]
pub const fn update(checksum: u16, diff: u32) -> u16 {
    !folded(!checksum as u64 + diff as u64)
}

/// The same after a change that is folded already.
#[inline(always)]
pub const fn update_by(checksum: u16, diff: u16) -> u16 {
    let sum = !checksum as u64 + diff as u64;
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The partial sum of bytes, from scratch; an odd last byte counts as followed by zero.
#[cfg(any(feature = "user", feature = "testing", test))]
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |total, pair| {
        let word = u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        add(total, u32::from(word))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// checksum(patched) = checksum(recomputed), whatever the bytes and the change.
        #[test]
        fn patched_equals_recomputed(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), new: [u8; 4]) {
            let before = !fold(sum(&bytes));
            let old = Ip4::new([bytes[4], bytes[5], bytes[6], bytes[7]]);
            bytes[4..8].copy_from_slice(&new);
            let patched = update(before, address(old, Ip4::new(new)));
            let recomputed = !fold(sum(&bytes));
            // One's complement has two zeros; a header with any bit set never shows the one.
            prop_assert!(patched == recomputed || (patched == 0xffff && recomputed == 0) || (patched == 0 && recomputed == 0xffff));
        }
    }
}
