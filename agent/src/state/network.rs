//! Networks come and go.

mod brought;

use std::{collections::BTreeMap, net::Ipv4Addr, str::FromStr};

use ipnetwork::Ipv4Network;

use super::{
    DefaultNetwork, Facts, NetworkSpec, Outcome, Rejected, SubnetSpec,
    find::{self, Found},
};
use crate::model::{Desired, Name, Network, NetworkId, NetworkOptions, ipam, keys};

/// Name of the default network's bridge.
const DEFAULT_BRIDGE: &str = "bascule0";

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
    if spec.subnets.len() > 1 {
        return Err(Rejected::invalid("bridge driver doesn't support multiple subnets"));
    }
    let wishes = spec.subnets.first().cloned().unwrap_or_default();
    let id = new_id(desired, facts);
    let bridge = options.bridge.clone().unwrap_or_else(|| format!("br-{}", id.short()));
    bridge_is_free(desired, id, &bridge)?;
    let brought = facts.has_interface(&bridge);
    let addresses = if brought {
        brought::addresses(desired, &bridge, wishes, facts)?
    } else {
        addresses(desired, &wishes, facts, None)?
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
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let spec = &NetworkSpec::default();
    let (bridge, addresses) = match wanted {
        DefaultNetwork::Brought(bridge) => {
            let wishes = SubnetSpec::default();
            (bridge.clone(), brought::addresses(desired, bridge, wishes, facts)?)
        }
        DefaultNetwork::Fixed(network) => {
            (DEFAULT_BRIDGE.to_owned(), fixed(desired, *network, facts)?)
        }
        DefaultNetwork::Absent | DefaultNetwork::Automatic => {
            let subnet = ipam::choose_default_subnet(&taken(desired, facts));
            (DEFAULT_BRIDGE.to_owned(), Addresses::of(subnet.ok_or_else(exhausted)?))
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

/// Returns the addresses of a default network that the operator has set.
fn fixed(desired: &Desired, network: Ipv4Network, facts: &Facts) -> Result<Addresses, Rejected> {
    let subnet =
        Ipv4Network::new(network.network(), network.prefix()).map_err(Rejected::invalid)?;
    free(desired, subnet, facts, None)?;
    let mut addresses = Addresses::of(subnet);
    if network.ip() != subnet.network() {
        addresses.gateway = network.ip();
    }
    Ok(addresses)
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
    addresses: Addresses,
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
    let New { id, name, addresses, bridge, brought, options, spec, predefined } = new;
    let mtu = options.mtu.unwrap_or_else(|| brought::mtu(&bridge, facts));
    let network = Network {
        id,
        index,
        name,
        created: facts.now,
        subnet: addresses.subnet,
        ip_range: addresses.ip_range,
        gateway: addresses.gateway,
        auxiliary: addresses.auxiliary,
        last_given: None,
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

fn exhausted() -> Rejected {
    Rejected::invalid("all predefined address pools have been fully subnetted")
}

/// Returns everything that a chosen subnet must not touch.
fn taken(desired: &Desired, facts: &Facts) -> Vec<Ipv4Network> {
    let own = desired.networks.values().map(|n| n.subnet);
    let host = facts
        .interfaces
        .iter()
        .filter(|(name, _)| name.as_str() != DEFAULT_BRIDGE)
        .flat_map(|(_, a)| a);
    own.chain(host.copied())
        .chain(facts.routes.iter().copied().filter(|r| r.prefix() > 0))
        .collect()
}

struct Addresses {
    subnet: Ipv4Network,
    ip_range: Option<Ipv4Network>,
    gateway: Ipv4Addr,
    auxiliary: BTreeMap<String, Ipv4Addr>,
}

impl Addresses {
    fn of(subnet: Ipv4Network) -> Self {
        let gateway = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
        Self { subnet, ip_range: None, gateway, auxiliary: BTreeMap::new() }
    }
}

/// Reads the wishes for a subnet; what is wrong with them is told all at once.
fn addresses(
    desired: &Desired,
    wishes: &SubnetSpec,
    facts: &Facts,
    brought: Option<&str>,
) -> Result<Addresses, Rejected> {
    let mut wrong = Vec::new();
    let subnet = if wishes.subnet.is_empty() {
        if !wishes.gateway.is_empty() || !wishes.ip_range.is_empty() || !wishes.auxiliary.is_empty()
        {
            return Err(Rejected::invalid(
                "every ip-range or gateway must have a corresponding subnet",
            ));
        }
        ipam::choose_subnet(&taken(desired, facts)).ok_or_else(exhausted)?
    } else {
        subnet(&wishes.subnet)
            .map_err(|why| Rejected::invalid(format!("invalid network config:\n{why}")))?
    };
    let mut found = Addresses::of(subnet);
    if !wishes.ip_range.is_empty() {
        found.ip_range = ip_range(&wishes.ip_range, subnet).map_err(|why| wrong.push(why)).ok();
    }
    if !wishes.gateway.is_empty() {
        // Old output gives gateways with a prefix.
        let text = wishes.gateway.split('/').next().unwrap_or_default();
        found.gateway = inside("gateway", text, text, subnet)
            .map_err(|why| wrong.push(why))
            .unwrap_or(found.gateway);
        if wrong.is_empty() && ipam::is_edge(subnet, found.gateway) {
            wrong.push(format!(
                "invalid gateway {text}: it is the network's or the broadcast address of {subnet}"
            ));
        }
    } else if let Some(range) = found.ip_range {
        // Docker takes the first address of the range then, where it is not the subnet's own.
        let first = range.network();
        found.gateway = if ipam::is_edge(subnet, first) { found.gateway } else { first };
    }
    for (name, text) in &wishes.auxiliary {
        match inside("auxiliary address", name, text, subnet) {
            Ok(address) => drop(found.auxiliary.insert(name.clone(), address)),
            Err(why) => wrong.push(why),
        }
    }
    if !wrong.is_empty() {
        return Err(Rejected::invalid(format!("invalid network config:\n{}", wrong.join("\n"))));
    }
    if found.auxiliary.values().any(|&a| a == found.gateway) {
        return Err(Rejected::address_taken());
    }
    if !wishes.subnet.is_empty() {
        free(desired, subnet, facts, brought)?;
    }
    Ok(found)
}

/// Refuses a subnet that a network of ours or an interface of the host has.
fn free(
    desired: &Desired,
    subnet: Ipv4Network,
    facts: &Facts,
    brought: Option<&str>,
) -> Result<(), Rejected> {
    if desired.networks.values().any(|n| ipam::overlap(n.subnet, subnet)) {
        return Err(Rejected::pool_overlaps());
    }
    let ours = |name: &str| {
        name == DEFAULT_BRIDGE
            || brought == Some(name)
            || desired.networks.values().any(|n| n.bridge == name)
    };
    for (name, addresses) in facts.interfaces.iter().filter(|(name, _)| !ours(name)) {
        if let Some(address) = addresses.iter().find(|a| ipam::overlap(**a, subnet)) {
            return Err(Rejected::forbidden(format!(
                "{}: {subnet} overlaps with {address} of interface {name}",
                Rejected::pool_overlaps().message
            )));
        }
    }
    Ok(())
}

fn subnet(text: &str) -> Result<Ipv4Network, String> {
    let invalid = |why: &str| format!("invalid subnet {text}: {why}");
    if text.contains(':') {
        return Err(invalid("IPv6 networks cannot be made yet"));
    }
    if !text.contains('/') {
        return Err(invalid("a prefix length is needed, as in 172.25.0.0/16"));
    }
    let subnet: Ipv4Network =
        text.parse().map_err(|_| invalid("it is not a subnet, as 172.25.0.0/16 is"))?;
    if subnet.ip() != subnet.network() {
        return Err(invalid(&format!("it should be {}/{}", subnet.network(), subnet.prefix())));
    }
    if !(1..=30).contains(&subnet.prefix()) {
        return Err(invalid("the prefix length must be from 1 to 30"));
    }
    let first = subnet.network();
    if first.is_loopback()
        || first.is_multicast()
        || first.octets()[0] == 0
        || first.octets()[0] >= 224
    {
        return Err(invalid("such addresses cannot be a host's"));
    }
    Ok(subnet)
}

fn ip_range(text: &str, subnet: Ipv4Network) -> Result<Ipv4Network, String> {
    let invalid = |why: String| format!("invalid ip-range {text}: {why}");
    let range: Ipv4Network =
        text.parse().map_err(|_| invalid("it is not a range, as 172.25.8.0/24 is".into()))?;
    if range.prefix() < subnet.prefix() {
        return Err(invalid(format!("CIDR block is bigger than its parent subnet {subnet}")));
    }
    if !subnet.contains(range.network()) {
        return Err(invalid(format!("parent subnet {subnet} doesn't contain ip-range")));
    }
    if range.ip() != range.network() {
        return Err(invalid(format!("it should be {}/{}", range.network(), range.prefix())));
    }
    Ok(range)
}

fn inside(what: &str, name: &str, text: &str, subnet: Ipv4Network) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text
        .parse()
        .map_err(|_| format!("invalid {what} {name}: {text:?} is not an IPv4 address"))?;
    if !subnet.contains(address) {
        return Err(format!(
            "invalid {what} {name}: parent subnet {subnet} doesn't contain this address"
        ));
    }
    Ok(address)
}
