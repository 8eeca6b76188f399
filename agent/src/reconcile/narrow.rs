//! A pass over some containers alone, without looking at the machine as a whole.

use std::time::Instant;

use super::{
    driver::Driver,
    executor::execute,
    flows::Ends,
    pass::{Report, Trigger, blocked},
    seen::Seen,
};
use crate::{
    model::Desired,
    plan::{self, Planned, Scope},
    state::crash::crash_point,
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
            );
            plan.retain(|planned| !blocked(&report, planned.subject));
            if plan.is_empty() {
                whole = report.failures.is_empty();
                break;
            }
            let ends = Ends::of(&plan, &self.known);
            let (done, followed) =
                self.follow_through(&plan, &mut seen, &mut report, trigger).await;
            self.end_connections(&ends);
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

    /// Executes a plan, and notes what it changes; returns how many actions were done, and whether all of them
    /// could be followed.
    async fn follow_through(
        &mut self,
        plan: &[Planned],
        seen: &mut Seen,
        report: &mut Report,
        trigger: Trigger,
    ) -> (u64, bool) {
        let (mut done, mut followed) = (0, true);
        for planned in plan {
            if blocked(report, planned.subject) {
                continue;
            }
            crash_point();
            match execute(&self.machine, &mut self.known, &self.desired, &planned.action).await {
                Ok(made) => {
                    done += 1;
                    followed &= seen.note(&self.machine, &planned.action, made);
                    self.log(planned, trigger);
                    report.note(planned);
                }
                Err(error) if error.is_gone() => {
                    tracing::debug!(action = ?planned.action, %error, "what it is about went away");
                    (done, followed) = (done + 1, false);
                }
                Err(error) => self.fail(planned, &error, report),
            }
        }
        (done, followed)
    }
}
