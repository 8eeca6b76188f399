//! Loads the object over the maps that are already pinned. Nothing that forwards is touched: programs are
//! attached by `attach`, after the tables have been filled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    programs::{Program as AyaProgram, ProgramError},
};
use bascule_common::abi::names::{map, program};
use serde::Serialize;

use super::{
    BpfError,
    bpffs::{Pins, entries, unpin},
    error::pin,
    kept::{self, Build},
    layout::{self, Geometry},
    object::OBJECT,
    sizes::{Host, Memory, Sizes},
    sys::{self, Kind},
    tables::Tables,
};

/// Suffix of maps that are not in force yet. (A bpffs refuses names with dots.)
pub(super) const NEW: &str = "-new";
/// How much of the verifier's log is worth reading: its end.
const LOG_LINES: usize = 40;

/// A program in the kernel.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    /// Identifier, unique in the kernel.
    pub id: u32,
    /// Instructions that the verifier walked, where the kernel tells.
    pub verified_instructions: Option<u32>,
}

/// The loaded programs, by name.
#[derive(Debug, Default)]
pub struct Programs {
    programs: BTreeMap<String, Program>,
}

impl Programs {
    pub(super) const fn new(programs: BTreeMap<String, Program>) -> Self {
        Self { programs }
    }

    /// The program of this name.
    pub fn get(&self, name: &str) -> Result<&Program, BpfError> {
        self.programs.get(name).ok_or_else(|| BpfError::NoProgram(name.into()))
    }

    /// Whether the object has a program of this name.
    pub fn has(&self, name: &str) -> bool {
        self.programs.contains_key(name)
    }

    /// Every program with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.programs.iter().map(|(name, program)| (name.as_str(), program))
    }
}

impl Program {
    pub(super) const fn new(fd: OwnedFd, id: u32, verified_instructions: Option<u32>) -> Self {
        Self { fd, id, verified_instructions }
    }

    /// The program's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What became of a map at load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum Fate {
    /// It was not there, and was made.
    Created,
    /// It was there, and its contents stay.
    Kept,
    /// It was there in another size than this host's; contents and size stay.
    KeptWithSize {
        /// Entries that it has.
        entries: u32,
        /// Entries that it would have been made with.
        wanted: u32,
    },
    /// It was there in a layout that this version cannot use, and was made anew; its contents are lost.
    Replaced {
        /// What was there.
        found: String,
        /// What is there now.
        wanted: String,
    },
}

/// What loading did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What became of each map.
    pub maps: BTreeMap<&'static str, Fate>,
    /// What the maps take.
    pub memory: Memory,
    /// Instructions that the verifier walked, by program.
    pub verified_instructions: BTreeMap<String, Option<u32>>,
}

/// The data plane, loaded and not attached.
#[derive(Debug)]
pub struct Loaded {
    /// The programs.
    pub programs: Programs,
    /// The maps.
    pub tables: Tables,
    /// What was done.
    pub report: Report,
}

/// Loads every program over the pinned maps, making those that are missing. Programs that this build has loaded before over
/// the same maps are taken as they are.
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded, BpfError> {
    load_object(OBJECT, pins, sizes)
}

