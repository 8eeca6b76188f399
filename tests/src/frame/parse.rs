//! Reading frames back.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{AH, Body, DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, TCP, UDP};

impl Frame {
    /// Reads a frame; none where it is not IP or cut short. Fragments are read as [`Body::Raw`].
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (head, vlan, ip) = match frame.get(12..14)? {
            [0x81, 0x00] => {
                let tag = u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?);
                (frame.get(..12)?, Some(tag), frame.get(18..)?)
            }
            [0x08, 0x00] | [0x86, 0xdd] => (frame.get(..12)?, None, frame.get(14..)?),
            _ => return None,
        };
        let mut parsed = Self::parse_ip(ip)?;
        parsed.dst_mac.copy_from_slice(&head[..6]);
        parsed.src_mac.copy_from_slice(&head[6..]);
        parsed.vlan = vlan;
        Some(parsed)
    }

    /// Reads an IP packet; one that is cut short, as in an ICMP error, as far as it goes.
    pub fn parse_ip(ip: &[u8]) -> Option<Self> {
        if ip.first()? >> 4 == 6 { Self::parse6(ip) } else { Self::parse4(ip) }
    }

    fn parse4(ip: &[u8]) -> Option<Self> {
        let header = usize::from(ip.first()? & 15) * 4;
        let total = usize::from(be16(ip, 2)?);
        let l4 = ip.get(header..total.min(ip.len()))?;
        let fragment = be16(ip, 6)?;
        let src = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        let dst = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
        let body = parse_l4(ip[9], l4, fragment & 0x3fff == 0);
        Some(Self {
            tos: ip[1],
            ttl: ip[8],
            id: be16(ip, 4)?,
            fragment,
            options: ip.get(20..header)?.to_vec(),
            ..Self::new(src.into(), dst.into(), body)
        })
    }

    fn parse6(ip: &[u8]) -> Option<Self> {
        let src = Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(8..24)?).ok()?);
        let dst = Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(24..40)?).ok()?);
        let total = 40 + usize::from(be16(ip, 4)?);
        let ends = ends6(ip)?;
        let l4 = ip.get(ends.at..total.min(ip.len()))?;
        let body = parse_l4(ends.proto, l4, ends.whole);
        Some(Self {
            tos: ip[0] << 4 | ip[1] >> 4,
            ttl: ip[7],
            extensions: ends.extensions,
            ..Self::new(src.into(), dst.into(), body)
        })
    }
}

/// Where the headers of an IPv6 packet end.
pub(crate) struct Ends {
    extensions: Vec<(u8, Vec<u8>)>,
    /// Offset of what is behind them.
    pub(crate) at: usize,
    /// Number of what is behind them.
    pub(crate) proto: u8,
    /// The packet is no fragment.
    pub(crate) whole: bool,
}

/// Follows the extension headers of an IPv6 packet, however many there are.
pub(crate) fn ends6(ip: &[u8]) -> Option<Ends> {
    let mut ends = Ends { extensions: Vec::new(), at: 40, proto: *ip.get(6)?, whole: true };
    let mut later = false;
    while !later {
        let length = usize::from(*ip.get(ends.at + 1).unwrap_or(&0));
        let length = match ends.proto {
            HOP_BY_HOP | ROUTING | DESTINATION => (length + 1) * 8,
            AH => (length + 2) * 4,
            FRAGMENT => {
                let field = be16(ip, ends.at + 2)?;
                later = field & !7 != 0;
                ends.whole &= field & !6 == 0;
                8
            }
            _ => break,
        };
        let [next, rest @ ..] = ip.get(ends.at..ends.at + length)? else { return None };
        ends.extensions.push((ends.proto, rest.to_vec()));
        ends.at += length;
        ends.proto = *next;
    }
    Some(ends)
}

fn parse_l4(proto: u8, l4: &[u8], whole: bool) -> Body {
    let body = if whole { try_parse_l4(proto, l4) } else { None };
    body.unwrap_or_else(|| Body::Raw { proto, payload: l4.to_vec() })
}

fn try_parse_l4(proto: u8, l4: &[u8]) -> Option<Body> {
    Some(match proto {
        TCP => {
            let header = usize::from(l4.get(12)? >> 4) * 4;
            Body::Tcp {
                src: be16(l4, 0)?,
                dst: be16(l4, 2)?,
                flags: *l4.get(13)?,
                seq: u32::from_be_bytes(l4.get(4..8)?.try_into().ok()?),
                ack: u32::from_be_bytes(l4.get(8..12)?.try_into().ok()?),
                options: l4.get(20..header)?.to_vec(),
                payload: l4.get(header..)?.to_vec(),
            }
        }
        UDP => Body::Udp {
            src: be16(l4, 0)?,
            dst: be16(l4, 2)?,
            checksum: be16(l4, 6)? != 0,
            payload: l4.get(8..)?.to_vec(),
        },
        ICMP | ICMPV6 => Body::Icmp {
            kind: *l4.first()?,
            code: *l4.get(1)?,
            rest: l4.get(4..8)?.try_into().ok()?,
            payload: l4.get(8..)?.to_vec(),
        },
        _ => return None,
    })
}

/// Two bytes of a slice as a number in network byte order.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
