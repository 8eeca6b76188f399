//! A pass over some containers alone, without looking at the machine as a whole.

use std::time::Instant;

use super::{
    driver::Driver,
    pass::{Report, Trigger, blocked},
    seen::Seen,
};
use crate::{
    model::Desired,
    plan::{self, Scope},
};

/// An attachment takes three rounds, a start one more.
const ROUNDS: usize = 8;

impl Driver {
    /// Makes a pass over what a change is about. What it fails at, a pass over everything tries again.
    pub(super) async fn narrow_pass(
        &mut self,
        before: &Desired,
        mut seen: Seen,
        scope: &Scope,
        trigger: Trigger,
    ) -> Report {
        let begin = Instant::now();
        let mut report = Report::default();
        let (mut actions, mut whole) = (0, false);
        for _ in 0..ROUNDS {
            seen.look(&self.machine, &self.desired, scope).await;
            let mut plan = plan::narrow(
                before,
                &self.desired,
                plan::Seen {
                    observed: &seen.observed,
                    places: &seen.places,
                    contents: &self.known.contents,
                    hooks: &self.known.hooks,
                },
                scope,
                &self.settings,
            );
            plan.retain(|planned| !blocked(&report, planned.subject));
            if plan.is_empty() {
                whole = report.failures.is_empty();
                break;
            }
            let (done, followed) =
                self.execute_all(&plan, trigger, &mut report, Some(&mut seen)).await;
            actions += done;
            if !followed || done == 0 {
                break;
            }
        }
        let sandboxes = scope
            .containers
            .iter()
            .filter_map(|id| Some((*id, seen.observed.sandboxes.get(id)?.namespace?)));
        report.namespaces = sandboxes.collect();
        if actions > 0 || trigger != Trigger::Watch || !report.failures.is_empty() {
            self.note_narrow(&report, actions, begin);
        }
        self.announce(&report.set_up);
        if whole {
            self.seen = Some(seen);
        } else {
            self.former = Some(seen);
            if report.failures.is_empty() {
                tracing::debug!(
                    ?scope,
                    "more than expected is to be done: everything is looked at"
                );
            }
        }
        report
    }
}
