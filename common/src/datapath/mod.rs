//! Every decision about a packet, generic over the seam ([`crate::io`]): no `unsafe`, no panic, no loop
//! without a constant bound. One file a walk, one a concern.
//!
//! | walk | where | what passes there |
//! |---|---|---|
//! | [`from_container()`] | ingress of the host end of a veth | everything a container sends |
//! | [`to_container()`] | its egress | what the kernel itself sends to the container |
//! | [`from_uplink()`] | ingress of an uplink | published ports, answers |
//! | [`to_uplink()`] | its egress | what the kernel forwarded out |
//!
//! Traffic within a network has no state. Translated flows have two entries, one a direction
//! ([`conntrack`]); one lookup a packet finds what becomes of it.

mod arp;
pub mod bind;
pub mod conntrack;
pub mod deny;
mod from_container;
mod from_uplink;
mod icmp;
mod ipv6;
mod masquerade;
pub mod parse;
mod policy;
mod rewrite;
mod service;
pub mod socket;
mod to_container;
mod to_uplink;
mod verdict;

pub use from_container::from_container;
pub use from_uplink::from_uplink;
pub use ipv6::link_local;
pub use to_container::to_container;
pub use to_uplink::to_uplink;
pub use verdict::{Flat, Kind, Verdict};
