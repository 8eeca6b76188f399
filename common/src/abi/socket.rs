//! Sockets of host processes whose destination was translated to a container's.

use super::{Ip6, Port};

/// Key of `SOCKETS`: a socket, and the container that it was led to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey {
    /// The socket's cookie (`SO_COOKIE`), unique in the kernel and never used again.
    pub cookie: u64,
    /// The container's address; an IPv4 one as `::ffff:a.b.c.d`, because one socket may meet both forms.
    pub address: Ip6,
    /// The container's port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<SocketKey>() == 32 && align_of::<SocketKey>() == 8);

/// What the process had asked for. Map `SOCKETS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOrigin {
    /// The published address; an IPv4 one as `::ffff:a.b.c.d`.
    pub address: Ip6,
    /// The published port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
}
const _: () = assert!(size_of::<SocketOrigin>() == 20 && align_of::<SocketOrigin>() == 4);
