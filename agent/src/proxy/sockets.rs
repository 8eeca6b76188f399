//! The sockets that the proxy is handed its clients by. Their own addresses do not matter: nobody has to know
//! them, and they keep no port from being published.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt,
};

/// A listener for TCP.
pub(super) fn tcp(is_v6: bool) -> io::Result<OwnedFd> {
    let fd = bound(is_v6, SockType::Stream)?;
    socket::listen(&fd, Backlog::new(1_024)?)?;
    Ok(fd)
}

/// A socket for UDP that says which address each datagram was sent to.
pub(super) fn udp(is_v6: bool) -> io::Result<OwnedFd> {
    let fd = bound(is_v6, SockType::Datagram)?;
    if is_v6 {
        setsockopt(&fd, sockopt::Ipv6OrigDstAddr, &true)?;
    } else {
        setsockopt(&fd, sockopt::Ipv4OrigDstAddr, &true)?;
    }
    Ok(fd)
}

fn bound(is_v6: bool, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    if is_v6 {
        let fd = socket::socket(AddressFamily::Inet6, kind, flags, None)?;
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        let own = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);
        socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(own))?;
        return Ok(fd);
    }
    let fd = socket::socket(AddressFamily::Inet, kind, flags, None)?;
    // The loopback device may be down yet.
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
    Ok(fd)
}
