//! Frames by hand.

mod build;
mod parse;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub(crate) use self::parse::{be16, ends6};

/// Number of ICMP.
pub const ICMP: u8 = 1;
/// Number of TCP.
pub const TCP: u8 = 6;
/// Number of UDP.
pub const UDP: u8 = 17;
/// Number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// IPv6 hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// The IPv6 routing header.
pub const ROUTING: u8 = 43;
/// The IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
/// The authentication header.
pub const AH: u8 = 51;
/// IPv6 destination options.
pub const DESTINATION: u8 = 60;
/// "Don't fragment", as in the IPv4 header's fragment field.
pub const DF: u16 = 0x4000;
/// "More fragments".
pub const MF: u16 = 0x2000;

/// An Ethernet frame with an IPv4 or IPv6 packet, by its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source Ethernet address.
    pub src_mac: [u8; 6],
    /// Destination Ethernet address.
    pub dst_mac: [u8; 6],
    /// VLAN tag.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Type of service, or traffic class: DSCP and congestion marks.
    pub tos: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Identification; 0 in IPv6, which has one in the fragment header alone.
    pub id: u16,
    /// Flags and offset of fragments, as in the header; 0 in IPv6.
    pub fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and all bytes but the first, which names what follows.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What the packet carries.
    pub body: Body,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
        /// Payload.
        payload: Vec<u8>,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Whether it has a checksum.
        checksum: bool,
        /// Payload.
        payload: Vec<u8>,
    },
    /// A message of the family's ICMP.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes after the checksum.
        rest: [u8; 4],
        /// What follows.
        payload: Vec<u8>,
    },
    /// Anything else, later fragments included.
    Raw {
        /// Protocol number.
        proto: u8,
        /// Bytes after the IP headers.
        payload: Vec<u8>,
    },
}

fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address and port"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

impl Frame {
    /// A packet with this body and plain headers.
    pub fn new(src: IpAddr, dst: IpAddr, body: Body) -> Self {
        let (id, fragment) = if src.is_ipv4() { (0x1234, DF) } else { (0, 0) };
        Self {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            vlan: None,
            src,
            dst,
            tos: 0,
            ttl: 64,
            id,
            fragment,
            options: Vec::new(),
            extensions: Vec::new(),
            body,
        }
    }

    /// A TCP segment with ACK set, from `address:port` to `address:port`.
    pub fn tcp(src: &str, dst: &str) -> Self {
        let (src, dst) = (endpoint(src), endpoint(dst));
        let body = Body::Tcp {
            src: src.port(),
            dst: dst.port(),
            flags: 16,
            seq: 0x0102_0304,
            ack: 7,
            options: Vec::new(),
            payload: b"data".to_vec(),
        };
        Self::new(src.ip(), dst.ip(), body)
    }

    /// A UDP datagram.
    pub fn udp(src: &str, dst: &str) -> Self {
        let (src, dst) = (endpoint(src), endpoint(dst));
        let payload = b"datagram".to_vec();
        let body = Body::Udp { src: src.port(), dst: dst.port(), checksum: true, payload };
        Self::new(src.ip(), dst.ip(), body)
    }

    /// An ICMP echo request.
    pub fn echo(src: &str, dst: &str, identifier: u16) -> Self {
        let [a, b] = identifier.to_be_bytes();
        let src = address(src);
        let body = Body::Icmp {
            kind: if src.is_ipv4() { 8 } else { 128 },
            code: 0,
            rest: [a, b, 0, 1],
            payload: b"echo me, please".to_vec(),
        };
        Self::new(src, address(dst), body)
    }

    /// An ICMP echo reply.
    pub fn echo_reply(src: &str, dst: &str, identifier: u16) -> Self {
        let mut frame = Self::echo(src, dst, identifier);
        if let Body::Icmp { kind, .. } = &mut frame.body {
            *kind = if *kind == 8 { 0 } else { 129 };
        }
        frame
    }

