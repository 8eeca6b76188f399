//! Links: bridges, veths, and what every device has. Names that mean "ours" are made in [`super::super::owned`].

use std::os::fd::{AsRawFd, BorrowedFd};

use bascule_common::abi::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, InfoBridge, InfoBridgePort,
        InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask,
        LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
    },
};
use nix::errno::Errno;

use super::{
    super::{
        bpf::XdpMode,
        error::{Error, Outcome, Result},
    },
    Netlink,
};

/// What a dump tells of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What made it.
    pub kind: LinkKind,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it carries frames: it is up, the kernel has taken note of its carrier, and a bridge forwards by it.
    pub running: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether its frames have an Ethernet header.
    pub ethernet: bool,
    /// Whether the host asks for the neighbours behind it, by ARP and neighbour discovery.
    pub asks: bool,
    /// Whether IPv6 is there and not switched off on it.
    pub ipv6: bool,
    /// Its MTU.
    pub mtu: u32,
    /// The group of links that it is one of; 0, where nobody has put it into another.
    pub group: u32,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// The index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// The index of a veth's other end (or of the device below), in the namespace of `peer_namespace`.
    pub peer: Option<u32>,
    /// The number that this namespace knows the peer's namespace by; `None`: it is in this one.
    pub peer_namespace: Option<i32>,
    /// Its alias: where our mark stands.
    pub alias: Option<String>,
    /// Its flags as a port, where it is one of a bridge.
    pub port: Option<PortFlags>,
    /// Where an XDP program runs on it, whoever's.
    pub xdp: Option<XdpMode>,
}

/// What made a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// Any other, by the kernel's word; empty for hardware.
    Other(String),
}

/// How a bridge treats a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFlags {
    /// Whether source addresses are learned from it.
    pub learning: bool,
    /// Whether frames to unknown addresses are sent out of it.
    pub unicast_flood: bool,
    /// Whether a frame may leave by the port that it came in by.
    pub hairpin: bool,
}

/// A bridge to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// The address that marks it until it has its alias.
    pub birth_mac: Mac,
    /// The address that it keeps.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// The alias that makes it ours.
    pub alias: &'a str,
}

/// A veth pair to be made, the far end in another namespace.
#[derive(Clone, Copy, Debug)]
pub struct NewVeth<'a> {
    /// The name of the host end.
    pub name: &'a str,
    /// The address of the host end: marks it until it has its alias, and stays.
    pub birth_mac: Mac,
    /// The alias that makes it ours.
    pub alias: &'a str,
    /// The MTU of both ends.
    pub mtu: u32,
    /// The first name of the far end.
    pub peer: &'a str,
    /// The address of the far end.
    pub peer_mac: Mac,
    /// The namespace of the far end.
    pub peer_namespace: BorrowedFd<'a>,
}

