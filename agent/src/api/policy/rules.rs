//! `GET /bascule/v1/policy`: what is allowed to whom, and why, in the order in which it is judged.
//!
//! What was asked for says why; what is in the maps says whether the data plane has it.

use std::collections::{BTreeMap, BTreeSet};

use bascule_common::abi::{DropReason, LinkKey, Port};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{context::Context, reply::Reply, request::Request};
use crate::{
    kernel::bpf::{BpfError, Table as _, Tables},
    model::{Container, Desired, Endpoint, Expose, Family, GatewayMode, Network, PublishedRule},
    state::{self, Rejected},
};

/// Something that is allowed or forbidden.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PolicyRule {
    /// What judges: `deny-list`, `published`, `isolation`, `internal`, `outbound`, `direct`, `link`, `icc`, `host`. Of
    /// two rules about the same packet, the first in the list decides.
    pub stage: String,
    /// `allow` or `deny`.
    pub verdict: String,
    /// Who opens the connection.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Which ports: `any`, `echo`, `5432/tcp`, or `0.0.0.0:8080->80/tcp`.
    pub ports: String,
    /// What drops of it are counted as.
    pub reason: String,
    /// The option, mapping or link that says so.
    pub why: String,
    /// The network that it is about; empty where it is about the host.
    pub network: String,
    /// The containers that it is about; none where it is about all of the network.
    pub containers: Vec<String>,
    /// Whether the data plane has it.
    pub applied: bool,
}

/// What the data plane has.
#[derive(Debug, Default)]
struct Plane {
    networks: BTreeMap<u32, u32>,
    rules: BTreeSet<u32>,
    links: BTreeSet<LinkKey>,
    denied: BTreeSet<u32>,
    mark: (u32, u32),
}

impl Plane {
    fn read(tables: &Tables) -> Result<Self, BpfError> {
        let mut denied = BTreeSet::new();
        tables.deny.v4.for_each(|_, value| denied.extend([value.slot]))?;
        tables.deny.v6.for_each(|_, value| denied.extend([value.slot]))?;
        let config = tables.config()?.unwrap_or_default();
        Ok(Self {
            networks: tables.networks.all()?.into_iter().map(|(k, v)| (k, v.flags)).collect(),
            rules: tables.rules.all()?.into_keys().collect(),
            links: tables.links.all()?.into_keys().collect(),
            denied,
            mark: (config.accept_mark, config.accept_mark_mask),
        })
    }

    /// Whether all switches that are on, and none that are off, are so in the data plane.
    fn has(&self, network: &Network, on: u32, off: u32) -> bool {
        self.networks.get(&network.index).is_some_and(|flags| flags & on == on && flags & off == 0)
    }
}

/// Lists the rules; `network` and `container` of the query narrow them down.
pub(in crate::api) fn list(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = context.handle.shared.get().desired.clone();
    let plane = Plane::read(&context.tables).map_err(Rejected::internal)?;
    let mut rules = rules(&desired, &plane);
    if let Some(reference) = request.value("network") {
        let name = state::find::network(&desired, reference)?.name().to_owned();
        rules.retain(|rule| rule.network.is_empty() || rule.network == name);
    }
    if let Some(reference) = request.value("container") {
        let container = state::find::container(&desired, reference)?;
        let name = container.name.to_string();
        let networks: BTreeSet<_> =
            container.attachments.iter().map(|a| a.network_name.to_string()).collect();
        rules.retain(|rule| match rule.containers.as_slice() {
            [] => rule.network.is_empty() || networks.contains(&rule.network),
            containers => containers.contains(&name),
        });
    }
    Reply::json(200, &rules)
}

/// Says what is allowed to whom.
fn rules(desired: &Desired, plane: &Plane) -> Vec<PolicyRule> {
    let mut rules: Vec<_> = desired.denials.values().map(|denial| denied(denial, plane)).collect();
    for (container, rule) in state::rules(desired) {
        rules.push(published(desired, container, rule, plane));
    }
    for network in desired.networks.values() {
        between_networks(network, plane, &mut rules);
    }
    for network in desired.networks.values() {
        if !network.options.icc {
            linked(desired, network, plane, &mut rules);
        }
        within(network, plane, &mut rules);
    }
    for network in desired.networks.values() {
        with_host(network, plane, &mut rules);
    }
    rules
}

const ALLOW: &str = "allow";
const DENY: &str = "deny";
const ANY: &str = "any";

