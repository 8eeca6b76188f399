//! Follows what containers live by: their processes, and the namespaces that were brought.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use tokio::task::JoinSet;

use super::machine::Places;
use crate::{
    kernel::process::{self, Followed},
    model::{ContainerId, Desired, NamespaceId, Process, Sandbox},
};

/// The processes that are followed.
#[derive(Debug, Default)]
pub struct Follow {
    followed: BTreeMap<ContainerId, Process>,
    ends: JoinSet<(ContainerId, Process)>,
}

impl Follow {
    /// Follows the process of every running container; returns those whose process has ended already.
    pub fn update(&mut self, desired: &Desired) -> Vec<ContainerId> {
        let running =
            desired.containers.values().filter_map(|c| Some((c.id, c.running()?.process?)));
        let wanted: BTreeMap<_, _> = running.collect();
        self.followed.retain(|id, process| wanted.get(id) == Some(process));
        let mut ended = Vec::new();
        for (id, process) in wanted {
            if self.followed.contains_key(&id) {
                continue;
            }
            // The descriptor first: then the number cannot be another's by the time it is checked.
            let followed = Followed::open(process.pid);
            match followed {
                Ok(followed) if process::start_time(process.pid) == Some(process.start_time) => {
                    self.followed.insert(id, process);
                    self.ends.spawn(async move {
                        followed.ended().await;
                        (id, process)
                    });
                }
                _ => ended.push(id),
            }
        }
        ended
    }

    /// Waits for a process to end, and returns its container, if it is still its process.
    pub async fn ended(&mut self) -> Option<ContainerId> {
        loop {
            match self.ends.join_next().await {
                // Nothing is followed: there is nothing to wait for.
                None => std::future::pending().await,
                Some(Ok((id, process))) if self.followed.get(&id) == Some(&process) => {
                    self.followed.remove(&id);
                    return Some(id);
                }
                Some(_) => {}
            }
        }
    }
}

/// Returns whether every running container's namespace is where it was.
pub fn all_present(places: &Places, desired: &Desired) -> bool {
    desired.containers.values().filter(|c| c.has_namespace()).all(|container| {
        let Some(namespace) = container.running().and_then(|r| r.namespace) else { return true };
        let found = std::fs::metadata(places.namespace(container));
        found.is_ok_and(|f| NamespaceId { device: f.dev(), inode: f.ino() } == namespace)
    })
}

/// Returns whether a namespace is only found to be gone by asking: one at a name of `/proc`, which nobody unmounts.
pub fn has_to_ask(desired: &Desired) -> bool {
    desired.containers.values().filter(|c| c.running().is_some()).any(|c| match &c.sandbox {
        Sandbox::Process(_) => true,
        Sandbox::Path(path) => path.starts_with("/proc"),
        _ => false,
    })
}
