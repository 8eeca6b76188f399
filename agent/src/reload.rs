//! SIGHUP: the configuration is read again, and takes effect as far as it can while the agent runs.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    config::{Config, ConfigError, Given},
    reconcile::{Configured, Shared},
    telemetry::log::{Filter, LogError},
};

/// Why a configuration does not take effect.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    /// It does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what the data plane and the default network were made with.
    #[error(
        "{} cannot change while the agent runs: restart the agent, or take the change back", .0.join(", ")
    )]
    Fixed(Vec<&'static str>),
    /// The log's filter makes no sense.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What reads the configuration again.
#[derive(Debug)]
pub struct Reload {
    given: Given,
    current: Config,
    filter: Filter,
    shared: Shared,
    hangups: Option<Signal>,
}

impl Reload {
    /// Listens for the signal from now on, and makes public what holds.
    pub fn listen(given: &Given, current: &Config, filter: Filter, shared: Shared) -> Self {
        // Without a handler the signal ends the process, as it does everywhere.
        let hangups = signal(SignalKind::hangup()).ok();
        let reload =
            Self { given: given.clone(), current: current.clone(), filter, shared, hangups };
        reload.publish(None);
        reload
    }

    /// Reads the configuration again at every signal.
    pub async fn run(mut self) {
        loop {
            let Some(hangups) = &mut self.hangups else { return };
            if hangups.recv().await.is_none() {
                return;
            }
            match self.read() {
                Ok(changed) if changed.is_empty() => {
                    tracing::info!("the configuration was read again: nothing has changed");
                    self.publish(None);
                }
                Ok(changed) => {
                    tracing::info!("the configuration was read again: {}", changed.join(", "));
                    self.publish(None);
                }
                Err(error) => {
                    tracing::error!(
                        "the configuration is not reloaded, the former one holds: {error}"
                    );
                    self.publish(Some(error.to_string()));
                }
            }
        }
    }

    /// Takes over what a new configuration changes, all of it or nothing.
    fn read(&mut self) -> Result<Vec<&'static str>, ReloadError> {
        let new = Config::resolve(self.given.clone())?;
        let changes = self.current.changes(&new);
        let fixed: Vec<_> = changes.iter().filter(|c| !c.at_once).map(|c| c.key).collect();
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        self.filter.set(&new.log_level)?;
        self.current = new;
        Ok(changes.into_iter().map(|change| change.key).collect())
    }

    fn publish(&self, refused: Option<String>) {
        self.shared.configured(Configured { names: self.current.names.clone(), refused });
    }
}
