//! Network namespaces: made, found, entered, removed.
//!
//! A thread that enters a namespace ends there: never a worker of the runtime, and never a fork. What is
//! inside is not known here; see [`super::container`].

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{fstatfs, statfs},
};

use super::error::{Error, OrRefuse, Outcome, Result};

/// Where `ip netns` looks.
pub const IP_NETNS_DIR: &str = "/run/netns";
/// Names this thread's network namespace.
pub const OWN: &str = "/proc/thread-self/ns/net";
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Since 4.11: the kind of namespace that a file stands for.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// Since 5.14: the number that BPF programs know a namespace by.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// An open network namespace; it lives at least as long as this.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<OwnedFd>,
    name: Arc<str>,
}

/// Tells two namespaces apart while both live; numbers are used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The device of the namespace file system.
    pub device: u64,
    /// The file's number there.
    pub inode: u64,
}

/// A namespace pinned below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The file's name.
    pub name: String,
    /// Whether a namespace is mounted there; `false`: its making or removing was cut short.
    pub live: bool,
}

/// What became of a name for `ip netns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was made.
    Made,
    /// It was there.
    Already,
    /// It belongs to someone else and was left alone.
    Taken,
}

impl Namespace {
    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// A new namespace that nothing pins: it goes with its last user.
    pub fn anonymous() -> Result<Self> {
        const ACTION: &str = "create network namespace";
        let made = thread::Builder::new().name("netns".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).or_refuse(ACTION, "of no name")?;
            Self::current()
        });
        let panicked = |_| Error::unexpected(ACTION, "of no name", "the thread panicked");
        made.or_refuse(ACTION, "of no name")?.join().map_err(panicked)?
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace at a path: a pin, or a file of `/proc`.
    pub fn open(path: &Path) -> Result<Self> {
        const ACTION: &str = "open network namespace";
        let name = path.display().to_string();
        let file: OwnedFd = fs::File::open(path).or_refuse(ACTION, &name)?.into();
        let found = fstatfs(&file).or_refuse(ACTION, &name)?;
        if found.filesystem_type().0 != NSFS_MAGIC {
            return Err(Error::unexpected(ACTION, name, "it is no namespace"));
        }
        // SAFETY: the ioctl takes no argument and only reads the file, which is open.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(Error::unexpected(ACTION, name, "it is a namespace of another kind"));
        }
        Ok(Self { file: Arc::new(file), name: name.into() })
    }

    /// Tells it apart from other living namespaces.
    pub fn identity(&self) -> Result<Identity> {
        let found = nix::sys::stat::fstat(&self.file)
            .or_refuse("identify network namespace", self.name.as_ref())?;
        Ok(Identity { device: found.st_dev, inode: found.st_ino })
    }

    /// The number that BPF programs know it by; never used again while the kernel runs.
    pub fn cookie(&self) -> Result<u64> {
        self.run_blocking(own_cookie)?.or_refuse("read the cookie of", self.name.as_ref())
    }

    /// Runs something inside, on a thread that ends with it.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = tokio::sync::oneshot::channel();
        let namespace = self.clone();
        thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                // Nobody may be waiting any more.
                let _ = done.send(namespace.enter().map(|()| work()));
            })
            .or_refuse("start a thread in", self.name.as_ref())?;
        result.await.map_err(|_| self.panicked())?
    }

    /// Runs something inside, on a thread that ends with it, and blocks meanwhile.
    pub fn run_blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        thread::scope(|scope| {
            thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || self.enter().map(|()| work()))
                .or_refuse("start a thread in", self.name.as_ref())?
                .join()
                .map_err(|_| self.panicked())?
        })
    }

    /// Moves the calling thread inside, for good.
    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .or_refuse("enter network namespace", self.name.as_ref())
    }

    fn panicked(&self) -> Error {
        Error::unexpected("work in network namespace", self.name.as_ref(), "the thread panicked")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a directory ready for pins, as `ip netns` does: a mount of its own that is shared, so that a pin
/// removed here vanishes in every mount namespace.
pub fn prepare_directory(directory: &Path) -> Result<()> {
    const ACTION: &str = "prepare namespace directory";
    let name = directory.display().to_string();
    fs::create_dir_all(directory).or_refuse(ACTION, &name)?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, directory, None::<&str>, flags, None::<&str>)
    };
    match share() {
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(directory), directory, None::<&str>, flags, None::<&str>)
                .or_refuse(ACTION, &name)?;
            share().or_refuse(ACTION, name)
        }
        result => result.or_refuse(ACTION, name),
    }
}

