//! What the agent tells of itself and of the data plane: metrics, events, logs.
//!
//! Reads maps, tells the data plane who watches, decides nothing else. Indices become names by a snapshot of [`Names`] that the
//! control side publishes.

mod census;
mod collector;
mod connections;
mod counters;
mod dns;
mod events;
mod family;
mod filter;
pub mod flowlog;
pub mod log;
mod metrics;
mod names;
mod origin;
mod past;
mod proxy;
mod seen;
mod serve;
mod traffic;
mod watch;

pub use census::PortUse;
pub use connections::{Both, Connection, connections};
pub use counters::{Counters, masquerade_ports};
pub use dns::{By, DnsMetrics, Questions, Refusal, code_name};
pub use events::{Events, EventsError, PacketWatcher, QuestionWatcher, Watcher, proto_number};
pub use filter::{DNS, Filter, POLICY, TRACE};
pub use metrics::Metrics;
pub use names::{EndpointName, Names, NetworkName, ProgramName, RuleName, SharedNames};
pub use past::Past;
pub use proxy::{Carried, ProxyMetrics};
pub use seen::Seen;
pub use serve::{ServeError, bind, serve};
pub use watch::watch;
