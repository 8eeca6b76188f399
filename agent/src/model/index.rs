//! Small numbers for things that sit in arrays of the data plane, re-used as late as is cheap.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// So many freed numbers rest before the oldest of them is given out again.
const REST: usize = 64;

/// Numbers from 1 up to a limit, exclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPool {
    limit: u32,
    fresh: u32,
    freed: VecDeque<u32>,
}

impl IndexPool {
    /// Makes a pool of the numbers `1..limit`.
    pub const fn new(limit: u32) -> Self {
        Self { limit, fresh: 1, freed: VecDeque::new() }
    }

    /// Takes a number: the one freed longest ago once enough of them rest, a fresh one before.
    pub fn take(&mut self) -> Option<u32> {
        if self.freed.len() > REST || self.fresh >= self.limit {
            return self.freed.pop_front();
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// Gives a number back.
    pub fn free(&mut self, index: u32) {
        debug_assert!(index > 0 && index < self.fresh && !self.freed.contains(&index));
        self.freed.push_back(index);
    }

    /// Takes a number that was in use before, where it was given back meanwhile.
    pub fn claim(&mut self, index: u32) {
        self.freed.retain(|freed| *freed != index);
    }

    /// Returns whether a number is in use.
    pub fn in_use(&self, index: u32) -> bool {
        index > 0 && index < self.fresh && !self.freed.contains(&index)
    }

    /// Returns the numbers that were ever given out.
    pub fn ever_used(&self) -> std::ops::Range<u32> {
        1..self.fresh
    }
}

/// Generations of endpoint indices: a packet of a former holder's flow must never reach the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    base: u32,
    bumps: BTreeMap<u32, u32>,
}

impl Generations {
    /// Makes generations that start at `base`, which a new store draws by lot: pinned maps may hold
    /// those of an older one.
    pub const fn new(base: u32) -> Self {
        Self { base, bumps: BTreeMap::new() }
    }

    /// Returns the generation of an index.
    pub fn of(&self, index: u32) -> u32 {
        self.base.wrapping_add(self.bumps.get(&index).copied().unwrap_or(0))
    }

    /// Ends the generation of an index.
    pub fn bump(&mut self, index: u32) {
        let bumps = self.bumps.entry(index).or_insert(0);
        *bumps = bumps.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_number_rests_before_it_is_used_again() {
        let mut pool = IndexPool::new(1_000);
        let taken: Vec<_> = (0..200).map(|_| pool.take().unwrap()).collect();
        assert_eq!(taken, (1..=200).collect::<Vec<_>>());
        for index in 1..=REST as u32 + 1 {
            pool.free(index);
        }
        assert_eq!(pool.take(), Some(1));
        assert_eq!(pool.take(), Some(201));
    }

    #[test]
    fn an_exhausted_pool_gives_what_was_freed_and_then_nothing() {
        let mut pool = IndexPool::new(3);
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(1), Some(2), None));
        pool.free(2);
        assert!(pool.in_use(1) && !pool.in_use(2));
        assert_eq!((pool.take(), pool.take()), (Some(2), None));
    }

    #[test]
    fn a_generation_ends_when_its_index_is_freed() {
        let mut generations = Generations::new(7);
        generations.bump(3);
        assert_eq!((generations.of(3), generations.of(4)), (8, 7));
    }
}
