//! Directories of an agent of a test's own, and what becomes of those of dead tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

const PREFIX: &str = "bascule-test-";

/// Where one agent keeps everything.
#[derive(Debug)]
pub struct Places {
    root: TempDir,
}

impl Places {
    /// Makes the directories.
    pub fn new() -> Self {
        let places = Self { root: directory() };
        for dir in [places.state(), places.run(), places.bpffs()] {
            fs::create_dir(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
        }
        // As the agent does where none is mounted; here so that the mount is the harness's to remove.
        nix::mount::mount(
            Some("bpf"),
            &places.bpffs(),
            Some("bpf"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .expect("a bpffs of the test's own");
        places
    }

    /// The directory above all others.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `--state-dir`.
    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// `--run-dir`.
    pub fn run(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// `--bpffs`.
    pub fn bpffs(&self) -> PathBuf {
        self.root.path().join("bpf")
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("bascule.sock")
    }

    /// The agent's output.
    pub fn log(&self) -> PathBuf {
        self.root.path().join("agent.log")
    }

    /// Names of everything pinned, without the leading directories.
    pub fn pins(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.bpffs(), &mut found);
        let base = self.bpffs();
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|path| path.strip_prefix(&base).ok())
            .map(|path| path.display().to_string())
            // The kernel's own, in the root of every bpffs.
            .filter(|name| name != "maps.debug" && name != "progs.debug")
            .collect();
        names.sort();
        names
    }
}

/// Makes a directory that vanishes with the value or, if the test dies, with the next test's start.
pub fn directory() -> TempDir {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a directory")
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        unmount_below(self.root.path());
        forget_names(self.root.path());
    }
}

/// Removes names that a failed test's agent left for `ip netns`.
fn forget_names(dir: &Path) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(dir)) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Mount points at and below a directory, in the order in which they were mounted.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(dir))
        .collect()
}

fn unmount_below(dir: &Path) {
    for mount in mounts_below(dir).iter().rev() {
        umount2(mount, MntFlags::MNT_DETACH).ok();
    }
}

/// A cgroup (version 2) of this test process's own: programs that agents attach there see the
/// test and its children only. The process moves into it on first use.
pub fn cgroup() -> PathBuf {
    static ENTER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    ENTER
        .get_or_init(|| {
            let path = cgroup_root().join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir_all(&path).expect("a cgroup of the test's own");
            fs::write(path.join("cgroup.procs"), "0").expect("move into an own cgroup");
            path
        })
        .clone()
}

/// Makes another cgroup beside the test's own, for what must not be among the test's processes.
pub fn cgroup_beside(name: &str) -> PathBuf {
    let path = cgroup_root().join(format!("{PREFIX}{}-{name}", std::process::id()));
    fs::create_dir_all(&path).expect("a cgroup of the test's own");
    path
}

/// Ends whatever is in a cgroup and removes it with all below it.
pub fn remove_cgroup(path: &Path) {
    fs::write(path.join("cgroup.kill"), "1").ok();
    let start = std::time::Instant::now();
    while remove_empty(path).is_err() && start.elapsed() < crate::wait::SOON {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A cgroup is removed by rmdir alone: its files are not files.
fn remove_empty(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn cgroup_root() -> PathBuf {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .expect("cgroup2 is mounted")
}

/// Removes what test processes that are dead left: directories with their mounts, and cgroups.
fn sweep() {
    let cgroups = cgroup_root();
    for dir in [std::env::temp_dir(), cgroups.clone()] {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let pid = rest.split('-').next().unwrap_or_default();
            if pid.parse::<u32>().is_err() || Path::new("/proc").join(pid).exists() {
                continue;
            }
            if dir == cgroups {
                remove_cgroup(&entry.path());
                continue;
            }
            unmount_below(&entry.path());
            forget_names(&entry.path());
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
