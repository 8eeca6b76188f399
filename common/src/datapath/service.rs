//! Published ports: from a port of the host to a container, for clients outside and for other containers.

use crate::{
    abi::{
        Address as _, DropReason, Endpoint, Flow4, FlowKey4, Ip4, Local, Neighbour, Network, Rule,
        service,
    },
    datapath::conntrack::{self, Opening},
    io::{Kernel, Tables},
};

/// The rule of a published port, with its index, for a tuple that is addressed to the host.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, local: Local, key: &FlowKey4) -> Option<(u32, T::Ref<Rule>)> {
    let slot = service::slot(key.proto, key.dst_port)?;
    let index = tables.published(local.table, slot);
    if index == 0 {
        return None;
    }
    let rule = tables.rule(index)?;
    (rule.proto == key.proto && rule.covers(key.dst_port)).then_some((index, rule))
}

/// Where a rule leads, or the reason why it leads nowhere just now.
#[inline(always)]
fn target<T: Tables>(tables: &T, rule: &Rule) -> Result<T::Ref<Neighbour>, DropReason> {
    let neighbour = tables
        .neighbour(rule.network, Ip4::from_any(rule.address))
        .ok_or(DropReason::EndpointDown)?;
    if neighbour.endpoint != rule.endpoint || neighbour.generation != rule.generation {
        return Err(DropReason::EndpointDown);
    }
    Ok(neighbour)
}

/// Opens a flow from the outside, by `uplink`, to a published port.
#[inline(always)]
pub fn open_from_outside<T: Tables, K: Kernel>(
    uplink: u32,
    tables: &T,
    kernel: &K,
    key: &FlowKey4,
    (index, rule): (u32, T::Ref<Rule>),
) -> Result<(), DropReason> {
    let src = key.src;
    if src.is_loopback() || src.is_multicast() || src == Ip4::BROADCAST || src == Ip4::UNSPECIFIED {
        return Err(DropReason::MartianLoopback);
    }
    // An address of ours cannot come from out there.
    if tables.local(src).is_some() || tables.subnet(src).is_some() {
        return Err(DropReason::SpoofedIp);
    }
    let neighbour = target(tables, &rule)?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.forward = Flow4 {
        src,
        dst: Ip4::from_any(rule.address),
        dst_port: rule.container_port(key.dst_port),
        rule: index,
        ..conntrack::deliver_to(&neighbour)
    };
    entries.reply = Flow4 {
        from: neighbour.endpoint,
        from_generation: neighbour.generation,
        rule: index,
        ..conntrack::leave_by(uplink, Ip4::UNSPECIFIED, 0xffff)
    };
    let opening = Opening { key: *key, masquerade: false, table: 0 };
    conntrack::open(tables, kernel, opening, entries)?;
    tables.count_connection(index);
    Ok(())
}

/// Opens a flow from a container to a published port of its own host (a hairpin).
///
/// Within one network the source becomes the gateway: the server would answer its neighbour directly
/// else, past the translation; and a container would see its own address as the client's.
#[inline(always)]
pub fn open_from_container<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    key: &FlowKey4,
    client: &Endpoint,
    network: &Network,
    (index, rule): (u32, T::Ref<Rule>),
) -> Result<(), DropReason> {
    let neighbour = target(tables, &rule)?;
    let same_network = rule.network == client.network;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.forward = Flow4 {
        src: if same_network { network.gateway4 } else { key.src },
        dst: Ip4::from_any(rule.address),
        dst_port: rule.container_port(key.dst_port),
        from: client.endpoint,
        from_generation: client.generation,
        rule: index,
        ..conntrack::deliver_to(&neighbour)
    };
    entries.reply = Flow4 {
        from: neighbour.endpoint,
        from_generation: neighbour.generation,
        rule: index,
        ..conntrack::back_to(client)
    };
    let opening = Opening { key: *key, masquerade: false, table: 0 };
    conntrack::open(tables, kernel, opening, entries)?;
    tables.count_connection(index);
    Ok(())
}
