//! Everything a container sends, at the ingress of the host end of its veth.

use crate::{
    abi::{Action, Direction, DropReason, Endpoint, Flow, Network, Stat, Subnet},
    datapath::{
        answer, arp, conntrack, direct,
        family::{self, BothKernels, BothTables, Family},
        icmp,
        masquerade::{self, Way},
        names,
        parse::{self, Kind, View},
        policy::{self, Party},
        rewrite::{self, Ttl},
        service, short, unbridged,
        verdict::{Kind as Fate, Outcome, Told, Verdict, in_parts},
        watched,
    },
    io::{Kernel, Packet, Route, Tables},
    wire::{Ethernet, ethertype, proto},
};

/// The walk.
#[inline(always)]
pub fn from_container<P: Packet, T: BothTables, K: BothKernels>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let end = match packet.protocol() {
        ethertype::IPV4 => walk::<crate::abi::Ip4, P, T, K>(packet, tables, kernel),
        ethertype::IPV6 => walk::<crate::abi::Ip6, P, T, K>(packet, tables, kernel),
        _ => other(packet, tables),
    };
    if end == Ok(Verdict::PASS) { unbridged::handed(packet, tables) } else { end }
}

fn walk<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    in_parts(
        packet,
        |packet| short::from_container(packet, tables, kernel),
        |packet, told| known(packet, tables, kernel, told),
        |packet| {
            conntrack::refresh(packet, tables, kernel).and_then(|_| short::keep(packet, tables))
        },
        |packet| first(packet, tables, kernel),
        |packet| requoted(packet, tables),
        |packet| error(packet, tables),
        |packet, end| watched::sent(packet, tables, end),
    )
}

/// What every frame of a container has to be.
#[inline(always)]
fn genuine<P: Packet>(packet: &P, endpoint: &Endpoint) -> Result<Ethernet, DropReason> {
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if packet.is_tagged() {
        return Err(DropReason::Vlan);
    }
    if frame.src != endpoint.mac && endpoint.flags & Endpoint::ALLOW_SPOOF == 0 {
        return Err(DropReason::SpoofedMac);
    }
    Ok(frame)
}

/// Frames that are not IP.
#[inline(always)]
pub fn other<P: Packet, T: Tables<crate::abi::Ip4>>(packet: &P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let frame = genuine(packet, &endpoint)?;
    let verdict = match frame.ethertype {
        ethertype::VLAN | ethertype::QINQ => Err(DropReason::Vlan),
        ethertype::ARP => arp::from_container(packet, tables, &endpoint),
        _ if network.floods() => to_kernel(tables, Stat::ToOtherProtocol),
        _ => Err(DropReason::L2Proto),
    }?;
    sent(packet, tables, endpoint.endpoint);
    Ok(verdict)
}

/// The first part: the network itself, and flows that exist. The order of the lines is the policy.
#[inline(always)]
pub fn known<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    told: Told,
) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let frame = genuine(packet, &endpoint)?;
    let header = A::header(packet).ok_or(DropReason::Malformed)?;
    let (src, dst) = A::addresses(&header);
    if !A::may_send(src, &endpoint)
        && endpoint.flags & Endpoint::ALLOW_SPOOF == 0
        // Further addresses of the link stay on it.
        && !(family::holds(tables, &endpoint, src)
            && (frame.dst != endpoint.gateway_mac || src.stays_on_link()))
    {
        return Err(DropReason::SpoofedIp);
    }
    if (dst.is_loopback() || src.is_loopback())
        && !(names::is_inside(dst) && frame.dst == endpoint.gateway_mac)
    {
        return Err(DropReason::MartianLoopback);
    }
    let mut view = A::view(packet, &header)?;
    let verdict = if A::concerns_neighbours(packet, &view)? {
        // As rare as errors, and judged with them, for the stack.
        Ok(Verdict::ERROR)
    } else if src == A::UNSPECIFIED && endpoint.flags & Endpoint::ALLOW_SPOOF == 0 {
        Err(DropReason::SpoofedIp)
    } else if view.kind == Kind::Error {
        Ok(Verdict::ERROR)
    } else if frame.dst[0] & 1 != 0 {
        group(tables, &network)
    } else if frame.dst != endpoint.gateway_mac {
        bridged(packet, tables, &view, &frame, &endpoint, &network)
    } else {
        routed(packet, tables, kernel, &mut view, told)
    }?;
    if matches!(verdict.kind, Fate::Pass | Fate::Deliver | Fate::Leave) {
        sent(packet, tables, endpoint.endpoint);
    }
    Ok(verdict)
}

