//! The maps and programs as they are in the kernel, for people who look.

use std::{collections::BTreeMap, fmt::Debug, fs, os::fd::AsRawFd as _, path::PathBuf};

use aya::Pod;
use bascule_common::abi::names::map;

use super::{
    BpfError, Hash, Programs,
    bpffs::Pins,
    error::pin,
    layout::Geometry,
    map::{Slots, Table as _},
    sys::{self, Kind},
    tables::Tables,
};

/// Names of the types of maps that we have (`enum bpf_map_type`).
const KINDS: [(u32, &str); 9] = [
    (1, "hash"),
    (2, "array"),
    (5, "percpu_hash"),
    (6, "percpu_array"),
    (9, "lru_hash"),
    (11, "lpm_trie"),
    (12, "array_of_maps"),
    (15, "sockmap"),
    (27, "ringbuf"),
];

/// A map in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenMap {
    /// Its name.
    pub name: &'static str,
    /// Name of its type.
    pub kind: &'static str,
    /// Its sizes.
    pub geometry: Geometry,
    /// Entries in use, where they can be counted.
    pub entries: Option<u64>,
    /// Bytes of kernel memory.
    pub bytes: u64,
}

/// One entry of a map, as its fields.
pub type ShownEntry = (String, String);

/// Describes every map that is pinned.
pub fn maps(pins: &Pins, tables: &Tables) -> Result<Vec<SeenMap>, BpfError> {
    let mut used = tables.pressure()?;
    for (name, flows) in
        [(map::FLOWS4, tables.flows4.count()?), (map::FLOWS6, tables.flows6.count()?)]
    {
        used.insert(name, (flows, 0));
    }
    let seen = |name: &'static str| {
        let path = pins.map(name);
        let fd = sys::object_get(&path, Kind::Map).map_err(pin("open the map pinned at", &path))?;
        let info = sys::map_info(&fd);
        let info = info.map_err(|source| BpfError::Map { what: "describe", name, source })?;
        let geometry = Geometry::from(info);
        let bytes = locked(fd.as_raw_fd()).unwrap_or_else(|| geometry.memory(1));
        let kind = KINDS.iter().find(|(number, _)| *number == geometry.kind);
        Ok(SeenMap {
            name,
            kind: kind.map_or("other", |(_, name)| name),
            geometry,
            entries: used.get(name).map(|(used, _)| *used as u64),
            bytes,
        })
    };
    map::ALL.into_iter().map(seen).collect()
}

/// Bytes that the kernel accounts for a descriptor's object.
fn locked(fd: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

/// Describes every program that is loaded, in the kernel's words: type, tag, memory, instructions that the verifier
/// saw, runs where they are counted.
pub fn programs(programs: &Programs) -> Result<BTreeMap<String, String>, BpfError> {
    const FILE_STATE: [&str; 4] = ["pos", "flags", "mnt_id", "ino"];
    let describe = |(name, program): (&str, &super::Program)| {
        let path = PathBuf::from(format!("/proc/self/fdinfo/{}", program.fd().as_raw_fd()));
        let text = fs::read_to_string(&path).map_err(pin("read", &path))?;
        let own = |line: &&str| !FILE_STATE.iter().any(|key| line.starts_with(key));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text.lines().filter(own).map(words).collect();
        Ok((name.to_owned(), lines.join(", ")))
    };
    programs.iter().map(describe).collect()
}

/// Reads the entries of a map as their fields; none for a map that nobody knows, and for those whose entries are
/// no data (rings, sockets).
pub fn entries(tables: &Tables, name: &str) -> Result<Option<Vec<ShownEntry>>, BpfError> {
    fn hash<K: Pod + Ord + Debug, V: Pod + Debug>(
        of: &Hash<K, V>,
    ) -> Result<Vec<ShownEntry>, BpfError> {
        let mut shown = Vec::new();
        of.for_each(|key, value| shown.push((format!("{key:?}"), format!("{value:?}"))))?;
        Ok(shown)
    }
    fn slots<V: Pod + PartialEq + Debug>(of: &Slots<V>) -> Result<Vec<ShownEntry>, BpfError> {
        let all = of.all()?;
        Ok(all.into_iter().map(|(k, v)| (k.to_string(), format!("{v:?}"))).collect())
    }
    let mut shown = match name {
        map::CONFIG => slots(&tables.config)?,
        map::NETWORKS => slots(&tables.networks)?,
        map::GENERATIONS => slots(&tables.generations)?,
        map::RULES => slots(&tables.rules)?,
        map::TALLIES => slots(&tables.tallies.slots)?,
        map::QUESTIONS => hash(&tables.tallies.questions)?,
        map::DENY_LATE => slots(&tables.deny.late)?,
        map::NEIGHBOURS4 => hash(&tables.neighbours4)?,
        map::NEIGHBOURS6 => hash(&tables.neighbours6)?,
        map::LOCALS4 => hash(&tables.locals4)?,
        map::LOCALS6 => hash(&tables.locals6)?,
        map::SUBNETS4 => hash(&tables.subnets4)?,
        map::SUBNETS6 => hash(&tables.subnets6)?,
        map::TRUSTED => hash(&tables.trusted)?,
        map::BRIDGES => hash(&tables.bridges)?,
        map::UPLINKS => hash(&tables.uplinks)?,
        map::LINKS => hash(&tables.links)?,
        map::SERVED => hash(&tables.served)?,
        map::DENY4 => hash(&tables.deny.v4)?,
        map::DENY6 => hash(&tables.deny.v6)?,
        map::ENDPOINTS => all(tables.endpoints.all()?),
        map::PORTS => all(tables.ports.all()?),
        map::DROPS => all(tables.drops.all()?),
        map::ENDPOINT_STATS => all(tables.endpoint_counters.all()?),
        map::RULE_STATS => all(tables.rule_counters.all()?),
        map::STATS => all(tables.stats.all()?),
        map::FLOWS4 | map::FLOWS6 => {
            let mut shown = Vec::new();
            let mut add = |key: &dyn Debug, flow: &dyn Debug| {
                shown.push((format!("{key:?}"), format!("{flow:?}")));
            };
            if name == map::FLOWS4 {
                tables.flows4.for_each(|key, flow| add(&key, &flow))?;
            } else {
                tables.flows6.for_each(|key, flow| add(&key, &flow))?;
            }
            shown
        }
        _ => return Ok(None),
    };
    shown.sort();
    Ok(Some(shown))
}

fn all<K: Debug, V: Debug>(entries: impl IntoIterator<Item = (K, V)>) -> Vec<ShownEntry> {
    entries.into_iter().map(|(k, v)| (format!("{k:?}"), format!("{v:?}"))).collect()
}
