//! The reservation of published ports on the host: whether a process may bind an address.

use crate::{
    abi::{Ip4, Port, service},
    io::Tables,
};

/// Whether binding this address and port would take a published port.
///
/// Port 0 lets the kernel choose, and it chooses none of ours: they are in `ip_local_reserved_ports`.
#[inline(always)]
pub fn is_published<T: Tables>(tables: &T, ip4: Ip4, port: Port, proto: u8) -> bool {
    if port.number() == 0 {
        return false;
    }
    let table = if ip4 == Ip4::UNSPECIFIED {
        service::ANY_TABLE
    } else {
        tables.local(ip4).map_or(service::WILDCARD_TABLE, |local| local.table)
    };
    service::slot(proto, port).is_some_and(|slot| tables.published(table, slot) != 0)
}
