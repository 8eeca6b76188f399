//! The default network: made, moved, or taken away, as the operator has set it.

use std::{collections::BTreeMap, net::Ipv4Addr, str::FromStr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::{
    super::{
        DefaultIpv6, DefaultNetwork, DefaultPlace, Facts, NetworkSpec, Outcome, Rejected, find,
        subnet::{self, Pools},
    },
    DEFAULT_BRIDGE, New, active, bridge_is_free, brought, drop_network, insert, new_id,
};
use crate::model::{Desired, Family, Network, NetworkId, NetworkName, NetworkOptions, keys};

/// Makes the default network what it is to be, as far as those who are on it let it.
pub(in super::super) fn default(
    desired: &mut Desired,
    wanted: &DefaultNetwork,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let Some(standing) = desired.default_network() else {
        if wanted.place == DefaultPlace::Absent {
            return Ok(Outcome::Nothing);
        }
        let id = new_id(desired, facts);
        return make(desired, id, wanted, facts);
    };
    let (id, active) = (standing.id, active(desired, standing.id));
    let moves = moves(standing, wanted, facts);
    match (&wanted.place, active) {
        (DefaultPlace::Absent, Some(active)) => {
            Err(Rejected::forbidden(format!("network {} {active}", find::BRIDGE)))
        }
        (DefaultPlace::Absent, None) => {
            drop_network(desired, id);
            Ok(Outcome::Network(id, Vec::new()))
        }
        (_, active) => match (moves, active) {
            (None, _) => settle(desired, id, wanted),
            (Some(move_), Some(active)) => Err(Rejected::forbidden(format!(
                "network {} cannot {move_}: it {active}; start the agent with its former settings, \
                 stop these containers or disconnect them, and change it then",
                find::BRIDGE
            ))),
            (Some(_), None) => {
                drop_network(desired, id);
                make(desired, id, wanted, facts)
            }
        },
    }
}

/// Returns what a network that stands would have to do that its containers cannot follow.
fn moves(standing: &Network, wanted: &DefaultNetwork, facts: &Facts) -> Option<String> {
    if brought::moves(standing, &wanted.place, facts) {
        return Some("move to another bridge".to_owned());
    }
    let pool = standing.ipv4.as_ref()?;
    let text = |network: Ipv4Network| (IpNetwork::V4(network), format!("{network}"));
    let ((network, text), gateway) = match (&wanted.place, wanted.range) {
        (DefaultPlace::Fixed(bip), _) => (text(*bip), bip.ip() != bip.network()),
        (DefaultPlace::Automatic, Some(range)) if !covers(pool.subnet, range) => {
            (text(range), false)
        }
        _ => return None,
    };
    let same = pool.subnet.network() == network.network()
        && pool.subnet.prefix() == network.prefix()
        && (!gateway || pool.gateway == Some(network.ip()));
    (!same).then(|| format!("have {text} instead of {}", pool.subnet))
}

/// Sets what containers follow without noticing; addresses that they have stay.
fn settle(
    desired: &mut Desired,
    id: NetworkId,
    wanted: &DefaultNetwork,
) -> Result<Outcome, Rejected> {
    let Some(network) = desired.networks.get_mut(&id) else { return Ok(Outcome::Nothing) };
    let before = network.clone();
    if let Some(pool) = &mut network.ipv4 {
        pool.ip_range = range(pool.subnet, wanted)?;
    }
    let mtu = wanted.mtu.unwrap_or(network.mtu);
    let kept = network.options.verbatim.clone();
    network.options = options(kept, &network.bridge, wanted, mtu)?;
    network.mtu = mtu;
    Ok(if *network == before { Outcome::Nothing } else { Outcome::Network(id, Vec::new()) })
}

fn covers(subnet: IpNetwork, range: Ipv4Network) -> bool {
    subnet.contains(range.network().into()) && subnet.prefix() <= range.prefix()
}

/// Returns the part of a subnet that dynamic addresses come from, where it is not all of it.
fn range(subnet: IpNetwork, wanted: &DefaultNetwork) -> Result<Option<IpNetwork>, Rejected> {
    match wanted.range {
        None => Ok(None),
        Some(range) if IpNetwork::V4(range) == subnet => Ok(None),
        Some(range) if covers(subnet, range) => Ok(Some(range.into())),
        Some(range) => Err(Rejected::invalid(format!(
            "fixed-cidr {range} is not inside {subnet}, the subnet of network {}",
            find::BRIDGE
        ))),
    }
}

fn options(
    mut verbatim: BTreeMap<String, String>,
    bridge: &str,
    wanted: &DefaultNetwork,
    mtu: u16,
) -> Result<NetworkOptions, Rejected> {
    let binding = wanted.host_binding.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let pairs = [
        (keys::DEFAULT_BRIDGE, "true".to_owned()),
        (keys::ICC, wanted.icc.to_string()),
        (keys::MASQUERADE, "true".to_owned()),
        (keys::HOST_BINDING, binding.to_string()),
        (keys::BRIDGE, bridge.to_owned()),
        (keys::MTU, mtu.to_string()),
    ];
    verbatim.extend(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)));
    let (options, wrong) = NetworkOptions::read(verbatim);
    wrong.first().map_or(Ok(options), |wrong| Err(Rejected::invalid(wrong)))
}

/// Makes the default network.
fn make(
    desired: &mut Desired,
    id: NetworkId,
    wanted: &DefaultNetwork,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let spec = &NetworkSpec::default();
    let (bridge, mut addresses) = match &wanted.place {
        DefaultPlace::Brought(bridge) => {
            let options = NetworkOptions::default();
            (bridge.clone(), brought::addresses(desired, bridge, spec, &options, facts)?)
        }
        DefaultPlace::Fixed(network) => {
            (DEFAULT_BRIDGE.to_owned(), fixed(desired, *network, facts)?)
        }
        DefaultPlace::Absent | DefaultPlace::Automatic => {
            let pools = match wanted.range {
                Some(range) => fixed(desired, range, facts)?,
                None => Pools::from([(Family::V4, subnet::default_pool(desired, facts)?)]),
            };
            (DEFAULT_BRIDGE.to_owned(), pools)
        }
    };
    if let Some(pool) = addresses.get_mut(&Family::V4) {
        pool.ip_range = range(pool.subnet, wanted)?;
    }
    bridge_is_free(desired, id, &bridge)?;
    let mtu = wanted.mtu.unwrap_or_else(|| brought::mtu(&bridge, facts));
    let options = options(BTreeMap::new(), &bridge, wanted, mtu)?;
    let name = NetworkName::from_str(find::BRIDGE).map_err(Rejected::invalid)?;
    let brought = matches!(wanted.place, DefaultPlace::Brought(_));
    let new = New { id, name, addresses, bridge, brought, options, spec, predefined: true };
    insert(desired, facts, new)
}

fn fixed(desired: &Desired, network: Ipv4Network, facts: &Facts) -> Result<Pools, Rejected> {
    Ok(Pools::from([(Family::V4, subnet::fixed_pool(desired, network.into(), facts)?)]))
}

/// Gives the default network IPv6 addresses, or takes them from it. Those that containers have stay.
pub(in super::super) fn default_ipv6(
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
    Ok(Outcome::Network(id, Vec::new()))
}
