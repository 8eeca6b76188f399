//! Publishing: which ports of the host lead to a container that starts.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Facts, Rejected,
    lifecycle::{forget_tables, rules},
    rejected,
};
use crate::model::{
    Container, ContainerId, Desired, Expose, Family, GatewayMode, PortRange, PublishSpec,
    PublishedRule, ipam,
};

const TABLES: u32 = bascule_common::abi::service::TABLES;
const FIRST_TABLE: u32 = bascule_common::abi::service::FIRST_OWN_TABLE;

/// Where a family of a container's ports is published.
pub(super) struct Way {
    family: Family,
    /// Address that is taken where a mapping names none.
    binding: Option<IpAddr>,
    /// Whether no port of the host leads there.
    routed: bool,
}

/// Publishes what a container wants published, by the ways out that its networks give it now, all or nothing:
/// what is published by another way is withdrawn, and keeps its port where that can be. Returns what the
/// operator should know.
pub(super) fn publish(
    desired: &mut Desired,
    id: ContainerId,
    facts: &Facts,
) -> Result<Vec<String>, Rejected> {
    let Some(container) = desired.containers.get(&id) else { return Ok(Vec::new()) };
    let rules = container.running().map(|r| r.rules.clone()).unwrap_or_default();
    let ways = withdraw(desired, id);
    let Some(container) = desired.containers.get(&id).filter(|_| !ways.is_empty()) else {
        return Ok(Vec::new());
    };
    let first = Family::ALL.into_iter().find_map(|family| desired.gateway(container, family));
    let Some((_, endpoint)) = first else { return Ok(Vec::new()) };
    let (name, endpoint) = (container.name.clone(), endpoint.id);
    // To what Docker was told, Docker adds the rest itself.
    let plugged = container.is_plugged();
    let refuse = |why: String| match plugged {
        true => Rejected::conflict(why),
        false => Rejected::port(name.as_str(), &endpoint.to_string(), why),
    };
    let mut warnings = Vec::new();
    // Named ports first: a chosen one must not take them away.
    let (named, chosen): (Vec<_>, Vec<_>) =
        specs(container).into_iter().partition(|s| s.host.is_some());
    for mut spec in named.into_iter().chain(chosen) {
        // What was chosen for one family, or for the way before this one, is this one's as well.
        let other = |rule: &&PublishedRule| {
            !rule.routed && (rule.container, rule.proto) == (spec.container, spec.proto)
        };
        let asked = spec.host;
        let may_be = |host: &PortRange| match spec.pool() {
            Some(pool) => pool.covers(*host),
            None => asked.is_none(),
        };
        let kept = rules.iter().find(other).map(|rule| rule.host).filter(may_be);
        spec.host = kept.or(asked);
        let mut found = published(desired, &spec, &ways, facts, &mut warnings);
        if found.is_err() && kept.is_some() && stays_free(&rules, &ways) {
            spec.host = asked;
            found = published(desired, &spec, &ways, facts, &mut warnings);
        }
        for rule in found.map_err(refuse)? {
            let limit = bascule_common::abi::names::map::RULES_LEN;
            let index = desired.indices.rules.take();
            let index = index.ok_or_else(|| Rejected::exhausted("published ranges", limit))?;
            if !rule.routed {
                table(desired, rule.host_ip).map_err(refuse)?;
            }
            if let Some(running) = desired.containers.get_mut(&id).and_then(Container::running_mut)
            {
                running.rules.push(PublishedRule { index, ..rule });
            }
        }
    }
    Ok(warnings)
}

/// Returns whether a chosen port may become another one: no family that stays has it.
fn stays_free(rules: &[PublishedRule], ways: &[Way]) -> bool {
    rules.iter().all(|rule| ways.iter().any(|way| way.family == rule.family()))
}

