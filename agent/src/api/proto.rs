//! What crosses the socket: requests and replies, Docker-shaped where Docker has a shape.
//!
//! Keys and their presence are the contract here. What the values may be is `model`'s matter.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Deserializer, Serialize};

/// Text by text, in order.
pub type Map = BTreeMap<String, String>;

/// Reads JSON's null as the default, as Go does.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Every reply that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What went wrong, in one sentence.
    pub message: String,
}

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

/// A network in lists and inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id, 64 hex digits.
    pub id: String,
    /// When it was made, RFC 3339 with nanoseconds.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Whether it has IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its addresses.
    #[serde(rename = "IPAM", deserialize_with = "null_is_default")]
    pub ipam: Ipam,
    /// Whether it has no way out.
    pub internal: bool,
    /// Always false.
    pub attachable: bool,
    /// Always false.
    pub ingress: bool,
    /// Always empty.
    #[serde(deserialize_with = "null_is_default")]
    pub config_from: ConfigReference,
    /// Always false.
    pub config_only: bool,
    /// Endpoints by container id; empty in lists.
    #[serde(deserialize_with = "null_is_default")]
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Driver options, verbatim.
    #[serde(deserialize_with = "null_is_default")]
    pub options: Map,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: Map,
    /// Use of the subnets; in inspection only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}

/// Addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    #[serde(deserialize_with = "null_is_default")]
    pub driver: String,
    /// Options of the driver.
    #[serde(deserialize_with = "null_is_default")]
    pub options: Map,
    /// One entry a subnet.
    #[serde(deserialize_with = "null_is_default")]
    pub config: Vec<IpamConfig>,
}

impl Default for Ipam {
    fn default() -> Self {
        Self { driver: "default".into(), options: Map::new(), config: Vec::new() }
    }
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The subnet, `172.25.0.0/16`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub subnet: String,
    /// The part of it that dynamic addresses come from.
    #[serde(
        rename = "IPRange",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub ip_range: String,
    /// The gateway's address.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub gateway: String,
    /// Addresses that are never given out, by name.
    #[serde(skip_serializing_if = "Map::is_empty", deserialize_with = "null_is_default")]
    pub auxiliary_addresses: Map,
}

/// Name of the network that a configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// The name.
    pub network: String,
}

/// An endpoint in [`Network::containers`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its Ethernet address.
    pub mac_address: String,
    /// Its address with prefix length.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// Its IPv6 address with prefix length, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `Status` of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Use of addresses.
    #[serde(rename = "IPAM", default)]
    pub ipam: IpamStatus,
}

/// Use of the addresses of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamStatus {
    /// By subnet.
    #[serde(rename = "Subnets", default)]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// Use of the addresses of a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetStatus {
    /// Addresses in use, with those that nobody can have.
    #[serde(rename = "IPsInUse", default)]
    pub ips_in_use: u64,
    /// Addresses that are left for containers.
    #[serde(rename = "DynamicIPsAvailable", default)]
    pub dynamic_ips_available: u64,
}

/// Body of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// `bridge`, or empty for that.
    #[serde(deserialize_with = "null_is_default")]
    pub driver: String,
    /// `local`, or empty for that.
    #[serde(deserialize_with = "null_is_default")]
    pub scope: String,
    /// Whether it has IPv4; absent is yes.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6; absent is yes where a subnet of it is given.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Its addresses; absent or without subnet chooses one.
    #[serde(rename = "IPAM", deserialize_with = "null_is_default")]
    pub ipam: Ipam,
    /// Whether it has no way out.
    pub internal: bool,
    /// Accepted, without effect.
    pub attachable: bool,
    /// Refused when true.
    pub ingress: bool,
    /// Refused when true.
    pub config_only: bool,
    /// Refused when it names a network.
    #[serde(deserialize_with = "null_is_default")]
    pub config_from: ConfigReference,
    /// Driver options.
    #[serde(deserialize_with = "null_is_default")]
    pub options: Map,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: Map,
}

/// Reply of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreated {
    /// The new network's id.
    pub id: String,
    /// Always empty.
    pub warning: String,
}

/// Reply of `POST /networks/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworksPruned {
    /// Names of what was removed; null where nothing was.
    pub networks_deleted: Option<Vec<String>>,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Name or id of the container.
    pub container: String,
    /// Wishes for the endpoint.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint_config: EndpointSettings,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// Name or id of the container.
    pub container: String,
    /// Whether an endpoint without a container goes too.
    pub force: bool,
}

