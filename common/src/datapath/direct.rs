//! Containers that are addressed directly, from outside or from another network: who may, and flows that
//! change nothing, which let the answers out.

use crate::{
    abi::{DropReason, Flow, FlowKey, Neighbour, Network, TrustKey},
    datapath::{
        conntrack::{self, Opening},
        family::Family,
        parse::{Kind, View},
        service,
    },
    io::{Kernel, Tables},
};

/// Whether a packet may address this neighbour directly: the published rule that says so, or 0 where
/// the network does. None: it may not.
#[inline(always)]
pub fn allowed<A: Family, T: Tables<A>>(
    tables: &T,
    view: &View<A>,
    network: &Network,
    (index, to): (u32, &Neighbour),
    arrived_by: Option<u32>,
) -> Option<u32> {
    if network.flags & A::UNPROTECTED != 0 {
        return Some(0);
    }
    if network.flags & Network::HAS_TRUSTED != 0
        && let Some(ifindex) = arrived_by
        && tables.trusted(&TrustKey { network: index, ifindex })
    {
        return Some(0);
    }
    if network.flags & A::ROUTED != 0 && matches!(view.kind, Kind::Echo) {
        return Some(0);
    }
    if network.flags & A::DIRECT == 0 {
        return None;
    }
    let key = &view.key;
    service::serving::<A, T>(tables, to.endpoint, key.proto, key.dst_port).map(|(rule, _)| rule)
}

/// Opens a flow that changes nothing to a neighbour; the entry for the answers in `entries` already says
/// where they go.
#[inline(always)]
pub fn open<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    key: &FlowKey<A>,
    mut entries: T::Scratch,
    to: &Neighbour,
    rule: u32,
) -> Result<(), DropReason> {
    entries.forward = Flow {
        src: key.src,
        dst: key.dst,
        dst_port: key.dst_port,
        from: entries.reply.to,
        from_generation: entries.reply.to_generation,
        rule,
        ..conntrack::deliver_to(to)
    };
    entries.reply.from = to.endpoint;
    entries.reply.from_generation = to.generation;
    entries.reply.rule = rule;
    entries.key = *key;
    conntrack::open(tables, kernel, Opening::KEEPS, entries)?;
    if rule != 0 {
        tables.count_connection(rule);
    }
    Ok(())
}
