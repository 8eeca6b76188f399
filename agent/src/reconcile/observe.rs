//! Fetches what is there, into the pure types of the plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bascule_common::abi::{Denied, Mac, names::program};
use futures::{FutureExt as _, StreamExt as _};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::{
    machine::{Machine, identify},
    site,
};
use crate::{
    kernel::{
        self,
        bpf::{self, BpfError, Table},
        container, netlink, netns,
        owned::{self, Owned},
        sysctl,
    },
    model::{Container, ContainerId, Desired, NetworkId, Sandbox},
    plan::{
        self, Contents, Hook, HookState, Inside, Interface, Link, Name, Observed, Owner, Run, Side,
        Xdp,
    },
};

/// Namespaces that are looked into at once: each takes a thread for a moment.
const AT_ONCE: usize = 8;

/// Why nothing could be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// BPF refuses.
    #[error(transparent)]
    Bpf(#[from] BpfError),
}

/// What only this agent writes, and so need not be read every time.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the maps hold.
    pub contents: Contents,
    /// Where programs are attached.
    pub hooks: BTreeMap<Hook, HookState>,
    /// The deny list's program, by interface.
    pub xdp: BTreeMap<u32, Xdp>,
}

impl Known {
    /// Replaces what is known by what was read; what an interface refused is nowhere to be read.
    pub fn refresh(&mut self, read: Self) {
        let before = std::mem::replace(self, read);
        for (index, xdp) in
            before.xdp.into_iter().filter(|(_, xdp)| matches!(xdp, Xdp::Refused { .. }))
        {
            self.xdp.entry(index).or_insert(xdp);
        }
    }
}

/// Which namespaces are looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<ContainerId>),
}

