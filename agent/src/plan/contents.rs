//! What the maps shall hold, computed as a whole: there is no bookkeeping of increments.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use bascule_common::abi::{
    self, Config, Denied, Endpoint, Ip4, Ip6, LinkKey, Local, Mac, Neighbour, NeighbourKey,
    NeighbourKey4, NeighbourKey6, Port, PortSlot, Rule, ServedKey, Subnet, TrustKey, Uplink,
    service,
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::{Entry, PortTables, Run, Settings, deny, diff::View, host};
use crate::model::{
    self, Container, ContainerId, Desired, Family, GatewayMode, Network, PortRange, PublishedRule,
};

/// Contents of every map that the agent writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// `CONFIG`.
    pub config: BTreeMap<u32, Config>,
    /// `GENERATIONS`.
    pub generations: BTreeMap<u32, u64>,
    /// `NETWORKS`.
    pub networks: BTreeMap<u32, abi::Network>,
    /// `SUBNETS4`.
    pub subnets: BTreeMap<Ipv4Network, Subnet>,
    /// `SUBNETS6`.
    pub subnets6: BTreeMap<Ipv6Network, Subnet>,
    /// `LOCALS4`.
    pub locals: BTreeMap<Ip4, Local>,
    /// `LOCALS6`.
    pub locals6: BTreeMap<Ip6, Local>,
    /// `TRUSTED`.
    pub trusted: BTreeMap<TrustKey, u64>,
    /// `BRIDGES`.
    pub bridges: BTreeMap<u32, u64>,
    /// `UPLINKS`.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// `ENDPOINTS` and `ENDPOINTS_HI`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `NEIGHBOURS4`.
    pub neighbours: BTreeMap<NeighbourKey4, Neighbour>,
    /// `NEIGHBOURS6`.
    pub neighbours6: BTreeMap<NeighbourKey6, Neighbour>,
    /// `LINKS`.
    pub links: BTreeMap<LinkKey, u64>,
    /// `RULES`.
    pub rules: BTreeMap<u32, Rule>,
    /// `SERVED`: by bits that count, and key.
    pub served: BTreeMap<(u32, ServedKey), u64>,
    /// `PORTS`.
    pub ports: PortTables,
    /// `DENY4` and `DENY6`.
    pub denied: BTreeMap<IpNetwork, Denied>,
    /// `DENY_LATE`.
    pub deny_late: BTreeMap<u32, u64>,
}

impl Contents {
    /// Computes what the maps shall hold, as far as the interfaces that it names exist.
    pub(super) fn desired(desired: &Desired, observed: &View, settings: &Settings) -> Self {
        let mut contents = Self::default();
        contents.config.insert(0, settings.config);
        for index in desired.indices.endpoints.ever_used() {
            contents.generations.insert(index, desired.indices.generations.of(index).into());
        }
        for network in desired.networks.values() {
            if let Some(&bridge) = observed.bridges.get(&network.id) {
                contents.network(network, bridge, observed.gateway_mac(network), settings);
                contents.trust(network, observed);
            }
        }
        contents.server_of_names(observed);
        contents.locals = host::locals(desired, observed);
        contents.locals6 = host::locals6(desired, observed);
        contents.uplinks = host::uplinks(observed, settings)
            .map(|link| (link.index, host::uplink(link)))
            .collect();
        contents.denied = deny::entries(desired);
        contents.deny_late = deny::late(desired, observed, settings);
        contents.links = links(desired);
        let linked = contents.links.keys().flat_map(|key| [key.from, key.to]).collect();
        for container in desired.containers.values() {
            contents.container(desired, container, observed, &linked);
        }
        contents
    }

    /// Computes what they shall hold about the containers of these wishes; `numbers` are those of their endpoints,
    /// and these of them are linked with others.
    pub(super) fn of_containers(
        desired: &Desired,
        observed: &View,
        numbers: &BTreeSet<u32>,
        linked: &BTreeSet<u32>,
    ) -> Self {
        let mut contents = Self::default();
        for index in numbers {
            contents.generations.insert(*index, desired.indices.generations.of(*index).into());
        }
        for container in desired.containers.values() {
            contents.container(desired, container, observed, linked);
        }
        contents
    }