fn rule(stage: &str, from: &str, to: &str, why: impl Into<String>) -> PolicyRule {
    PolicyRule {
        stage: stage.to_owned(),
        verdict: ALLOW.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        ports: ANY.to_owned(),
        why: why.into(),
        applied: true,
        ..PolicyRule::default()
    }
}

impl PolicyRule {
    fn forbidden(self, reason: DropReason) -> Self {
        Self { verdict: DENY.to_owned(), reason: reason.label().to_owned(), ..self }
    }

    fn ports(self, ports: impl ToString) -> Self {
        Self { ports: ports.to_string(), ..self }
    }

    fn of(self, network: &Network, applied: bool) -> Self {
        Self { network: network.name.to_string(), applied, ..self }
    }
}

fn denied(denial: &crate::model::Denial, plane: &Plane) -> PolicyRule {
    let why = match denial.comment.as_str() {
        "" => "bascule policy deny add".to_owned(),
        comment => format!("bascule policy deny add: {comment}"),
    };
    let rule = rule("deny-list", &denial.prefix.to_string(), "everyone, by an uplink", why);
    PolicyRule {
        applied: plane.denied.contains(&denial.slot),
        ..rule.forbidden(DropReason::DenyCidr)
    }
}

fn named(container: &Container) -> String {
    format!("container {}", container.name)
}

fn of_network(network: &Network) -> String {
    format!("network {}", network.name)
}

