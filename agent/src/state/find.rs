//! Finds what a reference names: an id, a name, or the beginning of an id, in this order.

use super::Rejected;
use crate::model::{ConfigNetwork, Container, Desired, Network, NetworkId};

/// A network that a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A network of ours.
    Bridge(&'a Network),
    /// A configuration only.
    Config(&'a ConfigNetwork),
    /// `host`.
    Host(NetworkId),
    /// `none`.
    None(NetworkId),
}

impl<'a> Found<'a> {
    /// Returns its id.
    pub const fn id(self) -> NetworkId {
        match self {
            Self::Bridge(network) => network.id,
            Self::Config(config) => config.id,
            Self::Host(id) | Self::None(id) => id,
        }
    }

    /// Returns its name.
    pub fn name(self) -> &'a str {
        match self {
            Self::Bridge(network) => network.name.as_str(),
            Self::Config(config) => config.name.as_str(),
            Self::Host(_) => HOST,
            Self::None(_) => NONE,
        }
    }
}

/// Name of the network that stands for the agent's namespace.
pub const HOST: &str = "host";
/// Name of the network that stands for no network.
pub const NONE: &str = "none";
/// Name of the default network.
pub const BRIDGE: &str = "bridge";

/// Returns every network.
pub fn networks(desired: &Desired) -> impl Iterator<Item = Found<'_>> {
    let names = [Found::Host(desired.predefined.host), Found::None(desired.predefined.none)];
    let configs = desired.configs.values().map(Found::Config);
    desired.networks.values().map(Found::Bridge).chain(configs).chain(names)
}

/// Finds a network.
pub fn network<'a>(desired: &'a Desired, reference: &str) -> Result<Found<'a>, Rejected> {
    let exact = |found: &Found| found.name() == reference || found.id().to_string() == reference;
    if let Some(found) = networks(desired).find(exact) {
        return Ok(found);
    }
    let by_prefix: Vec<_> =
        networks(desired).filter(|f| begins(&f.id().to_string(), reference)).collect();
    match by_prefix[..] {
        [found] => Ok(found),
        [] => Err(Rejected::no_network(reference)),
        _ => Err(Rejected::ambiguous("network", reference, by_prefix.len())),
    }
}

/// Finds a container.
pub fn container<'a>(desired: &'a Desired, reference: &str) -> Result<&'a Container, Rejected> {
    let reference = reference.trim_start_matches('/');
    let all = || desired.containers.values();
    let by_id = all().find(|c| c.id.to_string() == reference);
    if let Some(found) = by_id.or_else(|| all().find(|c| c.name.as_str() == reference)) {
        return Ok(found);
    }
    let by_prefix: Vec<_> = all().filter(|c| begins(&c.id.to_string(), reference)).collect();
    match by_prefix[..] {
        [found] => Ok(found),
        [] => Err(Rejected::no_container(reference)),
        _ => Err(Rejected::ambiguous("container", reference, by_prefix.len())),
    }
}

/// Finds a container that is not Docker's.
pub(super) fn own<'a>(desired: &'a Desired, reference: &str) -> Result<&'a Container, Rejected> {
    match container(desired, reference)? {
        found if found.is_plugged() => Err(Rejected::forbidden(format!(
            "container {} is Docker's: `docker` starts, connects, stops and removes it",
            found.name
        ))),
        found => Ok(found),
    }
}

/// Finds the container whose endpoint on a network has this id, or the beginning of it.
pub fn by_endpoint<'a>(
    desired: &'a Desired,
    network: NetworkId,
    reference: &str,
) -> Result<Option<&'a Container>, Rejected> {
    let has = |c: &&Container| {
        c.endpoints().any(|(on, e)| on == network && begins(&e.id.to_string(), reference))
    };
    let found: Vec<_> = desired.containers.values().filter(has).collect();
    match found[..] {
        [] => Ok(None),
        [container] => Ok(Some(container)),
        _ => Err(Rejected::ambiguous("endpoint", reference, found.len())),
    }
}

fn begins(id: &str, reference: &str) -> bool {
    !reference.is_empty() && id.starts_with(&reference.to_ascii_lowercase())
}
