//! Docker's network driver and IPAM driver: the protocol by hand, and by a real dockerd.

mod caller;
mod docker;
mod lives;
mod protocol;
mod stage;
