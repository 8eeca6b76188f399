//! Where programs are attached: TCX links pinned as `links/<ifindex>-in` and `-eg`, or clsact filters.
//!
//! A link is never taken off to put a newer program on it: the program is swapped, and no packet passes
//! in between. All of this is about interfaces of the calling thread's network namespace.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aya_obj::generated::bpf_attach_type;
use serde::Serialize;

use super::{
    BpfError,
    bpffs::{Pins, entries, unpin},
    clsact,
    error::pin,
    load::{Program, Programs},
    sys::{self, Kind, LinkTarget},
};

/// Which packets of an interface a hook sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Those that come in by it.
    Ingress,
    /// Those that go out of it.
    Egress,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Ingress => "in",
            Self::Egress => "eg",
        }
    }

    const fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
            Self::Egress => bpf_attach_type::BPF_TCX_EGRESS,
        }
    }

    /// The name, as in metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A place for one program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hook {
    /// Interface index.
    pub ifindex: u32,
    /// Which side of it.
    pub side: Side,
}

impl Hook {
    fn pin_name(self) -> String {
        format!("{}-{}", self.ifindex, self.side.suffix())
    }

    fn from_pin_name(name: &str) -> Option<Self> {
        let (ifindex, suffix) = name.split_once('-')?;
        let side = Side::BOTH.into_iter().find(|side| side.suffix() == suffix)?;
        Some(Self { ifindex: ifindex.parse().ok()?, side })
    }

    fn is_target(self, target: LinkTarget) -> bool {
        let attach_type = self.side.attach_type() as u32;
        target == LinkTarget::Tcx { ifindex: self.ifindex, attach_type }
    }

    fn error(self, what: &'static str, program: &str) -> impl FnOnce(io::Error) -> BpfError {
        let program = program.to_owned();
        let place = format!("at {} of interface {}", self.side.label(), self.ifindex);
        move |source| BpfError::Attach { what, program, place, source }
    }
}

/// By which mechanism of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Pinned links, from Linux 6.6 on.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl Mode {
    /// The name, as in metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What sits on a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The program's name.
    pub program: String,
    /// The program's identifier; equal to [`Program::id`] if it is the one loaded by this process.
    pub program_id: u32,
    /// How it is attached.
    pub mode: Mode,
}

impl Attachment {
    /// Whether it is the very program that this process has loaded, by the mechanism in use.
    pub fn is_current(&self, programs: &Programs, mode: Mode) -> bool {
        self.mode == mode
            && programs.get(&self.program).is_ok_and(|program| program.id == self.program_id)
    }
}

/// What attaching did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing was there.
    Created,
    /// An older program was swapped for this one.
    Updated,
    /// This very program was there.
    Kept,
}

/// The hooks of one agent.
#[derive(Clone, Debug)]
pub struct Hooks {
    pins: Pins,
    mode: Mode,
    /// Filters may be there: always in clsact mode, and in the other until none has been found. Nobody
    /// else makes any, and looking for them is a request for every side of every interface.
    filters: Arc<AtomicBool>,
    /// Held while something is attached: two at once would find the same hook free.
    attaching: Arc<Mutex<()>>,
}

impl Hooks {
    /// Uses the pins of this agent, and one mechanism for what it attaches from now on.
    pub fn new(pins: Pins, mode: Mode) -> Self {
        Self { pins, mode, filters: Arc::new(AtomicBool::new(true)), attaching: Arc::default() }
    }

    /// The directory of the pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The mechanism in use.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Puts a program on a hook, swapping an older one in place.
    pub fn attach(
        &self,
        programs: &Programs,
        hook: Hook,
        name: &str,
    ) -> Result<Attached, BpfError> {
        let program = programs.get(name)?;
        let _alone = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        match self.mode {
            Mode::Tcx => self.attach_tcx(program, hook, name),
            Mode::Clsact => self.attach_clsact(program, hook, name),
        }
    }

    fn attach_tcx(&self, program: &Program, hook: Hook, name: &str) -> Result<Attached, BpfError> {
        let path = self.pins.link(&hook.pin_name());
        if let Some((link, current)) = self.live(&path, hook)? {
            if current == program.id {
                return Ok(Attached::Kept);
            }
            match sys::link_update(&link, program.fd()) {
                Ok(()) => return Ok(Attached::Updated),
                // The interface went away a moment ago; the index may be a new one's already.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => unpin(&path)?,
                Err(error) => return Err(hook.error("swap", name)(error)),
            }
        }
        let link = sys::link_create_tcx(program.fd(), hook.ifindex, hook.side.attach_type())
            .map_err(hook.error("attach", name))?;
        sys::object_pin(&link, &path).map_err(pin("pin the link at", &path))?;
        // Left by an agent that used the other mechanism.
        clsact::detach(hook.ifindex, hook.side)
            .map_err(hook.error("detach the filter of", name))?;
        Ok(Attached::Created)
    }

    fn attach_clsact(
        &self,
        program: &Program,
        hook: Hook,
        name: &str,
    ) -> Result<Attached, BpfError> {
        let before = clsact::attach(hook.ifindex, hook.side, program.fd(), name)
            .map_err(hook.error("attach", name))?;
        if before.made_qdisc {
            self.pins.note_qdisc(hook.ifindex)?;
        }
        let path = self.pins.link(&hook.pin_name());
        let swapped = self.live(&path, hook)?.is_some();
        remove_link(&path)?;
        Ok(match before.filter {
            Some(filter) if filter.id == program.id => Attached::Kept,
            Some(_) => Attached::Updated,
            None if swapped => Attached::Updated,
            None => Attached::Created,
        })
    }

