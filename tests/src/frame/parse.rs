//! Reading frames back.

use std::net::Ipv4Addr;

use super::{Body, Frame, ICMP, TCP, UDP};

impl Frame {
    /// Reads a frame; none where it is not IPv4 or cut short. Fragments are read as [`Body::Raw`].
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (head, vlan, ip) = match frame.get(12..14)? {
            [0x81, 0x00] => {
                let tag = u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?);
                (frame.get(..12)?, Some(tag), frame.get(18..)?)
            }
            [0x08, 0x00] => (frame.get(..12)?, None, frame.get(14..)?),
            _ => return None,
        };
        let mut parsed = Self::parse_ip(ip)?;
        parsed.dst_mac.copy_from_slice(&head[..6]);
        parsed.src_mac.copy_from_slice(&head[6..]);
        parsed.vlan = vlan;
        Some(parsed)
    }

    /// Reads an IPv4 packet; one that is cut short, as in an ICMP error, as far as it goes.
    pub fn parse_ip(ip: &[u8]) -> Option<Self> {
        let header = usize::from(ip.first()? & 15) * 4;
        let total = usize::from(be16(ip, 2)?);
        let l4 = ip.get(header..total.min(ip.len()))?;
        let fragment = be16(ip, 6)?;
        let proto = ip[9];
        let whole = fragment & 0x3fff == 0;
        Some(Self {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            vlan: None,
            src: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
            dst: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]),
            ttl: ip[8],
            id: be16(ip, 4)?,
            fragment,
            options: ip.get(20..header)?.to_vec(),
            body: if whole { parse_l4(proto, l4) } else { None }
                .unwrap_or_else(|| Body::Raw { proto, payload: l4.to_vec() }),
        })
    }
}

fn parse_l4(proto: u8, l4: &[u8]) -> Option<Body> {
    Some(match proto {
        TCP => Body::Tcp {
            src: be16(l4, 0)?,
            dst: be16(l4, 2)?,
            flags: *l4.get(13)?,
            seq: u32::from_be_bytes(l4.get(4..8)?.try_into().ok()?),
            payload: l4.get(usize::from(l4[12] >> 4) * 4..)?.to_vec(),
        },
        UDP => Body::Udp {
            src: be16(l4, 0)?,
            dst: be16(l4, 2)?,
            checksum: be16(l4, 6)? != 0,
            payload: l4.get(8..)?.to_vec(),
        },
        ICMP => Body::Icmp {
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
