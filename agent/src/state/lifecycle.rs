//! Containers start and end: what they are given while they run, and what they give back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Brought, Facts, Outcome, Rejected, container::network_of, find, former, links, publish,
    rejected::BRIDGE_PORTS,
};
use crate::model::{
    Container, ContainerId, Desired, Endpoint, EndpointId, Family, Lease, MacAddress, Mode,
    NamespaceId, Network, NetworkId, Pool, Process, PublishedRule, Running, Sandbox, State, ipam,
};

pub(super) fn start(
    desired: &mut Desired,
    reference: &str,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let container = find::own(desired, reference)?;
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
    links::lead_somewhere(desired, container)?;
    let namespace = shared(desired, container)?;
    if let Some(container) = desired.containers.get_mut(&id) {
        let process = facts.brought.as_ref().and_then(|b| b.as_ref().ok()?.process);
        let running = Running {
            namespace,
            process,
            next_interface: 0,
            next_interfaces: BTreeMap::new(),
            rules: Vec::new(),
        };
        container.state = State::Running(running);
        container.started_at = Some(facts.now);
        container.finished_at = None;
        container.exit_code = None;
    }
    attach(desired, id, None, facts)?;
    let warnings = publish::publish(desired, id, facts)?;
    Ok(Outcome::Container(id, warnings))
}

/// Returns the namespace of the container whose network a container has, which has to run.
fn shared(desired: &Desired, container: &Container) -> Result<Option<NamespaceId>, Rejected> {
    let Mode::Container(other) = container.mode else { return Ok(None) };
    let found = desired.containers.get(&other);
    match found.ok_or_else(|| Rejected::no_container(&other.to_string()))?.running() {
        Some(running) => Ok(running.namespace),
        None => Err(Rejected::conflict(format!(
            "cannot join network of a non running container: {other}"
        ))),
    }
}

pub(super) fn stop(
    desired: &mut Desired,
    reference: &str,
    exit_code: Option<i32>,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let container = find::own(desired, reference)?;
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
        former::remove(desired, id, facts.now);
    }
    Ok(Outcome::Container(id, Vec::new()))
}

pub(super) fn follow(
    desired: &mut Desired,
    reference: &str,
    process: Process,
) -> Result<Outcome, Rejected> {
    let id = find::own(desired, reference)?.id;
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
            former::remove(desired, *id, facts.now);
        }
    }
    if picked.is_empty() { Outcome::Nothing } else { Outcome::Pruned(Vec::new()) }
}

/// Ends a container: everything that it was given is given back.
pub(super) fn exit(desired: &mut Desired, id: ContainerId, exit_code: Option<i32>, facts: &Facts) {
    release_except(desired, id, &[], &[]);
    end_guests(desired, id, facts);
    if let Some(container) = desired.containers.get_mut(&id) {
        container.state = State::Exited;
        container.finished_at = Some(facts.now);
        container.exit_code = exit_code;
        for attachment in &mut container.attachments {
            attachment.rest();
        }
    }
    forget_tables(desired);
}

/// Ends the containers that have nothing but the network of one that ends. Those with a process live as long
/// as that does.
fn end_guests(desired: &mut Desired, id: ContainerId, facts: &Facts) {
    let is_guest = |c: &&Container| {
        c.mode == Mode::Container(id) && c.running().is_some_and(|r| r.process.is_none())
    };
    let guests: Vec<_> = desired.containers.values().filter(is_guest).map(|c| c.id).collect();
    for guest in guests {
        exit(desired, guest, None, facts);
        if desired.containers.get(&guest).is_some_and(|c| c.auto_remove) {
            former::remove(desired, guest, facts.now);
        }
    }
}