    /// The link pinned for a hook, if it really is one of that hook, and its program's identifier.
    /// Anything else that is pinned there is removed.
    fn live(&self, path: &Path, hook: Hook) -> Result<Option<(OwnedFd, u32)>, BpfError> {
        self.live_link(path, |target| hook.is_target(target))
    }

    /// As [`Self::live`], for any kind of target.
    pub(super) fn live_link(
        &self,
        path: &Path,
        is_target: impl Fn(LinkTarget) -> bool,
    ) -> Result<Option<(OwnedFd, u32)>, BpfError> {
        self.adopt(path)?;
        Self::pinned_link(path, is_target)
    }

    /// As [`Self::live_link`], for what is known to be pinned.
    pub(super) fn pinned_link(
        path: &Path,
        is_target: impl Fn(LinkTarget) -> bool,
    ) -> Result<Option<(OwnedFd, u32)>, BpfError> {
        match sys::object_get(path, Kind::Link) {
            Ok(link) => {
                let info =
                    sys::link_info(&link).map_err(pin("describe the link pinned at", path))?;
                if is_target(info.target) {
                    return Ok(Some((link, info.program)));
                }
                unpin(path)?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                unpin(path)?;
                Ok(None)
            }
            Err(error) => Err(pin("open the link pinned at", path)(error)),
        }
    }

    /// Where nothing is pinned, takes over the pin of the same name from another version of the ABI.
    pub(super) fn adopt(&self, path: &Path) -> Result<(), BpfError> {
        let Some(name) = path.file_name().filter(|_| !path.exists()) else { return Ok(()) };
        for version in self.pins.other_versions()? {
            let old = version.join("links").join(name);
            if old.exists() {
                return fs::rename(&old, path).map_err(pin("take over", &old));
            }
        }
        Ok(())
    }

    /// Takes whatever is ours off a hook; false if there was nothing.
    pub fn detach(&self, hook: Hook) -> Result<bool, BpfError> {
        let linked = remove_link(&self.pins.link(&hook.pin_name()))?;
        let filtered = match clsact::detach(hook.ifindex, hook.side) {
            Ok(was) => was,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => false,
            Err(error) => return Err(hook.error("detach", "the filter")(error)),
        };
        Ok(linked || filtered)
    }

    /// Everything of ours that is attached to an interface that exists.
    pub fn all(&self) -> Result<BTreeMap<Hook, Attachment>, BpfError> {
        let mut all = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (hook, path) in self.pinned()? {
            if let Some((_, program_id)) = Self::pinned_link(&path, |t| hook.is_target(t))? {
                let program: &String = names
                    .entry(program_id)
                    .or_insert_with(|| program_name(program_id).unwrap_or_default());
                let program = program.clone();
                all.insert(hook, Attachment { program, program_id, mode: Mode::Tcx });
            }
        }
        if self.filters.load(Ordering::Relaxed) {
            self.add_filters(&mut all)?;
        }
        Ok(all)
    }

    fn add_filters(&self, all: &mut BTreeMap<Hook, Attachment>) -> Result<(), BpfError> {
        let filters = clsact::all().map_err(|source| BpfError::Attach {
            what: "list",
            program: "the filters".into(),
            place: "of the interfaces".into(),
            source,
        })?;
        self.filters.store(self.mode == Mode::Clsact || !filters.is_empty(), Ordering::Relaxed);
        for (ifindex, side, filter) in filters {
            let attachment =
                Attachment { program: filter.program, program_id: filter.id, mode: Mode::Clsact };
            all.entry(Hook { ifindex, side }).or_insert(attachment);
        }
        Ok(())
    }

    /// Removes the pins of links whose interface is gone; returns their hooks.
    pub fn sweep(&self) -> Result<Vec<Hook>, BpfError> {
        let mut gone = Vec::new();
        for (hook, path) in self.pinned()? {
            if Self::pinned_link(&path, |target| hook.is_target(target))?.is_none() {
                gone.push(hook);
            }
        }
        // Looking at a link removes its pin where the interface is gone.
        self.all_xdp()?;
        Ok(gone)
    }

    /// Removes what other versions of the ABI have left, once every hook has been attached anew.
    pub fn forget_other_versions(&self) -> Result<(), BpfError> {
        for version in self.pins.other_versions()? {
            super::cleanup::remove_version(&version)?;
        }
        Ok(())
    }

    fn pinned(&self) -> Result<Vec<(Hook, PathBuf)>, BpfError> {
        Ok(entries(&self.pins.links_dir())?
            .into_iter()
            .filter_map(|path| {
                let hook = Hook::from_pin_name(path.file_name()?.to_str()?)?;
                Some((hook, path))
            })
            .collect())
    }
}

/// Detaches the link pinned at a path and removes the pin; false if there was none.
pub(super) fn remove_link(path: &Path) -> Result<bool, BpfError> {
    match sys::object_get(path, Kind::Link) {
        Ok(link) => {
            // Fails where the interface is gone, and with it the attachment.
            let _ = sys::link_detach(&link);
            unpin(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            unpin(path)?;
            Ok(false)
        }
        Err(error) => Err(pin("open the link pinned at", path)(error)),
    }
}

/// Name of a loaded program.
pub(super) fn program_name(id: u32) -> Option<String> {
    let fd = sys::program_by_id(id).ok()?;
    sys::program_info(&fd).ok().map(|info| info.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_their_hooks() {
        for side in Side::BOTH {
            let hook = Hook { ifindex: 70_000, side };
            assert_eq!(Hook::from_pin_name(&hook.pin_name()), Some(hook));
        }
        assert_eq!(Hook::from_pin_name("cg-bind4"), None);
        assert_eq!(Hook::from_pin_name("5-xdp"), None);
    }
}
