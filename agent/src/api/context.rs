//! What requests are answered from.

use std::sync::Arc;

use jiff::Timestamp;

use super::proto;
use crate::{
    docker::service::Service,
    kernel::bpf::{Programs, Tables},
    reconcile::{Handle, Places},
    telemetry::{Events, Metrics, SharedNames, log::Recent},
};

/// What the API needs to answer.
#[derive(Clone, Debug)]
pub struct Context {
    /// How changes are asked for.
    pub handle: Handle,
    /// Where the agent's files are.
    pub places: Places,
    /// Where counters are.
    pub tables: Arc<Tables>,
    /// The programs, as they are loaded.
    pub programs: Arc<Programs>,
    /// What is seen on the network.
    pub events: Events,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// The last lines of the log.
    pub recent: Recent,
    /// Names of what is in the tables.
    pub names: SharedNames,
    /// Docker's networks.
    pub docker: Service,
    /// What the status says that never changes: places and features.
    pub facts: Arc<Facts>,
}

/// What never changes while the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// State, run and pin directories and the metrics address.
    pub places: proto::Map,
    /// What the kernel offers.
    pub features: proto::Map,
    /// Helpers and types of maps that were looked for, and whether they are there.
    pub supported: proto::Map,
    /// Release of the kernel.
    pub kernel: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
}
