//! Fail points: a place where the agent can be made to die.
//!
//! `BASCULE_CRASH_AT=N` in the environment aborts the process when the N-th point is reached. There is
//! one before and one after every commit of the store, and one before every action that is executed, so
//! that a test which counts N up from 1 dies at every line that matters. Unset, a point costs one load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Name of the variable.
pub const VARIABLE: &str = "BASCULE_CRASH_AT";

static REACHED: AtomicU64 = AtomicU64::new(0);
static AT: OnceLock<Option<u64>> = OnceLock::new();

/// Passes a fail point, or dies there.
pub fn crash_point() {
    let Some(at) = AT.get_or_init(|| std::env::var(VARIABLE).ok()?.parse().ok()) else { return };
    if REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *at {
        std::process::abort();
    }
}
