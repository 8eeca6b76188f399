//! What a command finds inside a sandbox: namespaces, files of its own, and a `/sys` of its network.
//!
//! All of it happens to the calling thread, which ends after it has started the command.

use std::{
    fs::{self, File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statvfs::{FsFlags, statvfs},
    unistd::sethostname,
};

use crate::{files, kernel::netns::Namespace};

const SYS: &str = "/sys";

/// The inside of a sandbox.
#[derive(Clone, Debug)]
pub struct Interior {
    /// Its network namespace; nothing is the host's.
    pub netns: Option<PathBuf>,
    /// What else there is.
    pub rest: Rest,
}

/// What is inside apart from the network.
#[derive(Clone, Debug)]
pub enum Rest {
    /// The host's files but for those in a directory, and a host name.
    Own {
        /// The host name.
        hostname: String,
        /// Directory of [`files`].
        files: PathBuf,
    },
    /// What a process in there has.
    Of(i32),
}

impl Interior {
    /// Moves the calling thread inside, for good; `privileged` leaves the kernel's settings open for writing.
    pub fn enter(&self, privileged: bool) -> Result<()> {
        match &self.rest {
            Rest::Own { hostname, files } => {
                self.enter_network()?;
                own(hostname, files)?;
                if self.netns.is_some() {
                    own_sys(privileged)?;
                }
                if privileged { Ok(()) } else { shut_settings() }
            }
            Rest::Of(pid) => self.join(*pid),
        }
    }

    fn enter_network(&self) -> Result<()> {
        let Some(path) = &self.netns else { return Ok(()) };
        let namespace = Namespace::open(path)
            .context("is this client in another mount namespace than the agent?")?;
        setns(&namespace, CloneFlags::CLONE_NEWNET).with_context(|| {
            format!("cannot enter the network namespace {} (needs root)", path.display())
        })
    }

    /// Enters what a process has, once it is certain to be the one in this sandbox.
    fn join(&self, pid: i32) -> Result<()> {
        let open = |kind: &str| {
            let path = format!("/proc/{pid}/ns/{kind}");
            File::open(&path).with_context(|| format!("cannot open {path}"))
        };
        let (mounts, names) = (open("mnt")?, open("uts")?);
        if let Some(path) = &self.netns {
            let theirs = u32::try_from(pid)
                .context("no process id")
                .and_then(|pid| Ok(Namespace::of_process(pid)?.identity()?))?;
            if theirs != Namespace::open(path)?.identity()? {
                bail!("process {pid} is not in {}: has it just ended?", path.display());
            }
        }
        let here = std::env::current_dir();
        self.enter_network()?;
        // A thread that shares its working directory with others cannot change its root.
        unshare(CloneFlags::CLONE_FS).context("cannot leave the other threads")?;
        setns(&names, CloneFlags::CLONE_NEWUTS)
            .and_then(|()| setns(&mounts, CloneFlags::CLONE_NEWNS))
            .with_context(|| {
                format!("cannot enter the namespaces of process {pid} (needs root)")
            })?;
        let back = here.and_then(std::env::set_current_dir);
        back.or_else(|_| std::env::set_current_dir("/")).context("cannot change directory")
    }
}

/// Gives the calling thread mounts and a host name of its own.
fn own(hostname: &str, files: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context("cannot make a mount namespace (needs root)")?;
    sethostname(hostname).with_context(|| format!("cannot set the host name {hostname}"))?;
    // Mounts of the host still appear inside; nothing of ours appears on the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .context("cannot keep mounts from the host")?;
    for name in files::NAMES {
        let (from, to) = (files.join(name), Path::new("/etc").join(name));
        // Where the host has none, programs do without it.
        if to.exists() {
            bind(&from, &to)
                .with_context(|| format!("cannot mount {} on {}", from.display(), to.display()))?;
        }
    }
    Ok(())
}

/// Shuts `/proc/sys` for writing, as Docker does: root may write most of it whatever else it may do.
fn shut_settings() -> Result<()> {
    let path = Path::new("/proc/sys");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    bind(path, path)
        .and_then(|()| {
            let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        })
        .context("cannot shut /proc/sys for writing")
}

fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
}

/// Mounts a `/sys` that shows the network namespace of this thread. What was mounted below the old
/// one (cgroups, bpffs) is put back in its place.
fn own_sys(privileged: bool) -> Result<()> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !privileged || statvfs(SYS).is_ok_and(|old| old.flags().contains(FsFlags::ST_RDONLY)) {
        flags |= MsFlags::MS_RDONLY;
    }
    let mountinfo = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let below: Vec<_> = mounts_below(&mountinfo, SYS)
        .into_iter()
        .filter_map(|path| {
            let path_only = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path);
            Some((path_only.ok()?, path))
        })
        .collect();
    mount(Some("sysfs"), SYS, Some("sysfs"), flags, None::<&str>)
        .context("cannot mount the sandbox's /sys")?;
    for (file, path) in below {
        let from = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
        // Not every old mount point exists in a new sysfs; the network does not depend on them.
        bind(Path::new(&from), &path).ok();
    }
    Ok(())
}

/// Mount points right below a directory, without those below other mount points.
fn mounts_below(mountinfo: &str, dir: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for point in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)) {
        let path = PathBuf::from(point.replace("\\040", " "));
        let is_below = path.starts_with(dir) && path != Path::new(dir);
        if is_below && !found.iter().any(|above| path.starts_with(above)) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_others_are_left_to_those() {
        let mountinfo = "\
22 1 0:21 / /sys rw - sysfs sysfs rw
23 22 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
24 23 0:23 / /sys/fs/cgroup/a rw - tmpfs x rw
25 22 0:24 / /sys/fs/bpf rw - bpf bpf rw
26 1 0:25 / /system rw - tmpfs x rw
27 1 0:26 / /a\\040b rw - tmpfs x rw";
        let found = mounts_below(mountinfo, SYS);
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/sys/fs/bpf")]);
    }
}