    fn network(&mut self, network: &Network, bridge: u32, gateway_mac: Mac, settings: &Settings) {
        let options = &network.options;
        let value = abi::Network {
            flags: flags(network, settings),
            bridge,
            gateway4: match network.host_side(Family::V4) {
                Some(IpAddr::V4(gateway)) => gateway.into(),
                _ => Ip4::UNSPECIFIED,
            },
            masquerade4: options.host_ipv4.map_or(Ip4::UNSPECIFIED, Into::into),
            mtu: network.mtu.into(),
            gateway_mac,
            pad: 0,
            gateway6: match network.host_side(Family::V6) {
                Some(IpAddr::V6(gateway)) => gateway.into(),
                _ => Ip6::UNSPECIFIED,
            },
            masquerade6: options.host_ipv6.map_or(Ip6::UNSPECIFIED, Into::into),
        };
        self.networks.insert(network.index, value);
        if network.without_bridge() {
            self.bridges.insert(bridge, network.index.into());
        }
        let subnet = Subnet { network: network.index, flags: 0 };
        for pool in network.pools() {
            match pool.subnet {
                IpNetwork::V4(prefix) => drop(self.subnets.insert(prefix, subnet)),
                // Every link has this prefix: it tells nothing.
                IpNetwork::V6(prefix) if prefix.ip().is_unicast_link_local() => {}
                IpNetwork::V6(prefix) => drop(self.subnets6.insert(prefix, subnet)),
            }
        }
    }

    /// Enters where questions about names go: an address that nobody has, of no network.
    fn server_of_names(&mut self, observed: &View) {
        let Some(ifindex) = observed.names else { return };
        let server = Neighbour { ifindex, ..Neighbour::default() };
        self.neighbours.insert(NeighbourKey { network: 0, address: Ip4::UNSPECIFIED }, server);
        self.neighbours6.insert(NeighbourKey { network: 0, address: Ip6::UNSPECIFIED }, server);
    }

    /// Enters the interfaces that may address the containers of a network directly, as far as they exist.
    fn trust(&mut self, network: &Network, observed: &View) {
        let trusted = &network.options.trusted;
        for link in observed.links.values().filter(|link| trusted.contains(&link.name)) {
            self.trusted.insert(TrustKey { network: network.index, ifindex: link.index }, 1);
        }
    }

    fn container(
        &mut self,
        desired: &Desired,
        container: &Container,
        observed: &View,
        linked: &BTreeSet<u32>,
    ) {
        for (network, endpoint) in container.endpoints() {
            let (Some(network), Some(link)) =
                (desired.networks.get(&network), observed.veths.get(&endpoint.id).copied())
            else {
                continue;
            };
            let asks_from = endpoint.asks_from();
            let value = Endpoint {
                ip4: endpoint.ip.or(asks_from).map_or(Ip4::UNSPECIFIED, Into::into),
                ip6: endpoint.ip6.map_or(Ip6::UNSPECIFIED, Into::into),
                network: network.index,
                endpoint: endpoint.index,
                generation: endpoint.generation,
                ifindex: link,
                flags: if linked.contains(&endpoint.index) { Endpoint::HAS_LINKS } else { 0 },
                mtu: network.mtu,
                mac: endpoint.mac.octets(),
                gateway_mac: observed.gateway_mac(network),
                ..Endpoint::default()
            };
            let neighbour = Neighbour {
                ifindex: link,
                endpoint: value.endpoint,
                generation: value.generation,
                flags: value.flags,
                mtu: value.mtu,
                mac: value.mac,
                gateway_mac: value.gateway_mac,
                reserved: 0,
            };
            self.endpoints.insert(link, value);
            if let Some(ip) = asks_from {
                self.neighbours.insert(NeighbourKey { network: 0, address: ip.into() }, neighbour);
            }
            // Every interface has an address of its link, on networks without IPv6 as well.
            let own = IpAddr::from(Ipv6Addr::from(Ip6::link_local(&value.mac)));
            let place = container.attachment(network.id);
            let of_link = place.into_iter().flat_map(|place| place.link_local.iter().copied());
            for ip in endpoint.addresses().chain([own]).chain(of_link) {
                match ip {
                    IpAddr::V4(ip) => {
                        let key = NeighbourKey { network: network.index, address: ip.into() };
                        self.neighbours.insert(key, neighbour);
                    }
                    IpAddr::V6(ip) => {
                        let key = NeighbourKey { network: network.index, address: ip.into() };
                        self.neighbours6.insert(key, neighbour);
                    }
                }
            }
        }
        for family in Family::ALL {
            let Some((network, endpoint)) = desired.gateway(container, family) else { continue };
            let Some(network) = desired.networks.get(&network) else { continue };
            if !observed.veths.contains_key(&endpoint.id) {
                continue;
            }
            let rules = container.running().into_iter().flat_map(|r| &r.rules);
            for rule in rules.filter(|rule| rule.family() == family) {
                self.rule(desired, network, (endpoint, container.is_adopted()), rule);
            }
        }
    }

