//! Follows Docker: its events and the interfaces of its bridges say when to look, and what is looked at is everything.
//!
//! So nothing depends on a notice that was missed, came late, or came twice.

use std::{
    collections::BTreeMap,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use tokio::sync::{Notify, watch};

use super::{
    daemon,
    engine::{Engine, EngineError, EngineEvent, EngineNetwork},
    seen::{self, Meant, Port, Seen},
};
use crate::{
    kernel::{
        self,
        netlink::{Link, Netlink, Watch},
        owned,
    },
    model::MacAddress,
    state::{Change, Rejected},
};

/// How often Docker is looked at where nothing was heard.
const PERIOD: Duration = Duration::from_secs(10);
/// How long until a daemon that is not there is looked for again.
const ABSENT: Duration = Duration::from_millis(250);
/// How long until a port that nobody knew is looked at again: at first, and at most.
const UNKNOWN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(2));

/// Why Docker is not followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It does not tell.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its interfaces cannot be looked at.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// What it has is refused.
    #[error("what Docker has cannot be taken over: {0}")]
    Rejected(#[from] Rejected),
}

/// How Docker was when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Whether its daemon answers.
    pub reachable: bool,
    /// Why it could not be looked at.
    pub error: Option<String>,
    /// Which daemon it is, another one after each start.
    pub daemon: String,
    /// Names of ports that nobody knows.
    pub unknown: Vec<String>,
    /// How often it was taken over as a whole.
    pub times: u64,
}

/// Follows one daemon.
#[derive(Clone, Debug)]
pub struct Follow {
    netlink: Netlink,
    handle: crate::reconcile::Handle,
    wake: Arc<Notify>,
    state: Arc<watch::Sender<Followed>>,
    last: Arc<Mutex<Option<crate::state::Docker>>>,
}

impl Follow {
    /// Follows nobody yet.
    pub fn new(netlink: Netlink, handle: crate::reconcile::Handle) -> Self {
        let state = Arc::new(watch::Sender::default());
        Self { netlink, handle, wake: Arc::default(), state, last: Arc::default() }
    }

    /// Returns how Docker was when it was last looked at, now and later.
    pub fn state(&self) -> watch::Receiver<Followed> {
        self.state.subscribe()
    }

