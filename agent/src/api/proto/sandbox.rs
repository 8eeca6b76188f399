//! Containers as they are made and run here: shapes of our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Map;

/// Body of `POST /bascule/v1/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct ContainerCreate {
    /// Its name; empty chooses one.
    pub name: String,
    /// Networks in order of attachment; empty is the default network; `none`, `host` and `container:NAME` stand
    /// alone.
    pub networks: Vec<ContainerNetwork>,
    /// Published ports, `[IP:][HOSTPORT[-END]]:PORT[-END][/tcp|/udp]`.
    pub publish: Vec<String>,
    /// Whether every exposed port is published on a free port of the host.
    pub publish_all: bool,
    /// Exposed ports, `80`, `80/udp`, `8000-8010/tcp`.
    pub expose: Vec<String>,
    /// Links, `CONTAINER[:ALIAS]`.
    pub links: Vec<String>,
    /// Host name; empty is the short id.
    pub hostname: String,
    /// Domain that the host name is in, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Name servers; none leaves it to the networks and the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains that short names are looked up in; a lone dot is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of the resolver, `ndots:2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Further lines of `/etc/hosts`, `NAME:IP` or `NAME:host-gateway`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// Labels.
    pub labels: Map,
    /// Sysctls of its network namespace.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub sysctls: Map,
    /// Path of a network namespace that is brought.
    pub netns: Option<String>,
    /// Process whose network namespace is brought.
    pub pid: Option<i32>,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
    /// The command that the client will run in it, for show.
    pub command: Vec<String>,
    /// Variables that the client will give it, `KEY=VALUE`: links of the default network tell them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

/// A network in [`ContainerCreate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct ContainerNetwork {
    /// Name or id.
    pub network: String,
    /// Static address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// Static IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Ethernet address; empty derives it from the address.
    pub mac_address: String,
    /// Further addresses, of the link.
    #[serde(rename = "LinkLocalIPs")]
    pub link_local_ips: Vec<IpAddr>,
    /// Further names on the network.
    pub aliases: Vec<String>,
    /// Driver options of the endpoint.
    pub driver_opts: Map,
    /// Which network gives the default route: the highest.
    pub gw_priority: i64,
}

/// Reply of `POST /bascule/v1/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreated {
    /// The new container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Reply of `POST /bascule/v1/containers/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStarted {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Host name for the process.
    pub hostname: String,
    /// Id of the container whose network and files it has: its own, or that of another one.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Where it is attached, in order of interfaces.
    pub endpoints: Vec<StartedEndpoint>,
}

/// An attachment in [`ContainerStarted`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct StartedEndpoint {
    /// Name of the network.
    pub network: String,
    /// Interface in the container.
    pub interface: String,
    /// Address with prefix length.
    pub address: String,
    /// The gateway's address; empty on internal networks.
    pub gateway: String,
    /// IPv6 address with prefix length, or empty.
    pub address6: String,
    /// The gateway's IPv6 address, or empty.
    pub gateway6: String,
    /// Further names on the network.
    pub aliases: Vec<String>,
}

/// Body of `POST /bascule/v1/containers/{id}/process`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessStarted {
    /// The process that was executed in the sandbox.
    pub pid: i32,
}

/// Body of `POST /bascule/v1/containers/{id}/stop`; may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStop {
    /// Exit code of the command, where the client knows it.
    pub exit_code: Option<i32>,
}

/// A published range of ports, an entry of `GET /bascule/v1/containers/{id}/ports`.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "PascalCase", default)]
pub struct PublishedPort {
    /// First port in the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub proto: String,
    /// Host address, `0.0.0.0` or `::` for every one of the family.
    pub host_ip: String,
    /// First port on the host; 0 where none leads there, and the container's own port is open.
    pub host_port: u16,
    /// Number of ports.
    pub count: u16,
}
