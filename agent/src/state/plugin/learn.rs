//! Names, labels and aliases, which Docker never tells a plugin: whoever asked Docker brings them.

use std::collections::{BTreeMap, BTreeSet};

use super::{super::Outcome, endpoints};
use crate::model::{
    Container, ContainerId, Desired, EndpointId, Name, NetworkId, NetworkName, NetworkOptions, keys,
};

/// What Docker says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its host name; none where nobody asked.
    pub hostname: Option<String>,
    /// Its labels; none where nobody knows.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its command, for show; none where nobody knows.
    pub command: Option<String>,
    /// Its endpoints, with its further names there; none where nobody asked.
    pub endpoints: Vec<(EndpointId, Option<Vec<String>>)>,
}

/// What Docker says of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its labels; those that are options that can be changed are taken as such.
    pub labels: BTreeMap<String, String>,
}

/// Options that a label can set, as they can be changed while a network is there.
const LIVE: [&str; 6] =
    [keys::ICC, keys::MASQUERADE, keys::HOST_BINDING, keys::TRUSTED, keys::HOST_IPV4, keys::DNS];

pub(super) fn learn(
    desired: &mut Desired,
    containers: &[LearntContainer],
    networks: &[LearntNetwork],
) -> Outcome {
    for learnt in networks {
        network(desired, learnt);
    }
    // Names that two containers exchange are free for each other.
    let theirs: BTreeSet<_> = containers.iter().map(|learnt| learnt.id).collect();
    for learnt in containers {
        if let Some(id) = rekeyed(desired, learnt) {
            let free = |name: &Name| {
                let others = desired.containers.values().filter(|c| c.id != id);
                others.filter(|c| !theirs.contains(&c.id)).all(|c| c.name != *name)
            };
            let name = chosen(&learnt.name, &learnt.id.short(), free);
            describe(desired, id, learnt, name);
        }
    }
    Outcome::Nothing
}

/// Returns a name, or where it is another's, one that tells whose it is beside.
fn chosen<N: std::str::FromStr>(name: &str, id: &str, free: impl Fn(&N) -> bool) -> Option<N> {
    let parsed = |text: String| text.parse::<N>().ok().filter(&free);
    parsed(name.to_owned()).or_else(|| parsed(format!("{name}-{id}")))
}

/// Has a container be known by Docker's id.
fn rekeyed(desired: &mut Desired, learnt: &LearntContainer) -> Option<ContainerId> {
    let found = learnt.endpoints.iter().find_map(|(id, _)| endpoints::find(desired, *id));
    let (found, _) = found.filter(|(container, _)| container.has_joined())?;
    let (old, id) = (found.id, learnt.id);
    if old == id {
        return Some(id);
    }
    // What Docker's id stood for until now was an earlier life of the container, whose end nobody told.
    if let Some(former) = desired.containers.get(&id) {
        if !former.is_plugged() {
            return None;
        }
        let gone: Vec<_> = former.endpoints().map(|(_, e)| e.id).collect();
        endpoints::delete(desired, &gone);
    }
    let container = desired.containers.remove(&old)?;
    desired.containers.insert(id, Container { id, ..container });
    Some(id)
}

fn describe(desired: &mut Desired, id: ContainerId, learnt: &LearntContainer, name: Option<Name>) {
    let Some(container) = desired.containers.get(&id) else { return };
    let mut new = container.clone();
    if let Some(name) = name {
        new.name = name;
    }
    if let Some(hostname) = &learnt.hostname {
        new.hostname.clone_from(hostname);
    }
    if let Some(labels) = &learnt.labels {
        new.labels.clone_from(labels);
    }
    if let Some(command) = learnt.command.as_ref().filter(|command| !command.is_empty()) {
        new.command = vec![command.clone()];
    }
    for place in &mut new.attachments {
        let of = |e: &EndpointId| place.endpoint.as_ref().is_some_and(|own| own.id == *e);
        let known = learnt.endpoints.iter().find(|(e, _)| of(e));
        if let Some((_, Some(aliases))) = known {
            place.aliases.clone_from(aliases);
        }
    }
    if new != *container {
        desired.containers.insert(id, new);
    }
}

fn network(desired: &mut Desired, learnt: &LearntNetwork) {
    let Some(network) = desired.networks.get(&learnt.id).filter(|n| n.plugged) else { return };
    let mut new = network.clone();
    let free = |name: &NetworkName| {
        let mut others = super::super::find::networks(desired).filter(|n| n.id() != learnt.id);
        others.all(|other| other.name() != name.as_str())
    };
    if let Some(name) = chosen(&learnt.name, &learnt.id.short(), free) {
        new.name = name;
    }
    if new.labels != learnt.labels {
        new.labels.clone_from(&learnt.labels);
        let labels = learnt.labels.iter().filter(|(key, _)| LIVE.contains(&key.as_str()));
        let mut wished: BTreeMap<_, _> =
            labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        // What was said at creation holds.
        wished.extend(network.options.verbatim.clone());
        let (options, wrong) = NetworkOptions::read(wished);
        if wrong.is_empty() {
            new.options = NetworkOptions { verbatim: network.options.verbatim.clone(), ..options };
        }
    }
    if new == *network {
        return;
    }
    let name = new.name.clone();
    desired.networks.insert(learnt.id, new);
    let on: Vec<_> = desired.attachments(learnt.id).map(|(c, _)| c.id).collect();
    for id in on {
        let container = desired.containers.get_mut(&id).into_iter();
        for place in container.flat_map(|c| &mut c.attachments) {
            if place.network == learnt.id {
                place.network_name = name.clone();
            }
        }
    }
}
