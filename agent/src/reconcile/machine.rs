//! What the agent holds of the kernel: its namespace, its programs and maps, and where its files are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::touched::Numbers;
use crate::{
    files,
    kernel::{
        bpf::{Hooks, Programs, Tables},
        grace::Grace,
        netlink::Netlink,
        netns,
        owned::Mark,
    },
    model::{Container, ContainerId, Sandbox},
};

/// Where the agent's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What outlives a boot.
    pub state: PathBuf,
    /// What does not.
    pub run: PathBuf,
    /// Pins.
    pub bpffs: PathBuf,
}

impl Places {
    /// Returns where namespaces of ours are pinned.
    pub fn sandboxes(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// Returns where a container's own namespace is pinned.
    pub fn sandbox(&self, container: ContainerId) -> PathBuf {
        self.sandboxes().join(container.to_string())
    }

    /// Returns where a container's `/etc/hosts` and its like are.
    pub fn files(&self, container: ContainerId) -> PathBuf {
        files::directory(&self.run, &container.to_string())
    }

    /// Returns where a container's namespace is found.
    pub fn namespace(&self, container: &Container) -> PathBuf {
        match &container.sandbox {
            Sandbox::Own => self.sandbox(container.id),
            Sandbox::Path(path) => path.clone(),
            Sandbox::Process(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            // Its interfaces are made here, for Docker to take.
            Sandbox::Docker(_) => PathBuf::from(netns::OWN),
            // Docker's are not looked into.
            Sandbox::Adopted => PathBuf::new(),
        }
    }
}

/// What the agent holds of the kernel.
#[derive(Debug)]
pub struct Machine {
    /// Where its files are.
    pub places: Places,
    /// Its connection to rtnetlink.
    pub netlink: Netlink,
    /// How long its grace periods are.
    pub grace: Arc<Grace>,
    /// What marks links of its own.
    pub mark: Mark,
    /// Where programs are attached.
    pub hooks: Arc<Hooks>,
    /// The programs.
    pub programs: Arc<Programs>,
    /// The maps.
    pub tables: Arc<Tables>,
    /// The numbers of containers' namespaces.
    pub numbers: Numbers,
    /// The agent's own namespace.
    pub namespace: netns::Identity,
}

/// Returns which namespace a path leads to; none where it leads to no network namespace. The namespace is
/// not kept alive by having been looked at.
pub(super) fn identify(path: &Path) -> Option<crate::model::NamespaceId> {
    let found = netns::Namespace::open(path).and_then(|namespace| namespace.identity()).ok()?;
    Some(crate::model::NamespaceId { device: found.device, inode: found.inode })
}
