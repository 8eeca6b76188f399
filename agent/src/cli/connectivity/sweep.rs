//! Removes what tests made: this one's at its end, and what one that was killed left.
//!
//! It is found by a label alone, so nothing has to be remembered, and half a stage goes as well as a whole one.

use super::super::container::name_of;
use crate::{
    api::{client::Client, paths, proto},
    error::Failure,
};

/// The label of everything that tests make; its value is the test's own.
pub const LABEL: &str = "com.bascule.connectivity-test";

/// Removes all of it, goes on after a refusal, and returns the names of what is gone.
pub fn sweep(client: &Client) -> Result<Vec<String>, Failure> {
    let filters = serde_json::json!({ "label": [LABEL] }).to_string();
    let path = paths::query(paths::CONTAINERS, &[("all", "1"), ("filters", &filters)]);
    let containers: Vec<proto::ContainerSummary> = client.get(&path)?;
    let networks: Vec<proto::Network> = client.get(&paths::networks_filtered(&filters))?;
    let mut removed = Vec::new();
    let mut refused = Vec::new();
    let mut remove = |path: &str, name: &str| match client.delete(path) {
        Ok(()) => removed.push(name.to_owned()),
        Err(error) if error.is_not_found() => {}
        Err(error) => refused.push(format!("{name} is left: {error}")),
    };
    // What the label says of a list is asked again: nothing else may be lost to a filter that was not understood.
    for container in containers.iter().filter(|c| c.labels.contains_key(LABEL)) {
        remove(&format!("{}?force=1", paths::container(&container.id)), name_of(container));
    }
    for network in networks.iter().filter(|n| n.labels.contains_key(LABEL)) {
        remove(&paths::network(&network.id), &network.name);
    }
    if refused.is_empty() { Ok(removed) } else { Err(Failure::new(refused.join("; "))) }
}
