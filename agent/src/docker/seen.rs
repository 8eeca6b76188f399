//! What Docker has, put together from what it tells and from the interfaces that are there: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use jiff::Timestamp;

use super::engine::{EngineContainer, EngineNetwork, EnginePlace, EnginePort, EngineSubnet};
use crate::{
    model::{Expose, Family, Link, MacAddress, NetworkOptions, Pool, PortRange, Proto, keys},
    state::{Docker, DockerContainer, DockerEndpoint, DockerNetwork, DockerPort},
};

/// MTU of a network that says nothing, and whose ports do not either.
const MTU: u16 = 1500;
/// The driver whose networks are served.
const DRIVER: &str = "bridge";

/// A port of one of Docker's bridges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The bridge.
    pub bridge: String,
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MTU.
    pub mtu: u32,
    /// The Ethernet address of its other end, where that has come to where it belongs.
    pub mac: Option<MacAddress>,
    /// The name of its other end.
    pub interface: String,
}

/// Returns whether a network is one of those that are served.
pub fn is_served(network: &EngineNetwork) -> bool {
    network.driver == DRIVER && !bridge(network).is_empty()
}

/// Returns whether a network is Docker's default one.
pub fn is_default(network: &EngineNetwork) -> bool {
    network.options.get(keys::DEFAULT_BRIDGE).is_some_and(|value| value == "true")
}

/// Returns the name of a network's bridge.
pub fn bridge(network: &EngineNetwork) -> String {
    match network.options.get(keys::BRIDGE) {
        Some(name) if !name.is_empty() => name.clone(),
        _ => network.id.get(..12).map(|head| format!("br-{head}")).unwrap_or_default(),
    }
}

/// What was put together, and what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What Docker has.
    pub docker: Docker,
    /// Ports of its bridges that nobody knows: they stay shut.
    pub unknown: Vec<Port>,
}

/// What Docker's default network means, which it does not say itself when its daemon makes no rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meant {
    /// Whether it is masqueraded.
    pub masquerade: bool,
    /// Whether its containers are kept apart.
    pub icc_off: bool,
}

/// Puts together what Docker has.
pub fn assemble(
    networks: &[EngineNetwork],
    containers: &[EngineContainer],
    ports: &[Port],
    meant: Meant,
) -> Seen {
    let served: Vec<_> = networks.iter().filter(|n| is_served(n)).collect();
    let mut taken = BTreeSet::new();
    let mut found: BTreeMap<&str, DockerContainer> = BTreeMap::new();
    for (place, network) in places(&served, containers) {
        let Some((endpoint, port)) = endpoint(place, network, ports) else { continue };
        if !taken.insert(port) {
            continue;
        }
        let listed = containers.iter().find(|c| c.id == place.container);
        let Some(whole) = container(place, listed) else { continue };
        let entry = found.entry(&place.container).or_insert(whole);
        if entry.endpoints.iter().all(|e| e.id != endpoint.id) {
            entry.endpoints.push(endpoint);
        }
    }
    links(&mut found, containers);
    let network = |network: &&EngineNetwork| {
        let bridge = bridge(network);
        let mtu = ports.iter().filter(|p| p.bridge == bridge).map(|p| p.mtu).min();
        read_network(network, mtu.and_then(|mtu| u16::try_from(mtu).ok()), meant)
    };
    let docker = Docker {
        networks: served.iter().filter_map(network).collect(),
        containers: found.into_values().collect(),
    };
    let unknown = ports.iter().filter(|p| !taken.contains(&p.index)).cloned().collect();
    Seen { docker, unknown }
}

/// Enters links of the default network. Who is just being started has them by its name: Docker tells of them where they
/// lead to.
fn links(found: &mut BTreeMap<&str, DockerContainer>, containers: &[EngineContainer]) {
    for server in containers {
        for (from, alias) in &server.linked {
            let client = found.values_mut().find(|container| container.name.as_str() == from);
            if let Some(client) = client
                && let (Ok(container), Ok(alias)) = (server.name.parse(), alias.parse())
            {
                client.links.push(Link { container, alias });
            }
        }
    }
}

/// Every place on a network that is served, those with the default route first: by priority, then by the network's name,
/// as Docker has it.
fn places<'a>(
    networks: &[&'a EngineNetwork],
    containers: &'a [EngineContainer],
) -> Vec<(&'a EnginePlace, &'a EngineNetwork)> {
    let listed = containers.iter().flat_map(|c| &c.places);
    // Those that are just being started are on no list yet.
    let starting = networks.iter().flat_map(|n| &n.places);
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for place in listed.chain(starting) {
        let network = networks.iter().find(|n| n.id == place.network);
        if let Some(network) = network.filter(|_| !place.endpoint.is_empty())
            && seen.insert(&place.endpoint)
        {
            places.push((place, *network));
        }
    }
    places.sort_by(|(a, at), (b, other)| {
        (b.priority, &at.name, &a.container).cmp(&(a.priority, &other.name, &b.container))
    });
    places
}

