//! Endpoints that dockerd makes, joins to sandboxes, and removes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    super::{Facts, Outcome, Rejected, attachment, container::network_of, lifecycle, publish},
    EndpointWish,
};
use crate::model::{
    Attachment, Container, ContainerId, Desired, Endpoint, EndpointId, Family, InterfaceOptions,
    Lease, MacAddress, Mode, Naming, NetworkId, PublishSpec, Running, Sandbox, State, ipam,
};

/// Finds an endpoint of Docker's: its container and network.
pub(super) fn find(desired: &Desired, id: EndpointId) -> Option<(&Container, &Attachment)> {
    let plugged = desired.containers.values().filter(|c| c.is_plugged());
    let mut places = plugged.flat_map(|c| c.attachments.iter().map(move |place| (c, place)));
    places.find(|(_, place)| place.endpoint.as_ref().is_some_and(|e| e.id == id))
}

fn unknown(id: EndpointId) -> Rejected {
    Rejected::invalid(format!("endpoint {id} is not known"))
}

pub(super) fn create(
    desired: &mut Desired,
    wish: &EndpointWish,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let network = network_of(desired, wish.network)?;
    if !network.plugged {
        let name = &network.name;
        return Err(Rejected::forbidden(format!("network {name} is not one of Docker's")));
    }
    if let Some((container, place)) = find(desired, wish.id) {
        return match is_same(place, wish) {
            // The answer to the first request was lost.
            true => Ok(Outcome::Container(container.id, Vec::new())),
            false => {
                Err(Rejected::conflict(format!("endpoint {} exists, and is another one", wish.id)))
            }
        };
    }
    let (name, prefix) = (network.name.clone(), network.options.prefix.clone());
    let interface = InterfaceOptions::default();
    give_up_addresses(desired, wish)?;
    lifecycle::has_port(desired, wish.network)?;
    let mac = mac(desired, wish, facts)?;
    let limit = bascule_common::abi::names::map::ENDPOINT_INDICES;
    let index =
        desired.indices.endpoints.take().ok_or_else(|| Rejected::exhausted("endpoints", limit))?;
    let veth = format!("bsc{}", wish.id.prefix(8));
    let mut running = running();
    let endpoint = Endpoint {
        id: wish.id,
        index,
        generation: desired.indices.generations.of(index),
        ip: wish.ip,
        ip6: wish.ip6,
        mac,
        interface: lifecycle::next_interface(&mut running, prefix.as_deref(), &BTreeSet::new()),
        veth,
        adopted: None,
    };
    if desired
        .containers
        .values()
        .flat_map(Container::endpoints)
        .any(|(_, e)| e.veth == endpoint.veth)
    {
        return Err(Rejected::conflict(format!(
            "interface {} is another endpoint's",
            endpoint.veth
        )));
    }
    let place = Attachment {
        network: wish.network,
        network_name: name,
        static_ip: None,
        static_ip6: None,
        static_mac: wish.mac,
        link_local: Vec::new(),
        aliases: Vec::new(),
        links: Vec::new(),
        options: wish.options.clone(),
        interface,
        priority: 0,
        endpoint: Some(endpoint),
        lease: Lease::default(),
        exposed: false,
    };
    let id = ContainerId::new(wish.id.bytes());
    desired.containers.insert(id, container(id, place, running, wish, facts)?);
    Ok(Outcome::Container(id, Vec::new()))
}

fn running() -> Running {
    Running {
        namespace: None,
        process: None,
        next_interface: 0,
        next_interfaces: BTreeMap::new(),
        rules: Vec::new(),
    }
}

/// Makes the container that an endpoint is of until Docker says which it is.
fn container(
    id: ContainerId,
    place: Attachment,
    running: Running,
    wish: &EndpointWish,
    facts: &Facts,
) -> Result<Container, Rejected> {
    Ok(Container {
        id,
        name: Container::provisional(id).parse().map_err(Rejected::internal)?,
        created: facts.now,
        hostname: String::new(),
        naming: Naming::default(),
        labels: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        command: Vec::new(),
        env: Vec::new(),
        auto_remove: true,
        mode: Mode::Networks,
        sandbox: Sandbox::Docker(None),
        attachments: vec![place],
        publish: Vec::new(),
        publish_all: false,
        expose: wish.expose.iter().copied().collect(),
        links: Vec::new(),
        state: State::Running(running),
        started_at: Some(facts.now),
        finished_at: None,
        exit_code: None,
    })
}

fn is_same(place: &Attachment, wish: &EndpointWish) -> bool {
    place.endpoint.as_ref().is_some_and(|e| {
        (place.network, e.ip, e.ip6) == (wish.network, wish.ip, wish.ip6)
            && wish.mac.is_none_or(|mac| mac == e.mac)
    })
}

/// Judges the addresses that Docker has given an endpoint. Whoever had them has them no more, whether Docker came to
/// say so or not: it decides about addresses.
fn give_up_addresses(desired: &mut Desired, wish: &EndpointWish) -> Result<(), Rejected> {
    let wished = || wish.ip.map(IpAddr::V4).into_iter().chain(wish.ip6.map(IpAddr::V6));
    let network = network_of(desired, wish.network)?;
    for ip in wished() {
        let pool = network.pool(Family::of(ip)).filter(|pool| pool.subnet.contains(ip));
        let Some(pool) = pool else { return Err(Rejected::outside(ip)) };
        if ipam::is_edge(pool.subnet, ip) || pool.gateway == Some(ip) {
            return Err(Rejected::address_taken());
        }
    }
    if wished().next().is_none() {
        let name = &network.name;
        return Err(Rejected::invalid(format!(
            "an endpoint needs an address: network {name} has an IPAM driver that gives none"
        )));
    }
    let had: Vec<_> = desired
        .attachments(wish.network)
        .filter_map(|(_, place)| place.endpoint.as_ref())
        .filter(|e| e.addresses().any(|ip| wished().any(|wished| wished == ip)))
        .map(|e| e.id)
        .collect();
    delete(desired, &had);
    Ok(())
}

