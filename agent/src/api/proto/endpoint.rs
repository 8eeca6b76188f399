//! A container's place on a network, in Docker's shape.

use serde::{Deserialize, Serialize};

use super::{Map, empty_is_null, null_is_default};

/// A container's place on a network: what is wished for in requests, what is so in replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses asked for; null where none was.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Links, `CONTAINER[:ALIAS]`.
    #[serde(serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
    pub links: Vec<String>,
    /// Further names on the network.
    #[serde(serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
    pub aliases: Vec<String>,
    /// Ethernet address.
    #[serde(deserialize_with = "null_is_default")]
    pub mac_address: String,
    /// Driver options.
    #[serde(serialize_with = "empty_is_null", deserialize_with = "null_is_default")]
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
