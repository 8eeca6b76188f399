//! Removal of everything of ours, from the pins and names alone: no store is needed, and every version
//! of the ABI is covered.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use serde::Serialize;

use super::{
    BpfError,
    attach::remove_link,
    bpffs::{Pins, entries, unpin},
    clsact,
    error::pin,
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
/// The directory goes too, unless somebody else keeps something in it; the mount stays.
pub fn cleanup(dir: &Path) -> Result<Removed, BpfError> {
    let mut removed = Removed::default();
    if let Some(pins) = Pins::existing(dir)? {
        for version in pins.versions()? {
            let of_version = remove_version(&version)?;
            removed.links += of_version.links;
            removed.maps += of_version.maps;
        }
        remove_dir(pins.root())?;
    }
    removed.filters = remove_filters().map_err(|source| BpfError::Attach {
        what: "remove",
        program: "the filters".into(),
        place: "of the interfaces".into(),
        source,
    })?;
    Ok(removed)
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
    for dir in [version.join("links"), version.join("maps"), version.to_path_buf()] {
        remove_dir(&dir)?;
    }
    Ok(removed)
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
