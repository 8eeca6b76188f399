//! Reads the maps at scrape. Counters live in pinned maps, so they go on over restarts of the agent; the
//! series of what has been removed are not among the next scrape's.

use std::sync::Arc;

use bascule_common::abi::{Count, Direction, DropKey, DropReason, Stat, deny, names::map};
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    family::{self, Family},
    names::{EndpointName, Names, RuleName, SharedNames},
};
use crate::kernel::bpf::{BpfError, Sum as _, Tables};

/// Samples of one family.
type Samples = Vec<(Vec<String>, f64)>;

/// Everything that a scrape reads.
pub(super) struct MapCollector {
    tables: Arc<Tables>,
    names: SharedNames,
    descs: Vec<Desc>,
}

impl MapCollector {
    pub(super) fn new(tables: Arc<Tables>, names: SharedNames) -> prometheus::Result<Self> {
        let descs = family::ALL.iter().map(Family::desc).collect::<prometheus::Result<_>>()?;
        Ok(Self { tables, names, descs })
    }
}

impl Collector for MapCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let names = self.names.get();
        let mut families = of_names(&names);
        for (what, read) in [
            ("endpoints", endpoints(&self.tables, &names)),
            ("drops", drops(&self.tables, &names)),
            ("ports", ports(&self.tables, &names)),
            ("denials", denials(&self.tables, &names)),
            ("totals", totals(&self.tables)),
            ("pressure", pressure(&self.tables)),
        ] {
            match read {
                Ok(read) => families.extend(read),
                // One unreadable map leaves the other metrics standing.
                Err(error) => tracing::warn!(%error, what, "metrics are incomplete"),
            }
        }
        families
    }
}

fn label(direction: Direction) -> String {
    direction.label().to_owned()
}

impl EndpointName {
    fn labels(&self, more: impl IntoIterator<Item = String>) -> Vec<String> {
        [&self.network, &self.container, &self.endpoint].into_iter().cloned().chain(more).collect()
    }
}

impl RuleName {
    fn labels(&self, more: impl IntoIterator<Item = String>) -> Vec<String> {
        [&self.network, &self.container, &self.host_ip, &self.host_port, &self.proto]
            .into_iter()
            .cloned()
            .chain(more)
            .collect()
    }
}

fn of_names(names: &Names) -> Vec<MetricFamily> {
    let networks = names.networks.values();
    vec![
        family::NETWORK_INFO.with(networks.clone().map(|n| {
            let labels = [&n.network, &n.id, &n.subnet, &n.bridge];
            (labels.map(Clone::clone).to_vec(), 1.0)
        })),
        family::NETWORK_IPS_IN_USE
            .with(networks.clone().map(|n| (vec![n.network.clone()], n.ips_in_use as f64))),
        family::NETWORK_IPS_AVAILABLE
            .with(networks.map(|n| (vec![n.network.clone()], n.ips_available as f64))),
        family::PROGRAM_INFO.with(names.programs.iter().map(|p| {
            let labels = [&p.iface, &p.hook, &p.mode, &p.program];
            (labels.map(Clone::clone).to_vec(), 1.0)
        })),
    ]
}

fn endpoints(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let (mut packets, mut bytes) = (Samples::new(), Samples::new());
    for (index, name) in &names.endpoints {
        let Some(counters) = tables.endpoint_counters.get(*index)? else { continue };
        for (direction, count) in
            [(Direction::In, counters.received), (Direction::Out, counters.sent)]
        {
            let labels = name.labels([label(direction)]);
            packets.push((labels.clone(), count.packets as f64));
            bytes.push((labels, count.bytes as f64));
        }
    }
    Ok(vec![family::ENDPOINT_PACKETS.with(packets), family::ENDPOINT_BYTES.with(bytes)])
}

