//! Addresses of both families, as they stand in packets.

use core::{fmt::Debug, hash::Hash};

/// An address of one of the two families.
pub trait Address: Copy + Eq + Ord + Hash + Default + Debug + 'static {
    /// The address that stands for none, or for every one.
    const UNSPECIFIED: Self;
    /// Length of an address, in bits.
    const BITS: u32;
    /// The address that a field for either family holds.
    fn from_any(any: AnyIp) -> Self;
    /// The address for a field that holds either family.
    fn to_any(self) -> AnyIp;
    /// Multicast.
    fn is_multicast(self) -> bool;
    /// Loopback.
    fn is_loopback(self) -> bool;
}

/// An IPv4 address as it stands in a packet (network byte order).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip4(pub u32);

impl Ip4 {
    /// `0.0.0.0`.
    pub const UNSPECIFIED: Self = Self(0);
    /// `255.255.255.255`.
    pub const BROADCAST: Self = Self(u32::MAX);

    /// The address with these four bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The four bytes, first on the wire first.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// `224.0.0.0/4`.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.octets()[0] & 0xf0 == 0xe0
    }

    /// `127.0.0.0/8`.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        self.octets()[0] == 127
    }
}

impl Address for Ip4 {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const BITS: u32 = 32;

    #[inline(always)]
    fn from_any(any: AnyIp) -> Self {
        Self(any.0[0])
    }

    #[inline(always)]
    fn to_any(self) -> AnyIp {
        AnyIp([self.0, 0, 0, 0])
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.is_multicast()
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.is_loopback()
    }
}

/// An IPv6 address as it stands in a packet (network byte order), in words that BPF copies and compares
/// without loops.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip6(pub [u32; 4]);

impl Ip6 {
    /// `::`.
    pub const UNSPECIFIED: Self = Self([0; 4]);
    /// `::1`.
    pub const LOOPBACK: Self = Self([0, 0, 0, 1u32.to_be()]);

    /// The address with these sixteen bytes.
    #[inline(always)]
    pub const fn new(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The sixteen bytes, first on the wire first.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }

    /// The link-local address of an Ethernet address (RFC 4291, appendix A).
    #[inline(always)]
    pub const fn link_local(mac: &super::Mac) -> Self {
        let [a, b, c, d, e, f] = *mac;
        Self::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// `ff00::/8`.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0xff00_0000u32.to_be() == 0xff00_0000u32.to_be()
    }

    /// `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        self.0[0] & 0xffc0_0000u32.to_be() == 0xfe80_0000u32.to_be()
    }
}

impl Address for Ip6 {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const BITS: u32 = 128;

    #[inline(always)]
    fn from_any(any: AnyIp) -> Self {
        Self(any.0)
    }

    #[inline(always)]
    fn to_any(self) -> AnyIp {
        AnyIp(self.0)
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.is_multicast()
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self == Self::LOOPBACK
    }
}

/// An address whose family something beside it says; IPv4 is in the first word, with zeros behind.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyIp(pub [u32; 4]);

#[cfg(any(feature = "user", feature = "testing"))]
mod user {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    impl From<Ipv4Addr> for Ip4 {
        fn from(address: Ipv4Addr) -> Self {
            Self::new(address.octets())
        }
    }

    impl From<Ip4> for Ipv4Addr {
        fn from(address: Ip4) -> Self {
            Self::from(address.octets())
        }
    }

    impl From<Ipv6Addr> for Ip6 {
        fn from(address: Ipv6Addr) -> Self {
            Self::new(address.octets())
        }
    }

    impl From<Ip6> for Ipv6Addr {
        fn from(address: Ip6) -> Self {
            Self::from(address.octets())
        }
    }

    impl From<IpAddr> for AnyIp {
        fn from(address: IpAddr) -> Self {
            match address {
                IpAddr::V4(address) => Ip4::from(address).to_any(),
                IpAddr::V6(address) => Ip6::from(address).to_any(),
            }
        }
    }
}
