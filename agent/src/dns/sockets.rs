//! The sockets of the server, opened inside its namespace. They answer from whatever address they were asked at.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Where questions are asked.
const PORT: u16 = 53;
/// Room for what comes while one batch is answered.
pub(super) const BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// A family's sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Opens a family's sockets in the calling thread's namespace.
pub(super) fn open(is_v6: bool) -> io::Result<Sockets> {
    let any: SocketAddr = if is_v6 {
        (Ipv6Addr::UNSPECIFIED, PORT).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, PORT).into()
    };
    let udp = socket(is_v6, Type::DGRAM, Protocol::UDP)?;
    if is_v6 {
        setsockopt(&udp, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&udp, sockopt::Ipv4PacketInfo, &true)?;
    }
    // Past what `rmem_max` allows, where the agent may; without it there is less room.
    setsockopt(&udp, sockopt::RcvBufForce, &BUFFER).ok();
    udp.bind(&any.into())?;
    let tcp = socket(is_v6, Type::STREAM, Protocol::TCP)?;
    tcp.set_nonblocking(true)?;
    tcp.bind(&any.into())?;
    tcp.listen(BACKLOG)?;
    Ok(Sockets { udp: udp.into(), tcp: tcp.into() })
}

/// Bytes that wait to be received, as the kernel counts them.
pub(super) fn waiting(socket: BorrowedFd<'_>) -> io::Result<usize> {
    /// `SK_MEMINFO_RMEM_ALLOC` comes first of what there is.
    const VALUES: usize = 16;
    let mut values = [0_u32; VALUES];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `values`, which is as long, and nobody else uses either
    // until the call returns.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(values[0]).map_err(io::Error::other)
}

fn socket(is_v6: bool, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if is_v6 {
        socket.set_only_v6(true)?;
        socket.set_ip_transparent_v6(true)?;
    } else {
        socket.set_ip_transparent_v4(true)?;
    }
    Ok(socket)
}
