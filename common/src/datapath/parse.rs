//! From bytes to a [`View`]: what the walks know of an IPv4 packet.

use crate::{
    abi::{DropReason, FlowKey4, FragmentKey4, FragmentPorts, Port},
    io::{Packet, Tables},
    wire::{Icmp, Ipv4, Ports, proto, tcp},
};

/// How the packet's transport is read and rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP or UDP: ports that translation may change.
    Ports,
    /// ICMP echo: an identifier that translation may change.
    Echo,
    /// An ICMP error, which quotes a packet.
    Error,
    /// Anything else: addresses alone are translated. SCTP has ports in its key, which stay, because
    /// its CRC32c covers them.
    Portless,
    /// A fragment but the first: its ports were in the first one, and there is nothing of layer 4 here.
    Later,
}

/// What the walks know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The tuple. For [`Kind::Error`] the ports are 0; for [`Kind::Later`] they are 0 until looked up.
    pub key: FlowKey4,
    /// Offset of layer 4 from the start of the frame, in bytes.
    pub l4: u32,
    /// Length from the IP header on, in bytes; of a single segment where the frame stands for several.
    pub length: u32,
    /// Identification field, as on the wire.
    pub id: u16,
    /// Time to live.
    pub ttl: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// How the transport is read.
    pub kind: Kind,
    /// The first of several fragments.
    pub first_fragment: bool,
}

impl View {
    /// Key of what all fragments of the datagram share.
    #[inline(always)]
    pub const fn fragment_key(&self) -> FragmentKey4 {
        FragmentKey4 {
            src: self.key.src,
            dst: self.key.dst,
            id: self.id as u32,
            proto: self.key.proto,
            pad: [0; 3],
        }
    }

    /// A TCP packet that opens a connection: SYN without ACK.
    #[inline(always)]
    pub const fn opens_tcp(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }
}

/// Reads an IPv4 packet. Errors are [`DropReason::Malformed`].
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P) -> Result<View, DropReason> {
    const MALFORMED: DropReason = DropReason::Malformed;
    let header: Ipv4 = packet.load(P::NETWORK).ok_or(MALFORMED)?;
    let header_length = header.header_length();
    let available = packet.length().wrapping_sub(P::NETWORK);
    let stated = u32::from(u16::from_be(header.total_length));
    if header.version_ihl >> 4 != 4 || header_length < size_of::<Ipv4>() as u32 {
        return Err(MALFORMED);
    }
    // A packet that stands for several segments may be too long for its length field (BIG TCP).
    let aggregated = packet.segment_size() != 0;
    if !aggregated && (stated < header_length || stated > available) {
        return Err(MALFORMED);
    }
    let mut view = View {
        key: FlowKey4 {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            ..FlowKey4::default()
        },
        l4: P::NETWORK + header_length,
        length: stated,
        id: header.id,
        ttl: header.ttl,
        tcp_flags: 0,
        kind: Kind::Portless,
        first_fragment: header.fragment & (Ipv4::MORE_FRAGMENTS | Ipv4::OFFSET_MASK)
            == Ipv4::MORE_FRAGMENTS,
    };
    if header.fragment & Ipv4::OFFSET_MASK != 0 {
        view.kind = Kind::Later;
        return Ok(view);
    }
    match header.proto {
        proto::TCP => {
            view.ports(packet)?;
            let word: u16 = packet.load(view.l4 + tcp::OFFSET_FLAGS).ok_or(MALFORMED)?;
            let [offset, flags] = word.to_ne_bytes();
            view.tcp_flags = flags;
            view.kind = Kind::Ports;
            if aggregated {
                view.length = header_length + (u32::from(offset >> 4) << 2) + packet.segment_size();
            }
        }
        proto::UDP => {
            view.ports(packet)?;
            view.kind = Kind::Ports;
            if aggregated {
                view.length = header_length + crate::wire::udp::LENGTH + packet.segment_size();
            }
        }
        proto::ICMP => view.icmp(packet)?,
        proto::SCTP => view.ports(packet)?,
        _ => {}
    }
    Ok(view)
}

impl View {
    #[inline(always)]
    fn ports<P: Packet>(&mut self, packet: &P) -> Result<(), DropReason> {
        let ports: Ports = packet.load(self.l4).ok_or(DropReason::Malformed)?;
        self.key.src_port = ports.src;
        self.key.dst_port = ports.dst;
        Ok(())
    }

    #[inline(always)]
    fn icmp<P: Packet>(&mut self, packet: &P) -> Result<(), DropReason> {
        let icmp: Icmp = packet.load(self.l4).ok_or(DropReason::Malformed)?;
        match icmp.kind {
            Icmp::ECHO => {
                self.key.src_port = icmp.id;
                self.kind = Kind::Echo;
            }
            Icmp::ECHO_REPLY => {
                self.key.dst_port = icmp.id;
                self.kind = Kind::Echo;
            }
            kind if Icmp::is_error(kind) => self.kind = Kind::Error,
            _ => {}
        }
        Ok(())
    }
}

/// Gives a later fragment its ports, if the first one was seen, and remembers those of a first one.
/// Whole packets pass unchanged. None: the ports are not to be had.
#[inline(always)]
pub fn reunite<T: Tables>(tables: &T, view: &mut View) -> Option<()> {
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
pub fn remember<T: Tables>(tables: &T, view: &View) {
    let ports =
        FragmentPorts { src_port: view.key.src_port, dst_port: view.key.dst_port, reserved: 0 };
    tables.remember_fragment(&view.fragment_key(), ports);
}

/// The tuple of the packet that an ICMP error quotes, and where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    /// The quoted tuple, as the packet was when it was sent.
    pub key: FlowKey4,
    /// Offset of the quoted IP header, in bytes.
    pub l3: u32,
    /// Offset of the quoted layer 4, in bytes.
    pub l4: u32,
    /// Header checksum of the quoted IP header.
    pub checksum: u16,
    /// The quoted packet is an ICMP echo.
    pub echo: bool,
    /// The quoted packet has ports that translation may change.
    pub ports: bool,
}

/// Reads the quote of an ICMP error. None where it is cut short, or quotes a later fragment.
#[inline(always)]
pub fn quote<P: Packet>(packet: &P, view: &View) -> Option<Quote> {
    let l3 = view.l4 + Icmp::LENGTH;
    let header: Ipv4 = packet.load(l3)?;
    let header_length = header.header_length();
    if header.version_ihl >> 4 != 4
        || header_length < size_of::<Ipv4>() as u32
        || header.fragment & Ipv4::OFFSET_MASK != 0
    {
        return None;
    }
    let l4 = l3 + header_length;
    let mut key =
        FlowKey4 { src: header.src, dst: header.dst, proto: header.proto, ..FlowKey4::default() };
    let (mut echo, mut has_ports) = (false, false);
    match header.proto {
        proto::TCP | proto::UDP | proto::SCTP => {
            let ports: Ports = packet.load(l4)?;
            key.src_port = ports.src;
            key.dst_port = ports.dst;
            has_ports = header.proto != proto::SCTP;
        }
        proto::ICMP => {
            let kind: u16 = packet.load(l4)?;
            let id: Port = packet.load(l4 + Icmp::ID)?;
            match kind.to_ne_bytes()[0] {
                Icmp::ECHO => key.src_port = id,
                Icmp::ECHO_REPLY => key.dst_port = id,
                _ => return None,
            }
            echo = true;
        }
        _ => {}
    }
    Some(Quote { key, l3, l4, checksum: header.checksum, echo, ports: has_ports })
}
