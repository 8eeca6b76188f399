//! A container: a named network sandbox with its networks, addresses and ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ContainerId, EndpointId, Expose, Family, InterfaceOptions, Link, MacAddress, Name, Naming,
    NetworkId, NetworkName, PortRange, Proto, PublishSpec,
};

/// A named network sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created: Timestamp,
    /// Host name for its process.
    pub hostname: String,
    /// What it wants of names.
    #[serde(default)]
    pub naming: Naming,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Sysctls of its own network namespace.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// The command that runs in it, for show.
    pub command: Vec<String>,
    /// Variables that its command was given, `KEY=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
    /// What it has of the network.
    pub mode: Mode,
    /// Where its network namespace comes from.
    pub sandbox: Sandbox,
    /// Its networks, in order of attachment.
    pub attachments: Vec<Attachment>,
    /// Ports to publish.
    pub publish: Vec<PublishSpec>,
    /// Whether exposed ports are published too.
    pub publish_all: bool,
    /// Exposed ports.
    pub expose: BTreeSet<Expose>,
    /// Links of the default network, in Docker's old manner: lines of `/etc/hosts` and variables.
    pub links: Vec<Link>,
    /// What it is doing.
    pub state: State,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// Exit code of its last process, where somebody told.
    pub exit_code: Option<i32>,
}

/// What a container has of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Networks of ours.
    Networks,
    /// A namespace with nothing but `lo`.
    None,
    /// The agent's own namespace.
    Host,
    /// The namespace of another container.
    Container(ContainerId),
}

/// Where a container's network namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// The agent makes it at start and removes it at the end.
    #[default]
    Own,
    /// It is brought, by path.
    Path(PathBuf),
    /// It is brought, as the one of a process.
    Process(i32),
    /// Docker makes it, gives it the interface that our plugin has made, and removes it: its key, once it is known.
    Docker(Option<PathBuf>),
    /// It is Docker's, as the whole container is: nothing in it is looked at or changed.
    Adopted,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// Its name: the network may go while the container is not running.
    pub network_name: NetworkName,
    /// Address asked for.
    pub static_ip: Option<Ipv4Addr>,
    /// IPv6 address asked for.
    #[serde(default)]
    pub static_ip6: Option<Ipv6Addr>,
    /// Ethernet address asked for.
    pub static_mac: Option<MacAddress>,
    /// Addresses of the link asked for.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Further names on the network.
    pub aliases: Vec<String>,
    /// Links that hold on this network alone.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Driver options, kept verbatim.
    pub options: BTreeMap<String, String>,
    /// What they ask of the interface.
    #[serde(default)]
    pub interface: InterfaceOptions,
    /// Which network gives the default route: the highest, then the first.
    pub priority: i64,
    /// What it is while the container runs.
    pub endpoint: Option<Endpoint>,
    /// Addresses that it had when it ran: it gets them again, and others get them last.
    #[serde(default)]
    pub lease: Lease,
    /// Whether Docker has said that the container's published ports lead here.
    #[serde(default)]
    pub exposed: bool,
}

/// Addresses that a place on a network had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ip6: Option<Ipv6Addr>,
}

impl Lease {
    /// Returns the address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ip.map(IpAddr::V4),
            Family::V6 => self.ip6.map(IpAddr::V6),
        }
    }
}

impl Attachment {
    /// Ends what the place is while the container runs, and remembers its addresses.
    pub fn rest(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            self.lease = Lease { ip: endpoint.ip, ip6: endpoint.ip6 };
        }
    }
}

/// A running container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its place in the data plane's arrays.
    pub index: u32,
    /// Generation of that place.
    pub generation: u32,
    /// The container's IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Interface in the container.
    pub interface: String,
    /// Interface on the host.
    pub veth: String,
    /// Index of that interface, where it is Docker's.
    #[serde(default)]
    pub adopted: Option<u32>,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was never started.
    Created,
    /// It has a namespace.
    Running(Running),
    /// It had one.
    Exited,
}

/// What a running container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which namespace it is; none until the first pass has brought it up.
    pub namespace: Option<NamespaceId>,
    /// Process that the client handed over, or whose namespace was brought.
    pub process: Option<Process>,
    /// Number of the next `ethN`.
    pub next_interface: u32,
    /// Numbers of the next interfaces whose networks give them another prefix.
    #[serde(default)]
    pub next_interfaces: BTreeMap<String, u32>,
    /// What is published.
    pub rules: Vec<PublishedRule>,
}

/// A network namespace, told from every other one that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Device of the namespace file system.
    pub device: u64,
    /// Inode there.
    pub inode: u64,
}

/// A process, told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