/// Loads another object than the embedded one, for tests.
pub fn load_object(object: &[u8], pins: &Pins, sizes: &Sizes) -> Result<Loaded, BpfError> {
    forget_unfinished(pins)?;
    let of_object = layout::of_object(object)?;
    let mut wanted = layout::expected();
    wanted.extend(of_object.iter().map(|(name, geometry)| (*name, *geometry)));
    for (name, geometry) in &mut wanted {
        geometry.max_entries = sizes.of(name).unwrap_or(geometry.max_entries);
    }
    let (mut fates, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for (name, geometry) in &mut wanted {
        let (fate, id) = fate(pins, name, geometry, sizes)?;
        ids.extend(id.filter(|_| !is_new(&fate)));
        if let Fate::KeptWithSize { entries, .. } = fate {
            geometry.max_entries = entries;
        }
        fates.insert(*name, fate);
    }
    let build = Build::of(object);
    let programs = if let Some(programs) = kept::open(pins, &build, &ids) {
        kept::forget_others(pins, Some(&build))?;
        programs
    } else {
        let outcome = make(object, pins, &of_object, &wanted, &fates).and_then(|programs| {
            commit(pins, &fates)?;
            if let Err(error) = kept::keep(pins, &build, &programs) {
                tracing::warn!(%error, "the programs run, but the next start has to load them anew");
            }
            Ok(programs)
        });
        outcome.or_else(|error| forget_unfinished(pins).and(Err(error)))?
    };
    let report = Report {
        maps: fates,
        memory: Memory::of(&wanted, Host::read()),
        verified_instructions: programs
            .iter()
            .map(|(name, program)| (name.to_owned(), program.verified_instructions))
            .collect(),
    };
    Ok(Loaded { programs, tables: Tables::open(pins)?, report })
}

/// Compares a pin with what would be made, and tells which map is there. aya takes any pinned map as it is: this is the only
/// check.
fn fate(
    pins: &Pins,
    name: &str,
    wanted: &Geometry,
    sizes: &Sizes,
) -> Result<(Fate, Option<u32>), BpfError> {
    let path = pins.map(name);
    let fd = match sys::object_get(&path, Kind::Map) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Fate::Created, None)),
        Err(error) => return Err(pin("open the map pinned at", &path)(error)),
    };
    let info = sys::map_info(&fd).map_err(pin("describe the map pinned at", &path))?;
    let found = Geometry::from(info);
    let fate = if found == *wanted {
        Fate::Kept
    } else if found.same_layout(wanted) && sizes.of(name).is_some() {
        Fate::KeptWithSize { entries: found.max_entries, wanted: wanted.max_entries }
    } else {
        Fate::Replaced { found: found.to_string(), wanted: wanted.to_string() }
    };
    Ok((fate, Some(info.id)))
}

fn is_new(fate: &Fate) -> bool {
    matches!(fate, Fate::Created | Fate::Replaced { .. })
}

fn provisional(pins: &Pins, name: &str) -> PathBuf {
    pins.map(&format!("{name}{NEW}"))
}

/// Makes the maps under provisional names, and loads all programs.
fn make(
    object: &[u8],
    pins: &Pins,
    of_object: &BTreeMap<&'static str, Geometry>,
    wanted: &BTreeMap<&'static str, Geometry>,
    fates: &BTreeMap<&'static str, Fate>,
) -> Result<Programs, BpfError> {
    let mut loader = EbpfLoader::new();
    for (name, fate) in fates {
        let path = if is_new(fate) { provisional(pins, name) } else { pins.map(name) };
        // aya would make PORTS for tables that are described by BTF. Ours are not, and before 6.2 the
        // kernel then refuses them (their `timer_off` differs). Nor does a map of sockets take any.
        let by_aya = of_object.contains_key(name) && ![map::PORTS, map::PROXIES].contains(name);
        if is_new(fate) && !by_aya {
            make_map(name, &wanted[name], &path)?;
        }
        if of_object.contains_key(name) {
            loader.map_pin_path(name, path).map_max_entries(name, wanted[name].max_entries);
        }
    }
    let mut ebpf = loader.load(object).map_err(loading)?;
    load_programs(&mut ebpf)
}

/// Makes a map that aya does not: no program refers to it, and the agent wants to find all of them, or
/// it has to be made in another way.
fn make_map(name: &str, geometry: &Geometry, path: &Path) -> Result<(), BpfError> {
    let create = |geometry: &Geometry, inner: Option<BorrowedFd<'_>>, name: &str| {
        let Geometry { kind, key_size, value_size, max_entries, flags } = *geometry;
        sys::map_create(kind, key_size, value_size, max_entries, flags, inner, name)
            .map_err(pin("create the map for", path))
    };
    let template =
        if name == map::PORTS { Some(create(&layout::PORT_TABLE, None, name)?) } else { None };
    let fd = create(geometry, template.as_ref().map(|fd| fd.as_fd()), name)?;
    sys::object_pin(&fd, path).map_err(pin("pin the map at", path))
}

