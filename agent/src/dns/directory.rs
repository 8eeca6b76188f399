//! Who has which names, as each container sees it: computed whole from what the agent was asked for, and replaced
//! whole with it, so that a change holds for the next question.
//!
//! A container sees the names of the networks that it is on, and of no other. A network's names are those of its
//! running containers: the name, the aliases, the short id and the host name. What a container calls others by its
//! links comes before them, and is nobody else's business.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use bascule_common::abi::QuestionKey;
use ipnetwork::IpNetwork;

use crate::model::{Attachment, Container, ContainerId, Desired, Network, NetworkId};

/// The suffix that Podman's containers know their network by.
const PODMAN: &str = "dns.podman";

/// Who has which names.
#[derive(Debug, Default)]
pub struct Directory {
    zones: BTreeMap<NetworkId, Zone>,
    members: Vec<Member>,
    askers: HashMap<IpAddr, (usize, NetworkId)>,
    gateways: HashMap<IpAddr, NetworkId>,
}

/// The names of a network.
#[derive(Debug)]
struct Zone {
    index: u32,
    name: String,
    /// The same in lower case, as it is asked for.
    suffix: String,
    subnets: Vec<IpNetwork>,
    /// Addresses by name; none where everybody who had it has stopped.
    holders: HashMap<String, Vec<Holder>>,
    /// The names of an address, the first one first.
    names: HashMap<IpAddr, Vec<String>>,
}

/// Who has a name on a network.
#[derive(Clone, Debug)]
struct Holder {
    member: usize,
    addresses: Vec<IpAddr>,
}

/// A running container.
#[derive(Debug)]
struct Member {
    container: ContainerId,
    /// Its networks with names, the one that its packets leave by first.
    networks: Vec<NetworkId>,
    /// Whether it has a way to the outside.
    reaches_out: bool,
    /// The servers that it was given, or its networks.
    servers: Vec<IpAddr>,
    /// What it calls others: the name of a container, by network and alias.
    links: HashMap<(NetworkId, String), String>,
}

/// A container that asks, on one of its networks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    directory: &'a Directory,
    member: &'a Member,
    index: usize,
    network: NetworkId,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These addresses, of both families.
    Addresses(Vec<IpAddr>),
    /// Nothing: whoever it belongs to does not run.
    Nobody,
    /// The name is none of ours.
    Unknown,
}

impl Directory {
    /// Computes it.
    pub fn of(desired: &Desired, default_bridge: bool) -> Self {
        let mut directory = Self::default();
        let named = |network: &&Network| !network.predefined || default_bridge;
        for network in desired.networks.values().filter(named) {
            for gateway in network.pools().filter_map(crate::model::Pool::host_side) {
                directory.gateways.insert(gateway, network.id);
            }
            directory.zones.insert(network.id, Zone::of(network));
        }
        for container in desired.containers.values() {
            directory.enter(desired, container);
        }
        directory
    }

    fn enter(&mut self, desired: &Desired, container: &Container) {
        let index = self.members.len();
        let mut places: Vec<&Attachment> = container.attachments.iter().collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.priority));
        let mut member = Member {
            container: container.id,
            networks: Vec::new(),
            reaches_out: false,
            servers: container.naming.resolver.servers.clone(),
            links: HashMap::new(),
        };
        for place in places {
            let Some(network) = desired.networks.get(&place.network) else { continue };
            let addresses: Vec<_> =
                place.endpoint.iter().flat_map(crate::model::Endpoint::addresses).collect();
            member.reaches_out |= !network.internal && !addresses.is_empty();
            let Some(zone) = self.zones.get_mut(&place.network) else { continue };
            zone.enter(container, place, index, &addresses);
            if addresses.is_empty() {
                continue;
            }
            let without_ipv4 = place.endpoint.as_ref().and_then(crate::model::Endpoint::asks_from);
            for address in addresses.iter().copied().chain(without_ipv4.map(IpAddr::V4)) {
                self.askers.insert(address, (index, place.network));
            }
            member.networks.push(place.network);
            if member.servers.is_empty() {
                member.servers.clone_from(&network.options.dns);
            }
            let old = container.links.iter().filter(|_| network.predefined);
            for link in old.chain(&place.links) {
                let alias = link.alias.to_string().to_ascii_lowercase();
                let target = link.container.to_string().to_ascii_lowercase();
                member.links.insert((place.network, alias), target);
            }
        }
        if !member.networks.is_empty() {
            self.members.push(member);
        } else {
            // Whoever comes next has the number.
            self.askers.retain(|_, (member, _)| *member != index);
        }
    }

    /// Returns who asks from an address, at a gateway; none where nobody of ours has it.
    pub fn asker(&self, from: IpAddr, gateway: IpAddr) -> Option<Asker<'_>> {
        let &(index, own) = self.askers.get(&from)?;
        let member = self.members.get(index)?;
        let asked = self.gateways.get(&gateway).filter(|network| member.networks.contains(network));
        Some(Asker { directory: self, member, index, network: asked.copied().unwrap_or(own) })
    }

    /// Returns what a name leads to for the host, which is on every network: one that says its network first.
    pub fn for_host(&self, name: &str) -> Found {
        let name = folded(name);
        let zones = || self.zones.values();
        let plain = zones().filter_map(|zone| zone.holders.get(&name));
        let qualified = zones().filter_map(|zone| zone.holders.get(zone.within(&name)?));
        found(plain.chain(qualified).map(Vec::as_slice))
    }

    /// Returns the names of an address, for the host.
    pub fn names_for_host(&self, address: IpAddr) -> Option<&[String]> {
        self.zones.values().find_map(|zone| zone.names.get(&address)).map(Vec::as_slice)
    }
}

