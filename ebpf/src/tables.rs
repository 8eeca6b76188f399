//! [`Tables`] over the maps: the only place that touches map memory.

use core::{
    arch::asm,
    mem::{MaybeUninit, offset_of},
};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::lpm_trie::Key,
    helpers::generated as bpf,
};
use bascule_common::{
    abi::{
        Chosen, Config, Count, Direction, DropKey, Endpoint, Flow, FlowKey, FragmentKey,
        FragmentPorts, Ip4, Ip6, LinkKey, Local, Neighbour, NeighbourKey, Network, Rule, ServedKey,
        Stat, Subnet, Traffic, TrustKey, Uplink, config::CLOCK_SHIFT, names::map,
    },
    datapath::{
        Family,
        conntrack::{Entries, Touch},
        short::Recent,
    },
    io::{Inserted, Tables},
    wire::tcp,
};

use crate::maps;

/// The maps of this object.
pub struct Maps;

const EEXIST: i32 = -17;
/// Flags that end a connection.
const OVER: u64 = (tcp::FIN | tcp::RST) as u64;
/// ICMP errors that each CPU sends in a unit of the coarse clock.
const ANSWERS: u64 = 1_000;

#[inline(always)]
fn inserted(result: Result<(), i32>) -> Inserted {
    match result {
        Ok(()) => Inserted::Yes,
        Err(EEXIST) => Inserted::Exists,
        Err(_) => Inserted::Full,
    }
}

/// Tells the compiler what it forgets of a pointer that a helper answered: with the alignment known, an Ethernet
/// address is two loads and not six.
#[inline(always)]
fn aligned<T>(value: &'static T) -> &'static T {
    // SAFETY: a reference is aligned.
    unsafe {
        core::hint::assert_unchecked(core::ptr::from_ref(value).is_aligned());
    }
    value
}

/// A key in two words, as the kernel's comparison reads it: written field by field, it would be read before the
/// processor has put the fields together, which costs 4 ns a look-up. IPv6 has no room for a second key on the
/// stack.
#[repr(C, align(8))]
struct Words(FlowKey<Ip4>);

impl Words {
    #[inline(always)]
    fn of(key: &FlowKey<Ip4>) -> Self {
        let ports = u64::from(key.src_port.0) | (u64::from(key.dst_port.0) << 16);
        let rest = u64::from(key.proto) | (u64::from(key.zone) << 16);
        let mut words = MaybeUninit::<Self>::uninit();
        let at = words.as_mut_ptr().cast::<u64>();
        // SAFETY: the two words are the key whole, aligned to them; any bytes are a key. Volatile, because
        // LLVM would write the fields one by one.
        unsafe {
            at.write_volatile(u64::from(key.src.0) | (u64::from(key.dst.0) << 32));
            at.add(1).write_volatile(ports | (rest << 32));
            words.assume_init()
        }
    }
}
// Where the words put each field (little-endian, as BPF on every supported host).
const _: () = assert!(
    size_of::<Words>() == 16
        && offset_of!(FlowKey<Ip4>, dst) == 4
        && offset_of!(FlowKey<Ip4>, src_port) == 8
        && offset_of!(FlowKey<Ip4>, dst_port) == 10
        && offset_of!(FlowKey<Ip4>, proto) == 12
        && offset_of!(FlowKey<Ip4>, zone) == 14
        && cfg!(target_endian = "little")
);

/// A family with maps of its own.
pub trait Stored: Family {
    /// An entry of the flows, in place.
    fn flow(key: &FlowKey<Self>) -> Option<*mut Flow<Self>>;
    /// Enters a flow.
    fn put_flow(key: &FlowKey<Self>, flow: &Flow<Self>, flags: u32) -> Result<(), i32>;
    /// Removes a flow; absent is as good as removed.
    fn remove_flow(key: &FlowKey<Self>);
    /// The place for a flow that was opened, by number.
    fn opened(place: u32) -> Option<*mut FlowKey<Self>>;
    /// An entry of the fragments, in place.
    fn fragment(key: &FragmentKey<Self>) -> Option<*mut FragmentPorts>;
    /// Remembers a first fragment. A table that refuses is seen when the next one is not found, and named then.
    fn put_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts);
    /// What was counted of a connection, in place.
    fn traffic(key: &FlowKey<Self>) -> Option<*mut Traffic>;
    /// Begins to count one, if there is room.
    fn begin_traffic(key: &FlowKey<Self>, traffic: &Traffic);
    /// A neighbour.
    fn neighbour(key: &NeighbourKey<Self>) -> Option<*mut Neighbour>;
    /// An address of the host's.
    fn local(address: Self) -> Option<*mut Local>;
    /// The subnet of an address.
    fn subnet(address: Self) -> Option<Subnet>;
    /// A slot of this CPU's.
    fn recent(place: u32) -> Option<*mut Recent<Self>>;
    /// This CPU's room for two entries.
    fn scratch() -> Option<*mut Entries<Self>>;
}

