//! The pin directory: found, mounted where missing, and the paths below it. What is pinned, and what a
//! pin means, is said elsewhere in this room.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bascule_common::abi::ABI_VERSION;
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{BpfError, error::pin};

/// Where distributions mount the BPF file system.
const STANDARD: &str = "/sys/fs/bpf";

/// The pins of one agent: `<dir>/v<ABI>/{maps,links,programs}` on a live bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Opens the directory, makes what is missing, and mounts a bpffs where there is none.
    pub fn open(dir: &Path) -> Result<Self, BpfError> {
        ensure_bpffs(dir)?;
        let pins = Self { root: dir.to_path_buf() };
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(pin("make", parent))?;
        }
        for dir in [pins.root.clone(), pins.version_dir(), pins.maps_dir(), pins.links_dir()] {
            make_dir(&dir).map_err(pin("make", &dir))?;
        }
        Ok(pins)
    }

    /// Opens the directory if it is there, for clean-up: makes and mounts nothing.
    pub fn existing(dir: &Path) -> Result<Option<Self>, BpfError> {
        Ok((dir.is_dir() && is_bpffs(dir)).then(|| Self { root: dir.to_path_buf() }))
    }

    /// The directory itself, of every version.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this version of the ABI.
    pub fn version_dir(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    /// Where maps are pinned.
    pub fn maps_dir(&self) -> PathBuf {
        self.version_dir().join("maps")
    }

    /// Where links are pinned.
    pub fn links_dir(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// Where programs are pinned, a directory for each build of them.
    pub fn programs_dir(&self) -> PathBuf {
        self.version_dir().join("programs")
    }

    /// Pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// Pin of a link.
    pub fn link(&self, name: &str) -> PathBuf {
        self.links_dir().join(name)
    }

    /// Where it is noted on which interfaces the agent has made a clsact qdisc: an empty directory for each, the
    /// only thing beside pins that a bpffs holds. It goes with a restart of the machine, as the qdiscs do.
    pub fn qdiscs_dir(&self) -> PathBuf {
        self.root.join("qdiscs")
    }

    /// Notes that the qdisc of an interface is ours to remove.
    pub(super) fn note_qdisc(&self, ifindex: u32) -> Result<(), BpfError> {
        let dir = self.qdiscs_dir();
        for dir in [dir.clone(), dir.join(ifindex.to_string())] {
            make_dir(&dir).map_err(pin("make", &dir))?;
        }
        Ok(())
    }

    /// Directories of other versions of the ABI.
    pub fn other_versions(&self) -> Result<Vec<PathBuf>, BpfError> {
        let own = self.version_dir();
        Ok(entries(&self.root)?
            .into_iter()
            .filter(|path| *path != own && is_version(path))
            .collect())
    }

    /// Directories of every version of the ABI.
    pub fn versions(&self) -> Result<Vec<PathBuf>, BpfError> {
        Ok(entries(&self.root)?.into_iter().filter(|path| is_version(path)).collect())
    }
}

fn is_version(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix('v'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// The entries of a directory, sorted; none if it is not there.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, BpfError> {
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(pin("list", dir)(error)),
    };
    let mut paths = read
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(pin("list", dir))?;
    paths.sort();
    Ok(paths)
}

/// Removes a pin; no matter if it is gone.
pub(super) fn unpin(path: &Path) -> Result<(), BpfError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(pin("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        // Pins are handles on everything: root's alone.
        Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_bpffs(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether the directory is a bpffs of its own, not a place in the system's: only an agent mounts one there.
pub(super) fn is_own_mount(dir: &Path) -> bool {
    dir != Path::new(STANDARD) && is_bpffs(dir) && dir.parent().is_some_and(|up| !is_bpffs(up))
}

fn nearest_existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

fn ensure_bpffs(dir: &Path) -> Result<(), BpfError> {
    let refuse = |why: String| BpfError::Bpffs { dir: dir.to_path_buf(), why };
    if !dir.is_absolute() {
        return Err(refuse("the path is not absolute".into()));
    }
    if is_bpffs(&nearest_existing(dir)) {
        return Ok(());
    }
    if in_private_mounts() {
        return Err(refuse(
            "no BPF file system is mounted there, and this process has a mount namespace of its own: \
             pins made in it would vanish with it. `ip netns exec` makes one; enter the network \
             namespace with `nsenter --net=PATH` instead, or name a mounted BPF file system with --bpffs"
                .into(),
        ));
    }
    // sysfs takes no new directories: below the standard place, that place is what has to be mounted.
    let point = if dir.starts_with(STANDARD) { Path::new(STANDARD) } else { dir };
    if point == Path::new(STANDARD) && !point.exists() {
        return Err(refuse(format!("the kernel has no {STANDARD}: it was built without BPF")));
    }
    fs::create_dir_all(point).map_err(|error| refuse(format!("cannot make it: {error}")))?;
    mount_bpffs(point).map_err(|error| {
        refuse(format!(
            "cannot mount a BPF file system at {}: {error} (needs root; by hand: mount -t bpf bpf {})",
            point.display(),
            point.display()
        ))
    })
}

/// Two agents may start at once: whoever comes second finds the mount made, instead of covering it.
fn mount_bpffs(point: &Path) -> io::Result<()> {
    let _lock = Flock::lock(fs::File::open(point)?, FlockArg::LockExclusive)
        .map_err(|(_, error)| io::Error::from(error))?;
    if is_bpffs(point) {
        return Ok(());
    }
    mount(
        Some("bpf"),
        point,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(io::Error::from)
}

/// Whether this process sees other mounts than the first process does: then a mount of ours is ours alone.
fn in_private_mounts() -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    // The first process may be out of bounds for all but the fully privileged; kthreadd never is.
    match (of("thread-self"), of("1").or_else(|_| of("2"))) {
        (Ok(own), Ok(first)) => own != first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_directories_are_ours() {
        for (name, ours) in
            [("v1", true), ("v12", true), ("v", false), ("vx", false), ("maps", false)]
        {
            assert_eq!(is_version(&Path::new("/sys/fs/bpf/bascule").join(name)), ours, "{name}");
        }
    }

    #[test]
    fn a_relative_directory_is_refused() {
        assert!(matches!(Pins::open(Path::new("pins")), Err(BpfError::Bpffs { .. })));
    }
}
