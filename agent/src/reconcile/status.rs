//! What others may see of the agent's doing: replaced as a whole, read without waiting.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    model::{Desired, NameSettings},
    plan::Subject,
};

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again.
    pub next: Instant,
}

/// An interface that leads out of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkSeen {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Address that masquerade uses.
    pub source: Option<std::net::Ipv4Addr>,
    /// The IPv6 address that it uses.
    pub source6: Option<std::net::Ipv6Addr>,
    /// Its MTU.
    pub mtu: u32,
    /// Where the deny list is looked at, where there is one: `native` or `generic` XDP, or `tc`.
    pub deny: Option<&'static str>,
}

/// What the operator has set, as far as others ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// What is set for names.
    pub names: NameSettings,
    /// Why the configuration that was read last does not hold.
    pub refused: Option<String>,
}

/// State after the last pass.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the operator has set.
    pub configured: Configured,
    /// What was asked for.
    pub desired: Arc<Desired>,
    /// Interfaces that lead out of the host.
    pub uplinks: Vec<UplinkSeen>,
    /// What the operator is to know of whether the host routes.
    pub forwarding: Vec<String>,
    /// What the operator is to know of networks that the site has come into.
    pub site: Vec<String>,
    /// Entries of endpoints in the data plane.
    pub endpoints: usize,
    /// Entries of published ranges in the data plane.
    pub published: usize,
    /// Objects that are not as they should be.
    pub failures: BTreeMap<Subject, Failure>,
    /// Passes so far.
    pub passes: u64,
    /// Actions so far.
    pub actions: u64,
    /// Actions that nobody had asked for, by kind.
    pub repairs: BTreeMap<&'static str, u64>,
    /// End of the last pass.
    pub last_pass: Option<Timestamp>,
    /// How long it took.
    pub last_seconds: f64,
}

impl Snapshot {
    /// Returns the state before the first pass.
    pub fn new(desired: Desired) -> Self {
        Self {
            configured: Configured::default(),
            desired: Arc::new(desired),
            uplinks: Vec::new(),
            forwarding: Vec::new(),
            site: Vec::new(),
            endpoints: 0,
            published: 0,
            failures: BTreeMap::new(),
            passes: 0,
            actions: 0,
            repairs: BTreeMap::new(),
            last_pass: None,
            last_seconds: 0.0,
        }
    }
}

/// The current state, for everyone to read, and to wait for.
#[derive(Clone, Debug)]
pub struct Shared(watch::Sender<Arc<Snapshot>>);

impl Shared {
    /// Makes it.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(watch::Sender::new(Arc::new(snapshot)))
    }

    /// Returns the current state.
    pub fn get(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until it is so. What is asked is asked at every change, and has to be quick.
    pub async fn wait_for(&self, is_so: impl FnMut(&Arc<Snapshot>) -> bool) {
        // The sender is ours: it does not go.
        let _ = self.0.subscribe().wait_for(is_so).await;
    }

    /// Notes what the operator has set.
    pub fn configured(&self, configured: Configured) {
        self.update(|snapshot| snapshot.configured = configured);
    }

    /// Changes it.
    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.0.send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }
}
