//! Puts together what is desired, and what the data plane has counted.

use std::collections::BTreeMap;

use bascule_common::abi::{Count, Direction, DropKey, DropReason};
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use super::{
    super::context::Context, Amount, Traffic, TrafficDrop, TrafficEndpoint, TrafficLink,
    TrafficNetwork, TrafficPort, TrafficUplink,
};
use crate::{
    model::{Container, Desired, Link, Network, NetworkId},
    reconcile::Snapshot,
    state::{Rejected, find, rules},
    telemetry::Counters,
};

/// Published ranges that are told of.
const PORTS: usize = 2_000;

/// Reads everything; it takes milliseconds with thousands of endpoints.
pub fn read(context: &Context) -> Result<Traffic, Rejected> {
    let counters = context.metrics.counters().map_err(Rejected::internal)?;
    let (time, clock) = (Timestamp::now(), clock());
    let snapshot = context.handle.shared.get();
    let started_at = context.facts.started_at.map(|at| at.to_string());
    Ok(Traffic {
        time: time.to_string(),
        clock,
        started_at: started_at.unwrap_or_default(),
        ..joined(&snapshot, &counters)
    })
}

/// A clock that is never set, in milliseconds.
pub fn clock() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| std::time::Duration::from(now).as_millis() as u64)
}

/// Puts names and numbers together.
fn joined(snapshot: &Snapshot, counters: &Counters) -> Traffic {
    let desired = &snapshot.desired;
    let drops = drops(counters);
    let mut networks: Vec<_> = desired.networks.values().map(network).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut endpoints: Vec<_> = desired
        .containers
        .values()
        .flat_map(|container| endpoints(desired, container, counters, &drops))
        .collect();
    endpoints.sort_by(|a, b| (&a.container, &a.network).cmp(&(&b.container, &b.network)));
    let (ports, ports_total) = ports(desired, counters);
    Traffic {
        uplinks: snapshot.uplinks.iter().map(uplink).collect(),
        networks,
        endpoints,
        ports,
        ports_total,
        drops: drops.get(&0).cloned().unwrap_or_default(),
        links: links(desired),
        connections: counters.connections(),
        ..Traffic::default()
    }
}

const fn amount(count: Count) -> Amount {
    Amount { packets: count.packets, bytes: count.bytes, packet_rate: None, byte_rate: None }
}

fn uplink(uplink: &crate::reconcile::UplinkSeen) -> TrafficUplink {
    let v4 = uplink.source.map(|ip| ip.to_string());
    let v6 = uplink.source6.map(|ip| ip.to_string());
    TrafficUplink { name: uplink.name.clone(), addresses: v4.into_iter().chain(v6).collect() }
}

fn network(network: &Network) -> TrafficNetwork {
    TrafficNetwork {
        id: network.id.short(),
        name: network.name.to_string(),
        subnets: network.pools().map(|pool| pool.subnet.to_string()).collect(),
        bridge: network.bridge.clone(),
        internal: network.internal,
        icc: network.options.icc,
    }
}

/// What was dropped, by endpoint; 0 is none.
fn drops(counters: &Counters) -> BTreeMap<u32, Vec<TrafficDrop>> {
    let mut drops: BTreeMap<u32, Vec<TrafficDrop>> = BTreeMap::new();
    for (DropKey { endpoint, reason, direction, .. }, count) in &counters.drops {
        let Some(direction) = Direction::from_number(*direction) else { continue };
        let reason = DropReason::from_number(*reason);
        drops.entry(*endpoint).or_default().push(TrafficDrop {
            direction: direction.label().to_owned(),
            reason: reason.map_or("unknown", DropReason::label).to_owned(),
            explanation: reason
                .map_or("A newer data plane said so.", DropReason::explanation)
                .to_owned(),
            dropped: amount(*count),
        });
    }
    drops
}

