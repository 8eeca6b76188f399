//! Flows: finding, following, opening.
//!
//! Nothing here depends on a flow being remembered: ports are chosen by hash, so that a flow whose entries
//! the table evicted finds its own mapping again; a flow whose endpoint is gone is dead at that instant,
//! because its generation does not match.

use crate::{
    abi::{Action, Config, DropReason, Endpoint, Flow, FlowKey, Neighbour, Stat, state},
    datapath::{
        choice::Choice,
        family::{self, Family},
        half_open,
        parse::{self, Kind, View},
        short,
        verdict::{Outcome, Told, Verdict},
    },
    io::{Inserted, Kernel, Packet, Route, Step, Tables},
    wire::{proto, tcp},
};

/// Ports tried for a flow before it is refused: with nine tenths of them taken, one flow of a million is. (As many as
/// netfilter tries at first, Linux 6.18, `NF_NAT_MAX_ATTEMPTS`.)
const ATTEMPTS: u32 = 128;

/// The tuple that an entry rewrites `key` to.
#[inline(always)]
pub fn rewritten<A: Copy>(key: &FlowKey<A>, flow: &Flow<A>) -> FlowKey<A> {
    FlowKey {
        src: flow.src,
        dst: flow.dst,
        src_port: flow.src_port,
        dst_port: flow.dst_port,
        proto: key.proto,
        pad: 0,
        zone: key.zone,
    }
}

/// What a packet does to an entry of its flow.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// The coarse clock.
    pub seen: u32,
    /// Bits of [`state`] that go.
    pub clear: u8,
    /// Bits that come.
    pub set: u8,
}

impl Touch {
    /// What the entry's `last_seen`, which does not go back, and its state become. None: its other half is not that of
    /// `peer`, the answers to what it rewrites to do not have that tuple.
    #[inline(always)]
    pub fn of<A: PartialEq>(&self, flow: &Flow<A>, peer: &FlowKey<A>) -> Option<(u32, u8)> {
        let is_half = flow.src_port == peer.dst_port
            && flow.dst_port == peer.src_port
            && flow.src == peer.dst
            && flow.dst == peer.src;
        let is_later = self.seen.wrapping_sub(flow.last_seen).cast_signed() > 0;
        let seen = if is_later { self.seen } else { flow.last_seen };
        is_half.then_some((seen, (flow.state & !self.clear) | self.set))
    }
}

/// Whether both of the flow's endpoints are still those that it was opened for.
#[inline(always)]
pub fn is_current<A: Family, T: Tables<A>>(tables: &T, flow: &Flow<A>) -> bool {
    (flow.from == 0 || tables.generation(flow.from) == flow.from_generation)
        && (flow.to == 0 || tables.generation(flow.to) == flow.to_generation)
}

/// The live entry of a tuple.
#[inline(always)]
pub fn find<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> Option<Flow<A>> {
    let flow = tables.flow(key)?;
    is_current(tables, &flow).then_some(flow)
}

/// Whether an entry has been idle for longer than its state allows. Collection decides by this; packets
/// do not, because an entry that is still there is still right.
#[inline(always)]
pub fn is_idle<A>(config: &Config, proto: u8, flow: &Flow<A>, now: u32) -> bool {
    now.wrapping_sub(flow.last_seen) > timeout(config, proto, flow.state)
}

/// How long an entry with these bits of [`state`] may be idle, in units of the coarse clock.
#[inline(always)]
pub fn timeout(config: &Config, proto: u8, bits: u8) -> u32 {
    let times = &config.timeouts;
    let closed = state::FIN_ORIGINAL | state::FIN_REPLY;
    match proto {
        proto::TCP if bits & state::RESET != 0 => times.tcp_reset,
        proto::TCP if bits & closed == closed => times.tcp_closing,
        proto::TCP if bits & state::ESTABLISHED != 0 => times.tcp_established,
        proto::TCP => times.tcp_opening,
        proto::UDP if bits & state::REPLIED != 0 => times.udp_replied,
        proto::UDP => times.udp,
        proto::ICMP | proto::ICMPV6 => times.icmp,
        _ => times.other,
    }
}

/// Whether a finished connection's entry may give its place to a new flow.
#[inline(always)]
fn is_finished<A>(flow: &Flow<A>) -> bool {
    let closed = state::FIN_ORIGINAL | state::FIN_REPLY;
    flow.state & state::RESET != 0 || flow.state & closed == closed
}