fn published(
    desired: &Desired,
    container: &Container,
    published: &PublishedRule,
    plane: &Plane,
) -> PolicyRule {
    let PublishedRule { host, container: inside, proto, .. } = published;
    let (ports, why) = if published.routed {
        (format!("{inside}/{proto}"), "published with -p, and the network is routed")
    } else {
        let ip = match published.host_ip {
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        (format!("{ip}:{host}->{inside}/{proto}"), "published with -p")
    };
    let gateway = desired.gateway(container, published.family()).map(|(id, _)| id);
    let network = gateway.and_then(|id| desired.networks.get(&id));
    PolicyRule {
        network: network.map(|n| n.name.to_string()).unwrap_or_default(),
        containers: vec![container.name.to_string()],
        applied: plane.rules.contains(&published.index),
        ..rule("published", "everyone", &named(container), why).ports(ports)
    }
}

/// Returns how the families that a network has are joined to the outside, those of one kind together.
fn modes(network: &Network) -> Vec<(GatewayMode, String)> {
    let has = |family: &Family| network.pool(*family).is_some();
    let families: Vec<_> = Family::ALL.into_iter().filter(has).collect();
    match families.as_slice() {
        [v4, v6] if network.mode(*v4) != network.mode(*v6) => {
            families.iter().map(|f| (network.mode(*f), format!(" by {f}"))).collect()
        }
        [first, ..] => vec![(network.mode(*first), String::new())],
        [] => Vec::new(),
    }
}

/// From and to other networks and the outside.
fn between_networks(network: &Network, plane: &Plane, rules: &mut Vec<PolicyRule>) {
    use bascule_common::abi::Network as N;
    let own = of_network(network);
    let there = plane.networks.contains_key(&network.index);
    let isolated =
        rule("isolation", &own, "other networks", "networks are isolated from each other");
    rules.push(isolated.forbidden(DropReason::PolicyIsolation).of(network, there));
    if network.internal {
        let applied = plane.has(network, N::INTERNAL, 0);
        let why = "the network is internal (--internal)";
        for (from, to, reason) in [
            (own.as_str(), "outside", DropReason::PolicyInternal),
            ("outside", own.as_str(), DropReason::DirectRoutingBlocked),
        ] {
            rules.push(rule("internal", from, to, why).forbidden(reason).of(network, applied));
        }
        return;
    }
    let masqueraded =
        plane.has(network, N::MASQUERADE4, 0) || plane.has(network, N::MASQUERADE6, 0);
    for (mode, by) in modes(network) {
        let out = match mode {
            GatewayMode::Routed => "with the containers' own addresses: the network is routed",
            _ if masqueraded => "masqueraded",
            _ => "with the containers' own addresses: masquerade is off",
        };
        rules.push(rule("outbound", &own, &format!("outside{by}"), out).of(network, there));
    }
    for interface in &network.options.trusted {
        let why = "com.docker.network.bridge.trusted_host_interfaces";
        let rule = rule("direct", &format!("outside, by {interface}"), &own, why);
        rules.push(rule.of(network, plane.has(network, N::HAS_TRUSTED, 0)));
    }
    if plane.mark.1 != 0 {
        let from = format!("outside, with the mark {:#x}/{:#x}", plane.mark.0, plane.mark.1);
        rules.push(rule("direct", &from, &own, "--bridge-accept-fwmark").of(network, there));
    }
    for (mode, by) in modes(network) {
        directly(network, mode, &by, plane, rules);
    }
}

/// Who addresses a container directly.
fn directly(
    network: &Network,
    mode: GatewayMode,
    by: &str,
    plane: &Plane,
    rules: &mut Vec<PolicyRule>,
) {
    use bascule_common::abi::Network as N;
    const BLOCKED: DropReason = DropReason::DirectRoutingBlocked;
    let to = format!("{}{by}", of_network(network));
    let there = plane.networks.contains_key(&network.index);
    let outside = |why: &str| rule("direct", "outside", &to, why).of(network, there);
    match mode {
        GatewayMode::NatUnprotected => {
            rules.push(outside("gateway mode nat-unprotected: every port at its own address"));
            return;
        }
        GatewayMode::Routed => {
            let why = "gateway mode routed";
            rules.push(PolicyRule {
                from: "outside and other networks".to_owned(),
                ..outside(why).ports("echo")
            });
            rules.push(outside("gateway mode routed: only what is published").forbidden(BLOCKED));
            return;
        }
        GatewayMode::Nat | GatewayMode::Isolated => {}
    }
    if plane.has(network, N::DIRECT4, 0) || plane.has(network, N::DIRECT6, 0) {
        rules.push(outside("--allow-direct-routing").ports("what is published"));
    }
    let why = match mode {
        GatewayMode::Isolated => "gateway mode isolated",
        _ => "gateway mode nat: containers are reached by published ports alone",
    };
    rules.push(outside(why).forbidden(BLOCKED));
}

/// Between the containers of a network.
fn within(network: &Network, plane: &Plane, rules: &mut Vec<PolicyRule>) {
    use bascule_common::abi::Network as N;
    const OPTION: &str = "com.docker.network.bridge.enable_icc";
    let own = of_network(network);
    rules.push(if network.options.icc {
        let why = match network.options.verbatim.get(OPTION) {
            Some(value) => format!("{OPTION}={value}"),
            None => format!("{OPTION} is true unless set"),
        };
        rule("icc", &own, &own, why).of(network, plane.has(network, N::ICC, 0))
    } else {
        let why = match network.options.verbatim.get(OPTION) {
            Some(value) => format!("{OPTION}={value}; links open ports"),
            None => "the agent's --icc=false; links open ports".to_owned(),
        };
        let applied = plane.has(network, 0, N::ICC);
        rule("icc", &own, &own, why).forbidden(DropReason::PolicyIcc).of(network, applied)
    });
}

/// What links open where ICC is off.
fn linked(desired: &Desired, network: &Network, plane: &Plane, rules: &mut Vec<PolicyRule>) {
    let by_name: BTreeMap<_, _> = desired.containers.values().map(|c| (&c.name, c)).collect();
    for (from, place) in desired.attachments(network.id) {
        for link in from.links.iter().chain(&place.links) {
            let Some(to) = by_name.get(&link.container) else { continue };
            let Some(server) = to.attachment(network.id) else { continue };
            for served in to.served() {
                let ends = place.endpoint.as_ref().zip(server.endpoint.as_ref());
                let applied = ends.is_some_and(|(client, server)| {
                    keys(client, server, served).all(|key| plane.links.contains(&key))
                });
                let why = format!("--link {link} of {}", from.name);
                rules.push(PolicyRule {
                    containers: vec![from.name.to_string(), to.name.to_string()],
                    ..rule("link", &named(from), &named(to), why).ports(served).of(network, applied)
                });
            }
        }
    }
}

fn keys(client: &Endpoint, server: &Endpoint, served: Expose) -> impl Iterator<Item = LinkKey> {
    let (from, to, proto) = (client.index, server.index, served.proto.number());
    let ports = served.ports.ports();
    ports.map(move |port| LinkKey { from, to, port: Port::new(port), proto, pad: 0, reserved: 0 })
}

/// Between a network and the host itself.
fn with_host(network: &Network, plane: &Plane, rules: &mut Vec<PolicyRule>) {
    if network.on_bridge().is_empty() {
        return;
    }
    let own = of_network(network);
    let there = plane.networks.contains_key(&network.index);
    let (to, why) = if network.internal {
        ("host, at the gateway's address", "an internal network reaches its own gateway alone")
    } else {
        ("host", "the host's own firewall may say otherwise")
    };
    rules.push(rule("host", &own, to, why).of(network, there));
    let why = "the host has an address on the network";
    rules.push(rule("host", "host", &own, why).of(network, there));
}
