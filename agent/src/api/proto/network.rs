//! Networks, in Docker's shapes.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndpointSettings, Map, null_is_default};

/// Driver option of a network with its name servers, commas between them.
pub const NETWORK_DNS: &str = crate::model::keys::DNS;

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
    /// Whether containers may be attached that no service made.
    pub attachable: bool,
    /// Always false.
    pub ingress: bool,
    /// Where its configuration comes from.
    #[serde(deserialize_with = "null_is_default")]
    pub config_from: ConfigReference,
    /// Whether it is a configuration only.
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
    /// Whether containers may be attached that no service made: shown, and without effect.
    pub attachable: bool,
    /// Refused when true.
    pub ingress: bool,
    /// Whether it is a configuration only.
    pub config_only: bool,
    /// Network that lends it its configuration.
    #[serde(deserialize_with = "null_is_default")]
    pub config_from: ConfigReference,
    /// Driver options.
    #[serde(deserialize_with = "null_is_default")]
    pub options: Map,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: Map,
}

/// Body of `POST /bascule/v1/networks/{id}/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct NetworkUpdate {
    /// Name servers that are asked too.
    pub add_dns: Vec<IpAddr>,
    /// Name servers that are not asked any more.
    pub drop_dns: Vec<IpAddr>,
}

/// Reply of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreated {
    /// The new network's id.
    pub id: String,
    /// What the operator should know; mostly empty.
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
