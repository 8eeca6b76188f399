//! IPv6 (RFC 8200) and ICMPv6 (RFC 4443).

use crate::{
    abi::{DropReason, Endpoint, FlowKey, Ip6, Network, Rule, Uplink},
    datapath::{
        discovery,
        family::{self, Family},
        parse::{self, Kind, Quote, View},
        rewrite::Ttl,
        short::Straight,
    },
    io::{Packet, Tables},
    wire::{
        Fragment, Icmp, Icmp6, Ipv6, Ipv6Tail, Ipv6Translated, Ports, checksum, ethertype, proto,
    },
};

/// Offset of the source address in a header, in bytes; the destination follows.
const ADDRESSES: u32 = 8;
/// Offset of the next header, and of the hop limit behind it.
const NEXT_AND_HOPS: u32 = 6;
/// Extension headers that are followed; RFC 8200 section 4.1 recommends at most six kinds.
const EXTENSIONS: u32 = 6;

impl Family for Ip6 {
    const ETHERTYPE: u16 = ethertype::IPV6;
    const RULE_FAMILY: u8 = Rule::IPV6;
    const ICMP: u8 = proto::ICMPV6;
    const ICMP_PSEUDO: bool = true;
    const HEADER: u32 = size_of::<Ipv6>() as u32;
    const MASQUERADE: u32 = Network::MASQUERADE6;
    const UNPROTECTED: u32 = Network::UNPROTECTED6;
    const DIRECT: u32 = Network::DIRECT6;
    const ROUTED: u32 = Network::ROUTED6;
    const FRAGMENTS_ON_THE_WAY: bool = false;

    type Header = Ipv6;
    type Words = [u64; 5];