/// A published range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRule {
    /// Its place in the data plane's arrays.
    pub index: u32,
    /// Host address; unspecified is every one.
    pub host_ip: IpAddr,
    /// Ports of the host.
    pub host: PortRange,
    /// Ports of the container.
    pub container: PortRange,
    /// Protocol.
    pub proto: Proto,
    /// Whether no port of the host leads there: the network is routed, and the container's own ports are open.
    #[serde(default)]
    pub routed: bool,
    /// Whether the mapping itself names the host address, and so a family.
    #[serde(default)]
    pub named: bool,
}

impl Endpoint {
    /// Returns the container's address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ip.map(IpAddr::V4),
            Family::V6 => self.ip6.map(IpAddr::V6),
        }
    }

    /// Returns the container's addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        Family::ALL.into_iter().filter_map(|family| self.address(family))
    }

    /// Returns the loopback address that questions about names come from where there is no other of IPv4: only the
    /// server of names ever sees it.
    pub fn asks_from(&self) -> Option<Ipv4Addr> {
        /// `127.64.0.0/10`, with the endpoint's number behind.
        const FIRST: u32 = 0x7f40_0000;
        const MOST: u32 = 1 << 22;
        (self.ip.is_none() && self.index < MOST).then(|| Ipv4Addr::from(FIRST | self.index))
    }
}

impl PublishedRule {
    /// Returns the family of its addresses.
    pub const fn family(&self) -> Family {
        Family::of(self.host_ip)
    }

    /// Tells whether two rules want the same port of the host.
    pub fn clashes(&self, ip: IpAddr, ports: PortRange, proto: Proto) -> bool {
        !self.routed
            && self.proto == proto
            && self.family() == Family::of(ip)
            && self.host.overlaps(ports)
            && (self.host_ip == ip || self.host_ip.is_unspecified() || ip.is_unspecified())
    }
}

impl Container {
    /// Returns whether its sysctls switch IPv6 off.
    pub fn switches_ipv6_off(&self) -> bool {
        self.sysctls.get("net.ipv6.conf.all.disable_ipv6").is_some_and(|value| value == "1")
    }

    /// Returns whether it has a network namespace that no other container has, that is not the agent's, and that the
    /// agent sets up.
    pub const fn has_namespace(&self) -> bool {
        matches!(self.mode, Mode::Networks | Mode::None) && !self.is_plugged() && !self.is_adopted()
    }

    /// Returns whether it is Docker's, on networks of our plugin.
    pub const fn is_plugged(&self) -> bool {
        matches!(self.sandbox, Sandbox::Docker(_))
    }

    /// Returns whether nobody has said yet which of Docker's containers it is.
    pub fn is_provisional(&self) -> bool {
        self.is_plugged() && self.name.as_str() == Self::provisional(self.id)
    }

    /// Returns the name that a container of Docker's has until Docker says how it is called.
    pub fn provisional(id: ContainerId) -> String {
        format!("docker-{}", id.short())
    }

    /// Returns whether Docker has taken its interfaces.
    pub const fn has_joined(&self) -> bool {
        matches!(self.sandbox, Sandbox::Docker(Some(_)))
    }

    /// Returns whether it is Docker's, on networks that are Docker's, too.
    pub const fn is_adopted(&self) -> bool {
        matches!(self.sandbox, Sandbox::Adopted)
    }

    /// Returns what it has while it runs.
    pub const fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            State::Created | State::Exited => None,
        }
    }

    /// Returns what it has while it runs, to change it.
    pub const fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) => Some(running),
            State::Created | State::Exited => None,
        }
    }

    /// Returns its endpoints with their networks, in order of attachment.
    pub fn endpoints(&self) -> impl Iterator<Item = (NetworkId, &Endpoint)> {
        self.attachments.iter().filter_map(|a| Some((a.network, a.endpoint.as_ref()?)))
    }

    /// Returns the names that it has at a place, each once: its own, the aliases, the short id, the host name.
    pub fn names_at(&self, place: &Attachment) -> Vec<String> {
        let mut names = vec![self.name.to_string()];
        let more = place.aliases.iter().cloned().chain([self.id.short(), self.hostname.clone()]);
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns its place on a network.
    pub fn attachment(&self, network: NetworkId) -> Option<&Attachment> {
        self.attachments.iter().find(|a| a.network == network)
    }

    /// Returns what the ports of a link to it are: exposed ones and those that are published.
    pub fn served(&self) -> BTreeSet<Expose> {
        let published = self.publish.iter().map(|p| Expose { ports: p.container, proto: p.proto });
        self.expose.iter().copied().chain(published).collect()
    }

    /// Returns the word for its state.
    pub const fn status(&self) -> &'static str {
        match self.state {
            State::Created => "created",
            State::Running(_) => "running",
            State::Exited => "exited",
        }
    }
}
