//! The one task that changes anything: takes changes in turn, commits them, and sees to their effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    follow::{self, Follow},
    guard::Guard,
    heard::{self, Heard},
    journal::Journal,
    machine::Machine,
    observe::{Known, Look, ObserveError, known},
    pass::Trigger,
    retry::Retry,
    seen::Seen,
    status::{Shared, Snapshot},
    sysctls,
};
use crate::{
    files::Files,
    kernel::{self, heap, netlink, process},
    model::{AddressPools, ContainerId, Desired, NetworkId, Predefined, PublishRange},
    plan::{Scope, Settings, Subject},
    state::{
        Change, DefaultIpv6, DefaultNetwork, Outcome, Rejected,
        store::{Store, StoreError},
    },
    telemetry::{Metrics, ProgramName},
};

/// How often it is made sure that namespaces are still there: half of what is promised.
const PRESENCE: Duration = Duration::from_millis(500);
/// How often everything is read again, whatever was heard.
const FULL: Duration = Duration::from_secs(30);
/// How often some namespaces are looked into, and after how many times it is a container's turn again.
const TURN: Duration = Duration::from_secs(1);
const TURNS: usize = 30;
/// After how many changes free heap is given back, if no turn comes before: each copies what is desired, and leaves holes.
const HOLES: u32 = 32;
/// Changes that may wait.
const QUEUE: usize = 1024;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A change that every start makes is refused.
    #[error("cannot bring the stored state up to date: {0}")]
    Rejected(#[from] Rejected),
}

/// A change that somebody waits for.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Outcome, Rejected>>,
}

/// How others ask for changes.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// What others may see.
    pub shared: Shared,
    /// What has happened.
    pub journal: Journal,
}

impl Handle {
    /// Returns how many changes wait for their turn.
    pub fn waiting(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Asks for a change and waits until it has taken effect.
    pub async fn change(&self, change: Change) -> Result<Outcome, Rejected> {
        let stopping = |_| Rejected::internal("the agent is stopping");
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command { change, reply })
            .await
            .map_err(|_| Rejected::internal("the agent is stopping"))?;
        answer.await.map_err(stopping)?
    }
}

/// What the operator has set for the driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Settings of the plan.
    pub settings: Settings,
    /// What the default network is to be.
    pub bridge: DefaultNetwork,
    /// Whether it has IPv6.
    pub ipv6: DefaultIpv6,
    /// Whether the host is made to route.
    pub ip_forward: bool,
    /// Where subnets come from that nobody names.
    pub pools: AddressPools,
    /// Where ports of the host come from that nobody names.
    pub publish_range: PublishRange,
}

/// The one task that changes anything.
#[derive(Debug)]
pub struct Driver {
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) desired: Arc<Desired>,
    pub(super) known: Known,
    /// What was seen last; none where it cannot be relied on.
    pub(super) seen: Option<Seen>,
    /// What was seen before something was done that is not followed: what is inside namespaces.
    pub(super) former: Option<Seen>,
    /// Whose namespace was looked into last.
    turn: Option<ContainerId>,
    pub(super) shared: Shared,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    /// Names of the host's programs; those of endpoints follow from what is desired.
    pub(super) programs: Arc<Vec<ProgramName>>,
    pub(super) retry: Retry,
    pub(super) store: Store,
    follow: Follow,
    files: Files,
    /// Where subnets come from that nobody names, and ports of the host.
    pub(super) choices: (AddressPools, PublishRange),
    /// What the default network is to be where it is not Docker's.
    pub(super) bridge: (DefaultNetwork, DefaultIpv6),
    /// Whether the host is to be made to route.
    pub(super) ip_forward: bool,
    /// Whether the host was made to route IPv6: once, what somebody changes after that stays.
    pub(super) forwarded6: bool,
    /// Interfaces whose obedience to router advertisements was looked at.
    pub(super) advertised: BTreeSet<u32>,
    /// Whether the host routed when it was last looked at, each family.
    pub(super) forwarding: [bool; 2],
    commands: mpsc::Receiver<Command>,
}

impl Driver {
    /// Loads the store and brings about what it says.
    pub async fn start(
        machine: Machine,
        store: Store,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Handle), StartError> {
        let desired = load(&store)?;
        // A former agent may have died while it changed them.
        machine.tables.change(|| Ok::<_, ObserveError>(()))?;
        let shared = Shared::new(Snapshot::new(desired.clone()));
        let (sender, commands) = mpsc::channel(QUEUE);
        let desired = Arc::new(desired);
        let files = Files::new(&machine.places.run);
        let mut driver = Self {
            known: known(&machine)?,
            seen: None,
            former: None,
            turn: None,
            machine,
            settings: options.settings.clone(),
            journal: Journal::new(Arc::clone(&desired)),
            desired,
            shared: shared.clone(),
            metrics,
            programs: Arc::default(),
            retry: Retry::default(),
            store,
            follow: Follow::default(),
            files,
            choices: (options.pools.clone(), options.publish_range),
            bridge: (options.bridge.clone(), options.ipv6),
            ip_forward: options.ip_forward,
            forwarded6: false,
            advertised: BTreeSet::new(),
            forwarding: [true; 2],
            commands,
        };
        driver.bring_up_to_date(options).await?;
        driver.journal = Journal::new(Arc::clone(&driver.desired));
        let handle = Handle { commands: sender, shared, journal: driver.journal.clone() };
        Ok((driver, handle))
    }

