//! The control side of Bascule.

pub mod agent;
pub mod api;
<<<<<<< HEAD
pub mod cli;
pub mod error;
=======
mod cleanup;
pub mod config;
>>>>>>> 8a74898 (api, agent: serve requests on the socket, start, stop and clean up)
pub mod kernel;
mod lock;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod state;
pub mod telemetry;
