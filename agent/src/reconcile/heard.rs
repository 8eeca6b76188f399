//! What is heard of the machine while it is not being looked at.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::kernel::netlink::{self, Watch};

/// How long changes of the machine are gathered before it is looked at.
const SETTLE: Duration = Duration::from_millis(20);
/// How long after a failure it is listened again, and how long where nothing can be heard at all.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What was heard of the machine and not looked at yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    change: Arc<Mutex<netlink::Change>>,
    told: Arc<Notify>,
}

impl Heard {
    fn tell(&self, change: netlink::Change) {
        self.change.lock().unwrap_or_else(PoisonError::into_inner).join(change);
        self.told.notify_one();
    }

    /// Waits for something, and takes it.
    pub(super) async fn next(&self) -> netlink::Change {
        self.told.notified().await;
        std::mem::take(&mut *self.change.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells of changes of the machine.
pub(super) async fn watch(heard: Heard) {
    let everything = || netlink::Change { resync: true, ..netlink::Change::default() };
    loop {
        let mut watch = match Watch::open() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::error!(%error, "cannot watch the machine");
                tokio::time::sleep(AGAIN.1).await;
                continue;
            }
        };
        loop {
            match watch.changed(SETTLE).await {
                Ok(change) => heard.tell(change),
                Err(error) => {
                    tracing::error!(%error, "cannot watch the machine");
                    break;
                }
            }
        }
        // What was missed is looked for.
        heard.tell(everything());
        tokio::time::sleep(AGAIN.0).await;
    }
}
