//! Routes of the main table. Rules and other tables are left alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType, RouteVia,
    },
};

use super::{
    super::error::{Outcome, Result},
    Netlink,
};

/// Every IPv4 destination; unwrapped while compiling.
const ANY4: IpNetwork = IpNetwork::V4(Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).unwrap());
/// Every IPv6 destination.
const ANY6: IpNetwork = IpNetwork::V6(Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).unwrap());

/// A unicast route of the main table; one of several next hops is a route of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; a prefix of length 0 is the default.
    pub destination: IpNetwork,
    /// The next hop; `None`: on the link.
    pub gateway: Option<IpAddr>,
    /// The link that it leaves by.
    pub link: Option<u32>,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// Its metric: lower is preferred.
    pub metric: u32,
}

impl Route {
    /// The default route by a gateway.
    pub fn default_by(gateway: IpAddr, link: u32) -> Self {
        let destination = if gateway.is_ipv4() { ANY4 } else { ANY6 };
        Self { destination, gateway: Some(gateway), link: Some(link), source: None, metric: 0 }
    }

    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0
    }
}

impl Netlink {
    /// The unicast routes of the main table, of both families.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            let message = RouteNetlinkMessage::GetRoute(message);
            routes.extend(self.dump("routes", message, routes_of).await?);
        }
        Ok(routes)
    }

    /// Adds a route; one of the same destination and metric is replaced.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        let object = format!("{}{}", route.destination, by(route));
        let message = RouteNetlinkMessage::NewRoute(message_of(route));
        self.execute("add route", &object, message, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Deletes a route.
    pub async fn delete_route(&self, route: &Route) -> Result<Outcome> {
        let object = format!("{}{}", route.destination, by(route));
        let message = RouteNetlinkMessage::DelRoute(message_of(route));
        match self.execute("delete route", &object, message, 0).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.is_absent() => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }
}

/// The netlink family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn by(route: &Route) -> String {
    route.gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"))
}

pub(super) fn message_of(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.ip());
    message.header.destination_prefix_length = route.destination.prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope =
        if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    if !route.is_default() {
        attributes.push(RouteAttribute::Destination(route.destination.ip().into()));
    }
    attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    attributes.extend(route.link.map(RouteAttribute::Oif));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn routes_of(message: RouteNetlinkMessage) -> Vec<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return Vec::new() };
    let header = &message.header;
    let mut table = u32::from(header.table);
    let any = match header.address_family {
        AddressFamily::Inet => ANY4,
        AddressFamily::Inet6 => ANY6,
        _ => return Vec::new(),
    };
    let mut route = Route { destination: any, gateway: None, link: None, source: None, metric: 0 };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                let to =
                    ip(to).and_then(|to| IpNetwork::new(to, header.destination_prefix_length).ok());
                let Some(to) = to else { return Vec::new() };
                route.destination = to;
            }
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::MultiPath(found) => hops.extend(found.iter().cloned()),
            other => next_hop(&mut route, other),
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.kind != RouteType::Unicast {
        return Vec::new();
    }
    if hops.is_empty() {
        return vec![route];
    }
    let branch = |hop: netlink_packet_route::route::RouteNextHop| {
        let mut branch = Route { link: Some(hop.interface_index), ..route };
        hop.attributes.iter().for_each(|attribute| next_hop(&mut branch, attribute));
        branch
    };
    hops.into_iter().map(branch).collect()
}

fn next_hop(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => route.gateway = Some((*gateway).into()),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => route.gateway = Some((*gateway).into()),
        RouteAttribute::Oif(link) => route.link = Some(*link),
        _ => {}
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
