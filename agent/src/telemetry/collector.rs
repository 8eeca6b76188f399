//! Reads the maps at scrape. Counters live in pinned maps, so they go on over restarts of the agent; the
//! series of what has been removed are not among the next scrape's.

use std::{collections::BTreeMap, sync::Arc};

use bascule_common::abi::{Count, Direction, DropReason, Stat, Tally, names::map};
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    census::{Census, Counted},
    counters::{self, SHOWN},
    dns::DnsMetrics,
    family::{self, Family},
    names::{EndpointName, Names, RuleName, SharedNames},
    proxy,
};
use crate::kernel::bpf::{BpfError, Tables};

/// Samples of one family.
type Samples = Vec<(Vec<String>, f64)>;

/// Everything that a scrape reads.
pub(super) struct MapCollector {
    tables: Arc<Tables>,
    names: SharedNames,
    census: Arc<Census>,
    dns: Arc<DnsMetrics>,
    compatible: bool,
    descs: Vec<Desc>,
}

impl MapCollector {
    pub(super) fn new(
        tables: Arc<Tables>,
        names: SharedNames,
        census: Arc<Census>,
        dns: Arc<DnsMetrics>,
        compatible: bool,
    ) -> prometheus::Result<Self> {
        let more: &[Family] = if compatible { &family::PODMAN } else { &[] };
        let all = family::ALL.iter().chain(more);
        let descs = all.map(Family::desc).collect::<prometheus::Result<_>>()?;
        Ok(Self { tables, names, census, dns, compatible, descs })
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
            ("tallies", tallies(&self.tables)),
            ("questions", self.dns.families(&names)),
            ("verdicts", verdicts(&self.tables)),
            ("connections", self.census.get(&self.tables).map(|c| connections(&c, &names))),
            ("ports of masquerade", port_capacity(&self.tables)),
            ("pressure", self.pressure(&names)),
        ] {
            match read {
                Ok(read) => families.extend(read),
                // One unreadable map leaves the other metrics standing.
                Err(error) => tracing::warn!(%error, what, "metrics are incomplete"),
            }
        }
        if self.compatible {
            match podman(&self.tables, &names) {
                Ok(podman) => families.extend(podman),
                Err(error) => tracing::warn!(%error, "metrics are incomplete"),
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
    let left_out = [
        ("endpoints", names.endpoints.len()),
        ("rules", names.rules.len()),
        ("denials", names.denials.len()),
    ];
    let left_out = left_out.map(|(kind, count)| (kind, count.saturating_sub(SHOWN)));
    vec![
        family::LEFT_OUT.with(left_out.map(|(kind, n)| (vec![kind.to_owned()], n as f64))),
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
    for (_, name, counters) in counters::endpoints(tables, names)?.into_iter().take(SHOWN) {
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
    let last = names.endpoints.keys().take(SHOWN).next_back();
    let is_shown = |endpoint| last.is_some_and(|last| endpoint <= *last);
    for (key, count) in counters::drops(tables)? {
        let reason = DropReason::from_number(key.reason).map_or("unknown", DropReason::label);
        let Some(direction) = Direction::from_number(key.direction) else { continue };
        let tail = [label(direction), reason.to_owned()];
        match names.endpoints.get(&key.endpoint) {
            Some(name) if is_shown(key.endpoint) => {
                push(&mut of_endpoints, name.labels(tail), count);
            }
            None if key.endpoint == 0 => push(&mut of_host, tail.to_vec(), count),
            // Of an endpoint that is gone, or one too many.
            _ => {}
        }
    }
    Ok(vec![
        family::ENDPOINT_DROPS.with(of_endpoints.0),
        family::ENDPOINT_DROP_BYTES.with(of_endpoints.1),
        family::HOST_DROPS.with(of_host.0),
        family::HOST_DROP_BYTES.with(of_host.1),
    ])
}

/// What Podman's exporter tells of containers: bytes, packets, drops and errors in, and the same out.
fn podman(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let mut samples = [const { Samples::new() }; 8];
    let mut dropped: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for (key, count) in tables.drops.all()? {
        *dropped.entry((key.endpoint, key.direction)).or_default() += count.packets;
    }
    for (index, name) in names.endpoints.iter().take(SHOWN) {
        let counters = tables.endpoint_counters.get(*index)?.unwrap_or_default();
        let labels = vec![name.container_id.clone(), name.container.clone()];
        let drops = |direction: Direction| {
            dropped.get(&(*index, direction as u8)).copied().unwrap_or_default()
        };
        let sides = [(counters.received, Direction::In), (counters.sent, Direction::Out)];
        let values = sides.map(|(count, way)| [count.bytes, count.packets, drops(way), 0]);
        for (samples, value) in samples.iter_mut().zip(values.as_flattened()) {
            samples.push((labels.clone(), *value as f64));
        }
    }
    Ok(family::PODMAN.iter().zip(samples).map(|(family, samples)| family.with(samples)).collect())
}

fn ports(tables: &Tables, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
    let (mut packets, mut bytes, mut connections) =
        (Samples::new(), Samples::new(), Samples::new());
    for (_, name, counters) in counters::rules(tables, names)? {
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
    for (slot, prefix) in names.denials.iter().take(SHOWN) {
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
            Stat::EarlyDrops => family::CONNTRACK_EARLY_DROPS,
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

fn tallies(tables: &Tables) -> Result<Vec<MetricFamily>, BpfError> {
    let families = [
        (Tally::Collections, family::GC_RUNS),
        (Tally::Collected, family::GC_DELETED),
        (Tally::Passes, family::RECONCILE_PASSES),
        (Tally::Actions, family::RECONCILE_ACTIONS),
    ];
    let read = |(tally, family): (Tally, Family)| {
        let value = tables.tallies.get(tally as u32)? as f64;
        Ok(family.with([(Vec::new(), value)]))
    };
    let mut families = families.into_iter().map(read).collect::<Result<Vec<_>, BpfError>>()?;
    // Of what never happened there is no series.
    let tallied = |slots: Vec<(u32, Vec<&str>)>| -> Result<Samples, BpfError> {
        let mut samples = Samples::new();
        for (slot, labels) in slots {
            let value = tables.tallies.get(slot)?;
            if value > 0 {
                samples.push((labels.into_iter().map(str::to_owned).collect(), value as f64));
            }
        }
        Ok(samples)
    };
    let repairs = tables.tallies.repairs()?.into_iter().filter(|(_, count)| *count > 0);
    let repairs = repairs.map(|(kind, count)| (vec![kind.to_owned()], count as f64));
    families.push(family::RECONCILE_REPAIRS.with(repairs));
    let opened = proxy::OPENED.iter().enumerate();
    let opened = opened.map(|(at, proto)| (proxy::opened(at), vec![*proto]));
    families.push(family::PROXY_OPENED.with(tallied(opened.collect())?));
    let refused = proxy::REFUSED.iter().enumerate();
    let refused = refused.map(|(at, (proto, why))| (proxy::refused(at), vec![*proto, *why]));
    families.push(family::PROXY_REFUSED.with(tallied(refused.collect())?));
    Ok(families)
}

/// What policy has said, ever: what was said of endpoints that have gone is still counted.
fn verdicts(tables: &Tables) -> Result<Vec<MetricFamily>, BpfError> {
    let opened = tables.stats.get(Stat::FlowsOpened as u32)?.unwrap_or_default();
    let mut samples = vec![(vec!["allow".to_owned(), "default".to_owned()], opened as f64)];
    let reasons = DropReason::ALL.into_iter();
    let rules: BTreeMap<u8, &str> =
        reasons.filter_map(|r| Some((r as u8, r.label().strip_prefix("policy_")?))).collect();
    for (reason, packets) in tables.tallies.dropped(&tables.drops, rules.keys().copied())? {
        let rule = rules.get(&reason).copied().unwrap_or_default();
        samples.push((vec!["deny".to_owned(), rule.to_owned()], packets as f64));
    }
    Ok(vec![family::POLICY_VERDICTS.with(samples)])
}

/// What the table of connections says.
fn connections(counted: &Counted, names: &Names) -> Vec<MetricFamily> {
    let active = names.rules.iter().take(SHOWN).map(|(index, name)| {
        let count = counted.of_rules.get(index).copied().unwrap_or_default();
        (name.labels([]), count as f64)
    });
    let stages = counted
        .stages
        .iter()
        .map(|((proto, stage), count)| (vec![proto.clone(), (*stage).to_owned()], *count as f64));
    let of_address =
        |(address, proto): &(std::net::IpAddr, String)| vec![address.to_string(), proto.clone()];
    let ports = counted.ports.iter();
    vec![
        family::PORT_ACTIVE.with(active),
        family::CONNTRACK_ENTRIES.with([(Vec::new(), counted.entries as f64)]),
        family::CONNTRACK_CONNECTIONS.with(stages),
        family::NAT_CONNECTIONS
            .with(ports.clone().map(|(key, used)| (of_address(key), used.connections as f64))),
        family::NAT_PORTS_IN_USE
            .with(ports.map(|(key, used)| (of_address(key), used.busiest as f64))),
    ]
}

fn port_capacity(tables: &Tables) -> Result<Vec<MetricFamily>, BpfError> {
    let ports = counters::masquerade_ports(tables)?;
    Ok(vec![family::NAT_PORTS_CAPACITY.with([(Vec::new(), f64::from(ports))])])
}

impl MapCollector {
    fn pressure(&self, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
        let tables = &self.tables;
        let mut samples: Samples = tables
            .pressure()?
            .into_iter()
            .map(|(name, (used, capacity))| {
                (vec![name.to_owned()], used as f64 / f64::from(capacity.max(1)))
            })
            .collect();
        let counted = self.census.get(tables)?;
        for (name, used, capacity) in [
            (map::FLOWS4, counted.entries4, tables.flows4.capacity()),
            (map::FLOWS6, counted.entries - counted.entries4, tables.flows6.capacity()),
        ] {
            samples.push((vec![name.to_owned()], used as f64 / f64::from(capacity.max(1))));
        }
        // Arrays are as full as indices of theirs are given.
        for (name, used, capacity) in [
            (map::RULES, names.rules.len(), map::RULES_LEN),
            (map::NETWORKS, names.networks.len(), map::NETWORKS_LEN),
            (map::GENERATIONS, names.endpoints.len(), map::ENDPOINT_INDICES),
        ] {
            samples.push((vec![name.to_owned()], used as f64 / f64::from(capacity)));
        }
        Ok(vec![family::MAP_PRESSURE.with(samples)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d8_who_has_no_series_is_counted() {
        let endpoints = (1..=SHOWN as u32 + 7).map(|index| (index, EndpointName::default()));
        let names = Names { endpoints: endpoints.collect(), ..Names::default() };
        let families = of_names(&names);
        let left_out = families.iter().find(|f| f.name() == "bascule_metrics_left_out");
        let metrics = left_out.expect("a family").get_metric();
        let of = |kind: &str| {
            let found = metrics.iter().find(|m| m.get_label()[0].value() == kind);
            found.expect(kind).get_gauge().get_value()
        };
        assert_eq!((of("endpoints"), of("rules"), of("denials")), (7.0, 0.0, 0.0));
    }
}
