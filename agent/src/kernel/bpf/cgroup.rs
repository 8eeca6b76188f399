//! Hooks of cgroups: links pinned as `links/cg-<program>`. Which sockets they concern is the programs'
//! affair: they see every process below the cgroup, and act for their own network namespace alone.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya_obj::generated::bpf_attach_type;
use bascule_common::abi::names::program;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::{
    BpfError,
    attach::{Attached, Hooks, remove_link},
    bpffs::unpin,
    error::pin,
    load::Programs,
    sys::{self, Kind, LinkTarget},
};

/// A hook of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CgroupHook {
    /// bind(2) of IPv4 sockets.
    Bind4,
    /// bind(2) of IPv6 sockets.
    Bind6,
    /// connect(2) of IPv4 sockets.
    Connect4,
    /// connect(2) of IPv6 sockets.
    Connect6,
    /// Datagrams of unconnected sockets to IPv4 addresses.
    Sendmsg4,
    /// Datagrams of unconnected sockets to IPv6 addresses.
    Sendmsg6,
    /// The source that recvmsg(2) tells IPv4 sockets.
    Recvmsg4,
    /// The source that recvmsg(2) tells IPv6 sockets.
    Recvmsg6,
    /// getpeername(2) of IPv4 sockets.
    Getpeername4,
    /// getpeername(2) of IPv6 sockets.
    Getpeername6,
}

impl CgroupHook {
    /// Every hook.
    pub const ALL: [Self; 10] = [
        Self::Bind4,
        Self::Bind6,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
    ];

    /// The program that belongs there.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Bind4 => program::BIND4,
            Self::Bind6 => program::BIND6,
            Self::Connect4 => program::CONNECT4,
            Self::Connect6 => program::CONNECT6,
            Self::Sendmsg4 => program::SENDMSG4,
            Self::Sendmsg6 => program::SENDMSG6,
            Self::Recvmsg4 => program::RECVMSG4,
            Self::Recvmsg6 => program::RECVMSG6,
            Self::Getpeername4 => program::GETPEERNAME4,
            Self::Getpeername6 => program::GETPEERNAME6,
        }
    }

    const fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Bind4 => bpf_attach_type::BPF_CGROUP_INET4_BIND,
            Self::Bind6 => bpf_attach_type::BPF_CGROUP_INET6_BIND,
            Self::Connect4 => bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
            Self::Connect6 => bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
            Self::Sendmsg4 => bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG,
            Self::Sendmsg6 => bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG,
            Self::Recvmsg4 => bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG,
            Self::Recvmsg6 => bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG,
            Self::Getpeername4 => bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
            Self::Getpeername6 => bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
        }
    }

    fn pin_name(self) -> String {
        format!("cg-{}", self.program())
    }
}

/// The cgroup to attach to: the one configured, else the root of a mounted cgroup2 hierarchy, else one
/// that is mounted for it below the run directory.
pub fn find_cgroup(configured: Option<&Path>, run_dir: &Path) -> Result<PathBuf, BpfError> {
    let error = |path: &Path, why: String| BpfError::Cgroup { path: path.to_path_buf(), why };
    if let Some(path) = configured {
        return if is_cgroup2(path) {
            Ok(path.to_path_buf())
        } else {
            Err(error(path, "it is no directory of a cgroup2 file system".into()))
        };
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if let Some(found) = cgroup2_mounts(&mounts).find(|path| is_cgroup2(path)) {
        return Ok(found);
    }
    let path = run_dir.join("cgroup");
    if !is_cgroup2(&path) {
        fs::create_dir_all(&path).map_err(|e| error(&path, e.to_string()))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("cgroup2"), &path, Some("cgroup2"), flags, None::<&str>)
            .map_err(|e| error(&path, format!("none is mounted, and mounting one fails: {e}")))?;
    }
    Ok(path)
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn cgroup2_mounts(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        // The kernel writes a space as \040.
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

impl Hooks {
    /// Puts a hook's program on a cgroup, swapping an older one in place.
    pub fn attach_cgroup(
        &self,
        programs: &Programs,
        cgroup: &Path,
        hook: CgroupHook,
    ) -> Result<Attached, BpfError> {
        let program = programs.get(hook.program())?;
        let error = |what| {
            let place = format!("at the cgroup {}", cgroup.display());
            move |source| BpfError::Attach { what, program: hook.program().into(), place, source }
        };
        let dir = File::open(cgroup).map_err(error("attach"))?;
        let id = dir.metadata().map_err(error("attach"))?.ino();
        let path = self.pins().link(&hook.pin_name());
        self.adopt(&path)?;
        match sys::object_get(&path, Kind::Link) {
            Ok(link) => {
                let info = sys::link_info(&link).map_err(error("describe"))?;
                let attach_type = hook.attach_type() as u32;
                if info.target == (LinkTarget::Cgroup { cgroup: id, attach_type }) {
                    if info.program == program.id {
                        return Ok(Attached::Kept);
                    }
                    match sys::link_update(&link, program.fd()) {
                        Ok(()) => return Ok(Attached::Updated),
                        Err(e) if e.raw_os_error() == Some(libc::ENOLINK) => {}
                        Err(e) => return Err(error("swap")(e)),
                    }
                }
                // Of another cgroup, or of one that is gone.
                remove_link(&path)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => unpin(&path)?,
            Err(e) => return Err(pin("open the link pinned at", &path)(e)),
        }
        let link =
            sys::link_create(program.fd(), &dir, hook.attach_type()).map_err(error("attach"))?;
        sys::object_pin(&link, &path).map_err(pin("pin the link at", &path))?;
        Ok(Attached::Created)
    }

    /// Identifier of the program on a hook of a cgroup, if its link is alive.
    pub fn cgroup_program(&self, hook: CgroupHook) -> Result<Option<u32>, BpfError> {
        let path = self.pins().link(&hook.pin_name());
        match sys::object_get(&path, Kind::Link) {
            Ok(link) => {
                let info =
                    sys::link_info(&link).map_err(pin("describe the link pinned at", &path))?;
                let alive = matches!(info.target, LinkTarget::Cgroup { cgroup, .. } if cgroup != 0);
                Ok(alive.then_some(info.program))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(pin("open the link pinned at", &path)(e)),
        }
    }

    /// Takes our program off a hook of a cgroup; false if it was not there.
    pub fn detach_cgroup(&self, hook: CgroupHook) -> Result<bool, BpfError> {
        remove_link(&self.pins().link(&hook.pin_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_among_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/my\\040unified cgroup2 rw 0 0\n";
        let found: Vec<_> = cgroup2_mounts(mounts).collect();
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/my unified")]);
    }
}
