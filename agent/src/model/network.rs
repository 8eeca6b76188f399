//! A bridge network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GatewayMode, MacAddress, NetworkId, NetworkName, NetworkOptions, ipam};

/// One of the two families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Returns the address that stands for every one.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network of containers behind a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its place in the data plane's arrays.
    pub index: u32,
    /// Its name.
    pub name: NetworkName,
    /// When it was made.
    pub created: Timestamp,
    /// Its IPv4 addresses; none on a network without IPv4.
    #[serde(default)]
    pub ipv4: Option<Pool>,
    /// Its IPv6 addresses; none on a network without IPv6.
    #[serde(default)]
    pub ipv6: Option<Pool>,
    /// Name of the bridge.
    pub bridge: String,
    /// Whether the bridge is the operator's: not made, changed or removed by the agent.
    #[serde(default)]
    pub brought: bool,
    /// Whether it is Docker's, and so is its bridge.
    #[serde(default)]
    pub adopted: bool,
    /// MTU of the bridge and of the containers' interfaces.
    pub mtu: u16,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it is the default network, made by the agent.
    pub predefined: bool,
    /// Whether it is Docker's, made by our plugin.
    #[serde(default)]
    pub plugged: bool,
    /// Driver options.
    pub options: NetworkOptions,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether containers may be attached that no service made: shown, and without effect.
    #[serde(default)]
    pub attachable: bool,
    /// Configuration that it was made from.
    #[serde(default)]
    pub config_from: Option<NetworkName>,
    /// Options of address management, verbatim.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
}

/// The addresses of one family of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All of them.
    pub subnet: IpNetwork,
    /// The part of them that dynamic ones come from.
    pub ip_range: Option<IpNetwork>,
    /// The gateway: the bridge's address; none where the host has no address on the network.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Address that was given out last.
    pub last_given: Option<IpAddr>,
}

impl Pool {
    /// Makes the pool of a subnet, with its first address as gateway.
    pub fn of(subnet: IpNetwork) -> Self {
        Self {
            subnet,
            ip_range: None,
            gateway: Some(ipam::first(subnet)),
            auxiliary: BTreeMap::new(),
            last_given: None,
        }
    }

    /// Returns the addresses that no container gets, whatever runs.
    pub fn reserved(&self) -> BTreeSet<IpAddr> {
        let bridge = self.on_bridge().into_iter().map(|network| network.ip());
        self.auxiliary.values().copied().chain(bridge).chain(self.gateway).collect()
    }

    /// Returns where dynamic addresses come from.
    pub fn dynamic_range(&self) -> IpNetwork {
        self.ip_range.unwrap_or(self.subnet)
    }

    /// Returns an address with the prefix of the subnet.
    pub fn with_prefix(&self, address: IpAddr) -> Option<IpNetwork> {
        IpNetwork::new(address, self.subnet.prefix()).ok()
    }

    /// Returns what the bridge has. A gateway such as `fe80::1` lies in no subnet of ours: the bridge has the
    /// first address of the subnet as well, and with it the route there.
    pub fn on_bridge(&self) -> Vec<IpNetwork> {
        let Some(gateway) = self.gateway else { return Vec::new() };
        if self.subnet.contains(gateway) {
            return self.with_prefix(gateway).into_iter().collect();
        }
        let first = self.with_prefix(ipam::first(self.subnet));
        IpNetwork::new(gateway, 64).into_iter().chain(first).collect()
    }

    /// Returns whom containers see where the host speaks to them, or for them: the gateway, if it has an
    /// address of the subnet, else the bridge's. A server could not answer `fe80::1` as it does others.
    pub fn host_side(&self) -> Option<IpAddr> {
        self.on_bridge().last().map(IpNetwork::ip)
    }
}

impl Network {
    /// Returns the name that a network of our plugin has until Docker says how it is called.
    pub fn provisional(id: NetworkId) -> String {
        format!("docker-{}", id.short())
    }

    /// Returns whether Docker has not said yet how it is called.
    pub fn is_provisional(&self) -> bool {
        self.plugged && self.name.as_str() == Self::provisional(self.id)
    }

    /// Returns the addresses of a family, where the network has it.
    pub const fn pool(&self, family: Family) -> Option<&Pool> {
        match family {
            Family::V4 => self.ipv4.as_ref(),
            Family::V6 => self.ipv6.as_ref(),
        }
    }

    /// Returns the addresses of a family, to change them.
    pub const fn pool_mut(&mut self, family: Family) -> Option<&mut Pool> {
        match family {
            Family::V4 => self.ipv4.as_mut(),
            Family::V6 => self.ipv6.as_mut(),
        }
    }

    /// Returns the addresses of both families.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// Returns the gateway of a family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.pool(family)?.gateway
    }

    /// Returns the host's own address on a family of the network.
    pub fn host_side(&self, family: Family) -> Option<IpAddr> {
        self.pool(family)?.host_side()
    }

    /// Returns how a family of the network is joined to the outside.
    pub const fn mode(&self, family: Family) -> GatewayMode {
        match family {
            Family::V4 => self.options.gateway_mode4,
            Family::V6 => self.options.gateway_mode6,
        }
    }

    /// Returns the addresses that the bridge has.
    pub fn on_bridge(&self) -> Vec<IpNetwork> {
        let held = |pool: &&Pool| !(self.options.inhibit_ipv4 && pool.subnet.is_ipv4());
        self.pools().filter(held).flat_map(Pool::on_bridge).collect()
    }

    /// Returns the bridge's Ethernet address: that of its IPv4 address, or one that no container has.
    pub fn gateway_mac(&self) -> MacAddress {
        match self.gateway(Family::V4) {
            Some(IpAddr::V4(gateway)) => MacAddress::derived(gateway),
            _ => MacAddress::of_bridge(&self.id),
        }
    }

    /// Returns whether the containers have no bridge between them.
    pub fn without_bridge(&self) -> bool {
        self.options.l2_bpf
    }
}
