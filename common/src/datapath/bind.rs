//! The reservation of published ports on the host: whether a process may bind an address.

use crate::{
    abi::{Port, Rule, service},
    datapath::family::Family,
    io::Tables,
};

/// Whether binding this address and port would take a published port.
///
/// Port 0 lets the kernel choose, and it chooses none of ours: they are in `ip_local_reserved_ports`.
#[inline(always)]
pub fn is_published<A: Family, T: Tables<A>>(
    tables: &T,
    address: A,
    port: Port,
    proto: u8,
) -> bool {
    if port.number() == 0 {
        return false;
    }
    let (any, wildcard) = if A::RULE_FAMILY == Rule::IPV6 {
        (service::ANY_TABLE6, service::WILDCARD_TABLE6)
    } else {
        (service::ANY_TABLE, service::WILDCARD_TABLE)
    };
    let table = if address == A::UNSPECIFIED {
        any
    } else {
        tables.local(address).map_or(wildcard, |local| local.table)
    };
    let Some(slot) = service::slot(proto, port) else { return false };
    let rule = tables.published(table, slot);
    rule != 0 && tables.rule(rule).is_none_or(|rule| rule.flags & Rule::HELD == 0)
}
