//! What the agent counts itself, in a pinned map: of its own doing, and of endpoints that have gone.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bascule_common::abi::{Count, DropKey, QuestionKey, Tally, names::map};

use super::{
    BpfError,
    map::{CounterHash, Hash, Slots, Table as _},
};
use crate::plan::Action;

/// The counters, by [`Tally`]. They never go back, whoever adds and whoever reads meanwhile.
#[derive(Debug)]
pub struct Tallies {
    pub(super) slots: Slots<u64>,
    pub(super) questions: Hash<QuestionKey, u64>,
    turn: Mutex<()>,
}

impl Tallies {
    /// Takes over the maps.
    pub(super) fn new(slots: OwnedFd, questions: OwnedFd) -> Result<Self, BpfError> {
        Ok(Self {
            slots: Slots::new(map::TALLIES, slots)?,
            questions: Hash::new(map::QUESTIONS, questions)?,
            turn: Mutex::default(),
        })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns one of them.
    pub fn get(&self, slot: u32) -> Result<u64, BpfError> {
        Ok(self.slots.get(slot)?.unwrap_or_default())
    }

    /// Adds to one of them.
    pub fn add(&self, slot: u32, more: u64) -> Result<(), BpfError> {
        let _turn = self.turn();
        self.slots.put(&slot, &self.get(slot)?.wrapping_add(more))
    }

    /// Adds to what was counted of questions about names.
    pub fn add_questions(&self, key: &QuestionKey, more: u64) -> Result<(), BpfError> {
        let _turn = self.turn();
        let before = self.questions.get(key)?.unwrap_or_default();
        self.questions.put(key, &before.wrapping_add(more))
    }

    /// Returns what was counted of questions about names.
    pub fn questions(&self) -> Result<BTreeMap<QuestionKey, u64>, BpfError> {
        self.questions.all()
    }

    /// Forgets those on a network.
    pub(super) fn forget_questions(&self, network: u32) -> Result<(), BpfError> {
        let _turn = self.turn();
        let all = self.questions.all()?.into_keys();
        let gone: Vec<_> =
            all.filter(|key| key.kind == QuestionKey::ANSWERED && key.network == network).collect();
        self.questions.remove_many(&gone).map(drop)
    }

    /// Counts a correction of what somebody else changed, of an action's kind.
    pub fn repaired(&self, kind: &str) -> Result<(), BpfError> {
        let slot = slots_of_repairs().find(|(_, known)| *known == kind);
        slot.map_or(Ok(()), |(slot, _)| self.add(slot, 1))
    }

    /// Returns how many corrections there were, by kind.
    pub fn repairs(&self) -> Result<Vec<(&'static str, u64)>, BpfError> {
        slots_of_repairs().map(|(slot, kind)| Ok((kind, self.get(slot)?))).collect()
    }

    /// Removes what was dropped for an endpoint, and keeps how many packets that were.
    pub(super) fn retire(
        &self,
        drops: &CounterHash<DropKey, Count>,
        endpoint: u32,
    ) -> Result<(), BpfError> {
        let _turn = self.turn();
        let all = drops.all()?.into_iter();
        let gone: BTreeMap<_, _> = all.filter(|(key, _)| key.endpoint == endpoint).collect();
        drops.remove_many(&gone.keys().copied().collect::<Vec<_>>())?;
        for (key, count) in &gone {
            let slot = Tally::dropped(key.reason);
            self.slots.put(&slot, &self.get(slot)?.wrapping_add(count.packets))?;
        }
        Ok(())
    }

    /// Returns how many packets were dropped for each reason, for endpoints that are there and those that were.
    pub fn dropped(
        &self,
        drops: &CounterHash<DropKey, Count>,
        reasons: impl IntoIterator<Item = u8>,
    ) -> Result<BTreeMap<u8, u64>, BpfError> {
        let _turn = self.turn();
        let mut sums = BTreeMap::new();
        for reason in reasons {
            sums.insert(reason, self.get(Tally::dropped(reason))?);
        }
        for (key, count) in drops.all()? {
            if let Some(sum) = sums.get_mut(&key.reason) {
                *sum += count.packets;
            }
        }
        Ok(sums)
    }
}

fn slots_of_repairs() -> impl Iterator<Item = (u32, &'static str)> {
    (Tally::REPAIRS..).zip(Action::KINDS.iter().copied())
}