/// Withdraws what is published by a way out that is none any more, or another one. Returns the ways that
/// nothing is published by yet.
pub(super) fn withdraw(desired: &mut Desired, id: ContainerId) -> Vec<Way> {
    let Some(container) = desired.containers.get(&id) else { return Vec::new() };
    let Some(running) = container.running() else { return Vec::new() };
    let specs = specs(container);
    let (stand, new): (Vec<_>, Vec<_>) =
        ways(desired, container).into_iter().partition(|way| fits(&specs, way, &running.rules));
    let stays = |rule: &PublishedRule| stand.iter().any(|way| way.family == rule.family());
    let (stay, gone): (Vec<_>, Vec<_>) = running.rules.iter().copied().partition(stays);
    if !gone.is_empty() {
        if let Some(running) = desired.containers.get_mut(&id).and_then(Container::running_mut) {
            running.rules = stay;
        }
        for rule in gone {
            desired.indices.rules.free(rule.index);
        }
        forget_tables(desired);
    }
    new
}

/// Returns whether what is published in a family is what a way out asks for.
fn fits(specs: &BTreeSet<PublishSpec>, way: &Way, rules: &[PublishedRule]) -> bool {
    let mut left: Vec<_> = rules.iter().filter(|rule| rule.family() == way.family).collect();
    let is_published = !left.is_empty();
    for spec in specs {
        let Some(ip) = host_address(spec, way) else { continue };
        let (ip, host) = match way.routed {
            true => (way.family.unspecified(), Some(spec.container)),
            false => (ip, spec.host),
        };
        let wanted = (ip, spec.container, spec.proto, way.routed);
        let is_it = |rule: &&PublishedRule| {
            (rule.host_ip, rule.container, rule.proto, rule.routed) == wanted
                && host.is_none_or(|host| {
                    host == rule.host || spec.pool().is_some_and(|pool| pool.covers(rule.host))
                })
        };
        let Some(at) = left.iter().position(is_it) else { return false };
        left.swap_remove(at);
    }
    is_published && left.is_empty()
}

/// Returns what a container wants published.
fn specs(container: &Container) -> BTreeSet<PublishSpec> {
    let mut specs: BTreeSet<PublishSpec> = container.publish.iter().copied().collect();
    if container.publish_all {
        let mapped: Vec<_> = specs.iter().map(|s| (s.container, s.proto)).collect();
        let open = container.expose.iter().filter(|e| !mapped.contains(&(e.ports, e.proto)));
        let chosen = |e: &Expose| PublishSpec {
            host_ip: None,
            host: None,
            container: e.ports,
            proto: e.proto,
        };
        specs.extend(open.map(chosen));
    }
    specs
}

fn ways(desired: &Desired, container: &Container) -> Vec<Way> {
    let way = |family| {
        let (network, _) = desired.gateway(container, family)?;
        let network = desired.networks.get(&network)?;
        let routed = network.mode(family) == GatewayMode::Routed;
        Some(Way { family, binding: network.options.host_binding, routed })
    };
    Family::ALL.into_iter().filter_map(way).collect()
}