impl Look {
    fn includes(&self, id: ContainerId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

/// Reads what is known from the kernel.
pub fn known(machine: &Machine) -> Result<Known, ObserveError> {
    Ok(Known { contents: contents(&machine.tables)?, hooks: hooks(machine)?, xdp: xdp(machine)? })
}

/// Observes everything that concerns us.
pub async fn observe(
    machine: &Machine,
    desired: &Desired,
    known: &Known,
    look: &Look,
) -> Result<Observed, ObserveError> {
    let links = machine.netlink.links().await?;
    let addresses = machine.netlink.addresses().await?;
    let routes = machine.netlink.routes().await?;
    let mut observed = Observed { contents: known.contents.clone(), ..Observed::default() };
    for link in &links {
        let mut found = link_of(machine, desired, link);
        // Thousands of veths of our own lead nowhere, and each would look through the routes of them all.
        if matches!(found.owner, Owner::Foreign | Owner::Brought(_)) {
            found.source = netlink::masquerade_source(link.index, &addresses, &routes);
            found.source6 = netlink::masquerade_source6(link.index, &addresses, &routes);
            found.leads_out = routes.iter().any(|r| r.is_default() && r.link == Some(link.index));
        }
        observed.links.insert(link.index, found);
    }
    // What is there for Docker to take is no interface of the host.
    let ends = links.iter().filter(|link| is_end(link, &observed.links)).map(|link| link.index);
    for index in ends.collect::<Vec<_>>() {
        observed.links.remove(&index);
    }
    dockers(desired, &links, &mut observed);
    let address = |a: &netlink::Address| plan::Address { link: a.link, address: a.address };
    observed.addresses = addresses.iter().map(address).collect();
    observed.site = site::of_host(&observed, &addresses, &routes);
    // Those of interfaces that have gone are among them: one that went to another namespace took the program along.
    observed.hooks = known.hooks.clone();
    for link in &links {
        let Some(&xdp) = known.xdp.get(&link.index) else { continue };
        let generic = link.xdp == Some(bpf::XdpMode::Generic);
        let xdp = match xdp {
            Xdp::Attached { current, .. } => Xdp::Attached { current, generic },
            // They have left: it is our turn.
            Xdp::Refused { taken: true } if link.xdp.is_none() => continue,
            refused @ Xdp::Refused { .. } => refused,
        };
        observed.xdp.insert(link.index, xdp);
    }
    bridges(machine, &mut observed).await?;
    sandboxes(machine, desired, look, &mut observed).await;
    observed.stray_sandboxes = strays(machine, desired)?;
    Ok(observed)
}

/// Returns whether a link of the agent's own namespace is the other end of an endpoint's veth: Docker has yet to take it.
pub(super) fn is_end(link: &netlink::Link, links: &BTreeMap<u32, Link>) -> bool {
    let is_here = link.kind == netlink::LinkKind::Veth && link.peer_namespace.is_none();
    let peer = link.peer.filter(|_| is_here).and_then(|peer| links.get(&peer));
    peer.is_some_and(|peer| matches!(peer.owner, Owner::Endpoint(_)))
}

pub(super) fn link_of(machine: &Machine, desired: &Desired, link: &netlink::Link) -> Link {
    let used = || desired.networks.values().find(|n| n.brought && n.bridge == link.name);
    let owned = machine.mark.recognise(&link.name, link.alias.as_deref(), link.mac);
    let owner = match owned {
        None if link.kind == netlink::LinkKind::Bridge => {
            used().map_or(Owner::Foreign, |network| Owner::Brought(network.id))
        }
        None => Owner::Foreign,
        Some(Owned::HalfMade) => Owner::HalfMade,
        Some(Owned::Names) => Owner::Names,
        // An id that does not read is no id of ours.
        Some(Owned::Bridge(id)) => id.parse().map_or(Owner::Foreign, Owner::Network),
        Some(Owned::Veth(id)) => id.parse().map_or(Owner::Foreign, Owner::Endpoint),
    };
    Link {
        index: link.index,
        name: link.name.clone(),
        owner,
        up: link.up,
        loopback: link.loopback,
        ethernet: link.ethernet,
        mtu: link.mtu,
        mac: link.mac.unwrap_or_default(),
        asks: link.asks,
        ipv6: link.ipv6 && matches!(owner, Owner::Network(_)),
        master: link.master,
        quiet: link.port.is_some_and(|port| !port.learning && !port.unicast_flood),
        source: None,
        source6: None,
        leads_out: false,
    }
}

/// Tells which veths are Docker's, and whose. One that it is just making leads nowhere, whether its networks are served or
/// not: it goes into a container, and would take programs along.
fn dockers(desired: &Desired, links: &[netlink::Link], observed: &mut Observed) {
    let endpoints = desired.containers.values().filter(|c| c.is_adopted());
    let endpoints = endpoints.flat_map(|c| c.endpoints());
    let known: BTreeMap<_, _> =
        endpoints.filter_map(|(_, e)| Some(((e.adopted?, e.veth.as_str()), e.id))).collect();
    let adopted = |id: &NetworkId| desired.networks.get(id).is_some_and(|n| n.adopted);
    let bridge = |observed: &Observed, index| match observed.links.get(&index)?.owner {
        Owner::Brought(id) => Some(id).filter(&adopted),
        _ => None,
    };
    for link in links.iter().filter(|l| owned::is_docker_veth(l)) {
        let owner = match (known.get(&(link.index, link.name.as_str())), link.master) {
            (Some(&endpoint), Some(_)) => Owner::Adopted(endpoint),
            (None, Some(master)) => bridge(observed, master).map_or(Owner::Foreign, Owner::Unknown),
            (_, None) => Owner::Passing,
        };
        if let Some(link) = observed.links.get_mut(&link.index)
            && link.owner == Owner::Foreign
        {
            link.owner = owner;
        }
    }
}

/// Reads what was set on bridges of ours.
async fn bridges(machine: &Machine, observed: &mut Observed) -> Result<(), ObserveError> {
    let ours = |index: &u32| observed.links.get(index).is_some_and(|l| l.owner.network().is_some());
    if !observed.links.keys().any(&ours) {
        return Ok(());
    }
    let fdb = machine.netlink.fdb().await?;
    let set = fdb.iter().filter(|entry| entry.set && ours(&entry.bridge));
    let fdb = set.map(|entry| plan::FdbEntry { port: entry.port, mac: entry.mac }).collect();
    let neighbours = machine.netlink.neighbours().await?;
    let set = neighbours.iter().filter(|n| n.permanent && ours(&n.link));
    let neighbours = set.filter_map(neighbour_of).collect();
    (observed.fdb, observed.neighbours) = (fdb, neighbours);
    Ok(())
}

fn neighbour_of(neighbour: &netlink::Neighbour) -> Option<plan::Neighbour> {
    let mac = neighbour.mac?;
    Some(plan::Neighbour { link: neighbour.link, ip: neighbour.address, mac })
}

async fn sandboxes(machine: &Machine, desired: &Desired, look: &Look, observed: &mut Observed) {
    let has_one = |c: &&Container| c.running().is_some() && c.has_namespace();
    let containers = desired.containers.values().filter(has_one);
    let looks = containers.map(|container| look_at(machine, container, look).boxed());
    let looks = futures::stream::iter(looks.collect::<Vec<_>>());
    observed.sandboxes = looks.buffer_unordered(AT_ONCE).collect().await;
}

async fn look_at(
    machine: &Machine,
    container: &Container,
    look: &Look,
) -> (ContainerId, plan::Sandbox) {
    let mut seen = which(machine, container);
    if seen.namespace.is_some() && look.includes(container.id) {
        seen.inside = inside(machine, container).await;
    }
    (container.id, seen)
}

/// Looks at a container's namespace, and inside unless that is known.
pub(super) async fn sandbox(
    machine: &Machine,
    container: &Container,
    known: Option<plan::Sandbox>,
) -> plan::Sandbox {
    let mut seen = which(machine, container);
    seen.inside =
        known.filter(|known| known.namespace == seen.namespace).and_then(|known| known.inside);
    if seen.inside.is_none() && seen.namespace.is_some() {
        seen.inside = inside(machine, container).await;
    }
    seen
}

/// Tells which namespace a container has and what leads there, without a look inside.
fn which(machine: &Machine, container: &Container) -> plan::Sandbox {
    let path = machine.places.namespace(container);
    plan::Sandbox { namespace: identify(&path), name: name_of(container, &path), inside: None }
}

/// Looks into a namespace; one that is going away right now is seen as not looked into.
async fn inside(machine: &Machine, container: &Container) -> Option<Inside> {
    let namespace = netns::Namespace::open(&machine.places.namespace(container)).ok()?;
    // From before the look on: what happens after it is heard.
    if namespace.identity().ok()? != machine.namespace {
        match machine.netlink.number_of(&namespace).await {
            Ok(number) => machine.numbers.note(container.id, number),
            Err(error) => {
                tracing::warn!(container = %container.id.short(), %error, "what is done inside is not heard");
            }
        }
    }
    let netlink = netlink::Netlink::open_in(&namespace).await.ok()?;
    let found = container::observe(&netlink).await.ok()?;
    // Where there is an address of it, it is not: asked only where there is none.
    let without_ipv6 = !found.addresses.iter().any(|a| a.address.is_ipv6())
        && namespace.run(sysctl::is_ipv6_off).await.is_ok_and(|off| off);
    Some(inside_of(&found, without_ipv6))
}

fn inside_of(found: &container::Inside, without_ipv6: bool) -> Inside {
    let loopback_up = found.links.iter().any(|link| link.loopback && link.up);
    let interface = |link: &netlink::Link| {
        let of_link = found.addresses.iter().filter(|a| a.link == link.index);
        let addresses = of_link.map(|a| a.address).collect();
        let defaults = found.routes.iter().filter(|r| r.is_default() && r.link == Some(link.index));
        let gateways = defaults.filter_map(|r| r.gateway).collect();
        let mac: Mac = link.mac.unwrap_or_default();
        let interface =
            Interface { peer: link.peer, up: link.up, mac, mtu: link.mtu, addresses, gateways };
        (link.name.clone(), interface)
    };
    let interfaces = found.links.iter().filter(|link| !link.loopback).map(interface).collect();
    Inside { loopback_up, without_ipv6, interfaces }
}

fn name_of(container: &Container, path: &Path) -> Name {
    if container.sandbox != Sandbox::Own {
        return Name::Settled;
    }
    let link = Path::new(netns::IP_NETNS_DIR).join(container.name.as_str());
    match std::fs::symlink_metadata(&link) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.exists() => Name::Free,
        _ => Name::Settled,
    }
}

fn strays(machine: &Machine, desired: &Desired) -> Result<BTreeSet<String>, ObserveError> {
    let own =
        |c: &&Container| c.running().is_some() && c.has_namespace() && c.sandbox == Sandbox::Own;
    let wanted: BTreeSet<_> =
        desired.containers.values().filter(own).map(|c| c.id.to_string()).collect();
    let pinned = netns::pinned(&machine.places.sandboxes())?;
    Ok(pinned.into_iter().map(|pin| pin.name).filter(|name| !wanted.contains(name)).collect())
}

fn hooks(machine: &Machine) -> Result<BTreeMap<Hook, HookState>, ObserveError> {
    let state = |(hook, found): (bpf::Hook, bpf::Attachment)| {
        let side = match hook.side {
            bpf::Side::Ingress => Side::Ingress,
            bpf::Side::Egress => Side::Egress,
        };
        let loaded = machine.programs.get(&found.program).is_ok_and(|p| p.id == found.program_id);
        let current = loaded && found.mode == machine.hooks.mode();
        (Hook { ifindex: hook.ifindex, side }, HookState { program: found.program, current })
    };
    Ok(machine.hooks.all()?.into_iter().map(state).collect())
}

fn xdp(machine: &Machine) -> Result<BTreeMap<u32, Xdp>, ObserveError> {
    let own = machine.programs.get(program::DENY)?.id;
    let attached = |program| Xdp::Attached { current: program == own, generic: false };
    let found = machine.hooks.all_xdp()?;
    Ok(found.into_iter().map(|(index, program)| (index, attached(program))).collect())
}

fn contents(tables: &bpf::Tables) -> Result<Contents, BpfError> {
    let subnets = tables.subnets4.all()?.into_iter().filter_map(|(key, value)| {
        let prefix = u8::try_from(key.length).ok()?;
        Some((Ipv4Network::new(key.key.into(), prefix).ok()?, value))
    });
    let subnets6 = tables.subnets6.all()?.into_iter().filter_map(|(key, value)| {
        let prefix = u8::try_from(key.length).ok()?;
        Some((Ipv6Network::new(key.key.into(), prefix).ok()?, value))
    });
    let served = tables.served.all()?.into_iter().map(|(key, rule)| ((key.length, key.key), rule));
    let ports = tables.ports.runs().into_iter().map(|(table, slots, value)| {
        (Run { table, first: slots.start, count: slots.end - slots.start }, value)
    });
    Ok(Contents {
        config: tables.config.all()?,
        generations: tables.generations.all()?,
        networks: tables.networks.all()?,
        subnets: subnets.collect(),
        subnets6: subnets6.collect(),
        locals: tables.locals4.all()?,
        locals6: tables.locals6.all()?,
        trusted: tables.trusted.all()?,
        bridges: tables.bridges.all()?,
        uplinks: tables.uplinks.all()?,
        endpoints: tables.endpoints.all()?,
        neighbours: tables.neighbours4.all()?,
        neighbours6: tables.neighbours6.all()?,
        links: tables.links.all()?,
        rules: tables.rules.all()?,
        served: served.collect(),
        ports: ports.collect(),
        denied: denied(&tables.deny)?,
        deny_late: tables.deny.late.all()?,
    })
}

fn denied(list: &bpf::Denials) -> Result<BTreeMap<IpNetwork, Denied>, BpfError> {
    let v4 = list.v4.all()?.into_iter().map(|(prefix, v)| (IpNetwork::V4(prefix.into()), v));
    let v6 = list.v6.all()?.into_iter().map(|(prefix, v)| (IpNetwork::V6(prefix.into()), v));
    Ok(v4.chain(v6).collect())
}
