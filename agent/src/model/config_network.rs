//! A network that carries nothing, and lends its configuration to others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NetworkId, NetworkName};

/// Wishes for a subnet, as text: the refusal lists everything that is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The subnet; empty chooses one, an unspecified address with a prefix one of this length.
    pub subnet: String,
    /// The part that dynamic addresses come from, or empty.
    pub ip_range: String,
    /// The gateway; empty takes the first address.
    pub gateway: String,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A network that is a configuration only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: NetworkName,
    /// When it was made.
    pub created: Timestamp,
    /// Subnets of the networks that are made from it.
    pub subnets: Vec<SubnetSpec>,
    /// Whether they have no IPv4.
    pub without_ipv4: bool,
    /// Whether they have IPv6; nothing said, they have where a subnet of it is given.
    pub ipv6: Option<bool>,
    /// Their driver options.
    pub options: BTreeMap<String, String>,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// Their options of address management.
    pub ipam_options: BTreeMap<String, String>,
}
