//! IPv4 (RFC 791) and ICMP (RFC 792).

use crate::{
    abi::{DropReason, Endpoint, FlowKey, Ip4, Network, Uplink},
    datapath::{
        family::{self, Family},
        parse::{self, Kind, Quote, View},
        rewrite::Ttl,
        short::Straight,
    },
    io::{Packet, Tables},
    wire::{Icmp, Ipv4, Ipv4Tail, Ipv4Translated, Ports, checksum, ethertype, proto},
};

/// Offset of the addresses in a header, in bytes.
const ADDRESSES: u32 = 12;
/// Offset of the checksum in a header, in bytes.
const HEADER_CHECKSUM: u32 = 10;

impl Family for Ip4 {
    const ETHERTYPE: u16 = ethertype::IPV4;
    const RULE_FAMILY: u8 = 0;
    const ICMP: u8 = proto::ICMP;
    const ICMP_PSEUDO: bool = false;
    const HEADER: u32 = size_of::<Ipv4>() as u32;
    const MASQUERADE: u32 = Network::MASQUERADE4;
    const UNPROTECTED: u32 = Network::UNPROTECTED4;
    const DIRECT: u32 = Network::DIRECT4;
    const ROUTED: u32 = Network::ROUTED4;
    const FRAGMENTS_ON_THE_WAY: bool = true;

    type Header = Ipv4;
    type Words = [u64; 2];

