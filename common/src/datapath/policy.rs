//! Who may talk to whom. The order, from first to last:
//!
//! 1. sources that the endpoint does not own ([`super::from_container`], before anything here);
//! 2. flows that exist: they were judged when they were opened;
//! 3. published ports, by their original destination: isolated networks use each other's;
//! 4. isolation between networks, and internal networks;
//! 5. ICC and links within a network.

use crate::{
    abi::{DropReason, Endpoint, FlowKey, LinkKey, Network, Port},
    datapath::{
        family::Family,
        parse::{self, Kind, View},
    },
    io::{Packet, Tables},
    wire::{proto, tcp},
};

/// Whether a packet between two endpoints of one network may pass.
///
/// With ICC off, a link opens the exposed ports of one endpoint to another, and their answers; like
/// Docker's rules for `--link`, without state. An answer is anything from the served port but a SYN.
#[inline(always)]
pub fn same_network<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    network: &Network,
    view: &View<A>,
    from: Party,
    to: Party,
) -> Result<(), DropReason> {
    if network.flags & Network::ICC != 0 || from.endpoint == to.endpoint {
        return Ok(());
    }
    if from.flags & to.flags & Endpoint::HAS_LINKS == 0 {
        return Err(DropReason::PolicyIcc);
    }
    by_link(packet, tables, view, from.endpoint, to.endpoint)
}

/// One side of a packet within a network.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// Endpoint index.
    pub endpoint: u32,
    /// [`Endpoint::flags`].
    pub flags: u16,
}

#[inline(always)]
fn by_link<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    view: &View<A>,
    from: u32,
    to: u32,
) -> Result<(), DropReason> {
    let mut view = *view;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let key = view.key;
    let allowed = if view.kind == Kind::Error {
        // About a packet that the other side sent: allowed as that packet's answer.
        A::quote(packet, &view)
            .is_some_and(|quote| quote.key.src == key.dst && opens(tables, to, from, &quote.key))
    } else {
        opens(tables, from, to, &key) || (may_answer(&view) && answers(tables, from, to, &key))
    };
    if allowed { Ok(()) } else { Err(DropReason::PolicyIcc) }
}

/// A link lets `from` open this on `to`.
#[inline(always)]
fn opens<A: Family, T: Tables<A>>(tables: &T, from: u32, to: u32, key: &FlowKey<A>) -> bool {
    has_ports(key.proto) && tables.linked(&link(from, to, key.proto, key.dst_port))
}

/// A link lets `to` open what this packet of `from` answers.
#[inline(always)]
fn answers<A: Family, T: Tables<A>>(tables: &T, from: u32, to: u32, key: &FlowKey<A>) -> bool {
    has_ports(key.proto) && tables.linked(&link(to, from, key.proto, key.src_port))
}

#[inline(always)]
fn may_answer<A>(view: &View<A>) -> bool {
    view.key.proto != proto::TCP
        || view.kind == Kind::Later
        || view.tcp_flags & (tcp::ACK | tcp::RST) != 0
}

#[inline(always)]
const fn has_ports(proto: u8) -> bool {
    matches!(proto, proto::TCP | proto::UDP | proto::SCTP)
}

#[inline(always)]
const fn link(from: u32, to: u32, proto: u8, port: Port) -> LinkKey {
    LinkKey { from, to, port, proto, pad: 0, reserved: 0 }
}
