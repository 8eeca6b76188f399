//! The container's side: its loopback device and its ends of veths, set up from inside.
//! Which addresses and routes it gets is not decided here.

use std::net::{IpAddr, Ipv4Addr};

use bascule_common::abi::Mac;
use ipnetwork::IpNetwork;

use super::{
    error::{Error, Outcome, Result},
    netlink::{Link, LinkKind, Netlink, Route},
};
use crate::plan::WayToNames;

/// Where the server of names is asked in a sandbox of ours.
pub const NAMES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What a container's interface shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name that it was made with.
    pub temporary: String,
    /// The name that it shall have: `ethN`.
    pub name: String,
    /// The index of its veth's other end, in the agent's namespace: how it is told from others.
    pub host_index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// The gateways of the default routes by it; those that lead elsewhere are not among them.
    pub gateways: Vec<IpAddr>,
    /// How the server of names is asked, where it is by it.
    pub names: Option<WayToNames>,
}

/// What is inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Its links.
    pub links: Vec<Link>,
    /// Their addresses.
    pub addresses: Vec<super::netlink::Address>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// Reads what is inside a container.
pub async fn observe(inside: &Netlink) -> Result<Inside> {
    Ok(Inside {
        links: inside.links().await?,
        addresses: inside.addresses().await?,
        routes: inside.routes().await?,
    })
}

/// Sets the loopback device up.
pub async fn set_loopback_up(inside: &Netlink) -> Result<Outcome> {
    let links = inside.links().await?;
    let Some(loopback) = links.iter().find(|link| link.loopback) else {
        return Err(Error::unexpected("set up", "the loopback device", "there is none"));
    };
    if loopback.up {
        return Ok(Outcome::Already);
    }
    inside.set_up(loopback.index, true).await?;
    Ok(Outcome::Done)
}

/// Whether a container's end of a veth is what it shall be; more addresses and routes do no harm.
pub fn is_configured(found: &Inside, wanted: &Interface) -> bool {
    let Ok(link) = end_of(&found.links, wanted) else { return false };
    let has = |address: &IpNetwork| {
        found.addresses.iter().any(|one| one.link == link.index && one.address == *address)
    };
    let leads = |gateway: IpAddr| {
        found.routes.iter().any(|route| {
            route.is_default() && route.gateway == Some(gateway) && route.link == Some(link.index)
        })
    };
    link.name == wanted.name
        && link.mac == Some(wanted.mac)
        && link.mtu == wanted.mtu
        && link.up
        && wanted.addresses.iter().all(has)
        && wanted.gateways.iter().copied().all(leads)
        && found.links.iter().all(|link| link.up || !link.loopback)
}

/// Makes a container's end of a veth what it shall be, whatever part of it is so already.
pub async fn configure(inside: &Netlink, wanted: &Interface) -> Result<u32> {
    let found = observe(inside).await?;
    let link = end_of(&found.links, wanted)?;
    let index = link.index;
    if link.name != wanted.name {
        if link.up {
            inside.set_up(index, false).await?;
        }
        inside.rename(index, &wanted.name).await?;
    }
    if link.mac != Some(wanted.mac) {
        inside.set_mac(index, wanted.mac).await?;
    }
    if link.mtu != wanted.mtu {
        inside.set_mtu(index, wanted.mtu).await?;
    }
    let present = || found.addresses.iter().filter(|address| address.link == index);
    for address in &wanted.addresses {
        if !present().any(|found| found.address == *address) {
            inside.add_address(index, *address).await?;
        }
    }
    set_loopback_up(inside).await?;
    inside.set_up(index, true).await?;
    // A route by a gateway needs the link to be up.
    for gateway in &wanted.gateways {
        inside.replace_route(&Route::default_by(*gateway, index)).await?;
    }
    if let Some(WayToNames { gateway, from }) = wanted.names {
        inside.set_neighbour(index, NAMES.into(), gateway).await?;
        // Of several the interface that was there first leads there; the others stand by.
        inside.lead_out((NAMES, 32), index, wanted.host_index, from).await?;
    }
    Ok(index)
}

/// The container's end of the veth whose host end is known.
pub fn end_of<'a>(links: &'a [Link], wanted: &Interface) -> Result<&'a Link> {
    const ACTION: &str = "set up container interface";
    let is_end = |link: &&Link| link.kind == LinkKind::Veth && link.peer == Some(wanted.host_index);
    let named = |name: &str| links.iter().filter(is_end).find(|link| link.name == name);
    if let Some(link) = named(&wanted.name) {
        return Ok(link);
    }
    // Somebody inside may have renamed it; its Ethernet address tells it from a veth of theirs.
    let mut ends = links.iter().filter(is_end).filter(|link| link.name != wanted.temporary);
    if let Some(link) = ends.find(|link| link.mac == Some(wanted.mac)) {
        return Ok(link);
    }
    if links.iter().any(|link| link.name == wanted.name) {
        return Err(Error::Foreign { action: ACTION, object: wanted.name.clone() });
    }
    named(&wanted.temporary).ok_or_else(|| {
        Error::unexpected(ACTION, &wanted.name, format!("{} is not there", wanted.temporary))
    })
}

/// Removes an interface from a container, and the host end with it.
pub async fn remove(inside: &Netlink, name: &str) -> Result<Outcome> {
    match inside.link_named(name).await? {
        Some(link) if link.kind == LinkKind::Veth => inside.delete_link(link.index).await,
        Some(_) => Err(Error::Foreign { action: "delete", object: name.to_owned() }),
        None => Ok(Outcome::Already),
    }
}