/// Loads every program; each on a thread of its own, because the verifier takes its time.
fn load_programs(ebpf: &mut Ebpf) -> Result<Programs, BpfError> {
    let programs = thread::scope(|scope| {
        let threads: Vec<_> = ebpf
            .programs_mut()
            .map(|(name, program)| scope.spawn(move || load_program(name, program)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.filter_map(Result::transpose).collect::<Result<_, _>>()
    })?;
    Ok(Programs::new(programs))
}

fn load_program(
    name: &str,
    program: &mut AyaProgram,
) -> Result<Option<(String, Program)>, BpfError> {
    match program {
        AyaProgram::SchedClassifier(program) => program.load(),
        AyaProgram::CgroupSockAddr(program) => program.load(),
        AyaProgram::SkLookup(program) => program.load(),
        AyaProgram::Xdp(program) => program.load(),
        _ => {
            tracing::warn!(program = name, "the object has a program of a type not known here");
            return Ok(None);
        }
    }
    .map_err(|error| refused(name, error))?;
    let object = |error: ProgramError| BpfError::Object(error.to_string());
    let info = program.info().map_err(object)?;
    let fd = program.fd().map_err(object)?.as_fd().try_clone_to_owned();
    let fd = fd.map_err(|error| BpfError::Object(error.to_string()))?;
    let loaded = Program::new(fd, info.id(), info.verified_instruction_count());
    Ok(Some((name.to_owned(), loaded)))
}

/// Puts the new maps in force, one rename each.
fn commit(pins: &Pins, fates: &BTreeMap<&'static str, Fate>) -> Result<(), BpfError> {
    for name in fates.iter().filter(|(_, fate)| is_new(fate)).map(|(name, _)| name) {
        let from = provisional(pins, name);
        fs::rename(&from, pins.map(name)).map_err(pin("put in force the map pinned at", &from))?;
    }
    Ok(())
}

/// Removes what a load left that did not come to its end.
fn forget_unfinished(pins: &Pins) -> Result<(), BpfError> {
    for path in entries(&pins.maps_dir())? {
        if path.to_string_lossy().ends_with(NEW) {
            unpin(&path)?;
        }
    }
    Ok(())
}

const HINT: &str = "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN";

fn loading(error: EbpfError) -> BpfError {
    match io_of(&error).map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => BpfError::Unavailable {
            what: "creating a map",
            source: io::ErrorKind::PermissionDenied.into(),
            hint: HINT,
        },
        _ => BpfError::Object(chain(&error)),
    }
}

fn refused(name: &str, error: ProgramError) -> BpfError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            BpfError::Verifier {
                name: name.into(),
                source: io_error,
                log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"),
            }
        }
        other => BpfError::Object(format!("program {name}: {}", chain(&other))),
    }
}

fn io_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        current = error.source();
    }
    None
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What a collection found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Entries seen.
    pub seen: u64,
    /// Entries removed.
    pub removed: u64,
}

impl Loaded {
    /// Removes idle connections, in the kernel.
    pub fn collect(&self) -> Result<Collected, BpfError> {
        collect(&self.programs, &self.tables)
    }
}

/// Removes idle connections of both families, in the kernel.
pub fn collect(programs: &Programs, tables: &Tables) -> Result<Collected, BpfError> {
    let run = |name: &'static str| -> Result<Collected, BpfError> {
        sys::program_test_run(programs.get(name)?.fd(), &[0; 64])
            .map_err(|source| BpfError::Run { program: name, source })?;
        let [seen, removed] = tables.collected()?;
        Ok(Collected { seen, removed })
    };
    // Both leave their numbers in the same slot.
    let mut all = Collected::default();
    if programs.get(program::COLLECT_FLOWS6).is_ok() {
        all = run(program::COLLECT_FLOWS6)?;
    }
    let found = run(program::COLLECT_FLOWS4)?;
    Ok(Collected { seen: all.seen + found.seen, removed: all.removed + found.removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_the_end_of_the_verifiers_log() {
        let log: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let error = ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new(log),
        };
        let text = refused("from_uplink", error).to_string();
        assert!(text.contains("refused the program from_uplink"), "{text}");
        assert!(text.ends_with("line 98\nline 99") && text.contains("line 60"), "{text}");
        assert!(!text.contains("line 59"), "{text}");
    }

    #[test]
    fn missing_rights_are_said_to_be_missing() {
        let error = EbpfError::FileError {
            path: "x".into(),
            error: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(loading(error).to_string().contains("CAP_BPF"));
    }
}
