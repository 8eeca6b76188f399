//! `Desired + Change -> Desired | Rejected`: every verb of the API, judged as a whole and then done.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use jiff::Timestamp;

use super::{
    Docker, Facts, PluginChange, Rejected, container, deny, docker, lifecycle, network, plugin,
};
use crate::model::{
    Adoption, Container, ContainerId, Desired, Expose, Family, Link, MacAddress, Name, NamespaceId,
    Naming, Network, NetworkId, NetworkName, PoolId, Prefix, Process, PublishSpec, Running,
    Sandbox, SubnetSpec,
};

/// What somebody wants to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make a network.
    CreateNetwork(NetworkSpec),
    /// Remove a network.
    RemoveNetwork(String),
    /// Remove the networks that nobody is on.
    PruneNetworks(PruneFilter),
    /// Have a network's containers ask other name servers.
    UpdateNetwork {
        /// The network.
        network: String,
        /// Servers that are asked too, after those that are.
        add: Vec<IpAddr>,
        /// Servers that are not asked any more.
        drop: Vec<IpAddr>,
    },
    /// Put a container on a network.
    Connect {
        /// The network.
        network: String,
        /// The container.
        container: String,
        /// Wishes for its place there.
        endpoint: EndpointSpec,
    },
    /// Take a container off a network.
    Disconnect {
        /// The network.
        network: String,
        /// The container.
        container: String,
        /// Whether it is fine if the container is not there.
        force: bool,
    },
    /// Make a container.
    CreateContainer(Box<ContainerSpec>),
    /// Bring a container up.
    Start(String),
    /// Take a container down.
    Stop {
        /// The container.
        container: String,
        /// Exit code of its process, where somebody knows.
        exit_code: Option<i32>,
    },
    /// Remove a container.
    RemoveContainer {
        /// The container.
        container: String,
        /// Whether it is taken down first.
        force: bool,
    },
    /// Follow a process that was executed in a container.
    Follow {
        /// The container.
        container: String,
        /// The process.
        process: Process,
    },
    /// Note that the first pass has brought a container up.
    BroughtUp {
        /// The container.
        container: ContainerId,
        /// Its namespace.
        namespace: NamespaceId,
    },
    /// Put prefixes on the deny list, all of them or none.
    Deny {
        /// The prefixes, as text.
        prefixes: Vec<String>,
        /// Why, for people.
        comment: String,
        /// Whether those that may lock the operator out are meant.
        force: bool,
    },
    /// Take prefixes off the deny list, all of them or none.
    Undeny(Vec<String>),
    /// Do what Docker asks of our plugin.
    Plugin(PluginChange),
    /// Have the default network, or have it not.
    DefaultNetwork(DefaultNetwork),
    /// Have IPv6 on the default network, or have it not.
    DefaultIpv6(DefaultIpv6),
    /// Have Docker's networks be served, or left to Docker.
    Adoption(Box<Adoption>),
    /// Have of Docker's networks and containers what Docker has.
    Docker(Box<Docker>),
    /// Take down everything that ran before the machine was started again.
    Rebooted,
    /// Take down what was about to be brought up when the agent ended.
    Recover,
}

/// What the default network is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// Whether there is one, and with which addresses.
    pub place: DefaultPlace,
    /// The part of its subnet that dynamic addresses come from; where the addresses are free, the subnet.
    pub range: Option<Ipv4Network>,
    /// Whether containers on it talk to each other freely.
    pub icc: bool,
    /// Address that it publishes ports on where a mapping names none.
    pub host_binding: Option<IpAddr>,
    /// Its MTU; none is that of the way out, as long as it stands.
    pub mtu: Option<u16>,
}

/// Whether there is a default network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultPlace {
    /// There is none.
    Absent,
    /// There is one, with addresses that are free.
    Automatic,
    /// There is one, with this gateway and subnet.
    Fixed(Ipv4Network),
    /// There is one, on this bridge of the operator's, with its address.
    Brought(String),
}

impl DefaultNetwork {
    /// Returns a default network of which nothing else is said.
    pub const fn at(place: DefaultPlace) -> Self {
        Self { place, range: None, icc: true, host_binding: None, mtu: None }
    }
}

