//! The control side of Bascule.

pub mod agent;
pub mod api;
mod cleanup;
pub mod cli;
pub mod config;
pub mod dns;
pub mod docker;
pub mod error;
pub mod files;
pub mod kernel;
mod lock;
pub mod model;
pub mod plan;
pub mod plugin;
mod proxy;
pub mod reconcile;
mod reload;
pub mod state;
pub mod telemetry;
mod ui;
mod why;
