//! Programs that an agent of this very build has loaded before, pinned as `programs/<build>/<name>`: the verifier takes
//! longer over them than all else that a start does, and says the same each time. They run where they run, and nothing
//! is swapped.
//!
//! They are believed only if they use the maps that are in force. Whatever is not as it should be has them loaded anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hasher as _},
    io::ErrorKind,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::programs::ProgramInfo;
use bascule_common::abi::names::map;

use super::{
    BpfError,
    bpffs::{Pins, entries, make_dir, unpin},
    error::pin,
    load::{NEW, Program, Programs},
    sys,
};

/// Characters that the kernel keeps of a name.
const NAME: usize = 15;

/// An object by what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build(String);

impl Build {
    pub(super) fn of(object: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(object);
        Self(format!("{:016x}-{}", hasher.finish(), object.len()))
    }

    fn place(&self, pins: &Pins) -> PathBuf {
        pins.programs_dir().join(&self.0)
    }
}

/// Opens the programs of a build, if they are there and use the maps that are in force.
pub(super) fn open(pins: &Pins, build: &Build, in_force: &BTreeSet<u32>) -> Option<Programs> {
    let paths = entries(&build.place(pins)).unwrap_or_default();
    let mut used = BTreeSet::new();
    let programs: Option<BTreeMap<_, _>> =
        paths.iter().map(|path| open_one(path, &mut used)).collect();
    let programs = programs.filter(|programs| !programs.is_empty())?;
    used.difference(in_force).all(|map| is_private(*map)).then(|| Programs::new(programs))
}

fn open_one(path: &Path, used: &mut BTreeSet<u32>) -> Option<(String, Program)> {
    let name = path.file_name()?.to_str()?;
    let info = ProgramInfo::from_pin(path).ok()?;
    if info.name() != kept(name) {
        return None;
    }
    used.extend(info.map_ids().ok()??);
    let fd = info.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
    let program = Program::new(fd, info.id(), info.verified_instruction_count());
    Some((name.to_owned(), program))
}

/// What the kernel keeps of a name.
fn kept(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(NAME)]
}

/// Whether a map is the programs' own: those that are pinned go by the names of their pins.
fn is_private(map: u32) -> bool {
    let info = sys::map_by_id(map).and_then(sys::map_info);
    info.is_ok_and(|info| map::ALL.iter().all(|pinned| kept(pinned) != info.name()))
}

/// Pins the programs of a build for the next start, and no others: all at once, by the name of their directory.
pub(super) fn keep(pins: &Pins, build: &Build, programs: &Programs) -> Result<(), BpfError> {
    forget_others(pins, None)?;
    let place = build.place(pins);
    let unfinished = unfinished(&place);
    for dir in [&pins.programs_dir(), &unfinished] {
        make_dir(dir).map_err(pin("make", dir))?;
    }
    for (name, program) in programs.iter() {
        let path = unfinished.join(name);
        sys::object_pin(program.fd(), &path).map_err(pin("pin the program at", &path))?;
    }
    fs::rename(&unfinished, &place).map_err(pin("put in force the programs pinned at", &place))
}

/// Removes the programs of other builds, and those that are not all there.
pub(super) fn forget_others(pins: &Pins, build: Option<&Build>) -> Result<(), BpfError> {
    let own = build.map(|build| build.place(pins));
    let all = entries(&pins.programs_dir())?;
    all.iter().filter(|place| own.as_ref() != Some(place)).try_for_each(|place| remove(place))
}

fn unfinished(place: &Path) -> PathBuf {
    PathBuf::from(format!("{}{NEW}", place.display()))
}

/// Removes the programs of a build; what runs of them goes on. Whoever is cut off here leaves none that look whole.
pub(super) fn remove(place: &Path) -> Result<(), BpfError> {
    let mut place = place.to_owned();
    if !place.to_string_lossy().ends_with(NEW) {
        let away = unfinished(&place);
        remove(&away)?;
        fs::rename(&place, &away)
            .map_err(pin("put out of force the programs pinned at", &place))?;
        place = away;
    }
    for path in entries(&place)? {
        unpin(&path)?;
    }
    match fs::remove_dir(&place) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(pin("remove", &place)(error)),
        _ => Ok(()),
    }
}
