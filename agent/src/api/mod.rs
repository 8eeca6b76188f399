//! The agent's own API: HTTP/1.1 with JSON over a unix socket.
//!
//! [`proto`] holds what crosses the socket and [`paths`] where; both are shared with the command line.
//! [`server`] is the transport with its rules, `route` says which request is meant, `handlers` answer it.

pub mod client;
mod convert;
mod handlers;
pub mod paths;
pub mod policy;
pub mod proto;
mod route;
pub mod server;
mod view;
pub mod why;