/// Returns the rules of a mapping, one a family, without their places. A port that is chosen is the same in
/// both.
fn published(
    desired: &mut Desired,
    spec: &PublishSpec,
    ways: &[Way],
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<Vec<PublishedRule>, String> {
    let (mut open, mut addresses) = (Vec::new(), Vec::new());
    for way in ways {
        let Some(ip) = host_address(spec, way) else { continue };
        let port = format!("{}/{}", spec.container, spec.proto);
        if !way.routed {
            addresses.push(ip);
            continue;
        }
        if spec.host.is_some() {
            warnings.push(format!("{port}: Host port ignored, because NAT is disabled"));
        }
        let any = way.family.unspecified();
        if ip != any {
            warnings.push(format!("{port}: Using address {any} because NAT is disabled"));
        }
        open.push(any);
    }
    if open.is_empty() && addresses.is_empty() {
        warnings.push(format!(
            "{spec} is not published: the container has no address of that family on a network with a way out"
        ));
        return Ok(Vec::new());
    }
    let rule = |host_ip, host, routed| PublishedRule {
        index: 0,
        host_ip,
        host,
        container: spec.container,
        proto: spec.proto,
        routed,
        named: spec.host_ip.is_some(),
    };
    let mut rules: Vec<_> = open.into_iter().map(|ip| rule(ip, spec.container, true)).collect();
    if !addresses.is_empty() {
        let host = host_ports(desired, *spec, &addresses, facts)?;
        rules.extend(addresses.into_iter().map(|ip| rule(ip, host, false)));
    }
    Ok(rules)
}

/// Returns the host address that a mapping is published on in a family, if it is: one that is named, or that
/// the network names, is of one family, and the wildcard is of both.
fn host_address(spec: &PublishSpec, way: &Way) -> Option<IpAddr> {
    let ip = spec.host_ip.or(way.binding).unwrap_or(way.family.unspecified());
    (Family::of(ip) == way.family).then_some(ip)
}

fn host_ports(
    desired: &mut Desired,
    spec: PublishSpec,
    addresses: &[IpAddr],
    facts: &Facts,
) -> Result<PortRange, String> {
    let proto = spec.proto;
    let ours = |ip, ports| rules(desired).any(|(_, r)| r.clashes(ip, ports, proto));
    if let Some(ip) = addresses.iter().find(|ip| !facts.is_local(**ip)) {
        let port = spec.host.map_or(0, PortRange::first);
        return Err(rejected::port_refused(*ip, port, proto, "cannot assign requested address"));
    }
    let free_on = |ip, ports| !ours(ip, ports) && facts.holder(ip, ports, proto).is_none();
    let free_everywhere = |ports| addresses.iter().all(|ip| free_on(*ip, ports));
    let Some(wanted) = spec.host else {
        let free = |ports| free_everywhere(ports) && !facts.is_reserved(ports);
        let last = desired.indices.last_port;
        let found = ipam::next_ports(facts.choice, spec.container.count(), last, free)
            .ok_or_else(|| rejected::no_ports(addresses, spec.container, proto))?;
        desired.indices.last_port = Some(found.last());
        return Ok(found);
    };
    if let Some(pool) = spec.pool() {
        let mut single = pool.ports().filter_map(|port| PortRange::new(port, 1));
        if let Some(found) = single.find(|port| free_everywhere(*port)) {
            return Ok(found);
        }
        // What a process of the host holds is told first, as Docker does.
        let held = |ip: &IpAddr| Some((*ip, facts.holder(*ip, pool, proto)?));
        return Err(match addresses.iter().find_map(held) {
            Some((ip, port)) => rejected::port_refused(ip, port, proto, "address already in use"),
            None => rejected::port_allocated(
                *addresses.first().unwrap_or(&IpAddr::from([0; 4])),
                pool.first(),
            ),
        });
    }
    for ip in addresses.iter().copied() {
        if ours(ip, wanted) {
            let taken = |p: &u16| PortRange::new(*p, 1).is_some_and(|port| ours(ip, port));
            let first = wanted.ports().find(taken).unwrap_or(wanted.first());
            return Err(rejected::port_allocated(ip, first));
        }
        if let Some(port) = facts.holder(ip, wanted, proto) {
            return Err(rejected::port_refused(ip, port, proto, "address already in use"));
        }
    }
    Ok(wanted)
}

/// Gives an address that a mapping names a port table of its own.
pub(super) fn table(desired: &mut Desired, ip: IpAddr) -> Result<(), String> {
    let tables = &mut desired.indices.tables;
    if ip.is_unspecified() || tables.contains_key(&ip) {
        return Ok(());
    }
    let free = (FIRST_TABLE..TABLES).find(|t| !tables.values().any(|used| used == t));
    let free = free.ok_or_else(|| {
        format!(
            "ports are published on {} single host addresses already, the most there can be",
            TABLES - FIRST_TABLE
        )
    })?;
    tables.insert(ip, free);
    Ok(())
}
