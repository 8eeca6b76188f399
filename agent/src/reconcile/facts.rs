//! Gathers what a change needs to know of the world, before it is judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use ipnetwork::IpNetwork;
use jiff::Timestamp;

use super::{machine::Machine, resolvers::resolvers, seen::Seen, sysctls};
use crate::{
    kernel::{
        self,
        netlink::{self, Netlink},
        netns, process, reserve,
    },
    model::{
        AddressPools, Container, Desired, NamespaceId, PortRange, Process, Proto, PublishRange,
        Sandbox, pools::leads_anywhere,
    },
    state::{Brought, Change, Facts, PluginChange, brings, find, store::Store},
};

/// MTU of networks where no default route tells.
const MTU: u16 = 1500;

/// Gathers what a change needs.
pub async fn gather(
    machine: &Machine,
    (pools, publish_range): &(AddressPools, PublishRange),
    desired: &Desired,
    seen: Option<&Seen>,
    change: &Change,
    store: &Store,
) -> kernel::Result<Facts> {
    // What gives nothing out needs to know nothing.
    let of_plugin = matches!(change, Change::Plugin(change) if !change.looks_at_the_host());
    let gives = !of_plugin
        && !matches!(
            change,
            Change::Stop { .. }
                | Change::Rebooted
                | Change::Recover
                | Change::Follow { .. }
                | Change::BroughtUp { .. }
                | Change::RemoveContainer { .. }
                | Change::Deny { .. }
                | Change::Undeny(_)
                | Change::Docker(_)
                | Change::Adoption(_)
        );
    let publishes = chooses_ports(desired, change);
    // An endpoint's address is chosen from its network's; only ports are a matter of the host's.
    let gives = gives && !(seen.is_some() && !publishes && is_of_container(change));
    let (links, addresses, routes) = match gives {
        true => (
            machine.netlink.links().await?,
            machine.netlink.addresses().await?,
            machine.netlink.routes().await?,
        ),
        false => Default::default(),
    };
    let mut by_link: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for address in &addresses {
        by_link.entry(address.link).or_default().push(address.address);
    }
    let mut interfaces: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for link in &links {
        interfaces.insert(link.name.clone(), by_link.remove(&link.index).unwrap_or_default());
    }
    let foreign = |link: &&netlink::Link| {
        let owned = machine.mark.recognise(&link.name, link.alias.as_deref(), link.mac);
        link.kind == netlink::LinkKind::Bridge && owned.is_none()
    };
    let bridges = links.iter().filter(foreign);
    let bridges =
        bridges.map(|link| (link.name.clone(), u16::try_from(link.mtu).unwrap_or(u16::MAX)));
    let mtu =
        netlink::mtu_of_default_route(&links, &routes).and_then(|mtu| u16::try_from(mtu).ok());
    let choice = if publishes { choice(*publish_range) } else { publish_range.or(None) };
    let (held, reserved) = match publishes {
        true => (held()?, reserved(store, *publish_range)?),
        false => Default::default(),
    };
    Ok(Facts {
        now: Timestamp::now(),
        entropy: Box::new(rand::random::<[u8; 32]>),
        interfaces,
        bridges: bridges.collect(),
        routes: routes
            .iter()
            .map(|r| r.destination)
            .filter(|r| !leads_anywhere(*r) && !is_link_local(*r))
            .collect(),
        site: site(&addresses, &routes),
        resolvers: if makes_network(change) { resolvers() } else { Vec::new() },
        pools: pools.clone(),
        choice,
        held,
        reserved,
        mtu: mtu.unwrap_or(MTU).max(68),
        brought: brought(machine, desired, change).await,
    })
}

/// Returns what the host knows of the site around it.
fn site(addresses: &[netlink::Address], routes: &[netlink::Route]) -> Vec<IpNetwork> {
    let outward = || routes.iter().filter(|route| route.gateway.is_some());
    let behind = outward().map(|route| route.destination).filter(|to| !leads_anywhere(*to));
    let beside = addresses.iter().filter(|a| outward().any(|route| route.link == Some(a.link)));
    beside.map(|a| a.address).chain(behind).collect()
}

/// Tells whether a change may choose a subnet.
const fn makes_network(change: &Change) -> bool {
    matches!(
        change,
        Change::CreateNetwork(_)
            | Change::DefaultNetwork(_)
            | Change::DefaultIpv6(_)
            | Change::Plugin(PluginChange::CreateNetwork(_) | PluginChange::RequestPool { .. })
    )
}

/// Tells whether a route is there on every link, and so takes nothing.
fn is_link_local(network: IpNetwork) -> bool {
    matches!(network, IpNetwork::V6(network) if network.ip().is_unicast_link_local())
}

