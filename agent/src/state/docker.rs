//! Docker's networks and containers, where they are served: what is wished for is what Docker has.
//!
//! [`follow`] is told everything that Docker has, each time, and keeps the numbers of what was there before: a notice
//! that was missed costs nothing but time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;

use super::{
    Facts, Outcome, Rejected,
    change::Change,
    find::{self, Found},
    lifecycle, publish,
};
use crate::model::{
    Adoption, Attachment, Container, ContainerId, Desired, Endpoint, EndpointId, Expose,
    InterfaceOptions, Lease, Link, MacAddress, Mode, Name, Naming, Network, NetworkId, NetworkName,
    NetworkOptions, Pool, PortRange, Proto, PublishedRule, Running, Sandbox, State,
};

/// Everything that Docker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Docker {
    /// Its bridge networks.
    pub networks: Vec<DockerNetwork>,
    /// Its containers that run on them.
    pub containers: Vec<DockerContainer>,
}

/// A bridge network of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: NetworkName,
    /// Its bridge.
    pub bridge: String,
    /// Its IPv4 addresses.
    pub ipv4: Option<Pool>,
    /// Its IPv6 addresses.
    pub ipv6: Option<Pool>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it is Docker's default network.
    pub predefined: bool,
    /// Whether containers may be attached that no service made.
    pub attachable: bool,
    /// Its MTU.
    pub mtu: u16,
    /// Driver options.
    pub options: NetworkOptions,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A running container of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: Name,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
    /// Its command, for show.
    pub command: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its places on networks, the one with its default route first.
    pub endpoints: Vec<DockerEndpoint>,
    /// What it publishes.
    pub ports: Vec<DockerPort>,
    /// What it exposes.
    pub expose: BTreeSet<Expose>,
    /// Its links of the default network.
    pub links: Vec<Link>,
}

/// A container's place on a network of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The container's IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Further names on the network.
    pub aliases: Vec<String>,
    /// Interface in the container.
    pub interface: String,
    /// Interface on the host, with its index.
    pub veth: (String, u32),
}

/// A published range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DockerPort {
    /// Protocol.
    pub proto: Proto,
    /// Host address; unspecified is every one.
    pub host_ip: IpAddr,
    /// Ports of the host.
    pub host: PortRange,
    /// Ports of the container.
    pub container: PortRange,
}

/// Begins to serve Docker's networks, or ends it.
pub(super) fn adoption(desired: &mut Desired, wanted: &Adoption) -> Result<Outcome, Rejected> {
    if wanted.is_active() {
        let standing = desired.default_network().filter(|n| !n.adopted);
        if let Some((id, index)) = standing.map(|n| (n.id, n.index)) {
            let names: Vec<_> = desired.attachments(id).map(|(c, _)| c.name.to_string()).collect();
            if !names.is_empty() {
                return Err(Rejected::conflict(format!(
                    "the network bridge has to be Docker's, and containers of Bascule's are on it ({}): remove them first",
                    names.join(", ")
                )));
            }
            desired.networks.remove(&id);
            desired.indices.networks.free(index);
        }
    } else {
        drop_all(desired, &BTreeSet::new(), &BTreeSet::new());
    }
    desired.docker = wanted.clone();
    Ok(Outcome::Nothing)
}

/// Takes over everything that Docker has, and forgets what it has not.
pub(super) fn follow(
    desired: &mut Desired,
    seen: &Docker,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    if !desired.docker.is_active() {
        return Ok(Outcome::Nothing);
    }
    let mut former = Former::of(desired);
    for network in &seen.networks {
        take_network(desired, network, facts)?;
    }
    for container in &seen.containers {
        let taken = take_container(desired, container, &mut former, facts)?;
        if desired.containers.get(&taken.id) != Some(&taken) {
            desired.containers.insert(taken.id, taken);
        }
    }
    // What nobody has taken again is free.
    for index in former.endpoints.into_values() {
        desired.indices.endpoints.free(index);
        desired.indices.generations.bump(index);
    }
    for index in former.rules.into_values() {
        desired.indices.rules.free(index);
    }
    let networks = seen.networks.iter().map(|n| n.id).collect();
    let containers: BTreeSet<_> = seen.containers.iter().map(|c| c.id).collect();
    let gone: Vec<_> =
        adopted(desired).map(|c| c.id).filter(|id| !containers.contains(id)).collect();
    for id in gone {
        desired.containers.remove(&id);
    }
    drop_all(desired, &networks, &containers);
    Ok(Outcome::Nothing)
}

