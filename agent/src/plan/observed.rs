//! What is there, as far as it concerns us.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bascule_common::abi::Mac;
use ipnetwork::IpNetwork;

use super::Contents;
use crate::model::{ContainerId, EndpointId, NamespaceId, NetworkId};

/// Everything that was observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Interfaces of the agent's namespace, by index.
    pub links: BTreeMap<u32, Link>,
    /// Their addresses.
    pub addresses: Vec<Address>,
    /// Addresses and destinations of routes that are the host's, with the names of the interfaces that they are on.
    pub site: Vec<(String, IpNetwork)>,
    /// Forwarding entries of bridges of ours that somebody set.
    pub fdb: BTreeSet<FdbEntry>,
    /// Permanent neighbours on bridges of ours.
    pub neighbours: BTreeSet<Neighbour>,
    /// Where programs of ours are attached.
    pub hooks: BTreeMap<Hook, HookState>,
    /// The deny list's program, by interface.
    pub xdp: BTreeMap<u32, Xdp>,
    /// What the maps hold.
    pub contents: Contents,
    /// Namespaces of running containers.
    pub sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// Namespaces of ours that no running container has, by the name of their pin.
    pub stray_sandboxes: BTreeSet<String>,
}

/// An interface of the agent's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether its frames have an Ethernet header.
    pub ethernet: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether the host asks for the neighbours behind it.
    pub asks: bool,
    /// Whether IPv6 is on there; known of our bridges alone.
    pub ipv6: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// Whether the bridge neither learns from it nor floods to it.
    pub quiet: bool,
    /// The address that packets bear which leave by it.
    pub source: Option<Ipv4Addr>,
    /// The IPv6 address that packets bear which leave by it.
    pub source6: Option<Ipv6Addr>,
    /// Whether a default route leads by it.
    pub leads_out: bool,
}

/// Whose an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Not ours: never touched.
    Foreign,
    /// The bridge of a network of ours.
    Network(NetworkId),
    /// The operator's bridge, used for a network of ours.
    Brought(NetworkId),
    /// The host end of an endpoint of ours.
    Endpoint(EndpointId),
    /// The host end of an endpoint of Docker's.
    Adopted(EndpointId),
    /// A port of a bridge of Docker's, and nobody has told yet whose.
    Unknown(NetworkId),
    /// An interface that Docker is just making: no way out, and left alone.
    Passing,
    /// The host end of the veth of the server of names.
    Names,
    /// Ours, but its making was cut short.
    HalfMade,
}

impl Owner {
    /// The network whose bridge it is, whoever made it.
    pub const fn network(self) -> Option<NetworkId> {
        match self {
            Self::Network(id) | Self::Brought(id) => Some(id),
            Self::Foreign
            | Self::Endpoint(_)
            | Self::Adopted(_)
            | Self::Unknown(_)
            | Self::Passing
            | Self::Names
            | Self::HalfMade => None,
        }
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface.
    pub link: u32,
    /// The address with its prefix.
    pub address: IpNetwork,
}

/// A forwarding entry of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The port's interface.
    pub port: u32,
    /// The Ethernet address behind it.
    pub mac: Mac,
}

/// A neighbour of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The bridge.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A place for one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// The interface.
    pub ifindex: u32,
    /// Which side of it.
    pub side: Side,
}

/// Which packets of an interface a hook sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Those that come in by it.
    Ingress,
    /// Those that go out of it.
    Egress,
}

/// What sits on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    /// Name of the program.
    pub program: String,
    /// Whether it is the one that this process has loaded.
    pub current: bool,
}

/// The deny list's program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// It runs.
    Attached {
        /// Whether it is the one that this process has loaded.
        current: bool,
        /// Whether it runs in the kernel's generic hook, and not in the driver.
        generic: bool,
    },
    /// The interface takes none, or is somebody else's as long as a program of theirs is there.
    Refused {
        /// Whether one was there.
        taken: bool,
    },
}

/// A running container's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Which it is; none where there is none.
    pub namespace: Option<NamespaceId>,
    /// What `ip netns` knows it by.
    pub name: Name,
    /// What is inside; none where nobody looked.
    pub inside: Option<Inside>,
}

/// State of the name that `ip netns` would know a namespace by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// It leads to the namespace, or is not wanted.
    Settled,
    /// It is free.
    Free,
}

/// What is inside a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Whether the loopback device is up.
    pub loopback_up: bool,
    /// Whether IPv6 is switched off for all of it.
    pub without_ipv6: bool,
    /// Its other interfaces, by name.
    pub interfaces: BTreeMap<String, Interface>,
}

/// An interface in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index of the other end of the veth, in the agent's namespace.
    pub peer: Option<u32>,
    /// Whether it is up.
    pub up: bool,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: BTreeSet<IpNetwork>,
    /// Gateways of default routes by it.
    pub gateways: BTreeSet<IpAddr>,
}
