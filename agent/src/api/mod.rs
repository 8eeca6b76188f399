//! The agent's own API: HTTP/1.1 with JSON over a unix socket.
//!
//! [`proto`] holds what crosses the socket and [`paths`] where; both are shared with the command line.
//! `socket` says who may come in, [`server`] is the transport with its rules, `route` says which request is
//! meant, `handlers` answer it.

mod bounds;
pub mod bugreport;
pub mod client;
mod containers;
mod context;
mod convert;
pub mod docker;
mod engine;
mod events;
mod filters;
pub mod flows;
mod handlers;
mod json;
pub mod maps;
pub mod monitor;
pub mod names;
mod networks;
mod openapi;
pub mod paths;
mod pattern;
pub mod policy;
pub mod proto;
mod reply;
mod request;
mod route;
pub mod server;
mod socket;
mod status;
#[cfg(test)]
mod tests;
pub mod traffic;
mod view;
pub mod why;
