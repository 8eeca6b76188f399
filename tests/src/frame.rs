//! Frames by hand.

mod parse;

use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) use self::parse::be16;
use crate::checksum::{add, finish, pseudo};

/// Number of ICMP.
pub const ICMP: u8 = 1;
/// Number of TCP.
pub const TCP: u8 = 6;
/// Number of UDP.
pub const UDP: u8 = 17;
/// "Don't fragment", as in the IPv4 header's fragment field.
pub const DF: u16 = 0x4000;
/// "More fragments".
pub const MF: u16 = 0x2000;

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source Ethernet address.
    pub src_mac: [u8; 6],
    /// Destination Ethernet address.
    pub dst_mac: [u8; 6],
    /// VLAN tag.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Flags and offset of fragments, as in the header.
    pub fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
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
    /// An ICMP message.
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
        /// Bytes after the IPv4 header.
        payload: Vec<u8>,
    },
}

fn endpoint(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address and port"))
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

impl Frame {
    /// A packet with this body and plain headers.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, body: Body) -> Self {
        Self {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            vlan: None,
            src,
            dst,
            ttl: 64,
            id: 0x1234,
            fragment: DF,
            options: Vec::new(),
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
            payload: b"data".to_vec(),
        };
        Self::new(*src.ip(), *dst.ip(), body)
    }

    /// A UDP datagram.
    pub fn udp(src: &str, dst: &str) -> Self {
        let (src, dst) = (endpoint(src), endpoint(dst));
        let payload = b"datagram".to_vec();
        let body = Body::Udp { src: src.port(), dst: dst.port(), checksum: true, payload };
        Self::new(*src.ip(), *dst.ip(), body)
    }

    /// An ICMP echo request.
    pub fn echo(src: &str, dst: &str, identifier: u16) -> Self {
        let [a, b] = identifier.to_be_bytes();
        let body = Body::Icmp {
            kind: 8,
            code: 0,
            rest: [a, b, 0, 1],
            payload: b"echo me, please".to_vec(),
        };
        Self::new(address(src), address(dst), body)
    }

    /// An ICMP echo reply.
    pub fn echo_reply(src: &str, dst: &str, identifier: u16) -> Self {
        let mut frame = Self::echo(src, dst, identifier);
        if let Body::Icmp { kind, .. } = &mut frame.body {
            *kind = 0;
        }
        frame
    }

    /// An ICMP error about a packet, quoting its header and some bytes of what it carries.
    pub fn error(src: &str, dst: &str, kind: u8, code: u8, rest: u32, about: &Self) -> Self {
        let mut quote = about.ip_bytes();
        quote.truncate(quote.len().min(20 + about.options.len() + 64));
        let rest = rest.to_be_bytes();
        let body = Body::Icmp { kind, code, rest, payload: quote };
        let mut frame = Self::new(address(src), address(dst), body);
        frame.fragment = 0;
        frame
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

    /// Adds a VLAN tag.
    pub fn vlan(mut self, tag: u16) -> Self {
        self.vlan = Some(tag);
        self
    }

    /// Cuts the packet into fragments of this many bytes of payload each.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        assert_eq!(size % 8, 0, "fragments begin at multiples of eight bytes");
        let whole = self.l4_bytes();
        let count = whole.chunks(size).count();
        let cut = |(index, chunk): (usize, &[u8])| {
            let more = if index + 1 < count { MF } else { 0 };
            let body = Body::Raw { proto: self.proto(), payload: chunk.to_vec() };
            let offset = u16::try_from(index * size / 8).expect("a packet");
            Self { fragment: more | offset, body, ..self.clone() }
        };
        whole.chunks(size).enumerate().map(cut).collect()
    }

    /// The protocol's number.
    pub fn proto(&self) -> u8 {
        match &self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } => UDP,
            Body::Icmp { .. } => ICMP,
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

    /// The frame's bytes, all checksums right.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.dst_mac, self.src_mac].concat();
        if let Some(tag) = self.vlan {
            bytes.extend(0x8100_u16.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend(0x0800_u16.to_be_bytes());
        bytes.extend(self.ip_bytes());
        bytes
    }

    /// The IPv4 packet alone.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let l4 = self.l4_bytes();
        let header = 20 + self.options.len();
        let total = u16::try_from(header + l4.len()).expect("an IPv4 packet");
        let mut bytes = vec![0x40 | u8::try_from(header / 4).expect("a header"), 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.proto(), 0, 0]);
        bytes.extend(self.src.octets());
        bytes.extend(self.dst.octets());
        bytes.extend(&self.options);
        let sum = finish(add(0, &bytes));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(l4);
        bytes
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let mut bytes;
        let at;
        match &self.body {
            Body::Tcp { src, dst, flags, seq, payload } => {
                bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                bytes.extend(seq.to_be_bytes());
                bytes.extend([0, 0, 0, 7, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(payload);
                at = 16;
            }
            Body::Udp { src, dst, checksum, payload } => {
                bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                let length = u16::try_from(8 + payload.len()).expect("a datagram");
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                if !checksum {
                    return bytes;
                }
                at = 6;
            }
            Body::Icmp { kind, code, rest, payload } => {
                bytes = vec![*kind, *code, 0, 0];
                bytes.extend(rest);
                bytes.extend(payload);
                let sum = finish(add(0, &bytes));
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                return bytes;
            }
            Body::Raw { payload, .. } => return payload.clone(),
        }
        let pseudo = pseudo(self.src, self.dst, self.proto(), bytes.len());
        let mut sum = finish(add(pseudo, &bytes));
        if self.proto() == UDP && sum == 0 {
            sum = 0xffff;
        }
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::verify;

    #[test]
    fn frames_survive_a_round_trip() {
        for frame in [
            Frame::tcp("198.51.100.7:40000", "203.0.113.1:80").syn(),
            Frame::udp("198.51.100.7:40000", "203.0.113.1:53").vlan(7),
            Frame::echo("198.51.100.7", "203.0.113.1", 0x4242).ttl(3),
            Frame::raw("198.51.100.7", "203.0.113.1", 47, b"gre").ip_options(&[1, 1, 1, 0]),
        ] {
            assert_eq!(Frame::parse(&frame.bytes()).as_ref(), Some(&frame));
            assert_eq!(verify(&frame.bytes()), Ok(()));
        }
    }

    #[test]
    fn fragments_put_together_are_the_packet() {
        let whole = Frame::udp("198.51.100.7:40000", "203.0.113.1:53").data(&[7; 100]);
        let parts = whole.fragments(48);
        let joined: Vec<u8> = parts
            .iter()
            .flat_map(|part| match &part.body {
                Body::Raw { payload, .. } => payload.clone(),
                _ => panic!("fragments are raw"),
            })
            .collect();
        assert_eq!(joined, whole.l4_bytes());
        assert_eq!(parts.last().map(|part| part.fragment), Some(12));
    }
}
