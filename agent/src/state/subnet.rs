//! The addresses of a network: what is wished for, judged, and what is chosen.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::{IpNetwork, Ipv6Network};

use super::{Facts, NetworkSpec, Rejected, SubnetSpec, network::DEFAULT_BRIDGE};
use crate::model::{Desired, Family, GatewayMode, GivenPool, NetworkOptions, Pool, ipam, pools};

/// Gateway of the default network's IPv6: the same on every link.
const FE80_1: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The addresses of a network, by family.
pub(super) type Pools = BTreeMap<Family, Pool>;

/// What stands before all that is wrong with a network, as with Docker.
pub(super) const WRONG: &str = "invalid network config:";

/// Reads the wishes for a network's addresses. Everything that is wrong with them is told at once, and
/// before anything is looked for.
fn read(spec: &NetworkSpec, options: &NetworkOptions) -> Result<Vec<(Asked, Wishes)>, Rejected> {
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for (family, mut text) in wishes(spec)? {
        let mode = match family {
            Family::V4 => options.gateway_mode4,
            Family::V6 => options.gateway_mode6,
        };
        if mode == GatewayMode::Isolated && !spec.internal && !spec.config_only {
            return Err(Rejected::invalid(
                "gateway mode 'isolated' can only be used for an internal network",
            ));
        }
        let inhibited = family == Family::V4 && options.inhibit_ipv4 && spec.internal;
        let without_gateway = mode == GatewayMode::Isolated || inhibited;
        if without_gateway && spec.id.is_some() {
            // Docker gives each of its networks a gateway's address: here it stays nobody's.
            text.gateway.clear();
        }
        let wishes = Wishes { family, text, without_gateway };
        read.push((wishes.read(&mut wrong), wishes));
    }
    if wrong.is_empty() {
        Ok(read)
    } else {
        Err(Rejected::invalid(format!("{WRONG}\n{}", wrong.join("\n"))))
    }
}

/// Refuses wishes that make no sense.
pub(super) fn check(spec: &NetworkSpec, options: &NetworkOptions) -> Result<(), Rejected> {
    read(spec, options).map(drop)
}

/// Returns the addresses of a network that is wished for.
pub(super) fn pools(
    desired: &mut Desired,
    spec: &NetworkSpec,
    options: &NetworkOptions,
    brought: Option<&str>,
    facts: &mut Facts,
) -> Result<Pools, Rejected> {
    let mut pools = Pools::new();
    for (asked, wishes) in read(spec, options)? {
        let pool = match asked {
            Asked::This(pool) => {
                free(desired, pool.subnet, facts, brought)?;
                // What Docker was given is for Docker's networks.
                let given = |given: &GivenPool| ipam::overlap(given.id.subnet, pool.subnet);
                if spec.id.is_none() && desired.pools.values().any(given) {
                    return Err(Rejected::pool_overlaps());
                }
                pool
            }
            Asked::OfSize(size) => {
                wishes.details(choose(desired, wishes.family, size, facts)?, &mut Vec::new())
            }
        };
        if pool.auxiliary.values().any(|a| Some(*a) == pool.gateway) {
            return Err(Rejected::address_taken());
        }
        pools.insert(wishes.family, pool);
    }
    Ok(pools)
}

/// Returns what the operator should know of the addresses of a network.
pub(super) fn warnings(spec: &NetworkSpec, pools: &Pools, facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    for (family, pool) in pools {
        let subnet = pool.subnet;
        let given = spec.subnets.iter().any(|wish| {
            wish.subnet.parse::<IpNetwork>().is_ok_and(|w| w.is_ipv4() == subnet.is_ipv4())
        });
        if given {
            if let Some(route) = facts.routes.iter().find(|r| ipam::overlap(**r, subnet)) {
                warnings.push(format!(
                    "{subnet} overlaps with the host's route to {route}: one of them is not reached \
                     from here"
                ));
            }
            if let Some(server) = facts.resolvers.iter().find(|ip| subnet.contains(**ip)) {
                warnings.push(format!("the host's name server {server} is in {subnet}"));
            }
        } else if let Some(block) = pools::private_block(subnet)
            && !facts.pools.configured(*family)
            && let Some(seen) = facts.site.iter().find(|seen| ipam::overlap(block, **seen))
        {
            warnings.push(format!(
                "{subnet} was chosen; the host's site has {seen} of the same private block {block} and \
                 may have more: where it does, give a --subnet, or pools ([[ipam.pools]]) of your own"
            ));
        }
    }
    warnings
}

