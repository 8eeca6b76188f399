//! Containers: their namespaces, veths, and what is inside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use bascule_common::abi::{Ip6, NeighbourKey};
use ipnetwork::IpNetwork;

use super::{
    Action, FdbEntry, Inside, Link, Name, Neighbour, Owner, Planned, Sandbox, Settings, Subject,
    WayToNames, action::ConfigureInterface, diff::View, host,
};
use crate::model::{self, Attachment, Container, Desired, Endpoint, Family, Network};

/// Plans everything about containers that is not in a map.
pub(super) fn containers(
    desired: &Desired,
    observed: &View,
    settings: &Settings,
    plan: &mut Vec<Planned>,
) {
    for container in desired.containers.values() {
        let subject = Subject::Container(container.id);
        if container.is_adopted() {
            // All else is Docker's doing.
            let veths = container.endpoints().filter_map(|(_, e)| observed.veths.get(&e.id));
            veths.for_each(|index| host::endpoint(observed, *index, subject, plan));
        }
        if container.running().is_none() || !(container.has_namespace() || container.is_plugged()) {
            continue;
        }
        let sandbox = observed.sandboxes.get(&container.id);
        let mut push = |action| plan.push(Planned { subject, action });
        if container.is_plugged()
            || sandbox.is_some_and(|sandbox| ready(container, sandbox, &mut push))
        {
            for (attachment, endpoint) in places(container) {
                if let Some(network) = desired.networks.get(&attachment.network) {
                    let place = Place {
                        desired,
                        observed,
                        settings,
                        container,
                        network,
                        attachment,
                        endpoint,
                        inside: sandbox.and_then(|sandbox| sandbox.inside.as_ref()),
                    };
                    place.plan(plan);
                }
            }
        }
    }
    neighbours(desired, observed, plan);
    strays(desired, observed, plan);
}

/// Plans a container's namespace; tells whether it is there.
fn ready(container: &Container, sandbox: &Sandbox, push: &mut impl FnMut(Action)) -> bool {
    let own = container.sandbox == model::Sandbox::Own;
    if sandbox.namespace.is_none() {
        // One that was brought and is gone takes its container down; it is not made again.
        if own && container.running().is_some_and(|r| r.namespace.is_none()) {
            push(Action::CreateSandbox(container.id));
        }
        return false;
    }
    if own && sandbox.name == Name::Free {
        push(Action::PublishName { container: container.id, name: container.name.to_string() });
    }
    if own && sandbox.inside.as_ref().is_some_and(|inside| !inside.loopback_up) {
        push(Action::LoopbackUp(container.id));
    }
    true
}

/// A container's place on a network.
struct Place<'a> {
    desired: &'a Desired,
    observed: &'a View<'a>,
    settings: &'a Settings,
    container: &'a Container,
    network: &'a Network,
    attachment: &'a Attachment,
    endpoint: &'a Endpoint,
    inside: Option<&'a Inside>,
}