/// Finds the interface of a place: the one whose other end has the place's Ethernet address.
fn endpoint(
    place: &EnginePlace,
    network: &EngineNetwork,
    ports: &[Port],
) -> Option<(DockerEndpoint, u32)> {
    let mac: MacAddress = place.mac.parse().ok()?;
    let bridge = bridge(network);
    let mut fitting = ports.iter().filter(|p| p.bridge == bridge && p.mac == Some(mac));
    // Two with the same address cannot be told apart, and neither is let in.
    let (port, None) = (fitting.next()?, fitting.next()) else { return None };
    let mut endpoint = DockerEndpoint {
        id: place.endpoint.parse().ok()?,
        network: network.id.parse().ok()?,
        ip: None,
        ip6: None,
        mac,
        aliases: place.aliases.clone(),
        interface: port.interface.clone(),
        veth: (port.name.clone(), port.index),
    };
    for address in &place.addresses {
        match address {
            IpAddr::V4(ip) => endpoint.ip = Some(*ip),
            IpAddr::V6(ip) => endpoint.ip6 = Some(*ip),
        }
    }
    Some((endpoint, port.index))
}

fn container(place: &EnginePlace, listed: Option<&EngineContainer>) -> Option<DockerContainer> {
    let id: crate::model::ContainerId = place.container.parse().ok()?;
    let name = listed.map_or(&place.name, |c| &c.name);
    Some(DockerContainer {
        id,
        name: name.parse().or_else(|_| id.short().parse()).ok()?,
        created: listed.and_then(|c| Timestamp::from_second(c.created).ok()),
        command: listed.map(|c| c.command.clone()).unwrap_or_default(),
        labels: listed.map(|c| c.labels.clone()).unwrap_or_default(),
        endpoints: Vec::new(),
        ports: listed.map(|c| ranges(&c.ports)).unwrap_or_default(),
        expose: listed.map(|c| exposed(&c.exposed)).unwrap_or_default(),
        links: Vec::new(),
    })
}

/// Joins exposed ports that follow each other to ranges.
fn exposed(ports: &[(bool, u16)]) -> BTreeSet<Expose> {
    let mut ranges: Vec<(bool, u16, u16)> = Vec::new();
    for (udp, port) in ports.iter().copied().collect::<BTreeSet<_>>() {
        match ranges.last_mut() {
            Some((of, first, count)) if *of == udp && first.checked_add(*count) == Some(port) => {
                *count += 1;
            }
            _ => ranges.push((udp, port, 1)),
        }
    }
    let read = |(udp, first, count)| {
        let proto = if udp { Proto::Udp } else { Proto::Tcp };
        Some(Expose { ports: PortRange::new(first, count)?, proto })
    };
    ranges.into_iter().filter_map(read).collect()
}

/// Joins ports that follow each other on the host and in the container to ranges.
fn ranges(ports: &[EnginePort]) -> Vec<DockerPort> {
    let mut sorted = ports.to_vec();
    sorted.sort();
    sorted.dedup();
    let mut ranges: Vec<(EnginePort, u16)> = Vec::new();
    for port in sorted {
        match ranges.last_mut() {
            Some((first, count))
                if (first.udp, first.host_ip) == (port.udp, port.host_ip)
                    && first.host.checked_add(*count) == Some(port.host)
                    && first.container.checked_add(*count) == Some(port.container) =>
            {
                *count += 1;
            }
            _ => ranges.push((port, 1)),
        }
    }
    let read = |(port, count): (EnginePort, u16)| {
        Some(DockerPort {
            proto: if port.udp { Proto::Udp } else { Proto::Tcp },
            host_ip: port.host_ip.to_canonical(),
            host: PortRange::new(port.host, count)?,
            container: PortRange::new(port.container, count)?,
        })
    };
    ranges.into_iter().filter_map(read).collect()
}

fn read_network(network: &EngineNetwork, mtu: Option<u16>, meant: Meant) -> Option<DockerNetwork> {
    // What makes no sense is as if it were not there: Docker has taken it.
    let (mut options, _) = NetworkOptions::read(network.options.clone());
    let predefined = is_default(network);
    if predefined {
        options.masquerade = meant.masquerade;
        options.icc &= !meant.icc_off;
    }
    options.l2_bpf = false;
    let pool = |family| {
        let of_family = network.subnets.iter().filter_map(pool);
        of_family.into_iter().find(|pool| Family::of(pool.subnet.ip()) == family)
    };
    Some(DockerNetwork {
        id: network.id.parse().ok()?,
        name: network.name.parse().ok()?,
        bridge: bridge(network),
        ipv4: pool(Family::V4),
        ipv6: pool(Family::V6),
        internal: network.internal,
        predefined,
        attachable: network.attachable,
        mtu: options.mtu.or(mtu).unwrap_or(MTU),
        options,
        labels: network.labels.clone(),
    })
}

fn pool(subnet: &EngineSubnet) -> Option<Pool> {
    let address = |text: &str| text.split('/').next()?.parse::<IpAddr>().ok();
    let whole: IpNetwork = subnet.subnet.parse().ok()?;
    let whole = IpNetwork::new(whole.network(), whole.prefix()).ok()?;
    let mut pool = Pool::of(whole);
    pool.ip_range = subnet.ip_range.parse().ok();
    // Where none is given, Docker takes the first address of the range, whatever it is.
    let of_range = pool.ip_range.map(|range| range.network());
    let of_range = of_range.filter(|first| *first != whole.network());
    pool.gateway = address(&subnet.gateway).or(of_range).or(pool.gateway);
    let auxiliary = subnet.auxiliary.iter();
    pool.auxiliary =
        auxiliary.filter_map(|(name, ip)| Some((name.clone(), address(ip)?))).collect();
    Some(pool)
}

#[cfg(test)]
mod tests;
