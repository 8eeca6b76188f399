//! Tables of published ports by runs: a range of 10,000 ports is one entry here, whatever it is in the kernel.

use std::collections::BTreeMap;

use bascule_common::abi::PortSlot;

/// Slots of a table beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Index of the table.
    pub table: u32,
    /// The first slot.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl Run {
    const fn end(self) -> u32 {
        self.first + self.count
    }
}

/// What slots hold. Neighbours that hold the same are one run: equal contents are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortTables {
    /// By table and first slot: the slot after the last one, and what they hold.
    runs: BTreeMap<(u32, u32), (u32, PortSlot)>,
}

impl PortTables {
    /// Returns all runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Run, PortSlot)> {
        self.runs
            .iter()
            .map(|(&(table, first), &(end, slot))| (Run { table, first, count: end - first }, slot))
    }

    /// Has the slots of a run hold this, or nothing.
    pub fn set(&mut self, run: Run, value: Option<PortSlot>) {
        let Run { table, first, .. } = run;
        if run.count == 0 {
            return;
        }
        let (mut from, mut to) = (first, run.end());
        // Whatever overlaps or touches: of what holds something else the rest stays.
        let touching: Vec<_> = self.touching(run).collect();
        for (start, end, slot) in touching {
            self.runs.remove(&(table, start));
            if Some(slot) == value {
                (from, to) = (from.min(start), to.max(end));
                continue;
            }
            if start < first {
                self.runs.insert((table, start), (end.min(first), slot));
            }
            if end > run.end() {
                self.runs.insert((table, start.max(run.end())), (end, slot));
            }
        }
        if let Some(value) = value {
            self.runs.insert((table, from), (to, value));
        }
    }

    /// Runs that overlap with one or are its neighbours: first slot, the one after the last, and what they hold.
    fn touching(&self, run: Run) -> impl Iterator<Item = (u32, u32, PortSlot)> {
        let Run { table, first, .. } = run;
        let before = self.runs.range((table, 0)..(table, first)).next_back();
        let others = self.runs.range((table, first)..=(table, run.end()));
        let both = before.into_iter().chain(others);
        both.map(|(&(_, start), &(end, slot))| (start, end, slot))
            .filter(move |(_, end, _)| *end >= first)
    }

    /// Takes a run apart by what its slots hold.
    fn parts(&self, run: Run) -> Vec<(Run, Option<PortSlot>)> {
        let mut parts = Vec::new();
        let mut at = run.first;
        let mut part = |at: &mut u32, end: u32, slot| {
            if *at < end {
                parts.push((Run { first: *at, count: end - *at, ..run }, slot));
                *at = end;
            }
        };
        for (start, end, slot) in self.touching(run) {
            part(&mut at, start.min(run.end()), None);
            part(&mut at, end.min(run.end()), Some(slot));
        }
        part(&mut at, run.end(), None);
        parts
    }

    /// Returns what leads from `self` to `wanted`.
    pub fn towards(&self, wanted: &Self) -> Vec<(Run, Option<PortSlot>)> {
        let gone = self.runs().flat_map(|(run, _)| wanted.parts(run));
        let gone = gone.filter(|(_, slot)| slot.is_none());
        let new = wanted.runs().flat_map(|(run, value)| {
            let others = self.parts(run).into_iter().filter(move |(_, slot)| *slot != Some(value));
            others.map(move |(run, _)| (run, Some(value)))
        });
        gone.chain(new).collect()
    }

    /// Returns what the slots hold that any of these have.
    pub fn cut(&self, slots: [&Self; 2]) -> Self {
        let mut cut = Self::default();
        let parts = slots.into_iter().flat_map(Self::runs).flat_map(|(run, _)| self.parts(run));
        for (run, slot) in parts {
            if slot.is_some() {
                cut.set(run, slot);
            }
        }
        cut
    }
}

impl FromIterator<(Run, PortSlot)> for PortTables {
    fn from_iter<T: IntoIterator<Item = (Run, PortSlot)>>(runs: T) -> Self {
        let mut tables = Self::default();
        runs.into_iter().for_each(|(run, slot)| tables.set(run, Some(slot)));
        tables
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Slots = BTreeMap<(u32, u32), PortSlot>;

    fn slots(tables: &PortTables) -> Slots {
        let each = |(run, slot): (Run, PortSlot)| {
            (run.first..run.end()).map(move |at| ((run.table, at), slot))
        };
        tables.runs().flat_map(each).collect()
    }

    fn change() -> impl Strategy<Value = (Run, Option<PortSlot>)> {
        let run = (0..2_u32, 0..20_u32, 0..8_u32);
        let run = run.prop_map(|(table, first, count)| Run { table, first, count });
        let slot = (1..4_u32).prop_map(|rule| PortSlot { rule, reserved: 0 });
        (run, prop::option::of(slot))
    }

    fn some() -> impl Strategy<Value = (PortTables, Slots)> {
        prop::collection::vec(change(), 0..12).prop_map(|changes| {
            let (mut tables, mut slots) = (PortTables::default(), Slots::new());
            for (run, value) in changes {
                tables.set(run, value);
                for at in run.first..run.end() {
                    match value {
                        Some(value) => drop(slots.insert((run.table, at), value)),
                        None => drop(slots.remove(&(run.table, at))),
                    }
                }
            }
            (tables, slots)
        })
    }

    proptest! {
        #[test]
        fn n8_runs_hold_what_their_slots_would((tables, wanted) in some()) {
            prop_assert_eq!(slots(&tables), wanted);
            let runs: Vec<_> = tables.runs().collect();
            for pair in runs.windows(2) {
                let (one, next) = (pair[0], pair[1]);
                let touch = one.0.table == next.0.table && one.0.end() == next.0.first;
                prop_assert!(!(touch && one.1 == next.1), "not merged: {pair:?}");
            }
        }

        #[test]
        fn n8_differences_lead_there_and_say_nothing_twice((a, _) in some(), (b, _) in some()) {
            let mut there = a.clone();
            let steps = a.towards(&b);
            for (run, value) in &steps {
                prop_assert_ne!(a.parts(*run), vec![(*run, *value)]);
                there.set(*run, *value);
            }
            prop_assert_eq!(&there, &b);
            prop_assert!(a.towards(&a).is_empty());
            let cut = slots(&there.cut([&a, &PortTables::default()]));
            let few = slots(&b).into_iter().filter(|(at, _)| slots(&a).contains_key(at)).collect();
            prop_assert_eq!(cut, few);
        }
    }
}
