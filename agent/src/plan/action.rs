//! The instruction set: everything that the executor can do, as data.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use bascule_common::abi::{
    Config, Denied, Endpoint, Ip4, Ip6, LinkKey, Local, Mac, Neighbour, NeighbourKey4,
    NeighbourKey6, Network, PortSlot, Rule, ServedKey, Subnet, TrustKey, Uplink,
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::{Hook, Run, observed};
use crate::model::{ContainerId, EndpointId, InterfaceSysctl, NetworkId};

/// One thing to do. Indices were observed; names are for the operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write or erase an entry of a map.
    Map(Entry),
    /// Make the bridge of a network, down and without address.
    CreateBridge {
        /// The network.
        network: NetworkId,
        /// Name of the bridge.
        name: String,
        /// Its Ethernet address.
        mac: Mac,
        /// Its MTU.
        mtu: u32,
    },
    /// Delete an interface of ours.
    DeleteLink {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Set an interface of ours up.
    SetUp {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Set the Ethernet address of a bridge of ours.
    SetMac {
        /// Its index.
        index: u32,
        /// The address.
        mac: Mac,
    },
    /// Set the MTU of an interface of ours.
    SetMtu {
        /// Its index.
        index: u32,
        /// The MTU.
        mtu: u32,
    },
    /// Have the host take every neighbour behind an interface of ours for found.
    StopAsking {
        /// Its index.
        index: u32,
    },
    /// Give a bridge of ours an address.
    AddAddress {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// The address with its prefix.
        address: IpNetwork,
    },
    /// Take an address from a bridge of ours.
    DeleteAddress {
        /// Its index.
        index: u32,
        /// The address with its prefix.
        address: IpNetwork,
    },
    /// Make a veth a port of a bridge.
    Enslave {
        /// Index of the veth.
        index: u32,
        /// Index of the bridge.
        bridge: u32,
    },
    /// Have a bridge neither learn from a port nor flood to it.
    Quiet {
        /// Index of the port.
        index: u32,
    },
    /// Say for good behind which port an Ethernet address is.
    SetFdb(observed::FdbEntry),
    /// Forget it.
    DeleteFdb(observed::FdbEntry),
    /// Say for good which Ethernet address an address has.
    SetNeighbour(observed::Neighbour),
    /// Forget it.
    DeleteNeighbour(observed::Neighbour),
    /// Attach a program, in place of an older one.
    Attach {
        /// Where.
        hook: Hook,
        /// Its name.
        program: &'static str,
    },
    /// Take our program off an interface that is not an uplink any more.
    Detach(Hook),
    /// Run the deny list's program in XDP of an interface, in place of an older one.
    AttachXdp(u32),
    /// Take it off an interface, or forget that it could not run there.
    DetachXdp(u32),
    /// Make a container's namespace.
    CreateSandbox(ContainerId),
    /// Remove a namespace that no container has, by the name of its pin.
    RemoveSandbox(String),
    /// Make a container's namespace known to `ip netns`.
    PublishName {
        /// The container.
        container: ContainerId,
        /// The name.
        name: String,
    },
    /// Set the loopback device of a container up.
    LoopbackUp(ContainerId),
    /// Make a veth pair, both ends down, one of them in a container.
    CreateVeth {
        /// The container.
        container: ContainerId,
        /// The endpoint.
        endpoint: EndpointId,
        /// Name of the host end.
        name: String,
        /// Ethernet address of the container's end.
        mac: Mac,
        /// MTU of both.
        mtu: u32,
    },
    /// Make a container's end of a veth what it shall be, and set it up.
    Configure(Box<ConfigureInterface>),
}

/// How the server of names is asked by an interface of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WayToNames {
    /// The gateway's Ethernet address.
    pub gateway: Mac,
    /// The address of the loopback device that is asked from, where the interface has none of IPv4.
    pub from: Option<Ipv4Addr>,
}

/// What a container's interface shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigureInterface {
    /// The container.
    pub container: ContainerId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Index of the host end.
    pub host_index: u32,
    /// Its name in the container.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// Gateways of the default routes that lead by it.
    pub gateways: Vec<IpAddr>,
    /// What is set for it.
    pub sysctls: Vec<InterfaceSysctl>,
    /// How the server of names is asked at 127.0.0.11, where it is by it.
    pub names: Option<WayToNames>,
}

/// An entry of a map; no value erases it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Of `CONFIG`.
    Config(u32, Option<Config>),
    /// Of `GENERATIONS`.
    Generation(u32, Option<u64>),
    /// Of `NETWORKS`.
    Network(u32, Option<Network>),
    /// Of `SUBNETS4`.
    Subnet(Ipv4Network, Option<Subnet>),
    /// Of `SUBNETS6`.
    Subnet6(Ipv6Network, Option<Subnet>),
    /// Of `LOCALS4`.
    Local(Ip4, Option<Local>),
    /// Of `LOCALS6`.
    Local6(Ip6, Option<Local>),
    /// Of `BRIDGES`.
    Bridge(u32, Option<u64>),
    /// Of `TRUSTED`.
    Trusted(TrustKey, Option<u64>),
    /// Of `UPLINKS`.
    Uplink(u32, Option<Uplink>),
    /// Of `ENDPOINTS`.
    Endpoint(u32, Option<Endpoint>),
    /// Of `NEIGHBOURS4`.
    Neighbour(NeighbourKey4, Option<Neighbour>),
    /// Of `NEIGHBOURS6`.
    Neighbour6(NeighbourKey6, Option<Neighbour>),
    /// Of `LINKS`.
    Link(LinkKey, Option<u64>),
    /// Of `RULES`.
    Rule(u32, Option<Rule>),
    /// Of `SERVED`: bits that count, and key.
    Served((u32, ServedKey), Option<u64>),
    /// Of `PORTS`: slots beside each other.
    Ports(Run, Option<PortSlot>),
    /// Of `DENY4` and `DENY6`.
    Denied(IpNetwork, Option<Denied>),
    /// Of `DENY_LATE`.
    DenyLate(u32, Option<u64>),
}

