//! Connection tracking: a tuple, and the tuple it is rewritten to.
//!
//! A flow with the tuple `t` rewritten to `u` has two entries: `t → u` and `reverse(u) → reverse(t)`.
//! One lookup a packet serves masquerade, publishing, both at once, and ICMP errors. Traffic within a
//! network has no entry.
//!
//! The table is an LRU hash: an entry may be recycled under a reader, who then sees a stale mix for one
//! packet. The generations make such a mix harmless: they must match those of the endpoints.

use super::{Ip4, Ip6, Mac, Port};

/// Key of `FLOWS4` and `FLOWS6`: the tuple of a packet as it arrives.
///
/// ICMP echo: a request has the identifier as source port and 0 as destination port, a reply the other
/// way round. Protocols without ports have 0 in both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
    /// Zero; room for overlapping address spaces.
    pub zone: u16,
}
/// Key of `FLOWS4`.
pub type FlowKey4 = FlowKey<Ip4>;
/// Key of `FLOWS6`.
pub type FlowKey6 = FlowKey<Ip6>;
const _: () = assert!(size_of::<FlowKey4>() == 16 && align_of::<FlowKey4>() == 4);
const _: () = assert!(size_of::<FlowKey6>() == 40 && align_of::<FlowKey6>() == 4);

impl<A: Copy> FlowKey<A> {
    /// The tuple of the answer.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..self
        }
    }
}

/// What becomes of a packet of a flow.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To the container behind [`Flow::ifindex`].
    Deliver = 1,
    /// Out of the uplink [`Flow::ifindex`] to [`Flow::next_hop`].
    Leave = 2,
}

/// Bits of [`Flow::state`]; both entries of a flow carry the same, set on the rare packets that change
/// them.
pub mod state {
    /// A packet of the answering direction was seen.
    pub const REPLIED: u8 = 1;
    /// FIN of the opening direction.
    pub const FIN_ORIGINAL: u8 = 2;
    /// FIN of the answering direction.
    pub const FIN_REPLY: u8 = 4;
    /// RST of either direction.
    pub const RESET: u8 = 8;
    /// This entry is the answering direction's.
    pub const IS_REPLY: u8 = 16;
    /// TCP only: the handshake's third packet, or later, was seen.
    pub const ESTABLISHED: u8 = 32;
    /// Those of which any one says that the connection ends.
    pub const ENDING: u8 = FIN_ORIGINAL | FIN_REPLY | RESET;
}

/// Value of `FLOWS4` and `FLOWS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// Source address on the way out of us.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// An [`Action`].
    pub action: u8,
    /// Bits of [`state`].
    pub state: u8,
    /// MTU of the device it leaves by, in bytes from the IP header on.
    pub mtu: u16,
    /// Interface index it leaves by.
    pub ifindex: u32,
    /// Endpoint the packet comes from; 0 is the outside.
    pub from: u32,
    /// Generation of `from` when the flow was made.
    pub from_generation: u32,
    /// Endpoint the packet is for; 0 is the outside.
    pub to: u32,
    /// Generation of `to` when the flow was made.
    pub to_generation: u32,
    /// Coarse clock ([`crate::abi::config::CLOCK_SHIFT`]) of the last packet.
    pub last_seen: u32,
    /// Address of the next hop, for [`Action::Leave`]; unspecified leaves the choice to the kernel.
    pub next_hop: A,
    /// Published rule, or 0.
    pub rule: u32,
    /// Destination Ethernet address, for [`Action::Deliver`].
    pub dst_mac: Mac,
    /// Source Ethernet address.
    pub src_mac: Mac,
}
/// Value of `FLOWS4`.
pub type Flow4 = Flow<Ip4>;
/// Value of `FLOWS6`.
pub type Flow6 = Flow<Ip6>;
const _: () = assert!(size_of::<Flow4>() == 60 && align_of::<Flow4>() == 4);
const _: () = assert!(size_of::<Flow6>() == 96 && align_of::<Flow6>() == 4);

/// Key of `FRAGMENTS4` and `FRAGMENTS6`: what all fragments of a datagram share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification field, as on the wire; IPv4 has 16 bits of it.
    pub id: u32,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}
/// Key of `FRAGMENTS4`.
pub type FragmentKey4 = FragmentKey<Ip4>;
/// Key of `FRAGMENTS6`.
pub type FragmentKey6 = FragmentKey<Ip6>;
const _: () = assert!(size_of::<FragmentKey4>() == 16);
const _: () = assert!(size_of::<FragmentKey6>() == 40);

/// Value of `FRAGMENTS4` and `FRAGMENTS6`: the ports of the first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPorts {
    /// Source port.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<FragmentPorts>() == 8);
