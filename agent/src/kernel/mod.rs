//! The only room that touches Linux.
//!
//! It carries out what it is told and reports what is there; it never decides. What may be touched at all
//! is said by [`owned`].
//!
//! A container is attached by [`netns::create`] (or [`netns::Namespace::open`]), [`netlink::Netlink::create_veth`]
//! with both ends down, programs on the host end ([`bpf`]), the bridge as its master with
//! [`netlink::PortFlags`], a forwarding entry and a neighbour for its address, [`container::configure`] from
//! inside, and the host end up last. Deleting the host end takes all of it away.

pub mod announce;
pub mod bpf;
pub mod container;
pub mod error;
pub mod grace;
pub mod heap;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod owned;
pub mod peer;
pub mod ports;
pub mod process;
pub mod reserve;
pub mod sysctl;
pub mod told;
pub mod watched;

pub use error::{Error, Outcome, Result};
