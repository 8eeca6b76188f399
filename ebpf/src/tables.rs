//! [`Tables`] over the maps: the only place that touches map memory.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use bascule_common::{
    abi::{
        Config, Count, Direction, DropKey, Endpoint, Flow4, FlowKey4, FragmentKey4, FragmentPorts,
        Ip4, LinkKey, Local, Neighbour, NeighbourKey4, Network, Rule, Stat, Subnet, Uplink,
        names::map,
    },
    datapath::conntrack::Entries,
    io::{Inserted, Tables},
};

use crate::maps;

/// The maps of this object.
pub struct Maps;

const EEXIST: i32 = -17;
/// Bits of an IPv4 address.
const HOST_PREFIX: u32 = 32;

#[inline(always)]
fn inserted(result: Result<(), i32>) -> Inserted {
    match result {
        Ok(()) => Inserted::Yes,
        Err(EEXIST) => Inserted::Exists,
        Err(_) => Inserted::Full,
    }
}

// Values that the agent writes are read in place: the memory stays valid until the program ends (RCU), and
// nothing is cached by the compiler across the helper calls between the reads. The agent replaces array
// slots field by field: what a reader can see is a mix of the old and the new value for one packet, and
// generations reject a mix that concerns another endpoint. Flows and fragments, which packets write and
// the LRU recycles, are copied at once.
impl Tables for Maps {
    type Ref<T: Copy + 'static> = &'static T;
    type Scratch = &'static mut Entries;

    #[inline(always)]
    fn scratch(&self) -> Option<&'static mut Entries> {
        let entries = maps::SCRATCH.get_ptr_mut(0)?;
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
            maps::ENDPOINTS.get(ifindex)?
        } else {
            // SAFETY: see above.
            unsafe { maps::ENDPOINTS_HI.get(ifindex) }?
        };
        (endpoint.endpoint != 0).then_some(endpoint)
    }

    #[inline(always)]
    fn neighbour(&self, network: u32, ip4: Ip4) -> Option<&'static Neighbour> {
        // SAFETY: see above.
        unsafe { maps::NEIGHBOURS4.get(NeighbourKey4 { network, address: ip4 }) }
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
    fn local(&self, ip4: Ip4) -> Option<Local> {
        // SAFETY: copied at once; see above.
        unsafe { maps::LOCALS4.get(ip4) }.copied()
    }

    #[inline(always)]
    fn subnet(&self, ip4: Ip4) -> Option<Subnet> {
        maps::SUBNETS4.get(&aya_ebpf::btf_maps::lpm_trie::Key::new(HOST_PREFIX, ip4)).copied()
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
    fn rule(&self, index: u32) -> Option<&'static Rule> {
        maps::RULES.get(index)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey4) -> Option<Flow4> {
        // SAFETY: copied at once; see above.
        unsafe { maps::FLOWS4.get(key) }.copied()
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey4, flow: &Flow4) -> Inserted {
        inserted(maps::FLOWS4.insert(key, flow, u64::from(BPF_NOEXIST)))
    }

    #[inline(always)]
    fn replace_flow(&self, key: &FlowKey4, flow: &Flow4) -> Inserted {
        inserted(maps::FLOWS4.insert(key, flow, u64::from(BPF_ANY)))
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey4) {
        // Absent is as good as removed.
        let _ = maps::FLOWS4.remove(key);
    }

    #[inline(always)]
    fn touch_flow(&self, key: &FlowKey4, now: u32, clear: u8, set: u8) {
        if let Some(flow) = maps::FLOWS4.get_ptr_mut(key) {
            // SAFETY: the pointer is valid until the program ends. Two CPUs may write at once: the last
            // one's state stands until the next packet of the flow sets it right.
            unsafe {
                (*flow).last_seen = now;
                (*flow).state = ((*flow).state & !clear) | set;
            }
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey4) -> Option<FragmentPorts> {
        // SAFETY: copied at once; see above.
        unsafe { maps::FRAGMENTS4.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey4, ports: FragmentPorts) {
        // A table that refuses is seen when the next fragment is not found, and named then.
        let _ = maps::FRAGMENTS4.insert(key, ports, u64::from(BPF_ANY));
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
        if let Some(counter) = maps::STATS.get_ptr_mut(stat as u32) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            unsafe { *counter = (*counter).wrapping_add(1) };
        }
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
