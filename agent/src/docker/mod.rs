//! Docker's own networks: asked about over its API.

pub mod engine;
