//! Headers: offsets and fields as they stand on the wire, and checksum arithmetic.
//!
//! Integers of these structures are in network byte order, as loaded; comparisons are with constants
//! converted at compile time.

pub mod checksum;

use crate::abi::{Ip4, Ip6, Mac, Port};

/// A value that may be read from, and written to, any bytes of a frame.
///
/// # Safety
/// Any bytes must be a value of the type, and the type must have no padding.
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: repr(C) integers and arrays of integers without padding (asserted below).
        unsafe impl Wire for $type {}
    )+};
}
wire!(
    u16,
    u32,
    [u32; 3],
    Ip4,
    Ip6,
    Port,
    Ethernet,
    Macs,
    Ipv4,
    Ipv4Tail,
    Ipv4Translated,
    Ipv6Tail,
    Ipv6Translated,
    Ports,
    Icmp,
    Arp,
    Ipv6,
    Fragment,
    NeighbourMessage
);

/// Length of an Ethernet header, and so the offset of the IP header, in bytes.
pub const L3: u32 = 14;

/// EtherTypes, in network byte order.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86ddu16.to_be();
    /// VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100u16.to_be();
    /// VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8u16.to_be();
}

/// IP protocol numbers.
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// EtherType, in network byte order.
    pub ethertype: u16,
}
const _: () = assert!(size_of::<Ethernet>() == 14);

/// The addresses of an Ethernet header; aligned, so that they are copied by words.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
}
const _: () = assert!(size_of::<Macs>() == 12);

impl Macs {
    /// Both in words, as they are written at once.
    #[inline(always)]
    pub const fn words(self) -> [u32; 3] {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.dst, self.src);
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ]
    }
}

/// An IPv4 header without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Version and header length in 32-bit words.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload, in bytes.
    pub total_length: u16,
    /// Identification, shared by the fragments of a datagram.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address.
    pub src: Ip4,
    /// Destination address.
    pub dst: Ip4,
}
const _: () = assert!(size_of::<Ipv4>() == 20);

impl Ipv4 {
    /// Offset of [`Ipv4Tail`] in the header.
    pub const TAIL: u32 = 8;
    /// The flag "more fragments", in network byte order.
    pub const MORE_FRAGMENTS: u16 = 0x2000u16.to_be();
    /// The mask of the fragment offset, in network byte order.
    pub const OFFSET_MASK: u16 = 0x1fffu16.to_be();
    /// The flag "don't fragment", in network byte order.
    pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();

    /// Length of the header, in bytes; less than 20 is malformed.
    #[inline(always)]
    pub const fn header_length(&self) -> u32 {
        ((self.version_ihl & 0x0f) as u32) << 2
    }
}

/// The last 12 bytes of an IPv4 header without options: all that forwarding and translation change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Tail {
    /// Time to live, protocol, header checksum: one word, because what is written by halves and read whole waits.
    pub front: u32,
    /// Source address.
    pub src: Ip4,
    /// Destination address.
    pub dst: Ip4,
}
const _: () = assert!(size_of::<Ipv4Tail>() == 12);

/// The same with the ports that follow a header without options: translation in one write.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Translated {
    /// The end of the header.
    pub tail: Ipv4Tail,
    /// The beginning of layer 4, in one word.
    pub ports: u32,
}
const _: () = assert!(size_of::<Ipv4Translated>() == 16);

/// The first four bytes of TCP, UDP and SCTP.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub src: Port,
    /// Destination port.
    pub dst: Port,
}
const _: () = assert!(size_of::<Ports>() == 4);

impl Ports {
    /// Both in one word.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        let ([a, b], [c, d]) = (self.src.0.to_ne_bytes(), self.dst.0.to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// TCP (RFC 9293).
pub mod tcp {
    /// Length of a header without options, in bytes.
    pub const LENGTH: u32 = 20;
    /// The option that ends the list.
    pub const OPTION_END: u8 = 0;
    /// The option that fills up.
    pub const OPTION_NOP: u8 = 1;
    /// The option that announces the maximum segment size.
    pub const OPTION_SEGMENT_SIZE: u8 = 2;
    /// Offset of data offset and flags.
    pub const OFFSET_FLAGS: u32 = 12;
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 16;
    /// The flag FIN.
    pub const FIN: u8 = 1;
    /// The flag SYN.
    pub const SYN: u8 = 2;
    /// The flag RST.
    pub const RST: u8 = 4;
    /// The flag ACK.
    pub const ACK: u8 = 16;
}

/// UDP (RFC 768).
pub mod udp {
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 6;
    /// Length of the header, in bytes.
    pub const LENGTH: u32 = 8;
}

/// The first eight bytes of ICMP (RFC 792).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// Identifier of an echo.
    pub id: Port,
    /// Sequence number of an echo, or the MTU of "fragmentation needed".
    pub rest: u16,
}
const _: () = assert!(size_of::<Icmp>() == 8);

