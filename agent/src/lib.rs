//! The control side of Bascule.

pub mod api;
pub mod cli;
pub mod error;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod state;
pub mod telemetry;
