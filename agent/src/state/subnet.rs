//! The addresses of a network: what is wished for, judged, and what is chosen.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::{IpNetwork, Ipv6Network};

use super::{Facts, NetworkSpec, Rejected, SubnetSpec, network::DEFAULT_BRIDGE};
use crate::model::{Desired, Family, GatewayMode, NetworkOptions, Pool, ipam};

/// Gateway of the default network's IPv6: the same on every link.
const FE80_1: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The addresses of a network, by family.
pub(super) type Pools = BTreeMap<Family, Pool>;

/// Returns the addresses of a network that is wished for.
pub(super) fn pools(
    desired: &mut Desired,
    spec: &NetworkSpec,
    options: &NetworkOptions,
    brought: Option<&str>,
    facts: &mut Facts,
) -> Result<Pools, Rejected> {
    let mut pools = Pools::new();
    for (family, wishes) in wishes(spec)? {
        let mode = match family {
            Family::V4 => options.gateway_mode4,
            Family::V6 => options.gateway_mode6,
        };
        if mode == GatewayMode::Isolated && !spec.internal {
            return Err(Rejected::invalid(
                "gateway mode 'isolated' can only be used for an internal network",
            ));
        }
        let inhibited = family == Family::V4 && options.inhibit_ipv4 && spec.internal;
        let without = mode == GatewayMode::Isolated || inhibited;
        pools.insert(family, pool(desired, family, &wishes, (without, brought), facts)?);
    }
    Ok(pools)
}

/// Sorts wishes by family, and adds those for families that are wished for without saying more.
pub(super) fn wishes(spec: &NetworkSpec) -> Result<BTreeMap<Family, SubnetSpec>, Rejected> {
    let mut sorted = BTreeMap::new();
    for wish in &spec.subnets {
        let text = [&wish.subnet, &wish.gateway, &wish.ip_range];
        let family =
            if text.iter().any(|text| text.contains(':')) { Family::V6 } else { Family::V4 };
        if sorted.insert(family, wish.clone()).is_some() {
            return Err(Rejected::invalid("bridge driver doesn't support multiple subnets"));
        }
    }
    let ipv6 = spec.ipv6.unwrap_or_else(|| sorted.contains_key(&Family::V6));
    for (family, wanted) in [(Family::V4, !spec.without_ipv4), (Family::V6, ipv6)] {
        match sorted.get(&family) {
            None if wanted => drop(sorted.insert(family, SubnetSpec::default())),
            Some(wish) if !wanted && *wish != SubnetSpec::default() => {
                return Err(Rejected::invalid(format!(
                    "the subnet {} is {family}, which is disabled for the network",
                    wish.subnet
                )));
            }
            Some(_) if !wanted => drop(sorted.remove(&family)),
            _ => {}
        }
    }
    if sorted.is_empty() {
        Err(Rejected::invalid("IPv4 or IPv6 must be enabled"))
    } else {
        Ok(sorted)
    }
}

/// Returns the addresses of the default network.
pub(super) fn default_pool(desired: &Desired, facts: &Facts) -> Result<Pool, Rejected> {
    ipam::choose_default_subnet(&taken(desired, facts)).map(Pool::of).ok_or_else(exhausted)
}

/// Returns the addresses of a default network that the operator has set.
pub(super) fn fixed_pool(
    desired: &Desired,
    network: IpNetwork,
    facts: &Facts,
) -> Result<Pool, Rejected> {
    let subnet = IpNetwork::new(network.network(), network.prefix()).map_err(Rejected::invalid)?;
    free(desired, subnet, facts, None)?;
    let mut pool = Pool::of(subnet);
    if network.ip() != subnet.network() {
        pool.gateway = Some(network.ip());
    }
    Ok(pool)
}

/// Returns the IPv6 addresses of the default network.
pub(super) fn default_pool6(
    desired: &mut Desired,
    wanted: Option<Ipv6Network>,
    facts: &mut Facts,
) -> Result<Pool, Rejected> {
    let subnet = match wanted {
        Some(subnet) => {
            free(desired, subnet.into(), facts, None)?;
            subnet.into()
        }
        None => choose(desired, Family::V6, facts)?,
    };
    Ok(Pool { gateway: Some(FE80_1), ..Pool::of(subnet) })
}