    fn rule(
        &mut self,
        desired: &Desired,
        network: &Network,
        (endpoint, held): (&model::Endpoint, bool),
        rule: &PublishedRule,
    ) {
        let Some(address) = endpoint.address(rule.family()) else { return };
        let value = Rule {
            host_base: rule.host.first(),
            container_base: rule.container.first(),
            count: rule.host.count(),
            proto: rule.proto.number(),
            flags: match (rule.family(), rule.named) {
                (Family::V6, _) => Rule::IPV6,
                (Family::V4, true) => 0,
                (Family::V4, false) => Rule::EVERYWHERE,
            } | if held { Rule::HELD } else { 0 },
            network: network.index,
            endpoint: endpoint.index,
            generation: endpoint.generation,
            address: address.into(),
            // What is routed is reached at the container's own address alone.
            host: if rule.routed { address } else { rule.host_ip }.into(),
            reserved: 0,
        };
        self.rules.insert(rule.index, value);
        for (bits, port) in prefixes(rule.container) {
            let key = ServedKey {
                endpoint: endpoint.index.to_be(),
                proto: value.proto,
                family: value.flags & Rule::IPV6,
                port: Port::new(port),
            };
            // Of several rules for a port the first counts.
            self.served.entry((ServedKey::FIXED_BITS + bits, key)).or_insert(rule.index.into());
        }
        if rule.routed {
            return;
        }
        let tables = tables(desired, rule);
        // The slots of a protocol are in the order of its ports.
        let Some(first) = service::slot(value.proto, Port::new(rule.host.first())) else { return };
        for table in tables {
            let run = Run { table, first, count: rule.host.count().into() };
            self.ports.set(run, Some(PortSlot { rule: rule.index, reserved: 0 }));
        }
    }

