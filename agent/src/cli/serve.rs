//! `bascule agent`: from the command line to the agent's own settings.

use std::path::PathBuf;

use super::{
    Context,
    args::{Agent, Global},
};
use crate::error::Failure;

/// Where the agent's socket is unless someone says otherwise.
const RUN_DIR: &str = "/run/bascule";

/// Finds the run directory: flag or environment, configuration file, default.
pub fn run_dir(global: &Global) -> Result<PathBuf, Failure> {
    Ok(global.run_dir.clone().unwrap_or_else(|| PathBuf::from(RUN_DIR)))
}

/// Runs the agent, or removes what it left.
pub fn agent(_context: &Context, _args: Agent) -> Result<u8, Failure> {
    Err(Failure::new("the agent is not part of this build yet"))
}
