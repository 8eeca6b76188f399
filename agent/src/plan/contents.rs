//! What the maps shall hold, computed as a whole: there is no bookkeeping of increments.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use bascule_common::abi::{
    self, Config, Denied, Endpoint, Ip4, LinkKey, Local, Mac, Neighbour, NeighbourKey4, Port,
    PortSlot, Rule, Subnet, Uplink, service,
};
use ipnetwork::{IpNetwork, Ipv4Network};

use super::{Entry, Settings, deny, diff::View, host};
use crate::model::{self, Container, ContainerId, Desired, Network, PublishedRule};

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
    /// `LOCALS4`.
    pub locals: BTreeMap<Ip4, Local>,
    /// `UPLINKS`.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// `ENDPOINTS` and `ENDPOINTS_HI`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `NEIGHBOURS4`.
    pub neighbours: BTreeMap<NeighbourKey4, Neighbour>,
    /// `LINKS`.
    pub links: BTreeMap<LinkKey, u64>,
    /// `RULES`.
    pub rules: BTreeMap<u32, Rule>,
    /// `PORTS`: by table and slot.
    pub ports: BTreeMap<(u32, u32), PortSlot>,
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
                contents.network(network, bridge, observed.gateway_mac(network));
            }
        }
        contents.locals = host::locals(desired, observed);
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

    fn network(&mut self, network: &Network, bridge: u32, gateway_mac: Mac) {
        let mut flags = abi::Network::PRESENT;
        let options = &network.options;
        let switches = [
            (options.icc, abi::Network::ICC),
            (network.internal, abi::Network::INTERNAL),
            (options.masquerade, abi::Network::MASQUERADE4),
        ];
        flags |= switches.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
        let value = abi::Network {
            flags,
            bridge,
            gateway4: network.gateway.into(),
            mtu: network.mtu.into(),
            gateway_mac,
            ..abi::Network::default()
        };
        self.networks.insert(network.index, value);
        self.subnets.insert(network.subnet, Subnet { network: network.index, flags: 0 });
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
            let value = Endpoint {
                ip4: endpoint.ip.into(),
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
            let key = NeighbourKey4 { network: network.index, address: value.ip4 };
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
            self.neighbours.insert(key, neighbour);
        }
        let Some((network, endpoint)) = desired.gateway(container) else { return };
        let Some(network) = desired.networks.get(&network) else { return };
        if !observed.veths.contains_key(&endpoint.id) {
            return;
        }
        for rule in container.running().iter().flat_map(|r| &r.rules) {
            self.rule(desired, network, endpoint, rule);
        }
    }

    fn rule(
        &mut self,
        desired: &Desired,
        network: &Network,
        endpoint: &model::Endpoint,
        rule: &PublishedRule,
    ) {
        let value = Rule {
            host_base: rule.host.first(),
            container_base: rule.container.first(),
            count: rule.host.count(),
            proto: rule.proto.number(),
            flags: 0,
            network: network.index,
            endpoint: endpoint.index,
            generation: endpoint.generation,
            address: IpAddr::V4(endpoint.ip).into(),
            host: IpAddr::V4(rule.host_ip).into(),
            reserved: 0,
        };
        self.rules.insert(rule.index, value);
        // Every address's own table has the wildcard's rules too: one look is enough for a packet.
        let own = desired.indices.tables.iter();
        let tables: Vec<u32> = if rule.host_ip.is_unspecified() {
            own.map(|(_, &table)| table)
                .chain([service::WILDCARD_TABLE, service::ANY_TABLE])
                .collect()
        } else {
            own.filter(|(ip, _)| **ip == rule.host_ip)
                .map(|(_, &t)| t)
                .chain([service::ANY_TABLE])
                .collect()
        };
        for port in rule.host.ports() {
            let Some(slot) = service::slot(value.proto, Port::new(port)) else { continue };
            for &table in &tables {
                self.ports.insert((table, slot), PortSlot { rule: rule.index, reserved: 0 });
            }
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
        step(&self.locals, &wanted.locals, Entry::Local, &mut entries);
        step(&self.uplinks, &wanted.uplinks, Entry::Uplink, &mut entries);
        step(&self.endpoints, &wanted.endpoints, Entry::Endpoint, &mut entries);
        step(&self.neighbours, &wanted.neighbours, Entry::Neighbour, &mut entries);
        step(&self.links, &wanted.links, Entry::Link, &mut entries);
        step(&self.rules, &wanted.rules, Entry::Rule, &mut entries);
        step(&self.ports, &wanted.ports, Entry::Port, &mut entries);
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
            Entry::Local(key, value) => put(&mut self.locals, *key, *value),
            Entry::Uplink(key, value) => put(&mut self.uplinks, *key, *value),
            Entry::Endpoint(key, value) => put(&mut self.endpoints, *key, *value),
            Entry::Neighbour(key, value) => put(&mut self.neighbours, *key, *value),
            Entry::Link(key, value) => put(&mut self.links, *key, *value),
            Entry::Rule(key, value) => put(&mut self.rules, *key, *value),
            Entry::Port(key, value) => put(&mut self.ports, *key, *value),
            Entry::Denied(key, value) => put(&mut self.denied, *key, *value),
            Entry::DenyLate(key, value) => put(&mut self.deny_late, *key, *value),
        }
    }
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
    for from in desired.containers.values().filter(|c| !c.links.is_empty()) {
        for to in from.links.iter().filter_map(|link| by_name.get(&link.container)) {
            for (network, server) in to.endpoints() {
                let client = from.endpoints().find(|(other, _)| *other == network);
                let Some((_, client)) = client else { continue };
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

/// Returns the address of a container with its prefix.
pub(super) fn with_prefix(ip: Ipv4Addr, network: &Network) -> Option<Ipv4Network> {
    Ipv4Network::new(ip, network.subnet.prefix()).ok()
}