fn exhausted() -> Rejected {
    Rejected::invalid("all predefined address pools have been fully subnetted")
}

/// Chooses a subnet that nothing here uses.
fn choose(desired: &mut Desired, family: Family, facts: &mut Facts) -> Result<IpNetwork, Rejected> {
    let taken = taken(desired, facts);
    let chosen = match family {
        Family::V4 => ipam::choose_subnet(&taken),
        Family::V6 => {
            let lot = || ipam::unique_local((facts.entropy)());
            ipam::choose_subnet6(*desired.indices.ula.get_or_insert_with(lot), &taken)
        }
    };
    chosen.ok_or_else(exhausted)
}

/// Tells whether a prefix means something else on every link.
pub(super) fn is_per_link(network: &IpNetwork) -> bool {
    matches!(network, IpNetwork::V6(network) if network.ip().is_unicast_link_local())
}

/// Returns everything that a chosen subnet must not touch.
fn taken(desired: &Desired, facts: &Facts) -> Vec<IpNetwork> {
    let own = desired.networks.values().flat_map(|n| n.pools().map(|pool| pool.subnet));
    let host = facts
        .interfaces
        .iter()
        .filter(|(name, _)| name.as_str() != DEFAULT_BRIDGE)
        .flat_map(|(_, a)| a);
    own.chain(host.copied())
        .chain(facts.routes.iter().copied().filter(|r| r.prefix() > 0))
        .collect()
}

/// Reads the wishes for a subnet; what is wrong with them is told all at once. Without a gateway, the host
/// has no address there.
fn pool(
    desired: &mut Desired,
    family: Family,
    wishes: &SubnetSpec,
    (without_gateway, brought): (bool, Option<&str>),
    facts: &mut Facts,
) -> Result<Pool, Rejected> {
    let subnet = if wishes.subnet.is_empty() {
        if !wishes.gateway.is_empty() || !wishes.ip_range.is_empty() || !wishes.auxiliary.is_empty()
        {
            return Err(Rejected::invalid(
                "every ip-range or gateway must have a corresponding subnet",
            ));
        }
        choose(desired, family, facts)?
    } else {
        subnet(&wishes.subnet, without_gateway)
            .map_err(|why| Rejected::invalid(format!("invalid network config:\n{why}")))?
    };
    let mut found = Pool::of(subnet);
    let mut wrong = details(wishes, &mut found);
    if without_gateway {
        found.gateway = None;
        if !wishes.gateway.is_empty() {
            wrong.push(format!(
                "invalid gateway {}: the host has no {family} address on this network",
                wishes.gateway
            ));
        }
    }
    if !wrong.is_empty() {
        return Err(Rejected::invalid(format!("invalid network config:\n{}", wrong.join("\n"))));
    }
    if found.auxiliary.values().any(|a| Some(*a) == found.gateway) {
        return Err(Rejected::address_taken());
    }
    if !wishes.subnet.is_empty() {
        free(desired, subnet, facts, brought)?;
    }
    Ok(found)
}

/// Reads range, gateway and reserved addresses; returns what is wrong with them.
fn details(wishes: &SubnetSpec, found: &mut Pool) -> Vec<String> {
    let (subnet, mut wrong) = (found.subnet, Vec::new());
    if !wishes.ip_range.is_empty() {
        found.ip_range = ip_range(&wishes.ip_range, subnet).map_err(|why| wrong.push(why)).ok();
    }
    if !wishes.gateway.is_empty() {
        // Old output gives gateways with a prefix.
        let text = wishes.gateway.split('/').next().unwrap_or_default();
        match gateway(text, subnet) {
            Ok(gateway) => found.gateway = Some(gateway),
            Err(why) => wrong.push(why),
        }
    } else if let Some(range) = found.ip_range {
        // Docker takes the first address of the range then, where it is not the subnet's own.
        let first = range.network();
        found.gateway = if ipam::is_edge(subnet, first) { found.gateway } else { Some(first) };
    }
    for (name, text) in &wishes.auxiliary {
        match inside("auxiliary address", name, text, subnet) {
            Ok(address) => drop(found.auxiliary.insert(name.clone(), address)),
            Err(why) => wrong.push(why),
        }
    }
    wrong
}

