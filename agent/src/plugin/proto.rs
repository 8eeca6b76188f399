//! What crosses the socket, in libnetwork's words. Fields that are not known are nobody's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Keys of options, in requests.
pub mod keys {
    /// Driver options of a network.
    pub const GENERIC: &str = "com.docker.network.generic";
    /// Whether a network has no way out.
    pub const INTERNAL: &str = "com.docker.network.internal";
    /// Whether a network has IPv4.
    pub const IPV4: &str = "com.docker.network.enable_ipv4";
    /// Published ports.
    pub const PORTS: &str = "com.docker.network.portmap";
    /// Exposed ports.
    pub const EXPOSED: &str = "com.docker.network.endpoint.exposedports";
    /// What an address is for.
    pub const ADDRESS_TYPE: &str = "RequestAddressType";
    /// It is for a gateway.
    pub const GATEWAY: &str = "com.docker.network.gateway";
}

/// `CreateNetwork`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Value>>,
    #[serde(default, rename = "IPv4Data")]
    pub ipv4: Option<Vec<IpamData>>,
    #[serde(default, rename = "IPv6Data")]
    pub ipv6: Option<Vec<IpamData>>,
}

/// Addresses of a network.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub struct IpamData {
    pub pool: String,
    pub gateway: String,
    pub aux_addresses: Option<BTreeMap<String, String>>,
}

/// What names a network.
#[derive(Debug, Deserialize)]
pub struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub network: String,
}

/// What names an endpoint.
#[derive(Debug, Deserialize)]
pub struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
}

/// `CreateEndpoint`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    #[serde(default)]
    pub interface: Option<Interface>,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Value>>,
}

/// Addresses of an endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Interface {
    pub address: String,
    #[serde(rename = "AddressIPv6")]
    pub address6: String,
    pub mac_address: String,
}

/// `Join`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Join {
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    pub sandbox_key: String,
}

/// `ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Program {
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Value>>,
}

/// A published port.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    pub proto: u8,
    pub port: u16,
    #[serde(default, rename = "HostIP")]
    pub host_ip: String,
    #[serde(default)]
    pub host_port: u16,
    #[serde(default)]
    pub host_port_end: u16,
}

/// An exposed port.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Exposed {
    pub proto: u8,
    pub port: u16,
}

/// The answer to `CreateEndpoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    pub interface: CreatedInterface,
}

/// What we have chosen for an endpoint.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatedInterface {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

/// The answer to `Join`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Joined {
    pub interface_name: InterfaceName,
    pub gateway: String,
    #[serde(rename = "GatewayIPv6")]
    pub gateway6: String,
    pub static_routes: [(); 0],
    pub disable_gateway_service: bool,
}

/// An interface for Docker to take, and what it is called in the container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: String,
}

/// `RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestPool {
    pub address_space: String,
    #[serde(default)]
    pub pool: String,
    #[serde(default)]
    pub sub_pool: String,
    #[serde(default)]
    pub v6: bool,
}

/// What names a pool.
#[derive(Debug, Deserialize)]
pub struct OfPool {
    #[serde(rename = "PoolID")]
    pub pool: String,
}

/// `RequestAddress`, `ReleaseAddress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfAddress {
    #[serde(rename = "PoolID")]
    pub pool: String,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Value>>,
}