    #[inline(always)]
    fn own(endpoint: &Endpoint) -> Self {
        endpoint.ip6
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Self {
        network.gateway6
    }

    #[inline(always)]
    fn masquerade(network: &Network) -> Self {
        network.masquerade6
    }

    #[inline(always)]
    fn source(uplink: &Uplink) -> Self {
        uplink.masquerade6
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.is_multicast()
    }

    #[inline(always)]
    fn stays_on_link(self) -> bool {
        self.is_link_local()
    }

    #[inline(always)]
    fn may_send(src: Self, endpoint: &Endpoint) -> bool {
        src == endpoint.ip6 || src == Self::link_local(&endpoint.mac) || src == Self::UNSPECIFIED
    }

    #[inline(always)]
    fn is_sound<P: Packet>(packet: &P, header: &Ipv6) -> bool {
        if header.version[0] >> 4 != 6 {
            return false;
        }
        let available = packet.length().wrapping_sub(P::NETWORK);
        let stated = u32::from(u16::from_be(header.payload_length)) + Self::HEADER;
        // A packet that stands for several segments may be too long for its length field (BIG TCP).
        stated <= available || packet.segment_size() != 0
    }

    #[inline(always)]
    fn straight(header: &Ipv6) -> Option<Straight> {
        // An extension header is another protocol.
        let length = u32::from(u16::from_be(header.payload_length)) + Self::HEADER;
        Some(Straight { proto: header.next_header, ttl: header.hop_limit, length })
    }

    #[inline(always)]
    fn words(src: Self, dst: Self, ports: Ports, proto: u8) -> [u64; 5] {
        let pair = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        let ([a, b, c, d], [e, f, g, h]) = (src.0, dst.0);
        [pair(a, b), pair(c, d), pair(e, f), pair(g, h), family::transport_word(ports, proto)]
    }

    #[inline(always)]
    fn same([a, b, c, d, e]: &[u64; 5], [f, g, h, i, j]: &[u64; 5]) -> bool {
        (a ^ f) | (b ^ g) | (c ^ h) | (d ^ i) | (e ^ j) == 0
    }

    #[inline(always)]
    fn mix([a, b, c, d, e]: &[u64; 5]) -> u64 {
        let src = family::mixed(family::mixed(0, *a), *b);
        family::mixed(family::mixed(family::mixed(src, *c), *d), *e)
    }

    #[inline(always)]
    fn addresses(header: &Ipv6) -> (Self, Self) {
        (header.src, header.dst)
    }

    #[inline(always)]
    fn is_plain(header: &Ipv6) -> bool {
        // Behind an extension header there may be neighbour discovery.
        matches!(header.next_header, proto::TCP | proto::UDP | proto::SCTP)
    }

    #[inline(always)]
    fn view<P: Packet>(packet: &P, header: &Ipv6) -> Result<View<Self>, DropReason> {
        let mut view = View {
            key: FlowKey {
                src: header.src,
                dst: header.dst,
                proto: header.next_header,
                ..FlowKey::default()
            },
            l4: P::NETWORK + Self::HEADER,
            length: u32::from(u16::from_be(header.payload_length)) + Self::HEADER,
            id: 0,
            ttl: header.hop_limit,
            tcp_flags: 0,
            kind: Kind::Portless,
            first_fragment: false,
            whole: true,
        };
        if is_extension(header.next_header) {
            let chain = Chain(packet.extensions(view.l4, header.next_header));
            if chain.is_broken() {
                return Err(DropReason::Malformed);
            }
            view.l4 = chain.l4();
            view.key.proto = chain.proto();
            view.id = chain.id();
            view.first_fragment = chain.is_first();
            if chain.is_later() {
                view.kind = Kind::Later;
                return Ok(view);
            }
        }
        if view.key.proto == proto::ICMPV6 {
            icmp(packet, &mut view)?;
        } else {
            let front = view.l4.wrapping_sub(P::NETWORK);
            view.transport(packet, front)?;
        }
        Ok(view)
    }

    #[inline(always)]
    fn quote<P: Packet>(packet: &P, view: &View<Self>) -> Option<Quote<Self>> {
        let l3 = parse::bounded(view.l4) + Icmp::LENGTH;
        let header: Ipv6 = packet.load(l3)?;
        if header.version[0] >> 4 != 6 {
            return None;
        }
        let (mut l4, mut proto) = (l3 + Self::HEADER, header.next_header);
        if is_extension(proto) {
            let chain = Chain(packet.extensions(l4, proto));
            if chain.is_broken() || chain.is_later() {
                return None;
            }
            (l4, proto) = (chain.l4(), chain.proto());
        }
        let key = FlowKey { src: header.src, dst: header.dst, proto, ..FlowKey::default() };
        let mut quote = Quote { key, l3, l4, checksum: 0, echo: false, ports: false };
        quote.transport(packet, (Icmp6::ECHO, Icmp6::ECHO_REPLY))?;
        Some(quote)
    }

    #[inline(always)]
    fn concerns_neighbours<P: Packet>(packet: &P, view: &View<Self>) -> Result<bool, DropReason> {
        discovery::concerns(packet, view)
    }

    #[inline(always)]
    fn discovers<P: Packet, T: Tables<Self>>(
        packet: &P,
        tables: &T,
        view: &View<Self>,
        endpoint: &Endpoint,
    ) -> Result<Self, DropReason> {
        discovery::judge(packet, tables, view, endpoint)
    }

    #[inline(always)]
    fn difference(old: Self, new: Self) -> u32 {
        checksum::address6(old, new)
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        to: &FlowKey<Self>,
        _addresses: u32,
        ttl: Ttl,
    ) -> Option<()> {
        if ttl == Ttl::Decrement {
            let word: u16 = packet.load(P::NETWORK + NEXT_AND_HOPS)?;
            packet.store(P::NETWORK + NEXT_AND_HOPS, one_hop_less(word))?;
        }
        packet.store(P::NETWORK + ADDRESSES, to.src)?;
        packet.store(P::NETWORK + ADDRESSES + 16, to.dst)
    }

    #[inline(always)]
    fn readdress_ports<P: Packet>(
        packet: &mut P,
        l4: u32,
        to: &FlowKey<Self>,
        addresses: u32,
        ttl: Ttl,
    ) -> Option<()> {
        let ports = Ports { src: to.src_port, dst: to.dst_port };
        if l4 != P::NETWORK + Self::HEADER {
            packet.store(parse::bounded(l4), ports)?;
            return Self::readdress(packet, to, addresses, ttl);
        }
        // Nearly always: without extensions the ports follow, and one write does.
        let mut tail: Ipv6Tail = packet.load(P::NETWORK + Ipv6Tail::OFFSET)?;
        if ttl == Ttl::Decrement {
            let [a, b, next, hops] = tail.front.to_ne_bytes();
            tail.front = u32::from_ne_bytes([a, b, next, hops.wrapping_sub(1)]);
        }
        tail.src = to.src;
        tail.dst = to.dst;
        packet.store(P::NETWORK + Ipv6Tail::OFFSET, Ipv6Translated { tail, ports: ports.word() })
    }

    #[inline(always)]
    fn requote<P: Packet>(
        packet: &mut P,
        quote: &Quote<Self>,
        src: Self,
        dst: Self,
        addresses: u32,
    ) -> Option<u32> {
        packet.store(quote.l3 + ADDRESSES, src)?;
        packet.store(quote.l3 + ADDRESSES + 16, dst)?;
        Some(addresses)
    }

    const TIME_EXCEEDED: (u8, u8) = (Icmp6::TIME_EXCEEDED, 0);
    const TOO_BIG: (u8, u8) = (Icmp6::TOO_BIG, 0);

    #[inline(always)]
    fn write_header<P: Packet>(packet: &mut P, src: Self, dst: Self, length: u32) -> Option<()> {
        let header = Ipv6 {
            version: [0x60, 0, 0, 0],
            payload_length: (length as u16).to_be(),
            next_header: proto::ICMPV6,
            hop_limit: 64,
            src,
            dst,
        };
        packet.store(P::NETWORK, header)
    }
}

/// Next header and hop limit, one hop further.
#[inline(always)]
const fn one_hop_less(word: u16) -> u16 {
    let [next, hops] = word.to_ne_bytes();
    u16::from_ne_bytes([next, hops.wrapping_sub(1)])
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, view: &mut View<Ip6>) -> Result<(), DropReason> {
    let icmp: Icmp = packet.load(view.l4).ok_or(DropReason::Malformed)?;
    view.kind = Kind::Icmp;
    match icmp.kind {
        Icmp6::ECHO => {
            view.key.src_port = icmp.id;
            view.kind = Kind::Echo;
        }
        Icmp6::ECHO_REPLY => {
            view.key.dst_port = icmp.id;
            view.kind = Kind::Echo;
        }
        kind if Icmp6::is_error(kind) => view.kind = Kind::Error,
        _ => {}
    }
    Ok(())
}

/// Whether the header is one that another one follows.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::DESTINATION | proto::AH
    )
}

