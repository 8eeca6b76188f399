//! What of the code a case has run: the counters that LLVM puts on every edge of a build with `sancov-module`. In other
//! builds there are none, and ends of walks are all that guides.
//!
//! `cargo xtask fuzz` makes such a build, with flags that a stable compiler takes.

use std::{
    collections::BTreeSet,
    slice,
    sync::{Mutex, PoisonError},
};

/// The counters of the modules of this program: where they begin, and how many they are.
static REGIONS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Called by every module of an instrumented build before `main`.
///
/// # Safety
/// Between `start` and `stop` are the counters of a module, which live as long as the program.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let region = (start.expose_provenance(), stop.addr() - start.addr());
    let mut regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if !regions.contains(&region) {
        regions.push(region);
    }
}

/// What was run since the program started, by all cases.
pub struct Cover {
    regions: Vec<(usize, usize)>,
    /// For each counter, a bit for each magnitude that it was seen at.
    seen: Vec<u8>,
}

impl Cover {
    /// Nothing yet.
    pub fn new() -> Self {
        let regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = vec![0; regions.iter().map(|(_, length)| length).sum()];
        Self { regions, seen }
    }

    /// Whether there is anything to see.
    pub fn is_instrumented(&self) -> bool {
        !self.regions.is_empty()
    }

    /// Edges that were run.
    pub fn edges(&self) -> BTreeSet<usize> {
        (0..).zip(&self.seen).filter(|(_, seen)| **seen != 0).map(|(edge, _)| edge).collect()
    }

    /// Forgets what the last case has run.
    pub fn clear(&self) {
        for counters in self.counters() {
            counters.fill(0);
        }
    }

    /// The edges that the last case has run.
    pub fn last(&self) -> Vec<usize> {
        let counters: Vec<u8> =
            self.counters().flat_map(|counters| counters.iter().copied()).collect();
        (0..).zip(counters).filter(|(_, count)| *count != 0).map(|(edge, _)| edge).collect()
    }

    /// Takes in what was run since; whether an edge is new, or was run more or less often than ever.
    pub fn learn(&mut self) -> Learnt {
        let mut learnt = Learnt::Nothing;
        let counters = self.counters().flat_map(|counters| counters.iter().copied());
        // Collected first: what looks is instrumented too.
        let counters: Vec<u8> = counters.collect();
        for (seen, count) in self.seen.iter_mut().zip(counters).filter(|(_, count)| *count != 0) {
            let magnitude = 1 << count.ilog2();
            if *seen == 0 {
                learnt = Learnt::Edge;
            } else if *seen & magnitude == 0 && learnt == Learnt::Nothing {
                learnt = Learnt::Magnitude;
            }
            *seen |= magnitude;
        }
        learnt
    }

    fn counters(&self) -> impl Iterator<Item = &'static mut [u8]> {
        self.regions.iter().map(|(start, length)| {
            // SAFETY: LLVM's counters of a module, as it has told; bytes that live as long as the program. What runs
            // meanwhile may count in them, too: a count that is lost is a case that is not kept.
            unsafe {
                slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(*start), *length)
            }
        })
    }
}

/// What a case has shown of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// Nothing new.
    Nothing,
    /// An edge ran so many times as it had not.
    Magnitude,
    /// An edge ran that never had.
    Edge,
}