/// Sorts wishes by family, and adds those for families that are wished for without saying more.
pub(super) fn wishes(spec: &NetworkSpec) -> Result<BTreeMap<Family, SubnetSpec>, Rejected> {
    let mut sorted = BTreeMap::new();
    for wish in &spec.subnets {
        // The subnet decides; what does not fit it is told later.
        let text = [&wish.subnet, &wish.gateway, &wish.ip_range].into_iter();
        let first = text.clone().find(|text| !text.is_empty());
        let family =
            if first.is_some_and(|text| text.contains(':')) { Family::V6 } else { Family::V4 };
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
    let subnet = facts.pools.choose_default(&taken(desired, facts));
    subnet.map(Pool::of).ok_or_else(exhausted)
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
        None => choose(desired, Family::V6, None, facts)?,
    };
    Ok(Pool { gateway: Some(FE80_1), ..Pool::of(subnet) })
}

fn exhausted() -> Rejected {
    Rejected::invalid(
        "all predefined address pools have been fully subnetted: give a subnet, or the agent more pools \
         ([[ipam.pools]])",
    )
}

/// Chooses a subnet that nothing here uses.
pub(super) fn choose(
    desired: &mut Desired,
    family: Family,
    size: Option<u8>,
    facts: &mut Facts,
) -> Result<IpNetwork, Rejected> {
    let taken = taken(desired, facts);
    let unique_local = match family {
        Family::V6 if !facts.pools.configured(family) => {
            let lot = || ipam::unique_local((facts.entropy)());
            ipam::prefix48(*desired.indices.ula.get_or_insert_with(lot))
        }
        _ => None,
    };
    facts.pools.choose(family, size, &taken, unique_local).ok_or_else(exhausted)
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
    let resolvers = facts.resolvers.iter().map(|ip| IpNetwork::from(*ip));
    let own = own.chain(desired.pools.values().map(|given| given.id.subnet));
    own.chain(host.copied()).chain(facts.routes.iter().copied()).chain(resolvers).collect()
}

/// Wishes for the addresses of one family.
struct Wishes {
    family: Family,
    text: SubnetSpec,
    /// Whether the host has no address there.
    without_gateway: bool,
}

/// What is asked for.
enum Asked {
    /// These addresses.
    This(Pool),
    /// A subnet that is free, with a prefix of this length: Docker's `0.0.0.0/24`.
    OfSize(Option<u8>),
}

impl Wishes {
    /// Reads all of it; notes what is wrong.
    fn read(&self, wrong: &mut Vec<String>) -> Asked {
        let SubnetSpec { subnet: text, gateway, ip_range, auxiliary } = &self.text;
        let size = match text.as_str() {
            "" => None,
            text => match subnet(text, self.without_gateway) {
                Ok(subnet) if subnet.ip().is_unspecified() => Some(subnet.prefix()),
                Ok(subnet) => return Asked::This(self.details(subnet, wrong)),
                Err(why) => {
                    wrong.push(why);
                    return Asked::OfSize(None);
                }
            },
        };
        if !gateway.is_empty() || !ip_range.is_empty() || !auxiliary.is_empty() {
            wrong.push("every ip-range or gateway must have a corresponding subnet".to_owned());
        }
        Asked::OfSize(size)
    }