/// A container's place on a network: what is wished for in requests, what is so in replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses asked for; null where none was.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Links, `CONTAINER[:ALIAS]`.
    #[serde(deserialize_with = "null_is_default")]
    pub links: Vec<String>,
    /// Further names on the network.
    #[serde(deserialize_with = "null_is_default")]
    pub aliases: Vec<String>,
    /// Ethernet address.
    #[serde(deserialize_with = "null_is_default")]
    pub mac_address: String,
    /// Driver options.
    #[serde(deserialize_with = "null_is_default")]
    pub driver_opts: Map,
    /// Which network gives the default route: the highest.
    #[serde(deserialize_with = "null_is_default")]
    pub gw_priority: i64,
    /// The network's id.
    #[serde(rename = "NetworkID", deserialize_with = "null_is_default")]
    pub network_id: String,
    /// The endpoint's id; empty while the container does not run.
    #[serde(rename = "EndpointID", deserialize_with = "null_is_default")]
    pub endpoint_id: String,
    /// The gateway's address.
    #[serde(deserialize_with = "null_is_default")]
    pub gateway: String,
    /// The container's address.
    #[serde(rename = "IPAddress", deserialize_with = "null_is_default")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen", deserialize_with = "null_is_default")]
    pub ip_prefix_len: u8,
    /// The gateway's IPv6 address.
    #[serde(rename = "IPv6Gateway", deserialize_with = "null_is_default")]
    pub ipv6_gateway: String,
    /// The container's IPv6 address.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "null_is_default")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "null_is_default")]
    pub global_ipv6_prefix_len: u8,
    /// Names it can be resolved by.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses asked for in [`EndpointSettings`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpamConfig {
    /// A static IPv4 address.
    #[serde(
        rename = "IPv4Address",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub ipv4_address: String,
    /// A static IPv6 address.
    #[serde(
        rename = "IPv6Address",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(
        rename = "LinkLocalIPs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub link_local_ips: Vec<String>,
}

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
    /// Its networks.
    pub network_settings: SummaryNetworks,
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
    /// Links, `CONTAINER:ALIAS`.
    pub links: Vec<String>,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
}

/// Wishes of a container that do not concern the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Host name.
    pub hostname: String,
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
    /// Id of the sandbox: the container's.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace; empty while it does not run.
    pub sandbox_key: String,
    /// Published and exposed ports, `80/tcp`; null where a port is exposed only.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
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

/// Body of `POST /bascule/v1/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct ContainerCreate {
    /// Its name; empty chooses one.
    pub name: String,
    /// Networks in order of attachment; empty is the default network, `none` and `host` stand alone.
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
    /// Labels.
    pub labels: Map,
    /// Path of a network namespace that is brought.
    pub netns: Option<String>,
    /// Process whose network namespace is brought.
    pub pid: Option<i32>,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
    /// The command that the client will run in it, for show.
    pub command: Vec<String>,
}

/// A network in [`ContainerCreate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Further names on the network.
    pub aliases: Vec<String>,
}

/// Reply of `POST /bascule/v1/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStarted {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Host name for the process.
    pub hostname: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Where it is attached, in order of interfaces.
    pub endpoints: Vec<StartedEndpoint>,
}

/// An attachment in [`ContainerStarted`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessStarted {
    /// The process that was executed in the sandbox.
    pub pid: i32,
}

/// Body of `POST /bascule/v1/containers/{id}/stop`; may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStop {
    /// Exit code of the command, where the client knows it.
    pub exit_code: Option<i32>,
}

/// A published range of ports, an entry of `GET /bascule/v1/containers/{id}/ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Reply of `GET /bascule/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Objects that are not as they should be.
    pub failures: Vec<Failure>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// An uplink in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Failure {
    /// The object: `container c1`.
    pub object: String,
    /// Why.
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_request_as_dockers_cli_sends_it_is_understood() {
        let text = r#"{"Driver":"bridge","Scope":"","IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"172.25.0.0/16"}]},
            "Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":null,"Labels":{},
            "CheckDuplicate":true,"Name":"isolated_nw"}"#;
        let create: NetworkCreate = serde_json::from_str(text).expect("valid");
        assert_eq!(create.name, "isolated_nw");
        assert_eq!(create.ipam.config[0].subnet, "172.25.0.0/16");
        assert_eq!(create.enable_ipv6, None);
    }

    #[test]
    fn a_network_has_dockers_keys() {
        let network = Network {
            ipam: Ipam { config: vec![IpamConfig::default()], ..Ipam::default() },
            ..Network::default()
        };
        let value = serde_json::to_value(network).expect("valid");
        let keys: Vec<_> = value.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "Attachable",
                "ConfigFrom",
                "ConfigOnly",
                "Containers",
                "Created",
                "Driver",
                "EnableIPv4",
                "EnableIPv6",
                "IPAM",
                "Id",
                "Ingress",
                "Internal",
                "Labels",
                "Name",
                "Options",
                "Scope"
            ]
        );
        assert_eq!(value["IPAM"]["Config"][0], serde_json::json!({}));
    }
}
