//! What is counted by connection, and which packets are told, while somebody watches. Each packet is seen once: where
//! its container sends it, or where what comes from elsewhere goes to a container. It is seen as it goes on, with the
//! translated tuple, which the entry of the connection's other direction has reversed. Nothing that goes on is decided
//! here.

use crate::{
    abi::{Address, Chosen, FlowKey, traffic::OPENED, watch},
    datapath::{
        conntrack::rewritten,
        family::{self, Family},
        parse::{Kind, View, reunite},
        verdict::{End, Outcome, Verdict, Went},
    },
    io::{Kernel, Packet, Step, Tables},
    wire::{L3, proto},
};

/// What a container sends, or comes to it from the kernel.
#[inline(always)]
pub fn sent<A: Family, P: Packet, T: Tables<A>, E: End>(packet: &P, tables: &T, end: &E) {
    if tables.watched() & watch::CONNECTIONS != 0 && end.went().is_some() {
        // A packet that cannot be read is not counted; its walk has said so.
        let _ = count(packet, tables);
    }
}

/// What comes from outside: the rest of it is the host's own, or will come to a container from the kernel.
#[inline(always)]
pub fn arrived<A: Family, P: Packet, T: Tables<A>, E: End>(packet: &P, tables: &T, end: &E) {
    if end.went() == Some(Went::On) {
        sent(packet, tables, end);
    }
}

/// Counts a packet for its connection. A part of its own, for its stack.
#[inline(always)]
pub fn count<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> Outcome {
    const DONE: Outcome = Ok(Verdict::PASS);
    if is_seen(packet, tables) {
        return DONE;
    }
    let mut view = family::view::<A, P>(packet)?;
    if reunite(tables, &mut view).is_some() && is_counted(&view) {
        // Whatever goes on has an Ethernet header by now.
        let bytes = packet.length().wrapping_sub(L3);
        let opened = if view.opens_tcp() { OPENED } else { 0 };
        let flags = u64::from(view.tcp_flags) | opened;
        tables.count_traffic(&view.key, packet.segments(), bytes, flags);
    }
    DONE
}

/// Whether this packet is one of those that are told.
#[inline(always)]
pub fn is_told<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &P,
    tables: &T,
    kernel: &K,
) -> bool {
    if is_seen(packet, tables) {
        return false;
    }
    let Ok(mut view) = family::view::<A, P>(packet) else { return false };
    // A later fragment without the first is told for its addresses.
    let _ = reunite(tables, &mut view);
    let from = tables.endpoint(packet.interface()).map_or(0, |endpoint| endpoint.endpoint);
    let to = family::holder(tables, view.key.dst);
    // Room that the walk, which is over, no longer needs.
    let Some(mut room) = tables.scratch() else { return false };
    let entries = &mut *room;
    entries.key = view.key;
    entries.reply_key = view.key.reversed();
    entries.peer = view.key;
    if tables.copy_flow(&entries.reply_key, &mut entries.held) {
        entries.peer = rewritten(&entries.reply_key, &entries.held).reversed();
    }
    let mut search = Search { tables, room, from, to, found: false };
    kernel.repeat(Chosen::SLOTS, &mut search);
    search.found
}

/// Whether the packet comes from another container by way of the kernel: it was seen there.
#[inline(always)]
fn is_seen<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> bool {
    let arrived_by = packet.arrived_by();
    arrived_by != packet.interface() && tables.endpoint(arrived_by).is_some()
}

/// Whether packets like this make up a connection.
#[inline(always)]
fn is_counted<A: Family>(view: &View<A>) -> bool {
    let group = view.key.dst.is_group();
    let known = matches!(view.kind, Kind::Ports | Kind::Echo);
    !group && (known || matches!(view.key.proto, proto::TCP | proto::UDP | proto::SCTP))
}

/// A packet, held against each slot.
struct Search<'a, A: Family, T: Tables<A>> {
    tables: &'a T,
    /// The tuple, and as `peer` what it was before it was translated.
    room: T::Scratch,
    from: u32,
    to: u32,
    found: bool,
}

impl<A: Family, T: Tables<A>> Step for Search<'_, A, T> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let Some(chosen) = self.tables.chosen(round) else { return false };
        let entries = &*self.room;
        self.found = chooses(&chosen, &entries.key, self.from, self.to)
            || chooses(&chosen, &entries.peer, self.from, self.to);
        !self.found
    }
}

/// Whether all that a slot names is so of a packet.
#[inline(always)]
fn chooses<A: Address>(chosen: &Chosen, key: &FlowKey<A>, from: u32, to: u32) -> bool {
    let address = A::from_any(chosen.address);
    let family = A::to_any(address) == chosen.address;
    chosen.taken != 0
        && (chosen.endpoint == 0 || chosen.endpoint == from || chosen.endpoint == to)
        && family
        && (address == A::UNSPECIFIED || address == key.src || address == key.dst)
        && (chosen.port.0 == 0 || chosen.port == key.src_port || chosen.port == key.dst_port)
        && (chosen.proto == 0 || chosen.proto == key.proto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{AnyIp, Ip4, Port};

    #[test]
    fn p80_a_packet_is_chosen_by_all_that_is_named() {
        let ip = |last| Ip4::new([172, 18, 0, last]);
        let key = FlowKey {
            src: ip(2),
            dst: ip(3),
            src_port: Port::new(40_000),
            dst_port: Port::new(80),
            proto: 6,
            ..FlowKey::default()
        };
        let any = Chosen { taken: 1, ..Chosen::default() };
        let good = [
            any,
            Chosen { address: ip(2).to_any(), ..any },
            Chosen { address: ip(3).to_any(), endpoint: 7, ..any },
            Chosen { endpoint: 8, port: Port::new(40_000), proto: 6, ..any },
        ];
        let bad = [
            Chosen::default(),
            Chosen { address: ip(4).to_any(), ..any },
            Chosen { address: AnyIp([ip(2).0, 0, 0, 1]), ..any },
            Chosen { address: AnyIp([0, 0, 0, 1]), ..any },
            Chosen { endpoint: 9, ..any },
            Chosen { port: Port::new(81), ..any },
            Chosen { proto: 17, ..any },
        ];
        assert!(good.iter().all(|chosen| chooses(chosen, &key, 7, 8)));
        for chosen in bad {
            assert!(!chooses(&chosen, &key, 7, 8), "{chosen:?}");
        }
    }
}