/// Refuses a change that is Docker's to make.
pub(super) fn is_ours(desired: &Desired, change: &Change) -> Result<(), Rejected> {
    if !desired.docker.is_active() {
        return Ok(());
    }
    let container = |reference: &str, verb: &str| match find::container(desired, reference) {
        Ok(found) if found.is_adopted() => Err(Rejected::forbidden(format!(
            "container {} is Docker's: use `docker {verb}`",
            found.name
        ))),
        _ => Ok(()),
    };
    let network = |reference: &str, verb: &str| match find::network(desired, reference) {
        Ok(Found::Bridge(found)) if found.adopted => Err(Rejected::forbidden(format!(
            "network {} is Docker's: use `docker {verb}`",
            found.name
        ))),
        _ => Ok(()),
    };
    match change {
        Change::RemoveNetwork(name) => network(name, "network rm"),
        Change::UpdateNetwork { network: name, .. } => network(name, "network create"),
        Change::Connect { network: name, container: of, .. } => {
            network(name, "network connect")?;
            container(of, "network connect")
        }
        Change::Disconnect { network: name, container: of, .. } => {
            network(name, "network disconnect")?;
            container(of, "network disconnect")
        }
        Change::CreateContainer(spec) => {
            let default = [find::BRIDGE.to_owned()];
            let named: Vec<_> = spec.networks.iter().map(|(name, _)| name.clone()).collect();
            let names = if named.is_empty() { &default[..] } else { &named };
            names.iter().try_for_each(|name| network(name, "run"))
        }
        Change::Start(of) => container(of, "start"),
        Change::Stop { container: of, .. } => container(of, "stop"),
        Change::RemoveContainer { container: of, .. } => container(of, "rm"),
        Change::Follow { container: of, .. } => container(of, "exec"),
        _ => Ok(()),
    }
}

fn adopted(desired: &Desired) -> impl Iterator<Item = &Container> {
    desired.containers.values().filter(|c| c.is_adopted())
}

/// Numbers that what is there has, until it is taken again.
struct Former {
    endpoints: BTreeMap<EndpointId, u32>,
    rules: BTreeMap<(ContainerId, DockerPort), u32>,
}

impl Former {
    fn of(desired: &Desired) -> Self {
        let endpoints = adopted(desired).flat_map(Container::endpoints);
        let rule = |rule: &PublishedRule| DockerPort {
            proto: rule.proto,
            host_ip: rule.host_ip,
            host: rule.host,
            container: rule.container,
        };
        let rules = adopted(desired).flat_map(|c| {
            let rules = c.running().into_iter().flat_map(|running| &running.rules);
            rules.map(move |r| ((c.id, rule(r)), r.index))
        });
        Self {
            endpoints: endpoints.map(|(_, e)| (e.id, e.index)).collect(),
            rules: rules.collect(),
        }
    }
}

/// Forgets Docker's networks and containers but these.
fn drop_all(
    desired: &mut Desired,
    networks: &BTreeSet<NetworkId>,
    containers: &BTreeSet<ContainerId>,
) {
    let gone: Vec<_> =
        adopted(desired).map(|c| c.id).filter(|id| !containers.contains(id)).collect();
    for id in gone {
        lifecycle::release_except(desired, id, &[], &[]);
        desired.containers.remove(&id);
    }
    let gone = desired.networks.values().filter(|n| n.adopted && !networks.contains(&n.id));
    for (id, index) in gone.map(|n| (n.id, n.index)).collect::<Vec<_>>() {
        desired.networks.remove(&id);
        desired.indices.networks.free(index);
    }
    lifecycle::forget_tables(desired);
}

fn take_network(
    desired: &mut Desired,
    seen: &DockerNetwork,
    facts: &Facts,
) -> Result<(), Rejected> {
    // The default network has another id with each start of the daemon, and is the same all the same.
    let same = |n: &&Network| n.adopted && (n.id == seen.id || n.bridge == seen.bridge);
    let before = desired.networks.values().find(same);
    let created = before.map_or(facts.now, |n| n.created);
    let former = before.map(|n| (n.id, n.index));
    let limit = bascule_common::abi::names::map::NETWORKS_LEN;
    let index = match former {
        Some((_, index)) => index,
        None => {
            desired.indices.networks.take().ok_or_else(|| Rejected::exhausted("networks", limit))?
        }
    };
    if let Some((id, _)) = former.filter(|(id, _)| *id != seen.id) {
        desired.networks.remove(&id);
    }
    let network = Network {
        id: seen.id,
        index,
        name: seen.name.clone(),
        created,
        ipv4: seen.ipv4.clone(),
        ipv6: seen.ipv6.clone(),
        bridge: seen.bridge.clone(),
        brought: true,
        adopted: true,
        mtu: seen.mtu,
        internal: seen.internal,
        predefined: seen.predefined,
        plugged: false,
        options: seen.options.clone(),
        labels: seen.labels.clone(),
        attachable: seen.attachable,
        config_from: None,
        ipam_options: BTreeMap::new(),
    };
    if desired.networks.get(&seen.id) != Some(&network) {
        desired.networks.insert(seen.id, network);
    }
    Ok(())
}