impl Place<'_> {
    fn plan(&self, plan: &mut Vec<Planned>) {
        let subject = Subject::Container(self.container.id);
        let bridge = self.observed.bridges.get(&self.network.id).copied();
        let link =
            self.observed.veths.get(&self.endpoint.id).and_then(|i| self.observed.links.get(i));
        let Some(link) = link else {
            // What Docker has taken can only go with the sandbox that it is in.
            if self.container.has_joined() {
                return;
            }
            let action = Action::CreateVeth {
                container: self.container.id,
                endpoint: self.endpoint.id,
                name: self.endpoint.veth.clone(),
                mac: self.endpoint.mac.octets(),
                mtu: self.network.mtu.into(),
            };
            return plan.push(Planned { subject, action });
        };
        let index = link.index;
        host::endpoint(self.observed, index, subject, plan);
        let mut push = |action| plan.push(Planned { subject, action });
        if !self.network.without_bridge() {
            if let Some(bridge) = bridge.filter(|b| link.master != Some(*b)) {
                if self.network.brought {
                    // Set once, it stays: Linux would change it with the ports, and all neighbours be wrong.
                    push(Action::SetMac {
                        index: bridge,
                        mac: self.observed.gateway_mac(self.network),
                    });
                }
                push(Action::Enslave { index, bridge });
            }
            if !link.quiet {
                push(Action::Quiet { index });
            }
        }
        if link.mtu != u32::from(self.network.mtu) {
            push(Action::SetMtu { index, mtu: self.network.mtu.into() });
        }
        if let Some(inside) = self.inside {
            self.interface(inside, link, &mut push);
        }
        if !link.up {
            push(Action::SetUp { index, name: link.name.clone() });
        }
    }

    /// How the server of names is asked at 127.0.0.11: in sandboxes of ours, on networks with names.
    fn names(&self) -> Option<WayToNames> {
        let named = !self.network.predefined || self.settings.default_bridge_dns;
        let own = self.container.sandbox == model::Sandbox::Own;
        let gateway = || self.observed.gateway_mac(self.network);
        let from = self.endpoint.asks_from();
        (named && own).then(|| WayToNames { gateway: gateway(), from })
    }

    /// Plans the container's end, where it is not what it shall be.
    fn interface(&self, inside: &Inside, link: &Link, push: &mut impl FnMut(Action)) {
        let endpoint = self.endpoint;
        let with_prefix =
            |family| self.network.pool(family)?.with_prefix(endpoint.address(family)?);
        // Whoever switches it off for the whole container has it off.
        let families = || {
            Family::ALL.into_iter().filter(|family| *family == Family::V4 || !inside.without_ipv6)
        };
        let mut addresses: Vec<_> = families().filter_map(with_prefix).collect();
        let of_links = self.attachment.link_local.iter().copied();
        let of_links = of_links.filter(|ip| families().any(|family| family == Family::of(*ip)));
        addresses.extend(of_links.filter_map(of_link));
        let leads_out = |family: &Family| {
            let first = self.desired.gateway(self.container, *family);
            first.is_some_and(|(_, first)| first.id == endpoint.id)
        };
        let gateways: Vec<_> = families()
            .filter(leads_out)
            .filter_map(|family| self.network.gateway(family))
            .collect();
        let settled = inside.interfaces.get(&endpoint.interface).is_some_and(|found| {
            found.peer == Some(link.index)
                && found.up
                && found.mac == endpoint.mac.octets()
                && found.mtu == u32::from(self.network.mtu)
                // Further addresses are the container's own affair; it cannot send from them.
                && addresses.iter().all(|address| found.addresses.contains(address))
                && gateways.iter().all(|gateway| found.gateways.contains(gateway))
        });
        if !settled {
            push(Action::Configure(Box::new(ConfigureInterface {
                container: self.container.id,
                endpoint: endpoint.id,
                host_index: link.index,
                name: endpoint.interface.clone(),
                mac: endpoint.mac.octets(),
                mtu: self.network.mtu.into(),
                addresses,
                gateways,
                sysctls: self.attachment.interface.sysctls.clone(),
                names: self.names(),
            })));
        }
    }
}

/// Returns a running container's places on networks.
fn places(container: &Container) -> impl Iterator<Item = (&Attachment, &Endpoint)> {
    container.attachments.iter().filter_map(|a| Some((a, a.endpoint.as_ref()?)))
}

/// Returns an address of the link with the prefix that every link has.
fn of_link(address: IpAddr) -> Option<IpNetwork> {
    IpNetwork::new(address, if address.is_ipv4() { 16 } else { 64 }).ok()
}