/// Counts a packet for the endpoint that sent it.
#[inline(always)]
pub(super) fn sent<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T, endpoint: u32) {
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    tables.count_endpoint(endpoint, Direction::Out, packet.segments(), bytes);
}

/// Hands the packet to the kernel, and counts why.
#[inline(always)]
pub fn to_kernel<A: Family, T: Tables<A>>(tables: &T, why: Stat) -> Outcome {
    tables.count(why);
    Ok(Verdict::PASS)
}

/// Broadcast and multicast: the bridge floods them, where the network is open.
#[inline(always)]
fn group<A: Family, T: Tables<A>>(tables: &T, network: &Network) -> Outcome {
    if !network.floods() {
        return Err(DropReason::Multicast);
    }
    to_kernel(tables, Stat::ToBroadcast)
}

/// Neighbour discovery goes straight to the container that it is about: on the bridge the host's firewall may
/// drop it (`br_netfilter`), which it does not do with ARP. The gateway and other stations are on the bridge; where
/// there is none, whoever asks all is answered at once ([`unbridged::handed`]).
#[inline(always)]
fn discovery<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    view: &View<A>,
    frame: &Ethernet,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let about = A::discovers(packet, tables, view, endpoint)?;
    if let Some(to) = tables.neighbour(endpoint.network, about)
        // Not to the asker itself, who would take it for somebody else with its address.
        && to.endpoint != endpoint.endpoint
        && (frame.dst == to.mac || frame.dst[0] & 1 != 0 && network.flags & Network::L2_BPF == 0)
    {
        return deliver(packet, tables, to.endpoint, to.ifindex);
    }
    to_kernel(tables, Stat::ToNeighbourDiscovery)
}

/// A frame for another station of the network.
#[inline(always)]
fn bridged<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    view: &View<A>,
    frame: &Ethernet,
    endpoint: &Endpoint,
    network: &Network,
) -> Outcome {
    let Some(to) = tables.neighbour(endpoint.network, view.key.dst) else {
        // A station that was plugged in by hand, or a container that routes for others.
        if network.flags & Network::ICC == 0 {
            return Err(DropReason::PolicyIcc);
        }
        if network.flags & Network::L2_BPF != 0 {
            return Err(DropReason::NoEndpoint);
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
pub(super) fn deliver<A: Family, P: Packet, T: Tables<A>>(
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
fn routed<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    view: &mut View<A>,
    told: Told,
) -> Outcome {
    if view.key.dst.stays_on_link() {
        return to_kernel(tables, Stat::ToHost);
    }
    parse::reunite(tables, view).ok_or(DropReason::FragNotFound)?;
    let Some(flow) = conntrack::find(tables, &view.key) else { return Ok(Verdict::FIRST) };
    if conntrack::waits(tables, kernel, told, view, &flow) {
        return Ok(Verdict::STALE);
    }
    along(packet, tables, view, &flow)
}

/// A packet of a flow: translated, and sent where the entry says.
#[inline(always)]
fn along<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    view: &View<A>,
    flow: &Flow<A>,
) -> Outcome {
    if flow.action == Action::Leave as u8 {
        // The kernel answers from the gateway, or fragments; `to_uplink` translates what it makes of it.
        if view.ttl <= 1 {
            return to_kernel(tables, Stat::ToTtl);
        }
        if view.length > u32::from(flow.mtu) {
            return to_kernel(tables, Stat::ToMtu);
        }
    }
    translated(packet, tables, view, flow)
}

/// Translates a packet of a flow and sends it where its entry says; or has it answered, if it cannot go there.
#[inline(always)]
pub fn translated<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    view: &View<A>,
    flow: &Flow<A>,
) -> Outcome {
    let to = conntrack::rewritten(&view.key, flow);
    if view.ttl <= 1 {
        return Ok(Verdict::EXPIRED);
    }
    if view.length > u32::from(flow.mtu) {
        if view.whole || !A::FRAGMENTS_ON_THE_WAY {
            return Ok(Verdict::too_big(flow.mtu.into()));
        }
        // The kernel fragments it on its way to the bridge, and `to_container` knows the flow.
        rewrite::translate(packet, view, &to, Ttl::Keep)?;
        return to_kernel(tables, Stat::ToMtu);
    }
    rewrite::translate(packet, view, &to, Ttl::Decrement)?;
    let mut verdict = forward(packet, tables, flow)?;
    if view.starts() {
        verdict.clamp = flow.mtu.into();
    }
    Ok(verdict)
}

/// Sends a translated packet where its entry says.
#[inline(always)]
pub fn forward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    flow: &Flow<A>,
) -> Outcome {
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
        rewrite::ethernet::<A, P>(packet, flow.dst_mac, flow.src_mac)?;
        tables.count_endpoint(flow.to, Direction::In, packet.segments(), bytes);
    }
    Ok(conntrack::verdict(flow))
}

