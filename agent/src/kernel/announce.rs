//! Announcements of addresses, so that neighbours who knew them elsewhere forget that: ARP for IPv4
//! (RFC 5227), unsolicited neighbour advertisements for IPv6 (RFC 4861).
//!
//! They leave from inside: call these on a thread of the container's namespace.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6},
};

use bascule_common::abi::Mac;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::error::{OrRefuse, Result};

const ETHERTYPE_ARP: u16 = 0x0806;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Says once to all neighbours of an interface whose these addresses are.
pub fn announce(interface: &str, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
    const ACTION: &str = "announce";
    let index = if_nametoindex(interface).or_refuse(ACTION, interface)?;
    for address in addresses {
        let said = match address {
            IpAddr::V4(address) => arp(index, mac, *address),
            IpAddr::V6(address) => advertisement(index, mac, *address),
        };
        said.or_refuse(ACTION, format!("{address} at {interface}"))?;
    }
    Ok(())
}

/// Sends an ARP request for one's own address.
fn arp(index: u32, mac: Mac, address: Ipv4Addr) -> io::Result<()> {
    let mut frame = Vec::with_capacity(42);
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend(ETHERTYPE_ARP.to_be_bytes());
    // Ethernet and IPv4, six and four bytes, a request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    // Protocol 0 receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.send_to(&frame, &link(index)?)?;
    Ok(())
}

/// Sends an advertisement that nobody has solicited, and that overrides what was known.
fn advertisement(index: u32, mac: Mac, address: Ipv6Addr) -> io::Result<()> {
    // The kernel computes the checksum.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(255)?;
    let scope = if address.is_unicast_link_local() { index } else { 0 };
    socket.bind(&SocketAddrV6::new(address, 0, 0, scope).into())?;
    socket.send_to(&message, &SocketAddrV6::new(ALL_NODES, 0, 0, index).into())?;
    Ok(())
}

/// Returns the address of an interface for sockets that send whole frames.
fn link(index: u32) -> io::Result<SockAddr> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let family = u16::try_from(libc::AF_PACKET).map_err(too_large)?;
    let sll_ifindex = i32::try_from(index).map_err(too_large)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = SockAddrStorage::zeroed();
    let length = size_of::<libc::sockaddr_ll>();
    // SAFETY: sockaddr_ll is an address of a socket, and storage is as large as any of those and aligned for
    // all.
    unsafe { *storage.view_as::<libc::sockaddr_ll>() = address };
    let length = libc::socklen_t::try_from(length).map_err(too_large)?;
    // SAFETY: the first `length` bytes of the storage are the address of the family that it names.
    Ok(unsafe { SockAddr::new(storage, length) })
}