/// Whether the part that brings an entry up to date comes before its packet: at most once a second for each entry, and to
/// keep a settled one in a free slot. Where nothing but the state changes, both entries are written at once.
#[inline(always)]
pub fn waits<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    told: Told,
    view: &View<A>,
    flow: &Flow<A>,
) -> bool {
    if told == Told::Fresh {
        return false;
    }
    let now = kernel.now();
    if flow.last_seen != now || (told == Told::Room && short::is_settled(&view.key, flow)) {
        return true;
    }
    !advance(tables, view, flow, now)
}

/// Enters what a packet does to the state of its flow. False: it begins the flow anew, or half of it is gone.
#[inline(always)]
fn advance<A: Family, T: Tables<A>>(tables: &T, view: &View<A>, flow: &Flow<A>, now: u32) -> bool {
    let (clear, set) = transition(view, flow.state);
    if flow.state & clear != 0 {
        return false;
    }
    if flow.state & set == set {
        return true;
    }
    let peer = rewritten(&view.key, flow).reversed();
    let moment = Touch { seen: now.wrapping_sub(1), clear: 0, set };
    if !tables.touch_flow(&peer, &view.key, moment)
        || !tables.touch_flow(&view.key, &peer, Touch { seen: now, ..moment })
    {
        return false;
    }
    if set & state::ENDING != 0 {
        short::restart(tables, &view.key, &peer);
    }
    true
}

/// Brings both entries of a packet's flow up to date: their state, their age, its route. A flow whose masquerade
/// address left the host, or whose answers' entry was evicted or collected, is over: the packet opens it anew.
///
/// A part of its own of every walk ([`super::verdict::Kind::Stale`]).
#[inline(always)]
pub fn refresh<A: Family, P: Packet, T: Tables<A>, K: Kernel<A>>(
    packet: &mut P,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let mut view = family::view::<A, P>(packet)?;
    parse::reunite(tables, &mut view).ok_or(DropReason::FragNotFound)?;
    let mut flow = Flow::default();
    if tables.copy_flow(&view.key, &mut flow) && is_current(tables, &flow) {
        let bridge = tables
            .endpoint(packet.interface())
            .and_then(|endpoint| tables.network(endpoint.network))
            .map_or(0, |network| network.bridge);
        renew(tables, kernel, &view, &mut flow, bridge);
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn renew<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    view: &View<A>,
    flow: &mut Flow<A>,
    bridge: u32,
) {
    let key = &view.key;
    let (clear, set) = transition(view, flow.state);
    let now = kernel.now();
    let changed = flow.state & clear != 0 || flow.state & set != set;
    let aged = flow.last_seen != now;
    let leaves = flow.action == Action::Leave as u8;
    let peer = rewritten(key, flow).reversed();
    if aged && leaves && flow.src != key.src && tables.local(flow.src).is_none() {
        tables.remove_flow(&peer);
        tables.remove_flow(key);
        return;
    }
    // Both, so that the table keeps both or neither; the other a moment ago, so that its own next packet still looks
    // its way out up. Where the answers' entry went alone, they would end at the host.
    let is_reply = flow.state & state::IS_REPLY != 0;
    let moment = Touch { seen: now.wrapping_sub(1), clear, set };
    if (changed || aged) && !tables.touch_flow(&peer, key, moment) && !is_reply {
        tables.remove_flow(key);
        return;
    }
    // The way out is looked up anew about once a second, so that flows follow the host's routes even
    // while no agent runs: with the source that the kernel would route by, which translates a request
    // behind its routing, and an answer in front of it.
    let source = if is_reply { flow.src } else { key.src };
    if aged
        && leaves
        && bridge != 0
        && let Route::Via { ifindex, next_hop, mtu } = kernel.route(bridge, source, flow.dst)
        && let Some(uplink) = tables.uplink(ifindex)
    {
        // Another line has another address: what goes on with the old one is lost there. The next packet
        // opens the flow anew.
        if ifindex != flow.ifindex
            && !is_reply
            && flow.src != key.src
            && flow.src != A::source(&uplink)
            && tables.uplink(flow.ifindex).is_none_or(|old| A::source(&old) == flow.src)
        {
            tables.remove_flow(&peer);
            tables.remove_flow(key);
            return;
        }
        flow.state = (flow.state & !clear) | set;
        flow.last_seen = now;
        flow.ifindex = ifindex;
        flow.next_hop = next_hop;
        flow.mtu = narrower(uplink.mtu, mtu);
        tables.replace_flow(key, flow);
    } else {
        tables.touch_flow(key, &peer, Touch { seen: now, ..moment });
    }
}

/// What a packet does to the state of its flow: bits to clear, bits to set.
#[inline(always)]
fn transition<A>(view: &View<A>, current: u8) -> (u8, u8) {
    let is_reply = current & state::IS_REPLY != 0;
    let mut set = if is_reply { state::REPLIED } else { 0 };
    let mut clear = 0;
    if view.key.proto == proto::TCP && view.kind == Kind::Ports {
        let flags = view.tcp_flags;
        if flags & tcp::RST != 0 {
            set |= state::RESET;
        } else if flags & tcp::SYN != 0 {
            // The tuple is used again: the mapping stays, the connection is a new one.
            clear |= state::RESET | state::FIN_ORIGINAL | state::FIN_REPLY | state::ESTABLISHED;
        } else {
            if flags & tcp::FIN != 0 {
                set |= if is_reply { state::FIN_REPLY } else { state::FIN_ORIGINAL };
            }
            if !is_reply && current & state::REPLIED != 0 {
                set |= state::ESTABLISHED;
            }
        }
    }
    (clear, set)
}

/// The verdict of an entry.
#[inline(always)]
pub fn verdict<A: Family>(flow: &Flow<A>) -> Verdict {
    if flow.action == Action::Deliver as u8 {
        Verdict::deliver(flow.ifindex)
    } else if flow.action == Action::Leave as u8 {
        Verdict::leave(flow.ifindex, flow.next_hop.to_any())
    } else {
        Verdict::PASS
    }
}

/// The two entries of a flow to be opened.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries<A> {
    /// For the tuple as it arrives; its source port may still change.
    pub forward: Flow<A>,
    /// For the answers.
    pub reply: Flow<A>,
    /// The tuple as it arrives.
    pub key: FlowKey<A>,
    /// The answers' tuple, while a port is looked for.
    pub(super) reply_key: FlowKey<A>,
    /// Who has that tuple already, and the tuple of the other half of that flow; then the flow that may have to make
    /// room ([`half_open`]). Here, for the stack's sake.
    pub(super) held: Flow<A>,
    pub(super) peer: FlowKey<A>,
}

