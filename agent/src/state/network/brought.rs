//! Networks on a bridge of the operator's: its address is the gateway, and its subnet the network's.

use ipnetwork::Ipv4Network;

use super::{super::SubnetSpec, Addresses, DefaultNetwork, Facts, Rejected, addresses as read};
use crate::model::{Desired, Network};

/// Returns the address of a bridge that can be used, or why it cannot.
fn address(name: &str, facts: &Facts) -> Result<Ipv4Network, Rejected> {
    let invalid = |why: String| Err(Rejected::invalid(why));
    let Some(found) = facts.interfaces.get(name) else {
        return invalid(format!("there is no bridge {name}: make it first, as by `ip link add`"));
    };
    if !facts.bridges.contains_key(name) {
        return invalid(format!(
            "{name} is no bridge, or one of a network that is just being removed"
        ));
    }
    match found.first() {
        Some(address) if (8..=30).contains(&address.prefix()) => Ok(*address),
        Some(address) => {
            invalid(format!("bridge {name} has {address}: its prefix length must be from 8 to 30"))
        }
        None => invalid(format!(
            "bridge {name} has no IPv4 address: give it one, as in \
             `ip addr add 192.168.5.1/24 dev {name}`"
        )),
    }
}

/// Returns the addresses of a network on a bridge of the operator's.
pub(super) fn addresses(
    desired: &Desired,
    name: &str,
    mut wishes: SubnetSpec,
    facts: &Facts,
) -> Result<Addresses, Rejected> {
    let address = address(name, facts)?;
    let (subnet, gateway) =
        (format!("{}/{}", address.network(), address.prefix()), address.ip().to_string());
    let differs = |wish: &str, is: &str| !wish.is_empty() && wish != is;
    if differs(&wishes.subnet, &subnet) || differs(&wishes.gateway, &gateway) {
        return Err(Rejected::invalid(format!(
            "bridge {name} has {address}: subnet and gateway of the network are the bridge's"
        )));
    }
    (wishes.subnet, wishes.gateway) = (subnet, gateway);
    read(desired, &wishes, facts, Some(name))
}

/// Returns the MTU of a network that asks for none: that of a bridge that is brought.
pub(super) fn mtu(name: &str, facts: &Facts) -> u16 {
    facts.bridges.get(name).copied().unwrap_or(facts.mtu)
}

/// Returns whether a default network that stands has to move to another bridge, or to other addresses.
pub(super) fn moves(network: &Network, wanted: &DefaultNetwork, facts: &Facts) -> bool {
    match wanted {
        DefaultNetwork::Brought(name) => {
            let stands = network.brought && network.bridge == *name;
            // A bridge that cannot be used now is no reason to forget the network.
            let gateway = Ipv4Network::new(network.gateway, network.subnet.prefix()).ok();
            !stands || address(name, facts).is_ok_and(|address| Some(address) != gateway)
        }
        _ => network.brought,
    }
}