    /// Reads range, gateway and reserved addresses; notes what is wrong with them.
    fn details(&self, subnet: IpNetwork, wrong: &mut Vec<String>) -> Pool {
        let (mut found, text) = (Pool::of(subnet), &self.text);
        if !text.ip_range.is_empty() {
            found.ip_range = ip_range(&text.ip_range, subnet).map_err(|why| wrong.push(why)).ok();
        }
        if self.without_gateway {
            found.gateway = None;
            if !text.gateway.is_empty() {
                wrong.push(format!(
                    "invalid gateway {}: the host has no {} address on this network",
                    text.gateway, self.family
                ));
            }
        } else if !text.gateway.is_empty() {
            // Old output gives gateways with a prefix.
            let gateway = text.gateway.split('/').next().unwrap_or_default();
            match self::gateway(gateway, subnet) {
                Ok(gateway) => found.gateway = Some(gateway),
                Err(why) => wrong.push(why),
            }
        } else if let Some(range) = found.ip_range {
            // Docker takes the first address of the range then, where it is not the subnet's own.
            let first = range.network();
            found.gateway = if ipam::is_edge(subnet, first) { found.gateway } else { Some(first) };
        }
        for (name, text) in &text.auxiliary {
            match inside("auxiliary address", name, text, subnet) {
                Ok(address) => drop(found.auxiliary.insert(name.clone(), address)),
                Err(why) => wrong.push(why),
            }
        }
        found
    }
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

pub(super) fn subnet(text: &str, without_gateway: bool) -> Result<IpNetwork, String> {
    let invalid = |why: &str| format!("invalid subnet {text}: {why}");
    if !text.contains('/') {
        return Err(invalid("a prefix length is needed, as in 172.25.0.0/16"));
    }
    let subnet: IpNetwork = text.parse().map_err(|_| invalid("invalid CIDR block notation"))?;
    if subnet.ip() != subnet.network() {
        return Err(invalid(&format!("it should be {}/{}", subnet.network(), subnet.prefix())));
    }
    let all = if subnet.is_ipv4() { 32 } else { 128 };
    if !(1..all).contains(&subnet.prefix()) {
        // One address is the gateway's; without one, there would be nobody to talk to.
        let what = if without_gateway { "a container" } else { "the gateway" };
        return Err(invalid(&format!(
            "the prefix length must be from 1 to {}, or there is nobody but {what}",
            all - 1
        )));
    }
    let first = subnet.network();
    let unfit = match first {
        IpAddr::V4(first) => first.octets()[0] == 0 || first.octets()[0] >= 224,
        IpAddr::V6(first) => first.to_canonical().is_ipv4() || first.segments()[0] == 0,
    };
    if first.is_loopback() || first.is_multicast() || (unfit && !first.is_unspecified()) {
        return Err(invalid("such addresses cannot be a host's"));
    }
    Ok(subnet)
}

pub(super) fn ip_range(text: &str, subnet: IpNetwork) -> Result<IpNetwork, String> {
    let invalid = |why: String| format!("invalid ip-range {text}: {why}");
    let range: IpNetwork =
        text.parse().map_err(|_| invalid("invalid CIDR block notation".to_owned()))?;
    if range.is_ipv4() != subnet.is_ipv4() {
        return Err(invalid(other_family(subnet)));
    }
    if range.prefix() < subnet.prefix() {
        return Err(invalid(format!("CIDR block is bigger than its parent subnet {subnet}")));
    }
    if range.ip() != range.network() {
        return Err(invalid(format!("it should be {}/{}", range.network(), range.prefix())));
    }
    if !subnet.contains(range.network()) {
        return Err(invalid(format!("parent subnet {subnet} doesn't contain ip-range")));
    }
    Ok(range)
}

fn other_family(subnet: IpNetwork) -> String {
    format!("parent subnet is an {} block", Family::of(subnet.ip()))
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
    let invalid = |why: String| format!("invalid {what} {name}: {why}");
    let address: IpAddr =
        text.parse().map_err(|_| invalid(format!("{text:?} is an invalid address")))?;
    if address.is_ipv4() != subnet.is_ipv4() {
        return Err(invalid(other_family(subnet)));
    }
    if !subnet.contains(address) {
        return Err(invalid(format!("parent subnet {subnet} doesn't contain this address")));
    }
    Ok(address)
}