/// The part for what ICMP errors quote, before that for the errors themselves.
#[inline(always)]
pub fn requoted<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if frame.dst == endpoint.gateway_mac {
        let _ = icmp::requote(packet, tables, |flow| flow.from == endpoint.endpoint);
    }
    Ok(Verdict::PASS)
}

/// The part for ICMP errors, well-formed and of a genuine source.
#[inline(always)]
pub fn error<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let (endpoint, network) = (&*endpoint, &*network);
    let view = &family::view(packet)?;
    let frame: Ethernet = packet.load(0).ok_or(DropReason::Malformed)?;
    if view.kind != Kind::Error {
        let verdict = discovery(packet, tables, view, &frame, endpoint, network)?;
        sent(packet, tables, endpoint.endpoint);
        return Ok(verdict);
    }
    sent(packet, tables, endpoint.endpoint);
    if frame.dst[0] & 1 != 0 {
        return Err(DropReason::Multicast);
    }
    if frame.dst != endpoint.gateway_mac {
        return bridged(packet, tables, view, &frame, endpoint, network);
    }
    if view.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    // Only a party of a flow reports errors about it.
    if let Some((flow, quote)) = icmp::related(packet, tables, view)
        && flow.from == endpoint.endpoint
    {
        icmp::translate(packet, view, &flow, &quote, Ttl::Decrement)?;
        return forward(packet, tables, &flow);
    }
    if tables.local(view.key.dst).is_none() && !view.key.dst.stays_on_link() {
        return Err(DropReason::CtInvalid);
    }
    host_allowed(view, network)?;
    to_kernel(tables, Stat::ToUnrelatedError)
}