fn endpoints(
    desired: &Desired,
    container: &Container,
    counters: &Counters,
    drops: &BTreeMap<u32, Vec<TrafficDrop>>,
) -> Vec<TrafficEndpoint> {
    let name = |network: NetworkId| desired.networks.get(&network).map(|n| n.name.to_string());
    let endpoint = |(network, endpoint): (NetworkId, &crate::model::Endpoint)| {
        let traffic = counters.endpoints.get(&endpoint.index).copied().unwrap_or_default();
        let drops = drops.get(&endpoint.index).cloned().unwrap_or_default();
        let dropped = drops.iter().fold(Amount::default(), |sum, drop| Amount {
            packets: sum.packets + drop.dropped.packets,
            bytes: sum.bytes + drop.dropped.bytes,
            ..sum
        });
        TrafficEndpoint {
            id: endpoint.id.short(),
            container: container.name.to_string(),
            container_id: container.id.short(),
            network: name(network).unwrap_or_default(),
            addresses: endpoint.addresses().map(|ip| ip.to_string()).collect(),
            mac: endpoint.mac.to_string(),
            interface: endpoint.interface.clone(),
            host_interface: endpoint.veth.clone(),
            received: amount(traffic.received),
            sent: amount(traffic.sent),
            dropped,
            drops,
            connections: counters.connections_of_endpoint(endpoint.index),
        }
    };
    container.endpoints().map(endpoint).collect()
}

/// The published ranges that carried most, by host port, and how many there are.
fn ports(desired: &Desired, counters: &Counters) -> (Vec<TrafficPort>, usize) {
    let traffic = |index: u32| counters.rules.get(&index).copied().unwrap_or_default();
    let mut found: Vec<_> = rules(desired).collect();
    let total = found.len();
    if total > PORTS {
        let carried = |index| traffic(index).received.bytes + traffic(index).sent.bytes;
        found.sort_by_cached_key(|(_, rule)| std::cmp::Reverse(carried(rule.index)));
        found.truncate(PORTS);
    }
    found.sort_by_key(|(_, rule)| (rule.host.first(), rule.proto, rule.host_ip));
    let port = |(container, rule): (&Container, &crate::model::PublishedRule)| {
        let network = desired.gateway(container, rule.family()).map(|(network, _)| network);
        let network = network.and_then(|id| desired.networks.get(&id)).map(|n| n.name.to_string());
        let counted = traffic(rule.index);
        TrafficPort {
            container: container.name.to_string(),
            network: network.unwrap_or_default(),
            host_ip: rule.host_ip.to_string(),
            host_port: rule.host.to_string(),
            container_port: rule.container.to_string(),
            proto: rule.proto.to_string(),
            received: amount(counted.received),
            sent: amount(counted.sent),
            opened: counted.connections,
            active: counters.connections_of_rule(rule.index),
        }
    };
    (found.into_iter().map(port).collect(), total)
}

/// What links open between containers that run, as the data plane has it.
fn links(desired: &Desired) -> Vec<TrafficLink> {
    let mut links = Vec::new();
    for from in desired.containers.values() {
        for (id, _) in from.endpoints() {
            let Some(network) = desired.networks.get(&id) else { continue };
            let own = from.attachment(id).into_iter().flat_map(|place| &place.links);
            let servers = from.links.iter().filter(|_| network.predefined).chain(own);
            let server = |link: &Link| find::container(desired, link.container.as_str()).ok();
            for to in servers.filter_map(server) {
                if to.endpoints().any(|(other, _)| other == id) {
                    links.push(TrafficLink {
                        from: from.name.to_string(),
                        to: to.name.to_string(),
                        network: network.name.to_string(),
                        ports: to.served().iter().map(ToString::to_string).collect(),
                    });
                }
            }
        }
    }
    links.sort_by(|a, b| (&a.from, &a.to, &a.network).cmp(&(&b.from, &b.to, &b.network)));
    links.dedup();
    links
}