fn take_container(
    desired: &mut Desired,
    seen: &DockerContainer,
    former: &mut Former,
    facts: &Facts,
) -> Result<Container, Rejected> {
    let before = desired.containers.get(&seen.id).cloned();
    let mut attachments = Vec::new();
    for place in &seen.endpoints {
        attachments.push(take_place(desired, place, former)?);
    }
    let mut rules = Vec::new();
    for port in &seen.ports {
        rules.extend(take_port(desired, seen.id, *port, former)?);
    }
    let created = seen.created.or(before.as_ref().map(|c| c.created));
    let started = before.as_ref().and_then(|c| c.started_at);
    Ok(Container {
        id: seen.id,
        name: seen.name.clone(),
        created: created.unwrap_or(facts.now),
        hostname: seen.id.short(),
        naming: Naming::default(),
        labels: seen.labels.clone(),
        sysctls: BTreeMap::new(),
        command: Some(&seen.command).filter(|c| !c.is_empty()).cloned().into_iter().collect(),
        env: Vec::new(),
        auto_remove: false,
        mode: Mode::Networks,
        sandbox: Sandbox::Adopted,
        attachments,
        publish: Vec::new(),
        publish_all: false,
        expose: seen.expose.clone(),
        links: seen.links.clone(),
        state: State::Running(Running {
            namespace: None,
            process: None,
            next_interface: 0,
            next_interfaces: BTreeMap::new(),
            rules,
        }),
        started_at: Some(started.unwrap_or(facts.now)),
        finished_at: None,
        exit_code: None,
    })
}

fn take_place(
    desired: &mut Desired,
    seen: &DockerEndpoint,
    former: &mut Former,
) -> Result<Attachment, Rejected> {
    let limit = bascule_common::abi::names::map::ENDPOINT_INDICES;
    let index = match former.endpoints.remove(&seen.id) {
        Some(index) => index,
        None => desired
            .indices
            .endpoints
            .take()
            .ok_or_else(|| Rejected::exhausted("endpoints", limit))?,
    };
    let name = desired.networks.get(&seen.network).map(|n| n.name.clone());
    let (veth, ifindex) = seen.veth.clone();
    Ok(Attachment {
        network: seen.network,
        network_name: name.ok_or_else(|| Rejected::no_network(&seen.network.to_string()))?,
        static_ip: None,
        static_ip6: None,
        static_mac: None,
        link_local: Vec::new(),
        aliases: seen.aliases.clone(),
        links: Vec::new(),
        options: BTreeMap::new(),
        interface: InterfaceOptions::default(),
        priority: 0,
        endpoint: Some(Endpoint {
            id: seen.id,
            index,
            generation: desired.indices.generations.of(index),
            ip: seen.ip,
            ip6: seen.ip6,
            mac: seen.mac,
            interface: seen.interface.clone(),
            veth,
            adopted: Some(ifindex),
        }),
        lease: Lease::default(),
        exposed: false,
    })
}

fn take_port(
    desired: &mut Desired,
    container: ContainerId,
    seen: DockerPort,
    former: &mut Former,
) -> Result<Option<PublishedRule>, Rejected> {
    if let Err(why) = publish::table(desired, seen.host_ip) {
        tracing::warn!(container = %container.short(), host_ip = %seen.host_ip, "not published: {why}");
        return Ok(None);
    }
    let limit = bascule_common::abi::names::map::RULES_LEN;
    let index = match former.rules.remove(&(container, seen)) {
        Some(index) => index,
        None => desired
            .indices
            .rules
            .take()
            .ok_or_else(|| Rejected::exhausted("published ranges", limit))?,
    };
    Ok(Some(PublishedRule {
        index,
        host_ip: seen.host_ip,
        host: seen.host,
        container: seen.container,
        proto: seen.proto,
        routed: false,
        named: !seen.host_ip.is_unspecified(),
    }))
}