/// Tells whether a change is about a container alone.
const fn is_of_container(change: &Change) -> bool {
    matches!(
        change,
        Change::CreateContainer(_)
            | Change::Start(_)
            | Change::Connect { .. }
            | Change::Disconnect { .. }
    )
}

fn chooses_ports(desired: &Desired, change: &Change) -> bool {
    if let Change::Plugin(change) = change {
        // When published ports lose their way, they may find another one.
        return matches!(change, PluginChange::Revoke(_))
            || matches!(change, PluginChange::Program { publish, .. } if !publish.is_empty());
    }
    let (Change::Start(reference)
    | Change::Connect { container: reference, .. }
    | Change::Disconnect { container: reference, .. }) = change
    else {
        return false;
    };
    find::container(desired, reference).is_ok_and(|c| !c.publish.is_empty() || c.publish_all)
}

/// Returns the ports that are chosen from now.
fn choice(publish_range: PublishRange) -> PortRange {
    let kernel = match publish_range {
        PublishRange::Fixed(_) => None,
        PublishRange::Auto => kernel::sysctl::chosen_ports()
            .inspect_err(|error| tracing::warn!(%error, "the kernel's range of ports is unknown"))
            .ok(),
    };
    let range =
        |(first, last): (u16, u16)| PortRange::new(first, last.checked_sub(first)?.checked_add(1)?);
    publish_range.or(kernel.and_then(range))
}

/// Returns the ports that others keep from automatic choice; where it is from the kernel's own range, those
/// of connections too.
fn reserved(store: &Store, publish_range: PublishRange) -> kernel::Result<BTreeSet<u16>> {
    let mut reserved = sysctls::reserved_by_others(store).unwrap_or_else(|error| {
        tracing::warn!(%error, "ports that others have reserved may be chosen");
        BTreeSet::new()
    });
    if publish_range == PublishRange::Auto {
        reserved.append(&mut reserve::connected()?);
    }
    Ok(reserved)
}

/// Returns the ports that processes of the host hold.
fn held() -> kernel::Result<BTreeSet<(Proto, IpAddr, u16)>> {
    let holders = reserve::holders()?;
    let held = holders.iter().flat_map(|holder| {
        let proto = match holder.protocol {
            reserve::Protocol::Tcp => Proto::Tcp,
            reserve::Protocol::Udp => Proto::Udp,
        };
        // The wildcard of IPv6 takes IPv4 too, unless its socket says otherwise.
        let both = holder.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !holder.only_v6;
        let v4 = both.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let addresses = v4.into_iter().chain([holder.address.to_canonical()]);
        addresses.map(move |address| (proto, address, holder.port))
    });
    Ok(held.collect())
}

async fn brought(
    machine: &Machine,
    desired: &Desired,
    change: &Change,
) -> Option<Result<Brought, String>> {
    let looked_up = |reference: &str| -> Option<&Container> {
        find::container(desired, reference).ok().filter(|c| brings(c))
    };
    let sandbox = match change {
        Change::CreateContainer(spec) => spec.sandbox.clone(),
        Change::Start(reference) => looked_up(reference)?.sandbox.clone(),
        Change::Connect { container, .. } => {
            looked_up(container).filter(|c| c.running().is_some())?.sandbox.clone()
        }
        _ => return None,
    };
    match sandbox {
        Sandbox::Own | Sandbox::Docker(_) | Sandbox::Adopted => None,
        Sandbox::Path(path) => Some(look(machine, &path, &path.display().to_string()).await),
        Sandbox::Process(pid) if process::start_time(pid).is_none() => {
            Some(Err(format!("there is no process {pid} whose network namespace could be brought")))
        }
        Sandbox::Process(pid) => {
            let process = process::start_time(pid).map(|start_time| Process { pid, start_time });
            let path = format!("/proc/{pid}/ns/net");
            let found = look(machine, Path::new(&path), &format!("that of process {pid}")).await;
            Some(found.map(|brought| Brought { process, ..brought }))
        }
    }
}

async fn look(machine: &Machine, path: &Path, name: &str) -> Result<Brought, String> {
    let failed =
        |error: kernel::Error| format!("the network namespace {name} cannot be brought: {error}");
    let namespace = netns::Namespace::open(path).map_err(failed)?;
    let identity = namespace.identity().map_err(failed)?;
    let inside = Netlink::open_in(&namespace).await.map_err(failed)?;
    let links = inside.links().await.map_err(failed)?;
    Ok(Brought {
        process: None,
        id: NamespaceId { device: identity.device, inode: identity.inode },
        is_agents: identity == machine.namespace,
        interfaces: links.into_iter().map(|link| link.name).collect(),
    })
}