/// Whether the default network has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultIpv6 {
    /// It has not.
    Off,
    /// It has, with a subnet that is free.
    Automatic,
    /// It has, with this subnet.
    Fixed(Ipv6Network),
}

/// Wishes for a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// The id that Docker has chosen; then it is Docker's.
    pub id: Option<NetworkId>,
    /// Its subnets, one a family; what is missing is chosen.
    pub subnets: Vec<SubnetSpec>,
    /// Whether it has no IPv4.
    pub without_ipv4: bool,
    /// Whether it has IPv6; nothing said, it has where a subnet of it is given.
    pub ipv6: Option<bool>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether containers may be attached that no service made.
    pub attachable: bool,
    /// Whether a scope was named.
    pub scope_given: bool,
    /// Whether it is a configuration only.
    pub config_only: bool,
    /// Configuration that it is made from.
    pub config_from: Option<String>,
    /// Options of address management.
    pub ipam_options: BTreeMap<String, String>,
}

/// Which networks are pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// Those that were made before.
    pub before: Option<Timestamp>,
    /// Those that have every one of these labels, `KEY` or `KEY=VALUE`.
    pub labels: Vec<String>,
    /// Those that have not every one of these.
    pub without: Vec<String>,
}

/// Wishes for a container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Static address.
    pub ip: Option<Ipv4Addr>,
    /// Static IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Ethernet address.
    pub mac: Option<MacAddress>,
    /// Further addresses, of the link.
    pub link_local: Vec<IpAddr>,
    /// Further names on the network.
    pub aliases: Vec<String>,
    /// Links.
    pub links: Vec<Link>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Which network gives the default route: the highest.
    pub priority: i64,
}

/// Wishes for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name; none chooses one.
    pub name: Option<Name>,
    /// Networks in order of attachment; none is the default network.
    pub networks: Vec<(String, EndpointSpec)>,
    /// Ports to publish.
    pub publish: Vec<PublishSpec>,
    /// Whether exposed ports are published too.
    pub publish_all: bool,
    /// Exposed ports.
    pub expose: Vec<Expose>,
    /// Links.
    pub links: Vec<Link>,
    /// Host name; empty is the short id.
    pub hostname: String,
    /// What it wants of names.
    pub naming: Naming,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Sysctls of a namespace of its own.
    pub sysctls: BTreeMap<String, String>,
    /// Where the namespace comes from.
    pub sandbox: Sandbox,
    /// Whether it goes when its process ends.
    pub auto_remove: bool,
    /// The command, for show.
    pub command: Vec<String>,
    /// Variables that it is given, `KEY=VALUE`.
    pub env: Vec<String>,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It concerns this network, and the operator should know these things.
    Network(NetworkId, Vec<String>),
    /// It concerns this container, and the operator should know these things.
    Container(ContainerId, Vec<String>),
    /// These networks are gone.
    Pruned(Vec<NetworkName>),
    /// These prefixes are on the deny list now, or off it.
    Denials(Vec<Prefix>),
    /// Docker is given this pool.
    Pool(PoolId),
    /// Docker is given this address.
    Address(IpNetwork),
    /// Everything was so already.
    Nothing,
}

impl Change {
    /// Returns what kind of change it is, for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CreateNetwork(_) => "create network",
            Self::RemoveNetwork(_) => "remove network",
            Self::PruneNetworks(_) => "prune networks",
            Self::UpdateNetwork { .. } => "update network",
            Self::Connect { .. } => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::CreateContainer(_) => "create container",
            Self::Start(_) => "start",
            Self::Stop { .. } => "stop",
            Self::RemoveContainer { .. } => "remove container",
            Self::Follow { .. } => "follow",
            Self::BroughtUp { .. } => "brought up",
            Self::Deny { .. } => "deny",
            Self::Undeny(_) => "undeny",
            Self::Plugin(change) => change.kind(),
            Self::DefaultNetwork(_) => "default network",
            Self::DefaultIpv6(_) => "default network's ipv6",
            Self::Adoption(_) => "adoption",
            Self::Docker(_) => "docker",
            Self::Rebooted => "rebooted",
            Self::Recover => "recover",
        }
    }
}

