//! The driver at work: what it waits for. It has nothing to do while nothing happens; what nobody tells is looked for,
//! now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    around::{self, Around},
    driver::Driver,
    follow,
    guard::Guard,
    heard::{self, Heard},
    machine::Machine,
    observe::{Look, known},
    pass::Trigger,
    retry::Retry,
    status::Shared,
    touched::{self, Touched},
};
use crate::{
    kernel::{heap, netlink},
    plan::{Scope, Subject},
};

/// How often it is made sure that namespaces are there of which nobody tells, and files written that could not be: half
/// of what is promised.
const PRESENCE: Duration = Duration::from_millis(500);
/// How often everything is read again, whatever was heard: so many times as long as that takes lies between two times, but
/// no less than the one and no more than the other. A host with thousands of containers has something better to do.
const FULL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
const SHARE: u32 = 3000;
/// How long after a change free heap is given back, and after how many at once: each copies what is desired, and leaves
/// holes.
const HOLES: (Duration, u32) = (Duration::from_secs(1), 32);
/// Containers whose interfaces somebody touches that may wait.
const QUEUE: usize = 8;

/// What tells of changes that nobody asked for.
#[derive(Debug)]
pub(super) struct Ears {
    heard: Heard,
    around: Arc<Around>,
    touched: mpsc::Receiver<Touched>,
    /// They end with it.
    _tasks: JoinSet<()>,
}

impl Ears {
    /// Listens from now on.
    pub(super) fn open(machine: &Machine, shared: &Shared) -> Self {
        let (heard, around) = (Heard::default(), Arc::<Around>::default());
        let (sender, touched) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(heard::watch(heard.clone()));
        tasks.spawn(around::listen(Arc::clone(&around), shared.clone()));
        tasks.spawn(touched::listen(machine.numbers.clone(), sender));
        Self { heard, around, touched, _tasks: tasks }
    }
}

impl Driver {
    /// Works until `stop` completes, and then for those whose requests had begun, until `served` does.
    pub async fn run(mut self, stop: impl Future<Output = ()>, served: impl Future<Output = ()>) {
        heap::give_back();
        let guard = tokio::spawn(Guard::of(&self.machine, self.shared.clone()).run());
        let mut presence = interval(PRESENCE);
        presence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut full = Instant::now() + FULL.0;
        let (mut changes, mut rest) = (0, None);
        let mut asked = (Arc::clone(&self.desired), follow::has_to_ask(&self.desired));
        let mut set = None;
        tokio::pin!(stop);
        loop {
            let retry = self.retry.next();
            if !Arc::ptr_eq(&asked.0, &self.desired) {
                asked = (Arc::clone(&self.desired), follow::has_to_ask(&self.desired));
            }
            let may_look = !self.turns.is_empty() && self.seen.is_some() && self.retry.is_empty();
            tokio::select! {
                () = &mut stop => break,
                Some(command) = self.commands.recv() => {
                    // It tells, and keeps the files, before it answers.
                    self.command(command).await;
                    changes += 1;
                    rest = rest.or_else(|| Some(Instant::now() + HOLES.0));
                    if changes >= HOLES.1 {
                        heap::give_back();
                        (changes, rest) = (0, None);
                    }
                    continue;
                }
                change = self.ears.heard.next() => self.heard(&change).await,
                Some(touched) = self.ears.touched.recv() => self.judge(touched),
                Some(id) = self.follow.ended() => {
                    tracing::info!(container = %id.short(), "the process has ended");
                    self.stop(id).await;
                    self.look(Look::Only(BTreeSet::new())).await;
                }
                () = self.ears.around.mounted.notified() => self.look_for_vanished().await,
                _ = presence.tick(), if asked.1 || self.files_failed => self.look_for_vanished().await,
                // The files are kept below.
                () = self.ears.around.written.notified() => {}
                () = self.shared.wait_for(|s| set.as_ref() != Some(&s.configured.names)) => {
                    set = Some(self.shared.get().configured.names.clone());
                    self.take_over_settings().await;
                }
                () = Retry::wait(Some(full)) => {
                    let begin = Instant::now();
                    self.look_at_all().await;
                    full = Instant::now() + (begin.elapsed() * SHARE).clamp(FULL.0, FULL.1);
                }
                () = std::future::ready(()), if may_look => self.look_inside_some().await,
                () = Retry::wait(rest) => {
                    heap::give_back();
                    (changes, rest) = (0, None);
                }
                () = Retry::wait(retry) => self.look(Look::All).await,
            }
            self.journal.tell(&self.desired, false);
            self.keep_files();
        }
        self.journal.close();
        guard.abort();
        tokio::pin!(served);
        loop {
            tokio::select! {
                () = &mut served => break,
                Some(command) = self.commands.recv() => self.command(command).await,
            }
        }
    }

