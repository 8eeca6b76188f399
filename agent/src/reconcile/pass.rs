//! One pass: observe, plan, execute, in rounds, until there is nothing left to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    driver::Driver,
    executor::{ExecuteError, execute},
    flows::Ends,
    names,
    observe::{Look, ObserveError, observe},
    seen::{Seen, remember},
    status::UplinkSeen,
};
use crate::{
    model::{ContainerId, EndpointId, NamespaceId},
    plan::{self, Action, Observed, Planned, Subject},
    state::{Change, PluginChange, crash::crash_point},
};

/// A pass that has not come to an end by then has a fault, or somebody works against it.
const ROUNDS: usize = 8;

/// Why a pass is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The agent starts.
    Start,
    /// Somebody asked for a change.
    Change,
    /// The machine changed, or it is time to look.
    Watch,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Why objects are not as they should be.
    pub failures: BTreeMap<Subject, String>,
    /// Namespaces of running containers.
    pub namespaces: BTreeMap<ContainerId, NamespaceId>,
    /// Interfaces of containers that were set up.
    pub set_up: BTreeSet<EndpointId>,
}

impl Driver {
    /// Makes a pass.
    pub(super) async fn pass(
        &mut self,
        trigger: Trigger,
        look: Look,
    ) -> Result<Report, ObserveError> {
        let begin = Instant::now();
        // What is done now is looked at afterwards, and not followed.
        self.former = self.seen.take().or(self.former.take());
        let mut report = Report::default();
        let mut actions = 0;
        let mut observed = self.observe(&look).await?;
        for round in 0..ROUNDS {
            if self.take_down_vanished(&observed).await {
                observed = self.observe(&look).await?;
            }
            let mut plan = plan::diff(&self.desired, &observed, &self.settings);
            plan.retain(|planned| !blocked(&report, planned.subject));
            if plan.is_empty() {
                break;
            }
            if round + 1 == ROUNDS {
                self.give_up(&plan, &mut report);
            }
            let (done, _) = self.execute_all(&plan, trigger, &mut report, None).await;
            actions += done;
            if done == 0 {
                break;
            }
            let touched = plan.iter().filter_map(|p| match p.subject {
                Subject::Container(id) => Some(id),
                _ => None,
            });
            let before = observed;
            observed = self.observe(&Look::Only(touched.collect())).await?;
            remember(&mut observed, before);
        }
        let seen = observed.sandboxes.iter().filter_map(|(id, s)| Some((*id, s.namespace?)));
        report.namespaces = seen.collect();
        self.note(&observed, &report, actions, begin);
        self.announce(&report.set_up);
        let former = self.former.take();
        self.seen = report.failures.is_empty().then(|| Seen::new(observed, former));
        Ok(report)
    }

    async fn observe(&mut self, look: &Look) -> Result<Observed, ObserveError> {
        observe(&self.machine, &self.desired, &self.known, look).await
    }

    /// Takes down the containers whose namespace is gone.
    async fn take_down_vanished(&mut self, observed: &Observed) -> bool {
        let unplugged = plan::unplugged(&self.desired, observed);
        if !unplugged.is_empty() {
            tracing::info!(
                ?unplugged,
                "Docker's sandboxes are gone, and their endpoints with them"
            );
            let change = Change::Plugin(PluginChange::DeleteEndpoints(unplugged.clone()));
            if let Err(error) = self.apply(&change).await {
                tracing::error!(%error, "cannot remove the endpoints");
            }
        }
        let vanished = plan::vanished(&self.desired, observed);
        for id in &vanished {
            tracing::warn!(container = %id.short(), "the network namespace is gone: the container has exited");
            self.stop(*id).await;
        }
        !vanished.is_empty() || !unplugged.is_empty()
    }

    /// Executes a plan; a failed object's further actions are left out. Returns how many were done, and whether what
    /// was seen follows all of them.
    pub(super) async fn execute_all(
        &mut self,
        plan: &[Planned],
        trigger: Trigger,
        report: &mut Report,
        mut seen: Option<&mut Seen>,
    ) -> (u64, bool) {
        let ends = Ends::of(plan, &self.known);
        let (mut done, mut followed) = (0, seen.is_some());
        let _shortened =
            plan.iter().any(|p| p.action.waits()).then(|| self.machine.grace.shorten());
        for planned in plan {
            if blocked(report, planned.subject) {
                continue;
            }
            crash_point();
            match execute(&self.machine, &mut self.known, &self.desired, &planned.action).await {
                Ok(made) => {
                    done += 1;
                    if let Some(seen) = &mut seen {
                        followed &= seen.note(&self.machine, &planned.action, made);
                    }
                    self.log(planned, trigger);
                    if let Action::Configure(wanted) = &planned.action {
                        report.set_up.insert(wanted.endpoint);
                    }
                }
                Err(error) if error.is_gone() => {
                    tracing::debug!(action = ?planned.action, %error, "what it is about went away");
                    (done, followed) = (done + 1, false);
                }
                Err(error) => self.fail(planned, &error, report),
            }
        }
        self.end_connections(&ends);
        (done, followed)
    }