    /// An ICMP error about a packet, quoting its header and some bytes of what it carries.
    pub fn error(src: &str, dst: &str, kind: u8, code: u8, rest: u32, about: &Self) -> Self {
        let mut quote = about.ip_bytes();
        quote.truncate(quote.len().min(about.header() + 64));
        let rest = rest.to_be_bytes();
        let body = Body::Icmp { kind, code, rest, payload: quote };
        let mut frame = Self::new(address(src), address(dst), body);
        frame.fragment = 0;
        frame
    }

    /// A message of the family's ICMP.
    pub fn icmp(src: &str, dst: &str, kind: u8, rest: [u8; 4], payload: &[u8]) -> Self {
        let body = Body::Icmp { kind, code: 0, rest, payload: payload.to_vec() };
        Self::new(address(src), address(dst), body)
    }

    /// Any other protocol.
    pub fn raw(src: &str, dst: &str, proto: u8, payload: &[u8]) -> Self {
        Self::new(address(src), address(dst), Body::Raw { proto, payload: payload.to_vec() })
    }

    /// Sets the Ethernet addresses.
    pub fn macs(mut self, src: [u8; 6], dst: [u8; 6]) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// Sets the time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the type of service, or the traffic class.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// Sets the TCP flags.
    pub fn flags(mut self, bits: u8) -> Self {
        if let Body::Tcp { flags, .. } = &mut self.body {
            *flags = bits;
        }
        self
    }

    /// A bare SYN.
    pub fn syn(self) -> Self {
        self.flags(2).data(b"")
    }

    /// SYN and ACK.
    pub fn syn_ack(self) -> Self {
        self.flags(18).data(b"")
    }

    /// RST and ACK.
    pub fn rst(self) -> Self {
        self.flags(20).data(b"")
    }

    /// FIN and ACK.
    pub fn fin(self) -> Self {
        self.flags(17).data(b"")
    }

    /// Replaces the payload.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        match &mut self.body {
            Body::Tcp { payload, .. }
            | Body::Udp { payload, .. }
            | Body::Icmp { payload, .. }
            | Body::Raw { payload, .. } => *payload = bytes.to_vec(),
        }
        self
    }

    /// Leaves a UDP checksum out.
    pub fn without_checksum(mut self) -> Self {
        if let Body::Udp { checksum, .. } = &mut self.body {
            *checksum = false;
        }
        self
    }

    /// Sets the fragment field: [`DF`], [`MF`], and the offset in units of eight bytes.
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    /// Sets the identification.
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Adds IPv4 options (padded to four bytes by the caller).
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0, "IPv4 options come in words");
        self.options = options.to_vec();
        self
    }

    /// Adds an IPv6 extension header: all its bytes but the first.
    pub fn extension(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    /// Adds an IPv6 extension header of eight bytes with padding in it.
    pub fn padding(self, number: u8) -> Self {
        self.extension(number, &[0, 1, 4, 0, 0, 0, 0])
    }

    /// Adds an authentication header, with 12 bytes of it to check.
    pub fn authentication(self) -> Self {
        self.extension(AH, &[[4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1].as_slice(), &[7; 12]].concat())
    }

    /// Adds an IPv6 fragment header: offset in bytes, whether more follow, identification.
    pub fn fragment6(self, offset: u16, more: bool, id: u32) -> Self {
        let field = (offset & !7) | u16::from(more);
        let rest = [&[0][..], &field.to_be_bytes(), &id.to_be_bytes()].concat();
        self.extension(FRAGMENT, &rest)
    }

    /// Replaces the options of a TCP segment (padded to four bytes by the caller).
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        assert_eq!(bytes.len() % 4, 0, "TCP options come in words");
        if let Body::Tcp { options, .. } = &mut self.body {
            *options = bytes.to_vec();
        }
        self
    }

    /// Adds a VLAN tag.
    pub fn vlan(mut self, tag: u16) -> Self {
        self.vlan = Some(tag);
        self
    }

    /// The protocol's number.
    pub fn proto(&self) -> u8 {
        match &self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } => UDP,
            Body::Icmp { .. } if self.src.is_ipv4() => ICMP,
            Body::Icmp { .. } => ICMPV6,
            Body::Raw { proto, .. } => *proto,
        }
    }

    /// Ports of TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.body {
            Body::Tcp { src, dst, .. } | Body::Udp { src, dst, .. } => Some((*src, *dst)),
            _ => None,
        }
    }
}
