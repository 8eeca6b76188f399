//! Brings about what is desired: observe, plan, execute, until there is nothing left to do.
//!
//! [`Driver`] is the one task that changes anything, so changes have an order; [`Handle`] is how others
//! ask it to.

mod announce;
mod around;
mod commands;
mod driver;
mod executor;
mod facts;
mod flows;
mod follow;
mod forwarding;
mod guard;
mod happened;
mod heard;
mod journal;
mod machine;
mod names;
mod narrow;
mod observe;
mod pass;
mod resolvers;
mod retry;
mod run;
mod seen;
mod site;
mod status;
mod sysctls;
mod touched;

pub use driver::{Driver, Handle, Options, StartError};
pub use journal::{Ending, Event, Expected, Journal, Page};
pub use machine::{Machine, Places};
pub use names::usage;
pub use status::{Configured, Failure, Shared, Snapshot, UplinkSeen};
pub use touched::Numbers;
