//! Who is where: the forwarding entries of bridges, and neighbours of links.

use std::net::IpAddr;

use bascule_common::abi::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use super::{
    super::error::{Outcome, Result},
    Netlink,
};

/// Behind which port of a bridge an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The port's index.
    pub port: u32,
    /// The bridge's index.
    pub bridge: u32,
    /// The address.
    pub mac: Mac,
    /// Whether it was set, and neither learned nor the port's own.
    pub set: bool,
}

/// Which Ethernet address an address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Its Ethernet address, where it is known.
    pub mac: Option<Mac>,
    /// Whether it was set, and not learned.
    pub permanent: bool,
}

impl Netlink {
    /// The forwarding entries of every bridge of the namespace.
    pub async fn fdb(&self) -> Result<Vec<FdbEntry>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        self.dump("forwarding", RouteNetlinkMessage::GetNeighbour(message), fdb_of).await
    }

    /// Says for good that an address is behind a port: nothing is learned, and nobody can take it over.
    pub async fn set_fdb(&self, port: u32, mac: Mac) -> Result<()> {
        let mut message = fdb_message(port, mac);
        message.header.state = NeighbourState::Noarp;
        message.header.flags |= NeighbourFlags::Sticky;
        let object = format!("{} of bridge port {port}", text(mac));
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.execute("set forwarding entry", &object, message, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Removes a forwarding entry.
    pub async fn delete_fdb(&self, port: u32, mac: Mac) -> Result<Outcome> {
        let object = format!("{} of bridge port {port}", text(mac));
        let message = RouteNetlinkMessage::DelNeighbour(fdb_message(port, mac));
        match self.execute("delete forwarding entry", &object, message, 0).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.is_absent() => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// Every neighbour of the namespace, of both families.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let message = RouteNetlinkMessage::GetNeighbour(message);
            neighbours.extend(self.dump("neighbours", message, neighbour_of).await?);
        }
        Ok(neighbours)
    }

    /// Says for good which Ethernet address an address has.
    pub async fn set_neighbour(&self, link: u32, address: IpAddr, mac: Mac) -> Result<()> {
        let mut message = neighbour_message(link, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let object = format!("{address} of link {link}");
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.execute("set neighbour", &object, message, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Removes a neighbour.
    pub async fn delete_neighbour(&self, link: u32, address: IpAddr) -> Result<Outcome> {
        let object = format!("{address} of link {link}");
        let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(link, address));
        match self.execute("delete neighbour", &object, message, 0).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.is_absent() => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }
}

fn fdb_message(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

fn neighbour_message(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = super::routes::family(address);
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn fdb_of(message: RouteNetlinkMessage) -> Option<FdbEntry> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let (mut bridge, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::LinkLayerAddress(address) => mac = mac_of(address),
            _ => {}
        }
    }
    let set = message.header.state == NeighbourState::Noarp;
    Some(FdbEntry { port: message.header.ifindex, bridge: bridge?, mac: mac?, set })
}

fn neighbour_of(message: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(*found));
            }
            NeighbourAttribute::LinkLayerAddress(found) => mac = mac_of(found),
            _ => {}
        }
    }
    let permanent = message.header.state == NeighbourState::Permanent;
    Some(Neighbour { link: message.header.ifindex, address: address?, mac, permanent })
}

fn mac_of(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
