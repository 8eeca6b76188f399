//! What a packet that goes on was before it was translated.

use std::net::IpAddr;

use bascule_common::{
    abi::{Event, FlowKey, Ip4, Ip6, Port},
    datapath::conntrack,
};

use super::{connections::end, traffic::Counts};
use crate::kernel::bpf::Tables;

/// An end of a connection: its address, and how it is written.
pub(super) type End = (IpAddr, String);

/// Finds source and destination by the connection's other direction; none where nothing is tracked.
pub(super) fn origin(tables: &Tables, event: &Event) -> Option<(End, End)> {
    match event.family {
        4 => find::<Ip4>(tables, event),
        6 => find::<Ip6>(tables, event),
        _ => None,
    }
}

fn find<A: Counts>(tables: &Tables, event: &Event) -> Option<(End, End)> {
    let back = FlowKey {
        src: A::read(event.dst),
        dst: A::read(event.src),
        src_port: event.dst_port,
        dst_port: event.src_port,
        proto: event.proto,
        ..FlowKey::default()
    };
    // An entry that cannot be read is as good as none.
    let was = conntrack::rewritten(&back, &A::flow(tables, &back).ok()??);
    let at = |address: A, port: Port| (address.ip(), end(event.proto, address.ip(), port));
    Some((at(was.dst, was.dst_port), at(was.src, was.src_port)))
}
