//! The Docker plugin: libnetwork's remote network driver and IPAM driver, over a socket that dockerd finds.
//!
//! `proto` holds what crosses the socket, `server` is the transport, `driver` and `ipam` answer the two halves of the
//! protocol. Every answer comes from what is known here: dockerd holds the container's lock while it waits, and is never
//! asked anything meanwhile. What it does not say (names, labels), `names` learns when nobody waits.

mod driver;
mod heal;
mod ipam;
mod names;
mod proto;
mod read;
mod server;

pub use server::{Socket, serve};
