//! Whether the host routes: seen to as far as it was asked for, and said where it does not.

use super::{driver::Driver, sysctls};
use crate::{kernel, model::Desired};

impl Driver {
    /// Makes the host route IPv6 as soon as a network wants it.
    pub(super) async fn forward6(&mut self) {
        if !self.ip_forward || self.forwarded6 || !routes_ipv6(&self.desired) {
            return;
        }
        self.forwarded6 = true;
        let result = self.uplink_names().await.and_then(|uplinks| {
            let uplinks = uplinks.iter().map(String::as_str);
            sysctls::forward6(&self.store, uplinks).map_err(|error| error.to_string())
        });
        if let Err(error) = result {
            tracing::warn!(%error, "the host is not made to route IPv6");
        }
    }

    async fn uplink_names(&self) -> Result<Vec<String>, String> {
        let links = self.machine.netlink.links().await.map_err(|error| error.to_string())?;
        let leads_out = |link: &kernel::netlink::Link| {
            let owned = self.machine.mark.recognise(&link.name, link.alias.as_deref(), link.mac);
            owned.is_none() && !link.loopback && self.settings.is_uplink(&link.name)
        };
        Ok(links.into_iter().filter(leads_out).map(|link| link.name).collect())
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

/// What each family's switch is called by Docker, and by the kernel.
const IPV4: (&str, &str) = ("IPv4 forwarding is disabled", "net.ipv4.ip_forward");
const IPV6: (&str, &str) = ("IPv6 global forwarding is disabled", "net.ipv6.conf.all.forwarding");

/// Returns whether a network leads IPv6 to the outside.
fn routes_ipv6(desired: &Desired) -> bool {
    desired.networks.values().any(|network| !network.internal && network.ipv6.is_some())
}
