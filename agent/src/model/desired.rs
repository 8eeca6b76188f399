//! Everything the agent was asked for, in one value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Adoption, Attachment, ConfigNetwork, Container, ContainerId, CopyOnWrite, Denial, Endpoint,
    Family, GivenPool, Lease, Mode, Name, Network, NetworkId, PoolId, Prefix, Shelf,
    index::{Generations, IndexPool},
};

/// Everything the agent was asked for, with the numbers that were given out for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Networks.
    pub networks: Shelf<NetworkId, Network>,
    /// Networks that are configurations only.
    pub configs: Shelf<NetworkId, ConfigNetwork>,
    /// Containers.
    pub containers: Shelf<ContainerId, Container>,
    /// Pools of addresses that Docker was given.
    pub pools: Shelf<PoolId, GivenPool>,
    /// Prefixes that nobody may send from.
    pub denials: BTreeMap<Prefix, Denial>,
    /// Numbers.
    pub indices: CopyOnWrite<Indices>,
    /// Networks that are only names.
    pub predefined: Predefined,
    /// What was done to Docker's daemon.
    pub docker: Adoption,
}

/// Numbers that were given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indices {
    /// Of networks.
    pub networks: IndexPool,
    /// Of endpoints.
    pub endpoints: IndexPool,
    /// Of published ranges.
    pub rules: IndexPool,
    /// Of prefixes on the deny list.
    #[serde(default = "denials")]
    pub denials: IndexPool,
    /// Generations of endpoint indices.
    pub generations: Generations,
    /// Port tables of host addresses that mappings name.
    pub tables: BTreeMap<IpAddr, u32>,
    /// Dynamic host port that was given out last.
    pub last_port: Option<u16>,
    /// The prefix of 48 bits that IPv6 subnets are chosen from, drawn by lot when the first one is.
    #[serde(default)]
    pub ula: Option<u64>,
    /// Addresses of containers that were removed lately, the last one last.
    #[serde(default)]
    pub former: Vec<Former>,
}

/// Addresses that a container had which was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The network that they are of.
    pub network: NetworkId,
    /// The container's name.
    pub name: Name,
    /// The addresses.
    pub lease: Lease,
    /// Until when the next container of the name gets them, and others get them last.
    pub until: Timestamp,
}

/// The networks `host` and `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predefined {
    /// Id of `host`.
    pub host: NetworkId,
    /// Id of `none`.
    pub none: NetworkId,
    /// When they came to be.
    pub created: Timestamp,
}

/// Sizes of the data plane's arrays, exclusive ends of the numbers.
const NETWORKS: u32 = bascule_common::abi::names::map::NETWORKS_LEN;
const ENDPOINTS: u32 = bascule_common::abi::names::map::ENDPOINT_INDICES;
const RULES: u32 = bascule_common::abi::names::map::RULES_LEN;

const DENIALS: u32 = bascule_common::abi::deny::SLOTS;

/// Returns what a store says that was made before there was a deny list.
const fn denials() -> IndexPool {
    IndexPool::new(DENIALS)
}

impl Desired {
    /// Returns a wish for nothing; `generation` is drawn by lot.
    pub fn new(predefined: Predefined, generation: u32) -> Self {
        Self {
            networks: Shelf::new(),
            configs: Shelf::new(),
            containers: Shelf::new(),
            pools: Shelf::new(),
            denials: BTreeMap::new(),
            indices: CopyOnWrite::new(Indices {
                networks: IndexPool::new(NETWORKS),
                endpoints: IndexPool::new(ENDPOINTS),
                rules: IndexPool::new(RULES),
                denials: denials(),
                generations: Generations::new(generation),
                tables: BTreeMap::new(),
                last_port: None,
                ula: None,
                former: Vec::new(),
            }),
            predefined,
            docker: Adoption::default(),
        }
    }

    /// Returns every place on a network, with its container.
    pub fn attachments(
        &self,
        network: NetworkId,
    ) -> impl Iterator<Item = (&Container, &Attachment)> {
        self.containers.values().filter_map(move |c| Some((c, c.attachment(network)?)))
    }

    /// Returns the addresses of a network that containers hold, running or not.
    pub fn addresses(&self, network: NetworkId) -> BTreeSet<IpAddr> {
        let held = |(_, place): (_, &Attachment)| {
            let asked = place.static_ip.map(IpAddr::V4).into_iter();
            let asked = asked.chain(place.static_ip6.map(IpAddr::V6));
            let asked = asked.chain(place.link_local.iter().copied());
            asked.chain(place.endpoint.iter().flat_map(Endpoint::addresses)).collect::<Vec<_>>()
        };
        self.attachments(network).flat_map(held).collect()
    }

    /// Returns the addresses of a network that resting containers had, or such as were removed lately.
    pub fn leases(&self, network: NetworkId) -> impl Iterator<Item = IpAddr> {
        let resting = self.attachments(network).filter(|(_, place)| place.endpoint.is_none());
        let former = self.indices.former.iter().filter(move |f| f.network == network);
        let leases = resting.map(|(_, place)| place.lease).chain(former.map(|f| f.lease));
        leases.flat_map(|lease| Family::ALL.into_iter().filter_map(move |f| lease.address(f)))
    }

    /// Returns which place gives a container its default route of a family and takes its published ports:
    /// the one with the highest priority, then the first, of those that have the family and a way out. Of Docker's
    /// containers it is the one that Docker says.
    pub fn gateway<'a>(
        &self,
        container: &'a Container,
        family: Family,
    ) -> Option<(NetworkId, &'a Endpoint)> {
        let has = |a: &&Attachment| {
            a.endpoint.as_ref().is_some_and(|endpoint| endpoint.address(family).is_some())
        };
        let first = container
            .attachments
            .iter()
            .filter(has)
            .filter(|a| a.exposed || !container.is_plugged())
            .filter(|a| self.networks.get(&a.network).is_some_and(|n| !n.internal))
            .reduce(|best, next| if next.priority > best.priority { next } else { best })?;
        Some((first.network, first.endpoint.as_ref()?))
    }

    /// Returns the container whose network a container has: its own, or another's.
    pub fn host_of<'a>(&'a self, container: &'a Container) -> Option<&'a Container> {
        let mut found = container;
        // A container can name only such as were there before it: there are no rings.
        while let Mode::Container(other) = found.mode {
            found = self.containers.get(&other)?;
        }
        Some(found)
    }

    /// Returns the default network, where there is one.
    pub fn default_network(&self) -> Option<&Network> {
        self.networks.values().find(|n| n.predefined)
    }
}
