//! Names, labels and aliases, asked of Docker when nobody waits for an answer of ours, and what only Docker can tell
//! was lost: networks, endpoints and addresses whose removal nobody heard of.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use futures::StreamExt as _;

use super::heal::{self, Suspects};
use crate::{
    docker::engine::{Engine, EngineError, EngineEvent, EngineNetwork},
    model::{Desired, Network},
    reconcile::Handle,
    state::{Change, LearntContainer, LearntNetwork, PluginChange},
};

/// How often everything is asked again, whatever was heard.
const FULL: Duration = Duration::from_secs(30);
/// How often it is asked while something is missing on one side.
const DOUBT: Duration = Duration::from_secs(5);
/// How long to wait for a Docker that does not answer.
const ABSENT: Duration = Duration::from_secs(2);
/// Questions about what nobody knows yet come in so long after the first, and then twice that, and so on.
const FIRST: Duration = Duration::from_millis(100);

/// Follows Docker for as long as the agent runs; `driver` is what it calls us.
pub(super) async fn follow(handle: Handle, socket: std::path::PathBuf, driver: String) {
    // Without anything of its, nobody misses a Docker that is not there. It is asked all the same: it may have networks
    // that are not known here any more.
    let mut told = !is_docker_there(&handle.shared.get().desired);
    loop {
        match followed(&handle, &socket, &driver).await {
            Ok(()) => told = false,
            // Docker may be down for as long as it likes; what is there goes on.
            Err(error) if !told => {
                tracing::info!("names of Docker's containers are not known for now: {error}");
                told = true;
            }
            Err(error) => tracing::debug!("Docker does not answer: {error}"),
        }
        if is_docker_there(&handle.shared.get().desired) {
            tokio::time::sleep(ABSENT).await;
        } else {
            let asked = handle.shared.wait_for(|s| is_docker_there(&s.desired));
            drop(tokio::time::timeout(FULL, asked).await);
        }
    }
}

fn is_docker_there(desired: &Desired) -> bool {
    desired.networks.values().any(|network| network.plugged) || !desired.pools.is_empty()
}

/// Follows one Docker until it does not answer any more.
async fn followed(handle: &Handle, socket: &Path, driver: &str) -> Result<(), EngineError> {
    let engine = Engine::connect(socket).await?;
    let mut events = Box::pin(engine.events());
    let mut follower = Follower {
        handle,
        engine: &engine,
        driver,
        suspects: Suspects::default(),
        learnt: None,
        asked: BTreeMap::new(),
    };
    follower.look().await?;
    let (mut last, mut pause) = (Instant::now(), FIRST);
    let mut since = None;
    loop {
        let unknown = is_something_unknown(&handle.shared.get().desired);
        since = since.or_else(|| Some(Instant::now())).filter(|_| unknown);
        let due = match since {
            Some(since) => (last + pause).max(since + FIRST),
            None if follower.suspects.is_empty() => last + FULL,
            None => last + DOUBT,
        };
        let heard = tokio::select! {
            event = events.next() => match event {
                None => return Ok(()),
                Some(event) => matters(&event?),
            },
            () = handle.shared.wait_for(|s| is_something_unknown(&s.desired) != unknown) => false,
            () = tokio::time::sleep_until(due.into()) => false,
        };
        if heard || due <= Instant::now() {
            follower.look().await?;
            // Whoever stays unknown is asked for ever more rarely.
            pause = if unknown && !heard { (pause * 2).min(FULL) } else { FIRST };
            last = Instant::now();
        }
    }
}

fn is_something_unknown(desired: &Desired) -> bool {
    let mut containers = desired.containers.values();
    containers.any(|c| c.has_joined() && c.is_provisional())
        || desired.networks.values().any(Network::is_provisional)
}

/// Tells whether what has happened may have changed a name.
fn matters(event: &EngineEvent) -> bool {
    matches!(
        (event.kind.as_str(), event.action.as_str()),
        ("container", "rename" | "start") | ("network", "connect" | "create")
    )
}

