//! What has to be done: pure functions from what is desired and what is there to a list of actions.
//!
//! Some things can only be said once others exist (an endpoint's entry names the index of its veth), so a
//! pass is made of rounds: observe, plan, execute, until the plan is empty. An interrupted round is no
//! different from one that has not begun.

mod action;
mod containers;
mod contents;
mod deny;
mod diff;
#[cfg(test)]
mod fake;
mod host;
mod narrow;
mod observed;
mod order;
mod ports;
#[cfg(test)]
mod tests;

pub use action::{Action, ConfigureInterface, Entry, Planned, Subject, WayToNames};
pub use contents::Contents;
pub use diff::{Settings, diff, unplugged, vanished};
pub use narrow::{Places, Scope, Seen, narrow};
pub use observed::{
    Address, FdbEntry, Hook, HookState, Inside, Interface, Link, Name, Neighbour, Observed, Owner,
    Sandbox, Side, Xdp,
};
pub use ports::{PortTables, Run};
