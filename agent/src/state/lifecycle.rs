//! Containers start and end: what they are given while they run, and what they give back.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{Brought, Facts, Outcome, Rejected, container::network_of, find, rejected};
use crate::model::{
    Container, ContainerId, Desired, Endpoint, EndpointId, MacAddress, Mode, NamespaceId,
    NetworkId, PortRange, Process, PublishSpec, PublishedRule, Running, Sandbox, State, ipam,
};

/// Tables of ports: the first ones are not of one address.
const FIRST_TABLE: u32 = bascule_common::abi::service::FIRST_OWN_TABLE;
const TABLES: u32 = bascule_common::abi::service::TABLES;

pub(super) fn start(
    desired: &mut Desired,
    reference: &str,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let container = find::container(desired, reference)?;
    let id = container.id;
    if container.running().is_some() {
        return Ok(Outcome::Nothing);
    }
    if let Some(brought) = &facts.brought {
        may_bring(desired, Some(id), brought)?;
    } else if container.sandbox != Sandbox::Own {
        return Err(Rejected::internal("the brought namespace was not looked at"));
    }
    for attachment in &container.attachments {
        network_of(desired, attachment.network)?;
    }
    if let Some(container) = desired.containers.get_mut(&id) {
        let process = facts.brought.as_ref().and_then(|b| b.as_ref().ok()?.process);
        let running = Running { namespace: None, process, next_interface: 0, rules: Vec::new() };
        container.state = State::Running(running);
        container.started_at = Some(facts.now);
        container.finished_at = None;
        container.exit_code = None;
    }
    attach(desired, id, None, facts)?;
    publish(desired, id, facts)?;
    Ok(Outcome::Container(id, Vec::new()))
}

pub(super) fn stop(
    desired: &mut Desired,
    reference: &str,
    exit_code: Option<i32>,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let container = find::container(desired, reference)?;
    let id = container.id;
    if container.running().is_none() {
        // Whoever knows how it ended may tell after it was noticed.
        if let Some(container) = desired.containers.get_mut(&id).filter(|c| c.exit_code.is_none()) {
            container.exit_code = exit_code;
        }
        return Ok(Outcome::Nothing);
    }
    exit(desired, id, exit_code, facts);
    if desired.containers.get(&id).is_some_and(|c| c.auto_remove) {
        desired.containers.remove(&id);
    }
    Ok(Outcome::Container(id, Vec::new()))
}

pub(super) fn follow(
    desired: &mut Desired,
    reference: &str,
    process: Process,
) -> Result<Outcome, Rejected> {
    let id = find::container(desired, reference)?.id;
    let container =
        desired.containers.get_mut(&id).ok_or_else(|| Rejected::no_container(reference))?;
    let name = container.name.clone();
    match container.running_mut() {
        Some(running) => running.process = Some(process),
        None => return Err(Rejected::conflict(format!("container {name} is not running"))),
    }
    Ok(Outcome::Container(id, Vec::new()))
}

pub(super) fn brought_up(
    desired: &mut Desired,
    id: ContainerId,
    namespace: NamespaceId,
) -> Result<Outcome, Rejected> {
    let running = desired.containers.get_mut(&id).and_then(Container::running_mut);
    running.ok_or_else(|| Rejected::no_container(&id.to_string()))?.namespace = Some(namespace);
    Ok(Outcome::Container(id, Vec::new()))
}

/// Ends every running container that `which` picks.
pub(super) fn take_down(
    desired: &mut Desired,
    facts: &Facts,
    which: impl Fn(&Container, &Running) -> bool,
) -> Outcome {
    let picked: Vec<_> = desired
        .containers
        .values()
        .filter(|c| c.running().is_some_and(|running| which(c, running)))
        .map(|c| c.id)
        .collect();
    for id in &picked {
        exit(desired, *id, None, facts);
        if desired.containers.get(id).is_some_and(|c| c.auto_remove) {
            desired.containers.remove(id);
        }
    }
    if picked.is_empty() { Outcome::Nothing } else { Outcome::Pruned(Vec::new()) }
}

/// Ends a container: everything that it was given is given back.
pub(super) fn exit(desired: &mut Desired, id: ContainerId, exit_code: Option<i32>, facts: &Facts) {
    release_except(desired, id, &[]);
    if let Some(container) = desired.containers.get_mut(&id) {
        container.state = State::Exited;
        container.finished_at = Some(facts.now);
        container.exit_code = exit_code;
        for attachment in &mut container.attachments {
            attachment.endpoint = None;
        }
    }
    forget_tables(desired);
}

