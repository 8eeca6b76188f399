//! Addresses of links.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
};
use nix::errno::Errno;

use super::{
    super::error::{Outcome, Result},
    Netlink,
};

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address, with its prefix length.
    pub address: IpNetwork,
    /// How far it means something.
    pub scope: Scope,
    /// Whether it is not the first of its subnet on the link, or about to go: not chosen as a source.
    pub secondary: bool,
}

/// How far an address means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On the link.
    Link,
    /// In this namespace.
    Host,
    /// Anything else.
    Other,
}

impl Netlink {
    /// Every address of the namespace, in the kernel's order.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("addresses", message, address_of).await
    }

    /// Gives a link an address, and the route to its subnet with it.
    pub async fn add_address(&self, link: u32, address: IpNetwork) -> Result<Outcome> {
        let mut message = message_of(link, address);
        if let IpNetwork::V4(network) = address
            && network.prefix() < 31
        {
            message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
        }
        if address.is_ipv6() {
            // Nobody else has it: it was allocated. Without this it could not be used for a second.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let object = format!("{address} to link {link}");
        let message = RouteNetlinkMessage::NewAddress(message);
        match self.execute("add address", &object, message, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// Takes an address from a link.
    pub async fn delete_address(&self, link: u32, address: IpNetwork) -> Result<Outcome> {
        let message = RouteNetlinkMessage::DelAddress(message_of(link, address));
        let object = format!("{address} of link {link}");
        match self.execute("delete address", &object, message, 0).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.is_absent() => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }
}

fn message_of(link: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = super::routes::family(address.ip());
    message.header.prefix_len = address.prefix();
    message.header.index = link;
    message.attributes =
        vec![AddressAttribute::Local(address.ip()), AddressAttribute::Address(address.ip())];
    message
}

fn address_of(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let (mut local, mut either): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => either = Some(*address),
            _ => {}
        }
    }
    let header = &message.header;
    // With a peer, `Address` is the peer's and the prefix length belongs to it.
    let prefix = match (local, either) {
        (Some(local), Some(peer)) if local != peer => host_prefix(local),
        _ => header.prefix_len,
    };
    let unfit = AddressHeaderFlags::Deprecated | AddressHeaderFlags::Dadfailed;
    // IPv6 uses the same bit for temporary addresses, which change from day to day.
    let later = header.flags.contains(AddressHeaderFlags::Secondary);
    Some(Address {
        link: header.index,
        address: IpNetwork::new(local.or(either)?, prefix).ok()?,
        scope: match header.scope {
            AddressScope::Universe => Scope::Global,
            AddressScope::Link => Scope::Link,
            AddressScope::Host => Scope::Host,
            _ => Scope::Other,
        },
        secondary: later || header.flags.intersects(unfit),
    })
}

/// The prefix length of a single address.
fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