/// The part for first packets.
#[inline(always)]
pub fn first<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    let mut view = family::view(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let verdict = match judge(tables, kernel, &view, &endpoint, &network)? {
        Opened::Flow => return Ok(Verdict::FIRST),
        Opened::Neighbour => within(packet, tables, &view, &endpoint, &network),
        Opened::Kernel(why) => to_kernel(tables, why),
    }?;
    if verdict.kind != Fate::Expired {
        sent(packet, tables, endpoint.endpoint);
    }
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
fn judge<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    view: &View<A>,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Opened, DropReason> {
    // A server of names that is published on the host's port is no way around the network's own.
    if names::is_question(view, network) {
        return Ok(Opened::Kernel(Stat::ToHost));
    }
    if view.key.dst.is_loopback() {
        return Err(DropReason::MartianLoopback);
    }
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
    if A::own(endpoint) == A::UNSPECIFIED || view.key.src.stays_on_link() {
        return Err(DropReason::UnsupportedProto);
    }
    if let Some(subnet) = tables.subnet(view.key.dst) {
        if subnet.network == endpoint.network {
            return Ok(Opened::Neighbour);
        }
        return across(tables, kernel, view, endpoint, network, subnet);
    }
    if network.flags & Network::INTERNAL != 0 {
        return Err(DropReason::PolicyInternal);
    }
    if view.key.dst.is_group() {
        return Err(DropReason::Multicast);
    }
    to_world(tables, kernel, view, endpoint, network)
}

/// An internal network reaches no address of the host but its own gateway.
#[inline(always)]
fn host_allowed<A: Family>(view: &View<A>, network: &Network) -> Result<(), DropReason> {
    if network.flags & Network::INTERNAL != 0
        && view.key.dst != A::gateway(network)
        && !view.key.dst.stays_on_link()
    {
        return Err(DropReason::PolicyInternal);
    }
    Ok(())
}

/// Opens a flow to another network, if that one is routed and lets it in.
#[inline(always)]
fn across<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    view: &View<A>,
    endpoint: &Endpoint,
    network: &Network,
    subnet: Subnet,
) -> Result<Opened, DropReason> {
    const ISOLATED: DropReason = DropReason::PolicyIsolation;
    let target = tables.network(subnet.network).ok_or(ISOLATED)?;
    if target.flags & A::ROUTED == 0 || (target.flags | network.flags) & Network::INTERNAL != 0 {
        return Err(ISOLATED);
    }
    let to = tables.neighbour(subnet.network, view.key.dst).ok_or(ISOLATED)?;
    let rule =
        direct::allowed(tables, view, &target, (subnet.network, &to), None).ok_or(ISOLATED)?;
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.reply = conntrack::back_to(endpoint);
    direct::open(tables, kernel, &view.key, entries, &to, rule)?;
    Ok(Opened::Flow)
}

/// Opens a flow to the outside.
#[inline(always)]
fn to_world<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    view: &View<A>,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<Opened, DropReason> {
    let key = &view.key;
    let (ifindex, next_hop, mtu) = match kernel.route(network.bridge, key.src, key.dst) {
        Route::Via { ifindex, next_hop, mtu } => (ifindex, next_hop, mtu),
        Route::ForwardingOff => return Err(DropReason::ForwardingOff),
        Route::Kernel => return Ok(Opened::Kernel(Stat::ToRouting)),
    };
    let uplink = tables.uplink(ifindex).ok_or(DropReason::NoUplink)?;
    // The answer of a published port whose flow the table lost: it has its port back. Where the network is
    // routed, the client asked the container itself.
    if network.flags & A::ROUTED == 0
        && (key.proto != proto::TCP || !view.opens_tcp())
        && let Some(rule) =
            service::serving::<A, T>(tables, endpoint.endpoint, key.proto, key.src_port)
    {
        service::reopen(tables, kernel, key, (ifindex, &*uplink), rule)?;
        return Ok(Opened::Flow);
    }
    let mut entries = tables.scratch().ok_or(DropReason::AgentNotReady)?;
    entries.reply = conntrack::back_to(endpoint);
    let way = Way { ifindex, next_hop, mtu, uplink: &uplink };
    masquerade::open(tables, kernel, key, network, entries, way)?;
    Ok(Opened::Flow)
}

/// A neighbour addressed by way of the gateway: as if bridged, and one hop further.
#[inline(always)]
fn within<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    view: &View<A>,
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
        return Ok(Verdict::EXPIRED);
    }
    rewrite::decrement_ttl(packet, view)?;
    rewrite::ethernet::<A, P>(packet, to.mac, to.gateway_mac)?;
    deliver(packet, tables, to.endpoint, to.ifindex)
}

/// The part for packets that are answered by an ICMP error.
#[inline(always)]
pub fn answered<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    verdict: &Verdict,
) -> Outcome {
    let endpoint = tables.endpoint(packet.interface()).ok_or(DropReason::AgentNotReady)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    answer::write(packet, tables, verdict, A::gateway(&network))
}
