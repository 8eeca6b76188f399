//! Echo requests, as `ping` sends them, and their answers.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use bascule_common::wire::checksum;
use socket2::{Protocol, Socket, Type};

use super::probe::{domain, inside, rest, words};
use crate::kernel::netns::Namespace;

/// Bytes of an ICMP header.
const HEADER: usize = 8;
/// Bytes of what is sent where it is not as much as fits.
const SHORT: usize = 56;

/// Numbers of a family's ICMP and of its options.
struct Numbers {
    request: u8,
    answer: u8,
    unreachable: [u8; 2],
    protocol: Protocol,
    ip_header: usize,
    level: libc::c_int,
    discover: libc::c_int,
    mtu: libc::c_int,
}

const V4: Numbers = Numbers {
    request: 8,
    answer: 0,
    unreachable: [3, 11],
    protocol: Protocol::ICMPV4,
    ip_header: 20,
    level: libc::IPPROTO_IP,
    discover: libc::IP_MTU_DISCOVER,
    mtu: libc::IP_MTU,
};
const V6: Numbers = Numbers {
    request: 128,
    answer: 129,
    unreachable: [1, 2],
    protocol: Protocol::ICMPV6,
    ip_header: 40,
    level: libc::IPPROTO_IPV6,
    discover: libc::IPV6_MTU_DISCOVER,
    mtu: libc::IPV6_MTU,
};

/// Sends an echo request and waits for its answer; a full one is as long as the interface takes, and not to be
/// fragmented. Returns the length of the packet.
pub fn ping(from: &Namespace, to: IpAddr, full: bool, limit: Duration) -> Result<usize, String> {
    let numbers = if to.is_ipv4() { &V4 } else { &V6 };
    let (socket, mtu) = inside(from, || {
        let socket = Socket::new(domain(to), Type::RAW, Some(numbers.protocol))?;
        // A sender that fragments by itself would hide what this is to find.
        set(&socket, numbers.level, numbers.discover, libc::IP_PMTUDISC_DO)?;
        Ok((UdpSocket::from(socket), mtu(to, numbers)?))
    })?;
    let headers = numbers.ip_header + HEADER;
    let length = if full { mtu.saturating_sub(headers) } else { SHORT };
    let request = request(numbers, length);
    socket
        .send_to(&request, SocketAddr::new(to, 0))
        .map_err(|error| format!("{} bytes cannot be sent: {}", length + headers, words(&error)))?;
    match wait(&socket, numbers, &request[HEADER..], limit) {
        Ok(()) => Ok(length + headers),
        Err(seen) => Err(format!("{} bytes sent: {seen}", length + headers)),
    }
}

/// Makes an echo request with so much behind its header that nobody else sends.
fn request(numbers: &Numbers, length: usize) -> Vec<u8> {
    let mut packet = vec![numbers.request, 0, 0, 0];
    packet.extend(rand::random::<[u8; 2]>());
    packet.extend([0, 1]);
    packet.extend(std::iter::repeat_with(rand::random::<u8>).take(length));
    // That of ICMPv6 covers addresses too, and the kernel makes it.
    let sum = !checksum::fold(checksum::sum(&packet));
    packet[2..4].copy_from_slice(&sum.to_ne_bytes());
    packet
}

/// Waits for the answer; an error that comes in its place is told.
fn wait(socket: &UdpSocket, numbers: &Numbers, said: &[u8], limit: Duration) -> Result<(), String> {
    let end = Instant::now() + limit;
    let mut seen = None;
    let mut buffer = [0; 65_536];
    let next = |buffer: &mut [u8]| {
        socket.set_read_timeout(Some(rest(end)?))?;
        socket.recv_from(buffer)
    };
    loop {
        let (length, from) = match next(&mut buffer) {
            Ok(read) => read,
            Err(error) => return Err(seen.unwrap_or_else(|| words(&error))),
        };
        // Raw sockets of IPv4 show the header before it.
        let before = if from.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
        match buffer[..length].get(before..) {
            Some([kind, _, _, _, _, _, _, _, rest @ ..])
                if *kind == numbers.answer && rest == said =>
            {
                return Ok(());
            }
            Some([kind, code, ..]) if numbers.unreachable.contains(kind) => {
                let from = from.ip();
                seen = Some(format!("an ICMP error of type {kind}, code {code} from {from}"));
            }
            _ => {}
        }
    }
}

/// Returns the MTU towards an address.
fn mtu(to: IpAddr, numbers: &Numbers) -> io::Result<usize> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(SocketAddr::new(to, 9))?;
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the descriptor is open; value and length are ours, and length is that of value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            numbers.level,
            numbers.mtu,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(usize::try_from(value).unwrap_or_default())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the descriptor is open, and value is of that length.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p94_requests_have_a_good_checksum() {
        for length in [0, 1, 56, 57] {
            let packet = request(&V4, length);
            assert_eq!(packet.len(), HEADER + length);
            assert_eq!(!checksum::fold(checksum::sum(&packet)), 0, "{packet:?}");
        }
    }
}
