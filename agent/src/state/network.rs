//! Networks come and go.

mod brought;
mod config;
mod default;

pub(super) use default::{default, default_ipv6};

use std::net::IpAddr;

use super::{
    Facts, NetworkSpec, Outcome, PruneFilter, Rejected, SubnetSpec,
    find::{self, Found},
    plugin,
    subnet::{self, Pools},
};
use crate::model::{
    Desired, Family, Network, NetworkId, NetworkName, NetworkOptions, Pool, Resolver, keys,
};

/// Name of the default network's bridge.
pub(super) const DEFAULT_BRIDGE: &str = "bascule0";
/// Shorter prefixes than this have more addresses than a bridge has ports.
const SMALLEST_LARGE: u8 = 22;

pub(super) fn create(
    desired: &mut Desired,
    spec: &NetworkSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let name = spec.name.parse::<NetworkName>().map_err(Rejected::invalid)?;
    if [find::BRIDGE, find::HOST, find::NONE].contains(&name.as_str()) {
        return Err(Rejected::forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    if find::networks(desired).any(|n| n.name() == name.as_str()) {
        return Err(Rejected::conflict(format!("network with name {name} already exists")));
    }
    if spec.config_only {
        return config::create(desired, name, spec, facts);
    }
    let applied = spec.config_from.as_deref();
    let applied = applied.map(|from| config::applied(desired, spec, from)).transpose()?;
    let spec = applied.as_ref().unwrap_or(spec);
    let mut options = options(spec)?;
    let id = spec.id.unwrap_or_else(|| new_id(desired, facts));
    let bridge = options.bridge.clone().unwrap_or_else(|| format!("br-{}", id.short()));
    bridge_is_free(desired, id, &bridge)?;
    let brought = facts.has_interface(&bridge);
    let addresses = if brought {
        brought::addresses(desired, &bridge, spec, &options, facts)?
    } else {
        subnet::pools(desired, spec, &options, None, facts)?
    };
    let warnings = if brought { Vec::new() } else { subnet::warnings(spec, &addresses, facts) };
    choose_l2(&mut options, spec, &addresses, brought.then_some(&bridge))?;
    let new = New { id, name, addresses, bridge, brought, options, spec, predefined: false };
    insert(desired, facts, new)?;
    Ok(Outcome::Network(id, warnings))
}

/// Reads the driver options. What is wrong with them is told with all that is wrong with the subnets.
fn options(spec: &NetworkSpec) -> Result<NetworkOptions, Rejected> {
    let (options, wrong) = NetworkOptions::read(spec.options.clone());
    if wrong.is_empty() {
        return Ok(options);
    }
    let wrong = wrong.iter().map(ToString::to_string);
    let subnets = subnet::check(spec, &options).err().map(|rejected| rejected.message);
    let subnets = subnets.iter().flat_map(|m| m.lines().filter(|l| *l != subnet::WRONG));
    match wrong.chain(subnets.map(str::to_owned)).collect::<Vec<_>>().as_slice() {
        [one] => Err(Rejected::invalid(one)),
        all => Err(Rejected::invalid(format!("{}\n{}", subnet::WRONG, all.join("\n")))),
    }
}

/// Leaves the bridge out where a subnet was asked for with more addresses than a bridge has ports, unless the option says
/// otherwise; it shows what was chosen. Sizes that nobody asked for mean nothing: the default network keeps its bridge,
/// and so do subnets from the pools and a bridge that is brought.
fn choose_l2(
    options: &mut NetworkOptions,
    spec: &NetworkSpec,
    addresses: &Pools,
    brought: Option<&String>,
) -> Result<(), Rejected> {
    if let Some(bridge) = brought {
        return if options.l2_bpf {
            Err(Rejected::invalid(format!(
                "bridge {bridge} is brought, and {}=bpf makes a network without one: leave out one of the two",
                keys::L2
            )))
        } else {
            Ok(())
        };
    }
    let range = |pool: &Pool| pool.ip_range.unwrap_or(pool.subnet).prefix();
    let dockers = |wish: &SubnetSpec| spec.id.is_some() && plugin::is_dockers_choice(&wish.subnet);
    let asked = spec
        .subnets
        .iter()
        .any(|wish| !wish.subnet.is_empty() && !wish.subnet.contains(':') && !dockers(wish));
    let large =
        asked && addresses.get(&Family::V4).is_some_and(|pool| range(pool) < SMALLEST_LARGE);
    if large && !options.verbatim.contains_key(keys::L2) {
        options.l2_bpf = true;
        options.verbatim.insert(keys::L2.to_owned(), "bpf".to_owned());
    }
    Ok(())
}

/// Changes the name servers of a network.
pub(super) fn update(
    desired: &mut Desired,
    reference: &str,
    add: &[IpAddr],
    drop: &[IpAddr],
) -> Result<Outcome, Rejected> {
    let found = find::network(desired, reference)?;
    let Found::Bridge(network) = found else {
        let name = found.name();
        return Err(Rejected::forbidden(format!("network {name} has no name servers of its own")));
    };
    let mut servers = network.options.dns.clone();
    servers.retain(|server| !drop.contains(server));
    servers.extend(add.iter().filter(|server| !network.options.dns.contains(server)));
    let resolver = Resolver { servers, ..Resolver::default() };
    if let Some((setting, value, why)) = resolver.wrong() {
        return Err(Rejected::invalid(format!("invalid {setting} {value:?}: {why}")));
    }
    let id = network.id;
    if let Some(network) = desired.networks.get_mut(&id) {
        network.options.name_servers(resolver.servers);
    }
    Ok(Outcome::Network(id, Vec::new()))
}

pub(super) fn remove(desired: &mut Desired, reference: &str) -> Result<Outcome, Rejected> {
    let network = match find::network(desired, reference)? {
        Found::Bridge(network) if network.plugged => return Err(plugin::network(network)),
        Found::Bridge(network) if !network.predefined => network,
        Found::Config(config) => {
            let config = config.clone();
            return config::remove(desired, &config);
        }
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
    Ok(Outcome::Network(id, Vec::new()))
}

pub(super) fn prune(desired: &mut Desired, filter: &PruneFilter) -> Outcome {
    let has = |network: &Network, wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(wanted),
    };
    let meant = |network: &&Network| {
        filter.before.is_none_or(|before| network.created < before)
            && filter.labels.iter().all(|wanted| has(network, wanted))
            && (filter.without.is_empty() || !filter.without.iter().all(|l| has(network, l)))
    };
    let idle: Vec<_> = desired
        .networks
        .values()
        .filter(|n| !n.predefined && !n.plugged && !n.adopted)
        .filter(|n| active(desired, n.id).is_none())
        .filter(meant)
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

pub(super) fn drop_network(desired: &mut Desired, id: NetworkId) {
    if let Some(network) = desired.networks.remove(&id) {
        desired.indices.networks.free(network.index);
    }
}

struct New<'a> {
    id: NetworkId,
    name: NetworkName,
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
        adopted: false,
        mtu,
        internal: spec.internal,
        predefined,
        plugged: spec.id.is_some(),
        options,
        labels: spec.labels.clone(),
        attachable: spec.attachable,
        config_from: spec.config_from.as_deref().and_then(|name| name.parse().ok()),
        ipam_options: spec.ipam_options.clone(),
    };
    desired.networks.insert(id, network);
    Ok(Outcome::Network(id, Vec::new()))
}

fn new_id(desired: &Desired, facts: &mut Facts) -> NetworkId {
    loop {
        let id = NetworkId::new((facts.entropy)());
        // Bridges are named by twelve digits.
        let mut others = desired.networks.keys().chain(desired.configs.keys());
        if !others.any(|other| other.short() == id.short()) {
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
