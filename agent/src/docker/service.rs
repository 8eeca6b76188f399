//! Takes over Docker's networks, gives them back, and tells how it stands.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    daemon::{self, DaemonError, Edit},
    engine::{Engine, EngineError},
    follow::{Follow, Followed, default_id},
    report::{ConfigReport, DaemonReport, KeyReport, Report},
    rules::{Known, Left, RulesError},
    seen, tell,
};
use crate::{
    kernel::netlink::Netlink,
    model::{Adoption, Phase},
    reconcile::Handle,
    state::{Change, Rejected},
};

/// How long the first look at everything may take.
const FIRST: Duration = Duration::from_secs(60);
/// How long a daemon may take to tell of itself, for a report: one that is just starting takes calls and answers late.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why Docker's networks are not taken over, or not given back.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Docker does not tell.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its configuration cannot be changed.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// Its rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The change is refused.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It does not fit what is.
    #[error("{0}")]
    Unfit(String),
    /// It could not be looked at in time.
    #[error("Docker's networks could not be taken over: {0}; nothing else was changed")]
    Unseen(String),
}

/// What takes over and gives back.
#[derive(Clone, Debug)]
pub struct Service {
    socket: PathBuf,
    config: PathBuf,
    handle: Handle,
    follow: Follow,
    /// Why the last restart failed.
    failed: Arc<Mutex<Option<String>>>,
    /// One at a time.
    busy: Arc<tokio::sync::Mutex<()>>,
}

/// What was found out about Docker.
struct Found {
    engine: Engine,
    daemon: super::engine::Daemon,
    networks: Vec<super::engine::EngineNetwork>,
    containers: Vec<super::engine::EngineContainer>,
    process: daemon::Process,
    edit: Edit,
    left: Left,
}

impl Found {
    /// Whether the default network is meant to be masqueraded: a daemon that makes no rules says no, whatever is meant.
    fn masquerade(&self) -> bool {
        let default = self.networks.iter().find(|n| seen::is_default(n));
        let says = |n: &super::engine::EngineNetwork| {
            n.options.get(crate::model::keys::MASQUERADE).is_some_and(|value| value == "true")
        };
        default.is_some_and(says) || self.edit.masquerade
    }

    /// Returns whether the daemon still has to be started without rules of its own.
    fn restart(&self) -> bool {
        !self.edit.changes.is_empty() || !self.left.rules.is_empty()
    }
}

impl Service {
    /// Makes what takes over the networks of the daemon behind a socket, with this configuration.
    pub fn new(socket: &Path, config: &Path, netlink: Netlink, handle: Handle) -> Self {
        Self {
            socket: socket.to_owned(),
            config: config.to_owned(),
            follow: Follow::new(netlink, handle.clone()),
            handle,
            failed: Arc::default(),
            busy: Arc::default(),
        }
    }

    /// Follows Docker as long as its networks are ours.
    pub async fn run(self) {
        let mut state = self.follow.state();
        let settle = async {
            loop {
                if state.changed().await.is_err() {
                    return;
                }
                let seen = state.borrow_and_update().clone();
                if let Err(error) = self.came(&seen).await {
                    tracing::warn!(%error, "Docker's daemon came back, and it is not settled yet");
                }
            }
        };
        tokio::join!(self.follow.run(&self.socket), settle);
    }

    fn adoption(&self) -> Adoption {
        self.handle.shared.get().desired.docker.clone()
    }

    async fn find(&self) -> Result<Found, DockerError> {
        let engine = Engine::connect(&self.socket).await?;
        let process = daemon::Process::find(&self.socket).await;
        let edit = daemon::edit(&self.config, &process.flags)?;
        let networks = engine.networks().await?;
        let left = Left::read(&known(&networks)).await?;
        Ok(Found {
            daemon: engine.daemon().await?,
            containers: engine.containers().await?,
            networks,
            process,
            edit,
            left,
            engine,
        })
    }