    async fn bring_up_to_date(&mut self, options: &Options) -> Result<(), StartError> {
        let boot_id = process::boot_id()?;
        if self.store.load()?.boot_id.as_deref() != Some(&boot_id) {
            self.apply(&Change::Rebooted).await?;
            self.store.set_boot_id(&boot_id)?;
        }
        self.apply(&Change::Recover).await?;
        self.have_default_network().await?;
        if options.ip_forward
            && let Err(error) = sysctls::forward(&self.store)
        {
            tracing::warn!(%error, "the host is not made to route");
        }
        self.forward6().await;
        self.follow_advertisements().await;
        for id in self.follow.update(&self.desired.clone()) {
            self.stop(id).await;
        }
        self.pass(Trigger::Start, Look::All).await?;
        self.announce_all();
        self.reserve_ports();
        self.note_forwarding();
        self.note_site().await;
        Ok(())
    }

    /// Makes the default network, unless it is Docker's.
    pub(super) async fn have_default_network(&mut self) -> Result<(), Rejected> {
        if self.desired.docker.is_active() {
            return Ok(());
        }
        let (network, ipv6) = self.bridge.clone();
        self.apply(&Change::DefaultNetwork(network)).await?;
        self.apply(&Change::DefaultIpv6(ipv6)).await?;
        Ok(())
    }

    /// Works until `stop` completes.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        heap::give_back();
        let heard = Heard::default();
        let watch = tokio::spawn(heard::watch(heard.clone()));
        let guard = tokio::spawn(Guard::of(&self.machine, self.shared.clone()).run());
        let ticker = |period| {
            let mut ticker = interval(period);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker
        };
        let (mut presence, mut full, mut turn) = (ticker(PRESENCE), ticker(FULL), ticker(TURN));
        full.reset();
        turn.reset();
        let mut changes = 0;
        tokio::pin!(stop);
        loop {
            let retry = self.retry.next();
            tokio::select! {
                () = &mut stop => break,
                Some(command) = self.commands.recv() => {
                    // It tells, and keeps the files, before it answers.
                    self.command(command).await;
                    changes += 1;
                    if changes >= HOLES {
                        heap::give_back();
                        changes = 0;
                    }
                    continue;
                }
                change = heard.next() => self.heard(&change).await,
                Some(id) = self.follow.ended() => {
                    tracing::info!(container = %id.short(), "the process has ended");
                    self.stop(id).await;
                    self.look(Look::Only(BTreeSet::new())).await;
                }
                _ = presence.tick() => {
                    self.note_forwarding();
                    self.take_over_settings().await;
                    if !follow::all_present(&self.machine.places, &self.desired) {
                        self.look(Look::Only(BTreeSet::new())).await;
                    }
                },
                _ = full.tick() => self.look_at_all().await,
                _ = turn.tick() => {
                    self.look_inside_some().await;
                    if std::mem::take(&mut changes) > 0 {
                        heap::give_back();
                    }
                }
                () = Retry::wait(retry) => self.look(Look::All).await,
            }
            self.journal.tell(&self.desired, false);
            self.keep_files();
        }
        self.journal.close();
        watch.abort();
        guard.abort();
    }

    /// Looks at the machine if something has changed that this agent has not done itself.
    async fn heard(&mut self, change: &netlink::Change) {
        let explained = match &self.seen {
            Some(seen) => seen.explains(&self.machine, &self.desired, change).await,
            None => false,
        };
        if !explained {
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
        self.look(Look::Only(BTreeSet::new())).await;
        self.reserve_ports();
        self.note_site().await;
        heap::give_back();
    }

    /// Looks into the namespaces whose turn it is, so that each has had one when everything else is read again.
    async fn look_inside_some(&mut self) {
        let count = self.desired.containers.len().div_ceil(TURNS);
        let all = || self.desired.containers.keys().copied();
        let next = all().skip_while(|id| self.turn.is_some_and(|last| *id <= last)).take(count);
        let containers: BTreeSet<_> = next.collect();
        self.turn = containers.last().copied();
        let known = self.retry.is_empty();
        let Some(mut seen) = self.seen.take_if(|_| known && !containers.is_empty()) else { return };
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

    pub(super) async fn update_follow(&mut self) {
        let desired = Arc::clone(&self.desired);
        for id in self.follow.update(&desired) {
            self.stop(id).await;
        }
    }

    /// Brings the containers' files up to date, where something has changed that they tell of.
    pub(super) fn keep_files(&mut self) {
        let settings = self.shared.get().configured.names.clone();
        for error in self.files.keep(&self.desired, &settings) {
            tracing::warn!("{error}; it is tried again");
        }
    }

    pub(super) fn reserve_ports(&self) {
        if let Err(error) = sysctls::reserve(&self.store, &self.desired, &self.settings.config) {
            tracing::warn!(%error, "published ports are not reserved from the host's choice");
        }
    }
}

fn load(store: &Store) -> Result<Desired, StoreError> {
    if let Some(desired) = store.load()?.desired {
        return Ok(desired);
    }
    let predefined = Predefined {
        host: NetworkId::new(rand::random()),
        none: NetworkId::new(rand::random()),
        created: jiff::Timestamp::now(),
    };
    let desired = Desired::new(predefined, rand::random());
    store.commit(None, &desired)?;
    Ok(desired)
}
