//! Every decision about a packet, generic over the seam ([`crate::io`]): no `unsafe`, no panic, no loop
//! without a constant bound. One file a walk, one a concern; the walks are generic over the address family
//! ([`family`]).
//!
//! | walk | where | what passes there |
//! |---|---|---|
//! | [`from_container()`] | ingress of the host end of a veth | everything a container sends |
//! | [`to_container()`] | its egress | what the kernel itself sends to the container |
//! | [`from_uplink()`] | ingress of an uplink | published ports, answers |
//! | [`to_uplink()`] | its egress | what the kernel forwarded out |
//! | [`to_bridge()`] | egress of the gateway's device, where there is no bridge | what the host sends to the network |
//! | [`from_names()`] | ingress of the host end of the veth of the server of names | its answers |
//!
//! Traffic within a network has no state. Translated flows have two entries, one a direction
//! ([`conntrack`]); one lookup a packet finds what becomes of it, or none where it has just been found ([`short`]).

mod answer;
mod arp;
pub mod bind;
mod choice;
pub mod conntrack;
pub mod deny;
mod direct;
mod discovery;
pub mod family;
pub mod from_container;
pub mod from_uplink;
mod half_open;
pub mod icmp;
mod masquerade;
pub mod names;
pub mod parse;
mod policy;
pub mod rewrite;
mod service;
pub mod short;
pub mod socket;
pub mod to_container;
pub mod to_uplink;
pub mod unbridged;
mod v4;
pub mod v6;
mod verdict;
pub mod watched;

pub use family::{BothKernels, BothTables, Family};
pub use from_container::from_container;
pub use from_uplink::from_uplink;
pub use names::from_names;
pub use to_container::to_container;
pub use to_uplink::to_uplink;
pub use unbridged::to_bridge;
pub use verdict::{End, Kind, Next, Outcome, Told, Verdict, Went, in_parts};
