//! Told when files change, wherever symbolic links lead, and whether or not they are there yet.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::error::{OrRefuse, Result};

/// Links that are followed, as the kernel does.
const LINKS: usize = 40;
const ACTION: &str = "watch";
const OBJECT: &str = "files of the host";

/// A subscription to the changes of some files.
#[derive(Debug)]
pub struct Watched {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
    /// What matters: a file, or a name in a directory.
    wanted: Vec<(WatchDescriptor, Option<OsString>)>,
}

impl Watched {
    /// Subscribes to what becomes of these paths from now on; needs a tokio runtime.
    pub fn watch(paths: &[PathBuf]) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.or_refuse(ACTION, OBJECT)?;
        let mut wanted = Vec::new();
        for path in paths {
            follow(&inotify, path, &mut wanted);
        }
        let ready = inotify.as_fd().try_clone_to_owned().and_then(|same| {
            // SAFETY: the descriptor is owned, and stays what it is until it is dropped.
            unsafe { AsyncFd::register_with_interest(same, Interest::READABLE) }
                .map_err(|error| error.into_parts().1)
        });
        Ok(Self { inotify, ready: ready.or_refuse(ACTION, OBJECT)?, wanted })
    }

    /// Waits for a change of one of them. Links may lead elsewhere after that: it is to be subscribed again.
    pub async fn changed(&self) -> Result<()> {
        loop {
            let mut ready = self.ready.readable().await.or_refuse(ACTION, OBJECT)?;
            match self.inotify.read_events() {
                Ok(events) => {
                    let is_lost = |mask: AddWatchFlags| mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                    let is_wanted = events.iter().any(|event| {
                        is_lost(event.mask)
                            || self.wanted.iter().any(|(place, name)| {
                                *place == event.wd && (name.is_none() || *name == event.name)
                            })
                    });
                    if is_wanted {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                error => drop(error.or_refuse(ACTION, OBJECT)?),
            }
        }
    }
}

/// Watches a file, and every name on the way to it that leads elsewhere. What is not there is waited for where it
/// would come.
fn follow(inotify: &Inotify, path: &Path, wanted: &mut Vec<(WatchDescriptor, Option<OsString>)>) {
    let names = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO;
    let contents = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB;
    let mut path = path.to_owned();
    let mut seen = BTreeSet::new();
    for _ in 0..LINKS {
        let there = path.ancestors().skip(1).find(|directory| directory.is_dir());
        let (Some(directory), true) = (there, seen.insert(path.clone())) else { return };
        let Some(name) = path.strip_prefix(directory).ok().and_then(|rest| rest.iter().next())
        else {
            return;
        };
        if let Ok(place) = inotify.add_watch(directory, names) {
            wanted.push((place, Some(name.to_owned())));
        }
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(&path).join(target),
            Err(_) => break,
        }
    }
    if let Ok(place) = inotify.add_watch(&path, contents) {
        wanted.push((place, None));
    }
}
