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
    netlink::Netlink,
    owned::Mark,
};

/// How often it is made sure that the server can be reached, and how long nothing is tried after a failure.
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
        loop {
            tokio::time::sleep(LOOK).await;
            self.serve(&engine).await;
        }
    }

    /// Listens, if it does not; where that fails, it is tried again.
    pub async fn serve(&mut self, engine: &Arc<Engine>) {
        if let Err(error) = self.try_serve(engine).await {
            tracing::warn!(%error, "containers have no server of names");
        }
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
