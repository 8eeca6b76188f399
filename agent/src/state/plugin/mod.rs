//! What Docker asks of our plugin: networks, endpoints and addresses that dockerd decides about.

mod addresses;
mod endpoints;
mod learn;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnetwork::IpNetwork;

pub use self::learn::{LearntContainer, LearntNetwork};
use super::{Facts, NetworkSpec, Outcome, Rejected, network as networks};
use crate::model::{
    Desired, EndpointId, Expose, MacAddress, Network, NetworkId, PoolId, PublishSpec,
};

/// What Docker asks for, and what was found out about what it has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginChange {
    /// Make a network with the id that the wishes name.
    CreateNetwork(Box<NetworkSpec>),
    /// Remove a network and whatever is left on it.
    DeleteNetwork(NetworkId),
    /// Make an endpoint, with an interface that Docker will take.
    CreateEndpoint(Box<EndpointWish>),
    /// Note the sandbox that an endpoint's interface will be in.
    Join {
        /// The endpoint.
        endpoint: EndpointId,
        /// Key of the sandbox.
        sandbox: PathBuf,
    },
    /// Remove endpoints, with their interfaces.
    DeleteEndpoints(Vec<EndpointId>),
    /// Have published ports lead to an endpoint.
    Program {
        /// The endpoint.
        endpoint: EndpointId,
        /// The ports.
        publish: Vec<PublishSpec>,
    },
    /// Have no published ports lead to an endpoint any more.
    Revoke(EndpointId),
    /// Take over names and labels.
    Learn {
        /// Of containers.
        containers: Vec<LearntContainer>,
        /// Of networks.
        networks: Vec<LearntNetwork>,
    },
    /// Give Docker a pool of addresses.
    RequestPool {
        /// The address space.
        space: String,
        /// The subnet that is asked for; empty chooses one.
        pool: String,
        /// The part of it that addresses are chosen from; empty is all of it.
        range: String,
        /// Whether it is one of IPv6.
        v6: bool,
    },
    /// Take a pool back.
    ReleasePool(PoolId),
    /// Give Docker an address.
    RequestAddress {
        /// The pool.
        pool: PoolId,
        /// The address that is asked for; none chooses one.
        address: Option<IpAddr>,
        /// Whether it is the gateway's.
        gateway: bool,
    },
    /// Take addresses of a pool back.
    ReleaseAddresses {
        /// The pool.
        pool: PoolId,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

/// What Docker wants of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointWish {
    /// The network.
    pub network: NetworkId,
    /// The endpoint's id.
    pub id: EndpointId,
    /// Its IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Its Ethernet address; none derives one.
    pub mac: Option<MacAddress>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Exposed ports.
    pub expose: Vec<Expose>,
}

impl PluginChange {
    /// Returns what kind of change it is, for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CreateNetwork(_) => "docker: create network",
            Self::DeleteNetwork(_) => "docker: delete network",
            Self::CreateEndpoint(_) => "docker: create endpoint",
            Self::Join { .. } => "docker: join",
            Self::DeleteEndpoints(_) => "docker: delete endpoints",
            Self::Program { .. } => "docker: publish ports",
            Self::Revoke(_) => "docker: withdraw ports",
            Self::Learn { .. } => "docker: names",
            Self::RequestPool { .. } => "docker: request pool",
            Self::ReleasePool(_) => "docker: release pool",
            Self::RequestAddress { .. } => "docker: request address",
            Self::ReleaseAddresses { .. } => "docker: release addresses",
        }
    }

    /// Returns whether it makes something, and is undone if it cannot be carried out.
    pub const fn makes(&self) -> bool {
        matches!(
            self,
            Self::CreateNetwork(_)
                | Self::CreateEndpoint(_)
                | Self::Program { .. }
                | Self::RequestPool { .. }
                | Self::RequestAddress { .. }
        )
    }

    /// Returns whether the host has to be known: addresses or ports of it are chosen or judged.
    pub fn looks_at_the_host(&self) -> bool {
        match self {
            Self::CreateNetwork(_) => true,
            Self::RequestPool { pool, .. } => pool.is_empty() || pool.starts_with("0.0.0.0/"),
            Self::Program { publish, .. } => !publish.is_empty(),
            _ => false,
        }
    }
}

