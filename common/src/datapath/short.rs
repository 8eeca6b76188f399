//! The short way, for most packets: those within an open network, and those of a flow whose packets this CPU has
//! judged a moment ago. Whatever is not plain is left, untouched, to the whole walk.
//!
//! What the whole walk found is kept in a slot for as long as nothing changes: within one unit of the coarse clock,
//! and under one generation of the tables, which the agent raises before and after whatever it writes: while it is odd,
//! nothing is kept, and an agent that dies in between leaves only the whole walk. What packets themselves
//! change in a flow happens on the whole walk, once in each of these units and whenever its state has to. A connection
//! that ends or begins anew ends the short way of both its directions, on all CPUs ([`restarted`]). There is none while
//! somebody watches ([`super::watched`]).

use crate::{
    abi::{
        Action, DropReason, Endpoint, Flow, FlowKey, Network, Port, names::map::TABLES_GENERATION,
        state, watch,
    },
    datapath::{
        conntrack,
        family::{self, Family},
        from_container as container,
        parse::Kind,
        rewrite::Ttl,
        verdict::{Kind as Fate, Outcome, Verdict},
    },
    io::{Checksum, Kernel, Packet, Tables},
    wire::{Macs, Ports, checksum, proto, tcp, udp},
};

/// Slots of a CPU.
pub const SLOTS: u32 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

/// Flags that begin or end a connection: they change its state.
const TURNS: u8 = tcp::SYN | tcp::FIN | tcp::RST;

const WHOLE: Outcome = Ok(Verdict::WHOLE);

/// A flow that was judged.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent<A: Family> {
    /// The tuple.
    words: A::Words,
    /// Interface that its packets come in by.
    interface: u32,
    /// Coarse clock when they were judged.
    judged: u32,
    /// Generation of the tables before they were.
    generation: u32,
    /// How often a flow of this slot had begun anew.
    restarts: u32,
    /// Who may have the slot when it is free, by a part of the tuple's hash, and how many more of its packets than of
    /// others' have come.
    candidate: u32,
    votes: u32,
    /// What other addresses and other ports make of a checksum.
    addresses: u16,
    ports: u16,
    /// The entry.
    flow: Flow<A>,
}

impl<A: Family> Recent<A> {
    /// Whether the slot is for a flow with this hash, by the majority of the packets that came while it was free (Boyer
    /// and Moore's vote). To keep a flow costs as much as three packets that are looked up: a connection that is over
    /// after a request and an answer is not worth it.
    #[inline(always)]
    fn elects(&mut self, hash: u32) -> bool {
        const ENOUGH: u32 = 3;
        if self.candidate == hash {
            if self.votes >= ENOUGH {
                return true;
            }
            self.votes = self.votes.wrapping_add(1);
        } else if self.votes == 0 {
            (self.candidate, self.votes) = (hash, 1);
        } else {
            self.votes = self.votes.wrapping_sub(1);
        }
        false
    }
}

/// What is read of a header without options or extensions.
#[derive(Clone, Copy, Debug)]
pub struct Straight {
    /// Protocol.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// Length from the header on, in bytes.
    pub length: u32,
}

/// What a container sends.
#[inline(always)]
pub fn from_container<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let Some(endpoint) = tables.endpoint(packet.interface()) else { return WHOLE };
    let Some(frame) = packet.near::<Macs>(0) else { return WHOLE };
    let Some(header) = packet.near(P::NETWORK).filter(|header| A::is_sound(packet, header)) else {
        return WHOLE;
    };
    let (src, dst) = A::addresses(&header);
    let genuine = frame.src == endpoint.mac && A::may_send(src, &endpoint);
    if packet.is_tagged() || !(genuine || endpoint.flags & Endpoint::ALLOW_SPOOF != 0) {
        return WHOLE;
    }
    if frame.dst == endpoint.gateway_mac {
        let end = along(packet, tables, kernel, &header)?;
        if matches!(end.kind, Fate::Deliver | Fate::Leave) {
            container::sent(packet, tables, endpoint.endpoint);
        }
        return Ok(end);
    }
    // Most packets of an open network: nothing behind the addresses matters.
    if A::is_plain(&header)
        && let Some(network) = tables.network(endpoint.network)
        && network.flags & Network::ICC != 0
        && let Some(to) = tables.neighbour(endpoint.network, dst)
        && to.mac == frame.dst
        && tables.watched() == 0
    {
        container::sent(packet, tables, endpoint.endpoint);
        return container::deliver(packet, tables, to.endpoint, to.ifindex);
    }
    WHOLE
}

/// What arrives from outside.
#[inline(always)]
pub fn from_uplink<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    if packet.is_tagged() || !packet.is_for_host() {
        return WHOLE;
    }
    match packet.near(P::NETWORK).filter(|header| A::is_sound(packet, header)) {
        Some(header) => along(packet, tables, kernel, &header),
        None => WHOLE,
    }
}