macro_rules! stored {
    ($family:ty: $flows:ident by $key:expr, $opened:ident, $fragments:ident, $neighbours:ident, $locals:ident, $subnets:ident, $scratch:ident, $recent:ident, $traffic:ident) => {
        impl Stored for $family {
            #[inline(always)]
            fn flow(key: &FlowKey<Self>) -> Option<*mut Flow<Self>> {
                maps::$flows.get_ptr_mut($key(key))
            }

            #[inline(always)]
            fn put_flow(key: &FlowKey<Self>, flow: &Flow<Self>, flags: u32) -> Result<(), i32> {
                maps::$flows.insert(key, flow, u64::from(flags))
            }

            #[inline(always)]
            fn remove_flow(key: &FlowKey<Self>) {
                let _ = maps::$flows.remove(key);
            }

            #[inline(always)]
            fn opened(place: u32) -> Option<*mut FlowKey<Self>> {
                maps::$opened.get_ptr_mut(place)
            }

            #[inline(always)]
            fn fragment(key: &FragmentKey<Self>) -> Option<*mut FragmentPorts> {
                maps::$fragments.get_ptr_mut(key)
            }

            #[inline(always)]
            fn put_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts) {
                let _ = maps::$fragments.insert(key, ports, u64::from(BPF_ANY));
            }

            #[inline(always)]
            fn traffic(key: &FlowKey<Self>) -> Option<*mut Traffic> {
                maps::$traffic.get_ptr_mut(key)
            }

            #[inline(always)]
            fn begin_traffic(key: &FlowKey<Self>, traffic: &Traffic) {
                let _ = maps::$traffic.insert(key, traffic, u64::from(BPF_NOEXIST));
            }

            #[inline(always)]
            fn neighbour(key: &NeighbourKey<Self>) -> Option<*mut Neighbour> {
                maps::$neighbours.get_ptr_mut(key)
            }

            #[inline(always)]
            fn local(address: Self) -> Option<*mut Local> {
                maps::$locals.get_ptr_mut(address)
            }

            #[inline(always)]
            fn subnet(address: Self) -> Option<Subnet> {
                use bascule_common::abi::Address as _;
                maps::$subnets.get(&Key::new(<$family>::BITS, address)).copied()
            }

            #[inline(always)]
            fn recent(place: u32) -> Option<*mut Recent<Self>> {
                maps::$recent.get_ptr_mut(place)
            }

            #[inline(always)]
            fn scratch() -> Option<*mut Entries<Self>> {
                maps::$scratch.get_ptr_mut(0)
            }
        }
    };
}
stored!(Ip4: FLOWS4 by (|key| Words::of(key).0), OPENED4, FRAGMENTS4, NEIGHBOURS4, LOCALS4, SUBNETS4, SCRATCH4, RECENT4, TRAFFIC4);
stored!(Ip6: FLOWS6 by core::convert::identity, OPENED6, FRAGMENTS6, NEIGHBOURS6, LOCALS6, SUBNETS6, SCRATCH6, RECENT6, TRAFFIC6);

