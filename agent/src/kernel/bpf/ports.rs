//! The tables of published ports, written through mappings: publishing 10,000 ports is 10,000 stores,
//! not 10,000 system calls. Which table holds what is decided elsewhere.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bascule_common::abi::{PortSlot, names::map, service};

use super::{
    BpfError,
    layout::{Geometry, PORT_TABLE},
    map::{Hash, Table, bytes, value},
    mapping::Mapping,
    sys,
};

/// Where a published port is entered: a table, and the slot of protocol and port in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Index of the table.
    pub table: u32,
    /// [`service::slot`] of protocol and port.
    pub slot: u32,
}

fn read(table: &Mapping, slot: u32) -> PortSlot {
    value(&table.read(slot as usize, 0).to_ne_bytes())
}

fn write(table: &Mapping, slot: u32, value: PortSlot) {
    let mut raw = [0; 8];
    raw.copy_from_slice(bytes(&value));
    table.write(slot as usize, 0, u64::from_ne_bytes(raw));
}

/// All tables of published ports.
#[derive(Debug)]
pub struct Ports {
    outer: Hash<u32, u32>,
    mapped: Mutex<BTreeMap<u32, Mapping>>,
}

impl Ports {
    /// Wraps the descriptor of the array of tables, and maps the tables that there are.
    pub fn new(fd: OwnedFd) -> Result<Self, BpfError> {
        let ports = Self { outer: Hash::new(map::PORTS, fd)?, mapped: Mutex::default() };
        for table in 0..service::TABLES {
            if let Some(mapping) = ports.open(table)? {
                ports.mapped().insert(table, mapping);
            }
        }
        Ok(ports)
    }

    fn mapped(&self) -> MutexGuard<'_, BTreeMap<u32, Mapping>> {
        // Nothing panics half-way through a change of the map.
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(what: &'static str) -> impl FnOnce(io::Error) -> BpfError {
        move |source| BpfError::Map { what, name: map::PORTS, source }
    }

    fn open(&self, table: u32) -> Result<Option<Mapping>, BpfError> {
        let Some(id) = self.outer.get(&table)? else { return Ok(None) };
        let inner = sys::map_by_id(id).map_err(Self::error("open a table of"))?;
        let found =
            Geometry::from(sys::map_info(&inner).map_err(Self::error("describe a table of"))?);
        if found != PORT_TABLE {
            return Err(BpfError::Layout {
                name: map::PORTS,
                found: format!("a table of {found}"),
                expected: PORT_TABLE.to_string(),
            });
        }
        Mapping::new(&inner, &PORT_TABLE, true).map(Some).map_err(Self::error("map a table of"))
    }

    /// The tables that exist.
    pub fn tables(&self) -> Vec<u32> {
        self.mapped().keys().copied().collect()
    }

    /// Makes a table, empty, unless it exists; returns whether it was made.
    pub fn ensure_table(&self, table: u32) -> Result<bool, BpfError> {
        let mut mapped = self.mapped();
        if mapped.contains_key(&table) {
            return Ok(false);
        }
        let Geometry { kind, key_size, value_size, max_entries, flags } = PORT_TABLE;
        let inner =
            sys::map_create(kind, key_size, value_size, max_entries, flags, None, "PORTS.t")
                .map_err(Self::error("create a table of"))?;
        let mapping =
            Mapping::new(&inner, &PORT_TABLE, true).map_err(Self::error("map a table of"))?;
        self.outer.put(&table, &inner.as_raw_fd().cast_unsigned())?;
        mapped.insert(table, mapping);
        Ok(true)
    }

    /// What all tables hold: slots beside each other that hold the same, by table, ascending.
    pub fn runs(&self) -> Vec<(u32, Range<u32>, PortSlot)> {
        let mut runs: Vec<(u32, Range<u32>, PortSlot)> = Vec::new();
        for (table, mapping) in self.mapped().iter() {
            mapping.for_each(|slot, bytes| {
                let held = value(bytes);
                match runs.last_mut() {
                    Some((of, run, same)) if (*of, run.end, *same) == (*table, slot, held) => {
                        run.end += 1;
                    }
                    _ => runs.push((*table, slot..slot + 1, held)),
                }
            });
        }
        runs
    }

    /// Has slots beside each other hold this; makes their table where it is missing and there is something to hold.
    pub fn fill(&self, table: u32, slots: Range<u32>, slot: PortSlot) -> Result<(), BpfError> {
        if slot != PortSlot::default() {
            self.ensure_table(table)?;
        }
        if let Some(mapping) = self.mapped().get(&table) {
            slots.for_each(|at| write(mapping, at, slot));
        }
        Ok(())
    }

    /// The rule in a slot, or 0.
    pub fn rule(&self, table: u32, slot: u32) -> u32 {
        let read = |mapping: &Mapping| read(mapping, slot).rule;
        if slot < service::SLOTS { self.mapped().get(&table).map_or(0, read) } else { 0 }
    }

    /// Removes a table with all its slots; false if it did not exist.
    pub fn remove_table(&self, table: u32) -> Result<bool, BpfError> {
        let mut mapped = self.mapped();
        mapped.remove(&table);
        self.outer.remove(&table)
    }
}

impl Table for Ports {
    type Key = PortKey;
    type Value = PortSlot;

    fn all(&self) -> Result<BTreeMap<PortKey, PortSlot>, BpfError> {
        let mut all = BTreeMap::new();
        for (table, mapping) in self.mapped().iter() {
            mapping.for_each(|slot, bytes| {
                all.insert(PortKey { table: *table, slot }, value(bytes));
            });
        }
        Ok(all)
    }

    fn put(&self, key: &PortKey, slot: &PortSlot) -> Result<(), BpfError> {
        self.fill(key.table, key.slot..key.slot + 1, *slot)
    }

    fn remove(&self, key: &PortKey) -> Result<bool, BpfError> {
        let mapped = self.mapped();
        let Some(mapping) = mapped.get(&key.table) else { return Ok(false) };
        let was = read(mapping, key.slot) != PortSlot::default();
        write(mapping, key.slot, PortSlot::default());
        Ok(was)
    }

    fn name(&self) -> &'static str {
        map::PORTS
    }
}
