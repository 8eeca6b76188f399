//! How large the maps are that grow with the host: computed from its memory and CPUs, or configured.

use std::{collections::BTreeMap, fmt, fs};

use bascule_common::abi::{self, names::map};
use serde::Serialize;

use super::layout::Geometry;

/// What sizes are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// RAM, in bytes.
    pub memory: u64,
    /// CPUs that may ever be online: what per-CPU maps allocate for.
    pub cpus: u64,
}

impl Host {
    /// Reads `/proc/meminfo` and the kernel's list of possible CPUs.
    pub fn read() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        Self {
            // An unreadable /proc makes small maps, not none.
            memory: memory.unwrap_or(1 << 30),
            cpus: aya::util::nr_cpus().map_or(1, |count| count as u64),
        }
    }
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Sizes that an operator sets; the rest is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Tracked connections (two entries each).
    pub connections: Option<u32>,
    /// Published rules that have counters.
    pub counted_rules: Option<u32>,
    /// Bytes of the ring of events.
    pub event_bytes: Option<u32>,
}

/// Entries of the maps that are sized by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Entries of `FLOWS4`: two a connection.
    pub flows: u32,
    /// Entries of `FRAGMENTS4`.
    pub fragments: u32,
    /// Entries of `SOCKETS`.
    pub sockets: u32,
    /// Entries of `RULE_STATS`: rules past it work, uncounted.
    pub counted_rules: u32,
    /// Entries of `DROPS`: one for each endpoint, reason and direction.
    pub drops: u32,
    /// Bytes of `EVENTS`.
    pub event_bytes: u32,
}

impl Sizes {
    /// The sizes for a host: connections may take a 128th of its memory, counters of rules a 100th.
    pub fn new(host: Host, wanted: Wanted) -> Self {
        // One entry: 48 bytes of the kernel's, 16 of key, 64 of value, 16 of bucket.
        let flows = power_of_two(host.memory / 128 / 144).clamp(1 << 15, 1 << 21);
        let per_rule = 8 + 40 * host.cpus.max(1);
        let counted_rules =
            power_of_two(host.memory / 100 / per_rule).clamp(1 << 12, map::RULES_LEN);
        Self {
            flows: wanted.connections.map_or(flows, |count| {
                count.saturating_mul(2).clamp(1 << 10, 1 << 24).next_power_of_two()
            }),
            fragments: (flows / 32).clamp(1 << 12, 1 << 16),
            sockets: (flows / 16).clamp(1 << 12, 1 << 17),
            drops: power_of_two(host.memory / 400 / (80 + 16 * host.cpus.max(1)))
                .clamp(1 << 12, 1 << 16),
            counted_rules: wanted.counted_rules.unwrap_or(counted_rules).clamp(1, map::RULES_LEN),
            event_bytes: wanted
                .event_bytes
                .unwrap_or(1 << 20)
                .clamp(1 << 16, 1 << 28)
                .next_power_of_two(),
        }
    }

    /// The size of a map, if it is one of the sized ones.
    pub fn of(&self, name: &str) -> Option<u32> {
        match name {
            map::FLOWS4 => Some(self.flows),
            map::FLOWS6 => Some(self.flows / 2),
            map::FRAGMENTS4 | map::FRAGMENTS6 => Some(self.fragments),
            map::SOCKETS => Some(self.sockets),
            map::RULE_STATS => Some(self.counted_rules),
            map::DROPS => Some(self.drops),
            map::EVENTS => Some(self.event_bytes),
            _ => None,
        }
    }
}

/// Half-open flows of either family that tables of connections of these sizes take: a quarter of what has room there.
pub fn half_open(flows: [u32; 2]) -> [u32; 2] {
    flows.map(|entries| (entries / 8).clamp(1, abi::Config::HALF_OPEN))
}

fn power_of_two(number: u64) -> u32 {
    let number = number.clamp(1, 1 << 31);
    1 << number.ilog2()
}

/// What every map takes.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Entries and bytes by map, the largest first.
    pub maps: Vec<MapMemory>,
    /// Bytes of all of them.
    pub total: u64,
}

/// What one map takes.
#[derive(Clone, Debug, Serialize)]
pub struct MapMemory {
    /// The map.
    pub name: &'static str,
    /// Most entries.
    pub entries: u32,
    /// Bytes from the start on.
    pub bytes: u64,
}

impl Memory {
    /// Adds up the geometries.
    pub fn of(maps: &BTreeMap<&'static str, Geometry>, host: Host) -> Self {
        let mut maps: Vec<_> = maps
            .iter()
            .map(|(name, geometry)| MapMemory {
                name,
                entries: geometry.max_entries,
                bytes: geometry.memory(host.cpus),
            })
            .collect();
        maps.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(b.name)));
        let total = maps.iter().map(|map| map.bytes).sum();
        Self { maps, total }
    }
}

impl fmt::Display for Memory {
    /// One line: the total, and whatever makes up more than a megabyte of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB of maps", self.total as f64 / f64::from(1 << 20))?;
        let large = self.maps.iter().filter(|map| map.bytes >= 1 << 20);
        for (position, map) in large.enumerate() {
            let separator = if position == 0 { ": " } else { ", " };
            let size = map.bytes as f64 / f64::from(1 << 20);
            write!(f, "{separator}{} {} entries {size:.1} MiB", map.name, map.entries)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn sizes_grow_with_the_host_within_bounds() {
        let of = |memory, cpus| Sizes::new(Host { memory, cpus }, Wanted::default());
        assert_eq!(of(GIB / 2, 1).flows, 1 << 15);
        assert_eq!(of(8 * GIB, 4).flows, 1 << 18);
        assert_eq!(of(1024 * GIB, 128).flows, 1 << 21);
        assert_eq!(of(24 * GIB, 2).counted_rules, map::RULES_LEN);
        // 64 CPUs would need 670 MB for every rule: more than a hundredth of 32 GB.
        assert_eq!(of(32 * GIB, 64).counted_rules, 1 << 17);
    }

    #[test]
    fn configured_sizes_win_and_stay_possible() {
        let wanted =
            Wanted { connections: Some(100_000), counted_rules: Some(0), event_bytes: Some(5) };
        let sizes = Sizes::new(Host { memory: GIB, cpus: 2 }, wanted);
        assert_eq!((sizes.flows, sizes.counted_rules, sizes.event_bytes), (1 << 18, 1, 1 << 16));
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(total("MemTotal:       24683816 kB\nMemFree: 1 kB\n"), Some(24_683_816 << 10));
        assert_eq!(total("nonsense"), None);
    }
}
