//! The socket: who may connect, and how many at once.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::unistd::{Gid, Group, Uid, chown, geteuid};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use super::{paths, request::Peer};
use crate::kernel::peer;

/// Who may use the socket beside root.
pub(super) const GROUP: &str = "bascule";
/// Connections at once.
const SEATS: usize = 512;
/// Those of them that root does not need to share.
const RESERVED: usize = 128;
/// Connections at once of one user that is not root.
const SEATS_OF_USER: usize = 128;

/// How often one looks whether a client that has said everything is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the socket {}: {source}", path.display())]
pub struct ServeError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The socket, and who may use it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) door: Door,
}

/// Makes the socket, in place of one that an agent left which has ended.
pub fn bind(run_dir: &Path) -> Result<Socket, ServeError> {
    let path = run_dir.join(paths::SOCKET);
    let failed = |action| {
        let path = path.clone();
        move |source| ServeError { action, path, source }
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed("make"))?;
    // Nobody else gets in between: the group is set before its members may connect.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(failed("protect"))?;
    let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
    if let Some(group) = group {
        chown(&path, None::<Uid>, Some::<Gid>(group)).map_err(|e| failed("protect")(e.into()))?;
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).map_err(failed("protect"))?;
    Ok(Socket { listener, door: Door { group: group.map(Gid::as_raw) } })
}

/// Makes a socket for root alone, in place of one that nobody listens at any more. It is never there with another mode,
/// and whoever looks for it finds the former one or this one.
pub fn bind_private(path: &Path) -> Result<Socket, ServeError> {
    let failed = |action| move |source| ServeError { action, path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let why = io::Error::new(io::ErrorKind::AlreadyExists, "it is something else");
            return Err(failed("replace")(why));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            let why = io::Error::new(io::ErrorKind::AddrInUse, "somebody answers there");
            return Err(failed("replace")(why));
        }
        _ => {}
    }
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let unborn = path.with_file_name(format!(".{name}-{}", std::process::id()));
    // Left by an agent of the same number that was killed.
    drop(std::fs::remove_file(&unborn));
    let listener = UnixListener::bind(&unborn).map_err(failed("make"))?;
    std::fs::set_permissions(&unborn, PermissionsExt::from_mode(0o600))
        .map_err(failed("protect"))?;
    std::fs::rename(&unborn, path).map_err(failed("make"))?;
    Ok(Socket { listener, door: Door { group: None } })
}

/// Who may come in, whatever the mode of the socket has become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    group: Option<u32>,
}

impl Door {
    /// Asks who is there; one that may not come in is told why.
    pub(super) fn admit(self, stream: &UnixStream) -> (Peer, Result<(), String>) {
        let credentials = match peer::credentials(stream.as_fd()) {
            Ok(credentials) => credentials,
            Err(error) => {
                return (Peer { uid: None }, Err(format!("it cannot be told who asks: {error}")));
            }
        };
        let peer = Peer { uid: Some(credentials.uid) };
        let is_member = self
            .group
            .is_some_and(|group| credentials.gid == group || credentials.groups.contains(&group));
        if credentials.uid == 0 || credentials.uid == geteuid().as_raw() || is_member {
            return (peer, Ok(()));
        }
        let uid = credentials.uid;
        let why = match self.group {
            Some(_) => format!("user {uid} is neither root nor in the group {GROUP}"),
            None => format!(
                "user {uid} is not root, and there was no group {GROUP} when the agent started"
            ),
        };
        (peer, Err(format!("permission denied: {why}")))
    }
}

/// Completes when the client has closed its connection altogether. One that has only said everything still listens.
pub(super) fn gone(stream: &UnixStream) -> impl Future<Output = ()> + Send + 'static {
    let watched = stream.as_fd().try_clone_to_owned();
    let watched = watched.and_then(|socket| UnixStream::from_std(socket.into()));
    async move {
        // Without it the next write finds out.
        let Ok(watched) = watched else { return std::future::pending().await };
        while watched.readable().await.is_ok() && !peer::has_hung_up(watched.as_fd()) {
            // Waits for something new. Who says nothing more stays readable: one looks again, now and then.
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            drop(watched.try_io(Interest::READABLE, nothing));
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// Connections, counted by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<BTreeMap<Option<u32>, usize>>>);

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    uid: Option<u32>,
}

impl Seats {
    /// Counts a connection in, if there is room for it.
    pub(super) fn take(&self, uid: Option<u32>) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&uid).copied().unwrap_or(0);
        let (all, roots) = (taken.values().sum::<usize>(), taken.get(&Some(0)).copied());
        let others = all - roots.unwrap_or(0);
        let fits =
            all < SEATS && (uid == Some(0) || (others < SEATS - RESERVED && own < SEATS_OF_USER));
        fits.then(|| {
            taken.insert(uid, own + 1);
            Seat { seats: self.clone(), uid }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_every_seat() {
        let seats = Seats::default();
        let take = |uid| std::iter::from_fn(|| seats.take(Some(uid))).collect::<Vec<_>>();
        let first = take(1_000);
        assert_eq!(first.len(), SEATS_OF_USER);
        let (second, third) = (take(1_001), take(1_002));
        assert_eq!(first.len() + second.len() + third.len(), SEATS - RESERVED);
        assert!(seats.take(Some(1_003)).is_none(), "those that are left are root's");
        let root = take(0);
        assert_eq!(root.len(), RESERVED);
        drop(first);
        assert!(seats.take(Some(1_000)).is_some());
        drop((second, third, root));
        assert!(seats.0.lock().expect("unpoisoned").is_empty());
    }
}
