//! Routes past the main table: for a namespace of one purpose, whose only link everything comes in and goes out by,
//! and for an address of the loopback device that is somewhere else.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::{
    super::error::Result,
    Netlink,
    routes::{Route, family, message_of},
};

/// The table that holds the addresses of the host itself, and is asked first.
const LOCAL: u8 = 255;

impl Netlink {
    /// Has everything that comes in by a link be for this host, whatever its address, and everything that the host
    /// sends leave by that link, to a neighbour that is not asked for: for a namespace of one purpose.
    pub async fn take_all(&self, link: u32, name: &str, gateways: &[IpAddr]) -> Result<()> {
        /// Any number but the kernel's own.
        const TABLE: u8 = 100;
        const LOOPBACK: u32 = 1;
        for gateway in gateways {
            let object = format!("for {}", if gateway.is_ipv4() { "IPv4" } else { "IPv6" });
            let mut out = message_of(&Route::default_by(*gateway, link));
            out.header.flags = RouteFlags::Onlink;
            let out = RouteNetlinkMessage::NewRoute(out);
            self.execute("add route", &object, out, NLM_F_CREATE | NLM_F_REPLACE).await?;
            let mut inwards = RouteMessage::default();
            inwards.header.address_family = family(*gateway);
            inwards.header.table = TABLE;
            inwards.header.protocol = RouteProtocol::Boot;
            inwards.header.scope = RouteScope::Host;
            inwards.header.kind = RouteType::Local;
            inwards.attributes.push(RouteAttribute::Oif(LOOPBACK));
            let inwards = RouteNetlinkMessage::NewRoute(inwards);
            self.execute("add route", &object, inwards, NLM_F_CREATE | NLM_F_REPLACE).await?;
            let mut rule = RuleMessage::default();
            rule.header.family = family(*gateway);
            rule.header.table = TABLE;
            rule.header.action = RuleAction::ToTable;
            rule.attributes.push(RuleAttribute::Iifname(name.to_owned()));
            let rule = RouteNetlinkMessage::NewRule(rule);
            self.execute("add rule", &object, rule, NLM_F_CREATE | NLM_F_EXCL).await?;
        }
        Ok(())
    }

    /// Has packets for addresses of the loopback device leave by a link instead, and from one of them where the link
    /// has none; of several links the one with the lowest metric.
    pub async fn lead_out(
        &self,
        (address, length): (Ipv4Addr, u8),
        link: u32,
        metric: u32,
        from: Option<Ipv4Addr>,
    ) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = length;
        // The loopback device's own routes are there, and less specific.
        message.header.table = LOCAL;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Destination(address.into()),
            RouteAttribute::Oif(link),
            RouteAttribute::Priority(metric),
        ];
        message.attributes.extend(from.map(|from| RouteAttribute::PrefSource(from.into())));
        let message = RouteNetlinkMessage::NewRoute(message);
        let object = address.to_string();
        self.execute("add route", &object, message, NLM_F_CREATE | NLM_F_REPLACE).await
    }
}
