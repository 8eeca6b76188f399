//! Readings: what the agent says, with the rates since it was asked before.

use std::time::{Duration, Instant};

use super::view::{Reading, Wanted};
use crate::api::{
    client::{Client, ClientError},
    flows::Connections,
    paths,
    traffic::{Traffic, fill_rates},
};

/// Connections that are read at most.
const CONNECTIONS: &str = "1000";
/// Readings that are closer together than this have no rates that mean anything.
const CLOSEST: Duration = Duration::from_millis(150);

/// Asks the agent again and again.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    interval: Duration,
    before: Option<(Instant, Traffic)>,
    shown: Option<Traffic>,
}

impl Reader {
    /// Makes one that waits this long between two readings.
    pub const fn new(client: Client, interval: Duration) -> Self {
        Self { client, interval, before: None, shown: None }
    }

    /// Time between two readings.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Reads once.
    pub fn read(&mut self, wanted: &Wanted) -> Reading {
        match self.try_read(wanted) {
            Ok((traffic, connections)) => Reading::Good(Box::new(traffic), connections),
            Err(error) => Reading::Lost(error.to_string()),
        }
    }

    /// Reads once, and says why it cannot.
    pub fn try_read(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Traffic, Option<Connections>), ClientError> {
        let traffic = self.traffic()?;
        let container = match wanted {
            Wanted::Nothing => return Ok((traffic, None)),
            Wanted::All => "",
            Wanted::Of(container) => container,
        };
        let query = [("container", container), ("limit", CONNECTIONS)];
        match self.client.get(&paths::query(paths::CONNECTIONS, &query)) {
            Ok(connections) => Ok((traffic, Some(connections))),
            // The container has gone meanwhile.
            Err(error) if error.is_not_found() => Ok((traffic, None)),
            Err(error) => Err(error),
        }
    }

    fn traffic(&mut self) -> Result<Traffic, ClientError> {
        if let (Some((at, _)), Some(shown)) = (&self.before, &self.shown)
            && at.elapsed() < CLOSEST
        {
            return Ok(shown.clone());
        }
        let read: Traffic = self.client.get(paths::TRAFFIC)?;
        let mut shown = read.clone();
        if let Some((_, before)) = &self.before {
            fill_rates(&mut shown, before);
        }
        self.before = Some((Instant::now(), read));
        self.shown = Some(shown.clone());
        Ok(shown)
    }
}
