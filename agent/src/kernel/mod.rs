//! The only room that touches Linux.
//!
//! It carries out what it is told and reports what is there; it never decides. What may be touched at all
//! is said by [`owned`].

pub mod bpf;
pub mod container;
pub mod error;
pub mod netlink;
pub mod netns;
pub mod owned;
pub mod ports;
pub mod reserve;
pub mod sysctl;

pub use error::{Error, Outcome, Result};
