//! Everything a container sends, at the ingress of the host end of its veth.

use crate::{
    abi::{Action, Direction, DropReason, Endpoint, Flow4, Ip4, Network, Stat},
    datapath::{
        arp, conntrack, icmp, ipv6, masquerade,
        parse::{self, Kind, View},
        policy::{self, Party},
        rewrite::{self, Ttl},
        service,
        verdict::{Flat, Kind as Fate, Outcome, Verdict, in_parts},
    },
    io::{Kernel, Packet, Route, Tables},
    wire::{Ethernet, ethertype, proto},
};

/// The walk.
#[inline(always)]
pub fn from_container<P: Packet, T: Tables, K: Kernel>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Flat {
    in_parts(
        packet,
        |packet| known(packet, tables, kernel),
        |packet| first(packet, tables, kernel),
        |packet| error(packet, tables),
    )
}

/// The first part: flows that exist, and the network itself.
#[inline(never)]
fn known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_known(packet, tables, kernel))
}

/// The second part: first packets.
#[inline(never)]
fn first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Flat {
    Flat::new(try_first(packet, tables, kernel))
}

/// The order of the lines is the policy.
#[inline(always)]
fn try_known<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if packet.is_tagged() || matches!(frame.ethertype, ethertype::VLAN | ethertype::QINQ) {
        return Err(DropReason::Vlan);
    }
    if frame.src != endpoint.mac && endpoint.flags & Endpoint::ALLOW_SPOOF == 0 {
        return Err(DropReason::SpoofedMac);
    }
    let verdict = match frame.ethertype {
        ethertype::IPV4 => ipv4(packet, tables, kernel, &frame, &endpoint, &network),
        ethertype::ARP => arp::from_container(packet, tables, &endpoint),
        ethertype::IPV6 => ipv6::from_container(packet, tables, &frame, &endpoint, &network),
        _ if network.flags & Network::ICC != 0 => to_kernel(tables, Stat::ToOtherProtocol),
        _ => Err(DropReason::L2Proto),
    }?;
    if !matches!(verdict.kind, Fate::First | Fate::Error) {
        sent(packet, tables, endpoint.endpoint);
    }
    Ok(verdict)
}

/// Counts a packet for the endpoint that sent it.
#[inline(always)]
fn sent<P: Packet, T: Tables>(packet: &P, tables: &T, endpoint: u32) {
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    tables.count_endpoint(endpoint, Direction::Out, packet.segments(), bytes);
}

/// Hands the packet to the kernel, and counts why.
#[inline(always)]
pub fn to_kernel<T: Tables>(tables: &T, why: Stat) -> Outcome {
    tables.count(why);
    Ok(Verdict::PASS)
}

#[inline(always)]
fn ipv4<P: Packet, T: Tables, K: Kernel>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    frame: &Ethernet,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let mut view = parse::ipv4(packet)?;
    if view.key.src != endpoint.ip4 && endpoint.flags & Endpoint::ALLOW_SPOOF == 0 {
        return Err(DropReason::SpoofedIp);
    }
    if view.key.dst.is_loopback() {
        return Err(DropReason::MartianLoopback);
    }
    if view.kind == Kind::Error {
        return Ok(Verdict::ERROR);
    }
    if frame.dst[0] & 1 != 0 {
        return group(tables, network);
    }
    if frame.dst != endpoint.gateway_mac {
        return bridged(packet, tables, &view, frame, endpoint, network);
    }
    routed(packet, tables, kernel, &mut view, network)
}

/// Broadcast and multicast: the bridge floods them, where the network is open.
#[inline(always)]
fn group<T: Tables>(tables: &T, network: &Network) -> Outcome {
    if network.flags & Network::ICC == 0 {
        return Err(DropReason::Multicast);
    }
    to_kernel(tables, Stat::ToBroadcast)
}