/// Takes away what [`prepare_directory`] made, and the directory if it is empty.
pub fn release_directory(directory: &Path) -> Result<Outcome> {
    let name = directory.display().to_string();
    let unmounted = unmount(directory).or_refuse("release namespace directory", &name)?;
    match fs::remove_dir(directory) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(unmounted),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(unmounted),
        Err(error) => Err(error).or_refuse("release namespace directory", name),
    }
}

/// Makes a namespace and pins it at a path, or opens the one that is pinned there.
pub fn create(path: &Path) -> Result<(Namespace, Outcome)> {
    const ACTION: &str = "create network namespace";
    let name = path.display().to_string();
    if is_mounted(path) {
        return Ok((Namespace::open(path)?, Outcome::Already));
    }
    // A file without a mount is half-made: the mount goes onto it.
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).mode(0o444).custom_flags(libc::O_NOFOLLOW);
    options.open(path).or_refuse(ACTION, &name)?;
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            })
            .or_refuse(ACTION, &name)?
            .join()
            .map_err(|_| Error::unexpected(ACTION, &name, "the thread panicked"))?
            .or_refuse(ACTION, &name)
    })?;
    Ok((Namespace::open(path)?, Outcome::Done))
}

/// Removes a pin, half-made ones too; the namespace goes with its last user.
pub fn remove(path: &Path) -> Result<Outcome> {
    const ACTION: &str = "remove network namespace";
    let name = path.display().to_string();
    let unmounted =
        if is_mounted(path) { unmount(path).or_refuse(ACTION, &name)? } else { Outcome::Already };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() || found.size() > 0 => {
            return Err(Error::Foreign { action: ACTION, object: name });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(unmounted),
        Err(error) => return Err(error).or_refuse(ACTION, name),
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(unmounted),
        Err(error) => Err(error).or_refuse(ACTION, name),
    }
}

/// The pins below a directory; none if there is no such directory.
pub fn pinned(directory: &Path) -> Result<Vec<Pinned>> {
    let name = directory.display().to_string();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).or_refuse("list", name),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.or_refuse("list", &name)?;
        if let Ok(file) = entry.file_name().into_string() {
            found.push(Pinned { name: file, live: is_mounted(&entry.path()) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Makes a pin known to `ip netns` under a name, if the name is free.
pub fn publish(directory: &Path, name: &str, target: &Path) -> Result<Published> {
    const ACTION: &str = "make the name";
    let link = name_below(directory, name)?;
    if !directory.is_dir() {
        fs::create_dir_all(directory).or_refuse(ACTION, name)?;
    }
    match symlink(target, &link) {
        Ok(()) => Ok(Published::Made),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(if leads_to(&link, target) { Published::Already } else { Published::Taken })
        }
        Err(error) => Err(error).or_refuse(ACTION, link.display().to_string()),
    }
}

/// The names that lead to a pin below another directory, and to which: ours, whatever a store says.
pub fn published(directory: &Path, pins: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).or_refuse("list", directory.display().to_string()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.or_refuse("list", directory.display().to_string())?;
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let (Ok(name), true) = (entry.file_name().into_string(), target.parent() == Some(pins))
        else {
            continue;
        };
        found.push((name, target));
    }
    found.sort();
    Ok(found)
}

/// Removes a name that [`publish`] made; one that leads elsewhere is left alone.
pub fn unpublish(directory: &Path, name: &str, target: &Path) -> Result<Outcome> {
    let link = name_below(directory, name)?;
    if !leads_to(&link, target) {
        return Ok(Outcome::Already);
    }
    match fs::remove_file(&link) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Outcome::Already),
        Err(error) => Err(error).or_refuse("remove the name", link.display().to_string()),
    }
}

fn name_below(directory: &Path, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Error::unexpected("make the name", name, "it is no file name"));
    }
    Ok(directory.join(name))
}

fn leads_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|found| found == target)
}

/// Whether a namespace is mounted at a path.
fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == NSFS_MAGIC)
}

/// Unmounts whatever is mounted at a path, however often.
fn unmount(path: &Path) -> nix::Result<Outcome> {
    let mut outcome = Outcome::Already;
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => outcome = Outcome::Done,
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(outcome),
            Err(errno) => return Err(errno),
        }
    }
}

/// The cookie of the calling thread's namespace.
fn own_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the socket is open, and `cookie` and `length` are valid for writes of 8 and 4 bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