/// Gives back a container's numbers, those of the endpoints and rules that are kept excepted.
pub(super) fn release_except(
    desired: &mut Desired,
    id: ContainerId,
    kept: &[EndpointId],
    kept_rules: &[u32],
) {
    let Some(container) = desired.containers.get(&id) else { return };
    let endpoints: Vec<_> = container.endpoints().map(|(_, e)| (e.id, e.index)).collect();
    let rules: Vec<_> =
        container.running().iter().flat_map(|r| &r.rules).map(|r| r.index).collect();
    for index in rules.into_iter().filter(|index| !kept_rules.contains(index)) {
        desired.indices.rules.free(index);
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
    let named: BTreeSet<_> =
        rules(desired).filter(|(_, r)| !r.routed).map(|(_, r)| r.host_ip).collect();
    desired.indices.tables.retain(|ip, _| named.contains(ip));
}

/// What was asked for of a place on a network.
struct Wishes {
    ip: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    mac: Option<MacAddress>,
    lease: Lease,
    /// Whether IPv6 is switched off for the whole container.
    without_ipv6: bool,
}

/// Gives a running container endpoints where it has none: on one network, or on all.
pub(super) fn attach(
    desired: &mut Desired,
    id: ContainerId,
    only: Option<NetworkId>,
    facts: &mut Facts,
) -> Result<(), Rejected> {
    former::forget(desired, facts.now);
    let Some(container) = desired.containers.get(&id) else { return Ok(()) };
    if container.running().is_none() {
        return Ok(());
    }
    let without_ipv6 = container.switches_ipv6_off();
    let wanting: Vec<_> = container
        .attachments
        .iter()
        .filter(|a| a.endpoint.is_none() && only.is_none_or(|network| network == a.network))
        .map(|a| {
            let (ip, ip6, mac) = (a.static_ip, a.static_ip6, a.static_mac);
            let lease = match a.lease == Lease::default() {
                true => former::lease(desired, a.network, &container.name),
                false => a.lease,
            };
            (a.network, Wishes { ip, ip6, mac, lease, without_ipv6 })
        })
        .collect();
    for (network, wishes) in wanting {
        let endpoint = endpoint(desired, id, network, &wishes, facts)?;
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
    wishes: &Wishes,
    facts: &mut Facts,
) -> Result<Endpoint, Rejected> {
    has_port(desired, network)?;
    let (ip, ip6, mac) = addresses(desired, network, wishes, facts)?;
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
    let lost = || Rejected::no_container(&container.to_string());
    let (asked, taken) = names(desired.containers.get(&container).ok_or_else(lost)?, network);
    let prefix = network_of(desired, network)?.options.prefix.clone();
    let running = desired.containers.get_mut(&container).and_then(Container::running_mut);
    let running = running.ok_or_else(lost)?;
    let interface = asked.unwrap_or_else(|| next_interface(running, prefix.as_deref(), &taken));
    if let Some(Ok(brought)) = &facts.brought
        && brought.interfaces.contains(&interface)
    {
        return Err(Rejected::conflict(format!(
            "the brought namespace already has an interface {interface}"
        )));
    }
    Ok(Endpoint { id, index, generation, ip, ip6, mac, interface, veth, adopted: None })
}

/// Returns the name that was asked for an interface, and those that others have or shall have.
fn names(container: &Container, network: NetworkId) -> (Option<String>, BTreeSet<String>) {
    let mut taken = BTreeSet::new();
    for place in container.attachments.iter().filter(|a| a.network != network) {
        taken.extend(place.endpoint.as_ref().map(|e| e.interface.clone()));
        taken.extend(place.interface.name.clone());
    }
    (container.attachment(network).and_then(|a| a.interface.name.clone()), taken)
}

/// Returns the next name of an interface with a prefix; names count up as long as the container runs.
pub(super) fn next_interface(
    running: &mut Running,
    prefix: Option<&str>,
    taken: &BTreeSet<String>,
) -> String {
    let next = match prefix {
        None => &mut running.next_interface,
        Some(prefix) => running.next_interfaces.entry(prefix.to_owned()).or_default(),
    };
    loop {
        let name = format!("{}{next}", prefix.unwrap_or("eth"));
        *next += 1;
        if !taken.contains(&name) {
            return name;
        }
    }
}

/// Refuses a place on a network whose bridge has no port left.
pub(super) fn has_port(desired: &Desired, id: NetworkId) -> Result<(), Rejected> {
    let network = network_of(desired, id)?;
    let taken = || desired.attachments(id).filter(|(_, a)| a.endpoint.is_some()).count();
    if network.without_bridge() || taken() < BRIDGE_PORTS {
        return Ok(());
    }
    Err(Rejected::no_port(network.name.as_str()))
}

/// Returns the addresses of a place on a network, for the families that it has.
fn addresses(
    desired: &mut Desired,
    id: NetworkId,
    wishes: &Wishes,
    facts: &mut Facts,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>, MacAddress), Rejected> {
    let network = network_of(desired, id)?;
    let has4 = network.ipv4.is_some();
    // An address that no interface has would be one that neighbours are told of.
    let without_ipv6 = wishes.without_ipv6 && has4;
    let has6 = network.ipv6.is_some() && !without_ipv6;
    let ip = match wishes.ip {
        Some(ip) => Some(ip),
        None if has4 => v4(dynamic_address(desired, id, Family::V4, wishes.lease)?),
        None => None,
    };
    let mac = wishes.mac.or(ip.map(MacAddress::derived));
    let ip6 = match (wishes.ip6.filter(|_| !without_ipv6), mac) {
        (Some(ip6), _) => Some(ip6),
        (None, Some(mac)) if has6 => match derived_address(desired, id, mac)? {
            Some(ip6) => Some(ip6),
            None => v6(dynamic_address(desired, id, Family::V6, wishes.lease)?),
        },
        (None, _) if has6 => v6(dynamic_address(desired, id, Family::V6, wishes.lease)?),
        _ => None,
    };
    let mac = match mac {
        Some(mac) => mac,
        None => chosen_mac(desired, id, ip6, facts),
    };
    Ok((ip, ip6, mac))
}

const fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

const fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// Chooses the Ethernet address of a place without IPv4: from the end of its IPv6 address, or by lot.
pub(super) fn chosen_mac(
    desired: &Desired,
    network: NetworkId,
    ip6: Option<Ipv6Addr>,
    facts: &mut Facts,
) -> MacAddress {
    let [.., a, b, c, d] = ip6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
    let mut end = [a, b, c, d];
    loop {
        let mac = MacAddress::derived(end.into());
        let holds = |e: &Endpoint| e.mac == mac;
        if !desired.attachments(network).any(|(_, a)| a.endpoint.as_ref().is_some_and(holds)) {
            return mac;
        }
        let [a, b, c, d, ..] = (facts.entropy)();
        end = [a, b, c, d];
    }
}

/// Returns what nobody gets on a network.
fn used(desired: &Desired, network: &Network) -> BTreeSet<IpAddr> {
    let mut used = desired.addresses(network.id);
    used.extend(network.pools().flat_map(Pool::reserved));
    used
}

fn derived_address(
    desired: &Desired,
    id: NetworkId,
    mac: MacAddress,
) -> Result<Option<Ipv6Addr>, Rejected> {
    let network = network_of(desired, id)?;
    let derived = network
        .ipv6
        .as_ref()
        .and_then(|pool| ipam::derived_address(pool.dynamic_range(), mac, &used(desired, network)));
    Ok(derived.and_then(v6))
}

/// Gives a place the address that it had, or the next one that is free; those that resting containers
/// had come last.
fn dynamic_address(
    desired: &mut Desired,
    id: NetworkId,
    family: Family,
    lease: Lease,
) -> Result<IpAddr, Rejected> {
    let network = network_of(desired, id)?;
    let Some(pool) = network.pool(family) else {
        return Err(Rejected::invalid(format!("network {} has no {family}", network.name)));
    };
    let (range, subnet) = (pool.dynamic_range(), pool.subnet);
    let used = used(desired, network);
    let is_free =
        |ip: &IpAddr| range.contains(*ip) && !ipam::is_edge(subnet, *ip) && !used.contains(ip);
    if let Some(ip) = lease.address(family).filter(is_free) {
        return Ok(ip);
    }
    let kept: BTreeSet<_> = used.iter().copied().chain(desired.leases(id)).collect();
    let next = |used| ipam::next_address(range, subnet, pool.last_given, used);
    let ip = next(&kept)
        .or_else(|| next(&used))
        .ok_or_else(|| Rejected::no_address(network.name.as_str(), subnet))?;
    if let Some(pool) = desired.networks.get_mut(&id).and_then(|n| n.pool_mut(family)) {
        pool.last_given = Some(ip);
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
}

/// Returns every published range, with its container.
pub fn rules(desired: &Desired) -> impl Iterator<Item = (&Container, &PublishedRule)> {
    desired.containers.values().flat_map(|c| {
        c.running().into_iter().flat_map(move |r| r.rules.iter().map(move |rule| (c, rule)))
    })
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
    container.has_namespace() && container.sandbox != Sandbox::Own
}