    #[inline(always)]
    fn own(endpoint: &Endpoint) -> Self {
        endpoint.ip4
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Self {
        network.gateway4
    }

    #[inline(always)]
    fn masquerade(network: &Network) -> Self {
        network.masquerade4
    }

    #[inline(always)]
    fn source(uplink: &Uplink) -> Self {
        uplink.masquerade4
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.is_multicast() || self == Self::BROADCAST
    }

    #[inline(always)]
    fn stays_on_link(self) -> bool {
        // 169.254.0.0/16 is routed in practice: clouds answer there.
        false
    }

    #[inline(always)]
    fn may_send(src: Self, endpoint: &Endpoint) -> bool {
        src == endpoint.ip4
    }

    #[inline(always)]
    fn is_sound<P: Packet>(packet: &P, header: &Ipv4) -> bool {
        let header_length = header.header_length();
        if header.version_ihl >> 4 != 4 || header_length < Self::HEADER {
            return false;
        }
        let available = packet.length().wrapping_sub(P::NETWORK);
        let stated = u32::from(u16::from_be(header.total_length));
        // A packet that stands for several segments may be too long for its length field (BIG TCP).
        (stated >= header_length && stated <= available) || packet.segment_size() != 0
    }

    #[inline(always)]
    fn straight(header: &Ipv4) -> Option<Straight> {
        let straight = header.version_ihl == 0x45
            && header.fragment & (Ipv4::MORE_FRAGMENTS | Ipv4::OFFSET_MASK) == 0;
        let length = u32::from(u16::from_be(header.total_length));
        straight.then_some(Straight { proto: header.proto, ttl: header.ttl, length })
    }

    #[inline(always)]
    fn words(src: Self, dst: Self, ports: Ports, proto: u8) -> [u64; 2] {
        [u64::from(src.0) | u64::from(dst.0) << 32, family::transport_word(ports, proto)]
    }

    #[inline(always)]
    fn same([a, b]: &[u64; 2], [c, d]: &[u64; 2]) -> bool {
        a == c && b == d
    }

    #[inline(always)]
    fn mix([a, b]: &[u64; 2]) -> u64 {
        family::mixed(family::mixed(0, *a), *b)
    }

    #[inline(always)]
    fn addresses(header: &Ipv4) -> (Self, Self) {
        (header.src, header.dst)
    }

    #[inline(always)]
    fn is_plain(_header: &Ipv4) -> bool {
        true
    }

    #[inline(always)]
    fn view<P: Packet>(packet: &P, header: &Ipv4) -> Result<View<Self>, DropReason> {
        let header_length = header.header_length();
        let mut view = View {
            key: FlowKey {
                src: header.src,
                dst: header.dst,
                proto: header.proto,
                ..FlowKey::default()
            },
            l4: P::NETWORK + header_length,
            length: u32::from(u16::from_be(header.total_length)),
            id: u32::from(header.id),
            ttl: header.ttl,
            tcp_flags: 0,
            kind: Kind::Portless,
            first_fragment: header.fragment & (Ipv4::MORE_FRAGMENTS | Ipv4::OFFSET_MASK)
                == Ipv4::MORE_FRAGMENTS,
            whole: header.fragment & Ipv4::DONT_FRAGMENT != 0,
        };
        if header.fragment & Ipv4::OFFSET_MASK != 0 {
            view.kind = Kind::Later;
            return Ok(view);
        }
        if header.proto == proto::ICMP {
            icmp(packet, &mut view)?;
        } else {
            view.transport(packet, header_length)?;
        }
        Ok(view)
    }

    #[inline(always)]
    fn quote<P: Packet>(packet: &P, view: &View<Self>) -> Option<Quote<Self>> {
        let l3 = parse::bounded(view.l4) + Icmp::LENGTH;
        let header: Ipv4 = packet.load(l3)?;
        let header_length = header.header_length();
        if header.version_ihl >> 4 != 4
            || header_length < Self::HEADER
            || header.fragment & Ipv4::OFFSET_MASK != 0
        {
            return None;
        }
        let key =
            FlowKey { src: header.src, dst: header.dst, proto: header.proto, ..FlowKey::default() };
        let checksum = header.checksum;
        let l4 = l3 + header_length;
        let mut quote = Quote { key, l3, l4, checksum, echo: false, ports: false };
        quote.transport(packet, (Icmp::ECHO, Icmp::ECHO_REPLY))?;
        Some(quote)
    }

    #[inline(always)]
    fn concerns_neighbours<P: Packet>(_packet: &P, _view: &View<Self>) -> Result<bool, DropReason> {
        Ok(false)
    }

    #[inline(always)]
    fn discovers<P: Packet, T: Tables<Self>>(
        _packet: &P,
        _tables: &T,
        _view: &View<Self>,
        _endpoint: &Endpoint,
    ) -> Result<Self, DropReason> {
        Ok(Self::UNSPECIFIED)
    }

    #[inline(always)]
    fn difference(old: Self, new: Self) -> u32 {
        checksum::address(old, new)
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        to: &FlowKey<Self>,
        addresses: u32,
        ttl: Ttl,
    ) -> Option<()> {
        let tail = tail(packet, to, addresses, ttl)?;
        packet.store(P::NETWORK + Ipv4::TAIL, tail)
    }

    #[inline(always)]
    fn readdress_ports<P: Packet>(
        packet: &mut P,
        l4: u32,
        to: &FlowKey<Self>,
        addresses: u32,
        ttl: Ttl,
    ) -> Option<()> {
        let tail = tail(packet, to, addresses, ttl)?;
        let ports = Ports { src: to.src_port, dst: to.dst_port };
        // Nearly always: without options the ports follow, and one write does.
        if l4 == P::NETWORK + Self::HEADER {
            return packet
                .store(P::NETWORK + Ipv4::TAIL, Ipv4Translated { tail, ports: ports.word() });
        }
        packet.store(parse::bounded(l4), ports)?;
        packet.store(P::NETWORK + Ipv4::TAIL, tail)
    }

    #[inline(always)]
    fn requote<P: Packet>(
        packet: &mut P,
        quote: &Quote<Self>,
        src: Self,
        dst: Self,
        addresses: u32,
    ) -> Option<u32> {
        let header_checksum = checksum::update(quote.checksum, addresses);
        packet.store(quote.l3 + HEADER_CHECKSUM, header_checksum)?;
        packet.store(quote.l3 + ADDRESSES, src)?;
        packet.store(quote.l3 + ADDRESSES + 4, dst)?;
        Some(checksum::both(addresses, checksum::word(quote.checksum, header_checksum)))
    }

    const TIME_EXCEEDED: (u8, u8) = (Icmp::TIME_EXCEEDED, 0);
    const TOO_BIG: (u8, u8) = (Icmp::UNREACHABLE, 4);

    #[inline(always)]
    fn write_header<P: Packet>(packet: &mut P, src: Self, dst: Self, length: u32) -> Option<()> {
        let mut header = Ipv4 {
            version_ihl: 0x45,
            // Internetwork control (RFC 1812, section 4.3.2.5).
            tos: 0xc0,
            total_length: ((Self::HEADER + length) as u16).to_be(),
            id: 0,
            fragment: Ipv4::DONT_FRAGMENT,
            ttl: 64,
            proto: proto::ICMP,
            checksum: 0,
            src,
            dst,
        };
        let [a, b] = header.total_length.to_ne_bytes();
        let [c, d] = header.fragment.to_ne_bytes();
        let front = u32::from_ne_bytes([header.version_ihl, header.tos, a, b]);
        let middle = checksum::both(
            u32::from_ne_bytes([0, 0, c, d]),
            u32::from_ne_bytes([header.ttl, header.proto, 0, 0]),
        );
        let sum = checksum::both(checksum::both(front, middle), checksum::both(src.0, dst.0));
        header.checksum = !checksum::fold(sum);
        packet.store(P::NETWORK, header)
    }
}

/// The end of the header with other addresses, whose difference is `addresses`.
#[inline(always)]
fn tail<P: Packet>(packet: &P, to: &FlowKey<Ip4>, addresses: u32, ttl: Ttl) -> Option<Ipv4Tail> {
    let mut tail: Ipv4Tail = packet.load(P::NETWORK + Ipv4::TAIL)?;
    let [mut hops, proto, a, b] = tail.front.to_ne_bytes();
    let mut diff = addresses;
    if ttl == Ttl::Decrement {
        let old = hops;
        hops = old.wrapping_sub(1);
        let word = |hops| u16::from_ne_bytes([hops, proto]);
        diff = checksum::both(diff, checksum::word(word(old), word(hops)));
    }
    let [a, b] = checksum::update(u16::from_ne_bytes([a, b]), diff).to_ne_bytes();
    tail.front = u32::from_ne_bytes([hops, proto, a, b]);
    tail.src = to.src;
    tail.dst = to.dst;
    Some(tail)
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, view: &mut View<Ip4>) -> Result<(), DropReason> {
    let icmp: Icmp = packet.load(view.l4).ok_or(DropReason::Malformed)?;
    view.kind = Kind::Icmp;
    match icmp.kind {
        Icmp::ECHO => {
            view.key.src_port = icmp.id;
            view.kind = Kind::Echo;
        }
        Icmp::ECHO_REPLY => {
            view.key.dst_port = icmp.id;
            view.kind = Kind::Echo;
        }
        kind if Icmp::is_error(kind) => view.kind = Kind::Error,
        _ => {}
    }
    Ok(())
}
