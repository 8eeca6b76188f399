//! The one task that changes anything: takes changes in turn, commits them, and sees to their effect.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::{
    follow::Follow,
    journal::Journal,
    machine::Machine,
    observe::{Known, Look, ObserveError, known},
    pass::Trigger,
    retry::Retry,
    run::Ears,
    seen::Seen,
    status::{Shared, Snapshot},
    sysctls,
    touched::Turns,
};
use crate::{
    files::Files,
    kernel::{self, process},
    model::{AddressPools, Desired, NetworkId, Predefined, PublishRange},
    plan::Settings,
    state::{
        Change, DefaultIpv6, DefaultNetwork, Outcome, Rejected,
        store::{Loaded, Store, StoreError},
    },
    telemetry::{Metrics, ProgramName},
};

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
    /// Whose namespaces are to be looked into.
    pub(super) turns: Turns,
    pub(super) shared: Shared,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    /// Names of the host's programs; those of endpoints follow from what is desired.
    pub(super) programs: Arc<Vec<ProgramName>>,
    pub(super) retry: Retry,
    pub(super) store: Store,
    pub(super) follow: Follow,
    files: Files,
    /// Whether a file could not be written.
    pub(super) files_failed: bool,
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
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) ears: Ears,
}

impl Driver {
    /// Loads the store and brings about what it says.
    pub async fn start(
        machine: Machine,
        store: Store,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Handle), StartError> {
        let Loaded { desired, boot_id } = store.load()?;
        let desired = desired.map_or_else(|| begin(&store), Ok)?;
        // A former agent may have died while it changed them.
        machine.tables.change(|| Ok::<_, ObserveError>(()))?;
        let shared = Shared::new(Snapshot::new(desired.clone()));
        let (sender, commands) = mpsc::channel(QUEUE);
        let desired = Arc::new(desired);
        let files = Files::new(&machine.places.run);
        // From before the first look on.
        let ears = Ears::open(&machine, &shared);
        let mut driver = Self {
            known: known(&machine)?,
            seen: None,
            former: None,
            turns: Turns::default(),
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
            files_failed: false,
            choices: (options.pools.clone(), options.publish_range),
            bridge: (options.bridge.clone(), options.ipv6),
            ip_forward: options.ip_forward,
            forwarded6: false,
            advertised: BTreeSet::new(),
            forwarding: [true; 2],
            commands,
            ears,
        };
        driver.bring_up_to_date(options, boot_id).await?;
        driver.journal = Journal::new(Arc::clone(&driver.desired));
        let handle = Handle { commands: sender, shared, journal: driver.journal.clone() };
        Ok((driver, handle))
    }

    async fn bring_up_to_date(
        &mut self,
        options: &Options,
        stored_in: Option<String>,
    ) -> Result<(), StartError> {
        let boot_id = process::boot_id()?;
        if stored_in.as_deref() != Some(&boot_id) {
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

    pub(super) async fn update_follow(&mut self) {
        let desired = Arc::clone(&self.desired);
        for id in self.follow.update(&desired) {
            self.stop(id).await;
        }
    }

    /// Brings the containers' files up to date, where something has changed that they tell of.
    pub(super) fn keep_files(&mut self) {
        let settings = self.shared.get().configured.names.clone();
        let failed = self.files.keep(&self.desired, &settings);
        self.files_failed = !failed.is_empty();
        for error in failed {
            tracing::warn!("{error}; it is tried again");
        }
    }

    pub(super) fn reserve_ports(&self) {
        if let Err(error) = sysctls::reserve(&self.store, &self.desired, &self.settings.config) {
            tracing::warn!(%error, "published ports are not reserved from the host's choice");
        }
    }
}

/// What is there before anything was asked for.
fn begin(store: &Store) -> Result<Desired, StoreError> {
    let predefined = Predefined {
        host: NetworkId::new(rand::random()),
        none: NetworkId::new(rand::random()),
        created: jiff::Timestamp::now(),
    };
    let desired = Desired::new(predefined, rand::random());
    store.commit(None, &desired)?;
    Ok(desired)
}
