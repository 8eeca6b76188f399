//! What is told of Docker: before anything is changed, and afterwards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How it stands with Docker, and what taking over its networks would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Report {
    /// `off`, `taking`, `on` or `releasing`.
    pub phase: String,
    /// The daemon.
    pub daemon: DaemonReport,
    /// Its configuration.
    pub config: ConfigReport,
    /// Rules of the packet filter that are Docker's own, each with its table.
    pub rules: Vec<String>,
    /// Its bridge networks.
    pub networks: Vec<NetworkReport>,
    /// Its running containers on them.
    pub containers: Vec<ContainerReport>,
    /// What does not go on as it is.
    pub breaks: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What is not as it was made.
    pub drift: Vec<String>,
}

/// Docker's daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct DaemonReport {
    /// Whether it answers.
    pub reachable: bool,
    /// Its socket.
    pub socket: String,
    /// Its version.
    pub version: String,
    /// Whether containers outlive it.
    pub live_restore: bool,
    /// Whether it has to be started again.
    pub restart: bool,
    /// How.
    pub how: String,
    /// Whether that is done for the operator.
    pub automatic: bool,
}

/// The configuration of Docker's daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReport {
    /// The file.
    pub path: String,
    /// Where a copy of it is kept.
    pub copy: String,
    /// Keys that become another.
    pub keys: Vec<KeyReport>,
}

/// A key of the configuration that becomes another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyReport {
    /// The key.
    pub key: String,
    /// What it says; empty where it says nothing.
    pub from: String,
    /// What it shall say.
    pub to: String,
}

/// A bridge network of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its bridge.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// What is special about it: `internal`, `icc off`, `no masquerade`, a gateway mode.
    pub policy: Vec<String>,
}

/// A running container of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its networks, each with the container's addresses.
    pub networks: Vec<String>,
    /// What it publishes, as `docker port` has it.
    pub ports: Vec<String>,
}
