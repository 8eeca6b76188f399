//! Leads what arrives by the loopback device at published ports to sockets of this process. Neither the link
//! nor the sockets are pinned: they end with the process, and such clients are then refused.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::bpf_attach_type;
use bascule_common::abi::names::{map, program};

use super::{
    BpfError,
    bpffs::Pins,
    error::pin,
    load::Programs,
    map::bytes,
    sys::{self, Kind},
};

/// Which of the proxy's sockets one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProxySlot {
    /// Listens for TCP over IPv4.
    Tcp4 = map::PROXY_TCP4,
    /// Listens for TCP over IPv6.
    Tcp6 = map::PROXY_TCP6,
    /// Receives UDP over IPv4.
    Udp4 = map::PROXY_UDP4,
    /// Receives UDP over IPv6.
    Udp6 = map::PROXY_UDP6,
}

/// The program on this network namespace, as long as it is held.
#[derive(Debug)]
pub struct Steering {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Steering {
    /// Attaches the program to the calling thread's network namespace.
    pub fn start(pins: &Pins, programs: &Programs) -> Result<Self, BpfError> {
        let path = pins.map(map::PROXIES);
        let sockets =
            sys::object_get(&path, Kind::Map).map_err(pin("open the map pinned at", &path))?;
        let program = programs.get(program::TO_PROXY)?;
        let error = |source| BpfError::Attach {
            what: "attach",
            program: program::TO_PROXY.into(),
            place: "to the network namespace".into(),
            source,
        };
        let namespace = File::open("/proc/thread-self/ns/net").map_err(error)?;
        let link = sys::link_create(program.fd(), &namespace, bpf_attach_type::BPF_SK_LOOKUP)
            .map_err(error)?;
        Ok(Self { map: sockets, _link: link })
    }

    /// Has a socket take what is for its slot.
    pub fn lead(&self, slot: ProxySlot, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        let descriptor = socket.as_raw_fd().cast_unsigned();
        // SAFETY: key and value of the map are 4 bytes each, as `layout` checked when it was made.
        unsafe { sys::map_update(self.map.as_fd(), bytes(&(slot as u32)), bytes(&descriptor)) }
            .map_err(|source: io::Error| BpfError::Map {
                what: "enter a socket in",
                name: map::PROXIES,
                source,
            })
    }
}
