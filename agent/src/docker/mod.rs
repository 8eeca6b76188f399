//! Docker's own networks, served in Docker's place.
//!
//! Docker goes on to make bridges, interfaces, addresses and names, and holds the published ports by sockets of its own.
//! [`follow`] has all of it be wished for here, so that it is filtered and translated as networks of ours are; [`daemon`]
//! and [`rules`] keep Docker from doing that itself; [`service`] brings the two about in an order without a gap.

pub mod daemon;
pub mod engine;
pub mod follow;
pub mod report;
pub mod rules;
pub mod seen;
pub mod service;
mod tell;
