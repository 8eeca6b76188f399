//! The agent's own API: HTTP/1.1 with JSON over a unix socket.
//!
//! [`proto`] holds what crosses the socket and [`paths`] where; both are shared with the command line.

pub mod client;
pub mod paths;
pub mod proto;