/// Judges what Docker asks for, and does it.
pub(super) fn apply(
    desired: &mut Desired,
    change: &PluginChange,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    match change {
        PluginChange::CreateNetwork(spec) => create(desired, spec, facts),
        PluginChange::DeleteNetwork(id) => delete(desired, *id),
        PluginChange::CreateEndpoint(wish) => endpoints::create(desired, wish, facts),
        PluginChange::Join { endpoint, sandbox } => {
            endpoints::join(desired, *endpoint, sandbox, facts)
        }
        PluginChange::DeleteEndpoints(gone) => Ok(endpoints::delete(desired, gone)),
        PluginChange::Program { endpoint, publish } => {
            endpoints::program(desired, *endpoint, publish, facts)
        }
        PluginChange::Revoke(endpoint) => endpoints::revoke(desired, *endpoint, facts),
        PluginChange::Learn { containers, networks } => {
            Ok(learn::learn(desired, containers, networks))
        }
        PluginChange::RequestPool { space, pool, range, v6 } => {
            addresses::request_pool(desired, space, (pool, range), *v6, facts)
        }
        PluginChange::ReleasePool(id) => Ok(addresses::release_pool(desired, id)),
        PluginChange::RequestAddress { pool, address, gateway } => {
            addresses::request(desired, pool, *address, *gateway)
        }
        PluginChange::ReleaseAddresses { pool, addresses } => {
            Ok(addresses::release(desired, pool, addresses))
        }
    }
}

/// Refuses what only Docker may do to its network.
pub(super) fn network(network: &Network) -> Rejected {
    let name = &network.name;
    Rejected::forbidden(format!(
        "network {name} is Docker's: `docker network` removes it, and connects containers to it"
    ))
}

/// Tells whether a subnet is one of those that Docker chooses by itself: nobody has asked for its size.
pub(super) fn is_dockers_choice(subnet: &str) -> bool {
    let Ok(IpNetwork::V4(subnet)) = subnet.parse() else { return false };
    match (subnet.ip().octets(), subnet.prefix()) {
        ([172, 17..=31, 0, 0], 16) => true,
        ([192, 168, third, 0], 20) => third % 16 == 0,
        _ => false,
    }
}

fn create(
    desired: &mut Desired,
    spec: &NetworkSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let Some(id) = spec.id else { return Err(Rejected::internal("a network without an id")) };
    if let Some(network) = desired.networks.get(&id) {
        return match network.plugged && is_same(network, spec) {
            // The answer to the first request was lost.
            true => Ok(Outcome::Nothing),
            false => Err(Rejected::conflict(format!("network {id} exists, and is another one"))),
        };
    }
    let spec = NetworkSpec { name: Network::provisional(id), ..spec.clone() };
    networks::create(desired, &spec, facts)
}

fn is_same(network: &Network, spec: &NetworkSpec) -> bool {
    let mut wished = spec.subnets.iter();
    network.internal == spec.internal
        && spec.options.iter().all(|(key, value)| network.options.verbatim.get(key) == Some(value))
        && wished.len() == network.pools().count()
        && wished.all(|wish| network.pools().any(|pool| wish.subnet == pool.subnet.to_string()))
}

fn delete(desired: &mut Desired, id: NetworkId) -> Result<Outcome, Rejected> {
    match desired.networks.get(&id) {
        None => return Ok(Outcome::Nothing),
        Some(network) if !network.plugged => {
            let name = &network.name;
            return Err(Rejected::forbidden(format!("network {name} is not one of Docker's")));
        }
        Some(_) => {}
    }
    let left: Vec<_> = desired
        .attachments(id)
        .filter_map(|(_, place)| Some(place.endpoint.as_ref()?.id))
        .collect();
    endpoints::delete(desired, &left);
    networks::drop_network(desired, id);
    Ok(Outcome::Network(id, Vec::new()))
}