/// Joins what several networks know.
fn found<'a>(all: impl Iterator<Item = &'a [Holder]>) -> Found {
    let (mut known, mut addresses) = (false, Vec::new());
    for holders in all {
        known = true;
        addresses.extend(holders.iter().flat_map(|holder| &holder.addresses).copied());
    }
    match (known, addresses.is_empty()) {
        (false, _) => Found::Unknown,
        (true, true) => Found::Nobody,
        (true, false) => Found::Addresses(addresses),
    }
}

/// A name as it is looked for.
fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Zone {
    fn of(network: &Network) -> Self {
        Self {
            index: network.index,
            name: network.name.to_string(),
            suffix: network.name.to_string().to_ascii_lowercase(),
            subnets: network.pools().map(|pool| pool.subnet).collect(),
            holders: HashMap::new(),
            names: HashMap::new(),
        }
    }

    fn enter(
        &mut self,
        container: &Container,
        place: &Attachment,
        member: usize,
        addresses: &[IpAddr],
    ) {
        let name = container.name.to_string();
        let mut names: Vec<String> = Vec::new();
        let all = container.names_at(place).into_iter().map(|name| folded(&name));
        for name in all.filter(|name| !name.is_empty()) {
            // Two may differ in case alone.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in &names {
            let holders = self.holders.entry(name.clone()).or_default();
            if !addresses.is_empty() {
                holders.push(Holder { member, addresses: addresses.to_vec() });
            }
        }
        let mut told = vec![format!("{name}.{}", self.name)];
        told.extend(names);
        for address in addresses {
            self.names.entry(*address).or_default().extend(told.iter().cloned());
        }
    }

    /// What stands in front of the network's name.
    fn within<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(self.suffix.as_str())?.strip_suffix('.')
    }
}

impl<'a> Asker<'a> {
    /// Who it is.
    pub const fn container(&self) -> ContainerId {
        self.member.container
    }

    /// The network on which it asks.
    pub fn network(&self) -> &'a str {
        self.directory.zones.get(&self.network).map_or("", |zone| zone.name.as_str())
    }

    /// The index of that network.
    pub fn network_index(&self) -> u32 {
        let zone = self.directory.zones.get(&self.network);
        zone.map_or(QuestionKey::NOBODY, |zone| zone.index)
    }

    /// Whether it has a way to the outside.
    pub const fn reaches_out(&self) -> bool {
        self.member.reaches_out
    }

    /// The servers that it was given, or its networks.
    pub fn servers(&self) -> &'a [IpAddr] {
        &self.member.servers
    }

    /// Whether an address is on a network of its own.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let subnets = self.networks().flat_map(|(_, zone)| &zone.subnets);
        subnets.into_iter().any(|subnet| subnet.contains(address))
    }

    /// Whether an address is its own: a server that asks is not asked in turn.
    pub fn has(&self, address: IpAddr) -> bool {
        self.directory.askers.get(&address).is_some_and(|(index, _)| *index == self.index)
    }

    /// Its networks, the one on which it asks first.
    fn networks(&self) -> impl Iterator<Item = (NetworkId, &'a Zone)> {
        let others = self.member.networks.iter().copied().filter(|id| *id != self.network);
        let directory = self.directory;
        [self.network]
            .into_iter()
            .chain(others)
            .filter_map(|id| Some((id, directory.zones.get(&id)?)))
    }

    /// Returns what a name leads to.
    pub fn resolve(&self, name: &str) -> Found {
        let name = folded(name);
        let found = self.plain(&name);
        if found != Found::Unknown {
            return found;
        }
        let qualified = self.networks().find_map(|(id, zone)| {
            let inner = zone.within(&name)?;
            Some(self.on(id, zone, inner)).filter(|found| *found != Found::Unknown)
        });
        let podman = || {
            let inner = name.strip_suffix(PODMAN)?.strip_suffix('.')?;
            Some(self.plain(inner))
        };
        qualified.or_else(podman).unwrap_or(Found::Unknown)
    }

    /// Looks for a name without its network's, in one network after the other; its own in all of them.
    fn plain(&self, name: &str) -> Found {
        let mut first = Found::Unknown;
        for (id, zone) in self.networks() {
            match self.on(id, zone, name) {
                Found::Unknown => {}
                Found::Nobody => first = Found::Nobody,
                found @ Found::Addresses(_) if !self.is_own(zone, name) => return found,
                Found::Addresses(new) => match &mut first {
                    Found::Addresses(addresses) => addresses.extend(new),
                    _ => first = Found::Addresses(new),
                },
            }
        }
        first
    }

    fn is_own(&self, zone: &Zone, name: &str) -> bool {
        let holders = zone.holders.get(name).map_or(&[][..], Vec::as_slice);
        !holders.is_empty() && holders.iter().all(|holder| holder.member == self.index)
    }

    fn on(&self, id: NetworkId, zone: &Zone, name: &str) -> Found {
        let link = self.member.links.get(&(id, name.to_owned()));
        if let Some(target) = link {
            let holders = zone.holders.get(target).map_or(&[][..], Vec::as_slice);
            return found([holders].into_iter());
        }
        found(zone.holders.get(name).map(Vec::as_slice).into_iter())
    }

    /// Returns the names of an address; none where it is of no network of the asker's.
    pub fn names(&self, address: IpAddr) -> Option<&'a [String]> {
        self.networks().find_map(|(_, zone)| {
            let inside = zone.subnets.iter().any(|subnet| subnet.contains(address));
            inside.then(|| zone.names.get(&address).map_or(&[][..], Vec::as_slice))
        })
    }
}
