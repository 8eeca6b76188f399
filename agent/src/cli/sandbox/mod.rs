//! Commands inside sandboxes: the client enters the namespaces and executes, so that the command
//! outlives the agent.
//!
//! [`interior`] is what the command finds inside, [`launch`] brings it there, [`wait`] stays with it.

pub mod files;
pub mod interior;
pub mod launch;
pub mod wait;
