//! Names of containers: a server that answers by who asks.
//!
//! It listens in a network namespace of its own ([`crate::kernel::names`]), to which the data plane takes what
//! containers send to port 53 of their gateway. What it knows follows from what the agent was asked for
//! ([`directory`]); anything else is asked of others.

mod answer;
mod batch;
mod cache;
pub mod directory;
mod engine;
mod forward;
mod framed;
#[cfg(test)]
mod fuzz;
mod limits;
mod pressure;
mod server;
mod sockets;
mod stub;
#[cfg(test)]
mod tests;
mod told;
mod upstreams;
mod wire;

use std::{sync::Arc, time::Duration};

pub use engine::{Engine, Wish, Wishes};
pub use stub::Stub;

use self::server::Server;
use crate::kernel::{
    self,
    names::{self, Place},
    netlink::{Netlink, Watch},
    owned::Mark,
};

/// How long changes of the way to the server are gathered before it is looked at, and how long nothing is tried after
/// a failure.
const LOOK: Duration = Duration::from_secs(2);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Linux refuses the place.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Linux refuses the sockets.
    #[error("cannot listen for questions about names: {0}")]
    Listen(#[from] std::io::Error),
}

/// The server and its place.
#[derive(Debug)]
pub struct Names {
    netlink: Netlink,
    mark: Mark,
    place: Option<Place>,
    server: Option<Server>,
}

impl Names {
    /// Makes the place. Where that fails it is tried again while [`Self::run`] runs.
    pub async fn prepare(netlink: Netlink, mark: Mark) -> Self {
        let mut names = Self { netlink, mark, place: None, server: None };
        if let Err(error) = names.make().await {
            tracing::warn!(%error, "containers have no server of names yet");
        }
        names
    }

    async fn make(&mut self) -> Result<(), StartError> {
        self.place = None;
        self.place = Some(names::make(&self.netlink, &self.mark).await?);
        Ok(())
    }

    /// Sees to it that the server can be reached, for as long as the agent runs.
    pub async fn run(mut self, engine: Arc<Engine>) {
        let mut watch = None;
        loop {
            // Heard from before it is looked at, so that nothing falls in between.
            if watch.is_none() {
                watch = Watch::open().ok();
            }
            let is_well = self.serve(&engine).await;
            match &mut watch {
                Some(listening) if is_well => {
                    if !self.is_touched(listening).await {
                        watch = None;
                    }
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until something happens to the veth; false: nothing can be heard.
    async fn is_touched(&self, watch: &mut Watch) -> bool {
        let index = self.place.as_ref().map(|place| place.index);
        while let Ok(change) = watch.changed(LOOK).await {
            if change.resync || index.is_none_or(|index| change.links.contains(&index)) {
                return true;
            }
        }
        false
    }

    /// Listens, if it does not, and tells whether it does now; where that fails, it is tried again.
    pub async fn serve(&mut self, engine: &Arc<Engine>) -> bool {
        let served = self.try_serve(engine).await;
        if let Err(error) = &served {
            tracing::warn!(%error, "containers have no server of names");
        }
        served.is_ok()
    }

    async fn try_serve(&mut self, engine: &Arc<Engine>) -> Result<(), StartError> {
        let there = match &self.place {
            Some(place) => names::is_there(&self.netlink, place).await?,
            None => false,
        };
        if !there {
            self.server = None;
            self.make().await?;
        }
        if let (None, Some(place)) = (&self.server, &self.place) {
            self.server = Some(Server::start(engine, place).await?);
        }
        Ok(())
    }
}
