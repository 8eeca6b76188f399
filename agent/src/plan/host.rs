//! The host's own side: which interfaces lead out, which addresses are its own, and the bridges.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use bascule_common::abi::{Ip4, Ip6, Local, Uplink, names::program, service};
use ipnetwork::IpNetwork;

use super::{
    Action, Address, Hook, Link, Observed, Owner, Planned, Settings, Side, Subject, diff::View,
};
use crate::model::{Desired, Family, Network};

/// Returns the interfaces that lead out of the host.
pub(super) fn uplinks<'a>(
    observed: &'a Observed,
    settings: &'a Settings,
) -> impl Iterator<Item = &'a Link> {
    observed.links.values().filter(|link| {
        // A bridge that is brought may have the host's line as a port.
        let by_bridge = matches!(link.owner, Owner::Brought(_)) && link.leads_out;
        let foreign = link.owner == Owner::Foreign || by_bridge;
        foreign && !link.loopback && link.master.is_none() && settings.is_uplink(&link.name)
    })
}

pub(super) fn uplink(link: &Link) -> Uplink {
    Uplink {
        masquerade4: link.source.map_or(Ip4::UNSPECIFIED, Ip4::from),
        mtu: link.mtu,
        flags: if link.ethernet { 0 } else { Uplink::LAYER3 },
        mac: link.mac,
        masquerade6: link.source6.map_or(Ip6::UNSPECIFIED, Ip6::from),
        ..Uplink::default()
    }
}

/// Returns the port table of an address of the host: its own, or that of all of its family.
fn table(desired: &Desired, ip: IpAddr) -> u32 {
    let all = match Family::of(ip) {
        Family::V4 => service::WILDCARD_TABLE,
        Family::V6 => service::WILDCARD_TABLE6,
    };
    desired.indices.tables.get(&ip).copied().unwrap_or(all)
}

fn local(desired: &Desired, observed: &Observed, Address { link, address }: &Address) -> Local {
    let ours = observed.links.get(link).is_some_and(|l| l.owner.network().is_some());
    let flags = if ours { Local::GATEWAY } else { 0 };
    Local { table: table(desired, address.ip()), flags }
}

/// Returns the host's IPv4 addresses and the broadcast addresses of its subnets.
pub(super) fn locals(desired: &Desired, observed: &Observed) -> BTreeMap<Ip4, Local> {
    let mut locals = BTreeMap::new();
    for found in &observed.addresses {
        let IpNetwork::V4(address) = found.address else { continue };
        if address.prefix() < 31 {
            let broadcast = Local { table: service::WILDCARD_TABLE, flags: Local::BROADCAST };
            locals.entry(address.broadcast().into()).or_insert(broadcast);
        }
        locals.insert(address.ip().into(), local(desired, observed, found));
    }
    // Every address of 127.0.0.0/8 is the host's.
    for (ip, &table) in &desired.indices.tables {
        if let IpAddr::V4(ip) = ip
            && ip.is_loopback()
        {
            locals.insert((*ip).into(), Local { table, flags: 0 });
        }
    }
    locals
}

/// Returns the host's IPv6 addresses, those of its links included.
pub(super) fn locals6(desired: &Desired, observed: &Observed) -> BTreeMap<Ip6, Local> {
    let mut locals = BTreeMap::<Ip6, Local>::new();
    for found in &observed.addresses {
        let IpNetwork::V6(address) = found.address else { continue };
        let new = local(desired, observed, found);
        // `fe80::1` may be on a bridge of ours and elsewhere.
        let held = locals.entry(address.ip().into()).or_insert(new);
        held.flags |= new.flags;
    }
    locals
}

/// Plans the bridges of networks.
pub(super) fn networks(desired: &Desired, observed: &View, plan: &mut Vec<Planned>) {
    // A bridge that is brought is used as it is.
    for network in desired.networks.values().filter(|n| !n.brought) {
        let subject = Subject::Network(network.id);
        match observed.bridges.get(&network.id).and_then(|index| observed.links.get(index)) {
            Some(link) => bridge(network, link, observed, plan),
            None => {
                let action = Action::CreateBridge {
                    network: network.id,
                    name: network.bridge.clone(),
                    mac: network.gateway_mac().octets(),
                    mtu: network.mtu.into(),
                };
                plan.push(Planned { subject, action });
            }
        }
    }
}

/// The address of the link, of a device that Linux gives none: without ports it has no carrier. All else works without
/// one. The routes of its subnets are there, and with nobody to ask there are no duplicates to be looked for. As a
/// bridge with ports has it, so has a network without IPv6, unless the operator has switched that off.
fn link_local(network: &Network, link: &Link, others: &[IpNetwork]) -> Option<IpNetwork> {
    let has_ipv6 = link.ipv6 || others.iter().any(IpNetwork::is_ipv6);
    let address = Ipv6Addr::from(Ip6::link_local(&network.gateway_mac().octets()));
    let address = IpNetwork::new(address.into(), 64).ok()?;
    (network.without_bridge() && has_ipv6 && !others.contains(&address)).then_some(address)
}