/// Plans the forwarding entries and neighbours of our bridges: the host reaches containers without asking. Where there
/// is no bridge, it asks for none.
fn neighbours(desired: &Desired, observed: &View, plan: &mut Vec<Planned>) {
    let (mut fdb, mut neighbours) = (BTreeMap::new(), BTreeMap::new());
    let View { bridges, veths, .. } = observed;
    for container in desired.containers.values().filter(|c| !c.is_adopted()) {
        for (network, endpoint) in container.endpoints() {
            let (Some(&port), Some(&link)) = (veths.get(&endpoint.id), bridges.get(&network))
            else {
                continue;
            };
            let (subject, mac) = (Subject::Container(container.id), endpoint.mac.octets());
            // An entry can be set only once the veth is a port of the bridge.
            if observed.links.get(&port).is_some_and(|l| l.master == Some(link)) {
                fdb.insert(FdbEntry { port, mac }, subject);
            }
            let link_local =
                endpoint.ip6.map(|_| IpAddr::from(Ipv6Addr::from(Ip6::link_local(&mac))));
            let unbridged = desired.networks.get(&network).is_some_and(Network::without_bridge);
            let known = endpoint.addresses().chain(link_local).filter(|_| !unbridged);
            for ip in known {
                neighbours.insert(Neighbour { link, ip, mac }, subject);
            }
        }
    }
    let ours = |entry: &&FdbEntry| {
        observed.links.get(&entry.port).is_some_and(|l| matches!(l.owner, Owner::Endpoint(_)))
    };
    let host = |action| Planned { subject: Subject::Host, action };
    let gone = observed.fdb.iter().filter(ours).filter(|e| !fdb.contains_key(e));
    plan.extend(gone.map(|entry| host(Action::DeleteFdb(*entry))));
    // What else is on a bridge of ours may be the operator's: only what the data plane knew was ours.
    let index = |link: u32| {
        let network = bridges.iter().find(|(_, bridge)| **bridge == link).map(|(id, _)| id);
        network.and_then(|id| desired.networks.get(id)).filter(|n| !n.adopted).map(|n| n.index)
    };
    let ours = |n: &&Neighbour| {
        let Some(network) = index(n.link) else { return false };
        let (known, known6) = (&observed.contents.neighbours, &observed.contents.neighbours6);
        match n.ip {
            IpAddr::V4(ip) => known.contains_key(&NeighbourKey { network, address: ip.into() }),
            IpAddr::V6(ip) => known6.contains_key(&NeighbourKey { network, address: ip.into() }),
        }
    };
    let gone = observed.neighbours.iter().filter(|n| !neighbours.contains_key(n)).filter(ours);
    plan.extend(gone.map(|neighbour| host(Action::DeleteNeighbour(*neighbour))));
    let set = |(entry, subject)| Planned { subject, action: Action::SetFdb(entry) };
    plan.extend(fdb.into_iter().filter(|(e, _)| !observed.fdb.contains(e)).map(set));
    let set = |(neighbour, subject)| Planned { subject, action: Action::SetNeighbour(neighbour) };
    plan.extend(neighbours.into_iter().filter(|(n, _)| !observed.neighbours.contains(n)).map(set));
}

/// Plans the removal of what is ours and nobody wants.
fn strays(desired: &Desired, observed: &View, plan: &mut Vec<Planned>) {
    let subject = Subject::Host;
    let endpoints: BTreeSet<_> = desired
        .containers
        .values()
        .flat_map(|c| c.endpoints().map(|(_, e)| e.id).collect::<Vec<_>>())
        .collect();
    for link in observed.links.values() {
        let wanted = match link.owner {
            Owner::Foreign
            | Owner::Brought(_)
            | Owner::Adopted(_)
            | Owner::Unknown(_)
            | Owner::Passing => true,
            Owner::Network(id) => desired.networks.get(&id).is_some_and(|n| !n.brought),
            Owner::Endpoint(id) => endpoints.contains(&id),
            // It goes with the agent that made it.
            Owner::Names => true,
            Owner::HalfMade => false,
        };
        if !wanted {
            let action = Action::DeleteLink { index: link.index, name: link.name.clone() };
            plan.push(Planned { subject, action });
        }
    }
    let sandboxes = observed.stray_sandboxes.iter().cloned();
    plan.extend(sandboxes.map(|name| Planned { subject, action: Action::RemoveSandbox(name) }));
}
