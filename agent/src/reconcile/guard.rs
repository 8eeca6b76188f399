//! Shuts new ports of Docker's bridges at once, before anybody knows whose they are.
//!
//! A pass finds them too, when it comes to it. A live `docker network connect` leaves eleven milliseconds between the
//! port and its first packet, which is less than a pass may take: so this waits for nobody.

use std::{sync::Arc, time::Duration};

use bascule_common::abi::names::program;

use super::{machine::Machine, status::Shared};
use crate::{
    kernel::{
        bpf::{Hook, Hooks, Programs, Side},
        netlink::{Netlink, Watch},
        owned,
    },
    model::Desired,
};

/// How long after a failure it is listened again.
const AGAIN: Duration = Duration::from_millis(250);

/// What shuts ports.
pub(super) struct Guard {
    netlink: Netlink,
    hooks: Arc<Hooks>,
    programs: Arc<Programs>,
    shared: Shared,
}

impl Guard {
    /// Takes what it needs of the machine.
    pub(super) fn of(machine: &Machine, shared: Shared) -> Self {
        Self {
            netlink: machine.netlink.clone(),
            hooks: Arc::clone(&machine.hooks),
            programs: Arc::clone(&machine.programs),
            shared,
        }
    }

    /// Works until it is aborted.
    pub(super) async fn run(self) {
        loop {
            self.shared.wait_for(|s| s.desired.docker.is_active()).await;
            tokio::select! {
                () = self.listen() => tokio::time::sleep(AGAIN).await,
                // Nobody listens for nothing: on a busy host there is much to hear.
                () = self.shared.wait_for(|s| !s.desired.docker.is_active()) => {}
            }
        }
    }

    /// Listens until that fails. What was missed, a pass finds.
    async fn listen(&self) {
        let Ok(mut watch) = Watch::open() else { return };
        while let Ok(change) = watch.changed(Duration::ZERO).await {
            let desired = Arc::clone(&self.shared.get().desired);
            for index in change.links {
                self.look(&desired, index).await;
            }
        }
    }

    async fn look(&self, desired: &Desired, index: u32) {
        let Ok(Some(link)) = self.netlink.link(index).await else { return };
        let Some(master) = link.master.filter(|_| owned::is_docker_veth(&link)) else { return };
        let is_known = desired
            .containers
            .values()
            .flat_map(|c| c.endpoints())
            .any(|(_, e)| e.adopted == Some(index) && e.veth == link.name);
        if is_known {
            return;
        }
        let Ok(Some(bridge)) = self.netlink.link(master).await else { return };
        if !desired.networks.values().any(|n| n.adopted && n.bridge == bridge.name) {
            return;
        }
        for (side, name) in
            [(Side::Ingress, program::FROM_CONTAINER), (Side::Egress, program::TO_CONTAINER)]
        {
            let hook = Hook { ifindex: index, side };
            if let Err(error) = self.hooks.attach(&self.programs, hook, name)
                && !error.is_gone()
            {
                tracing::warn!(interface = link.name, %error, "a new port of Docker's is not shut");
            }
        }
    }
}
