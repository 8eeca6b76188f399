//! From what is desired to what is shown, in Docker's shapes.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use self::settings::{network_settings, networks};
use super::{
    proto::{self, Map},
    route::ApiVersion,
};
use crate::{
    model::{self, Attachment, Desired, Family, Mode, PublishedRule},
    reconcile::{Places, usage},
    state::find::{self, Found},
};

/// Docker's word for never.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(timestamp: Timestamp) -> String {
    format!("{timestamp:.9}")
}

fn time_or_never(timestamp: Option<Timestamp>) -> String {
    timestamp.map_or_else(|| NEVER.to_owned(), time)
}

/// Shows a network; in full with its endpoints and the use of its addresses.
pub(super) fn network(desired: &Desired, found: Found<'_>, full: bool) -> proto::Network {
    let mut shown = proto::Network {
        name: found.name().to_owned(),
        id: found.id().to_string(),
        scope: "local".to_owned(),
        enable_ipv4: true,
        ..proto::Network::default()
    };
    match found {
        Found::Host(_) | Found::None(_) => {
            let host = matches!(found, Found::Host(_));
            shown.driver = if host { "host" } else { "null" }.to_owned();
            shown.created = time(desired.predefined.created);
            if full {
                shown.containers = alone(desired, if host { Mode::Host } else { Mode::None });
            }
        }
        Found::Bridge(network) => bridge(desired, network, full, &mut shown),
        Found::Config(network) => config(network, &mut shown),
    }
    shown
}

/// Shows a network that is a configuration only; Docker's driver is `null` then.
fn config(network: &model::ConfigNetwork, shown: &mut proto::Network) {
    shown.driver = "null".to_owned();
    shown.created = time(network.created);
    shown.config_only = true;
    shown.options.clone_from(&network.options);
    shown.labels.clone_from(&network.labels);
    shown.enable_ipv4 = !network.without_ipv4;
    shown.enable_ipv6 = network.ipv6.unwrap_or(false);
    shown.ipam.options.clone_from(&network.ipam_options);
    let subnets = network.subnets.iter().map(|wishes| proto::IpamConfig {
        subnet: wishes.subnet.clone(),
        ip_range: wishes.ip_range.clone(),
        gateway: wishes.gateway.clone(),
        auxiliary_addresses: wishes.auxiliary.clone(),
    });
    shown.ipam.config = subnets.collect();
}

fn bridge(desired: &Desired, network: &model::Network, full: bool, shown: &mut proto::Network) {
    shown.driver = if network.plugged { "bascule" } else { "bridge" }.to_owned();
    shown.created = time(network.created);
    shown.internal = network.internal;
    shown.attachable = network.attachable;
    let from = network.config_from.as_ref().map(ToString::to_string);
    shown.config_from = proto::ConfigReference { network: from.unwrap_or_default() };
    shown.ipam.options.clone_from(&network.ipam_options);
    shown.options.clone_from(&network.options.verbatim);
    shown.labels.clone_from(&network.labels);
    shown.enable_ipv4 = network.ipv4.is_some();
    shown.enable_ipv6 = network.ipv6.is_some();
    shown.ipam.config = network.pools().map(pool).collect();
    if !full {
        return;
    }
    for (container, attachment) in desired.attachments(network.id) {
        let Some(endpoint) = &attachment.endpoint else { continue };
        let shown_endpoint = proto::NetworkContainer {
            name: container.name.to_string(),
            endpoint_id: endpoint.id.to_string(),
            mac_address: endpoint.mac.to_string(),
            ipv4_address: with_prefix(network, endpoint, Family::V4),
            ipv6_address: with_prefix(network, endpoint, Family::V6),
        };
        shown.containers.insert(container.id.to_string(), shown_endpoint);
    }
    let status = |pool: &model::Pool| {
        let (ips_in_use, dynamic_ips_available) = usage(desired, network, pool);
        let status = proto::SubnetStatus { ips_in_use, dynamic_ips_available };
        (pool.subnet.to_string(), status)
    };
    let subnets = network.pools().map(status).collect();
    shown.status = Some(proto::NetworkStatus { ipam: proto::IpamStatus { subnets } });
}

fn pool(pool: &model::Pool) -> proto::IpamConfig {
    let auxiliary = pool.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string()));
    proto::IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool.ip_range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: auxiliary.collect(),
    }
}

/// Writes an endpoint's address of a family with its prefix length; empty where there is none.
fn with_prefix(network: &model::Network, endpoint: &model::Endpoint, family: Family) -> String {
    let address = || network.pool(family)?.with_prefix(endpoint.address(family)?);
    address().map(|address| address.to_string()).unwrap_or_default()
}

