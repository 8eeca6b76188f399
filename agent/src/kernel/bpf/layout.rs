//! Geometry of maps: what the object asks for, what the kernel has, and what they cost. Which sizes are
//! wanted on this host is said in `sizes`.

use std::{collections::BTreeMap, fmt};

use aya_obj::generated::bpf_map_type::{self, *};
use bascule_common::abi::{
    Chosen, Config, Count, Denied, DropKey, Endpoint, EndpointCounters, Flow4, Flow6, FlowKey4,
    FlowKey6, FragmentKey4, FragmentKey6, FragmentPorts, Ip4, Ip6, LinkKey, Local, Neighbour,
    NeighbourKey4, NeighbourKey6, Network, PortSlot, QuestionKey, Rule, RuleCounters, SocketKey,
    SocketOrigin, Stat, Subnet, Tally, Traffic, TrustKey, Uplink, deny, names::map, service,
};

use super::{
    BpfError,
    sys::MapInfo,
    tables::{Prefix4, Prefix6, ServedPrefix},
};

/// `BPF_F_NO_PREALLOC`.
const SPARSE: u32 = 1;
/// `BPF_F_MMAPABLE`.
pub(super) const MAPPED: u32 = 1 << 10;

/// Everything that two maps have to share to be exchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of the type (`enum bpf_map_type`).
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_...`.
    pub flags: u32,
}

impl Geometry {
    const fn new<K, V>(kind: bpf_map_type, max_entries: u32, flags: u32) -> Self {
        Self {
            kind: kind as u32,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
        }
    }

    /// Whether the two differ in their number of entries at most.
    pub const fn same_layout(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.key_size == other.key_size
            && self.value_size == other.value_size
            && self.flags == other.flags
    }

    /// Kernel memory that the map takes when it is made, in bytes, on so many possible CPUs. What a
    /// sparse hash takes per entry in use comes on top.
    pub fn memory(&self, cpus: u64) -> u64 {
        let entries = u64::from(self.max_entries);
        let key = u64::from(self.key_size.next_multiple_of(8));
        let value = u64::from(self.value_size.next_multiple_of(8));
        // A bucket is 16 bytes, an element has 48 in front of its key.
        let buckets = entries.next_power_of_two() * 16;
        let is = |kind: bpf_map_type| self.kind == kind as u32;
        if is(BPF_MAP_TYPE_ARRAY) || is(BPF_MAP_TYPE_ARRAY_OF_MAPS) {
            entries * value
        } else if is(BPF_MAP_TYPE_PERCPU_ARRAY) {
            entries * (8 + value * cpus)
        } else if is(BPF_MAP_TYPE_RINGBUF) {
            entries
        } else if is(BPF_MAP_TYPE_LPM_TRIE) {
            0
        } else if is(BPF_MAP_TYPE_SOCKMAP) {
            entries * 8
        } else if self.flags & SPARSE != 0 {
            buckets
        } else if is(BPF_MAP_TYPE_PERCPU_HASH) {
            buckets + entries * (56 + key + value * cpus)
        } else {
            buckets + entries * (48 + key + value)
        }
    }
}

impl From<MapInfo> for Geometry {
    fn from(info: MapInfo) -> Self {
        Self {
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
        }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key_size, value_size, max_entries, flags } = self;
        write!(
            f,
            "type {kind}, key {key_size} B, value {value_size} B, {max_entries} entries, flags {flags:#x}"
        )
    }
}

/// What the types of the ABI say about every map. The object's own definitions are compared with it.
pub fn expected() -> BTreeMap<&'static str, Geometry> {
    let array = BPF_MAP_TYPE_ARRAY;
    let per_cpu = BPF_MAP_TYPE_PERCPU_ARRAY;
    let hash = BPF_MAP_TYPE_HASH;
    let lru = BPF_MAP_TYPE_LRU_HASH;
    BTreeMap::from([
        (map::CONFIG, Geometry::new::<u32, Config>(array, 1, 0)),
        (map::ENDPOINTS, Geometry::new::<u32, Endpoint>(array, map::ENDPOINTS_LEN, MAPPED)),
        (map::ENDPOINTS_HI, Geometry::new::<u32, Endpoint>(hash, 65_536, SPARSE)),
        (map::NEIGHBOURS4, Geometry::new::<NeighbourKey4, Neighbour>(hash, 131_072, SPARSE)),
        (map::NETWORKS, Geometry::new::<u32, Network>(array, map::NETWORKS_LEN, MAPPED)),
        (map::GENERATIONS, Geometry::new::<u32, u64>(array, map::ENDPOINT_INDICES, MAPPED)),
        (map::LOCALS4, Geometry::new::<Ip4, Local>(hash, 16_384, SPARSE)),
        (map::SUBNETS4, Geometry::new::<Prefix4, Subnet>(BPF_MAP_TYPE_LPM_TRIE, 8_192, SPARSE)),
        (map::NEIGHBOURS6, Geometry::new::<NeighbourKey6, Neighbour>(hash, 131_072, SPARSE)),
        (map::LOCALS6, Geometry::new::<Ip6, Local>(hash, 16_384, SPARSE)),
        (map::SUBNETS6, Geometry::new::<Prefix6, Subnet>(BPF_MAP_TYPE_LPM_TRIE, 8_192, SPARSE)),
        (map::SERVED, Geometry::new::<ServedPrefix, u64>(BPF_MAP_TYPE_LPM_TRIE, 262_144, SPARSE)),
        (map::TRUSTED, Geometry::new::<TrustKey, u64>(hash, 4_096, SPARSE)),
        (map::BRIDGES, Geometry::new::<u32, u64>(hash, map::NETWORKS_LEN, SPARSE)),
        (map::UPLINKS, Geometry::new::<u32, Uplink>(hash, 4_096, SPARSE)),
        (map::LINKS, Geometry::new::<LinkKey, u64>(hash, 65_536, SPARSE)),
        (map::PORTS, Geometry::new::<u32, u32>(BPF_MAP_TYPE_ARRAY_OF_MAPS, service::TABLES, 0)),
        (map::RULES, Geometry::new::<u32, Rule>(array, map::RULES_LEN, MAPPED)),
        (map::FLOWS4, Geometry::new::<FlowKey4, Flow4>(lru, 262_144, 0)),
        (map::FLOWS6, Geometry::new::<FlowKey6, Flow6>(lru, 131_072, 0)),
        (map::FRAGMENTS4, Geometry::new::<FragmentKey4, FragmentPorts>(lru, 8_192, 0)),
        (map::FRAGMENTS6, Geometry::new::<FragmentKey6, FragmentPorts>(lru, 8_192, 0)),
        (
            map::ENDPOINT_STATS,
            Geometry::new::<u32, EndpointCounters>(per_cpu, map::ENDPOINT_INDICES, 0),
        ),
        (map::RULE_STATS, Geometry::new::<u32, RuleCounters>(per_cpu, map::RULES_LEN, 0)),
        (map::DROPS, Geometry::new::<DropKey, Count>(BPF_MAP_TYPE_PERCPU_HASH, 65_536, 0)),
        (map::STATS, Geometry::new::<u32, u64>(per_cpu, Stat::COUNT, 0)),
        (map::EVENTS, Geometry::new::<(), ()>(BPF_MAP_TYPE_RINGBUF, 1 << 20, 0)),
        (map::EVENT_TOKENS, Geometry::new::<u32, [u64; 2]>(per_cpu, 1, 0)),
        (map::COLLECTED, Geometry::new::<u32, [u64; 2]>(array, 1, 0)),
        (map::SOCKETS, Geometry::new::<SocketKey, SocketOrigin>(lru, 65_536, 0)),
        (map::PROXIES, Geometry::new::<u32, u32>(BPF_MAP_TYPE_SOCKMAP, map::PROXIES_LEN, 0)),
        (map::DENY4, Geometry::new::<Prefix4, Denied>(BPF_MAP_TYPE_LPM_TRIE, deny::SLOTS, SPARSE)),
        (map::DENY6, Geometry::new::<Prefix6, Denied>(BPF_MAP_TYPE_LPM_TRIE, deny::SLOTS, SPARSE)),
        (map::DENY_STATS, Geometry::new::<u32, Count>(per_cpu, deny::SLOTS, 0)),
        (map::DENY_LATE, Geometry::new::<u32, u64>(array, 1, 0)),
        (map::TRAFFIC4, Geometry::new::<FlowKey4, Traffic>(hash, 65_536, SPARSE)),
        (map::TRAFFIC6, Geometry::new::<FlowKey6, Traffic>(hash, 65_536, SPARSE)),
        (map::CHOSEN, Geometry::new::<u32, Chosen>(array, Chosen::SLOTS, 0)),
        (map::TALLIES, Geometry::new::<u32, u64>(array, Tally::SLOTS, 0)),
        (map::QUESTIONS, Geometry::new::<QuestionKey, u64>(hash, 16_384, SPARSE)),
    ])
}

/// A table of published ports, as the template in the object has it.
pub(super) const PORT_TABLE: Geometry =
    Geometry::new::<u32, PortSlot>(BPF_MAP_TYPE_ARRAY, service::SLOTS, MAPPED);

/// What the object asks for, for every map whose name we know.
pub fn of_object(object: &[u8]) -> Result<BTreeMap<&'static str, Geometry>, BpfError> {
    let object = aya_obj::Object::parse(object).map_err(|e| BpfError::Object(e.to_string()))?;
    Ok(map::ALL
        .into_iter()
        .filter_map(|name| {
            let map = object.maps.get(name)?;
            let ring = map.map_type() == BPF_MAP_TYPE_RINGBUF as u32;
            let geometry = Geometry {
                kind: map.map_type(),
                key_size: if ring { 0 } else { map.key_size() },
                value_size: if ring { 0 } else { map.value_size() },
                max_entries: map.max_entries(),
                flags: map.map_flags(),
            };
            Some((name, geometry))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_map_of_the_abi() {
        let mut names = map::ALL.to_vec();
        names.sort_unstable();
        assert_eq!(expected().into_keys().collect::<Vec<_>>(), names);
    }

    #[test]
    fn the_object_agrees_with_the_types() {
        let expected = expected();
        for (name, found) in of_object(super::super::object::OBJECT).expect("the object parses") {
            assert!(
                expected[name].same_layout(&found),
                "{name}: the object has {found}, the types say {}",
                expected[name]
            );
        }
    }
}
