//! What is asked of a container's place on a network, judged before it has one.

use std::net::IpAddr;

use super::{EndpointSpec, Rejected, find};
use crate::model::{
    Attachment, Desired, Family, InterfaceOptions, Lease, MacAddress, Name, Network, alias, ipam,
};

/// Judges wishes for a place on a network.
pub(super) fn attachment(
    desired: &Desired,
    network: &Network,
    spec: &EndpointSpec,
) -> Result<Attachment, Rejected> {
    let interface = wishes(network, spec)?;
    let asked = spec.ip.map(IpAddr::V4).into_iter().chain(spec.ip6.map(IpAddr::V6));
    for ip in asked {
        address_is_free(desired, network, ip)?;
    }
    let held = desired.addresses(network.id);
    if spec.link_local.iter().any(|ip| held.contains(ip)) {
        return Err(Rejected::address_taken());
    }
    if let Some(mac) = spec.mac {
        mac_is_free(desired, network, mac)?;
    }
    Ok(Attachment {
        network: network.id,
        network_name: network.name.clone(),
        static_ip: spec.ip,
        static_ip6: spec.ip6,
        static_mac: spec.mac,
        link_local: spec.link_local.clone(),
        aliases: spec.aliases.clone(),
        links: spec.links.clone(),
        options: spec.options.clone(),
        interface,
        priority: spec.priority,
        endpoint: None,
        lease: Lease::default(),
        exposed: false,
    })
}

/// Refuses an interface whose name another one of the container has or shall have.
pub(super) fn name_is_free(
    container: &Name,
    others: &[Attachment],
    wanted: &Attachment,
) -> Result<(), Rejected> {
    let Some(name) = &wanted.interface.name else { return Ok(()) };
    let has = |a: &Attachment| {
        a.interface.name.as_ref() == Some(name)
            || a.endpoint.as_ref().is_some_and(|e| e.interface == *name)
    };
    if others.iter().any(has) {
        return Err(Rejected::conflict(format!(
            "container {container} has an interface {name} already"
        )));
    }
    Ok(())
}

/// Refuses wishes that no network of containers is there for.
pub(super) fn none(reference: &str, spec: &EndpointSpec) -> Result<(), Rejected> {
    let mut wrong = Vec::new();
    if spec.ip.is_some() || spec.ip6.is_some() || !spec.link_local.is_empty() {
        wrong.push(NOT_PREDEFINED_IP.to_owned());
    }
    if !spec.aliases.is_empty() {
        wrong.push(NOT_PREDEFINED_ALIAS.to_owned());
    }
    if spec.mac.is_some() {
        wrong.push("conflicting options: mac-address and the network mode".to_owned());
    }
    if !spec.options.is_empty() || spec.priority != 0 {
        wrong.push(format!("network {reference} has no endpoints that driver options or a gateway priority could be for"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(settings(&wrong)) }
}

const NOT_PREDEFINED_IP: &str =
    "user-specified IP address is supported on user-defined networks only";
const NOT_PREDEFINED_ALIAS: &str =
    "network-scoped aliases are only supported for user-defined networks";

/// Judges what can be judged without looking at others; everything that is wrong comes back at once.
fn wishes(network: &Network, spec: &EndpointSpec) -> Result<InterfaceOptions, Rejected> {
    let mut wrong = Vec::new();
    if network.predefined && (spec.ip.is_some() || spec.ip6.is_some()) {
        wrong.push(NOT_PREDEFINED_IP.to_owned());
    }
    if network.predefined && !spec.aliases.is_empty() {
        wrong.push(NOT_PREDEFINED_ALIAS.to_owned());
    }
    wrong.extend(spec.aliases.iter().filter_map(|name| alias::wrong(name)));
    let of_link = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let others = spec.link_local.iter().filter(|ip| !of_link(ip));
    wrong.extend(others.map(|ip| format!("invalid link-local IP address: {ip}")));
    let interface = match InterfaceOptions::new(&spec.options) {
        Ok(interface) => interface,
        Err(more) => {
            wrong.extend(more);
            InterfaceOptions::default()
        }
    };
    if wrong.is_empty() { Ok(interface) } else { Err(settings(&wrong)) }
}

/// Writes what is wrong with the wishes for an endpoint as Docker does.
fn settings(wrong: &[String]) -> Rejected {
    let list = match wrong {
        [one] => one.clone(),
        all => format!("* {}", all.join("\n* ")),
    };
    Rejected::invalid(format!("invalid endpoint settings:\n{list}"))
}

fn address_is_free(desired: &Desired, network: &Network, ip: IpAddr) -> Result<(), Rejected> {
    let pool = network.pool(Family::of(ip)).filter(|pool| pool.subnet.contains(ip));
    let Some(pool) = pool else { return Err(Rejected::outside(ip)) };
    let taken = ipam::is_edge(pool.subnet, ip)
        || pool.reserved().contains(&ip)
        || desired.addresses(network.id).contains(&ip);
    if taken { Err(Rejected::address_taken()) } else { Ok(()) }
}

pub(super) fn mac_is_free(
    desired: &Desired,
    network: &Network,
    mac: MacAddress,
) -> Result<(), Rejected> {
    let holds = |a: &Attachment| {
        a.static_mac == Some(mac) || a.endpoint.as_ref().is_some_and(|e| e.mac == mac)
    };
    let taken = desired.attachments(network.id).any(|(_, a)| holds(a));
    if mac == network.gateway_mac() || taken {
        let name = &network.name;
        return Err(Rejected::forbidden(format!(
            "MAC address {mac} is already in use on network {name}"
        )));
    }
    Ok(())
}

/// The name before another container's where its network is asked for.
pub(super) const CONTAINER: &str = "container:";

/// Returns the container whose network is asked for, if that is what is asked for.
pub(super) fn shared<'a>(
    desired: &'a Desired,
    reference: &str,
) -> Option<Result<&'a crate::model::Container, Rejected>> {
    let other = reference.strip_prefix(CONTAINER)?;
    Some(match other {
        "" => Err(Rejected::invalid(
            "invalid network mode: invalid container format container:<name|id>",
        )),
        other => find::own(desired, other),
    })
}