/// Where a chain of extension headers leads, in one number: in BPF the chain is followed by a function of its own,
/// whose result the verifier takes for any number. What it knew of each path through the loop would multiply
/// what it has to look at else.
#[derive(Clone, Copy)]
pub struct Chain(pub u64);

impl Chain {
    /// There is no packet behind the headers, or none that anybody needs.
    pub const BROKEN: Self = Self(u64::MAX);
    const FIRST: u64 = 1 << 62;
    const LATER: u64 = 1 << 61;

    #[inline(always)]
    fn new(proto: u8, l4: u32, id: u32, fragment: u64) -> Self {
        let l4 = u64::from(l4 & parse::OFFSET_MASK);
        Self(u64::from(id) | (u64::from(proto) << 32) | (l4 << 40) | fragment)
    }

    #[inline(always)]
    const fn id(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn proto(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline(always)]
    const fn l4(self) -> u32 {
        (self.0 >> 40) as u32 & parse::OFFSET_MASK
    }

    /// The first of several fragments.
    #[inline(always)]
    const fn is_first(self) -> bool {
        self.0 & Self::FIRST != 0
    }

    /// A fragment but the first.
    #[inline(always)]
    const fn is_later(self) -> bool {
        self.0 & Self::LATER != 0
    }

    #[inline(always)]
    const fn is_broken(self) -> bool {
        self.0 == u64::MAX
    }
}

/// Follows extension headers from `at` on, the first of which is `next`. A chain of more than six is
/// broken.
#[inline(always)]
pub fn follow<P: Packet>(packet: &P, at: u32, next: u8) -> Chain {
    try_follow(packet, at, next).unwrap_or(Chain::BROKEN)
}

#[inline(always)]
fn try_follow<P: Packet>(packet: &P, at: u32, next: u8) -> Option<Chain> {
    let (mut l4, mut proto, mut id, mut fragment) = (at, next, 0, 0);
    for _ in 0..=EXTENSIONS {
        l4 &= parse::OFFSET_MASK;
        if !is_extension(proto) {
            return Some(Chain::new(proto, l4, id, fragment));
        }
        let word: u16 = packet.load(l4)?;
        let [following, length] = word.to_ne_bytes();
        match proto {
            proto::FRAGMENT => {
                let header: Fragment = packet.load(l4)?;
                id = header.id;
                l4 += size_of::<Fragment>() as u32;
                if header.offset & Fragment::OFFSET_MASK != 0 {
                    return Some(Chain::new(following, l4, id, Chain::LATER));
                }
                // With neither, it is whole: an atomic fragment (RFC 6946).
                if header.offset & Fragment::MORE != 0 {
                    fragment = Chain::FIRST;
                }
            }
            // In units of four bytes, less two (RFC 4302).
            proto::AH => l4 += (u32::from(length) + 2) << 2,
            _ => l4 += (u32::from(length) + 1) << 3,
        }
        proto = following;
    }
    None
}
