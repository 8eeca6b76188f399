//! What both sides of the kernel line know.
//!
//! - [`abi`]: the bytes that cross the line: map keys and values, events, and every name.
//! - [`wire`]: headers as offsets and typed fields, and checksum arithmetic.
//! - [`io`]: the seam. Traits with two bodies each: one over `__sk_buff` and BPF maps, one in memory.
//! - [`datapath`]: every decision about a packet, generic over the seam, compiled for both sides.
//! - `memory`: what a walk needs to run outside the kernel (feature `user`).
//! - `testing`: the in-memory bodies of the rest (feature `testing`).

#![cfg_attr(not(any(feature = "user", feature = "testing", test)), no_std)]

pub mod abi;
pub mod datapath;
pub mod io;
#[cfg(any(feature = "user", feature = "testing", test))]
pub mod memory;
#[cfg(any(feature = "testing", test))]
pub mod testing;
pub mod wire;