/// How the source port of a flow to be opened is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The masquerade range must hold the source port; else it is kept if it is free.
    pub masquerade: bool,
    /// Table of `PORTS` of the source address; a port that is published there is not used.
    pub table: u32,
}

impl Opening {
    /// The source port stays, if it is free.
    pub const KEEPS: Self = Self { masquerade: false, table: 0 };
}

/// Enters both entries of a flow, choosing the source port. The exclusive insertion of the answers' entry
/// is the allocator. Fills in the fields of both entries that follow from the tuple and the choice.
#[inline(always)]
pub fn open<A: Family, T: Tables<A>, K: Kernel<A>>(
    tables: &T,
    kernel: &K,
    opening: Opening,
    mut entries: T::Scratch,
) -> Result<(), DropReason> {
    let config = tables.config().ok_or(DropReason::AgentNotReady)?;
    let now = kernel.now();
    let filled = &mut *entries;
    let key = &filled.key;
    filled.forward.last_seen = now;
    // In the past where the first answer has to look its way out up.
    let leads =
        filled.reply.action != Action::Leave as u8 || filled.reply.next_hop != A::UNSPECIFIED;
    filled.reply.last_seen = if leads { now } else { now.wrapping_sub(1) };
    filled.reply.src = key.dst;
    filled.reply.dst = key.src;
    filled.reply.src_port = key.dst_port;
    filled.reply.dst_port = key.src_port;
    filled.reply.state = state::IS_REPLY;
    let choice = Choice::new(&config, key, opening.masquerade);
    let table = opening.table;
    let mut search = Search { tables, kernel, now, choice, table, entries, end: Inserted::Exists };
    kernel.repeat(ATTEMPTS, &mut search);
    match search.end {
        Inserted::Yes => {
            tables.count(Stat::FlowsOpened);
            half_open::enter(tables, &config, &mut search.entries);
            Ok(())
        }
        Inserted::Full => Err(DropReason::CtTableFull),
        Inserted::Exists => {
            tables.count(Stat::PortsExhausted);
            Err(DropReason::NatPortExhausted)
        }
    }
}

