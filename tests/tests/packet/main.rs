//! Twin tests: the same frame over the same maps goes through the walks on the host and, by
//! `BPF_PROG_TEST_RUN`, through the programs in the kernel. Both must end the same way: verdict, bytes,
//! connections, fragments and every counter.
//!
//! What the walks decide is proved in `common`; here is that the kernel decides alike.

mod bench;
mod catalogue;
mod errors;
mod errors6;
mod extensions;
mod fragments;
mod fragments6;
mod frames;
mod hairpins;
mod kernel;
mod modes;
mod neighbours;
mod neighbours6;
mod out;
mod out6;
mod oversize;
mod published;
mod published6;
mod sctp;
mod short;
mod spoofing;
mod spoofing6;
mod state;
mod twin;
mod unbridged;
mod world;
