//! Pools and addresses that Docker is given by our IPAM driver.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::super::{Facts, Outcome, Rejected, subnet};
use crate::model::{Desired, Family, GLOBAL, GivenPool, LOCAL, PoolId, ipam};

/// Docker's own texts.
const OVERLAPS: &str = "Pool overlaps with other one on this address space";
const OUTSIDE: &str = "requested address is out of range";

pub(super) fn request_pool(
    desired: &mut Desired,
    space: &str,
    (pool, range): (&str, &str),
    v6: bool,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    if ![LOCAL, GLOBAL].contains(&space) {
        return Err(Rejected::invalid(format!("address space {space:?} is not known")));
    }
    let family = if v6 { Family::V6 } else { Family::V4 };
    let asked = match pool {
        "" => None,
        text => Some(subnet::subnet(text, false).map_err(Rejected::invalid)?),
    };
    if asked.is_some_and(|asked| Family::of(asked.ip()) != family) {
        return Err(Rejected::invalid(format!("{pool} is not a pool of {family}")));
    }
    let id = |subnet, range| PoolId { space: space.to_owned(), subnet, range };
    let id = match asked {
        Some(subnet) if !subnet.ip().is_unspecified() => {
            let range = match range {
                "" => None,
                text => Some(subnet::ip_range(text, subnet).map_err(Rejected::invalid)?),
            };
            id(subnet, range)
        }
        _ if !range.is_empty() => {
            return Err(Rejected::invalid("a range of addresses needs a pool that it is in"));
        }
        size => {
            let size = size.map(|asked| asked.prefix());
            id(subnet::choose(desired, family, size, facts)?, None)
        }
    };
    if let Some(pool) = desired.pools.get_mut(&id) {
        pool.holders = pool.holders.saturating_add(1);
        return Ok(Outcome::Pool(id));
    }
    let given = desired.pools.values().map(|pool| pool.id.subnet);
    let own = desired.networks.values().filter(|network| !network.plugged);
    let own = own.flat_map(|network| network.pools().map(|pool| pool.subnet));
    if given.chain(own).any(|other| ipam::overlap(other, id.subnet)) {
        return Err(Rejected::forbidden(OVERLAPS));
    }
    desired.pools.insert(id.clone(), GivenPool::new(id.clone()));
    Ok(Outcome::Pool(id))
}

pub(super) fn release_pool(desired: &mut Desired, id: &PoolId) -> Outcome {
    let Some(pool) = desired.pools.get_mut(id) else { return Outcome::Nothing };
    pool.holders = pool.holders.saturating_sub(1);
    if pool.holders == 0 {
        desired.pools.remove(id);
    }
    Outcome::Pool(id.clone())
}

pub(super) fn request(
    desired: &mut Desired,
    id: &PoolId,
    address: Option<IpAddr>,
    gateway: bool,
) -> Result<Outcome, Rejected> {
    let pool = desired.pools.get_mut(id);
    let pool = pool.ok_or_else(|| Rejected::invalid(format!("pool {id} is not known")))?;
    let subnet = id.subnet;
    let is_again = |ip: IpAddr| gateway && pool.gateway == Some(ip);
    let chosen = match address {
        Some(ip) if !subnet.contains(ip) || ipam::is_edge(subnet, ip) => {
            return Err(Rejected::invalid(OUTSIDE));
        }
        Some(ip) if pool.given.contains(&ip) && !is_again(ip) => {
            return Err(Rejected::address_taken());
        }
        Some(ip) => ip,
        // After a restart Docker asks for the gateway again.
        None if gateway && pool.gateway.is_some() => pool.gateway.unwrap_or(subnet.ip()),
        None => {
            let next = pool.next().ok_or_else(|| none_left(id))?;
            pool.last_given = Some(next);
            next
        }
    };
    pool.given.insert(chosen);
    if gateway {
        pool.gateway = Some(chosen);
    }
    let address = IpNetwork::new(chosen, subnet.prefix()).map_err(Rejected::internal)?;
    Ok(Outcome::Address(address))
}

fn none_left(id: &PoolId) -> Rejected {
    let family = Family::of(id.subnet.ip());
    Rejected::conflict(format!("no available {family} addresses in the pool {}", id.subnet))
}

pub(super) fn release(desired: &mut Desired, id: &PoolId, addresses: &[IpAddr]) -> Outcome {
    let Some(pool) = desired.pools.get_mut(id) else { return Outcome::Nothing };
    for address in addresses {
        pool.given.remove(address);
        if pool.gateway == Some(*address) {
            pool.gateway = None;
        }
    }
    Outcome::Pool(id.clone())
}