// Values that the agent writes are read in place: the memory stays valid until the program ends (RCU), and
// nothing is cached by the compiler across the helper calls between the reads. The agent replaces array
// slots field by field: what a reader can see is a mix of the old and the new value for one packet, and
// generations reject a mix that concerns another endpoint. Flows and fragments, which packets write and
// the LRU recycles, are copied at once.
impl<A: Stored> Tables<A> for Maps {
    type Ref<T: Copy + 'static> = &'static T;
    type Scratch = &'static mut Entries<A>;
    type Recent = &'static mut Recent<A>;

    #[inline(always)]
    fn recent(&self, place: u32) -> Option<&'static mut Recent<A>> {
        // SAFETY: this CPU's own slot, valid until the program ends; no two of these programs run on one CPU at a
        // time, and a part of a walk asks for one slot once.
        A::recent(place).map(|slot| unsafe { &mut *slot })
    }

    #[inline(always)]
    fn restarts(&self, place: u32) -> u32 {
        maps::RESTARTS.get(place).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn restart(&self, place: u32) {
        if let Some(count) = maps::RESTARTS.get_ptr_mut(place) {
            // SAFETY: valid until the program ends. Of two CPUs that count at once either one's value is another.
            unsafe { count.write_volatile((*count).wrapping_add(1)) };
        }
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&'static mut Entries<A>> {
        let entries = A::scratch()?;
        // SAFETY: this CPU's own slot, valid until the program ends; no two of these programs run on
        // one CPU at a time, and a program asks for it once.
        unsafe {
            *entries = Entries::default();
            Some(&mut *entries)
        }
    }

    #[inline(always)]
    fn config(&self) -> Option<&'static Config> {
        maps::CONFIG.get(0)
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: u32) -> Option<&'static Endpoint> {
        let endpoint = if ifindex < map::ENDPOINTS_LEN {
            aligned(maps::ENDPOINTS.get(ifindex)?)
        } else {
            // SAFETY: see above.
            aligned(unsafe { maps::ENDPOINTS_HI.get(ifindex) }?)
        };
        (endpoint.endpoint != 0).then_some(endpoint)
    }

    #[inline(always)]
    fn neighbour(&self, network: u32, address: A) -> Option<&'static Neighbour> {
        // SAFETY: see above.
        A::neighbour(&NeighbourKey { network, address })
            .map(|neighbour| aligned(unsafe { &*neighbour }))
    }

    #[inline(always)]
    fn network(&self, index: u32) -> Option<&'static Network> {
        let network = maps::NETWORKS.get(index)?;
        (network.flags & Network::PRESENT != 0).then_some(network)
    }

    #[inline(always)]
    fn generation(&self, endpoint: u32) -> u32 {
        maps::GENERATIONS.get(endpoint).copied().unwrap_or(0) as u32
    }

    #[inline(always)]
    fn local(&self, address: A) -> Option<Local> {
        // SAFETY: copied at once; see above.
        A::local(address).map(|local| unsafe { *local })
    }

    #[inline(always)]
    fn subnet(&self, address: A) -> Option<Subnet> {
        A::subnet(address)
    }

    #[inline(always)]
    fn uplink(&self, ifindex: u32) -> Option<&'static Uplink> {
        // SAFETY: see above.
        unsafe { maps::UPLINKS.get(ifindex) }
    }

    #[inline(always)]
    fn linked(&self, key: &LinkKey) -> bool {
        maps::LINKS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn published(&self, table: u32, slot: u32) -> u32 {
        maps::PORTS.get_value(table, &slot).map_or(0, |slot| slot.rule)
    }

    #[inline(always)]
    fn served(&self, key: &ServedKey) -> u32 {
        const WHOLE: u32 = ServedKey::FIXED_BITS + 16;
        maps::SERVED.get(&Key::new(WHOLE, *key)).copied().unwrap_or(0) as u32
    }

    #[inline(always)]
    fn trusted(&self, key: &TrustKey) -> bool {
        maps::TRUSTED.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn stands_for(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: see above.
        unsafe { maps::BRIDGES.get(ifindex) }.map(|index| *index as u32)
    }

    #[inline(always)]
    fn may_answer(&self) -> bool {
        take_token(&maps::ANSWER_TOKENS, ANSWERS)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<&'static Rule> {
        maps::RULES.get(index)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey<A>) -> Option<Flow<A>> {
        // SAFETY: copied at once; see above.
        A::flow(key).map(|flow| unsafe { *flow })
    }

    #[inline(always)]
    fn copy_flow(&self, key: &FlowKey<A>, to: &mut Flow<A>) -> bool {
        let Some(flow) = A::flow(key) else { return false };
        // SAFETY: both are whole values, valid until the program ends; `to` is of another map or of the caller.
        unsafe { core::ptr::copy_nonoverlapping(flow, core::ptr::from_mut(to), 1) };
        true
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        inserted(A::put_flow(key, flow, BPF_NOEXIST))
    }

    #[inline(always)]
    fn replace_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        inserted(A::put_flow(key, flow, BPF_ANY))
    }

    #[inline(always)]
    fn remember_opened(&self, key: &FlowKey<A>, places: u32, former: &mut FlowKey<A>) -> bool {
        let Some(counts) = maps::OPENED.get_ptr_mut(0) else { return false };
        // SAFETY: valid until the program ends, and aligned.
        let number =
            unsafe { take_number((&raw mut (*counts)[usize::from(A::BITS != 32)]).cast()) };
        let Some(place) = A::opened((number as u32).checked_rem(places).unwrap_or(0)) else {
            return false;
        };
        // SAFETY: valid until the program ends. Of two CPUs that have gone round to one place at the same moment, a key
        // may become a mix: of no flow, or of one that may go as well.
        unsafe {
            *former = *place;
            *place = *key;
        }
        former.proto != 0
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey<A>) {
        A::remove_flow(key);
    }

    #[inline(always)]
    fn touch_flow(&self, key: &FlowKey<A>, peer: &FlowKey<A>, touch: Touch) -> bool {
        let Some(flow) = A::flow(key) else { return false };
        // SAFETY: the pointer is valid until the program ends. Two CPUs may write at once: the last
        // one's state stands until the next packet of the flow sets it right.
        unsafe {
            let Some((last_seen, state)) = touch.of(&*flow, peer) else { return false };
            (*flow).last_seen = last_seen;
            (*flow).state = state;
        }
        true
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        // SAFETY: copied at once; see above.
        A::fragment(key).map(|ports| unsafe { *ports })
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey<A>, ports: FragmentPorts) {
        A::put_fragment(key, &ports);
    }

    #[inline(always)]
    fn count_traffic(&self, key: &FlowKey<A>, packets: u32, bytes: u32, flags: u64) {
        // SAFETY: no arguments.
        let now = unsafe { bpf::bpf_ktime_get_coarse_ns() };
        let mut found = A::traffic(key);
        if found.is_none() {
            A::begin_traffic(key, &Traffic { first: now, ..Traffic::default() });
            found = A::traffic(key).or_else(|| A::traffic(&FlowKey::default()));
        }
        let Some(traffic) = found else { return };
        // SAFETY: valid until the program ends: an entry that is removed meanwhile is not given to another before.
        // The sums are added to whole, by whatever CPUs; of two CPUs that write the others at once either one's stay,
        // and the next packet sets them right.
        unsafe {
            if (*traffic).flags & OVER != 0 && flags & u64::from(tcp::SYN) != 0 {
                // The same ports again.
                *traffic = Traffic { first: now, ..Traffic::default() };
            }
            add_shared(&raw mut (*traffic).packets, packets);
            add_shared(&raw mut (*traffic).bytes, bytes);
            (*traffic).last = now;
            (*traffic).flags |= flags;
        }
    }

    #[inline(always)]
    fn chosen(&self, slot: u32) -> Option<&'static Chosen> {
        maps::CHOSEN.get(slot)
    }

    #[inline(always)]
    fn count_endpoint(&self, endpoint: u32, direction: Direction, packets: u32, bytes: u32) {
        if let Some(counters) = maps::ENDPOINT_STATS.get_ptr_mut(endpoint) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            let count = unsafe {
                match direction {
                    Direction::In => &raw mut (*counters).received,
                    Direction::Out => &raw mut (*counters).sent,
                }
            };
            add(count, packets, bytes);
        }
    }

    #[inline(always)]
    fn count_rule(&self, rule: u32, direction: Direction, packets: u32, bytes: u32) {
        if let Some(counters) = maps::RULE_STATS.get_ptr_mut(rule) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            let count = unsafe {
                match direction {
                    Direction::In => &raw mut (*counters).received,
                    Direction::Out => &raw mut (*counters).sent,
                }
            };
            add(count, packets, bytes);
        }
    }

    #[inline(always)]
    fn count_connection(&self, rule: u32) {
        if let Some(counters) = maps::RULE_STATS.get_ptr_mut(rule) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            unsafe { (*counters).connections = (*counters).connections.wrapping_add(1) };
        }
    }

    #[inline(always)]
    fn count(&self, stat: Stat) {
        count(stat);
    }
}