/// Gives back a container's numbers, those of the endpoints that are kept excepted. Rules go with the
/// last endpoint.
pub(super) fn release_except(desired: &mut Desired, id: ContainerId, kept: &[EndpointId]) {
    let Some(container) = desired.containers.get(&id) else { return };
    let endpoints: Vec<_> = container.endpoints().map(|(_, e)| (e.id, e.index)).collect();
    let rules: Vec<_> =
        container.running().iter().flat_map(|r| &r.rules).map(|r| r.index).collect();
    if !endpoints.iter().any(|(endpoint, _)| kept.contains(endpoint)) {
        for index in rules {
            desired.indices.rules.free(index);
        }
    }
    for (endpoint, index) in endpoints {
        if !kept.contains(&endpoint) {
            release(desired, index);
        }
    }
}

fn release(desired: &mut Desired, endpoint: u32) {
    desired.indices.endpoints.free(endpoint);
    desired.indices.generations.bump(endpoint);
}

/// Forgets the port tables of addresses that no mapping names any more.
pub(super) fn forget_tables(desired: &mut Desired) {
    let named: BTreeSet<_> = rules(desired).map(|(_, r)| r.host_ip).collect();
    desired.indices.tables.retain(|ip, _| named.contains(ip));
}

/// Gives a running container endpoints where it has none: on one network, or on all.
pub(super) fn attach(
    desired: &mut Desired,
    id: ContainerId,
    only: Option<NetworkId>,
    facts: &mut Facts,
) -> Result<(), Rejected> {
    let Some(container) = desired.containers.get(&id) else { return Ok(()) };
    if container.running().is_none() {
        return Ok(());
    }
    let wanting: Vec<_> = container
        .attachments
        .iter()
        .filter(|a| a.endpoint.is_none() && only.is_none_or(|network| network == a.network))
        .map(|a| (a.network, a.static_ip, a.static_mac))
        .collect();
    for (network, ip, mac) in wanting {
        let endpoint = endpoint(desired, id, network, (ip, mac), facts)?;
        let Some(container) = desired.containers.get_mut(&id) else { continue };
        if let Some(place) = container.attachments.iter_mut().find(|a| a.network == network) {
            place.endpoint = Some(endpoint);
        }
    }
    Ok(())
}

fn endpoint(
    desired: &mut Desired,
    container: ContainerId,
    network: NetworkId,
    (ip, mac): (Option<Ipv4Addr>, Option<MacAddress>),
    facts: &mut Facts,
) -> Result<Endpoint, Rejected> {
    let ip = match ip {
        Some(ip) => ip,
        None => next_address(desired, network)?,
    };
    let limit = bascule_common::abi::names::map::ENDPOINT_INDICES;
    let index =
        desired.indices.endpoints.take().ok_or_else(|| Rejected::exhausted("endpoints", limit))?;
    let (id, veth) = loop {
        let id = EndpointId::new((facts.entropy)());
        let veth = format!("bsc{}", id.prefix(8));
        let taken =
            desired.containers.values().flat_map(Container::endpoints).any(|(_, e)| e.veth == veth);
        if !taken && !facts.has_interface(&veth) {
            break (id, veth);
        }
    };
    let generation = desired.indices.generations.of(index);
    let running = desired.containers.get_mut(&container).and_then(Container::running_mut);
    let running = running.ok_or_else(|| Rejected::no_container(&container.to_string()))?;
    let interface = format!("eth{}", running.next_interface);
    running.next_interface += 1;
    if let Some(Ok(brought)) = &facts.brought
        && brought.interfaces.contains(&interface)
    {
        return Err(Rejected::conflict(format!(
            "the brought namespace already has an interface {interface}"
        )));
    }
    let mac = mac.unwrap_or(MacAddress::derived(ip));
    Ok(Endpoint { id, index, generation, ip, mac, interface, veth })
}

fn next_address(desired: &mut Desired, id: NetworkId) -> Result<Ipv4Addr, Rejected> {
    let network = network_of(desired, id)?;
    let mut used = network.reserved();
    used.extend(desired.addresses(id));
    let ip = ipam::next_address(network.dynamic_range(), network.subnet, network.last_given, &used)
        .ok_or_else(|| Rejected::no_address(network.name.as_str(), network.subnet))?;
    if let Some(network) = desired.networks.get_mut(&id) {
        network.last_given = Some(ip);
    }
    Ok(ip)
}

/// Takes a container off a network.
pub(super) fn detach(desired: &mut Desired, id: ContainerId, network: NetworkId) {
    let Some(container) = desired.containers.get_mut(&id) else { return };
    let Some(at) = container.attachments.iter().position(|a| a.network == network) else { return };
    if let Some(endpoint) = container.attachments.remove(at).endpoint {
        release(desired, endpoint.index);
    }
    let Some(container) = desired.containers.get(&id) else { return };
    // Published ports move to the next network with a way out; with the last one they go.
    if desired.gateway(container).is_none() {
        let container = desired.containers.get_mut(&id).and_then(Container::running_mut);
        for rule in container.map(|r| std::mem::take(&mut r.rules)).unwrap_or_default() {
            desired.indices.rules.free(rule.index);
        }
        forget_tables(desired);
    }
}