    /// Looks at the machine if something has changed that this agent has not done itself.
    async fn heard(&mut self, change: &netlink::Change) {
        if change.forwarding || change.resync {
            self.note_forwarding();
        }
        let explained = match &self.seen {
            Some(seen) => seen.explains(&self.machine, &self.desired, change).await,
            None => false,
        };
        if !explained {
            self.look(Look::Only(BTreeSet::new())).await;
        }
    }

    /// Has those containers looked into whose interfaces are not as they are known to be.
    fn judge(&mut self, touched: Touched) {
        let Touched::In(all) = touched else {
            return self.turns.add(self.desired.containers.keys().copied());
        };
        let seen = self.seen.as_ref().or(self.former.as_ref());
        let is_known = |id, within| {
            let sandbox = seen.and_then(|seen| seen.observed.sandboxes.get(id));
            let inside = sandbox.and_then(|sandbox| sandbox.inside.as_ref());
            inside.is_some_and(|inside| touched::explains(inside, within))
        };
        self.turns.add(all.iter().filter(|(id, within)| !is_known(id, within)).map(|(id, _)| *id));
    }

    /// Looks at the machine if a namespace is gone.
    async fn look_for_vanished(&mut self) {
        if !follow::all_present(&self.machine.places, &self.desired) {
            self.look(Look::Only(BTreeSet::new())).await;
        }
    }

    /// Has the plan follow what was set while the agent runs: whether the default network has names.
    async fn take_over_settings(&mut self) {
        let named = self.shared.get().configured.names.default_bridge;
        if self.settings.default_bridge_dns != named {
            self.settings.default_bridge_dns = named;
            self.look(Look::All).await;
        }
    }

    async fn look_at_all(&mut self) {
        match tokio::task::block_in_place(|| known(&self.machine)) {
            Ok(known) => self.known.refresh(known),
            Err(error) => tracing::error!(%error, "cannot read the maps"),
        }
        self.machine.numbers.retain(|id| self.desired.containers.contains_key(&id));
        self.look(Look::Only(BTreeSet::new())).await;
        self.look_for_vanished().await;
        self.note_forwarding();
        self.reserve_ports();
        heap::give_back();
    }

    /// Looks into the namespaces whose turn it is.
    async fn look_inside_some(&mut self) {
        let mut containers = self.turns.next();
        containers.retain(|id| self.desired.containers.contains_key(id));
        let Some(mut seen) = self.seen.take_if(|_| !containers.is_empty()) else { return };
        for id in &containers {
            if let Some(sandbox) = seen.observed.sandboxes.get_mut(id) {
                sandbox.inside = None;
            }
        }
        let desired = Arc::clone(&self.desired);
        // Links between containers are no matter of what is inside.
        let scope = Scope { containers };
        self.narrow_pass(&desired, seen, &scope, Trigger::Watch).await;
        if self.seen.is_none() {
            self.look(Look::All).await;
        }
    }

    async fn look(&mut self, look: Look) {
        if let Err(error) = self.pass(Trigger::Watch, look).await {
            tracing::error!(%error, "cannot look at the machine");
            self.retry.update(&BTreeMap::from([(Subject::Host, error.to_string())]));
        }
        self.follow_advertisements().await;
        self.update_follow().await;
    }
}
