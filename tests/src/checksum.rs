//! An opinion on checksums that owes nothing to the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{ICMP, ICMPV6, TCP, UDP, be16, ends6};

/// Says what is wrong with the checksums of a frame, if anything. Frames without IP are right, and
/// the transport of fragments is not looked at.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let at = match frame.get(12..14) {
        Some([0x08, 0x00] | [0x86, 0xdd]) => 14,
        Some([0x81, 0x00]) => 18,
        _ => return Ok(()),
    };
    verify_ip(&frame[at.min(frame.len())..], false)
}

fn verify_ip(ip: &[u8], quoted: bool) -> Result<(), String> {
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => verify4(ip, quoted),
        Some(6) => verify6(ip, quoted),
        other => Err(format!("no IP header, but version {other:?}")),
    }
}

fn verify4(ip: &[u8], quoted: bool) -> Result<(), String> {
    let header = usize::from(ip.first().ok_or("no IPv4 header")? & 15) * 4;
    let total = usize::from(be16(ip, 2).ok_or("a cut IPv4 header")?);
    let head = ip.get(..header).ok_or("a cut IPv4 header")?;
    if finish(add(0, head)) != 0 {
        return Err(format!("the checksum of the IPv4 header is wrong: {head:02x?}"));
    }
    // Nobody can verify the transport of a quote that is cut; and what a device was to sum is quoted unsummed.
    if quoted {
        return Ok(());
    }
    let l4 = ip.get(header..total).ok_or("a cut packet")?;
    if be16(ip, 6).is_some_and(|field| field & 0x3fff != 0) {
        return Ok(());
    }
    let src = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    let dst = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
    verify_transport(src.into(), dst.into(), ip[9], l4)
}

fn verify6(ip: &[u8], quoted: bool) -> Result<(), String> {
    let address = |at: usize| -> Option<IpAddr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?).into())
    };
    let (src, dst) = address(8).zip(address(24)).ok_or("a cut IPv6 header")?;
    if quoted {
        return Ok(());
    }
    let total = 40 + usize::from(be16(ip, 4).ok_or("a cut IPv6 header")?);
    let ends = ends6(ip).ok_or("a cut extension header")?;
    if !ends.whole {
        return Ok(());
    }
    let l4 = ip.get(ends.at..total).ok_or("a cut packet")?;
    verify_transport(src, dst, ends.proto, l4)
}

fn verify_transport(src: IpAddr, dst: IpAddr, proto: u8, l4: &[u8]) -> Result<(), String> {
    let name = match proto {
        TCP => "TCP",
        UDP if be16(l4, 6) == Some(0) => {
            return if src.is_ipv4() {
                Ok(())
            } else {
                Err(format!("a UDP datagram in IPv6 has no checksum: {src} -> {dst}"))
            };
        }
        UDP => "UDP",
        ICMP => "ICMP",
        ICMPV6 => "ICMPv6",
        _ => return Ok(()),
    };
    if finish(add(pseudo(src, dst, proto, l4.len()), l4)) != 0 {
        let head = &l4[..l4.len().min(40)];
        return Err(format!("the {name} checksum is wrong: {src} -> {dst} {head:02x?}"));
    }
    if matches!((proto, l4.first()), (ICMP, Some(3 | 4 | 5 | 11 | 12)) | (ICMPV6, Some(1..=4))) {
        return verify_ip(l4.get(8..).unwrap_or_default(), true)
            .map_err(|error| format!("in the quote of an ICMP error: {error}"));
    }
    Ok(())
}

/// Says what is wrong with a packet that an ICMP error quotes as a whole, transport included.
pub fn verify_quote(quote: &[u8]) -> Result<(), String> {
    verify_ip(quote, false)
}

/// Sum of the pseudo header that a transport's checksum covers; ICMP of IPv4 covers none.
pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, length: usize) -> u32 {
    if proto == ICMP {
        return 0;
    }
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let sum = add(add(0, &octets(src)), &octets(dst));
    sum + u32::from(proto) + u32::try_from(length).expect("a packet")
}

/// Adds the words of some bytes to a sum.
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(pair.get(1).copied().unwrap_or(0))
    })
}

/// Folds a sum into a checksum.
pub fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn a_wrong_checksum_is_seen() {
        let frame = Frame::udp("198.51.100.7:40000", "203.0.113.1:53");
        for at in [24, 31, 40, 45] {
            let mut bytes = frame.bytes();
            bytes[at] ^= 0x20;
            assert!(verify(&bytes).is_err(), "byte {at} was changed unnoticed");
        }
        let error = Frame::error("203.0.113.1", "198.51.100.7", 3, 3, 0, &frame);
        let mut bytes = error.bytes();
        assert_eq!(verify(&bytes), Ok(()));
        bytes[14 + 20 + 8 + 12] ^= 1;
        assert!(verify(&bytes).is_err());
    }

    #[test]
    fn a_wrong_checksum_is_seen_in_ipv6() {
        for frame in [
            Frame::udp("[2001:db8::7]:40000", "[2001:db8::1]:53"),
            Frame::tcp("[2001:db8::7]:40000", "[2001:db8::1]:53").padding(60),
            Frame::echo("2001:db8::7", "2001:db8::1", 7),
        ] {
            let end = frame.bytes().len() - 1;
            for at in [25, 40, end] {
                let mut bytes = frame.bytes();
                bytes[at] ^= 0x20;
                assert!(verify(&bytes).is_err(), "byte {at} was changed unnoticed");
            }
        }
    }

    #[test]
    fn sums_agree_with_published_examples() {
        // RFC 1071, section 3.
        assert_eq!(finish(add(0, &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
        // A header whose checksum, b861, is in many a textbook.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8,
            0, 0xc7,
        ];
        assert_eq!(finish(add(0, &header)), 0);
    }
}