    /// Has Docker be looked at now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Follows as long as Docker's networks are ours.
    pub async fn run(&self, socket: &Path) {
        loop {
            if !self.handle.shared.get().desired.docker.is_active() {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.handle.shared.wait_for(|s| s.desired.docker.is_active()).await;
                continue;
            }
            let result = match Engine::connect(socket).await {
                Ok(engine) => self.follow(&engine, socket).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = result {
                tracing::debug!(%error, "Docker is not followed");
                self.state.send_modify(|state| {
                    (state.reachable, state.error) = (false, Some(error.to_string()));
                });
            }
            let _ = tokio::time::timeout(ABSENT, self.wake.notified()).await;
        }
    }

    async fn follow(&self, engine: &Engine, socket: &Path) -> Result<(), FollowError> {
        let identity = daemon::identity(socket);
        // Listened to before it is looked at: nothing falls in between.
        let mut events = pin!(engine.events());
        let mut watch = Watch::open()?;
        let mut again = UNKNOWN.0;
        loop {
            let seen = self.look(engine, identity.as_deref()).await?;
            if !self.handle.shared.get().desired.docker.is_active() {
                return Ok(());
            }
            again = if seen.unknown.is_empty() { UNKNOWN.0 } else { (again * 2).min(UNKNOWN.1) };
            let patience = if seen.unknown.is_empty() { PERIOD } else { again };
            let mut quiet = pin!(tokio::time::sleep(patience));
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        None => return Ok(()),
                        Some(Err(error)) => return Err(error.into()),
                        Some(Ok(event)) if concerns(&event) => break,
                        Some(Ok(_)) => {}
                    },
                    changed = watch.changed(Duration::ZERO) => {
                        let changed = changed?;
                        if changed.resync || !changed.links.is_empty() {
                            again = UNKNOWN.0;
                            break;
                        }
                    }
                    () = self.wake.notified() => break,
                    () = &mut quiet => break,
                }
            }
        }
    }

    /// Looks at everything, and has it taken over.
    async fn look(&self, engine: &Engine, identity: Option<&str>) -> Result<Seen, FollowError> {
        let mut networks = engine.networks().await?;
        let containers = engine.containers().await?;
        let ports = self.ports(&networks).await?;
        let adoption = self.handle.shared.get().desired.docker.clone();
        let meant = Meant { masquerade: adoption.masquerade, icc_off: adoption.icc_off };
        let mut found = seen::assemble(&networks, &containers, &ports, meant);
        if !found.unknown.is_empty() {
            // Whoever is just being started is told of by the network alone.
            for network in &mut networks {
                let bridge = seen::bridge(network);
                let wanted = found.unknown.iter().any(|p| p.bridge == bridge && p.mac.is_some());
                if wanted && seen::is_served(network) {
                    match engine.network(&network.id).await {
                        Ok(whole) => *network = whole,
                        Err(error) if error.is_absent() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            found = seen::assemble(&networks, &containers, &ports, meant);
        }
        self.take_over(&found).await?;
        let daemon = identity.map_or_else(|| default_id(&networks), str::to_owned);
        self.state.send_modify(|state| {
            *state = Followed {
                reachable: true,
                error: None,
                daemon,
                unknown: found.unknown.iter().map(|port| port.name.clone()).collect(),
                times: state.times + 1,
            };
        });
        Ok(found)
    }

    async fn take_over(&self, found: &Seen) -> Result<(), FollowError> {
        let is_same = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.as_ref() == Some(&found.docker)
        };
        if !is_same {
            self.handle.change(Change::Docker(Box::new(found.docker.clone()))).await?;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.docker.clone());
        }
        Ok(())
    }

    /// Returns the ports of Docker's bridges, with who is at their other ends.
    async fn ports(&self, networks: &[EngineNetwork]) -> Result<Vec<Port>, FollowError> {
        let links = self.netlink.links().await?;
        let served: Vec<_> =
            networks.iter().filter(|n| seen::is_served(n)).map(seen::bridge).collect();
        let bridges: BTreeMap<u32, &str> = links
            .iter()
            .filter(|l| served.contains(&l.name))
            .map(|l| (l.index, l.name.as_str()))
            .collect();
        let mut ports = Vec::new();
        for link in links.iter().filter(|l| owned::is_docker_veth(l)) {
            let Some(bridge) = link.master.and_then(|master| bridges.get(&master)) else {
                continue;
            };
            let peer = self.peer(link).await;
            ports.push(Port {
                bridge: (*bridge).to_owned(),
                name: link.name.clone(),
                index: link.index,
                mtu: link.mtu,
                mac: peer.as_ref().and_then(|p| p.mac).and_then(MacAddress::of),
                interface: peer.map(|p| p.name).unwrap_or_default(),
            });
        }
        Ok(ports)
    }

    /// Looks at the other end of a veth, where that is in another namespace: before, it has an address by lot.
    async fn peer(&self, link: &Link) -> Option<Link> {
        let (namespace, index) = (link.peer_namespace?, link.peer?);
        self.netlink.link_in(namespace, index).await.ok().flatten()
    }
}

/// Returns the id of the default network: without containers that outlive the daemon, each start gives it another.
pub fn default_id(networks: &[EngineNetwork]) -> String {
    networks.iter().find(|n| seen::is_default(n)).map(|n| n.id.clone()).unwrap_or_default()
}

/// Returns whether something that has happened may change what is wanted.
fn concerns(event: &EngineEvent) -> bool {
    let noise = ["exec_", "health_status", "attach", "top", "resize", "copy", "archive", "export"];
    !noise.iter().any(|word| event.action.starts_with(word))
}
