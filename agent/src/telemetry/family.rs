//! Every metric that is read from the data plane: its name, help and labels, in one table.

use prometheus::{
    core::Desc,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// A metric's fixed part.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Family {
    Family { name, help, kind: MetricType::COUNTER, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: MetricType::GAUGE, labels }
}

const ENDPOINT: &[&str] = &["network", "container", "endpoint", "direction"];
const ENDPOINT_DROP: &[&str] = &["network", "container", "endpoint", "direction", "reason"];
const PORT: &[&str] = &["network", "container", "host_ip", "host_port", "proto", "direction"];

pub(super) const ENDPOINT_BYTES: Family = counter(
    "bascule_endpoint_bytes_total",
    "Bytes that the data plane carried for an endpoint, from the IP header on.",
    ENDPOINT,
);
pub(super) const ENDPOINT_PACKETS: Family = counter(
    "bascule_endpoint_packets_total",
    "Packets that the data plane carried for an endpoint; of a GSO packet, its segments.",
    ENDPOINT,
);
pub(super) const ENDPOINT_DROPS: Family = counter(
    "bascule_endpoint_drops_total",
    "Packets of an endpoint that were dropped, by reason.",
    ENDPOINT_DROP,
);
pub(super) const ENDPOINT_DROP_BYTES: Family = counter(
    "bascule_endpoint_drop_bytes_total",
    "Bytes of an endpoint that were dropped, by reason.",
    ENDPOINT_DROP,
);
pub(super) const HOST_DROPS: Family = counter(
    "bascule_host_drops_total",
    "Packets of no endpoint that were dropped, by reason.",
    &["direction", "reason"],
);
pub(super) const HOST_DROP_BYTES: Family = counter(
    "bascule_host_drop_bytes_total",
    "Bytes of no endpoint that were dropped, by reason.",
    &["direction", "reason"],
);
pub(super) const PORT_BYTES: Family = counter(
    "bascule_port_bytes_total",
    "Bytes through a published port or range; in is towards the container.",
    PORT,
);
pub(super) const PORT_PACKETS: Family = counter(
    "bascule_port_packets_total",
    "Packets through a published port or range; in is towards the container.",
    PORT,
);
pub(super) const PORT_CONNECTIONS: Family = counter(
    "bascule_port_connections_total",
    "Connections that were opened through a published port or range.",
    &["network", "container", "host_ip", "host_port", "proto"],
);
pub(super) const PORT_ACTIVE: Family = gauge(
    "bascule_port_active_connections",
    "Connections through a published port or range that are not over.",
    &["network", "container", "host_ip", "host_port", "proto"],
);
pub(super) const CONNTRACK_ENTRIES: Family =
    gauge("bascule_conntrack_entries", "Entries of the connection table, two a connection.", &[]);
pub(super) const CONNTRACK_CONNECTIONS: Family = gauge(
    "bascule_conntrack_connections",
    "Connections that are tracked, by protocol and state.",
    &["proto", "state"],
);
pub(super) const GC_RUNS: Family =
    counter("bascule_conntrack_gc_runs_total", "Collections of idle connections.", &[]);
pub(super) const GC_DELETED: Family = counter(
    "bascule_conntrack_gc_deleted_total",
    "Entries that collections of idle connections removed.",
    &[],
);
pub(super) const NAT_CONNECTIONS: Family = gauge(
    "bascule_nat_connections",
    "Connections that are masqueraded, by address that they leave with.",
    &["address", "proto"],
);
pub(super) const NAT_PORTS_IN_USE: Family = gauge(
    "bascule_nat_ports_in_use",
    "Ports of an address that masquerade uses towards the destination that takes most of them.",
    &["address", "proto"],
);
pub(super) const NAT_PORTS_CAPACITY: Family = gauge(
    "bascule_nat_ports_capacity",
    "Ports that masquerade has towards one destination, for each address and protocol.",
    &[],
);
pub(super) const RECONCILE_PASSES: Family =
    counter("bascule_reconcile_passes_total", "Passes of reconciliation.", &[]);
pub(super) const RECONCILE_ACTIONS: Family = counter(
    "bascule_reconcile_actions_total",
    "Actions that passes of reconciliation took on the kernel.",
    &[],
);
pub(super) const RECONCILE_REPAIRS: Family = counter(
    "bascule_reconcile_repairs_total",
    "Corrections of what somebody else changed, by kind of object.",
    &["kind"],
);
pub(super) const PROXY_OPENED: Family = counter(
    "bascule_proxy_opened_total",
    "Connections and UDP conversations that the agent took on itself.",
    &["proto"],
);
pub(super) const DNS_QUERIES: Family = counter(
    "bascule_dns_queries_total",
    "Questions about names that were answered: by the directory, from memory, or by others.",
    &["network", "source", "rcode"],
);
pub(super) const DNS_REFUSED: Family = counter(
    "bascule_dns_refused_total",
    "Questions and connections that were not taken, by reason.",
    &["reason"],
);
pub(super) const DNS_SILENT: Family = counter(
    "bascule_dns_upstream_silent_total",
    "Questions that a name server of others did not answer.",
    &["server"],
);
pub(super) const PROXY_REFUSED: Family = counter(
    "bascule_proxy_refused_total",
    "Connections that the proxy reset and datagrams that it dropped, by reason.",
    &["proto", "reason"],
);
pub(super) const POLICY_VERDICTS: Family = counter(
    "bascule_policy_verdicts_total",
    "Verdicts of policy: allow counts connections that no rule forbade, deny packets that a rule dropped.",
    &["verdict", "rule"],
);
pub(super) const LEFT_OUT: Family = gauge(
    "bascule_metrics_left_out",
    "Objects that have no series of their own, because there are too many of their kind.",
    &["kind"],
);
pub(super) const CONNTRACK_CAPACITY: Family =
    gauge("bascule_conntrack_capacity", "Entries that the connection table has room for.", &[]);
