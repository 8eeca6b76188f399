//! Removal of everything of ours, from the pins and names alone: no store is needed, and every version
//! of the ABI is covered.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, mount::umount};
use serde::Serialize;

use super::{
    BpfError,
    attach::remove_link,
    bpffs::{Pins, entries, is_own_mount, unpin},
    clsact,
    error::pin,
    kept,
};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Links, of interfaces and cgroups.
    pub links: usize,
    /// clsact filters.
    pub filters: usize,
    /// Maps.
    pub maps: usize,
}

/// Detaches and removes everything of the agent with this pin directory, in this network namespace.
/// The directory goes too, unless somebody else keeps something in it, and so does a bpffs that was mounted
/// on the directory itself; the system's own, above it, stays.
pub fn cleanup(dir: &Path) -> Result<Removed, BpfError> {
    let filters = remove_filters().map_err(|source| BpfError::Attach {
        what: "remove",
        program: "the filters".into(),
        place: "of the interfaces".into(),
        source,
    })?;
    let mut removed = Removed { filters, ..Removed::default() };
    if let Some(pins) = Pins::existing(dir)? {
        remove_qdiscs(&pins)?;
        for version in pins.versions()? {
            let of_version = remove_version(&version)?;
            removed.links += of_version.links;
            removed.maps += of_version.maps;
        }
        unmount(pins.root())?;
        remove_dir(pins.root())?;
    }
    Ok(removed)
}

/// Removes the qdiscs that an agent has made, where nobody has come to use them.
fn remove_qdiscs(pins: &Pins) -> Result<(), BpfError> {
    for note in entries(&pins.qdiscs_dir())? {
        let name = note.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Ok(ifindex) = name.parse() {
            clsact::remove_empty_qdisc(ifindex).map_err(|source| BpfError::Attach {
                what: "remove",
                program: "the clsact qdisc".to_owned(),
                place: format!("of interface {ifindex}"),
                source,
            })?;
        }
        remove_dir(&note)?;
    }
    remove_dir(&pins.qdiscs_dir())
}

/// Links first: a map without its pin lives on as long as a program uses it.
pub(super) fn remove_version(version: &Path) -> Result<Removed, BpfError> {
    let mut removed = Removed::default();
    for path in entries(&version.join("links"))? {
        removed.links += usize::from(remove_link(&path)?);
    }
    for path in entries(&version.join("maps"))? {
        unpin(&path)?;
        removed.maps += 1;
    }
    let programs = version.join("programs");
    for build in entries(&programs)? {
        kept::remove(&build)?;
    }
    for dir in [version.join("links"), version.join("maps"), programs, version.to_path_buf()] {
        remove_dir(&dir)?;
    }
    Ok(removed)
}

/// Unmounts the bpffs that the agent made for itself, if nothing of anybody's is left in it.
fn unmount(root: &Path) -> Result<(), BpfError> {
    // The kernel's own iterators, in the root of every bpffs.
    let is_kernels =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "debug");
    let is_shared = !is_own_mount(root) || !entries(root)?.iter().all(is_kernels);
    if is_shared {
        return Ok(());
    }
    match umount(root) {
        // In use, or gone meanwhile: nothing of ours is in it any more.
        Ok(()) | Err(Errno::EBUSY | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(pin("unmount", root)(errno.into())),
    }
}

fn remove_dir(dir: &Path) -> Result<(), BpfError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            // Not empty: not ours alone. Busy: the root of the mount itself.
            ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy => Ok(()),
            _ => Err(pin("remove", dir)(error)),
        },
    }
}

fn remove_filters() -> io::Result<usize> {
    let mut count = 0;
    for (ifindex, side, _) in clsact::all()? {
        count += usize::from(clsact::detach(ifindex, side)?);
    }
    Ok(count)
}
