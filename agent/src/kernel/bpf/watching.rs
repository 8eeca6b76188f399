//! Who watches, which the data plane has to know, and what it counts for them meanwhile.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use bascule_common::abi::{
    Chosen, FlowKey4, FlowKey6, Traffic,
    names::map::{self, TABLES_GENERATION},
    watch,
};

use super::{
    BpfError,
    map::{Hash, Slots, Table as _},
};

/// The maps of those who watch, and the generation of the tables, whose lowest bits say that they do.
#[derive(Debug)]
pub struct Watching {
    /// What went one way of a connection.
    pub traffic4: Hash<FlowKey4, Traffic>,
    /// The same for IPv6.
    pub traffic6: Hash<FlowKey6, Traffic>,
    chosen: Slots<Chosen>,
    generations: Slots<u64>,
    /// Bits of [`watch`]; held while the generation is raised.
    bits: Mutex<u32>,
}

impl Watching {
    pub(super) fn open(
        fd: impl Fn(&'static str) -> Result<OwnedFd, BpfError>,
    ) -> Result<Self, BpfError> {
        Ok(Self {
            traffic4: Hash::new(map::TRAFFIC4, fd(map::TRAFFIC4)?)?,
            traffic6: Hash::new(map::TRAFFIC6, fd(map::TRAFFIC6)?)?,
            chosen: Slots::new(map::CHOSEN, fd(map::CHOSEN)?)?,
            generations: Slots::new(map::GENERATIONS, fd(map::GENERATIONS)?)?,
            bits: Mutex::new(0),
        })
    }

    /// Raises the generation, and says in it what goes on now.
    fn set(&self, bit: u32, on: bool) -> Result<(), BpfError> {
        let mut bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        *bits = if on { *bits | bit } else { *bits & !bit };
        let bare = |generation: u64| generation & !u64::from(watch::ALL);
        let generation = self.generations.get(TABLES_GENERATION)?.map_or(0, bare);
        let next = generation.wrapping_add(watch::STEP) | u64::from(*bits);
        self.generations.put(&TABLES_GENERATION, &next)
    }

    /// Says that tables are being changed, or are no longer.
    pub(super) fn changing(&self, on: bool) -> Result<(), BpfError> {
        self.set(watch::CHANGING, on)
    }

    /// Has the packets of every connection counted from now on, or no longer; what was counted is forgotten then.
    pub fn connections(&self, on: bool) -> Result<(), BpfError> {
        if on {
            // The room for what has none is there before it is needed.
            self.traffic4.put(&FlowKey4::default(), &Traffic::default())?;
            self.traffic6.put(&FlowKey6::default(), &Traffic::default())?;
            return self.set(watch::CONNECTIONS, true);
        }
        self.set(watch::CONNECTIONS, false)?;
        let (mut four, mut six) = (Vec::new(), Vec::new());
        self.traffic4.for_each(|key, _| four.push(key))?;
        self.traffic6.for_each(|key, _| six.push(key))?;
        self.traffic4.remove_many(&four)?;
        self.traffic6.remove_many(&six)?;
        Ok(())
    }

    /// Has these packets told from now on, and no others.
    pub fn packets(&self, chosen: &[Chosen]) -> Result<(), BpfError> {
        for slot in 0..Chosen::SLOTS {
            let one = chosen.get(slot as usize).copied().unwrap_or_default();
            self.chosen.put(&slot, &one)?;
        }
        self.set(watch::PACKETS, !chosen.is_empty())
    }
}
