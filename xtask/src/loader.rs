//! A loader that keeps what the verifier says about programs it accepts. aya's own drops it.
//!
//! Nothing is attached or pinned: programs and maps are gone when the measurement is over.

use std::{
    collections::HashMap,
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya_obj::{
    EbpfSectionKind, Function, Map, Object, Program, ProgramSection,
    btf::BtfFeatures,
    generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_info, bpf_prog_type},
};

/// `BPF_LOG_STATS`: the verifier's totals and not its every step.
const LOG_STATS: u32 = 4;

/// What the kernel says about a loaded program.
pub struct Measured {
    /// Its name in the object.
    pub name: String,
    /// Instructions that the verifier walked through, over all paths.
    pub verified: u32,
    /// Bytes of its instructions after the kernel's rewriting.
    pub xlated: u32,
    /// Bytes of its machine code; none where the JIT is off.
    pub jited: u32,
    /// Bytes of stack of the deepest chain of calls, as the kernel reckons it under the JIT.
    pub stack: u32,
    /// How long the kernel took to take it.
    pub load: Duration,
}

/// Loads every program of an object and measures it, in the order of their names.
pub fn measure(object: &[u8]) -> Result<Vec<Measured>> {
    let mut object = Object::parse(object).context("the object is not understood")?;
    // Everything that 6.1, the oldest supported kernel, has.
    let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let btf = match object.fixup_and_sanitize_btf(&features)? {
        Some(btf) => {
            Some(load_btf(&btf.to_bytes()).context("the kernel refuses the object's BTF")?)
        }
        None => None,
    };
    let maps = create_maps(&object)?;
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(
        maps.iter().map(|(name, (fd, map))| (name.as_str(), fd.as_raw_fd(), map)),
        &text,
    )?;
    object.relocate_calls(&text)?;
    let mut measured = Vec::new();
    for (name, program) in &object.programs {
        let function = object
            .functions
            .get(&program.function_key())
            .with_context(|| format!("program {name} has no code"))?;
        measured.push(load(name, program, function, btf.as_ref())?);
    }
    measured.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(measured)
}

/// Creates the object's maps as it describes them, those that hold others last.
fn create_maps(object: &Object) -> Result<HashMap<String, (OwnedFd, Map)>> {
    let mut created = HashMap::new();
    for (name, map) in &object.maps {
        let mut map = map.clone();
        let outer = map.map_type() == bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
        let inner = if outer {
            map.set_value_size(4);
            let inner = map.inner().with_context(|| format!("map {name} does not say of what"))?;
            Some(
                create_map(&inner, None)
                    .with_context(|| format!("cannot create {name}'s inner map"))?,
            )
        } else {
            None
        };
        let fd = create_map(&map, inner.as_ref())
            .with_context(|| format!("cannot create map {name}"))?;
        if !map.data().is_empty() {
            fill(&fd, map.data()).with_context(|| format!("cannot fill map {name}"))?;
        }
        if map.section_kind() == EbpfSectionKind::Rodata {
            bpf(
                bpf_cmd::BPF_MAP_FREEZE,
                &mut MapElement { map: raw(&fd), ..MapElement::default() },
            )
            .with_context(|| format!("cannot freeze map {name}"))?;
        }
        created.insert(name.clone(), (fd, map));
    }
    Ok(created)
}

fn create_map(map: &Map, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        inner: inner.map_or(0, raw),
    };
    bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

