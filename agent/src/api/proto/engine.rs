//! The engine itself: its version, in Docker's shape.

use serde::{Deserialize, Serialize};

use super::Map;

/// Reply of `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// What the engine is.
    pub platform: Platform,
    /// Engine version, Docker's numbering.
    pub version: String,
    /// Newest API version.
    pub api_version: String,
    /// Oldest API version.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture, Go's names.
    pub arch: String,
    /// Parts with versions of their own.
    pub components: Vec<Component>,
    /// Commit that the binary was built from, or empty.
    pub git_commit: String,
    /// Always empty.
    pub go_version: String,
    /// Release of the running kernel.
    pub kernel_version: String,
    /// When the binary was built, or empty.
    pub build_time: String,
}

/// Name of the platform in [`Version`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// The name.
    pub name: String,
}

/// A part in [`Version`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// The part.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    pub details: Map,
}

/// Reply of `GET /info`: what of Docker's keys has a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Id of the engine; it stays as long as the state does.
    #[serde(rename = "ID")]
    pub id: String,
    /// Number of containers.
    pub containers: usize,
    /// Number of those that run.
    pub containers_running: usize,
    /// Always 0.
    pub containers_paused: usize,
    /// Number of those that do not run.
    pub containers_stopped: usize,
    /// Always 0.
    pub images: usize,
    /// Storage driver: `none`.
    pub driver: String,
    /// Drivers by kind.
    pub plugins: Plugins,
    /// Whether the host routes IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Release of the running kernel.
    pub kernel_version: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// Processor architecture, the kernel's name.
    pub architecture: String,
    /// Number of processors.
    #[serde(rename = "NCPU")]
    pub ncpu: usize,
    /// Memory in bytes.
    pub mem_total: u64,
    /// Where the state is.
    pub docker_root_dir: String,
    /// Name of the host.
    pub name: String,
    /// Labels of the engine: none.
    pub labels: Vec<String>,
    /// Engine version, Docker's numbering.
    pub server_version: String,
    /// Always empty.
    pub runtimes: Map,
    /// Always inactive.
    pub swarm: Swarm,
    /// Always empty.
    pub security_options: Vec<String>,
    /// What carries the packets; absent before API 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallBackend>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// The host's time.
    pub system_time: String,
}

/// Drivers in [`Info`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    /// Of volumes: none.
    pub volume: Vec<String>,
    /// Of networks.
    pub network: Vec<String>,
    /// Of authorization: none.
    pub authorization: Option<Vec<String>>,
    /// Of logs: none.
    pub log: Vec<String>,
}

/// Swarm's state in [`Info`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// Always empty.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// `inactive`.
    pub local_node_state: String,
    /// Always false.
    pub control_available: bool,
}

/// What carries the packets, in [`Info`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FirewallBackend {
    /// `bascule-ebpf`.
    pub driver: String,
    /// What the kernel offers, pairs of name and value.
    pub info: Vec<[String; 2]>,
}

/// A line of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The action once more, of containers alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The id once more, of containers alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// `container` or `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What has happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// When, in seconds since the epoch.
    pub time: i64,
    /// When, in nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an [`Event`] happens to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// More about it.
    #[serde(rename = "Attributes")]
    pub attributes: Map,
}
