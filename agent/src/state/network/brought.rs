//! Networks on a bridge of the operator's: its addresses are the gateways, and its subnets the network's.

use ipnetwork::IpNetwork;

use super::{
    super::{
        DefaultPlace, NetworkSpec,
        subnet::{self, Pools},
    },
    Facts, Rejected,
};
use crate::model::{Desired, Family, Network, NetworkOptions};

/// Returns the address of a bridge that can be used, or why it cannot.
fn address(name: &str, family: Family, facts: &Facts) -> Result<IpNetwork, Rejected> {
    let invalid = |why: String| Err(Rejected::invalid(why));
    let Some(found) = facts.interfaces.get(name) else {
        return invalid(format!("there is no bridge {name}: make it first, as by `ip link add`"));
    };
    if !facts.bridges.contains_key(name) {
        return invalid(format!(
            "{name} is no bridge, or one of a network that is just being removed"
        ));
    }
    let (lengths, example) = match family {
        Family::V4 => (8..=30, "192.168.5.1/24"),
        Family::V6 => (8..=126, "2001:db8:5::1/64"),
    };
    let is_wanted = |a: &&IpNetwork| Family::of(a.ip()) == family && !subnet::is_per_link(a);
    match found.iter().find(is_wanted) {
        Some(address) if lengths.contains(&address.prefix()) => Ok(*address),
        Some(address) => invalid(format!(
            "bridge {name} has {address}: its prefix length must be from {} to {}",
            lengths.start(),
            lengths.end()
        )),
        None => invalid(format!(
            "bridge {name} has no {family} address: give it one, as in \
             `ip addr add {example} dev {name}`"
        )),
    }
}

/// Returns the addresses of a network on a bridge of the operator's.
pub(super) fn addresses(
    desired: &mut Desired,
    name: &str,
    spec: &NetworkSpec,
    options: &NetworkOptions,
    facts: &mut Facts,
) -> Result<Pools, Rejected> {
    let mut subnets = Vec::new();
    for (family, mut wishes) in subnet::wishes(spec)? {
        let address = address(name, family, facts)?;
        let (subnet, gateway) =
            (format!("{}/{}", address.network(), address.prefix()), address.ip().to_string());
        let differs = |wish: &str, is: &str| !wish.is_empty() && wish != is;
        if differs(&wishes.subnet, &subnet) || differs(&wishes.gateway, &gateway) {
            return Err(Rejected::invalid(format!(
                "bridge {name} has {address}: subnet and gateway of the network are the bridge's"
            )));
        }
        (wishes.subnet, wishes.gateway) = (subnet, gateway);
        subnets.push(wishes);
    }
    let spec = NetworkSpec { subnets, ..spec.clone() };
    subnet::pools(desired, &spec, options, Some(name), facts)
}

/// Returns the MTU of a network that asks for none: that of a bridge that is brought.
pub(super) fn mtu(name: &str, facts: &Facts) -> u16 {
    facts.bridges.get(name).copied().unwrap_or(facts.mtu)
}

/// Returns whether a default network that stands has to move to another bridge, or to other addresses.
pub(super) fn moves(network: &Network, wanted: &DefaultPlace, facts: &Facts) -> bool {
    match wanted {
        DefaultPlace::Brought(name) => {
            let stands = network.brought && network.bridge == *name;
            // A bridge that cannot be used now is no reason to forget the network.
            let gateway = || network.ipv4.as_ref().and_then(|p| p.with_prefix(p.gateway?));
            !stands || address(name, Family::V4, facts).is_ok_and(|found| Some(found) != gateway())
        }
        _ => network.brought,
    }
}