    /// Removes the entries of connections that a plan has ended.
    fn end_connections(&self, ends: &Ends) {
        let ended = tokio::task::block_in_place(|| {
            ends.carry_out(&self.machine.tables, &self.known.contents)
        });
        match ended {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "entries of connections removed"),
            Err(error) => {
                tracing::warn!(%error, "connections that ended stay in the table until they are idle")
            }
        }
    }

    fn log(&mut self, planned: &Planned, trigger: Trigger) {
        let (kind, action, subject) = (planned.action.kind(), &planned.action, planned.subject);
        match trigger {
            Trigger::Watch => {
                tracing::info!(kind, %subject, ?action, "repaired");
                self.metrics.repaired(kind);
                self.shared.update(|s| *s.repairs.entry(kind).or_default() += 1);
            }
            Trigger::Start | Trigger::Change => tracing::debug!(kind, %subject, ?action, "done"),
        }
    }

    fn fail(&mut self, planned: &Planned, error: &ExecuteError, report: &mut Report) {
        let (kind, subject) = (planned.action.kind(), planned.subject);
        tracing::warn!(kind, %subject, %error, "an action failed");
        report.failures.entry(subject).or_insert_with(|| error.to_string());
    }

    fn give_up(&self, plan: &[Planned], report: &mut Report) {
        for planned in plan {
            let (kind, subject) = (planned.action.kind(), planned.subject);
            tracing::warn!(kind, %subject, action = ?planned.action, "still not so after {ROUNDS} rounds");
            let error = format!("{kind} has no lasting effect");
            report.failures.entry(subject).or_insert(error);
        }
    }

    /// Makes public what the pass has found.
    fn note(&mut self, observed: &Observed, report: &Report, actions: u64, begin: Instant) {
        self.programs =
            Arc::new(names::programs(&self.desired, observed, &self.known, &self.machine));
        let uplinks =
            observed.links.values().filter(|l| self.known.contents.uplinks.contains_key(&l.index));
        let uplinks = uplinks.map(|link| UplinkSeen {
            name: link.name.clone(),
            index: link.index,
            source: link.source,
            source6: link.source6,
            mtu: link.mtu,
            deny: names::deny_mode(&self.desired, observed, link.index),
        });
        let uplinks = uplinks.collect();
        self.shared.update(|s| s.uplinks = uplinks);
        self.note_site(observed);
        self.note_narrow(report, actions, begin);
    }

    /// Makes public what a pass has come to.
    pub(super) fn note_narrow(&mut self, report: &Report, actions: u64, begin: Instant) {
        let (desired, programs) = (Arc::clone(&self.desired), Arc::clone(&self.programs));
        let mode = self.machine.hooks.mode().label();
        self.metrics.names().publish(move || names::names(&desired, &programs, mode));
        self.retry.update(&report.failures);
        let failures = self.retry.failures();
        let health = match failures.iter().next() {
            None => Ok(()),
            Some((subject, failure)) => Err(format!("{subject}: {}", failure.error)),
        };
        self.metrics.set_health(health);
        self.metrics.passed(actions, begin.elapsed());
        let (endpoints, published) =
            (self.known.contents.endpoints.len(), self.known.contents.rules.len());
        self.shared.update(|s| {
            (s.endpoints, s.published) = (endpoints, published);
            s.failures = failures;
            s.passes += 1;
            s.actions += actions;
            s.last_pass = Some(jiff::Timestamp::now());
            s.last_seconds = begin.elapsed().as_secs_f64();
        });
    }

    /// Notes that a container has ended, without a pass.
    pub(super) async fn stop(&mut self, id: ContainerId) {
        let change = Change::Stop { container: id.to_string(), exit_code: None };
        if let Err(error) = self.apply(&change).await {
            tracing::error!(container = %id.short(), %error, "cannot take the container down");
        }
    }
}

/// A failed object's actions are left out for the rest of the pass; the host is too many things for that.
pub(super) fn blocked(report: &Report, subject: Subject) -> bool {
    subject != Subject::Host && report.failures.contains_key(&subject)
}
