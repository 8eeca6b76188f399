//! Frames in words: `Frame::tcp(("172.20.0.2", 40000), ("203.0.113.7", 80)).syn().build()`.

use std::net::Ipv4Addr;

use super::world::twin;
use crate::{
    abi::Mac,
    wire::{Icmp, Icmp6, checksum, proto, tcp},
};

/// The transport of a [`Frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with these flags.
    Tcp {
        /// Ports.
        ports: (u16, u16),
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Ports.
        ports: (u16, u16),
        /// Sends 0 for a checksum: there is none.
        unchecked: bool,
    },
    /// ICMP with a type, code and the four bytes that follow the checksum.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier and sequence, or what else the type has there.
        rest: [u8; 4],
    },
    /// Another protocol, by number.
    Other(u8),
}

/// An IPv4 or IPv6 frame with right checksums.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination Ethernet address.
    pub dst_mac: Mac,
    /// Source Ethernet address.
    pub src_mac: Mac,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Offset in bytes, and whether more fragments follow.
    pub fragment: (u16, bool),
    /// IP options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6, between the addresses that stand beside the two.
    pub six: bool,
    /// Numbers of IPv6 extension headers, of eight bytes each; a fragment header has the frame's offset.
    pub chain: Vec<u8>,
    /// Transport; absent from later fragments, whose payload starts at once.
    pub transport: Transport,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame between two addresses, from `02:42:<source>` to `02:42:<destination>`.
    pub fn new(src: &str, dst: &str, transport: Transport) -> Self {
        let src: Ipv4Addr = src.parse().expect("a source address");
        let dst: Ipv4Addr = dst.parse().expect("a destination address");
        Self {
            dst_mac: Self::mac(dst),
            src_mac: Self::mac(src),
            src,
            dst,
            ttl: 64,
            id: 0x1234,
            fragment: (0, false),
            options: Vec::new(),
            six: false,
            chain: Vec::new(),
            transport,
            payload: b"bascule!".to_vec(),
        }
    }

    /// The Ethernet address that is derived from an address.
    pub fn mac(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        [0x02, 0x42, a, b, c, d]
    }

    /// A TCP segment with ACK set.
    pub fn tcp(src: (&str, u16), dst: (&str, u16)) -> Self {
        Self::new(src.0, dst.0, Transport::Tcp { ports: (src.1, dst.1), flags: tcp::ACK })
    }

    /// A UDP datagram.
    pub fn udp(src: (&str, u16), dst: (&str, u16)) -> Self {
        Self::new(src.0, dst.0, Transport::Udp { ports: (src.1, dst.1), unchecked: false })
    }

    /// An echo request.
    pub fn echo(src: &str, dst: &str, id: u16) -> Self {
        Self::icmp(src, dst, Icmp::ECHO, 0, Self::id_and_sequence(id))
    }

    /// An echo reply.
    pub fn echo_reply(src: &str, dst: &str, id: u16) -> Self {
        Self::icmp(src, dst, Icmp::ECHO_REPLY, 0, Self::id_and_sequence(id))
    }

    fn id_and_sequence(id: u16) -> [u8; 4] {
        let [a, b] = id.to_be_bytes();
        [a, b, 0, 1]
    }

    /// An ICMP message.
    pub fn icmp(src: &str, dst: &str, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self::new(src, dst, Transport::Icmp { kind, code, rest })
    }

    /// An ICMP error that quotes a frame's IP header and `quoted` bytes of what follows.
    pub fn error(src: &str, dst: &str, kind: u8, code: u8, about: &Frame, quoted: usize) -> Self {
        let bytes = about.build();
        let end = (about.l4() + quoted).min(bytes.len());
        let frame = Self::icmp(src, dst, kind, code, [0; 4]);
        Self { payload: bytes[14..end].to_vec(), six: about.six, ..frame }
    }

    /// Sets the TCP flags to SYN.
    pub fn syn(self) -> Self {
        self.flags(tcp::SYN)
    }

    /// Sets the TCP flags.
    pub fn flags(mut self, new: u8) -> Self {
        match &mut self.transport {
            Transport::Tcp { flags, .. } => *flags = new,
            other => panic!("{other:?} has no TCP flags"),
        }
        self
    }

    /// Sends a UDP datagram without a checksum.
    pub fn unchecked(mut self) -> Self {
        match &mut self.transport {
            Transport::Udp { unchecked, .. } => *unchecked = true,
            other => panic!("{other:?} always has a checksum"),
        }
        self
    }

    /// Addresses the frame to this station.
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.dst_mac = mac;
        self
    }

    /// Sends the frame from this station.
    pub fn from_mac(mut self, mac: Mac) -> Self {
        self.src_mac = mac;
        self
    }

    /// Sets the time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Replaces the payload.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Makes it a fragment: offset in bytes (a multiple of eight), and whether more follow.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        assert_eq!(offset % 8, 0, "offsets count in units of eight bytes");
        self.fragment = (offset, more);
        self
    }

    /// Makes it IPv6.
    pub fn six(mut self) -> Self {
        self.six = true;
        self
    }

    /// Adds an IPv6 extension header.
    pub fn extension(mut self, number: u8) -> Self {
        self.chain.push(number);
        self
    }

    /// Adds IP options.
    pub fn options(mut self, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0, "options come in words");
        self.options = options.to_vec();
        self
    }

    fn proto(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => proto::TCP,
            Transport::Udp { .. } => proto::UDP,
            Transport::Icmp { .. } if self.six => proto::ICMPV6,
            Transport::Icmp { .. } => proto::ICMP,
            Transport::Other(number) => number,
        }
    }

    /// Offset of layer 4, in bytes.
    pub fn l4(&self) -> usize {
        14 + if self.six { 40 + 8 * self.chain.len() } else { 20 + self.options.len() }
    }

    /// The bytes, from the Ethernet header on.
    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut bytes = Vec::with_capacity(34 + segment.len());
        bytes.extend(self.dst_mac);
        bytes.extend(self.src_mac);
        if self.six {
            bytes.extend([0x86, 0xdd]);
            bytes.extend(self.header6(segment.len()));
        } else {
            bytes.extend([0x08, 0x00]);
            bytes.extend(self.header(segment.len()));
        }
        bytes.extend(segment);
        bytes
    }

    fn header(&self, payload: usize) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let length = (words * 4 + payload) as u16;
        let (offset, more) = self.fragment;
        let mut header = vec![0x40 | words as u8, 0];
        header.extend(length.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        header.extend([self.ttl, self.proto(), 0, 0]);
        header.extend(self.src.octets());
        header.extend(self.dst.octets());
        header.extend(&self.options);
        let sum = !checksum::fold(checksum::sum(&header));
        header[10..12].copy_from_slice(&sum.to_ne_bytes());
        header
    }

    fn header6(&self, payload: usize) -> Vec<u8> {
        let length = (8 * self.chain.len() + payload) as u16;
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        let mut following = self.chain.iter().copied().chain([self.proto()]);
        header.extend(following.next());
        header.push(self.ttl);
        header.extend(twin(self.src).octets());
        header.extend(twin(self.dst).octets());
        let (offset, more) = self.fragment;
        let [a, b] = (offset | u16::from(more)).to_be_bytes();
        let [c, d] = self.id.to_be_bytes();
        for (number, next) in self.chain.iter().zip(following) {
            header.push(next);
            header.extend(match *number {
                proto::FRAGMENT => [0, a, b, 0, 0, c, d],
                proto::AH => [0, 0, 0, 0, 0, 0, 1],
                // PadN.
                _ => [0, 1, 4, 0, 0, 0, 0],
            });
        }
        header
    }

    /// The type in the frame's family.
    fn icmp_type(&self, kind: u8) -> u8 {
        match kind {
            kind if !self.six => kind,
            Icmp::ECHO => Icmp6::ECHO,
            Icmp::ECHO_REPLY => Icmp6::ECHO_REPLY,
            Icmp::UNREACHABLE => 1,
            Icmp::TIME_EXCEEDED => Icmp6::TIME_EXCEEDED,
            other => other,
        }
    }

    fn segment(&self) -> Vec<u8> {
        if self.fragment.0 != 0 {
            return self.payload.clone();
        }
        let (mut segment, field) = match &self.transport {
            Transport::Tcp { ports, flags } => {
                let mut head = Self::ports(*ports);
                head.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                (head, Some(16))
            }
            Transport::Udp { ports, unchecked } => {
                let mut head = Self::ports(*ports);
                head.extend((8 + self.payload.len() as u16).to_be_bytes());
                head.extend([0, 0]);
                (head, (!unchecked).then_some(6))
            }
            Transport::Icmp { kind, code, rest } => {
                let mut head = vec![self.icmp_type(*kind), *code, 0, 0];
                head.extend(rest);
                (head, Some(2))
            }
            Transport::Other(_) => (Vec::new(), None),
        };
        segment.extend(&self.payload);
        if let Some(at) = field {
            let mut covered =
                if self.proto() == proto::ICMP { Vec::new() } else { self.pseudo(segment.len()) };
            covered.extend(&segment);
            let sum = match !checksum::fold(checksum::sum(&covered)) {
                0 if self.proto() == proto::UDP => 0xffff,
                sum => sum,
            };
            segment[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        }
        segment
    }

    fn ports((src, dst): (u16, u16)) -> Vec<u8> {
        [src.to_be_bytes(), dst.to_be_bytes()].concat()
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let mut pseudo = if self.six {
            [twin(self.src).octets(), twin(self.dst).octets()].concat()
        } else {
            [self.src.octets(), self.dst.octets()].concat()
        };
        pseudo.extend([0, self.proto()]);
        pseudo.extend((length as u16).to_be_bytes());
        pseudo
    }
}
