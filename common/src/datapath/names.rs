//! Questions about names: what a container sends to port 53 of its gateway goes to the agent's server of names, and
//! the answers come back. Nothing is translated and nothing is remembered: the server has every gateway's address, so
//! that it knows who asks, and on which network. Whoever holds port 53 on the host, and whatever the host's firewall
//! says, does not matter; and nobody but a container of the network itself comes this way.

use crate::{
    abi::{Address as _, Direction, DropReason, Ip4, Ip6, Network, Port},
    datapath::{
        family::{self, BothTables, Family},
        parse::{Kind, View},
        rewrite,
        verdict::{Outcome, Verdict},
    },
    io::{Packet, Tables},
    wire::{ethertype, proto},
};

/// Where questions are asked.
const PORT: Port = Port::new(53);
/// The network and the address that `NEIGHBOURS` has the server under: no network's, and nobody's.
const NOWHERE: u32 = 0;

/// The server's address in every sandbox that we make: 127.0.0.11, which leads to the gateway there.
const INSIDE: Ip4 = Ip4::new([127, 0, 0, 11]);

/// Tells whether an address is the server's own in a sandbox: the only one of a loopback device on a link.
#[inline(always)]
pub fn is_inside<A: Family>(address: A) -> bool {
    A::BITS == Ip4::BITS && address == A::from_any(INSIDE.to_any())
}

/// Tells whether the server is asked at an address.
#[inline(always)]
fn is_server<A: Family>(address: A, network: &Network) -> bool {
    address == A::gateway(network) || is_inside(address)
}

/// Tells whether a packet of a network's container is a question to the server of names.
#[inline(always)]
pub fn is_question<A: Family>(view: &View<A>, network: &Network) -> bool {
    network.flags & Network::NAMES != 0
        && view.key.dst_port == PORT
        && matches!(view.key.proto, proto::UDP | proto::TCP)
        && view.kind == Kind::Ports
        && is_server(view.key.dst, network)
}

/// Takes a question to the server. None: it is none, or there is no server.
#[inline(always)]
pub(super) fn question<P: Packet, T: BothTables>(
    packet: &P,
    tables: &T,
    network: &Network,
) -> Option<Verdict> {
    if network.flags & Network::NAMES == 0 {
        return None;
    }
    match packet.protocol() {
        ethertype::IPV4 => ask::<Ip4, P, T>(packet, tables, network),
        ethertype::IPV6 => ask::<Ip6, P, T>(packet, tables, network),
        _ => None,
    }
}

#[inline(always)]
fn ask<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    network: &Network,
) -> Option<Verdict> {
    let view = family::view::<A, P>(packet).ok()?;
    // A fragment is no question: they are short.
    if !is_question(&view, network) || view.first_fragment {
        return None;
    }
    let server = tables.neighbour(NOWHERE, A::UNSPECIFIED)?;
    Some(Verdict::deliver(server.ifindex))
}

/// What the server sends, at the ingress of the host end of its veth.
#[inline(always)]
pub fn from_names<P: Packet, T: BothTables>(packet: &mut P, tables: &T) -> Outcome {
    match packet.protocol() {
        ethertype::IPV4 => answer::<Ip4, P, T>(packet, tables),
        ethertype::IPV6 => answer::<Ip6, P, T>(packet, tables),
        // Nobody listens there.
        _ => Ok(Verdict::PASS),
    }
}

/// The walk for one family.
#[inline(always)]
pub fn answer<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Outcome {
    let view = family::view::<A, P>(packet)?;
    if view.kind != Kind::Ports || view.key.src_port != PORT {
        return Ok(Verdict::PASS);
    }
    // Without IPv4 containers ask from loopback addresses, each from one of its own.
    let of = if view.key.dst.is_loopback() {
        NOWHERE
    } else {
        tables.subnet(view.key.dst).ok_or(DropReason::NoEndpoint)?.network
    };
    let to = tables.neighbour(of, view.key.dst).ok_or(DropReason::NoEndpoint)?;
    let endpoint = tables.endpoint(to.ifindex).ok_or(DropReason::NoEndpoint)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::AgentNotReady)?;
    if network.flags & Network::NAMES == 0 || !is_server(view.key.src, &network) {
        return Err(DropReason::SpoofedIp);
    }
    rewrite::ethernet::<A, P>(packet, to.mac, to.gateway_mac)?;
    let bytes = packet.length().wrapping_sub(P::NETWORK);
    tables.count_endpoint(to.endpoint, Direction::In, packet.segments(), bytes);
    Ok(Verdict::deliver(to.ifindex))
}