/// Writes what leads to a published port of the host; where none does, the port is empty, as with Docker.
fn binding(rule: &PublishedRule, port: u16) -> proto::PortBinding {
    let host_port = if rule.routed { String::new() } else { port.to_string() };
    proto::PortBinding { host_ip: rule.host_ip.to_string(), host_port }
}

fn alone(desired: &Desired, mode: Mode) -> BTreeMap<String, proto::NetworkContainer> {
    let running = desired.containers.values().filter(|c| c.mode == mode && c.running().is_some());
    let shown = running.map(|c| {
        let name = c.name.to_string();
        (c.id.to_string(), proto::NetworkContainer { name, ..proto::NetworkContainer::default() })
    });
    shown.collect()
}

/// Shows a container in full.
pub(super) fn container(
    desired: &Desired,
    places: &Places,
    container: &model::Container,
    error: Option<String>,
) -> proto::Container {
    let mut command = container.command.iter().cloned();
    let running = container.running();
    let links =
        container.links.iter().map(|l| format!("/{}:/{}/{}", l.container, container.name, l.alias));
    let naming = &container.naming;
    let file = |name: &str| file(desired, places, container, name);
    proto::Container {
        id: container.id.to_string(),
        created: time(container.created),
        path: command.next().unwrap_or_default(),
        args: command.collect(),
        state: proto::ContainerState {
            status: container.status().to_owned(),
            running: running.is_some(),
            paused: false,
            pid: running.and_then(|r| r.process).map_or(0, |p| p.pid),
            exit_code: container.exit_code.unwrap_or(0),
            error: error.unwrap_or_default(),
            started_at: time_or_never(container.started_at),
            finished_at: time_or_never(container.finished_at),
        },
        name: format!("/{}", container.name),
        host_config: proto::HostConfig {
            network_mode: network_mode(container),
            port_bindings: bindings(container),
            links: links.collect(),
            dns: texts(&naming.resolver.servers),
            dns_options: naming.resolver.options.clone(),
            dns_search: naming.resolver.search.clone(),
            extra_hosts: texts(&naming.extra_hosts),
            auto_remove: container.auto_remove,
        },
        config: proto::ContainerConfig {
            hostname: container.hostname.clone(),
            domainname: naming.domainname.clone(),
            env: container.env.clone(),
            labels: container.labels.clone(),
            exposed_ports: single(container).map(|port| (port, proto::Empty {})).collect(),
        },
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        network_settings: network_settings(desired, places, container),
    }
}

