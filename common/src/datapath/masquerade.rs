//! The way out: masquerade, and tracked routing for networks without it.

use crate::{
    abi::{DropReason, Flow, FlowKey, Network, Uplink},
    datapath::{
        conntrack::{self, Opening},
        family::Family,
    },
    io::{Kernel, Tables},
};

/// How a packet leaves.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a, A> {
    /// Interface index.
    pub ifindex: u32,
    /// Next hop; unspecified leaves the choice to the kernel.
    pub next_hop: A,
    /// MTU of the route, or 0.
    pub mtu: u32,
    /// The uplink.
    pub uplink: &'a Uplink,
}

/// Opens a flow to the outside by a way, for the client that the entry for the answers in `entries`
/// already names.
///
/// A network without masquerade gets a flow too, which changes nothing: it lets the answers in.
#[inline(always)]
pub fn open<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    key: &FlowKey<A>,
    network: &Network,
    mut entries: T::Scratch,
    way: Way<'_, A>,
) -> Result<(), DropReason> {
    let masquerade = network.flags & A::MASQUERADE != 0;
    let src = if !masquerade {
        key.src
    } else if A::masquerade(network) != A::UNSPECIFIED {
        A::masquerade(network)
    } else {
        A::source(way.uplink)
    };
    if src == A::UNSPECIFIED {
        return Err(DropReason::NoUplink);
    }
    let table = tables.local(src).map_or(0, |local| local.table);
    let mtu = conntrack::narrower(way.uplink.mtu, way.mtu);
    // A SYN in the answer announces what fits here too.
    entries.reply.mtu = conntrack::narrower(entries.reply.mtu.into(), mtu.into());
    entries.forward = Flow {
        src,
        dst: key.dst,
        dst_port: key.dst_port,
        from: entries.reply.to,
        from_generation: entries.reply.to_generation,
        ..conntrack::leave_by(way.ifindex, way.next_hop, mtu)
    };
    entries.key = *key;
    conntrack::open(tables, kernel, Opening { masquerade, table }, entries)
}