    /// Returns what leads from `self` to `wanted`.
    pub fn towards(&self, wanted: &Self) -> Vec<Entry> {
        let mut entries = Vec::new();
        step(&self.config, &wanted.config, Entry::Config, &mut entries);
        // Generations are never erased: a slot of the past may still be asked for.
        let known =
            self.generations.iter().filter(|(index, _)| wanted.generations.contains_key(index));
        let known = known.map(|(&index, &generation)| (index, generation)).collect();
        step(&known, &wanted.generations, Entry::Generation, &mut entries);
        step(&self.networks, &wanted.networks, Entry::Network, &mut entries);
        step(&self.subnets, &wanted.subnets, Entry::Subnet, &mut entries);
        step(&self.subnets6, &wanted.subnets6, Entry::Subnet6, &mut entries);
        step(&self.locals, &wanted.locals, Entry::Local, &mut entries);
        step(&self.locals6, &wanted.locals6, Entry::Local6, &mut entries);
        step(&self.uplinks, &wanted.uplinks, Entry::Uplink, &mut entries);
        step(&self.endpoints, &wanted.endpoints, Entry::Endpoint, &mut entries);
        step(&self.neighbours, &wanted.neighbours, Entry::Neighbour, &mut entries);
        step(&self.neighbours6, &wanted.neighbours6, Entry::Neighbour6, &mut entries);
        step(&self.links, &wanted.links, Entry::Link, &mut entries);
        step(&self.rules, &wanted.rules, Entry::Rule, &mut entries);
        step(&self.bridges, &wanted.bridges, Entry::Bridge, &mut entries);
        step(&self.trusted, &wanted.trusted, Entry::Trusted, &mut entries);
        step(&self.served, &wanted.served, Entry::Served, &mut entries);
        let ports = self.ports.towards(&wanted.ports).into_iter();
        entries.extend(ports.map(|(run, slot)| Entry::Ports(run, slot)));
        step(&self.denied, &wanted.denied, Entry::Denied, &mut entries);
        step(&self.deny_late, &wanted.deny_late, Entry::DenyLate, &mut entries);
        entries
    }

    /// Makes an entry so, as the executor does in the kernel.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Config(key, value) => put(&mut self.config, *key, *value),
            Entry::Generation(key, value) => put(&mut self.generations, *key, *value),
            Entry::Network(key, value) => put(&mut self.networks, *key, *value),
            Entry::Subnet(key, value) => put(&mut self.subnets, *key, *value),
            Entry::Subnet6(key, value) => put(&mut self.subnets6, *key, *value),
            Entry::Local(key, value) => put(&mut self.locals, *key, *value),
            Entry::Local6(key, value) => put(&mut self.locals6, *key, *value),
            Entry::Uplink(key, value) => put(&mut self.uplinks, *key, *value),
            Entry::Endpoint(key, value) => put(&mut self.endpoints, *key, *value),
            Entry::Neighbour(key, value) => put(&mut self.neighbours, *key, *value),
            Entry::Neighbour6(key, value) => put(&mut self.neighbours6, *key, *value),
            Entry::Link(key, value) => put(&mut self.links, *key, *value),
            Entry::Rule(key, value) => put(&mut self.rules, *key, *value),
            Entry::Bridge(key, value) => put(&mut self.bridges, *key, *value),
            Entry::Trusted(key, value) => put(&mut self.trusted, *key, *value),
            Entry::Served(key, value) => put(&mut self.served, *key, *value),
            Entry::Ports(run, value) => self.ports.set(*run, *value),
            Entry::Denied(key, value) => put(&mut self.denied, *key, *value),
            Entry::DenyLate(key, value) => put(&mut self.deny_late, *key, *value),
        }
    }
}

/// Returns the switches of a network.
fn flags(network: &Network, settings: &Settings) -> u32 {
    use abi::Network as N;
    let options = &network.options;
    let mut switches = vec![
        (true, N::PRESENT),
        (options.icc, N::ICC),
        (network.internal, N::INTERNAL),
        (options.l2_bpf, N::L2_BPF),
        (!options.trusted.is_empty(), N::HAS_TRUSTED),
        // Docker's networks have Docker's names.
        (!network.adopted && (!network.predefined || settings.default_bridge_dns), N::NAMES),
    ];
    let families = [
        (Family::V4, N::MASQUERADE4, N::UNPROTECTED4, N::DIRECT4, N::ROUTED4),
        (Family::V6, N::MASQUERADE6, N::UNPROTECTED6, N::DIRECT6, N::ROUTED6),
    ];
    for (family, masquerade, unprotected, direct, routed) in families {
        if network.pool(family).is_none() {
            continue;
        }
        let mode = network.mode(family);
        let translated = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
        switches.extend([
            (translated && options.masquerade && settings.masquerade, masquerade),
            (mode == GatewayMode::NatUnprotected, unprotected),
            (mode == GatewayMode::Routed || settings.direct_routing, direct),
            (mode == GatewayMode::Routed, routed),
        ]);
    }
    switches.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag)
}

