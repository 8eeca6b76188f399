//! The bytes that cross the kernel line: data and conversions, no decisions.
//!
//! Integers are in the host's byte order unless their type says otherwise: [`Ip4`] and [`Port`] hold
//! the bytes as they stand in a packet. Padding is spelled out, so that keys hash the same everywhere.

pub mod config;
pub mod conntrack;
pub mod counters;
pub mod endpoint;
pub mod event;
pub mod names;
pub mod reason;
pub mod service;

pub use config::{Config, Timeouts};
pub use conntrack::{Action, Flow4, FlowKey4, FragmentKey, FragmentPorts, state};
pub use counters::{Count, DropKey, EndpointCounters, RuleCounters, Stat};
pub use endpoint::{Endpoint, LinkKey, Local, Neighbour, NeighbourKey4, Network, Subnet, Uplink};
pub use event::Event;
pub use reason::{Direction, DropReason};
pub use service::{PortSlot, Rule};

/// Version of everything in this module. It is part of the pin directory's name: a change of layout
/// takes a new number, and with it new maps.
pub const ABI_VERSION: u32 = 1;

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

/// A transport port, or an ICMP identifier, as it stands in a packet (network byte order).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u16);

impl Port {
    /// The port with this number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The port's number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An Ethernet address.
pub type Mac = [u8; 6];

#[cfg(any(feature = "user", feature = "testing"))]
mod user {
    //! What only the agent's side needs.

    use std::net::Ipv4Addr;

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

    macro_rules! pod {
        ($($type:ty),+ $(,)?) => {$(
            // SAFETY: repr(C) or repr(transparent), integers and arrays of integers only, with padding
            // spelled out (the size assertions beside each type prove it): any bytes are a value.
            unsafe impl aya::Pod for $type {}
        )+};
    }
    pod!(
        Ip4,
        Port,
        Config,
        FlowKey4,
        Flow4,
        FragmentKey,
        FragmentPorts,
        Count,
        DropKey,
        EndpointCounters,
        RuleCounters,
        Endpoint,
        LinkKey,
        Local,
        Neighbour,
        NeighbourKey4,
        Network,
        Subnet,
        Uplink,
        Event,
        PortSlot,
        Rule,
    );
}
