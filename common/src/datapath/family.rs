//! What differs between IPv4 and IPv6, for walks that are written once.

use crate::{
    abi::{Address, DropReason, Endpoint, FlowKey, Ip4, Ip6, Network, Uplink},
    datapath::{
        parse::{Quote, View},
        rewrite::Ttl,
        short::Straight,
    },
    io::{Packet, Tables},
    wire::{Ports, Wire},
};

/// One of the two families. A walk is generic over its addresses.
pub trait Family: Address + Wire {
    /// EtherType, in network byte order.
    const ETHERTYPE: u16;
    /// [`crate::abi::Rule::IPV6`] or 0.
    const RULE_FAMILY: u8;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Whether the checksum of the family's ICMP covers a pseudo header.
    const ICMP_PSEUDO: bool;
    /// Length of a header without options or extensions, in bytes.
    const HEADER: u32;
    /// The family's [`Network::MASQUERADE4`].
    const MASQUERADE: u32;
    /// The family's [`Network::UNPROTECTED4`].
    const UNPROTECTED: u32;
    /// The family's [`Network::DIRECT4`].
    const DIRECT: u32;
    /// The family's [`Network::ROUTED4`].
    const ROUTED: u32;
    /// Whether later fragments may be made on the way.
    const FRAGMENTS_ON_THE_WAY: bool;

    /// An IP header as loaded.
    type Header: Wire;
    /// A tuple in words that are compared and mixed as they are.
    type Words: Copy + Default + core::fmt::Debug;

    /// The endpoint's address of this family.
    fn own(endpoint: &Endpoint) -> Self;
    /// The gateway's.
    fn gateway(network: &Network) -> Self;
    /// The source that a network asks masquerade to take.
    fn masquerade(network: &Network) -> Self;
    /// The source that an uplink offers to masquerade.
    fn source(uplink: &Uplink) -> Self;
    /// An address that no single host holds.
    fn is_group(self) -> bool;
    /// An address that no router forwards to or from.
    fn stays_on_link(self) -> bool;
    /// Whether an endpoint's packet may have this source; an unspecified one is for discovery alone.
    fn may_send(src: Self, endpoint: &Endpoint) -> bool;

    /// Whether an IP header contradicts neither itself nor the frame.
    fn is_sound<P: Packet>(packet: &P, header: &Self::Header) -> bool;
    /// The IP header, if it is sound.
    #[inline(always)]
    fn header<P: Packet>(packet: &P) -> Option<Self::Header> {
        let header = packet.load(P::NETWORK)?;
        if !Self::is_sound(packet, &header) {
            return None;
        }
        Some(header)
    }
    /// What of a header is read on the short way; none, if it has options or extensions or is of a fragment.
    fn straight(header: &Self::Header) -> Option<Straight>;
    /// The tuple in words.
    fn words(src: Self, dst: Self, ports: Ports, proto: u8) -> Self::Words;
    /// Whether two tuples are the same.
    fn same(a: &Self::Words, b: &Self::Words) -> bool;
    /// A hash of a tuple, best in its upper bits.
    fn mix(words: &Self::Words) -> u64;
    /// Source and destination.
    fn addresses(header: &Self::Header) -> (Self, Self);
    /// Whether the payload is of a protocol that needs no guard before it may be bridged.
    fn is_plain(header: &Self::Header) -> bool;
    /// Reads the rest.
    fn view<P: Packet>(packet: &P, header: &Self::Header) -> Result<View<Self>, DropReason>;
    /// Reads the packet that an ICMP error quotes. None where it is cut short, or quotes a later fragment.
    fn quote<P: Packet>(packet: &P, view: &View<Self>) -> Option<Quote<Self>>;

    /// Whether the packet is the family's neighbour discovery.
    fn concerns_neighbours<P: Packet>(packet: &P, view: &View<Self>) -> Result<bool, DropReason>;
    /// Whom the family's neighbour discovery, of a kind that the endpoint may send, is for; unspecified, if the
    /// packet is something else.
    fn discovers<P: Packet, T: Tables<Self>>(
        packet: &P,
        tables: &T,
        view: &View<Self>,
        endpoint: &Endpoint,
    ) -> Result<Self, DropReason>;

    /// The difference that replacing an address makes to a checksum.
    fn difference(old: Self, new: Self) -> u32;
    /// Replaces the addresses of the IP header, whose difference is `addresses`, and counts the time to live.
    fn readdress<P: Packet>(
        packet: &mut P,
        to: &FlowKey<Self>,
        addresses: u32,
        ttl: Ttl,
    ) -> Option<()>;
    /// The same, with the ports at `l4`.
    fn readdress_ports<P: Packet>(
        packet: &mut P,
        l4: u32,
        to: &FlowKey<Self>,
        addresses: u32,
        ttl: Ttl,
    ) -> Option<()>;
    /// Replaces the addresses of a quoted header. Answers the difference that all changed bytes make.
    fn requote<P: Packet>(
        packet: &mut P,
        quote: &Quote<Self>,
        src: Self,
        dst: Self,
        addresses: u32,
    ) -> Option<u32>;
    /// Type and code of "time to live exceeded in transit".
    const TIME_EXCEEDED: (u8, u8);
    /// Type and code of the error that asks for smaller packets.
    const TOO_BIG: (u8, u8);
    /// Writes the IP header of an ICMP message of `length` bytes.
    fn write_header<P: Packet>(packet: &mut P, src: Self, dst: Self, length: u32) -> Option<()>;
}

/// Ports and protocol in one word.
#[inline(always)]
pub(super) const fn transport_word(ports: Ports, proto: u8) -> u64 {
    ports.src.0 as u64 | (ports.dst.0 as u64) << 16 | (proto as u64) << 32
}

/// Mixes a word into a hash.
#[inline(always)]
pub(super) const fn mixed(hash: u64, word: u64) -> u64 {
    // 2^64 by the golden ratio.
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Reads a packet whole.
#[inline(always)]
pub fn view<A: Family, P: Packet>(packet: &P) -> Result<View<A>, DropReason> {
    let header = A::header(packet).ok_or(DropReason::Malformed)?;
    A::view(packet, &header)
}

/// Whether an address of the endpoint's network is the endpoint's: its own, or a further one of the link.
#[inline(always)]
pub fn holds<A: Family, T: Tables<A>>(tables: &T, endpoint: &Endpoint, address: A) -> bool {
    let neighbour = tables.neighbour(endpoint.network, address);
    neighbour.is_some_and(|neighbour| neighbour.endpoint == endpoint.endpoint)
}

/// The endpoint that an address of ours belongs to, or 0.
#[inline(always)]
pub fn holder<A: Family, T: Tables<A>>(tables: &T, address: A) -> u32 {
    let subnet = tables.subnet(address);
    let neighbour = subnet.and_then(|subnet| tables.neighbour(subnet.network, address));
    neighbour.map_or(0, |neighbour| neighbour.endpoint)
}

/// Both families' tables.
pub trait BothTables: Tables<Ip4> + Tables<Ip6> {}
impl<T: Tables<Ip4> + Tables<Ip6>> BothTables for T {}

/// Both families' kernels.
pub trait BothKernels: crate::io::Kernel<Ip4> + crate::io::Kernel<Ip6> {}
impl<K: crate::io::Kernel<Ip4> + crate::io::Kernel<Ip6>> BothKernels for K {}