/// The search for a free source port.
struct Search<'a, A: Family, T: Tables<A>, K> {
    tables: &'a T,
    kernel: &'a K,
    now: u32,
    choice: Choice,
    table: u32,
    entries: T::Scratch,
    end: Inserted,
}

impl<A: Family, T: Tables<A>, K: Kernel<A>> Step for Search<'_, A, T, K> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let Some(port) = self.choice.port(round) else { return false };
        let entries = &mut *self.entries;
        entries.forward.src_port = port;
        entries.reply_key = rewritten(&entries.key, &entries.forward).reversed();
        if self.choice.translates(round) && self.is_taken() {
            return true;
        }
        self.end = self.enter();
        self.end == Inserted::Exists
    }
}

impl<A: Family, T: Tables<A>, K: Kernel<A>> Search<'_, A, T, K> {
    /// Whether something of the host's own would meet the answers: a published port, or a socket.
    #[inline(always)]
    fn is_taken(&self) -> bool {
        let reply = &self.entries.reply_key;
        let published = crate::abi::service::slot(reply.proto, reply.dst_port)
            .is_some_and(|slot| self.tables.published(self.table, slot) != 0);
        published || self.kernel.socket(reply)
    }

    /// Enters both entries under the answers' tuple, taking it over from a flow that is over.
    #[inline(always)]
    fn enter(&mut self) -> Inserted {
        let tables = self.tables;
        let mut inserted = tables.insert_flow(&self.entries.reply_key, &self.entries.reply);
        if inserted == Inserted::Exists {
            let entries = &mut *self.entries;
            if !tables.copy_flow(&entries.reply_key, &mut entries.held) {
                return Inserted::Exists;
            }
            entries.peer = rewritten(&entries.reply_key, &entries.held).reversed();
            if self.is_over(self.entries.reply_key.proto, &self.entries.held) {
                tables.remove_flow(&self.entries.peer);
                inserted = tables.replace_flow(&self.entries.reply_key, &self.entries.reply);
            } else if self.entries.peer == self.entries.key {
                // Our own, whose other half was evicted, or that another CPU enters at this moment.
                tables.count(Stat::FlowsAdopted);
                inserted = Inserted::Yes;
            }
        }
        let entries = &*self.entries;
        if inserted == Inserted::Yes
            && tables.replace_flow(&entries.key, &entries.forward) != Inserted::Yes
        {
            tables.remove_flow(&entries.reply_key);
            return Inserted::Full;
        }
        inserted
    }

    /// Whether an entry may give its place to a new flow.
    #[inline(always)]
    fn is_over(&self, proto: u8, held: &Flow<A>) -> bool {
        is_finished(held)
            || !is_current(self.tables, held)
            || self.tables.config().is_some_and(|config| is_idle(&config, proto, held, self.now))
    }
}

/// The smaller of an interface's MTU and a route's, which may have none.
#[inline(always)]
pub const fn narrower(interface: u32, route: u32) -> u16 {
    let mtu = if route != 0 && route < interface { route } else { interface };
    if mtu > 0xffff { 0xffff } else { mtu as u16 }
}

/// An entry with what both sides of a flow have in common filled in; the tuple and times follow.
#[inline(always)]
pub fn deliver_to<A: Family>(neighbour: &Neighbour) -> Flow<A> {
    Flow {
        action: Action::Deliver as u8,
        ifindex: neighbour.ifindex,
        to: neighbour.endpoint,
        to_generation: neighbour.generation,
        mtu: neighbour.mtu,
        dst_mac: neighbour.mac,
        src_mac: neighbour.gateway_mac,
        ..Flow::default()
    }
}

/// The entry for the answers to an endpoint.
#[inline(always)]
pub fn back_to<A: Family>(endpoint: &Endpoint) -> Flow<A> {
    Flow {
        action: Action::Deliver as u8,
        ifindex: endpoint.ifindex,
        to: endpoint.endpoint,
        to_generation: endpoint.generation,
        mtu: endpoint.mtu,
        dst_mac: endpoint.mac,
        src_mac: endpoint.gateway_mac,
        ..Flow::default()
    }
}

/// An entry for what leaves by an uplink.
#[inline(always)]
pub fn leave_by<A: Family>(ifindex: u32, next_hop: A, mtu: u16) -> Flow<A> {
    Flow { action: Action::Leave as u8, ifindex, next_hop, mtu, ..Flow::default() }
}