impl Netlink {
    /// Every link of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.dump("links", RouteNetlinkMessage::GetLink(message), link_of).await
    }

    /// The link of that name, if there is one.
    pub async fn link_named(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let object = format!("link {name}");
        let found = self.get("read", &object, RouteNetlinkMessage::GetLink(message)).await?;
        Ok(found.and_then(link_of))
    }

    /// The link of that index, if there is one.
    pub async fn link(&self, index: u32) -> Result<Option<Link>> {
        self.link_by(index, None).await
    }

    /// The link of that index in the namespace that this one knows by that number, if there is one.
    pub async fn link_in(&self, namespace: i32, index: u32) -> Result<Option<Link>> {
        self.link_by(index, Some(LinkAttribute::IfNetnsId(namespace))).await
    }

    async fn link_by(&self, index: u32, namespace: Option<LinkAttribute>) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.extend(namespace);
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let message = RouteNetlinkMessage::GetLink(message);
        Ok(self.get("read", &numbered(index), message).await?.and_then(link_of))
    }

    /// Makes a bridge, down, without an address; returns its index.
    ///
    /// One that exists is taken over if it bears our mark, and an error otherwise.
    pub async fn create_bridge(&self, new: &NewBridge<'_>) -> Result<(u32, Outcome)> {
        let object = format!("bridge {}", new.name);
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(new.name.to_owned()),
            LinkAttribute::Address(new.birth_mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::StpState(
                    BridgeStpState::Disabled,
                )])),
            ]),
        ];
        let outcome = self.create(&object, message).await?;
        let link = self.adopt(&object, new.name, new.alias, new.birth_mac).await?;
        // An MTU set on the finished bridge stays; one given at creation follows the ports.
        let mut attributes = vec![
            LinkAttribute::Address(new.mac.to_vec()),
            LinkAttribute::IfAlias(new.alias.to_owned()),
        ];
        if link.mtu != new.mtu {
            attributes.push(LinkAttribute::Mtu(new.mtu));
        }
        self.set_link("set up", &object, link.index, attributes).await?;
        Ok((link.index, outcome))
    }

    /// Makes a veth pair, both ends down; returns the index of the host end.
    ///
    /// One that exists is taken over if it bears our mark, and an error otherwise.
    pub async fn create_veth(&self, new: &NewVeth<'_>) -> Result<(u32, Outcome)> {
        let object = format!("veth {}", new.name);
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(new.peer.to_owned()),
            LinkAttribute::Address(new.peer_mac.to_vec()),
            LinkAttribute::Mtu(new.mtu),
            LinkAttribute::NetNsFd(new.peer_namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(new.name.to_owned()),
            LinkAttribute::Address(new.birth_mac.to_vec()),
            LinkAttribute::Mtu(new.mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        let outcome = self.create(&object, message).await?;
        let link = self.adopt(&object, new.name, new.alias, new.birth_mac).await?;
        if link.alias.as_deref() != Some(new.alias) {
            let alias = vec![LinkAttribute::IfAlias(new.alias.to_owned())];
            self.set_link("mark", &object, link.index, alias).await?;
        }
        Ok((link.index, outcome))
    }

    /// Sets a link administratively up or down.
    pub async fn set_up(&self, index: u32, up: bool) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        let action = if up { "set up" } else { "set down" };
        self.execute(action, &numbered(index), RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Has the host take every neighbour behind a link for found.
    pub async fn stop_asking(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Noarp;
        message.header.change_mask = LinkFlags::Noarp;
        let message = RouteNetlinkMessage::SetLink(message);
        self.execute("switch ARP off on", &numbered(index), message, 0).await
    }

    /// Makes a link a port of a bridge, or of none.
    pub async fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        let attributes = vec![LinkAttribute::Controller(master.unwrap_or(0))];
        self.set_link("enslave", &numbered(index), index, attributes).await
    }

    /// Sets a link's MTU.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let attributes = vec![LinkAttribute::Mtu(mtu)];
        self.set_link("set the MTU of", &numbered(index), index, attributes).await
    }

    /// Sets a link's Ethernet address.
    pub async fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        let attributes = vec![LinkAttribute::Address(mac.to_vec())];
        self.set_link("set the address of", &numbered(index), index, attributes).await
    }

    /// Renames a link; it has to be down on kernels before 6.2.
    pub async fn rename(&self, index: u32, name: &str) -> Result<()> {
        let attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let object = format!("{} to {name}", numbered(index));
        self.set_link("rename", &object, index, attributes).await
    }

    /// Sets how the bridge treats a port.
    pub async fn set_port_flags(&self, index: u32, flags: PortFlags) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::Learning(flags.learning),
                InfoBridgePort::UnicastFlood(flags.unicast_flood),
                InfoBridgePort::HairpinMode(flags.hairpin),
            ])),
        ]));
        let object = format!("bridge port {index}");
        self.execute("set up", &object, RouteNetlinkMessage::NewLink(message), 0).await
    }

    /// Deletes a link, and with a veth its other end.
    pub async fn delete_link(&self, index: u32) -> Result<Outcome> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let message = RouteNetlinkMessage::DelLink(message);
        match self.execute("delete", &numbered(index), message, 0).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.is_absent() => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, object: &str, message: LinkMessage) -> Result<Outcome> {
        let message = RouteNetlinkMessage::NewLink(message);
        match self.execute("create", object, message, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// Reads the link of that name and makes sure that it bears the mark.
    async fn adopt(&self, object: &str, name: &str, alias: &str, birth: Mac) -> Result<Link> {
        let Some(link) = self.link_named(name).await? else {
            // The far end's name was taken, or someone deleted it meanwhile.
            return Err(Error::refused("create", object, Errno::EEXIST));
        };
        let marked = match link.alias.as_deref() {
            Some(found) => found == alias,
            None => link.mac == Some(birth),
        };
        if marked {
            Ok(link)
        } else {
            Err(Error::Foreign { action: "create", object: object.into() })
        }
    }

    async fn set_link(
        &self,
        action: &'static str,
        object: &str,
        index: u32,
        attributes: Vec<LinkAttribute>,
    ) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = attributes;
        self.execute(action, object, RouteNetlinkMessage::SetLink(message), 0).await
    }
}

pub(super) fn numbered(index: u32) -> String {
    format!("link {index}")
}

fn link_of(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Other(String::new()),
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        asks: !flags.contains(LinkFlags::Noarp),
        ipv6: false,
        mtu: 0,
        group: 0,
        mac: None,
        master: None,
        peer: None,
        peer_namespace: None,
        alias: None,
        port: None,
        xdp: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkNetNsId(number) => link.peer_namespace = Some(number),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::LinkInfo(infos) => describe(&mut link, infos),
            LinkAttribute::Xdp(facts) => link.xdp = facts.iter().find_map(xdp_of),
            LinkAttribute::AfSpecUnspec(families) => link.ipv6 = families.iter().any(has_ipv6),
            _ => {}
        }
    }
    Some(link)
}

fn has_ipv6(family: &AfSpecUnspec) -> bool {
    let on =
        |fact: &AfSpecInet6| matches!(fact, AfSpecInet6::DevConf(set) if set.disable_ipv6 == 0);
    matches!(family, AfSpecUnspec::Inet6(facts) if facts.iter().any(on))
}

fn xdp_of(fact: &LinkXdp) -> Option<XdpMode> {
    match fact {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(_) => Some(XdpMode::Native),
        _ => None,
    }
}

fn describe(link: &mut Link, infos: Vec<LinkInfo>) {
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
            LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
            LinkInfo::Kind(other) => link.kind = LinkKind::Other(other.to_string()),
            LinkInfo::PortData(InfoPortData::BridgePort(attributes)) => {
                link.port = Some(port_of(&attributes));
                // The bridge notices a carrier later.
                link.running &= !attributes.iter().any(is_closed);
            }
            _ => {}
        }
    }
}

fn is_closed(attribute: &InfoBridgePort) -> bool {
    matches!(attribute, InfoBridgePort::State(state) if *state != BridgePortState::Forwarding)
}

fn port_of(attributes: &[InfoBridgePort]) -> PortFlags {
    let mut flags = PortFlags { learning: true, unicast_flood: true, hairpin: false };
    for attribute in attributes {
        match attribute {
            InfoBridgePort::Learning(on) => flags.learning = *on,
            InfoBridgePort::UnicastFlood(on) => flags.unicast_flood = *on,
            InfoBridgePort::HairpinMode(on) => flags.hairpin = *on,
            _ => {}
        }
    }
    flags
}