/// A packet of a flow that was judged: translated, and sent where the entry says.
#[inline(always)]
fn along<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
    header: &A::Header,
) -> Outcome {
    let l4 = P::NETWORK + A::HEADER;
    let Some(straight) = A::straight(header) else { return WHOLE };
    let Some(ports) = packet.near::<Ports>(l4) else { return WHOLE };
    let is_udp = straight.proto == proto::UDP;
    let (field, front) = match straight.proto {
        proto::UDP => (l4 + udp::CHECKSUM, udp::LENGTH),
        proto::TCP => {
            let Some(word) = packet.near::<u16>(l4 + tcp::OFFSET_FLAGS) else { return WHOLE };
            let [offset, flags] = word.to_ne_bytes();
            if flags & TURNS != 0 {
                return WHOLE;
            }
            (l4 + tcp::CHECKSUM, u32::from(offset >> 4) << 2)
        }
        _ => return WHOLE,
    };
    let (src, dst) = A::addresses(header);
    let words = A::words(src, dst, ports, straight.proto);
    let hash = A::mix(&words);
    let place = place(hash);
    let Some(mut recent) = tables.recent(place) else { return WHOLE };
    let now = kernel.now();
    let generation = tables.generation(TABLES_GENERATION);
    if recent.judged != now || recent.generation != generation {
        // Somebody writes: what the whole walk finds now may be old at once. Or watches: nothing goes past the walk.
        if generation & watch::ALL != 0 || !recent.elects(hash as u32) {
            return WHOLE;
        }
        // Whatever the whole walk finds is found after this.
        recent.judged = now.wrapping_sub(1);
        recent.generation = generation;
        return Ok(Verdict::VACANT);
    }
    let length = match packet.segment_size() {
        0 => straight.length,
        segment => A::HEADER + front + segment,
    };
    if !A::same(&recent.words, &words)
        || recent.interface != packet.interface()
        || straight.ttl <= 1
        || length > u32::from(recent.flow.mtu)
    {
        return WHOLE;
    }
    if recent.restarts != tables.restarts(place) {
        return Ok(Verdict::VACANT);
    }
    let to = FlowKey {
        src: recent.flow.src,
        dst: recent.flow.dst,
        src_port: recent.flow.src_port,
        dst_port: recent.flow.dst_port,
        ..FlowKey::default()
    };
    let scope = Checksum::pseudo::<A>();
    packet
        .adjust_both(field, recent.addresses, scope, recent.ports, is_udp)
        .and_then(|()| A::readdress_ports(packet, l4, &to, recent.addresses.into(), Ttl::Decrement))
        .ok_or(DropReason::ChecksumBad)?;
    container::forward(packet, tables, &recent.flow)
}

/// The slot of a tuple with this hash.
#[inline(always)]
const fn place(hash: u64) -> u32 {
    (hash >> (u64::BITS - SLOT_BITS)) as u32
}

/// Whether an entry is such that its packets may go the short way: none of them but those that never go there
/// changes its state.
#[inline(always)]
pub fn is_settled<A>(key: &FlowKey<A>, flow: &Flow<A>) -> bool {
    let leads_on = flow.action == Action::Deliver as u8 || flow.action == Action::Leave as u8;
    leads_on
        && match key.proto {
            proto::TCP => flow.state & (state::ESTABLISHED | state::ENDING) == state::ESTABLISHED,
            proto::UDP => true,
            _ => false,
        }
}

/// Ends the short way of a connection that begins anew or ends: its next packets change its state, or are another's, on
/// whatever CPU they are. A part of walks that have no short way themselves.
#[inline(always)]
pub fn restarted<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> Outcome {
    let view = family::view::<A, P>(packet)?;
    if view.tcp_flags & TURNS != 0
        && let Some(flow) = tables.flow(&view.key)
    {
        restart(tables, &view.key, &conntrack::rewritten(&view.key, &flow).reversed());
    }
    Ok(Verdict::PASS)
}

/// Ends the short way of a flow, by the tuples of its entries.
#[inline(always)]
pub(super) fn restart<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>, peer: &FlowKey<A>) {
    tables.restart(place(A::mix(&words(key))));
    tables.restart(place(A::mix(&words(peer))));
}

/// A tuple in words.
#[inline(always)]
fn words<A: Family>(key: &FlowKey<A>) -> A::Words {
    A::words(key.src, key.dst, Ports { src: key.src_port, dst: key.dst_port }, key.proto)
}

/// Keeps what is found about a flow that has just been brought up to date. A part of its own, for its stack.
#[inline(always)]
pub fn keep<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> Outcome {
    const DONE: Outcome = Ok(Verdict::PASS);
    let view = family::view::<A, P>(packet)?;
    if view.kind != Kind::Ports {
        return DONE;
    }
    let key = &view.key;
    let words = words(key);
    let place = place(A::mix(&words));
    let Some(mut recent) = tables.recent(place) else { return DONE };
    recent.judged = 0;
    recent.restarts = tables.restarts(place);
    if !tables.copy_flow(key, &mut recent.flow) {
        return DONE;
    }
    if view.tcp_flags & TURNS != 0 {
        restart(tables, key, &conntrack::rewritten(key, &recent.flow).reversed());
        return DONE;
    }
    if !is_settled(key, &recent.flow) || !conntrack::is_current(tables, &recent.flow) {
        return DONE;
    }
    recent.words = words;
    recent.interface = packet.interface();
    // The generation stays: it is what it was when this walk began, or older.
    recent.judged = recent.flow.last_seen;
    let flow = &recent.flow;
    let (src, dst) = (A::difference(key.src, flow.src), A::difference(key.dst, flow.dst));
    let word = |old: Port, new: Port| checksum::port(old, new);
    let ports =
        checksum::both(word(key.src_port, flow.src_port), word(key.dst_port, flow.dst_port));
    recent.addresses = checksum::fold(checksum::both(src, dst));
    recent.ports = checksum::fold(ports);
    DONE
}
