//! The way out: masquerade, and tracked routing for networks without it.

use crate::{
    abi::{DropReason, Flow4, FlowKey4, Ip4, Network, Uplink},
    datapath::conntrack::{self, Opening},
    io::{Kernel, Tables},
};

/// Opens a flow to the outside by `uplink`, for the client that the entry for the answers in `entries`
/// already names.
///
/// A network without masquerade gets a flow too, which changes nothing: it lets the answers in.
#[inline(always)]
pub fn open<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    key: &FlowKey4,
    network: &Network,
    mut entries: T::Scratch,
    (ifindex, next_hop, uplink): (u32, Ip4, &Uplink),
) -> Result<(), DropReason> {
    let masquerade = network.flags & Network::MASQUERADE4 != 0;
    let src = if !masquerade {
        key.src
    } else if network.masquerade4 != Ip4::UNSPECIFIED {
        network.masquerade4
    } else {
        uplink.masquerade4
    };
    if src == Ip4::UNSPECIFIED {
        return Err(DropReason::NoUplink);
    }
    let table = tables.local(src).map_or(0, |local| local.table);
    entries.forward = Flow4 {
        src,
        dst: key.dst,
        dst_port: key.dst_port,
        from: entries.reply.to,
        from_generation: entries.reply.to_generation,
        ..conntrack::leave_by(ifindex, next_hop, uplink.mtu)
    };
    conntrack::open(tables, kernel, Opening { key: *key, masquerade, table }, entries)
}
