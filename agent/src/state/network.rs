//! Networks come and go.

mod brought;

use std::{net::Ipv4Addr, str::FromStr};

use super::{
    DefaultIpv6, DefaultNetwork, Facts, NetworkSpec, Outcome, Rejected,
    find::{self, Found},
    subnet::{self, Pools},
};
use crate::model::{Desired, Family, Name, Network, NetworkId, NetworkOptions, keys};

/// Name of the default network's bridge.
pub(super) const DEFAULT_BRIDGE: &str = "bascule0";

pub(super) fn create(
    desired: &mut Desired,
    spec: &NetworkSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let name = spec.name.parse::<Name>().map_err(Rejected::invalid)?;
    if [find::BRIDGE, find::HOST, find::NONE].contains(&name.as_str()) {
        return Err(Rejected::forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    if find::networks(desired).any(|n| n.name() == name.as_str()) {
        return Err(Rejected::conflict(format!("network with name {name} already exists")));
    }
    let options = NetworkOptions::new(spec.options.clone()).map_err(Rejected::invalid)?;
    let id = new_id(desired, facts);
    let bridge = options.bridge.clone().unwrap_or_else(|| format!("br-{}", id.short()));
    bridge_is_free(desired, id, &bridge)?;
    let brought = facts.has_interface(&bridge);
    let addresses = if brought {
        brought::addresses(desired, &bridge, spec, &options, facts)?
    } else {
        subnet::pools(desired, spec, &options, None, facts)?
    };
    let new = New { id, name, addresses, bridge, brought, options, spec, predefined: false };
    insert(desired, facts, new)
}

/// Makes or removes the default network.
pub(super) fn default(
    desired: &mut Desired,
    wanted: &DefaultNetwork,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let standing = desired.default_network().map(|n| n.id);
    let Some(id) = standing else {
        if *wanted == DefaultNetwork::Absent {
            return Ok(Outcome::Nothing);
        }
        let id = new_id(desired, facts);
        return make_default(desired, id, wanted, facts);
    };
    // One that stands keeps its addresses, containers have some of them; but it moves to another bridge.
    let active = active(desired, id);
    let moves = desired.networks.get(&id).is_some_and(|n| brought::moves(n, wanted, facts));
    match wanted {
        DefaultNetwork::Absent => {
            if let Some(active) = active {
                return Err(Rejected::forbidden(format!("network {} {active}", find::BRIDGE)));
            }
            drop_network(desired, id);
            Ok(Outcome::Network(id))
        }
        _ if !moves => Ok(Outcome::Nothing),
        _ => {
            if let Some(active) = active {
                return Err(Rejected::forbidden(format!(
                    "network {} cannot move to another bridge: it {active}",
                    find::BRIDGE
                )));
            }
            drop_network(desired, id);
            make_default(desired, id, wanted, facts)
        }
    }
}

/// Makes the default network.
fn make_default(
    desired: &mut Desired,
    id: NetworkId,
    wanted: &DefaultNetwork,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let spec = &NetworkSpec::default();
    let (bridge, addresses) = match wanted {
        DefaultNetwork::Brought(bridge) => {
            let options = NetworkOptions::default();
            (bridge.clone(), brought::addresses(desired, bridge, spec, &options, facts)?)
        }
        DefaultNetwork::Fixed(network) => {
            let pool = subnet::fixed_pool(desired, (*network).into(), facts)?;
            (DEFAULT_BRIDGE.to_owned(), Pools::from([(Family::V4, pool)]))
        }
        DefaultNetwork::Absent | DefaultNetwork::Automatic => {
            let pool = subnet::default_pool(desired, facts)?;
            (DEFAULT_BRIDGE.to_owned(), Pools::from([(Family::V4, pool)]))
        }
    };
    bridge_is_free(desired, id, &bridge)?;
    let pairs = [
        (keys::DEFAULT_BRIDGE, "true".to_owned()),
        (keys::ICC, "true".to_owned()),
        (keys::MASQUERADE, "true".to_owned()),
        (keys::HOST_BINDING, Ipv4Addr::UNSPECIFIED.to_string()),
        (keys::BRIDGE, bridge.clone()),
        (keys::MTU, brought::mtu(&bridge, facts).to_string()),
    ];
    let verbatim = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let options = NetworkOptions::new(verbatim).map_err(Rejected::invalid)?;
    let name = Name::from_str(find::BRIDGE).map_err(Rejected::invalid)?;
    let brought = matches!(wanted, DefaultNetwork::Brought(_));
    let new = New { id, name, addresses, bridge, brought, options, spec, predefined: true };
    insert(desired, facts, new)
}

/// Gives the default network IPv6 addresses, or takes them from it. Those that containers have stay.
pub(super) fn default_ipv6(
    desired: &mut Desired,
    wanted: DefaultIpv6,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    // A bridge that is brought has the addresses that it has.
    let Some(network) = desired.default_network().filter(|n| !n.brought) else {
        return Ok(Outcome::Nothing);
    };
    let (id, subnet) = (network.id, network.ipv6.as_ref().map(|pool| pool.subnet));
    let used =
        desired.attachments(id).any(|(_, a)| a.endpoint.as_ref().is_some_and(|e| e.ip6.is_some()));
    let fits = match (wanted, subnet) {
        (DefaultIpv6::Off, None) | (DefaultIpv6::Automatic, Some(_)) => true,
        (DefaultIpv6::Fixed(wanted), Some(subnet)) => subnet == wanted.into(),
        _ => false,
    };
    if fits || used {
        return Ok(Outcome::Nothing);
    }
    if let Some(network) = desired.networks.get_mut(&id) {
        network.ipv6 = None;
    }
    let pool = match wanted {
        DefaultIpv6::Off => None,
        DefaultIpv6::Automatic => Some(subnet::default_pool6(desired, None, facts)?),
        DefaultIpv6::Fixed(subnet) => Some(subnet::default_pool6(desired, Some(subnet), facts)?),
    };
    if let Some(network) = desired.networks.get_mut(&id) {
        network.ipv6 = pool;
    }
    Ok(Outcome::Network(id))
}

pub(super) fn remove(desired: &mut Desired, reference: &str) -> Result<Outcome, Rejected> {
    let network = match find::network(desired, reference)? {
        Found::Bridge(network) if !network.predefined => network,
        found => {
            let name = found.name();
            return Err(Rejected::forbidden(format!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        }
    };
    if let Some(active) = active(desired, network.id) {
        let name = &network.name;
        return Err(Rejected::forbidden(format!(
            "error while removing network: network {name} {active}"
        )));
    }
    let id = network.id;
    drop_network(desired, id);
    Ok(Outcome::Network(id))
}

pub(super) fn prune(desired: &mut Desired) -> Outcome {
    let idle: Vec<_> = desired
        .networks
        .values()
        .filter(|n| !n.predefined && desired.attachments(n.id).next().is_none())
        .map(|n| (n.id, n.name.clone()))
        .collect();
    for (id, _) in &idle {
        drop_network(desired, *id);
    }
    Outcome::Pruned(idle.into_iter().map(|(_, name)| name).collect())
}

/// Returns who is active on a network, in Docker's words.
fn active(desired: &Desired, network: NetworkId) -> Option<String> {
    let names: Vec<_> = desired
        .attachments(network)
        .filter_map(|(c, a)| {
            Some(format!("name:\"{}\" id:\"{}\"", c.name, a.endpoint.as_ref()?.id.short()))
        })
        .collect();
    (!names.is_empty()).then(|| format!("has active endpoints ({})", names.join(", ")))
}

fn drop_network(desired: &mut Desired, id: NetworkId) {
    if let Some(network) = desired.networks.remove(&id) {
        desired.indices.networks.free(network.index);
    }
}

struct New<'a> {
    id: NetworkId,
    name: Name,
    addresses: Pools,
    bridge: String,
    brought: bool,
    options: NetworkOptions,
    spec: &'a NetworkSpec,
    predefined: bool,
}

fn insert(desired: &mut Desired, facts: &Facts, new: New<'_>) -> Result<Outcome, Rejected> {
    let limit = bascule_common::abi::names::map::NETWORKS_LEN;
    let index =
        desired.indices.networks.take().ok_or_else(|| Rejected::exhausted("networks", limit))?;
    let New { id, name, mut addresses, bridge, brought, options, spec, predefined } = new;
    let mtu = options.mtu.unwrap_or_else(|| brought::mtu(&bridge, facts));
    let network = Network {
        id,
        index,
        name,
        created: facts.now,
        ipv4: addresses.remove(&Family::V4),
        ipv6: addresses.remove(&Family::V6),
        bridge,
        brought,
        mtu,
        internal: spec.internal,
        predefined,
        options,
        labels: spec.labels.clone(),
    };
    desired.networks.insert(id, network);
    Ok(Outcome::Network(id))
}

fn new_id(desired: &Desired, facts: &mut Facts) -> NetworkId {
    loop {
        let id = NetworkId::new((facts.entropy)());
        // Bridges are named by twelve digits.
        if !desired.networks.keys().any(|other| other.short() == id.short()) {
            return id;
        }
    }
}

fn bridge_is_free(desired: &Desired, id: NetworkId, bridge: &str) -> Result<(), Rejected> {
    match desired.networks.values().find(|n| n.bridge == bridge) {
        None => Ok(()),
        Some(other) => Err(Rejected::forbidden(format!(
            "cannot create network {id} ({bridge}): conflicts with network {} ({bridge}): networks have same bridge name",
            other.id
        ))),
    }
}
