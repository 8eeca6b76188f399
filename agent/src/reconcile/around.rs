//! What is told of the host beside its network: what is mounted, and the files that containers' are made from.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::status::Shared;
use crate::{
    files,
    kernel::{
        self,
        told::{MOUNTS, Told},
        watched::Watched,
    },
};

/// How long changes are gathered: half of what is promised for the files.
const SETTLE: Duration = Duration::from_millis(250);
/// How long after a failure it is listened again.
const AGAIN: Duration = Duration::from_secs(30);

/// What was told and not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Something was mounted or unmounted.
    pub(super) mounted: Notify,
    /// A file is another, or may be.
    pub(super) written: Notify,
}

/// Listens.
pub(super) async fn listen(around: Arc<Around>, shared: Shared) {
    loop {
        if let Err(error) = hear(&around, &shared).await {
            tracing::warn!(%error, "changes of the host's files and mounts are looked for in vain; it is tried again");
        }
        around.mounted.notify_one();
        around.written.notify_one();
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(around: &Around, shared: &Shared) -> kernel::Result<()> {
    let (mounts, name) = (Told::of(MOUNTS)?, Told::of(files::HOST_NAME)?);
    loop {
        let settings = shared.get().configured.names.clone();
        let files = Watched::watch(&files::of_host(&settings))?;
        // What happened before it was watched is seen now.
        around.written.notify_one();
        tokio::select! {
            changed = mounts.changed() => {
                changed?;
                // Another file may be in their place.
                tokio::time::sleep(SETTLE).await;
                around.mounted.notify_one();
            }
            changed = name.changed() => changed?,
            changed = files.changed() => {
                changed?;
                tokio::time::sleep(SETTLE).await;
            }
            () = shared.wait_for(|s| s.configured.names.resolv_conf != settings.resolv_conf) => {}
        }
    }
}