fn mac(desired: &Desired, wish: &EndpointWish, facts: &mut Facts) -> Result<MacAddress, Rejected> {
    match (wish.mac, wish.ip) {
        (Some(mac), _) => {
            let network = network_of(desired, wish.network)?;
            attachment::mac_is_free(desired, network, mac).map(|()| mac)
        }
        (None, Some(ip)) => Ok(MacAddress::derived(ip)),
        (None, None) => Ok(lifecycle::chosen_mac(desired, wish.network, wish.ip6, facts)),
    }
}

pub(super) fn join(
    desired: &mut Desired,
    id: EndpointId,
    sandbox: &Path,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let (container, place) = find(desired, id).ok_or_else(|| unknown(id))?;
    let (from, network) = (container.id, place.network);
    if let Sandbox::Docker(Some(key)) = &container.sandbox {
        return match key == sandbox {
            true => Ok(Outcome::Nothing),
            false => Err(Rejected::conflict(format!(
                "endpoint {id} has joined sandbox {} already",
                key.display()
            ))),
        };
    }
    let key = Sandbox::Docker(Some(PathBuf::from(sandbox)));
    let into = desired.containers.values().find(|c| c.sandbox == key);
    let Some(into) = into.map(|c| c.id) else {
        if let Some(container) = desired.containers.get_mut(&from) {
            container.sandbox = key;
            container.started_at = Some(facts.now);
        }
        return Ok(Outcome::Container(from, Vec::new()));
    };
    if desired.containers.get(&into).is_some_and(|c| c.attachment(network).is_some()) {
        return Err(Rejected::conflict(format!(
            "sandbox {} is on that network already",
            sandbox.display()
        )));
    }
    // It is one more place of a container that is there.
    let Some(mut moved) = desired.containers.remove(&from) else { return Err(unknown(id)) };
    let prefix = desired.networks.get(&network).and_then(|n| n.options.prefix.clone());
    if let Some(container) = desired.containers.get_mut(&into) {
        let expose = std::mem::take(&mut moved.expose);
        container.expose.extend(expose);
        for mut place in moved.attachments {
            if let (Some(endpoint), Some(running)) = (&mut place.endpoint, container.running_mut())
            {
                endpoint.interface =
                    lifecycle::next_interface(running, prefix.as_deref(), &BTreeSet::new());
            }
            container.attachments.push(place);
        }
    }
    Ok(Outcome::Container(into, Vec::new()))
}

/// Removes endpoints; those that are not there are removed already. A container goes with its last one.
pub(super) fn delete(desired: &mut Desired, gone: &[EndpointId]) -> Outcome {
    let mut outcome = Outcome::Nothing;
    for id in gone {
        let Some((container, place)) = find(desired, *id) else { continue };
        let (container, network) = (container.id, place.network);
        leave(desired, container, network);
        outcome = Outcome::Container(container, Vec::new());
    }
    outcome
}

fn leave(desired: &mut Desired, id: ContainerId, network: NetworkId) {
    if let Some(container) = desired.containers.get_mut(&id) {
        hide(container, network);
    }
    publish::withdraw(desired, id);
    lifecycle::detach(desired, id, network);
    if desired.containers.get(&id).is_some_and(|c| c.attachments.is_empty()) {
        lifecycle::release_except(desired, id, &[], &[]);
        desired.containers.remove(&id);
        lifecycle::forget_tables(desired);
    }
}

/// Has no published ports lead to a container's place on a network any more.
fn hide(container: &mut Container, network: NetworkId) {
    for place in container.attachments.iter_mut().filter(|place| place.network == network) {
        place.exposed = false;
    }
    if container.attachments.iter().all(|place| !place.exposed) {
        container.publish.clear();
    }
}

pub(super) fn program(
    desired: &mut Desired,
    id: EndpointId,
    publish: &[PublishSpec],
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let (container, place) = find(desired, id).ok_or_else(|| unknown(id))?;
    let (container, network) = (container.id, place.network);
    if let Some(container) = desired.containers.get_mut(&container) {
        container.publish = publish.to_vec();
        for place in container.attachments.iter_mut().filter(|place| place.network == network) {
            place.exposed = true;
        }
    }
    let warnings = publish::publish(desired, container, facts)?;
    Ok(Outcome::Container(container, warnings))
}

pub(super) fn revoke(
    desired: &mut Desired,
    id: EndpointId,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let Some((container, place)) = find(desired, id) else { return Ok(Outcome::Nothing) };
    let (container, network) = (container.id, place.network);
    if let Some(container) = desired.containers.get_mut(&container) {
        hide(container, network);
    }
    let before = desired.clone();
    let warnings = publish::publish(desired, container, facts).unwrap_or_else(|error| {
        *desired = before;
        publish::withdraw(desired, container);
        vec![format!("ports are not published on the network that is left: {error}")]
    });
    Ok(Outcome::Container(container, warnings))
}
