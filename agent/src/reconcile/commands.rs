//! Changes that somebody asks for: judged, committed, brought about, and taken back where that cannot be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    driver::{Command, Driver},
    facts,
    forwarding::routes_ipv6,
    observe::{Look, ObserveError},
    pass::{Report, Trigger},
};
use crate::{
    model::{Container, ContainerId, Desired},
    plan::{Scope, Subject},
    state::{Change, Outcome, Rejected, change},
};

impl Driver {
    pub(super) async fn command(&mut self, command: Command) {
        let begin = Instant::now();
        // What Docker does is not asked for here, and comes often.
        let asked = !matches!(command.change, Change::Docker(_));
        let attaches = matches!(command.change, Change::Start(_) | Change::Connect { .. });
        let result = self.carry_out(&command.change).await;
        match &result {
            Ok(outcome) => {
                let seconds = begin.elapsed().as_secs_f64();
                if asked {
                    tracing::info!(change = command.change.kind(), ?outcome, seconds, "changed");
                }
                let (object, warnings) = match outcome {
                    Outcome::Container(id, warnings) => (id.short(), warnings.as_slice()),
                    Outcome::Network(id, warnings) => (id.short(), warnings.as_slice()),
                    _ => (String::new(), &[][..]),
                };
                for warning in warnings {
                    tracing::warn!(object, "{warning}");
                }
                let action = match command.change {
                    Change::Start(_) => Some("allocate"),
                    Change::Stop { .. } => Some("release"),
                    Change::Connect { .. } => Some("connect"),
                    Change::Disconnect { .. } => Some("disconnect"),
                    _ => None,
                };
                if let Some(action) = action {
                    self.metrics.acted(action, begin.elapsed());
                }
                if attaches {
                    self.metrics.attach_seconds.observe(begin.elapsed().as_secs_f64());
                }
            }
            Err(error) => tracing::info!(change = command.change.kind(), %error, "refused"),
        }
        // A request may be as long as a request may be, and hold what is nobody's business.
        tracing::debug!(change = ?command.change);
        // Who asks for events after the answer finds it among them.
        let pruned = matches!(&command.change, Change::PruneNetworks(_)) && result.is_ok();
        self.journal.tell(&self.desired, pruned);
        // Who is told of a start finds the files.
        self.keep_files();
        // Whoever asked may have gone.
        let _ = command.reply.send(result);
    }

    async fn carry_out(&mut self, change: &Change) -> Result<Outcome, Rejected> {
        let before = Arc::clone(&self.desired);
        let outcome = self.apply(change).await?;
        if matches!(change, Change::Adoption(_)) {
            self.have_default_network().await?;
        }
        if *before == *self.desired {
            return Ok(outcome);
        }
        self.forward6().await;
        if routes_ipv6(&before) != routes_ipv6(&self.desired) {
            self.note_forwarding();
        }
        let subjects = self.subjects(&outcome);
        let result = self.effect(&before, &subjects).await;
        let failure = match &result {
            Ok(report) => subjects.iter().find_map(|subject| report.failures.get(subject).cloned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failure.filter(|_| makes(change)) {
            self.undo(&before).await?;
            return Err(Rejected::internal(error));
        }
        self.settle(change, &outcome, result.unwrap_or_default()).await?;
        if publishes(&before, &self.desired) {
            self.reserve_ports();
        }
        Ok(outcome)
    }

    /// Brings about what is different now, by as small a pass as will do.
    async fn effect(
        &mut self,
        before: &Arc<Desired>,
        subjects: &[Subject],
    ) -> Result<Report, ObserveError> {
        if self.retry.is_empty()
            && let Some(scope) = Scope::of(before, &self.desired)
            && let Some(seen) = self.seen.take()
        {
            let report = self.narrow_pass(before, seen, &scope, Trigger::Change).await;
            if self.seen.is_some() || !report.failures.is_empty() {
                return Ok(report);
            }
        }
        let look = subjects.iter().filter_map(|s| match s {
            Subject::Container(id) => Some(*id),
            _ => None,
        });
        self.pass(Trigger::Change, Look::Only(look.collect())).await
    }

    /// Notes what a change has come to.
    async fn settle(
        &mut self,
        change: &Change,
        outcome: &Outcome,
        report: Report,
    ) -> Result<(), Rejected> {
        if let (Change::Start(_), Outcome::Container(container, _)) = (change, outcome)
            && let Some(&namespace) = report.namespaces.get(container)
        {
            self.apply(&Change::BroughtUp { container: *container, namespace }).await?;
        }
        self.update_follow().await;
        Ok(())
    }

    /// Takes back what could not be carried out.
    async fn undo(&mut self, before: &Desired) -> Result<(), Rejected> {
        let reverted = change::revert(before, &self.desired);
        self.commit(reverted)?;
        if let Err(error) = self.pass(Trigger::Change, Look::Only(BTreeSet::new())).await {
            tracing::error!(%error, "cannot take back what failed; it is tried again");
            self.retry.update(&BTreeMap::from([(Subject::Host, error.to_string())]));
        }
        Ok(())
    }

    /// Returns the objects whose state decides whether a change has worked.
    fn subjects(&self, outcome: &Outcome) -> Vec<Subject> {
        match outcome {
            Outcome::Network(id, _) => vec![Subject::Network(*id)],
            Outcome::Container(id, _) => {
                let container = self.desired.containers.get(id).into_iter();
                let networks =
                    container.flat_map(|c| c.endpoints().map(|(n, _)| Subject::Network(n)));
                networks.chain([Subject::Container(*id)]).collect()
            }
            Outcome::Denials(_) => vec![Subject::DenyList],
            Outcome::Pruned(_) | Outcome::Pool(_) | Outcome::Address(_) | Outcome::Nothing => {
                Vec::new()
            }
        }
    }

    /// Judges a change and commits it, without a pass.
    pub(super) async fn apply(&mut self, change: &Change) -> Result<Outcome, Rejected> {
        let (seen, store) = (self.seen.as_ref(), &self.store);
        let mut facts =
            facts::gather(&self.machine, &self.choices, &self.desired, seen, change, store)
                .await
                .map_err(Rejected::internal)?;
        let (next, outcome) = change::apply(&self.desired, change, &mut facts)?;
        if next != *self.desired {
            self.commit(next)?;
        }
        Ok(outcome)
    }

    fn commit(&mut self, next: Desired) -> Result<(), Rejected> {
        self.store.commit(Some(&self.desired), &next).map_err(Rejected::internal)?;
        for gone in self.desired.containers.keys().filter(|id| !next.containers.contains_key(id)) {
            std::fs::remove_dir_all(self.machine.places.files(*gone)).ok();
        }
        self.desired = Arc::new(next);
        let desired = Arc::clone(&self.desired);
        self.shared.update(|s| s.desired = desired);
        Ok(())
    }
}

/// Returns whether a change makes something, and is undone if it cannot be carried out. What takes away is
/// carried out sooner or later.
const fn makes(change: &Change) -> bool {
    match change {
        Change::CreateNetwork(_)
        | Change::Connect { .. }
        | Change::CreateContainer(_)
        | Change::Start(_)
        | Change::Deny { .. } => true,
        Change::Plugin(change) => change.makes(),
        _ => false,
    }
}

/// Tells whether a change is about published ports.
fn publishes(before: &Desired, after: &Desired) -> bool {
    let rules = |desired: &Desired, id: &ContainerId| {
        let running = desired.containers.get(id).and_then(Container::running);
        running.is_some_and(|running| !running.rules.is_empty())
    };
    before.containers.differences(&after.containers).any(|id| rules(before, id) || rules(after, id))
}