/// Counts something of the data plane as a whole.
#[inline(always)]
pub fn count(stat: Stat) {
    if let Some(counter) = maps::STATS.get_ptr_mut(stat as u32) {
        // SAFETY: this CPU's own slot, valid until the program ends.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// Adds to a counter of this CPU's.
#[inline(always)]
fn add(count: *mut Count, packets: u32, bytes: u32) {
    // SAFETY: callers pass this CPU's own slot, valid until the program ends.
    unsafe {
        (*count).packets = (*count).packets.wrapping_add(u64::from(packets));
        (*count).bytes = (*count).bytes.wrapping_add(u64::from(bytes));
    }
}

/// Adds to a number that other CPUs add to at the same time.
///
/// # Safety
/// `at` is aligned, and valid until the program ends.
#[inline(always)]
unsafe fn add_shared(at: *mut u64, more: u32) {
    // The target has no atomic additions in `core`, since it has no compare-and-swap everywhere.
    // SAFETY: one addition at the address, which the caller vouches for.
    unsafe {
        asm!("lock *(u64 *)({at} + 0) += {more}", at = in(reg) at, more = in(reg) u64::from(more));
    }
}

/// Takes the next number of a count that other CPUs take from at the same time.
///
/// # Safety
/// `at` is aligned, and valid until the program ends.
#[inline(always)]
unsafe fn take_number(at: *mut u64) -> u64 {
    let mut number = 1_u64;
    // SAFETY: one exchange with the address, which the caller vouches for.
    unsafe {
        asm!(
            "{number} = atomic_fetch_add((u64 *)({at} + 0), {number})",
            at = in(reg) at,
            number = inout(reg) number,
        );
    }
    number
}

/// Counts a dropped packet.
#[inline(always)]
pub fn count_drop(key: &DropKey, packets: u32, bytes: u32) {
    if let Some(count) = maps::DROPS.get_ptr_mut(key) {
        add(count, packets, bytes);
        return;
    }
    let first = Count { packets: u64::from(packets), bytes: u64::from(bytes) };
    // The other CPUs' slots start at 0. Another program on this CPU cannot have come between: softirqs
    // do not nest.
    let _ = maps::DROPS.insert(key, first, u64::from(BPF_NOEXIST));
}

/// Takes a token of this CPU's bucket, refilled once for each unit of the coarse clock.
#[inline(always)]
pub fn take_token(buckets: &maps::Tokens, refill: u64) -> bool {
    let Some(bucket) = buckets.get_ptr_mut(0) else { return false };
    // SAFETY: no arguments.
    let now = unsafe { bpf::bpf_ktime_get_coarse_ns() } >> CLOCK_SHIFT;
    // SAFETY: this CPU's own slot, valid until the program ends.
    let [tokens, filled] = unsafe { &mut *bucket };
    if *filled != now {
        *filled = now;
        *tokens = refill;
    }
    if *tokens == 0 {
        return false;
    }
    *tokens = tokens.wrapping_sub(1);
    true
}
