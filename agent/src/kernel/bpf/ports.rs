//! The tables of published ports, written through mappings: publishing 10,000 ports is 10,000 stores,
//! not 10,000 system calls. Which table holds what is decided elsewhere.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bascule_common::abi::{PortSlot, names::map, service};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{
    BpfError,
    layout::{Geometry, PORT_TABLE},
    map::{Hash, Table},
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

/// A table, mapped for as long as this lives.
#[derive(Debug)]
struct Mapping {
    base: NonNull<PortSlot>,
}

// SAFETY: the mapping is shared memory that the kernel and any thread may read; writes are single
// aligned stores of 8 bytes, made under the lock of `Ports`.
unsafe impl Send for Mapping {}

impl Mapping {
    const BYTES: NonZeroUsize = NonZeroUsize::new(service::SLOTS as usize * size_of::<PortSlot>())
        .expect("tables have slots");

    fn new(table: &OwnedFd) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a map whose size was compared.
        let base =
            unsafe { mmap(None, Self::BYTES, protection, MapFlags::MAP_SHARED, table.as_fd(), 0) }?;
        Ok(Self { base: base.cast() })
    }

    fn slot(&self, slot: u32) -> NonNull<u64> {
        assert!(slot < service::SLOTS, "slot {slot} of a port table");
        // SAFETY: within the mapping; slots are 8 bytes, and pages are aligned for them.
        unsafe { self.base.add(slot as usize).cast() }
    }

    fn read(&self, slot: u32) -> PortSlot {
        // SAFETY: a valid, aligned address; volatile because the mapping is shared.
        let raw = unsafe { self.slot(slot).read_volatile() }.to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = raw;
        PortSlot {
            rule: u32::from_ne_bytes([a, b, c, d]),
            reserved: u32::from_ne_bytes([e, f, g, h]),
        }
    }

    fn write(&self, slot: u32, value: PortSlot) {
        let mut raw = [0; 8];
        raw[..4].copy_from_slice(&value.rule.to_ne_bytes());
        raw[4..].copy_from_slice(&value.reserved.to_ne_bytes());
        // SAFETY: a valid, aligned address; one store, so that a packet sees the old slot or the new.
        unsafe { self.slot(slot).write_volatile(u64::from_ne_bytes(raw)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and no reference into it outlives this.
        // A failure leaves a mapping behind, which is harmless.
        let _ = unsafe { munmap(self.base.cast(), Self::BYTES.get()) };
    }
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
        Mapping::new(&inner).map(Some).map_err(Self::error("map a table of"))
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
        let mapping = Mapping::new(&inner).map_err(Self::error("map a table of"))?;
        let fd = {
            use std::os::fd::AsRawFd as _;
            inner.as_raw_fd().cast_unsigned()
        };
        self.outer.put(&table, &fd)?;
        mapped.insert(table, mapping);
        Ok(true)
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
            for slot in 0..service::SLOTS {
                let value = mapping.read(slot);
                if value != PortSlot::default() {
                    all.insert(PortKey { table: *table, slot }, value);
                }
            }
        }
        Ok(all)
    }

    /// Writes a slot, and makes its table where it is missing.
    fn put(&self, key: &PortKey, value: &PortSlot) -> Result<(), BpfError> {
        self.ensure_table(key.table)?;
        if let Some(mapping) = self.mapped().get(&key.table) {
            mapping.write(key.slot, *value);
        }
        Ok(())
    }

    fn remove(&self, key: &PortKey) -> Result<bool, BpfError> {
        let mapped = self.mapped();
        let Some(mapping) = mapped.get(&key.table) else { return Ok(false) };
        let was = mapping.read(key.slot) != PortSlot::default();
        mapping.write(key.slot, PortSlot::default());
        Ok(was)
    }

    fn name(&self) -> &'static str {
        map::PORTS
    }
}
