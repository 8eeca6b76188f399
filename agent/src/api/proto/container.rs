//! Containers as Docker shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EndpointSettings, Map, empty_is_null, null_is_default};

/// An entry of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// The id, 64 hex digits.
    pub id: String,
    /// Names, each with a slash before it.
    pub names: Vec<String>,
    /// Always empty.
    pub image: String,
    /// Always empty.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The command, as handed over by the client; empty where there is none.
    pub command: String,
    /// When it was made, seconds since the epoch.
    pub created: i64,
    /// Its published ports, and the exposed ones.
    pub ports: Vec<PortSummary>,
    /// Labels.
    pub labels: Map,
    /// `created`, `running` or `exited`.
    pub state: String,
    /// The same for people: `Up 5 minutes`.
    pub status: String,
    /// How it is on the network.
    pub host_config: SummaryHostConfig,
    /// Its networks.
    pub network_settings: SummaryNetworks,
    /// Always empty.
    pub mounts: Vec<Empty>,
}

/// How a container of [`ContainerSummary`] is on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// Name of the first network, `none` or `host`.
    pub network_mode: String,
}

/// Networks in [`ContainerSummary`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworks {
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port in [`ContainerSummary`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortSummary {
    /// Host address; absent where the port is exposed only.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Port in the container.
    pub private_port: u16,
    /// Port on the host; absent where the port is exposed only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp` or `udp`.
    pub r#type: String,
}

/// Reply of `GET /containers/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// The id, 64 hex digits.
    pub id: String,
    /// When it was made, RFC 3339 with nanoseconds.
    pub created: String,
    /// The command's first word, or empty.
    pub path: String,
    /// The other words.
    pub args: Vec<String>,
    /// What it is doing.
    pub state: ContainerState,
    /// The name with a slash before it.
    pub name: String,
    /// Wishes that concern the host.
    pub host_config: HostConfig,
    /// Wishes that do not.
    pub config: ContainerConfig,
    /// Its `/etc/resolv.conf`, as a file of the host; empty before its first start.
    pub resolv_conf_path: String,
    /// Its `/etc/hostname`.
    pub hostname_path: String,
    /// Its `/etc/hosts`.
    pub hosts_path: String,
    /// What it has on the network.
    pub network_settings: NetworkSettings,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running` or `exited`.
    pub status: String,
    /// Whether it runs.
    pub running: bool,
    /// Always false.
    pub paused: bool,
    /// Process that the client has handed over, or whose namespace was brought; 0 is none.
    pub pid: i32,
    /// Exit code of the last command, where it is known.
    pub exit_code: i32,
    /// Why it last failed to start or to be kept up, or empty.
    pub error: String,
    /// When it was last started.
    pub started_at: String,
    /// When it last ended.
    pub finished_at: String,
}

/// Wishes of a container that concern the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Name of the first network, `none` or `host`.
    pub network_mode: String,
    /// Published ports as asked for: `80/tcp` to bindings.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Links of the default network, `/CONTAINER:/LINKING/ALIAS`; null where there are none.
    #[serde(serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
    pub links: Vec<String>,
    /// Name servers that were asked for.
    #[serde(rename = "Dns")]
    pub dns: Vec<String>,
    /// Options of the resolver that were asked for.
    pub dns_options: Vec<String>,
    /// Domains that were asked for.
    pub dns_search: Vec<String>,
    /// Further lines of `/etc/hosts` that were asked for, `NAME:IP`; null where there are none.
    #[serde(serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
    pub extra_hosts: Vec<String>,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
}

/// Wishes of a container that do not concern the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Host name.
    pub hostname: String,
    /// Domain that it is in, or empty.
    pub domainname: String,
    /// Variables that its command was given.
    pub env: Vec<String>,
    /// Labels.
    pub labels: Map,
    /// Exposed ports, `80/tcp`.
    pub exposed_ports: BTreeMap<String, Empty>,
}

/// An object without keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// What a container has on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Always empty.
    pub bridge: String,
    /// Id of the sandbox: the container's; empty where it has none of its own.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace; empty while it does not run, and where it has none of its own.
    pub sandbox_key: String,
    /// Published and exposed ports, `80/tcp`; null where a port is exposed only.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Always null.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    /// Always null.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    /// The endpoint's id on the default network; what follows is its as well.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The gateway's address.
    pub gateway: String,
    /// The IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// The address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The gateway's IPv6 address.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Ethernet address.
    pub mac_address: String,
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A published port's side on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Host address.
    pub host_ip: String,
    /// Host port.
    pub host_port: String,
}
