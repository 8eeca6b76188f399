//! Published ports: from a port of the host to a container, for clients outside and for other containers.

use crate::{
    abi::{
        DropReason, Endpoint, Flow, FlowKey, Local, Neighbour, Network, Rule, ServedKey, Uplink,
        service,
    },
    datapath::{
        conntrack::{self, Opening},
        family::Family,
    },
    io::{Kernel, Route, Tables},
};

/// The rule of a published port, with its index, for a tuple that is addressed to the host.
#[inline(always)]
pub fn find<A: Family, T: Tables<A>>(
    tables: &T,
    local: Local,
    key: &FlowKey<A>,
) -> Option<(u32, T::Ref<Rule>)> {
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
fn target<A: Family, T: Tables<A>>(
    tables: &T,
    rule: &Rule,
) -> Result<T::Ref<Neighbour>, DropReason> {
    let neighbour = tables
        .neighbour(rule.network, A::from_any(rule.address))
        .ok_or(DropReason::EndpointDown)?;
    if neighbour.endpoint != rule.endpoint || neighbour.generation != rule.generation {
        return Err(DropReason::EndpointDown);
    }
    Ok(neighbour)
}

/// Opens a flow from the outside, by `uplink`, to a published port.
#[inline(always)]
pub fn open_from_outside<A: Family, T: Tables<A>, K: Kernel<A>>(
    (uplink, mtu): (u32, u32),
    tables: &T,
    kernel: &K,
    key: &FlowKey<A>,
    (index, rule): (u32, T::Ref<Rule>),
) -> Result<(), DropReason> {
    let src = key.src;
    may_come_from_outside(tables, src)?;
    let neighbour = target(tables, &rule)?;
    may_forward(kernel, uplink, src, A::from_any(rule.address))?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.forward = Flow {
        src,
        dst: A::from_any(rule.address),
        dst_port: rule.container_port(key.dst_port),
        rule: index,
        mtu: conntrack::narrower(neighbour.mtu.into(), mtu),
        ..conntrack::deliver_to(&neighbour)
    };
    entries.reply = Flow {
        from: neighbour.endpoint,
        from_generation: neighbour.generation,
        rule: index,
        ..way_back(tables, kernel, key, rule.network, (uplink, mtu))
    };
    entries.key = *key;
    conntrack::open(tables, kernel, Opening::KEEPS, entries)?;
    tables.count_connection(index);
    Ok(())
}

/// The way of the answers, as the kernel would route them; where it has none to tell, back by `uplink`.
#[inline(always)]
fn way_back<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    key: &FlowKey<A>,
    network: u32,
    (uplink, mtu): (u32, u32),
) -> Flow<A> {
    if let Some(network) = tables.network(network)
        && network.bridge != 0
        && let Route::Via { ifindex, next_hop, mtu } =
            kernel.route(network.bridge, key.dst, key.src)
        && let Some(uplink) = tables.uplink(ifindex)
    {
        return conntrack::leave_by(ifindex, next_hop, conntrack::narrower(uplink.mtu, mtu));
    }
    conntrack::leave_by(uplink, A::UNSPECIFIED, conntrack::narrower(mtu, 0))
}

/// Opens a flow from a container to a published port of its own host (a hairpin).
///
/// Within one network the source becomes the gateway: the server would answer its neighbour directly
/// else, past the translation; and a container would see its own address as the client's.
#[inline(always)]
pub fn open_from_container<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    key: &FlowKey<A>,
    client: &Endpoint,
    network: &Network,
    (index, rule): (u32, T::Ref<Rule>),
) -> Result<(), DropReason> {
    let neighbour = target(tables, &rule)?;
    let same_network = rule.network == client.network;
    if !same_network {
        // Its own gateway's address would else be a way into any network that publishes a port.
        if network.flags & Network::INTERNAL != 0 {
            return Err(DropReason::PolicyInternal);
        }
        may_forward(kernel, network.bridge, key.src, A::from_any(rule.address))?;
    }
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.forward = Flow {
        src: if same_network { A::gateway(network) } else { key.src },
        dst: A::from_any(rule.address),
        dst_port: rule.container_port(key.dst_port),
        from: client.endpoint,
        from_generation: client.generation,
        rule: index,
        ..conntrack::deliver_to(&neighbour)
    };
    entries.reply = Flow {
        from: neighbour.endpoint,
        from_generation: neighbour.generation,
        rule: index,
        ..conntrack::back_to(client)
    };
    entries.key = *key;
    // The gateway's address is one of the host's: a port of it may be in use.
    let gateway = if same_network { tables.local(A::gateway(network)) } else { None };
    let table = gateway.map_or(0, |local| local.table);
    conntrack::open(tables, kernel, Opening { masquerade: same_network, table }, entries)?;
    tables.count_connection(index);
    Ok(())
}

/// Refuses what the host does not forward.
#[inline(always)]
fn may_forward<A: Family, K: Kernel<A>>(
    kernel: &K,
    arrived_by: u32,
    src: A,
    dst: A,
) -> Result<(), DropReason> {
    match kernel.route(arrived_by, src, dst) {
        Route::ForwardingOff => Err(DropReason::ForwardingOff),
        _ => Ok(()),
    }
}

/// Refuses sources that no packet from outside can have.
#[inline(always)]
pub fn may_come_from_outside<A: Family, T: Tables<A>>(
    tables: &T,
    src: A,
) -> Result<(), DropReason> {
    if src.is_loopback() || src.is_group() || src == A::UNSPECIFIED {
        return Err(DropReason::MartianLoopback);
    }
    // An address of ours cannot come from out there.
    if tables.local(src).is_some() || tables.subnet(src).is_some() {
        return Err(DropReason::SpoofedIp);
    }
    Ok(())
}

/// The rule that publishes a port of a container, with its index.
#[inline(always)]
pub fn serving<A: Family, T: Tables<A>>(
    tables: &T,
    endpoint: u32,
    proto: u8,
    port: crate::abi::Port,
) -> Option<(u32, T::Ref<Rule>)> {
    let key = ServedKey { endpoint: endpoint.to_be(), proto, family: A::RULE_FAMILY, port };
    let index = tables.served(&key);
    if index == 0 {
        return None;
    }
    let rule = tables.rule(index)?;
    (rule.proto == proto && rule.endpoint == endpoint).then_some((index, rule))
}

/// Opens the flow of a published port anew from an answer of its container's, as if the client had been first. The
/// client asked the address that the rule names, or the uplink's.
#[inline(always)]
pub fn reopen<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    answer: &FlowKey<A>,
    (ifindex, uplink): (u32, &Uplink),
    (index, rule): (u32, T::Ref<Rule>),
) -> Result<(), DropReason> {
    let host = A::from_any(rule.host);
    let request = FlowKey {
        dst: if host == A::UNSPECIFIED { A::source(uplink) } else { host },
        dst_port: rule.host_port(answer.src_port),
        ..answer.reversed()
    };
    open_from_outside((ifindex, uplink.mtu), tables, kernel, &request, (index, rule))
}