fn fill(map: &OwnedFd, data: &[u8]) -> io::Result<()> {
    let key = 0_u32;
    let mut attr = MapElement {
        map: raw(map),
        key: (&raw const key) as u64,
        value: data.as_ptr() as u64,
        ..MapElement::default()
    };
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = BtfLoad {
        btf: btf.as_ptr() as u64,
        size: u32::try_from(btf.len()).map_err(io::Error::other)?,
        ..BtfLoad::default()
    };
    bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

fn load(
    name: &str,
    program: &Program,
    function: &Function,
    btf: Option<&OwnedFd>,
) -> Result<Measured> {
    let (kind, attach) = kind(&program.section).with_context(|| format!("program {name}"))?;
    let functions = function.func_info.func_info_bytes();
    let lines = function.line_info.line_info_bytes();
    let mut log = vec![0_u8; 1 << 20];
    let mut attr = ProgramLoad {
        kind: kind as u32,
        instruction_count: u32::try_from(function.instructions.len())?,
        instructions: function.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        log_level: LOG_STATS,
        log_size: u32::try_from(log.len())?,
        log: log.as_mut_ptr() as u64,
        expected_attach_type: attach.map_or(0, |attach| attach as u32),
        ..ProgramLoad::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    if let Some(btf) = btf {
        attr.btf = raw(btf);
        attr.function_info_size = u32::try_from(function.func_info_rec_size)?;
        attr.function_info = functions.as_ptr() as u64;
        attr.function_info_count = u32::try_from(function.func_info.len())?;
        attr.line_info_size = u32::try_from(function.line_info_rec_size)?;
        attr.line_info = lines.as_ptr() as u64;
        attr.line_info_count = u32::try_from(function.line_info.len())?;
    }
    let since = Instant::now();
    let loaded = bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    let load = since.elapsed();
    let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
    let fd = loaded.map_err(|error| anyhow!("the verifier refuses {name}: {error}\n{log}"))?;
    let frames =
        stack(&log).with_context(|| format!("no stack depth in the log of {name}: {log}"))?;
    let info = info(&fd).with_context(|| format!("cannot read what the kernel knows of {name}"))?;
    Ok(Measured {
        name: name.to_owned(),
        verified: info.verified_insns,
        xlated: info.xlated_prog_len,
        jited: info.jited_prog_len,
        stack: deepest(&frames, &calls(&function.instructions, &starts(function))),
        load,
    })
}

/// The kernel's kind of a program, and where it will be attached if the verifier asks.
fn kind(section: &ProgramSection) -> Result<(bpf_prog_type, Option<bpf_attach_type>)> {
    Ok(match section {
        ProgramSection::SchedClassifier => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, None),
        ProgramSection::Xdp { attach_type, .. } => {
            (bpf_prog_type::BPF_PROG_TYPE_XDP, Some((*attach_type).into()))
        }
        ProgramSection::CgroupSock { attach_type } => {
            (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK, Some((*attach_type).into()))
        }
        ProgramSection::CgroupSockAddr { attach_type } => {
            (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, Some((*attach_type).into()))
        }
        ProgramSection::SkLookup => {
            (bpf_prog_type::BPF_PROG_TYPE_SK_LOOKUP, Some(bpf_attach_type::BPF_SK_LOOKUP))
        }
        other => bail!("is of a kind that xtask/src/loader.rs cannot load yet: {other:?}"),
    })
}

/// The numbers of `stack depth 128+64` in the verifier's totals.
fn stack(log: &str) -> Option<Vec<u32>> {
    let line = log.lines().find_map(|line| line.strip_prefix("stack depth "))?;
    // Newer kernels add a part per function that the program calls; some add a remark after a space.
    let numbers = line.split_whitespace().next()?;
    numbers.split('+').map(|number| number.parse().ok()).collect()
}

/// Where the program and each of its functions begin, in instructions.
fn starts(function: &Function) -> Vec<usize> {
    let mut starts: Vec<usize> = function
        .func_info
        .func_info
        .iter()
        .map(|entry| usize::try_from(entry.insn_off).unwrap_or_default())
        .collect();
    starts.sort_unstable();
    starts
}

/// Who calls whom, by position in the order of functions; handing a callback over counts as a call.
fn calls(code: &[bpf_insn], starts: &[usize]) -> Vec<(usize, usize)> {
    /// `BPF_JMP | BPF_CALL` to a function of the program, and the load of a function's address.
    const CALL: (u8, u8) = (0x85, 1);
    const ADDRESS: (u8, u8) = (0x18, 4);
    let holder = |at: usize| starts.iter().rposition(|start| *start <= at).unwrap_or_default();
    let mut found = Vec::new();
    for (at, instruction) in code.iter().enumerate() {
        let kind = (instruction.code, instruction.src_reg());
        if kind == CALL || kind == ADDRESS {
            let offset = isize::try_from(instruction.imm).unwrap_or_default();
            if let Some(target) = (at + 1).checked_add_signed(offset) {
                found.push((holder(at), holder(target)));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The largest sum of frames over any chain of calls from the program on. There is no recursion in
/// what the verifier has passed.
fn deepest(frames: &[u32], calls: &[(usize, usize)]) -> u32 {
    fn from(at: usize, frames: &[u32], calls: &[(usize, usize)]) -> u32 {
        let own = frames.get(at).copied().unwrap_or_default().max(1).next_multiple_of(16);
        let below = calls.iter().filter(|(caller, callee)| *caller == at && *callee != at);
        own + below.map(|(_, callee)| from(*callee, frames, calls)).max().unwrap_or_default()
    }
    from(0, frames, calls)
}

fn info(program: &OwnedFd) -> io::Result<bpf_prog_info> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = ObjectInfo {
        fd: raw(program),
        size: u32::try_from(size_of_val(&info)).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// The number of a descriptor, as attributes want it.
pub fn raw(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or_default()
}

/// The command's part of `union bpf_attr`; what is left out at its end is zero.
pub trait Attr {}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    _pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    btf: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    _pad: u32,
}

#[repr(C)]
struct ObjectInfo {
    fd: u32,
    size: u32,
    info: u64,
}

impl Attr for MapCreate {}
impl Attr for MapElement {}
impl Attr for BtfLoad {}
impl Attr for ProgramLoad {}
impl Attr for ObjectInfo {}

/// Runs a command of bpf(2).
pub fn bpf<A: Attr>(command: bpf_cmd, attr: &mut A) -> io::Result<i32> {
    // SAFETY: every `Attr` has the layout of its command's part of `union bpf_attr`, its size is
    // passed with it, and the memory that it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// Runs a command that returns a new descriptor.
pub fn bpf_fd<A: Attr>(command: bpf_cmd, attr: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the commands that come this way return a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_depth_is_read_from_the_totals() {
        let log =
            "verification time 12 usec\nstack depth 128+64\nprocessed 9 insns (limit 1000000)\n";
        assert_eq!(stack(log), Some(vec![128, 64]));
        assert_eq!(stack("processed 9 insns\n"), None);
    }

    #[test]
    fn the_deepest_chain_counts_and_not_the_sum() {
        let frames = [48, 100, 200, 8];
        assert_eq!(deepest(&frames, &[(0, 1), (0, 2), (1, 3)]), 48 + 208);
        assert_eq!(deepest(&frames, &[(0, 1), (1, 2), (0, 3)]), 48 + 112 + 208);
        assert_eq!(deepest(&[0], &[]), 16);
    }
}