/// Refuses a subnet that a network of ours or an interface of the host has.
fn free(
    desired: &Desired,
    subnet: IpNetwork,
    facts: &Facts,
    brought: Option<&str>,
) -> Result<(), Rejected> {
    let mut pools = desired.networks.values().flat_map(|n| n.pools());
    if pools.any(|pool| ipam::overlap(pool.subnet, subnet)) {
        return Err(Rejected::pool_overlaps());
    }
    let ours = |name: &str| {
        name == DEFAULT_BRIDGE
            || brought == Some(name)
            || desired.networks.values().any(|n| n.bridge == name)
    };
    for (name, addresses) in facts.interfaces.iter().filter(|(name, _)| !ours(name)) {
        let mut clashing = addresses.iter().filter(|a| !is_per_link(a));
        if let Some(address) = clashing.find(|a| ipam::overlap(**a, subnet)) {
            return Err(Rejected::forbidden(format!(
                "{}: {subnet} overlaps with {address} of interface {name}",
                Rejected::pool_overlaps().message
            )));
        }
    }
    Ok(())
}

fn subnet(text: &str, point_to_point: bool) -> Result<IpNetwork, String> {
    let invalid = |why: &str| format!("invalid subnet {text}: {why}");
    if !text.contains('/') {
        return Err(invalid("a prefix length is needed, as in 172.25.0.0/16"));
    }
    let subnet: IpNetwork =
        text.parse().map_err(|_| invalid("it is not a subnet, as 172.25.0.0/16 is"))?;
    if subnet.ip() != subnet.network() {
        return Err(invalid(&format!("it should be {}/{}", subnet.network(), subnet.prefix())));
    }
    let longest = match (subnet.is_ipv4(), point_to_point) {
        (true, false) => 30,
        (true, true) => 31,
        (false, false) => 126,
        (false, true) => 127,
    };
    if !(1..=longest).contains(&subnet.prefix()) {
        return Err(invalid(&format!("the prefix length must be from 1 to {longest}")));
    }
    let first = subnet.network();
    let unfit = match first {
        IpAddr::V4(first) => first.octets()[0] == 0 || first.octets()[0] >= 224,
        IpAddr::V6(first) => first.to_canonical().is_ipv4() || first.segments()[0] == 0,
    };
    if first.is_loopback() || first.is_multicast() || unfit {
        return Err(invalid("such addresses cannot be a host's"));
    }
    Ok(subnet)
}

fn ip_range(text: &str, subnet: IpNetwork) -> Result<IpNetwork, String> {
    let invalid = |why: String| format!("invalid ip-range {text}: {why}");
    let range: IpNetwork =
        text.parse().map_err(|_| invalid("it is not a range, as 172.25.8.0/24 is".into()))?;
    if range.is_ipv4() == subnet.is_ipv4() && range.prefix() < subnet.prefix() {
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

/// Reads a gateway: inside the subnet, or as `fe80::1` on the link.
fn gateway(text: &str, subnet: IpNetwork) -> Result<IpAddr, String> {
    if let Ok(IpAddr::V6(address)) = text.parse()
        && subnet.is_ipv6()
        && address.is_unicast_link_local()
    {
        return Ok(address.into());
    }
    let gateway = inside("gateway", text, text, subnet)?;
    if ipam::is_edge(subnet, gateway) {
        return Err(format!(
            "invalid gateway {text}: it is the network's or the broadcast address of {subnet}"
        ));
    }
    Ok(gateway)
}

fn inside(what: &str, name: &str, text: &str, subnet: IpNetwork) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        format!("invalid {what} {name}: {text:?} is not an {} address", Family::of(subnet.ip()))
    })?;
    if !subnet.contains(address) {
        return Err(format!(
            "invalid {what} {name}: parent subnet {subnet} doesn't contain this address"
        ));
    }
    Ok(address)
}