impl Icmp {
    /// Length of the header, in bytes.
    pub const LENGTH: u32 = 8;
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 2;
    /// Offset of an echo's identifier.
    pub const ID: u32 = 4;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Whether the type is an error, which quotes the packet it is about.
    #[inline(always)]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, Self::UNREACHABLE | Self::TIME_EXCEEDED | Self::PARAMETER_PROBLEM)
    }
}

/// An ARP message for IPv4 over Ethernet (RFC 826).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Hardware type (1), protocol type, and their lengths (6, 4).
    pub types: [u16; 3],
    /// Operation.
    pub operation: u16,
    /// Sender's Ethernet address.
    pub sender_mac: Mac,
    /// Sender's address.
    pub sender_ip: [u8; 4],
    /// Target's Ethernet address.
    pub target_mac: Mac,
    /// Target's address.
    pub target_ip: [u8; 4],
}
const _: () = assert!(size_of::<Arp>() == 28);

impl Arp {
    /// The first fields of a message for IPv4 over Ethernet.
    pub const IPV4_OVER_ETHERNET: [u16; 3] = [1u16.to_be(), 0x0800u16.to_be(), 0x0604u16.to_be()];
    /// The operation that asks.
    pub const REQUEST: u16 = 1u16.to_be();
    /// The operation that answers.
    pub const REPLY: u16 = 2u16.to_be();
}

/// An IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Version, traffic class and flow label.
    pub version: [u8; 4],
    /// Length of the payload.
    pub payload_length: u16,
    /// Next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ip6,
    /// Destination address.
    pub dst: Ip6,
}
const _: () = assert!(size_of::<Ipv6>() == 40);

/// An IPv6 header behind its flow label: all that forwarding and translation change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Tail {
    /// Length of the payload, next header, hop limit, in one word.
    pub front: u32,
    /// Source address.
    pub src: Ip6,
    /// Destination address.
    pub dst: Ip6,
}
const _: () = assert!(size_of::<Ipv6Tail>() == 36);

impl Ipv6Tail {
    /// Offset in the header.
    pub const OFFSET: u32 = 4;
}

/// The same with the ports that follow a header without extensions: translation in one write.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Translated {
    /// The end of the header.
    pub tail: Ipv6Tail,
    /// The beginning of layer 4, in one word.
    pub ports: u32,
}
const _: () = assert!(size_of::<Ipv6Translated>() == 40);

/// A fragment header of IPv6 (RFC 8200, section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Next header.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset and flags.
    pub offset: u16,
    /// Identification, shared by the fragments of a datagram.
    pub id: u32,
}
const _: () = assert!(size_of::<Fragment>() == 8);

impl Fragment {
    /// The flag "more fragments", in network byte order.
    pub const MORE: u16 = 1u16.to_be();
    /// The mask of the offset, in network byte order.
    pub const OFFSET_MASK: u16 = 0xfff8u16.to_be();
}

/// ICMPv6 (RFC 4443), whose header is laid out as [`Icmp`].
pub struct Icmp6;

impl Icmp6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;

    /// Whether the type is an error, which quotes the packet it is about.
    #[inline(always)]
    pub const fn is_error(kind: u8) -> bool {
        kind < 128
    }
}

/// A neighbour solicitation or advertisement with its first option (RFC 4861).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// Type, code, checksum, flags.
    pub head: [u8; 8],
    /// Target address.
    pub target: Ip6,
    /// Type and length of the first option, and an Ethernet address if it is one.
    pub option: [u8; 8],
}
const _: () = assert!(size_of::<NeighbourMessage>() == 32);
