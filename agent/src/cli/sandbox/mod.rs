//! Commands inside sandboxes: the client enters the namespaces and executes, so that the command
//! outlives the agent.
//!
//! [`interior`] is what the command finds inside, [`rights`] what it may do there, [`launch`] brings it there,
//! [`wait`] and [`terminal`] stay with it.

pub mod interior;
pub mod launch;
pub mod rights;
pub mod terminal;
pub mod wait;
