//! What is there on one side only, for so long that nobody is just making or removing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;

use crate::{
    docker::engine::EngineNetwork,
    model::{Container, Desired, EndpointId, NetworkId, PoolId, SubnetSpec},
    state::{NetworkSpec, PluginChange},
};

/// How long something may be unknown to Docker.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// How long a network of Docker's may be unknown to us.
const LOST: Duration = Duration::from_secs(5);
/// How long an endpoint may be in no sandbox.
const UNJOINED: Duration = Duration::from_secs(120);

/// Something that is there on one side only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suspect {
    Network(NetworkId),
    Lost(String),
    Endpoint(EndpointId),
    Unjoined(EndpointId),
    Pool(PoolId),
    Address(PoolId, IpAddr),
}

impl Suspect {
    const fn patience(&self) -> Duration {
        match self {
            Self::Lost(_) => LOST,
            Self::Unjoined(_) => UNJOINED,
            Self::Network(_) | Self::Endpoint(_) | Self::Pool(_) | Self::Address(..) => FORGOTTEN,
        }
    }
}

/// What was seen on one side only, and since when.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<Suspect, Instant>);

impl Suspects {
    /// Returns whether everything fits together.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over what is suspect now, and returns what has been for long enough.
    fn ripe(&mut self, now: BTreeSet<Suspect>) -> Vec<Suspect> {
        self.0.retain(|suspect, _| now.contains(suspect));
        for suspect in now {
            self.0.entry(suspect).or_insert_with(Instant::now);
        }
        let ripe = self.0.iter().filter(|(suspect, since)| since.elapsed() >= suspect.patience());
        ripe.map(|(suspect, _)| suspect.clone()).collect()
    }
}

/// Returns what brings both sides together again, by what Docker says.
pub(super) fn changes(
    desired: &Desired,
    networks: &[EngineNetwork],
    driver: &str,
    suspects: &mut Suspects,
) -> Vec<PluginChange> {
    let (ours, given): (Vec<_>, Vec<_>) = (
        networks.iter().filter(|n| n.driver == driver).collect(),
        networks.iter().filter(|n| n.ipam_driver == driver).collect(),
    );
    let mut now = unjoined(desired);
    now.extend(lost(desired, &ours));
    // A Docker that knows nothing of ours may be another one.
    if is_the_same(desired, &ours) {
        now.extend(forgotten(desired, &ours));
    }
    if is_the_same(desired, &ours) || !given.is_empty() {
        now.extend(addresses(desired, &given));
    }
    let ripe = suspects.ripe(now);
    let change = |suspect: &Suspect| {
        Some(match suspect {
            Suspect::Network(id) => PluginChange::DeleteNetwork(*id),
            Suspect::Endpoint(id) | Suspect::Unjoined(id) => {
                PluginChange::DeleteEndpoints(vec![*id])
            }
            Suspect::Pool(id) => PluginChange::ReleasePool(id.clone()),
            Suspect::Address(pool, address) => {
                PluginChange::ReleaseAddresses { pool: pool.clone(), addresses: vec![*address] }
            }
            Suspect::Lost(id) => {
                PluginChange::CreateNetwork(Box::new(spec(ours.iter().find(|n| n.id == *id)?)))
            }
        })
    };
    ripe.iter().filter_map(change).collect()
}

/// Tells whether this Docker is the one whose networks are here: it knows one of them, or has told a name.
fn is_the_same(desired: &Desired, ours: &[&EngineNetwork]) -> bool {
    let knows = |id: NetworkId| ours.iter().any(|n| n.id == id.to_string());
    let mut plugged = desired.networks.values().filter(|n| n.plugged);
    plugged.any(|n| knows(n.id) || !n.name.as_str().starts_with("docker-"))
}

fn endpoints(container: &Container) -> impl Iterator<Item = (NetworkId, EndpointId)> {
    container.endpoints().map(|(network, endpoint)| (network, endpoint.id))
}

fn unjoined(desired: &Desired) -> BTreeSet<Suspect> {
    let waiting = desired.containers.values().filter(|c| c.is_plugged() && !c.has_joined());
    waiting.flat_map(|c| endpoints(c).map(|(_, id)| Suspect::Unjoined(id))).collect()
}

fn lost(desired: &Desired, ours: &[&EngineNetwork]) -> Vec<Suspect> {
    let known = |n: &&&EngineNetwork| {
        n.id.parse().is_ok_and(|id: NetworkId| desired.networks.contains_key(&id))
    };
    ours.iter().filter(|n| !known(n)).map(|n| Suspect::Lost(n.id.clone())).collect()
}

fn forgotten(desired: &Desired, ours: &[&EngineNetwork]) -> Vec<Suspect> {
    let found = |id: NetworkId| ours.iter().find(|n| n.id == id.to_string());
    let plugged = desired.networks.values().filter(|n| n.plugged);
    let mut suspects: Vec<_> =
        plugged.filter(|n| found(n.id).is_none()).map(|n| Suspect::Network(n.id)).collect();
    for container in desired.containers.values().filter(|c| c.has_joined()) {
        for (network, endpoint) in endpoints(container) {
            let is_there = |n: &EngineNetwork| {
                n.places.iter().any(|place| place.endpoint == endpoint.to_string())
            };
            if found(network).is_some_and(|n| !is_there(n)) {
                suspects.push(Suspect::Endpoint(endpoint));
            }
        }
    }
    suspects
}

fn addresses(desired: &Desired, given: &[&EngineNetwork]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for pool in desired.pools.values() {
        let subnet = pool.id.subnet;
        let reads = |text: &str| text.parse::<IpNetwork>() == Ok(subnet);
        let users = || given.iter().filter(|n| n.subnets.iter().any(|s| reads(&s.subnet)));
        if users().next().is_none() {
            suspects.push(Suspect::Pool(pool.id.clone()));
            continue;
        }
        let mut used: BTreeSet<IpAddr> = pool.gateway.into_iter().collect();
        for network in users() {
            let subnets = network.subnets.iter();
            let fixed = subnets.flat_map(|s| s.auxiliary.values().chain([&s.gateway]));
            used.extend(fixed.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok()));
            used.extend(network.places.iter().flat_map(|place| place.addresses.iter().copied()));
        }
        let stale = pool.given.iter().filter(|address| !used.contains(address));
        suspects.extend(stale.map(|address| Suspect::Address(pool.id.clone(), *address)));
    }
    suspects
}

/// Returns what a network was made with, from what Docker shows of it.
fn spec(network: &EngineNetwork) -> NetworkSpec {
    let subnet = |s: &crate::docker::engine::EngineSubnet| SubnetSpec {
        subnet: s.subnet.clone(),
        gateway: s.gateway.split('/').next().unwrap_or_default().to_owned(),
        ip_range: s.ip_range.clone(),
        auxiliary: s.auxiliary.clone(),
    };
    let is = |v6: bool| network.subnets.iter().any(|s| s.subnet.contains(':') == v6);
    NetworkSpec {
        id: network.id.parse().ok(),
        subnets: network.subnets.iter().map(subnet).collect(),
        without_ipv4: !is(false),
        ipv6: Some(is(true)),
        internal: network.internal,
        options: network.options.clone(),
        attachable: true,
        ..NetworkSpec::default()
    }
}