/// Returns the tables that a rule stands in. Every address's own table has the wildcard's rules too: one look
/// is enough for a packet.
fn tables(desired: &Desired, rule: &PublishedRule) -> Vec<u32> {
    let (wildcard, any) = match rule.family() {
        Family::V4 => (service::WILDCARD_TABLE, service::ANY_TABLE),
        Family::V6 => (service::WILDCARD_TABLE6, service::ANY_TABLE6),
    };
    let own = desired.indices.tables.iter().filter(|(ip, _)| Family::of(**ip) == rule.family());
    if rule.host_ip.is_unspecified() {
        own.map(|(_, &table)| table).chain([wildcard, any]).collect()
    } else {
        own.filter(|(ip, _)| **ip == rule.host_ip).map(|(_, &t)| t).chain([any]).collect()
    }
}

/// Returns a range of ports as prefixes: how many bits count, and the first port.
fn prefixes(range: PortRange) -> Vec<(u32, u16)> {
    let mut prefixes = Vec::new();
    let (mut first, end) = (u32::from(range.first()), u32::from(range.last()) + 1);
    while first < end {
        // The largest block that begins here and does not go past the end.
        let bits = first.trailing_zeros().min((end - first).ilog2()).min(16);
        prefixes.push((16 - bits, first as u16));
        first += 1 << bits;
    }
    prefixes
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn step<K: Ord + Copy, V: PartialEq + Copy>(
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    entry: impl Fn(K, Option<V>) -> Entry,
    entries: &mut Vec<Entry>,
) {
    let gone = found.keys().filter(|key| !wanted.contains_key(key)).map(|&key| entry(key, None));
    entries.extend(gone);
    let new = wanted.iter().filter(|(key, value)| found.get(key) != Some(value));
    entries.extend(new.map(|(&key, &value)| entry(key, Some(value))));
}

/// Returns what links open: one key for each port of each pair on a network of both.
fn links(desired: &Desired) -> BTreeMap<LinkKey, u64> {
    let by_name: BTreeMap<_, _> = desired.containers.values().map(|c| (&c.name, c)).collect();
    let mut keys = BTreeMap::new();
    for from in desired.containers.values() {
        for (network, client) in from.endpoints() {
            let own = from.attachment(network).into_iter().flat_map(|place| &place.links);
            let is_default = desired.networks.get(&network).is_some_and(|n| n.predefined);
            let servers = from.links.iter().filter(|_| is_default).chain(own);
            for to in servers.filter_map(|link| by_name.get(&link.container)) {
                let server = to.endpoints().find(|(other, _)| *other == network);
                let Some((_, server)) = server else { continue };
                for served in to.served() {
                    keys.extend(served.ports.ports().map(|port| {
                        let proto = served.proto.number();
                        let port = Port::new(port);
                        (
                            LinkKey {
                                from: client.index,
                                to: server.index,
                                port,
                                proto,
                                pad: 0,
                                reserved: 0,
                            },
                            1,
                        )
                    }));
                }
            }
        }
    }
    keys
}

/// Returns whose an endpoint's index is.
pub(super) fn holders(desired: &Desired) -> BTreeMap<u32, ContainerId> {
    let all = desired.containers.values();
    all.flat_map(|c| c.endpoints().map(|(_, e)| (e.index, c.id)).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_is_its_prefixes(first in 1_u16.., count in 1_u16..) {
            let Some(range) = PortRange::new(first, count) else { return Ok(()) };
            let mut covered = Vec::new();
            for (bits, port) in prefixes(range) {
                let size = 1_u32 << (16 - bits);
                prop_assert_eq!(u32::from(port) % size, 0);
                covered.extend((0..size).map(|n| u32::from(port) + n));
            }
            let wanted: Vec<_> = range.ports().map(u32::from).collect();
            prop_assert_eq!(covered, wanted);
            prop_assert!(prefixes(range).len() <= 30);
        }
    }
}