    /// Tells how it stands, and what taking over would change.
    pub async fn report(&self) -> Result<Report, DockerError> {
        let adoption = self.adoption();
        let mut report = Report {
            phase: tell::phase(adoption.phase).to_owned(),
            config: ConfigReport {
                path: self.config.display().to_string(),
                copy: daemon::copy_of(&self.config).display().to_string(),
                keys: Vec::new(),
            },
            daemon: DaemonReport {
                socket: self.socket.display().to_string(),
                ..Default::default()
            },
            ..Report::default()
        };
        match tokio::time::timeout(PATIENCE, self.find()).await {
            Ok(Ok(found)) => tell::found(&mut report, &found.summary(), &adoption),
            Ok(Err(DockerError::Engine(error))) if adoption.is_active() => {
                report.drift.push(format!("{error}: what it had is served as it was"));
            }
            Err(_) if adoption.is_active() => {
                report.drift.push(
                    "Docker's daemon does not answer yet: what it had is served as it was".into(),
                );
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(DockerError::Unfit("Docker's daemon does not answer".into())),
        }
        if adoption.is_active() {
            report.drift.extend(self.drift(&adoption));
        }
        Ok(report)
    }

    fn drift(&self, adoption: &Adoption) -> Vec<String> {
        let mut drift = Vec::new();
        let state = self.follow.state().borrow().clone();
        if let Some(wrote) = adoption.written.as_deref().filter(|_| adoption.phase == Phase::On) {
            match daemon::drift(&self.config, wrote) {
                Ok(keys) => drift.extend(keys.into_iter().map(|key| {
                    format!("{}: {key} is not as it was written", self.config.display())
                })),
                Err(error) => drift.push(error.to_string()),
            }
        }
        drift.extend(state.error.map(|error| format!("Docker is not followed: {error}")));
        drift.extend(
            state.unknown.iter().map(|name| format!("nobody knows whose {name} is: it is shut")),
        );
        drift.extend(self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone());
        drift
    }

    /// Takes over Docker's networks. The agent's programs are in place before the daemon is started without its rules.
    pub async fn adopt(&self) -> Result<Report, DockerError> {
        let _alone = self.busy.lock().await;
        let found = self.find().await?;
        if found.daemon.swarm {
            return Err(DockerError::Unfit(
                "Docker is part of a swarm, whose networks Bascule does not serve: `docker swarm leave` first".into(),
            ));
        }
        let before = self.adoption();
        if before.phase == Phase::Releasing {
            return Err(DockerError::Unfit(
                "Docker's networks are just being given back: start Docker's daemon again, and adopt them then".into(),
            ));
        }
        // Adopted a second time, what was there before the first time is what comes back.
        let again = before.phase != Phase::Off;
        let adoption = Adoption {
            phase: Phase::Taking,
            before: if again { before.before.clone() } else { found.edit.before.clone() },
            written: (again && before.written.is_some() || !found.edit.changes.is_empty())
                .then(|| found.edit.after.clone()),
            daemon: daemon::identity(&self.socket).unwrap_or_else(|| default_id(&found.networks)),
            masquerade: if again { before.masquerade } else { found.masquerade() },
            icc_off: if again { before.icc_off } else { found.edit.icc_off },
            rules: if again { before.rules.clone() } else { found.left.rules.clone() },
        };
        self.handle.change(Change::Adoption(Box::new(adoption.clone()))).await?;
        if let Err(why) = self.taken_over().await {
            if !again {
                self.handle.change(Change::Adoption(Box::default())).await?;
            }
            return Err(DockerError::Unseen(why));
        }
        if !found.edit.changes.is_empty() {
            let written = daemon::write(&self.config, Some(&found.edit.after), !again);
            if let Err(error) = written {
                if !again {
                    self.handle.change(Change::Adoption(Box::default())).await?;
                }
                return Err(error.into());
            }
        }
        if found.restart() {
            self.restart(&found.process);
        } else {
            self.settle(&found.engine).await?;
        }
        self.report().await
    }

    /// Gives Docker's networks back. The agent's programs stay until the daemon has been started with its rules.
    pub async fn release(&self) -> Result<Report, DockerError> {
        let _alone = self.busy.lock().await;
        let adoption = self.adoption();
        if !adoption.is_active() {
            return Err(DockerError::Unfit("Docker's networks are Docker's own already".into()));
        }
        if let Some(wrote) = &adoption.written {
            let text = daemon::restored(&self.config, (adoption.before.as_deref(), wrote))?;
            daemon::write(&self.config, text.as_deref(), false)?;
        }
        let state = self.follow.state().borrow().clone();
        let process = daemon::Process::find(&self.socket).await;
        // Without a daemon that was started without rules there is none to wait for.
        let waits = adoption.written.is_some() && state.reachable;
        if waits {
            let daemon = state.daemon;
            let releasing = Adoption { phase: Phase::Releasing, daemon, ..adoption };
            self.handle.change(Change::Adoption(Box::new(releasing))).await?;
            self.restart(&process);
        } else {
            self.let_go().await?;
        }
        match self.report().await {
            // Given back, it need not be there.
            Err(DockerError::Engine(_)) => Ok(Report { phase: "off".into(), ..Report::default() }),
            report => report,
        }
    }

    async fn let_go(&self) -> Result<(), DockerError> {
        self.handle.change(Change::Adoption(Box::default())).await?;
        daemon::forget_copy(&self.config);
        self.follow.wake();
        tracing::info!("Docker's networks are Docker's own again");
        Ok(())
    }

    /// Waits until everything of Docker's has been taken over once.
    async fn taken_over(&self) -> Result<(), String> {
        let mut state = self.follow.state();
        let before = state.borrow().times;
        self.follow.wake();
        let result = tokio::time::timeout(FIRST, state.wait_for(|s| s.times > before)).await;
        let why = || {
            self.follow.state().borrow().error.clone().unwrap_or_else(|| "it takes too long".into())
        };
        result.ok().and_then(Result::ok).map(|_| ()).ok_or_else(why)
    }

    /// Has the daemon be started again where that can be done; else the operator is told how.
    fn restart(&self, process: &daemon::Process) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !process.unit {
            return;
        }
        let failed = Arc::clone(&self.failed);
        tokio::spawn(async move {
            if let Err(error) = daemon::restart().await {
                tracing::error!(%error, "Docker's daemon is not started again");
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        });
    }

    /// Goes on where the daemon has been started again.
    async fn came(&self, state: &Followed) -> Result<(), DockerError> {
        let adoption = self.adoption();
        if !state.reachable {
            return Ok(());
        }
        let is_new = state.daemon != adoption.daemon;
        match adoption.phase {
            Phase::Taking if is_new && self.is_written(&adoption) => {
                self.settle(&Engine::connect(&self.socket).await?).await
            }
            Phase::Releasing if is_new => self.let_go().await,
            _ => Ok(()),
        }
    }

    /// Whether Docker's configuration has the keys: a daemon that was started with it does without rules.
    fn is_written(&self, adoption: &Adoption) -> bool {
        adoption.written.as_ref().is_none_or(|wrote| {
            daemon::drift(&self.config, wrote).is_ok_and(|keys| keys.is_empty())
        })
    }

    /// Takes the rules away that Docker left, which would still translate and forward.
    async fn settle(&self, engine: &Engine) -> Result<(), DockerError> {
        let left = Left::read(&known(&engine.networks().await?)).await?;
        left.remove().await?;
        let mut adoption = self.adoption();
        adoption.phase = Phase::On;
        for rule in left.rules {
            if !adoption.rules.contains(&rule) {
                adoption.rules.push(rule);
            }
        }
        self.handle.change(Change::Adoption(Box::new(adoption))).await?;
        tracing::info!("Docker's daemon makes no rules any more; its networks are served here");
        Ok(())
    }
}

impl Found {
    fn summary(&self) -> tell::Summary<'_> {
        tell::Summary {
            daemon: DaemonReport {
                reachable: true,
                socket: String::new(),
                version: self.daemon.version.clone(),
                live_restore: self.daemon.live_restore,
                restart: self.restart(),
                how: self.process.how(),
                automatic: self.process.unit,
            },
            keys: self
                .edit
                .changes
                .iter()
                .map(|change| KeyReport {
                    key: change.key.to_owned(),
                    from: change.from.clone().unwrap_or_default(),
                    to: change.to.to_string(),
                })
                .collect(),
            left: &self.left,
            networks: &self.networks,
            containers: &self.containers,
            rules: !self.left.rules.is_empty(),
        }
    }
}

fn known(networks: &[super::engine::EngineNetwork]) -> Known {
    let served = || networks.iter().filter(|n| seen::is_served(n));
    Known {
        bridges: served().map(seen::bridge).collect(),
        subnets: served()
            .flat_map(|n| n.subnets.iter().filter_map(|s| s.subnet.parse().ok()))
            .collect(),
    }
}