/// A frame for another station of the network.
#[inline(always)]
fn bridged<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    view: &View,
    frame: &Ethernet,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let Some(to) = tables.neighbour(endpoint.network, view.key.dst) else {
        // A station that was plugged in by hand, or a container that routes for others.
        if network.flags & Network::ICC == 0 {
            return Err(DropReason::PolicyIcc);
        }
        return to_kernel(tables, Stat::ToUnknownNeighbour);
    };
    if frame.dst != to.mac {
        return Err(DropReason::NoEndpoint);
    }
    let from = Party { endpoint: endpoint.endpoint, flags: endpoint.flags };
    policy::same_network(
        packet,
        tables,
        network,
        view,
        from,
        Party { endpoint: to.endpoint, flags: to.flags },
    )?;
    deliver(packet, tables, to.endpoint, to.ifindex)
}

/// Counts a packet for the endpoint that it is delivered to.
#[inline(always)]
pub fn deliver<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    endpoint: u32,
    ifindex: u32,
) -> Outcome {
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    tables.count_endpoint(endpoint, Direction::In, packet.segments(), bytes);
    Ok(Verdict::deliver(ifindex))
}

/// A frame for the gateway.
#[inline(always)]
fn routed<P: Packet, T: Tables, K: Kernel>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    view: &mut View,
    network: &Network,
) -> Outcome {
    parse::reunite(tables, view).ok_or(DropReason::FragNotFound)?;
    let known = conntrack::find(tables, &view.key)
        .and_then(|flow| conntrack::follow(tables, kernel, view, flow, network.bridge));
    let Some(flow) = known else { return Ok(Verdict::FIRST) };
    along(packet, tables, view, &flow)
}

/// A packet of a flow: translated, and sent where the entry says.
#[inline(always)]
fn along<P: Packet, T: Tables>(packet: &mut P, tables: &T, view: &View, flow: &Flow4) -> Outcome {
    if view.ttl <= 1 {
        return expired(tables, flow);
    }
    // Where it leaves by an uplink the kernel answers, or fragments; `to_uplink` translates the parts.
    if flow.action == Action::Leave as u8 && view.length > u32::from(flow.mtu) {
        return to_kernel(tables, Stat::ToMtu);
    }
    let to = conntrack::rewritten(&view.key, flow);
    rewrite::translate(packet, view, &to, Ttl::Decrement)?;
    forward(packet, tables, flow)
}

/// An ICMP error, well-formed and of a genuine source. A function of its own, for its stack.
#[inline(never)]
fn error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Flat {
    Flat::new(try_error(packet, tables))
}

#[inline(always)]
fn try_error<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let (endpoint, network) = (&*endpoint, &*network);
    let view = &parse::ipv4(packet)?;
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    tables.count_endpoint(endpoint.endpoint, Direction::Out, packet.segments(), bytes);
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if frame.dst[0] & 1 != 0 {
        return Err(DropReason::Multicast);
    }
    if frame.dst != endpoint.gateway_mac {
        return bridged(packet, tables, view, &frame, endpoint, network);
    }
    // Only a party of a flow reports errors about it.
    if let Some((flow, quote)) = icmp::related(packet, tables, view)
        && flow.from == endpoint.endpoint
    {
        icmp::translate(packet, view, &flow, &quote, Ttl::Decrement)?;
        return forward(packet, tables, &flow);
    }
    if tables.local(view.key.dst).is_none() {
        return Err(DropReason::CtInvalid);
    }
    host_allowed(view, network)?;
    to_kernel(tables, Stat::ToUnrelatedError)
}

/// The time to live ended. The kernel answers from the gateway, if the packet is one that it forwards.
#[inline(always)]
fn expired<T: Tables>(tables: &T, flow: &Flow4) -> Outcome {
    if flow.action == Action::Leave as u8 {
        return to_kernel(tables, Stat::ToTtl);
    }
    Err(DropReason::TtlExpired)
}

/// Sends a translated packet where its entry says.
#[inline(always)]
pub fn forward<P: Packet, T: Tables>(packet: &mut P, tables: &T, flow: &Flow4) -> Outcome {
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    if flow.rule != 0 {
        let direction = if flow.state & crate::abi::state::IS_REPLY != 0 {
            Direction::Out
        } else {
            Direction::In
        };
        tables.count_rule(flow.rule, direction, packet.segments(), bytes);
    }
    if flow.action == Action::Deliver as u8 {
        rewrite::ethernet(packet, flow.dst_mac, flow.src_mac)?;
        tables.count_endpoint(flow.to, Direction::In, packet.segments(), bytes);
    }
    Ok(conntrack::verdict(flow))
}