/// Which object an action is for: its failure is that object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The host: uplinks, addresses, switches.
    Host,
    /// A network.
    Network(NetworkId),
    /// A container.
    Container(ContainerId),
    /// The deny list.
    DenyList,
}

/// An action with its object.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The object.
    pub subject: Subject,
    /// The action.
    pub action: Action,
}

impl Action {
    /// Returns whether Linux waits for a grace period with the lock of all interfaces held.
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Attach { .. } | Self::Detach(_) | Self::DeleteLink { .. })
    }

    /// Every kind there is. They are counted by their places here, over restarts: more are added at the end alone.
    pub const KINDS: &[&str] = &[
        "create_bridge",
        "delete_link",
        "set_up",
        "set_mac",
        "set_mtu",
        "stop_asking",
        "add_address",
        "delete_address",
        "enslave",
        "quiet",
        "set_fdb",
        "delete_fdb",
        "set_neighbour",
        "delete_neighbour",
        "attach",
        "detach",
        "attach_xdp",
        "detach_xdp",
        "create_sandbox",
        "remove_sandbox",
        "publish_name",
        "loopback_up",
        "create_veth",
        "configure",
        "map_config",
        "map_generations",
        "map_networks",
        "map_subnets",
        "map_locals",
        "map_bridges",
        "map_trusted",
        "map_uplinks",
        "map_endpoints",
        "map_neighbours",
        "map_links",
        "map_rules",
        "map_served",
        "map_ports",
        "map_deny",
        "map_deny_late",
    ];

    /// Returns the word that metrics and logs know the action by.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Map(entry) => entry.kind(),
            Self::CreateBridge { .. } => "create_bridge",
            Self::DeleteLink { .. } => "delete_link",
            Self::SetUp { .. } => "set_up",
            Self::SetMac { .. } => "set_mac",
            Self::SetMtu { .. } => "set_mtu",
            Self::StopAsking { .. } => "stop_asking",
            Self::AddAddress { .. } => "add_address",
            Self::DeleteAddress { .. } => "delete_address",
            Self::Enslave { .. } => "enslave",
            Self::Quiet { .. } => "quiet",
            Self::SetFdb(_) => "set_fdb",
            Self::DeleteFdb(_) => "delete_fdb",
            Self::SetNeighbour(_) => "set_neighbour",
            Self::DeleteNeighbour(_) => "delete_neighbour",
            Self::Attach { .. } => "attach",
            Self::Detach(_) => "detach",
            Self::AttachXdp(_) => "attach_xdp",
            Self::DetachXdp(_) => "detach_xdp",
            Self::CreateSandbox(_) => "create_sandbox",
            Self::RemoveSandbox(_) => "remove_sandbox",
            Self::PublishName { .. } => "publish_name",
            Self::LoopbackUp(_) => "loopback_up",
            Self::CreateVeth { .. } => "create_veth",
            Self::Configure(_) => "configure",
        }
    }
}

impl Entry {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Config(..) => "map_config",
            Self::Generation(..) => "map_generations",
            Self::Network(..) => "map_networks",
            Self::Subnet(..) | Self::Subnet6(..) => "map_subnets",
            Self::Local(..) | Self::Local6(..) => "map_locals",
            Self::Bridge(..) => "map_bridges",
            Self::Trusted(..) => "map_trusted",
            Self::Uplink(..) => "map_uplinks",
            Self::Endpoint(..) => "map_endpoints",
            Self::Neighbour(..) | Self::Neighbour6(..) => "map_neighbours",
            Self::Link(..) => "map_links",
            Self::Rule(..) => "map_rules",
            Self::Served(..) => "map_served",
            Self::Ports(..) => "map_ports",
            Self::Denied(..) => "map_deny",
            Self::DenyLate(..) => "map_deny_late",
        }
    }

    /// Returns whether the entry is erased.
    pub const fn erases(&self) -> bool {
        match self {
            Self::Config(_, value) => value.is_none(),
            Self::Generation(_, value) => value.is_none(),
            Self::Network(_, value) => value.is_none(),
            Self::Subnet(_, value) => value.is_none(),
            Self::Subnet6(_, value) => value.is_none(),
            Self::Local(_, value) => value.is_none(),
            Self::Local6(_, value) => value.is_none(),
            Self::Bridge(_, value) => value.is_none(),
            Self::Trusted(_, value) => value.is_none(),
            Self::Neighbour6(_, value) => value.is_none(),
            Self::Served(_, value) => value.is_none(),
            Self::Uplink(_, value) => value.is_none(),
            Self::Endpoint(_, value) => value.is_none(),
            Self::Neighbour(_, value) => value.is_none(),
            Self::Link(_, value) => value.is_none(),
            Self::Rule(_, value) => value.is_none(),
            Self::Ports(_, value) => value.is_none(),
            Self::Denied(_, value) => value.is_none(),
            Self::DenyLate(_, value) => value.is_none(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::DenyList => f.write_str("deny list"),
            Self::Network(id) => write!(f, "network {}", id.short()),
            Self::Container(id) => write!(f, "container {}", id.short()),
        }
    }
}
