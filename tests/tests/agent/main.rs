//! The agent's own life: killed, restarted, refused, stopped, cleaned up after, and one of several.
//!
//! What it does to packets is in `netns` and `packet`.

mod attach;
mod cleanup;
mod crash;
mod idle;
mod ipam;
mod kills;
mod lifecycle;
mod options;
mod peer;
mod places;
mod refusals;
mod restart;
mod several;
mod stream;
mod survives;
mod vanished;

use std::net::{Ipv4Addr, SocketAddrV4};

/// An address and port.
fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}
