//! Whether the site has come into the addresses of a network since it was made: a new address or route of
//! the host, as a VPN brings them.

use ipnetwork::IpNetwork;

use super::driver::Driver;
use crate::{
    kernel::netlink::{Address, Route},
    model::{Desired, ipam, pools::leads_anywhere},
    plan::{Observed, Owner},
};

impl Driver {
    /// Says so where addresses or routes of the host overlap with a network of ours.
    pub(super) fn note_site(&mut self, observed: &Observed) {
        let warnings = met(&self.desired, &observed.site);
        let before = self.shared.get();
        for new in warnings.iter().filter(|warning| !before.site.contains(warning)) {
            tracing::warn!("{new}");
        }
        if before.site != warnings {
            self.shared.update(|snapshot| snapshot.site = warnings);
        }
    }
}

/// Returns the addresses and destinations that are the host's, with the interfaces that they are on.
pub(super) fn of_host(
    observed: &Observed,
    addresses: &[Address],
    routes: &[Route],
) -> Vec<(String, IpNetwork)> {
    let name_of = |index: u32| {
        let link = observed.links.get(&index).filter(|link| link.owner == Owner::Foreign)?;
        Some(link.name.clone())
    };
    let addresses = addresses.iter().map(|address| (Some(address.link), address.address));
    let routes = routes.iter().map(|route| (route.link, route.destination));
    // What is on every link is no site's.
    let per_link = |prefix: &IpNetwork| matches!(prefix, IpNetwork::V6(prefix) if prefix.ip().is_unicast_link_local());
    let somewhere = |prefix: &IpNetwork| !leads_anywhere(*prefix) && !per_link(prefix);
    let seen = addresses.chain(routes).filter(|(_, prefix)| somewhere(prefix));
    seen.filter_map(|(link, prefix)| Some((name_of(link?)?, prefix))).collect()
}

/// Returns what the operator should know: one overlap for each network that has any.
fn met(desired: &Desired, seen: &[(String, IpNetwork)]) -> Vec<String> {
    let networks = desired.networks.values().filter_map(|network| {
        let overlaps = |prefix: &IpNetwork| network.pools().find(|p| ipam::overlap(p.subnet, *prefix));
        let (link, prefix, pool) =
            seen.iter().find_map(|(link, prefix)| Some((link, prefix, overlaps(prefix)?)))?;
        Some(format!(
            "network {} ({}) overlaps with {prefix} by {link}: one of them is not reached from this host; \
             make the network anew with another --subnet",
            network.name, pool.subnet
        ))
    });
    networks.collect()
}