fn drops(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let mut of_endpoints = (Samples::new(), Samples::new());
    let mut of_host = (Samples::new(), Samples::new());
    let push = |into: &mut (Samples, Samples), labels: Vec<String>, count: Count| {
        into.0.push((labels.clone(), count.packets as f64));
        into.1.push((labels, count.bytes as f64));
    };
    let mut drops = tables.drops.all()?;
    // XDP counts in an array, which costs less than a hash at the rate of a flood.
    let early = tables.deny.count(deny::TOTAL)?;
    if early != Count::default() {
        let (reason, direction) = (DropReason::DenyCidr as u8, Direction::In as u8);
        let key = DropKey { endpoint: 0, reason, direction, pad: 0 };
        drops.entry(key).or_default().add(&early);
    }
    for (key, count) in drops {
        let reason = DropReason::from_number(key.reason).map_or("unknown", DropReason::label);
        let Some(direction) = Direction::from_number(key.direction) else { continue };
        let tail = [label(direction), reason.to_owned()];
        match names.endpoints.get(&key.endpoint) {
            Some(name) => push(&mut of_endpoints, name.labels(tail), count),
            None if key.endpoint == 0 => push(&mut of_host, tail.to_vec(), count),
            // Of an endpoint that is gone.
            None => {}
        }
    }
    Ok(vec![
        family::ENDPOINT_DROPS.with(of_endpoints.0),
        family::ENDPOINT_DROP_BYTES.with(of_endpoints.1),
        family::HOST_DROPS.with(of_host.0),
        family::HOST_DROP_BYTES.with(of_host.1),
    ])
}

fn ports(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let (mut packets, mut bytes, mut connections) =
        (Samples::new(), Samples::new(), Samples::new());
    for (index, name) in &names.rules {
        // More rules than counters: those past the end are not counted.
        let Some(counters) = tables.rule_counters.get(*index)? else { continue };
        connections.push((name.labels([]), counters.connections as f64));
        for (direction, count) in
            [(Direction::In, counters.received), (Direction::Out, counters.sent)]
        {
            let labels = name.labels([label(direction)]);
            packets.push((labels.clone(), count.packets as f64));
            bytes.push((labels, count.bytes as f64));
        }
    }
    Ok(vec![
        family::PORT_PACKETS.with(packets),
        family::PORT_BYTES.with(bytes),
        family::PORT_CONNECTIONS.with(connections),
    ])
}

fn denials(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let (mut packets, mut bytes) = (Samples::new(), Samples::new());
    for (slot, prefix) in &names.denials {
        let count = tables.deny.count(*slot)?;
        packets.push((vec![prefix.clone()], count.packets as f64));
        bytes.push((vec![prefix.clone()], count.bytes as f64));
    }
    Ok(vec![family::DENY_PACKETS.with(packets), family::DENY_BYTES.with(bytes)])
}

fn totals(tables: &Tables) -> Result<Vec<MetricFamily>, BpfError> {
    let mut handovers = Samples::new();
    let mut families = Vec::new();
    for stat in Stat::ALL {
        let value = tables.stats.get(stat as u32)?.unwrap_or_default() as f64;
        if let Some(reason) = stat.handover_label() {
            handovers.push((vec![reason.to_owned()], value));
            continue;
        }
        let family = match stat {
            Stat::FlowsOpened => family::CONNTRACK_OPENED,
            Stat::FlowsAdopted => family::CONNTRACK_ADOPTED,
            Stat::PortsExhausted => family::NAT_PORT_EXHAUSTED,
            Stat::EventsLost => family::EVENTS_LOST,
            _ => continue,
        };
        families.push(family.with([(Vec::new(), value)]));
    }
    families.push(family::HANDOVERS.with(handovers));
    let capacity = f64::from(tables.flows4.capacity()) + f64::from(tables.flows6.capacity());
    families.push(family::CONNTRACK_CAPACITY.with([(Vec::new(), capacity)]));
    Ok(families)
}

fn pressure(tables: &Tables) -> Result<Vec<MetricFamily>, BpfError> {
    let mut samples: Samples = tables
        .pressure()?
        .into_iter()
        .map(|(name, (used, capacity))| {
            (vec![name.to_owned()], used as f64 / f64::from(capacity.max(1)))
        })
        .collect();
    // Counting the flows would read the whole table: the last collection did.
    let [seen, removed] = tables.collected()?;
    let flows = seen.saturating_sub(removed) as f64;
    let capacity = f64::from(tables.flows4.capacity().max(1));
    samples.push((vec![map::FLOWS4.to_owned()], flows / capacity));
    let capacity = f64::from(tables.flows6.capacity().max(1));
    samples.push((vec![map::FLOWS6.to_owned()], tables.left6() as f64 / capacity));
    Ok(vec![family::MAP_PRESSURE.with(samples)])
}