/// Endpoints that a container had when it was asked, its host name, and its further names by endpoint.
type Asked = (Vec<String>, String, BTreeMap<String, Vec<String>>);

struct Follower<'a> {
    handle: &'a Handle,
    engine: &'a Engine,
    driver: &'a str,
    suspects: Suspects,
    /// What was taken over last.
    learnt: Option<(Vec<LearntContainer>, Vec<LearntNetwork>)>,
    /// Containers that were asked for their further names, with the endpoints that they had then.
    asked: BTreeMap<String, Asked>,
}

impl Follower<'_> {
    /// Asks for everything, takes it over, and notes what does not fit together.
    async fn look(&mut self) -> Result<(), EngineError> {
        let mut networks = self.engine.networks().await?;
        for network in networks.iter_mut().filter(|n| self.is_ours(n)) {
            match self.engine.network(&network.id).await {
                Ok(found) => network.places = found.places,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        let ours: Vec<_> = networks.iter().filter(|n| n.driver == self.driver).collect();
        let learnt = ours.iter().filter_map(|network| {
            let (name, labels) = (network.name.clone(), network.labels.clone());
            Some(LearntNetwork { id: network.id.parse().ok()?, name, labels })
        });
        let networks_learnt: Vec<_> = learnt.collect();
        let containers = self.containers(&ours).await?;
        let learnt = (containers, networks_learnt);
        let unknown = is_something_unknown(&self.handle.shared.get().desired);
        if unknown || self.learnt.as_ref() != Some(&learnt) {
            let (containers, networks) = learnt.clone();
            self.ask(PluginChange::Learn { containers, networks }).await;
            self.learnt = Some(learnt);
        }
        let desired = std::sync::Arc::clone(&self.handle.shared.get().desired);
        for change in heal::changes(&desired, &networks, self.driver, &mut self.suspects) {
            tracing::warn!(change = change.kind(), ?change, "Docker knows better");
            self.ask(change).await;
        }
        Ok(())
    }

    fn is_ours(&self, network: &EngineNetwork) -> bool {
        network.driver == self.driver || network.ipam_driver == self.driver
    }

    async fn ask(&self, change: PluginChange) {
        if let Err(error) = self.handle.change(Change::Plugin(change)).await {
            tracing::warn!(%error, "what Docker says cannot be taken over");
        }
    }

    async fn containers(
        &mut self,
        networks: &[&EngineNetwork],
    ) -> Result<Vec<LearntContainer>, EngineError> {
        let mut places: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
        for place in networks.iter().flat_map(|network| &network.places) {
            let known = places.entry(&place.container).or_insert((&place.name, Vec::new()));
            known.1.push(place.endpoint.clone());
        }
        self.asked.retain(|id, (endpoints, ..)| {
            places.get(id.as_str()).is_some_and(|(_, now)| now == endpoints)
        });
        let running = if places.is_empty() { Vec::new() } else { self.engine.containers().await? };
        let mut learnt = Vec::new();
        for (id, (name, endpoints)) in places {
            let Ok(container) = id.parse() else { continue };
            let found = running.iter().find(|c| c.id == id);
            if found.is_some() && !self.asked.contains_key(id) {
                // It runs: the answer comes at once.
                if let Ok((hostname, aliases)) = self.engine.container_names(id).await {
                    self.asked.insert(id.to_owned(), (endpoints.clone(), hostname, aliases));
                }
            }
            let asked = self.asked.get(id);
            let aliases = |endpoint: &String| asked.and_then(|(_, _, known)| known.get(endpoint));
            learnt.push(LearntContainer {
                id: container,
                name: name.to_owned(),
                hostname: asked.map(|(_, hostname, _)| hostname.clone()),
                labels: found.map(|c| c.labels.clone()),
                command: found.map(|c| c.command.clone()),
                endpoints: endpoints
                    .iter()
                    .filter_map(|e| Some((e.parse().ok()?, aliases(e).cloned())))
                    .collect(),
            });
        }
        Ok(learnt)
    }
}
