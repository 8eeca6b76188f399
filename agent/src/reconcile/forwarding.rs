//! Whether the host routes: seen to as far as it was asked for, and said where it does not.

use std::collections::BTreeSet;

use super::{driver::Driver, sysctls};
use crate::{
    kernel::{self, netlink::LinkKind},
    model::Desired,
};

impl Driver {
    /// Makes the host route IPv6 as soon as a network wants it.
    pub(super) async fn forward6(&mut self) {
        if !self.ip_forward || self.forwarded6 || !routes_ipv6(&self.desired) {
            return;
        }
        self.forwarded6 = true;
        let result = self.uplinks().await.and_then(|uplinks| {
            sysctls::forward6(&self.store, &uplinks).map_err(|error| error.to_string())
        });
        if let Err(error) = result {
            tracing::warn!(%error, "the host is not made to route IPv6");
        }
    }

    /// Lets interfaces that lead out, and appeared after the agent had switched forwarding on, go by router
    /// advertisements as those do that were there before. Each is looked at once: what somebody changes after
    /// that stays.
    pub(super) async fn follow_advertisements(&mut self) {
        if !self.ip_forward || !routes_ipv6(&self.desired) {
            return;
        }
        let links = match self.machine.netlink.links().await {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!(%error, "cannot look for interfaces that go by router advertisements");
                return;
            }
        };
        let there: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        self.advertised.retain(|index| there.contains(index));
        let is_line =
            |link: &&kernel::netlink::Link| self.leads_out(link) && is_line(link, &self.settings);
        let lines: Vec<_> = links.iter().filter(is_line).collect();
        for link in lines {
            if self.advertised.insert(link.index)
                && let Err(error) =
                    sysctls::follow_advertisements(&self.store, &link.name, link.index)
            {
                tracing::warn!(interface = link.name, %error, "router advertisements are not followed");
            }
        }
    }

    fn leads_out(&self, link: &kernel::netlink::Link) -> bool {
        let owned = self.machine.mark.recognise(&link.name, link.alias.as_deref(), link.mac);
        owned.is_none() && !link.loopback && self.settings.is_uplink(&link.name)
    }

    async fn uplinks(&self) -> Result<Vec<(String, u32)>, String> {
        let links = self.machine.netlink.links().await.map_err(|error| error.to_string())?;
        Ok(links
            .into_iter()
            .filter(|link| self.leads_out(link))
            .map(|link| (link.name, link.index))
            .collect())
    }

    /// Says so when the host stops or begins to route: new flows to the outside are dropped meanwhile.
    pub(super) fn note_forwarding(&mut self) {
        let families = [
            (true, sysctls::is_forwarding(), IPV4),
            (routes_ipv6(&self.desired), sysctls::is_forwarding6(), IPV6),
        ];
        let mut changed = false;
        let mut warnings = Vec::new();
        for ((wanted, found, (disabled, key)), before) in
            families.into_iter().zip(&mut self.forwarding)
        {
            let now = found.unwrap_or_else(|error| {
                if wanted {
                    tracing::warn!(%error, "cannot tell whether the host forwards");
                }
                *before
            }) || !wanted;
            let warning = format!(
                "{disabled} ({key} is 0): new connections of containers to the outside, and to published \
                 ports, are dropped as forwarding_off; set it to 1"
            );
            if now != *before {
                *before = now;
                changed = true;
                if now {
                    tracing::info!("the host forwards again ({key} is 1)");
                } else {
                    tracing::warn!("{warning}");
                }
            }
            if !now {
                warnings.push(warning);
            }
        }
        if changed {
            self.shared.update(|s| s.forwarding = warnings);
        }
    }
}

/// Returns whether an interface is a line of the host's: one that the operator names, or one that no guest of the
/// host sits behind.
fn is_line(link: &kernel::netlink::Link, settings: &crate::plan::Settings) -> bool {
    let lines = ["", "bond", "team", "vlan"];
    let by_kind = matches!(&link.kind, LinkKind::Other(kind) if lines.contains(&kind.as_str()));
    link.master.is_none() && (by_kind || !settings.uplinks.is_empty())
}

/// What each family's switch is called by Docker, and by the kernel.
const IPV4: (&str, &str) = ("IPv4 forwarding is disabled", "net.ipv4.ip_forward");
const IPV6: (&str, &str) = ("IPv6 global forwarding is disabled", "net.ipv6.conf.all.forwarding");

/// Returns whether a network leads IPv6 to the outside.
pub(super) fn routes_ipv6(desired: &Desired) -> bool {
    desired.networks.values().any(|network| !network.internal && network.ipv6.is_some())
}
