//! What the walks know of a packet; how it is read from the bytes is the families' business.

use crate::{
    abi::{DropReason, FlowKey, FragmentKey, FragmentPorts, Port},
    datapath::family::Family,
    io::{Packet, Tables},
    wire::{Ports, proto, tcp, udp},
};

/// Headers end before this offset, in bytes; a power of two less one.
pub(super) const OFFSET_MASK: u32 = 0x3fff;

/// The offset again: a copy of what holds it lost its bounds in the eyes of the verifier.
#[inline(always)]
pub(super) const fn bounded(offset: u32) -> u32 {
    offset & OFFSET_MASK
}

/// How the packet's transport is read and rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP or UDP: ports that translation may change.
    Ports,
    /// ICMP echo: an identifier that translation may change.
    Echo,
    /// An ICMP error, which quotes a packet.
    Error,
    /// Another message of the family's ICMP: addresses alone are translated.
    Icmp,
    /// Anything else: addresses alone are translated. SCTP has ports in its key, which stay, because
    /// its CRC32c covers them.
    Portless,
    /// A fragment but the first: its ports were in the first one, and there is nothing of layer 4 here.
    Later,
}

/// What the walks know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct View<A> {
    /// The tuple. For [`Kind::Error`] the ports are 0; for [`Kind::Later`] they are 0 until looked up.
    pub key: FlowKey<A>,
    /// Offset of layer 4 from the start of the frame, in bytes.
    pub l4: u32,
    /// Length from the IP header on, in bytes; of a single segment where the frame stands for several.
    pub length: u32,
    /// Identification of the datagram, as on the wire, where it has one.
    pub id: u32,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// How the transport is read.
    pub kind: Kind,
    /// The first of several fragments.
    pub first_fragment: bool,
    /// Nobody on the way may fragment it.
    pub whole: bool,
}

impl<A: Family> View<A> {
    /// Key of what all fragments of the datagram share.
    #[inline(always)]
    pub const fn fragment_key(&self) -> FragmentKey<A> {
        FragmentKey {
            src: self.key.src,
            dst: self.key.dst,
            id: self.id,
            proto: self.key.proto,
            pad: [0; 3],
        }
    }

    /// A TCP packet that opens a connection: SYN without ACK.
    #[inline(always)]
    pub const fn opens_tcp(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// A TCP packet whose options announce a maximum segment size.
    #[inline(always)]
    pub const fn starts(&self) -> bool {
        self.tcp_flags & tcp::SYN != 0
    }

    /// Reads layer 4, which begins at [`View::l4`] with the protocol of the key; `header` bytes of the packet
    /// are in front of it.
    #[inline(always)]
    pub(super) fn transport<P: Packet>(
        &mut self,
        packet: &P,
        header: u32,
    ) -> Result<(), DropReason> {
        let segment = packet.segment_size();
        match self.key.proto {
            proto::TCP => {
                self.ports(packet)?;
                let word: u16 =
                    packet.load(self.l4 + tcp::OFFSET_FLAGS).ok_or(DropReason::Malformed)?;
                let [offset, flags] = word.to_ne_bytes();
                self.tcp_flags = flags;
                self.kind = Kind::Ports;
                if segment != 0 {
                    self.length = header + (u32::from(offset >> 4) << 2) + segment;
                }
            }
            proto::UDP => {
                self.ports(packet)?;
                self.kind = Kind::Ports;
                if segment != 0 {
                    self.length = header + udp::LENGTH + segment;
                }
            }
            proto::SCTP => self.ports(packet)?,
            _ => {}
        }
        Ok(())
    }

    #[inline(always)]
    fn ports<P: Packet>(&mut self, packet: &P) -> Result<(), DropReason> {
        let ports: Ports = packet.load(self.l4).ok_or(DropReason::Malformed)?;
        self.key.src_port = ports.src;
        self.key.dst_port = ports.dst;
        Ok(())
    }
}

/// Gives a later fragment its ports, if the first one was seen, and remembers those of a first one.
/// Whole packets pass unchanged. None: the ports are not to be had.
#[inline(always)]
pub fn reunite<A: Family, T: Tables<A>>(tables: &T, view: &mut View<A>) -> Option<()> {
    if view.kind == Kind::Later {
        let FragmentPorts { src_port, dst_port, .. } = tables.fragment(&view.fragment_key())?;
        view.key.src_port = src_port;
        view.key.dst_port = dst_port;
    } else if view.first_fragment {
        remember(tables, view);
    }
    Some(())
}

/// Remembers the ports of a first fragment for those that follow.
#[inline(always)]
pub fn remember<A: Family, T: Tables<A>>(tables: &T, view: &View<A>) {
    let ports =
        FragmentPorts { src_port: view.key.src_port, dst_port: view.key.dst_port, reserved: 0 };
    tables.remember_fragment(&view.fragment_key(), ports);
}

/// The tuple of the packet that an ICMP error quotes, and where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Quote<A> {
    /// The quoted tuple, as the packet was when it was sent.
    pub key: FlowKey<A>,
    /// Offset of the quoted IP header, in bytes.
    pub l3: u32,
    /// Offset of the quoted layer 4, in bytes.
    pub l4: u32,
    /// Header checksum of the quoted IP header, where the family has one.
    pub checksum: u16,
    /// The quoted packet is an ICMP echo.
    pub echo: bool,
    /// The quoted packet has ports that translation may change.
    pub ports: bool,
}

impl<A: Family> Quote<A> {
    /// Reads the quoted layer 4, as far as it is a part of the tuple.
    #[inline(always)]
    pub(super) fn transport<P: Packet>(
        &mut self,
        packet: &P,
        (request, reply): (u8, u8),
    ) -> Option<()> {
        let l4 = bounded(self.l4);
        match self.key.proto {
            proto::TCP | proto::UDP | proto::SCTP => {
                let ports: Ports = packet.load(l4)?;
                self.key.src_port = ports.src;
                self.key.dst_port = ports.dst;
                self.ports = self.key.proto != proto::SCTP;
            }
            icmp if icmp == A::ICMP => {
                let kind: u16 = packet.load(l4)?;
                let id: Port = packet.load(l4 + crate::wire::Icmp::ID)?;
                match kind.to_ne_bytes()[0] {
                    kind if kind == request => self.key.src_port = id,
                    kind if kind == reply => self.key.dst_port = id,
                    _ => return None,
                }
                self.echo = true;
            }
            _ => {}
        }
        Some(())
    }
}