#[inline(always)]
fn try_first<P: Packet, T: Tables, K: Kernel>(packet: &mut P, tables: &T, kernel: &K) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let mut view = parse::ipv4(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let verdict = match judge(tables, kernel, &view, &endpoint, &network)? {
        Opened::Flow => return Ok(Verdict::FIRST),
        Opened::Neighbour => within(packet, tables, &view, &endpoint, &network),
        Opened::Kernel(why) => to_kernel(tables, why),
    }?;
    sent(packet, tables, endpoint.endpoint);
    Ok(verdict)
}

/// What a packet of no known flow leads to.
enum Opened {
    /// A flow, entered now.
    Flow,
    /// Another station of the same network, by way of the gateway.
    Neighbour,
    /// The kernel's business.
    Kernel(Stat),
}

/// The rules for a first packet.
#[inline(always)]
fn judge<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    view: &View,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Opened, DropReason> {
    if let Some(local) = tables.local(view.key.dst) {
        host_allowed(view, network)?;
        // Only a SYN opens a connection here: the answers of a container to a host process whose port is
        // a published one are no requests.
        if view.kind == Kind::Ports
            && (view.key.proto != proto::TCP || view.opens_tcp())
            && let Some(rule) = service::find(tables, local, &view.key)
        {
            service::open_from_container(tables, kernel, &view.key, endpoint, network, rule)?;
            return Ok(Opened::Flow);
        }
        return Ok(Opened::Kernel(Stat::ToHost));
    }
    if let Some(subnet) = tables.subnet(view.key.dst) {
        if subnet.network == endpoint.network {
            return Ok(Opened::Neighbour);
        }
        return Err(DropReason::PolicyIsolation);
    }
    if network.flags & Network::INTERNAL != 0 {
        return Err(DropReason::PolicyInternal);
    }
    if view.key.dst.is_multicast() || view.key.dst == Ip4::BROADCAST {
        return Err(DropReason::Multicast);
    }
    to_world(tables, kernel, view, endpoint, network)
}

/// An internal network reaches no address of the host but its own gateway.
#[inline(always)]
fn host_allowed(view: &View, network: &Network) -> Result<(), DropReason> {
    if network.flags & Network::INTERNAL != 0 && view.key.dst != network.gateway4 {
        return Err(DropReason::PolicyInternal);
    }
    Ok(())
}

/// Opens a flow to the outside.
#[inline(always)]
fn to_world<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    view: &View,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Opened, DropReason> {
    let key = &view.key;
    let (ifindex, next_hop) = match kernel.route(network.bridge, key.src, key.dst) {
        Route::Via { ifindex, next_hop } => (ifindex, next_hop),
        Route::ForwardingOff => return Err(DropReason::ForwardingOff),
        Route::Kernel => return Ok(Opened::Kernel(Stat::ToRouting)),
    };
    let uplink = tables.uplink(ifindex).ok_or(DropReason::NoUplink)?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.reply = conntrack::back_to(endpoint);
    let way = (ifindex, next_hop, &*uplink);
    masquerade::open(tables, kernel, key, network, entries, way)?;
    Ok(Opened::Flow)
}

/// A neighbour addressed by way of the gateway: as if bridged, and one hop further.
#[inline(always)]
fn within<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: &View,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let to = tables.neighbour(endpoint.network, view.key.dst).ok_or(DropReason::NoEndpoint)?;
    let from = Party { endpoint: endpoint.endpoint, flags: endpoint.flags };
    policy::same_network(
        packet,
        tables,
        network,
        view,
        from,
        Party { endpoint: to.endpoint, flags: to.flags },
    )?;
    if view.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    rewrite::decrement_ttl(packet, view)?;
    rewrite::ethernet(packet, to.mac, to.gateway_mac)?;
    deliver(packet, tables, to.endpoint, to.ifindex)
}