pub(super) const CONNTRACK_OPENED: Family = counter(
    "bascule_conntrack_opened_total",
    "Connections that were entered in the connection table.",
    &[],
);
pub(super) const CONNTRACK_ADOPTED: Family = counter(
    "bascule_conntrack_adopted_total",
    "Connections that had lost one of their two entries and got it back.",
    &[],
);
pub(super) const CONNTRACK_EARLY_DROPS: Family = counter(
    "bascule_conntrack_early_drops_total",
    "Connections that were still half open when later ones needed their place: a flood, or too small a table.",
    &[],
);
pub(super) const NAT_PORT_EXHAUSTED: Family = counter(
    "bascule_nat_port_exhausted_total",
    "Connections that found no free port to be masqueraded with.",
    &[],
);
pub(super) const EVENTS_LOST: Family = counter(
    "bascule_events_lost_total",
    "Events that were not reported: the ring was full, or the rate limit reached.",
    &[],
);
pub(super) const HANDOVERS: Family = counter(
    "bascule_kernel_handovers_total",
    "Packets that were left to the kernel's own bridge or stack, by reason.",
    &["reason"],
);
pub(super) const MAP_PRESSURE: Family = gauge(
    "bascule_map_pressure_ratio",
    "Share of a map's entries that is in use, from 0 to 1.",
    &["map"],
);
pub(super) const PROGRAM_INFO: Family = gauge(
    "bascule_program_info",
    "A program that is attached: always 1.",
    &["iface", "hook", "mode", "program"],
);
pub(super) const NETWORK_INFO: Family =
    gauge("bascule_network_info", "A network: always 1.", &["network", "id", "subnet", "bridge"]);
pub(super) const NETWORK_IPS_IN_USE: Family = gauge(
    "bascule_network_ips_in_use",
    "Addresses of a network that are taken, the gateway's included.",
    &["network"],
);
pub(super) const NETWORK_IPS_AVAILABLE: Family =
    gauge("bascule_network_ips_available", "Addresses of a network that are free.", &["network"]);

pub(super) const DENY_PACKETS: Family = counter(
    "bascule_deny_packets_total",
    "Packets that were dropped because the deny list names their source, by prefix.",
    &["prefix"],
);
pub(super) const DENY_BYTES: Family = counter(
    "bascule_deny_bytes_total",
    "Bytes that were dropped because the deny list names their source, by prefix.",
    &["prefix"],
);

const PODMAN_LABELS: &[&str] = &["id", "name"];

/// What Podman's exporter calls the same: bytes, packets, drops and errors in, and out.
pub(super) const PODMAN: [Family; 8] = [
    counter("podman_container_net_input_total", "Container network input bytes.", PODMAN_LABELS),
    counter(
        "podman_container_net_input_packets_total",
        "Container network input packets.",
        PODMAN_LABELS,
    ),
    counter(
        "podman_container_net_input_dropped_total",
        "Container network input dropped packets.",
        PODMAN_LABELS,
    ),
    counter(
        "podman_container_net_input_errors_total",
        "Container network input errors.",
        PODMAN_LABELS,
    ),
    counter("podman_container_net_output_total", "Container network output bytes.", PODMAN_LABELS),
    counter(
        "podman_container_net_output_packets_total",
        "Container network output packets.",
        PODMAN_LABELS,
    ),
    counter(
        "podman_container_net_output_dropped_total",
        "Container network output dropped packets.",
        PODMAN_LABELS,
    ),
    counter(
        "podman_container_net_output_errors_total",
        "Container network output errors.",
        PODMAN_LABELS,
    ),
];

/// All of them.
pub(super) const ALL: [Family; 41] = [
    ENDPOINT_BYTES,
    ENDPOINT_PACKETS,
    ENDPOINT_DROPS,
    ENDPOINT_DROP_BYTES,
    HOST_DROPS,
    HOST_DROP_BYTES,
    PORT_BYTES,
    PORT_PACKETS,
    PORT_CONNECTIONS,
    CONNTRACK_CAPACITY,
    CONNTRACK_OPENED,
    CONNTRACK_ADOPTED,
    CONNTRACK_EARLY_DROPS,
    NAT_PORT_EXHAUSTED,
    EVENTS_LOST,
    HANDOVERS,
    MAP_PRESSURE,
    PROGRAM_INFO,
    NETWORK_INFO,
    NETWORK_IPS_IN_USE,
    NETWORK_IPS_AVAILABLE,
    DENY_PACKETS,
    DENY_BYTES,
    PORT_ACTIVE,
    CONNTRACK_ENTRIES,
    CONNTRACK_CONNECTIONS,
    GC_RUNS,
    GC_DELETED,
    NAT_CONNECTIONS,
    NAT_PORTS_IN_USE,
    NAT_PORTS_CAPACITY,
    RECONCILE_PASSES,
    RECONCILE_ACTIONS,
    LEFT_OUT,
    RECONCILE_REPAIRS,
    PROXY_OPENED,
    PROXY_REFUSED,
    DNS_QUERIES,
    DNS_REFUSED,
    DNS_SILENT,
    POLICY_VERDICTS,
];

impl Family {
    /// The registry's description.
    pub(super) fn desc(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.into(), self.help.into(), labels, Default::default())
    }

    /// The family with its samples; values of labels in the order of the table.
    pub(super) fn with(
        &self,
        samples: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(self.kind);
        family.set_metric(samples.into_iter().map(|(values, v)| self.sample(values, v)).collect());
        family
    }

    fn sample(&self, values: Vec<String>, value: f64) -> Metric {
        debug_assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}
