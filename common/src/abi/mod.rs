//! The bytes that cross the kernel line: data and conversions, no decisions.
//!
//! Integers are in the host's byte order unless their type says otherwise: [`Ip4`], [`Ip6`] and [`Port`]
//! hold the bytes as they stand in a packet. Padding is spelled out, so that keys hash the same everywhere.

pub mod address;
pub mod config;
pub mod conntrack;
pub mod counters;
pub mod deny;
pub mod endpoint;
pub mod event;
pub mod names;
pub mod reason;
pub mod service;
pub mod socket;
pub mod traffic;

pub use address::{Address, AnyIp, Ip4, Ip6};
pub use config::{Config, Timeouts};
pub use conntrack::{
    Action, Flow, Flow4, Flow6, FlowKey, FlowKey4, FlowKey6, FragmentKey, FragmentKey4,
    FragmentKey6, FragmentPorts, state,
};
pub use counters::{Count, DropKey, EndpointCounters, QuestionKey, RuleCounters, Stat, Tally};
pub use deny::Denied;
pub use endpoint::{
    Endpoint, LinkKey, Local, Neighbour, NeighbourKey, NeighbourKey4, NeighbourKey6, Network,
    Subnet, TrustKey, Uplink,
};
pub use event::{Event, Record};
pub use reason::{Direction, DropReason};
pub use service::{PortSlot, Rule, ServedKey};
pub use socket::{SocketKey, SocketOrigin};
pub use traffic::{Chosen, Traffic, watch};

/// Version of everything in this module. It is part of the pin directory's name: a change of layout
/// takes a new number, and with it new maps.
pub const ABI_VERSION: u32 = 2;

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

    use super::*;

    macro_rules! pod {
        ($($type:ty),+ $(,)?) => {$(
            // SAFETY: repr(C) or repr(transparent), integers and arrays of integers only, with padding
            // spelled out (the size assertions beside each type prove it): any bytes are a value.
            unsafe impl aya::Pod for $type {}
        )+};
    }
    pod!(
        Ip4,
        Ip6,
        AnyIp,
        Port,
        Config,
        FlowKey4,
        FlowKey6,
        Flow4,
        Flow6,
        FragmentKey4,
        FragmentKey6,
        FragmentPorts,
        Count,
        DropKey,
        QuestionKey,
        EndpointCounters,
        RuleCounters,
        Endpoint,
        LinkKey,
        Local,
        Neighbour,
        NeighbourKey4,
        NeighbourKey6,
        TrustKey,
        ServedKey,
        Network,
        Subnet,
        Uplink,
        Event,
        Record,
        PortSlot,
        SocketKey,
        SocketOrigin,
        Rule,
        Denied,
        Traffic,
        Chosen,
    );
}
