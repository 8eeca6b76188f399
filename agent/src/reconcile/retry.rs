//! When to try again what has failed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::status::Failure;
use crate::plan::Subject;

/// Waiting before the first repetition of what failed; doubled each time, up to the second.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// When to try again what failed.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: BTreeMap<Subject, Failure>,
}

impl Retry {
    /// Takes in the failures of a pass; what is not among them has recovered.
    pub(super) fn update(&mut self, failures: &BTreeMap<Subject, String>) {
        self.failures.retain(|subject, _| failures.contains_key(subject));
        let now = Instant::now();
        for (subject, error) in failures {
            let first = || Failure { error: String::new(), attempts: 0, next: now };
            let failure = self.failures.entry(*subject).or_insert_with(first);
            failure.error.clone_from(error);
            // Passes for other reasons do not count.
            if failure.next <= now {
                let wait = WAIT.0.saturating_mul(1 << failure.attempts.min(16)).min(WAIT.1);
                failure.attempts += 1;
                failure.next = now + wait;
            }
        }
    }

    /// Returns when to try again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.next).min()
    }

    /// Returns whether there is nothing to try again.
    pub(super) fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// Waits until it is time; for ever where there is nothing to try again.
    pub(super) async fn wait(next: Option<Instant>) {
        match next {
            Some(instant) => tokio::time::sleep_until(instant.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Returns the failures.
    pub(super) fn failures(&self) -> BTreeMap<Subject, Failure> {
        self.failures.clone()
    }
}
