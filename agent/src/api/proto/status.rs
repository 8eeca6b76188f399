//! How the agent is: shapes of our own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::maps, Map};

/// Reply of `GET /bascule/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub started_at: String,
    /// State, run and pin directories and the metrics address.
    pub places: Map,
    /// What the kernel offers, as probed.
    pub features: Map,
    /// Name servers that containers are given; none, those of the host.
    pub dns: Vec<String>,
    /// Domains that they look up short names in; none, those of the host, and `.` is none at all.
    pub dns_search: Vec<String>,
    /// Options of their resolvers.
    pub dns_options: Vec<String>,
    /// Interfaces that lead out of the host.
    pub uplinks: Vec<UplinkStatus>,
    /// Number of networks.
    pub networks: usize,
    /// Number of containers.
    pub containers: usize,
    /// Number of those that run.
    pub containers_running: usize,
    /// Number of endpoints in the data plane.
    pub endpoints: usize,
    /// Number of published ranges in the data plane.
    pub published: usize,
    /// Number of prefixes on the deny list.
    pub denied: usize,
    /// Last pass of reconciliation.
    pub reconcile: ReconcileStatus,
    /// Changes that wait for their turn.
    pub pending: usize,
    /// Objects that are not as they should be.
    pub failures: Vec<Failure>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Everything else, where the request asks for it by `verbose`.
    pub details: Option<StatusDetails>,
}

/// An uplink in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct UplinkStatus {
    /// Interface.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Address that masquerade uses, or empty.
    pub masquerade: String,
    /// The same for IPv6.
    pub masquerade6: String,
    /// MTU.
    pub mtu: u32,
    /// Where the deny list is looked at: `native`, `generic` or `tc`; empty where there is none.
    pub deny: String,
}

/// Reconciliation in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReconcileStatus {
    /// Passes since the start.
    pub passes: u64,
    /// Actions since the start.
    pub actions: u64,
    /// Actions that put right what nobody had changed through the API, by kind.
    pub repairs: BTreeMap<String, u64>,
    /// When the last pass ended.
    pub last_pass: String,
    /// How long it took, in seconds.
    pub last_seconds: f64,
}

/// An object that is not as it should be, in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Failure {
    /// The object: `container c1`.
    pub object: String,
    /// Why.
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Seconds until it is tried again.
    pub retry_seconds: f64,
}

/// What is in the kernel, and what is in use of it, in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct StatusDetails {
    /// Versions of the agent, its API, its tables and the kernel.
    pub versions: Map,
    /// Helpers and types of maps that were looked for in the kernel, and whether they are there.
    pub supported: Map,
    /// Programs at work.
    pub programs: Vec<AttachedProgram>,
    /// Maps with their entries and capacities.
    pub maps: Vec<maps::Map>,
    /// What is in use of each network.
    pub networks: Vec<NetworkUse>,
    /// Connections that are tracked.
    pub tracked: Vec<TrackedUse>,
    /// Ports that masquerade takes of each address.
    pub nat: Vec<NatUse>,
}

/// A program at work, in [`StatusDetails`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedProgram {
    /// Interface, or path of the cgroup.
    pub interface: String,
    /// `ingress`, `egress`, `xdp`, or the cgroup's hook.
    pub hook: String,
    /// `tcx`, `clsact` or `cgroup`; of XDP, `native` or `generic`.
    pub mode: String,
    /// The program.
    pub program: String,
}

/// What is in use of a network, in [`StatusDetails`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkUse {
    /// Its name.
    pub network: String,
    /// The subnet of it that is meant.
    pub subnet: String,
    /// Its bridge.
    pub bridge: String,
    /// Addresses that are taken, with the gateway's and those that nobody can have.
    pub addresses_in_use: u64,
    /// Addresses that are free.
    pub addresses_free: u64,
    /// Connections of its endpoints that are tracked; those within a network are not.
    pub connections: u64,
}

/// Connections that are tracked, in [`StatusDetails`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrackedUse {
    /// Protocol.
    pub proto: String,
    /// State.
    pub state: String,
    /// How many.
    pub connections: u64,
}

/// Ports that masquerade takes of an address, in [`StatusDetails`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NatUse {
    /// The host's address.
    pub address: String,
    /// Protocol.
    pub proto: String,
    /// Connections that leave with it.
    pub connections: u64,
    /// Ports towards the destination that takes most of them: two connections to one destination have two ports.
    pub ports_in_use: u64,
    /// Ports that there are towards one destination.
    pub ports: u64,
}