/// Returns every published range, with its container.
pub fn rules(desired: &Desired) -> impl Iterator<Item = (&Container, &PublishedRule)> {
    desired.containers.values().flat_map(|c| {
        c.running().into_iter().flat_map(move |r| r.rules.iter().map(move |rule| (c, rule)))
    })
}

/// Publishes what a starting container wants published, all or nothing.
fn publish(desired: &mut Desired, id: ContainerId, facts: &Facts) -> Result<(), Rejected> {
    let Some(container) = desired.containers.get(&id) else { return Ok(()) };
    let Some((network, endpoint)) = desired.gateway(container) else { return Ok(()) };
    let binding = desired.networks.get(&network).and_then(|n| n.options.host_binding);
    let binding = binding.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let mut specs: BTreeSet<PublishSpec> = container.publish.iter().copied().collect();
    if container.publish_all {
        let mapped: Vec<_> = specs.iter().map(|s| (s.container, s.proto)).collect();
        let open = container.expose.iter().filter(|e| !mapped.contains(&(e.ports, e.proto)));
        let chosen = |e: &crate::model::Expose| PublishSpec {
            host_ip: None,
            host: None,
            container: e.ports,
            proto: e.proto,
        };
        specs.extend(open.map(chosen));
    }
    let (name, endpoint) = (container.name.clone(), endpoint.id);
    let refuse = |why: String| Rejected::port(name.as_str(), &endpoint.to_string(), why);
    // Named ports first: a chosen one must not take them away.
    let (named, chosen): (Vec<_>, Vec<_>) = specs.into_iter().partition(|s| s.host.is_some());
    for spec in named.into_iter().chain(chosen) {
        let ip = spec.host_ip.unwrap_or(binding);
        let host = host_ports(desired, spec, ip, facts).map_err(refuse)?;
        let limit = bascule_common::abi::names::map::RULES_LEN;
        let index = desired
            .indices
            .rules
            .take()
            .ok_or_else(|| Rejected::exhausted("published ranges", limit))?;
        table(desired, ip).map_err(refuse)?;
        let rule = PublishedRule {
            index,
            host_ip: ip,
            host,
            container: spec.container,
            proto: spec.proto,
        };
        if let Some(running) = desired.containers.get_mut(&id).and_then(Container::running_mut) {
            running.rules.push(rule);
        }
    }
    Ok(())
}

fn host_ports(
    desired: &mut Desired,
    spec: PublishSpec,
    ip: Ipv4Addr,
    facts: &Facts,
) -> Result<PortRange, String> {
    let proto = spec.proto;
    let ours = |ports| rules(desired).any(|(_, r)| r.clashes(ip, ports, proto));
    if !facts.is_local(ip) {
        let port = spec.host.map_or(0, PortRange::first);
        return Err(rejected::port_refused(ip, port, proto, "cannot assign requested address"));
    }
    let Some(wanted) = spec.host else {
        let free = |ports| !ours(ports) && facts.holder(ip, ports, proto).is_none();
        let last = desired.indices.last_port;
        let found = ipam::next_ports(spec.container.count(), last, free)
            .ok_or_else(|| rejected::no_ports(ip, spec.container, proto))?;
        desired.indices.last_port = Some(found.last());
        return Ok(found);
    };
    if ours(wanted) {
        let first = wanted
            .ports()
            .find(|&p| PortRange::new(p, 1).is_some_and(ours))
            .unwrap_or(wanted.first());
        return Err(rejected::port_allocated(ip, first));
    }
    match facts.holder(ip, wanted, proto) {
        Some(port) => Err(rejected::port_refused(ip, port, proto, "address already in use")),
        None => Ok(wanted),
    }
}

/// Gives an address that a mapping names a port table of its own.
fn table(desired: &mut Desired, ip: Ipv4Addr) -> Result<(), String> {
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

/// Refuses the namespaces that must not be brought.
pub(super) fn may_bring(
    desired: &Desired,
    container: Option<ContainerId>,
    brought: &Result<Brought, String>,
) -> Result<(), Rejected> {
    let brought = brought.as_ref().map_err(Rejected::invalid)?;
    if brought.is_agents {
        return Err(Rejected::invalid(
            "the brought namespace is the agent's own; --network host runs there",
        ));
    }
    let holds = |c: &&Container| c.running().is_some_and(|r| r.namespace == Some(brought.id));
    match desired.containers.values().filter(|c| Some(c.id) != container).find(holds) {
        Some(holder) => Err(Rejected::conflict(format!(
            "the brought namespace belongs to container {} already",
            holder.name
        ))),
        None => Ok(()),
    }
}

/// Returns whether a container needs a namespace to be looked at before it can start.
pub fn brings(container: &Container) -> bool {
    container.mode != Mode::Host && container.sandbox != Sandbox::Own
}
