//! A bridge network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnetwork::Ipv4Network;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MacAddress, Name, NetworkId, NetworkOptions};

/// A network of containers behind a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its place in the data plane's arrays.
    pub index: u32,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created: Timestamp,
    /// Its addresses.
    pub subnet: Ipv4Network,
    /// The part of them that dynamic ones come from.
    pub ip_range: Option<Ipv4Network>,
    /// The gateway: the bridge's address.
    pub gateway: Ipv4Addr,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
    /// Address that was given out last.
    pub last_given: Option<Ipv4Addr>,
    /// Name of the bridge.
    pub bridge: String,
    /// Whether the bridge is the operator's: not made, changed or removed by the agent.
    #[serde(default)]
    pub brought: bool,
    /// MTU of the bridge and of the containers' interfaces.
    pub mtu: u16,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it is the default network, made by the agent.
    pub predefined: bool,
    /// Driver options.
    pub options: NetworkOptions,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Returns the bridge's Ethernet address.
    pub const fn gateway_mac(&self) -> MacAddress {
        MacAddress::derived(self.gateway)
    }

    /// Returns the addresses that no container gets, whatever runs.
    pub fn reserved(&self) -> BTreeSet<Ipv4Addr> {
        self.auxiliary.values().copied().chain([self.gateway]).collect()
    }

    /// Returns where dynamic addresses come from.
    pub fn dynamic_range(&self) -> Ipv4Network {
        self.ip_range.unwrap_or(self.subnet)
    }
}
