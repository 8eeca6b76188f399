//! Told when files of `/proc` have something new to say: the host's name, and what is mounted.

use std::fs::File;

use tokio::io::{Interest, unix::AsyncFd};

use super::error::{OrRefuse, Result};

/// What is mounted where the agent sees it.
pub const MOUNTS: &str = "/proc/self/mountinfo";

/// A subscription to the changes of such a file.
#[derive(Debug)]
pub struct Told {
    file: AsyncFd<File>,
    path: &'static str,
}

impl Told {
    /// Subscribes; needs a tokio runtime.
    pub fn of(path: &'static str) -> Result<Self> {
        let file = File::open(path).or_refuse("open", path)?;
        // SAFETY: the file owns its descriptor, and gives away the same one until it is dropped.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        let file = file.map_err(|error| error.into_parts().1).or_refuse("watch", path)?;
        Ok(Self { file, path })
    }

    /// Waits for a change.
    pub async fn changed(&self) -> Result<()> {
        let ready = self.file.ready(Interest::PRIORITY).await;
        ready.or_refuse("watch", self.path)?.clear_ready();
        Ok(())
    }
}