fn bridge(network: &Network, link: &Link, observed: &Observed, plan: &mut Vec<Planned>) {
    let (index, subject) = (link.index, Subject::Network(network.id));
    if network.without_bridge() {
        let hook = Hook { ifindex: index, side: Side::Egress };
        attach(observed, hook, program::TO_BRIDGE, subject, plan);
    }
    let mut push = |action| plan.push(Planned { subject, action });
    if network.without_bridge() && link.asks {
        push(Action::StopAsking { index });
    }
    let mac = network.gateway_mac().octets();
    if link.mac != mac {
        push(Action::SetMac { index, mac });
    }
    if link.mtu != u32::from(network.mtu) {
        push(Action::SetMtu { index, mtu: network.mtu.into() });
    }
    let mut wanted = network.on_bridge();
    wanted.extend(link_local(network, link, &wanted));
    let found = || observed.addresses.iter().filter(|a| a.link == index).map(|a| a.address);
    // Further addresses may be the operator's; only one that is in the way of a gateway's goes.
    let in_the_way =
        |a: &IpNetwork| !wanted.contains(a) && wanted.iter().any(|gateway| gateway.ip() == a.ip());
    for address in found().filter(in_the_way) {
        push(Action::DeleteAddress { index, address });
    }
    for address in wanted.iter().copied().filter(|wanted| !found().any(|a| a == *wanted)) {
        push(Action::AddAddress { index, name: link.name.clone(), address });
    }
    if !link.up {
        push(Action::SetUp { index, name: link.name.clone() });
    }
}

/// Plans the programs of uplinks, and their removal where an interface leads out no more.
pub(super) fn hooks(
    desired: &Desired,
    observed: &View,
    settings: &Settings,
    plan: &mut Vec<Planned>,
) {
    let subject = Subject::Host;
    for link in uplinks(observed, settings) {
        let (from, to) = if link.ethernet {
            (program::FROM_UPLINK, program::TO_UPLINK)
        } else {
            (program::FROM_UPLINK_L3, program::TO_UPLINK_L3)
        };
        for (side, program) in [(Side::Ingress, from), (Side::Egress, to)] {
            attach(observed, Hook { ifindex: link.index, side }, program, subject, plan);
        }
    }
    if let Some(ifindex) = observed.names {
        let hook = Hook { ifindex, side: Side::Ingress };
        attach(observed, hook, program::FROM_NAMES, subject, plan);
    }
    // Without an entry for it, they let nothing in or out: a container has its policy before its first packet.
    for link in observed.links.values().filter(|l| matches!(l.owner, Owner::Unknown(_))) {
        endpoint(observed, link.index, subject, plan);
    }
    let leading_out: BTreeSet<_> = uplinks(observed, settings).map(|l| l.index).collect();
    let wanted = |hook: &Hook| {
        let link = observed.links.get(&hook.ifindex);
        let ours = link.is_some_and(|l| {
            matches!(
                l.owner,
                Owner::Endpoint(_)
                    | Owner::Adopted(_)
                    | Owner::Unknown(_)
                    | Owner::Names
                    | Owner::HalfMade
            )
        });
        let network = link.and_then(|l| desired.networks.get(&l.owner.network()?));
        let stands_for = network.is_some_and(|n| n.without_bridge() && hook.side == Side::Egress);
        ours || stands_for || leading_out.contains(&hook.ifindex)
    };
    let stale = observed.hooks.keys().filter(|hook| !wanted(hook));
    plan.extend(stale.map(|hook| Planned { subject, action: Action::Detach(*hook) }));
}

/// Plans the programs of the host end of an endpoint.
pub(super) fn endpoint(
    observed: &Observed,
    ifindex: u32,
    subject: Subject,
    plan: &mut Vec<Planned>,
) {
    for (side, program) in
        [(Side::Ingress, program::FROM_CONTAINER), (Side::Egress, program::TO_CONTAINER)]
    {
        attach(observed, Hook { ifindex, side }, program, subject, plan);
    }
}

/// Plans a program for a hook, unless it is there.
pub(super) fn attach(
    observed: &Observed,
    hook: Hook,
    program: &'static str,
    subject: Subject,
    plan: &mut Vec<Planned>,
) {
    let there =
        observed.hooks.get(&hook).is_some_and(|state| state.current && state.program == program);
    if !there {
        plan.push(Planned { subject, action: Action::Attach { hook, program } });
    }
}
