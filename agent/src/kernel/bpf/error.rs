//! What can go wrong with BPF, said so that an operator can act on it.

use std::{io, path::PathBuf};

/// Why something about BPF could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The kernel has no bpf(2), or this process may not use it.
    #[error("no BPF: {what}: {source} ({hint})")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The kernel lacks something that nothing replaces.
    #[error(
        "this kernel ({release}) lacks {missing}; Bascule needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL"
    )]
    Features {
        /// `uname -r`.
        release: String,
        /// What is missing, comma-separated.
        missing: String,
    },
    /// The pin directory is unusable.
    #[error("cannot use {} for pins: {why}", dir.display())]
    Bpffs {
        /// The directory asked for.
        dir: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// A file below the pin directory.
    #[error("cannot {what} {}: {source}", path.display())]
    Pin {
        /// The verb.
        what: &'static str,
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The embedded object does not parse or relocate.
    #[error("cannot load the eBPF object: {0}")]
    Object(String),
    /// The kernel refused a program.
    #[error("the kernel refused the program {name}: {source}; last lines of the verifier:\n{log}")]
    Verifier {
        /// The program.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// The end of the verifier's log.
        log: String,
    },
    /// A program that something asks for is not in the object.
    #[error("the eBPF object has no program {0}")]
    NoProgram(String),
    /// A map has not the layout that this version reads and writes.
    #[error("the map {name} has {found}, and this version expects {expected}")]
    Layout {
        /// The map.
        name: &'static str,
        /// What the kernel has.
        found: String,
        /// What the types say.
        expected: String,
    },
    /// An operation on a map.
    #[error("cannot {what} map {name}: {source}")]
    Map {
        /// The verb.
        what: &'static str,
        /// The map.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Attaching or detaching.
    #[error("cannot {what} {program} {place}: {source}")]
    Attach {
        /// The verb.
        what: &'static str,
        /// The program.
        program: String,
        /// Where.
        place: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The cgroup file system.
    #[error("cannot use cgroups at {}: {why}", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Running a program on demand.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BpfError {
    /// Whether the object concerned is simply gone: an interface removed meanwhile.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Attach { source, .. }
                if matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENOLINK | libc::ENXIO))
        )
    }
}

/// Wraps an I/O error about a pin.
pub(super) fn pin(
    what: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> BpfError {
    let path = path.to_path_buf();
    move |source| BpfError::Pin { what, path, source }
}