/// Returns the path of a container's file: its own, or that of the container whose network it has.
fn file(desired: &Desired, places: &Places, container: &model::Container, name: &str) -> String {
    let Some(holder) = desired.host_of(container).filter(|c| c.started_at.is_some()) else {
        return String::new();
    };
    places.files(holder.id).join(name).display().to_string()
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Shows a container as an older version of the API did: before 1.45 the short id was among its aliases.
pub(super) fn as_of(
    version: ApiVersion,
    container: &model::Container,
    shown: &mut proto::Container,
) {
    if version >= ApiVersion(1, 45) {
        return;
    }
    for settings in shown.network_settings.networks.values_mut() {
        if settings.dns_names.is_some() {
            settings.aliases.push(container.id.short());
        }
    }
}

/// Returns Docker's word for how a container is on the network.
pub(super) fn network_mode(container: &model::Container) -> String {
    match container.mode {
        Mode::None => find::NONE.to_owned(),
        Mode::Host => find::HOST.to_owned(),
        Mode::Container(other) => format!("container:{other}"),
        Mode::Networks => {
            container.attachments.first().map(|a| a.network_name.to_string()).unwrap_or_default()
        }
    }
}

fn bindings(container: &model::Container) -> BTreeMap<String, Vec<proto::PortBinding>> {
    let mut bindings: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for spec in &container.publish {
        for (at, port) in spec.container.ports().enumerate() {
            let host_port = spec.host.and_then(|host| host.ports().nth(at));
            let binding = proto::PortBinding {
                host_ip: spec.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                host_port: host_port.map(|p| p.to_string()).unwrap_or_default(),
            };
            bindings.entry(format!("{port}/{}", spec.proto)).or_default().push(binding);
        }
    }
    bindings
}

/// Returns every served port for itself, as `80/tcp`.
fn single(container: &model::Container) -> impl Iterator<Item = String> {
    container
        .served()
        .into_iter()
        .flat_map(|e| e.ports.ports().map(move |port| format!("{port}/{}", e.proto)))
}

/// Returns the ports of a running container's rules: container port, host port, rule.
fn published(container: &model::Container) -> impl Iterator<Item = (u16, u16, &PublishedRule)> {
    let rules = container.running().into_iter().flat_map(|r| &r.rules);
    rules.flat_map(|rule| {
        rule.container.ports().zip(rule.host.ports()).map(move |(c, h)| (c, h, rule))
    })
}

/// Shows a container in a list.
pub(super) fn summary(
    desired: &Desired,
    container: &model::Container,
    now: Timestamp,
) -> proto::ContainerSummary {
    let mut ports: Vec<_> = published(container)
        .map(|(inner, outer, rule)| proto::PortSummary {
            ip: (!rule.routed).then(|| rule.host_ip.to_string()),
            private_port: inner,
            public_port: (!rule.routed).then_some(outer),
            r#type: rule.proto.to_string(),
        })
        .collect();
    let mut shown: BTreeSet<_> =
        published(container).map(|(inner, _, rule)| (rule.proto, inner)).collect();
    for served in container.served() {
        let open = served.ports.ports().filter(|port| shown.insert((served.proto, *port)));
        ports.extend(open.map(|private_port| proto::PortSummary {
            private_port,
            r#type: served.proto.to_string(),
            ..proto::PortSummary::default()
        }));
    }
    ports.sort();
    proto::ContainerSummary {
        id: container.id.to_string(),
        names: vec![format!("/{}", container.name)],
        image: String::new(),
        command: container.command.join(" "),
        created: container.created.as_second(),
        ports: if container.running().is_some() { ports } else { Vec::new() },
        labels: container.labels.clone(),
        state: container.status().to_owned(),
        status: status(container, now),
        host_config: proto::SummaryHostConfig { network_mode: network_mode(container) },
        network_settings: proto::SummaryNetworks { networks: networks(desired, container) },
        ..proto::ContainerSummary::default()
    }
}

fn status(container: &model::Container, now: Timestamp) -> String {
    let ago =
        |since: Option<Timestamp>| since.map(|s| people(now.duration_since(s))).unwrap_or_default();
    match container.state {
        model::State::Created => "Created".to_owned(),
        model::State::Running(_) => format!("Up {}", ago(container.started_at)),
        model::State::Exited => {
            format!(
                "Exited ({}) {} ago",
                container.exit_code.unwrap_or(0),
                ago(container.finished_at)
            )
        }
    }
}

/// Writes a duration as Docker does for people.
fn people(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1_800) / 3_600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..2_760 => format!("{minutes} minutes"),
        2_760..5_400 => "About an hour".to_owned(),
        5_400..172_800 => format!("{hours} hours"),
        172_800..1_209_600 => format!("{} days", hours / 24),
        1_209_600..5_184_000 => format!("{} weeks", hours / 24 / 7),
        5_184_000..63_072_000 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Shows what a container has published.
pub(super) fn published_ports(container: &model::Container) -> Vec<proto::PublishedPort> {
    let rules = container.running().into_iter().flat_map(|r| &r.rules);
    let mut ports: Vec<_> = rules
        .map(|rule| proto::PublishedPort {
            container_port: rule.container.first(),
            proto: rule.proto.to_string(),
            host_ip: rule.host_ip.to_string(),
            host_port: if rule.routed { 0 } else { rule.host.first() },
            count: rule.host.count(),
        })
        .collect();
    ports.sort();
    ports
}

/// Shows a container that was started, with the network that it has: its own, or another's.
pub(super) fn started(
    desired: &Desired,
    places: &Places,
    container: &model::Container,
) -> Option<proto::ContainerStarted> {
    let sandbox = desired.host_of(container)?;
    let leads = |endpoint: &model::Endpoint, family| {
        desired.gateway(sandbox, family).is_some_and(|(_, first)| first.id == endpoint.id)
    };
    let endpoint = |place: &Attachment| -> Option<proto::StartedEndpoint> {
        let (endpoint, network) = (place.endpoint.as_ref()?, desired.networks.get(&place.network)?);
        let gateway = |family| {
            let gateway = network.gateway(family).filter(|_| leads(endpoint, family));
            gateway.map(|gateway| gateway.to_string()).unwrap_or_default()
        };
        Some(proto::StartedEndpoint {
            network: network.name.to_string(),
            interface: endpoint.interface.clone(),
            address: with_prefix(network, endpoint, Family::V4),
            gateway: gateway(Family::V4),
            address6: with_prefix(network, endpoint, Family::V6),
            gateway6: gateway(Family::V6),
            aliases: place.aliases.clone(),
        })
    };
    let netns = sandbox.has_namespace().then(|| places.namespace(sandbox).display().to_string());
    Some(proto::ContainerStarted {
        id: container.id.to_string(),
        name: container.name.to_string(),
        hostname: sandbox.hostname.clone(),
        sandbox_id: sandbox.id.to_string(),
        netns: netns.unwrap_or_default(),
        endpoints: sandbox.attachments.iter().filter_map(endpoint).collect(),
    })
}

/// Returns text by text.
pub(super) fn map<const N: usize>(pairs: [(&str, String); N]) -> Map {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
