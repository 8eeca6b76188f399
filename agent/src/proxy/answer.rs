//! Answers over UDP, from the port that the client asked. No socket of the proxy's holds that port, so the
//! packets are written by hand; they travel by the loopback device.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
};

const UDP: u8 = 17;
const HEADER: usize = 8;

/// Sockets for packets with headers of our own; they receive nothing.
pub(super) struct Sender {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

impl Sender {
    pub(super) fn new() -> io::Result<Self> {
        let raw = |family| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socket::socket(family, SockType::Raw, flags, SockProtocol::Raw)
        };
        Ok(Self { v4: raw(AddressFamily::Inet)?, v6: raw(AddressFamily::Inet6).ok() })
    }

    /// Sends a datagram; as with any, it may be lost.
    pub(super) fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let Some(packet) = packet(from, to, payload) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        // Raw sockets take no port.
        let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
        socket::sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// A packet with IP and UDP headers; none for two families or a payload that no datagram holds.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(HEADER + payload.len()).ok()?.to_be_bytes();
    let mut packet = Vec::with_capacity(40 + HEADER + payload.len());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            // The kernel fills in the length, an identification and the checksum.
            packet.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend([0x60, 0, 0, 0, length[0], length[1], UDP, 64]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => return None,
    }
    let start = packet.len();
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length);
    packet.extend([0, 0]);
    packet.extend(payload);
    let mut sum = 0;
    let addresses = if from.is_ipv4() { 12..20 } else { 8..40 };
    add(&mut sum, &packet[addresses]);
    add(&mut sum, &[0, UDP]);
    add(&mut sum, &length);
    add(&mut sum, &packet[start..]);
    packet[start + 6..start + HEADER].copy_from_slice(&finish(sum).to_be_bytes());
    Some(packet)
}

fn add(sum: &mut u64, bytes: &[u8]) {
    for pair in bytes.chunks(2) {
        *sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
}

fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // 0 would say that there is none.
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_the_headers_and_a_sum_that_comes_to_nothing() {
        for (from, to, network) in
            [("127.0.0.1:53", "127.0.0.1:4000", 20), ("[::1]:53", "[::1]:4000", 40)]
        {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for payload in [&b""[..], b"odd", b"even"] {
                let packet = packet(from, to, payload).unwrap();
                assert_eq!(packet.len(), network + HEADER + payload.len());
                assert_eq!(&packet[network + HEADER..], payload);
                assert_eq!(packet[network..network + 4], [0, 53, 0x0f, 0xa0]);
                let mut sum = 0;
                add(&mut sum, &packet[if network == 20 { 12..20 } else { 8..40 }]);
                add(&mut sum, &[0, UDP]);
                add(&mut sum, &packet[network + 4..network + 6]);
                add(&mut sum, &packet[network..]);
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                assert_eq!(sum, 0xffff);
            }
        }
    }

    #[test]
    fn what_fits_no_datagram_is_no_packet() {
        let v4 = "127.0.0.1:1".parse().unwrap();
        assert!(packet(v4, v4, &[0; 65_528]).is_none());
        assert!(packet(v4, "[::1]:1".parse().unwrap(), b"x").is_none());
    }
}
