//! One agent for one set of directories: locks that the kernel drops with the process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// File name of the lock in each directory.
pub const FILE: &str = "agent.lock";

/// Why the directories cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has them.
    #[error("another agent ({holder}) uses the directory {}; several agents need directories of their own", directory.display())]
    Taken {
        /// The directory.
        directory: PathBuf,
        /// Its process.
        holder: String,
    },
    /// Another agent serves the network namespace.
    #[error("another agent serves this network namespace; each needs one of its own")]
    Namespace,
    /// The lock cannot be made.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The locks of an agent, held as long as this lives.
#[derive(Debug)]
pub struct Locks {
    _held: Vec<Flock<File>>,
}

impl Locks {
    /// Takes the locks of both directories.
    pub fn take(state_dir: &Path, run_dir: &Path) -> Result<Self, LockError> {
        Ok(Self { _held: vec![take(state_dir)?, take(run_dir)?] })
    }

    /// Takes the locks of those directories that are there: in the others, nobody runs.
    pub fn take_existing(state_dir: &Path, run_dir: &Path) -> Result<Self, LockError> {
        let mut held = Vec::new();
        for directory in [state_dir, run_dir] {
            match take(directory) {
                Err(LockError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                taken => held.push(taken?),
            }
        }
        Ok(Self { _held: held })
    }
}

/// The lock of a pin directory, held as long as this lives.
#[derive(Debug)]
pub struct PinsLock {
    _held: Flock<File>,
}

impl PinsLock {
    /// Takes the lock of a directory that is there. A bpffs holds no files: it is locked itself.
    pub fn take(bpffs: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io { path: bpffs.to_owned(), source };
        let directory = File::open(bpffs).map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _held: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Taken {
                directory: bpffs.to_owned(),
                holder: "of other directories".to_owned(),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// The claim on a network namespace, held as long as this lives: two agents in one would take each other's
/// bridges for ways out.
#[derive(Debug)]
pub struct NamespaceLock {
    _held: UnixListener,
}

impl NamespaceLock {
    /// Claims the namespace of this thread, by a name that exists in it once and goes with the process.
    pub fn take(name: &str) -> Result<Self, LockError> {
        let bound =
            SocketAddr::from_abstract_name(name).and_then(|at| UnixListener::bind_addr(&at));
        match bound {
            Ok(held) => Ok(Self { _held: held }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(LockError::Namespace),
            Err(source) => Err(LockError::Io { path: PathBuf::from(format!("@{name}")), source }),
        }
    }
}

fn take(directory: &Path) -> Result<Flock<File>, LockError> {
    let path = directory.join(FILE);
    let failed = |source: io::Error| LockError::Io { path: path.clone(), source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // A full disk takes no note of who holds it; it is held all the same.
            let noted = lock.set_len(0).and_then(|()| lock.rewind());
            drop(noted.and_then(|()| writeln!(lock, "{}", std::process::id())));
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Where it does not read, the clash is told without the process.
            drop(file.read_to_string(&mut pid));
            let pid = pid.trim();
            let holder =
                if pid.is_empty() { "unknown".to_owned() } else { format!("process {pid}") };
            Err(LockError::Taken { directory: directory.to_owned(), holder })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_agent_at_a_time() {
        let name = format!("bascule-test-{}", std::process::id());
        let first = NamespaceLock::take(&name).expect("nobody has it");
        let second = NamespaceLock::take(&name).expect_err("taken");
        assert!(matches!(second, LockError::Namespace), "{second}");
        drop(first);
        NamespaceLock::take(&name).expect("free again");
    }

    #[test]
    fn a_second_agent_is_told_who_is_the_first() {
        let [state, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = Locks::take(state.path(), run.path()).unwrap();
        let error = Locks::take(state.path(), run.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Locks::take(state.path(), run.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_does_not_hide_who_runs_in_the_other() {
        let run = tempfile::tempdir().unwrap();
        let missing = run.path().join("missing");
        let first = take(run.path()).unwrap();
        assert!(matches!(Locks::take_existing(&missing, run.path()), Err(LockError::Taken { .. })));
        drop(first);
        Locks::take_existing(&missing, run.path()).unwrap();
    }

    #[test]
    fn a_pin_directory_has_one_agent() {
        let pins = tempfile::tempdir().unwrap();
        let first = PinsLock::take(pins.path()).unwrap();
        assert!(matches!(PinsLock::take(pins.path()), Err(LockError::Taken { .. })));
        drop(first);
        PinsLock::take(pins.path()).unwrap();
    }
}
