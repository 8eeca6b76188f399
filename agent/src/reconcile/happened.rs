//! What has happened between two states, in Docker's words and in the order in which Docker tells it.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::{Ending, Event};
use crate::{
    model::{Attachment, Container, ContainerId, Desired, Mode},
    state::find,
};

/// Returns the events that lead from one state to another.
pub(super) fn between(
    before: &Desired,
    after: &Desired,
    endings: &BTreeMap<ContainerId, Ending>,
) -> Vec<Event> {
    let mut events = Vec::new();
    // Docker's containers are told of once it is known which they are.
    let is_known = |id: &&ContainerId| {
        let both = [before.containers.get(*id), after.containers.get(*id)];
        both.into_iter().flatten().all(|container| !container.is_provisional())
    };
    let changed: BTreeSet<_> =
        before.containers.differences(&after.containers).filter(is_known).collect();
    for id in &changed {
        if let Some(old) = before.containers.get(*id) {
            let new = after.containers.get(*id);
            ended(before, old, new, endings.get(*id).copied(), &mut events);
        }
    }
    for (id, network) in &before.networks {
        if !after.networks.contains_key(id) {
            events.push(network_event("destroy", id.to_string(), network.name.as_str(), "bridge"));
        }
    }
    for (id, network) in &after.networks {
        if !before.networks.contains_key(id) {
            events.push(network_event("create", id.to_string(), network.name.as_str(), "bridge"));
        }
    }
    for (id, config) in &before.configs {
        if !after.configs.contains_key(id) {
            events.push(network_event("destroy", id.to_string(), config.name.as_str(), "null"));
        }
    }
    for (id, config) in &after.configs {
        if !before.configs.contains_key(id) {
            events.push(network_event("create", id.to_string(), config.name.as_str(), "null"));
        }
    }
    for id in &changed {
        if let Some(new) = after.containers.get(*id) {
            begun(after, before.containers.get(*id), new, &mut events);
        }
    }
    events
}

/// Tells how a container has ended, left networks, and gone.
fn ended(
    before: &Desired,
    old: &Container,
    new: Option<&Container>,
    ending: Option<Ending>,
    events: &mut Vec<Event>,
) {
    let dies = old.running().is_some() && new.is_none_or(|new| new.running().is_none());
    if dies {
        match ending {
            Some(Ending::Stop) => events.push(event("kill", old).with("signal", 15)),
            Some(Ending::Kill) => events.push(event("kill", old).with("signal", 9)),
            None => {}
        }
        let mut die = event("die", new.unwrap_or(old));
        if let Some(code) = new.and_then(|new| new.exit_code) {
            die = die.with("exitCode", code);
        }
        events.push(die);
        match old.mode {
            Mode::Networks | Mode::Container(_) => {}
            Mode::Host | Mode::None => events.push(alone(before, "disconnect", old)),
        }
    }
    for place in &old.attachments {
        let now = new.and_then(|new| new.attachment(place.network));
        // One that does not run leaves a network only when it is taken off it.
        let leaves = match (&place.endpoint, now) {
            (Some(endpoint), now) => {
                now.and_then(|n| n.endpoint.as_ref()).is_none_or(|e| e.id != endpoint.id)
            }
            (None, now) => new.is_some() && now.is_none(),
        };
        if leaves {
            events.push(placed(before, "disconnect", old, place));
        }
    }
    if dies && ending == Some(Ending::Stop) {
        events.push(event("stop", new.unwrap_or(old)));
    }
    if new.is_none() {
        events.push(event("destroy", old));
    }
}

/// Tells how a container has come, joined networks, and started.
fn begun(after: &Desired, old: Option<&Container>, new: &Container, events: &mut Vec<Event>) {
    match old {
        None => events.push(event("create", new)),
        Some(old) if old.name != new.name => {
            events.push(event("rename", new).with("oldName", format!("/{}", old.name)));
        }
        Some(_) => {}
    }
    let starts = new.running().is_some() && old.is_none_or(|old| old.running().is_none());
    if starts && matches!(new.mode, Mode::Host | Mode::None) {
        events.push(alone(after, "connect", new));
    }
    for place in &new.attachments {
        let Some(endpoint) = &place.endpoint else { continue };
        let was = old.and_then(|old| old.attachment(place.network)?.endpoint.as_ref());
        if was.is_none_or(|was| was.id != endpoint.id) {
            events.push(placed(after, "connect", new, place));
        }
    }
    if starts {
        events.push(event("start", new));
    }
}

fn event(action: &'static str, container: &Container) -> Event {
    let mut event = Event::new("container", action, container.id.to_string());
    event.attributes.clone_from(&container.labels);
    event.with("name", &container.name)
}

fn network_event(action: &'static str, id: String, name: &str, driver: &str) -> Event {
    Event::new("network", action, id).with("name", name).with("type", driver)
}

fn placed(
    desired: &Desired,
    action: &'static str,
    container: &Container,
    place: &Attachment,
) -> Event {
    let name = desired.networks.get(&place.network).map_or(&place.network_name, |n| &n.name);
    network_event(action, place.network.to_string(), name.as_str(), "bridge")
        .with("container", container.id)
}

/// Tells of a container on a network that is only a name.
fn alone(desired: &Desired, action: &'static str, container: &Container) -> Event {
    let (id, name, driver) = match container.mode {
        Mode::Host => (desired.predefined.host, find::HOST, "host"),
        _ => (desired.predefined.none, find::NONE, "null"),
    };
    network_event(action, id.to_string(), name, driver).with("container", container.id)
}