/// Judges a change and returns what is to be then.
pub fn apply(
    desired: &Desired,
    change: &Change,
    facts: &mut Facts,
) -> Result<(Desired, Outcome), Rejected> {
    docker::is_ours(desired, change)?;
    // Whatever is refused halfway leaves with the copy.
    let mut next = desired.clone();
    let outcome = match change {
        Change::CreateNetwork(spec) => network::create(&mut next, spec, facts),
        Change::RemoveNetwork(reference) => network::remove(&mut next, reference),
        Change::UpdateNetwork { network, add, drop } => {
            network::update(&mut next, network, add, drop)
        }
        Change::PruneNetworks(filter) => Ok(network::prune(&mut next, filter)),
        Change::DefaultNetwork(wanted) => network::default(&mut next, wanted, facts),
        Change::DefaultIpv6(wanted) => network::default_ipv6(&mut next, *wanted, facts),
        Change::CreateContainer(spec) => container::create(&mut next, spec, facts),
        Change::RemoveContainer { container, force } => {
            container::remove(&mut next, container, *force, facts)
        }
        Change::Connect { network, container, endpoint } => {
            container::connect(&mut next, network, container, endpoint, facts)
        }
        Change::Disconnect { network, container, force } => {
            container::disconnect(&mut next, network, container, *force, facts)
        }
        Change::Start(reference) => lifecycle::start(&mut next, reference, facts),
        Change::Stop { container, exit_code } => {
            lifecycle::stop(&mut next, container, *exit_code, facts)
        }
        Change::Follow { container, process } => lifecycle::follow(&mut next, container, *process),
        Change::BroughtUp { container, namespace } => {
            lifecycle::brought_up(&mut next, *container, *namespace)
        }
        Change::Deny { prefixes, comment, force } => {
            deny::add(&mut next, prefixes, comment, *force, facts)
        }
        Change::Undeny(prefixes) => deny::remove(&mut next, prefixes),
        Change::Plugin(change) => plugin::apply(&mut next, change, facts),
        Change::Adoption(wanted) => docker::adoption(&mut next, wanted),
        Change::Docker(seen) => docker::follow(&mut next, seen, facts),
        Change::Rebooted => Ok(lifecycle::take_down(&mut next, facts, |_, _| true)),
        Change::Recover => {
            let half = |c: &Container, r: &Running| c.has_namespace() && r.namespace.is_none();
            Ok(lifecycle::take_down(&mut next, facts, half))
        }
    }?;
    Ok((next, outcome))
}

/// Returns what is to be when a change could not be carried out: the objects as they were before, but
/// never a generation that packets may already carry.
pub fn revert(before: &Desired, after: &Desired) -> Desired {
    let mut next = after.clone();
    let kept = |desired: &Desired| -> Vec<_> {
        desired
            .containers
            .values()
            .flat_map(|c| c.endpoints().map(|(_, e)| e.id).collect::<Vec<_>>())
            .collect()
    };
    let endpoints = kept(before);
    let published: Vec<_> = lifecycle::rules(before).map(|(_, rule)| rule.index).collect();
    let containers: Vec<_> = after.containers.keys().copied().collect();
    for id in containers {
        lifecycle::release_except(&mut next, id, &endpoints, &published);
    }
    for (id, network) in &after.networks {
        if !before.networks.contains_key(id) {
            next.indices.networks.free(network.index);
        }
    }
    let given = |network: &Network, family| network.pool(family).and_then(|p| p.last_given);
    next.networks.clone_from(&before.networks);
    for (id, network) in next.networks.iter_mut() {
        for family in Family::ALL {
            let cursor = after.networks.get(id).and_then(|n| given(n, family));
            if let (Some(cursor), Some(pool)) = (cursor, network.pool_mut(family)) {
                pool.last_given = Some(cursor);
            }
        }
    }
    next.configs.clone_from(&before.configs);
    next.pools.clone_from(&before.pools);
    next.docker.clone_from(&before.docker);
    next.containers.clone_from(&before.containers);
    lifecycle::forget_tables(&mut next);
    for index in published {
        next.indices.rules.claim(index);
    }
    for (ip, table) in &before.indices.tables {
        next.indices.tables.entry(*ip).or_insert(*table);
    }
    deny::revert(before, &mut next);
    next
}
