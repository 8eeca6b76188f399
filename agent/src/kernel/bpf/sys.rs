//! The few commands of bpf(2) that aya has no word for, or hides the descriptor of: links by interface
//! index, batches, objects by path. Nothing here knows what a map or program means.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_link_type};

/// `BPF_F_BEFORE` without a neighbour named: first in the chain of a hook.
const FIRST: u32 = 1 << 3;

/// What the kernel answers where a map has no batches; libc does not know it.
const ENOTSUPP: i32 = 524;

/// Which kind of object a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link: a program's attachment.
    Link,
}

/// What the kernel says about a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// Number of its type (`enum bpf_map_type`).
    pub kind: u32,
    /// Identifier, unique in the kernel.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries it holds.
    pub max_entries: u32,
    /// `BPF_F_...`.
    pub flags: u32,
    name: [u8; 16],
}

impl MapInfo {
    /// The map's name, as far as the kernel keeps it (15 characters).
    pub fn name(&self) -> &[u8] {
        until_zero(&self.name)
    }
}

fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What the kernel says about a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    /// Number of its type (`enum bpf_prog_type`).
    pub kind: u32,
    /// Identifier, unique in the kernel.
    pub id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    uid: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

impl ProgramInfo {
    /// The program's name, as far as the kernel keeps it (15 characters).
    pub fn name(&self) -> String {
        String::from_utf8_lossy(until_zero(&self.name)).into_owned()
    }
}

/// Where a link attaches its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// A TCX hook; interface index 0 says that the interface is gone.
    Tcx {
        /// Interface index, in the interface's own namespace.
        ifindex: u32,
        /// `enum bpf_attach_type`.
        attach_type: u32,
    },
    /// XDP; interface index 0 says that the interface is gone.
    Xdp {
        /// Interface index, in the interface's own namespace.
        ifindex: u32,
    },
    /// A cgroup hook; cgroup 0 says that the cgroup is gone.
    Cgroup {
        /// Inode number of the cgroup's directory.
        cgroup: u64,
        /// `enum bpf_attach_type`.
        attach_type: u32,
    },
    /// Another kind of link.
    Other,
}

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Identifier, unique in the kernel.
    pub id: u32,
    /// Identifier of the program it runs.
    pub program: u32,
    /// Where it runs it.
    pub target: LinkTarget,
}

/// Runs one command; `attr` is its part of `union bpf_attr`.
///
/// # Safety
/// Addresses inside `attr` have to be valid for what the command reads and writes there.
unsafe fn bpf<T>(command: bpf_cmd, attr: &mut T) -> io::Result<i64> {
    // SAFETY: attr is a live, exclusively borrowed object of the size given; the caller answers for
    // the addresses in it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`bpf`], for commands that answer with a descriptor.
///
/// # Safety
/// As for [`bpf`].
unsafe fn bpf_fd<T>(command: bpf_cmd, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller keeps bpf()'s promise; the answer is a new descriptor that nobody else owns.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

fn raw(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens the object pinned at a path, and makes sure of its kind.
pub fn object_get(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let mut attr = ObjectAttr { path: name.as_ptr() as u64, ..Default::default() };
    // SAFETY: the path is a live C string.
    let fd = unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr) }?;
    if kind_of(&fd)? == Some(kind) {
        Ok(fd)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "another kind of object is pinned there"))
    }
}

/// What a descriptor stands for: the info commands answer by the descriptor's own kind, unasked.
fn kind_of(fd: &OwnedFd) -> io::Result<Option<Kind>> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(match target.as_os_str().as_bytes() {
        b"anon_inode:bpf-map" => Some(Kind::Map),
        b"anon_inode:bpf-prog" => Some(Kind::Program),
        b"anon_inode:bpf_link" | b"anon_inode:bpf-link" => Some(Kind::Link),
        _ => None,
    })
}

/// Pins an object at a path of a bpffs.
pub fn object_pin(fd: impl AsFd, path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    let mut attr = ObjectAttr { path: name.as_ptr() as u64, fd: raw(fd), flags: 0 };
    // SAFETY: the path is a live C string.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// # Safety
/// `T` has to be valid for any bytes, and a prefix of what the kernel writes for this descriptor.
unsafe fn info<T>(fd: BorrowedFd<'_>, into: &mut T) -> io::Result<()> {
    let mut attr =
        InfoAttr { fd: raw(fd), len: size_of::<T>() as u32, info: std::ptr::from_mut(into) as u64 };
    // SAFETY: the kernel writes at most `len` bytes to `into`.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// Describes a map.
pub fn map_info(fd: impl AsFd) -> io::Result<MapInfo> {
    let mut answer = MapInfo::default();
    // SAFETY: MapInfo is integers, and the first fields of struct bpf_map_info.
    unsafe { info(fd.as_fd(), &mut answer) }?;
    Ok(answer)
}

/// Describes a program.
pub fn program_info(fd: impl AsFd) -> io::Result<ProgramInfo> {
    let mut answer = ProgramInfo::default();
    // SAFETY: ProgramInfo is integers, and the first fields of struct bpf_prog_info; zero lengths ask
    // for no copies.
    unsafe { info(fd.as_fd(), &mut answer) }?;
    Ok(answer)
}

/// Describes a link.
pub fn link_info(fd: impl AsFd) -> io::Result<LinkInfo> {
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Raw {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        rest: [u32; 12],
    }
    let mut answer = Raw::default();
    // SAFETY: Raw is integers, and has the layout of struct bpf_link_info up to its union.
    unsafe { info(fd.as_fd(), &mut answer) }?;
    let target = if answer.kind == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        LinkTarget::Tcx { ifindex: answer.rest[0], attach_type: answer.rest[1] }
    } else if answer.kind == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        LinkTarget::Xdp { ifindex: answer.rest[0] }
    } else if answer.kind == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&answer.rest[0].to_ne_bytes());
        bytes[4..].copy_from_slice(&answer.rest[1].to_ne_bytes());
        LinkTarget::Cgroup { cgroup: u64::from_ne_bytes(bytes), attach_type: answer.rest[2] }
    } else {
        LinkTarget::Other
    };
    Ok(LinkInfo { id: answer.id, program: answer.program, target })
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next: u32,
    flags: u32,
}

/// Opens a map by its identifier.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut IdAttr { id, ..Default::default() }) }
}

/// Opens a program by its identifier.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut IdAttr { id, ..Default::default() }) }
}

/// Creates a map without BTF.
pub fn map_create(
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: Option<BorrowedFd<'_>>,
    name: &str,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        inner: u32,
        node: u32,
        name: [u8; 16],
    }
    let mut attr = Attr {
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
        inner: inner.map_or(0, raw),
        node: 0,
        name: [0; 16],
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr) }
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

/// Attaches a program to a TCX hook of an interface of this thread's namespace, first in its chain.
pub fn link_create_tcx(
    program: impl AsFd,
    ifindex: u32,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: raw(program),
        target: ifindex,
        attach_type: attach_type as u32,
        flags: FIRST,
        ..Default::default()
    };
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Attaches a program to XDP of an interface of this thread's namespace, where nobody else's is;
/// `flags` choose between driver and kernel.
pub fn link_create_xdp(program: impl AsFd, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: raw(program),
        target: ifindex,
        attach_type: bpf_attach_type::BPF_XDP as u32,
        flags,
        ..Default::default()
    };
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Attaches a program to a hook of a cgroup or of a network namespace, after those that are there.
pub fn link_create(
    program: impl AsFd,
    target: impl AsFd,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: raw(program),
        target: raw(target),
        attach_type: attach_type as u32,
        ..Default::default()
    };
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Puts another program on a live link, atomically.
pub fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = [raw(link), raw(program), 0, 0];
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link now; dropping its last descriptor or pin would do so some time later.
pub fn link_detach(link: impl AsFd) -> io::Result<()> {
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut [raw(link)]) }.map(drop)
}

/// Asks for the programs on a TCX hook; kernels before 6.6 answer EINVAL.
pub fn tcx_query(ifindex: u32) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        pad: u32,
    }
    let attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    // SAFETY: a count of zero asks for no copies.
    unsafe {
        bpf(
            bpf_cmd::BPF_PROG_QUERY,
            &mut Attr { target: ifindex, attach_type, ..Default::default() },
        )
    }
    .map(drop)
}

/// Runs a program on a made-up packet; returns its verdict.
pub fn program_test_run(program: impl AsFd, data: &[u8]) -> io::Result<u32> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        program: u32,
        verdict: u32,
        in_size: u32,
        out_size: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }
    let mut attr = Attr {
        program: raw(program),
        in_size: data.len() as u32,
        data_in: data.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the kernel reads `data` for its length, and is given no place to write to.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.verdict)
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads the value of a key into `value`, whose length is what the kernel will write; false if there
/// is none.
///
/// # Safety
/// `key` and `value` have to be as long as the map's keys and values (per-CPU: times the CPUs).
pub unsafe fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = ElementAttr {
        map: raw(map),
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the caller has matched the lengths with the map's.
    match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the value of a key.
///
/// # Safety
/// As for [`map_lookup`].
pub unsafe fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: raw(map),
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the caller has matched the lengths with the map's.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Removes a key; false if it was not there.
///
/// # Safety
/// `key` has to be as long as the map's keys.
pub unsafe fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attr = ElementAttr { map: raw(map), key: key.as_ptr() as u64, ..Default::default() };
    // SAFETY: the caller has matched the length with the map's.
    match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// What a batch came to: how many entries, and the error that ended it early.
pub struct Batch {
    /// Entries read, written or removed.
    pub count: usize,
    /// `None` if all were.
    pub error: Option<io::Error>,
}

fn batch(command: bpf_cmd, mut attr: BatchAttr) -> Batch {
    // SAFETY: the three callers below answer for the addresses; their own callers for the lengths.
    let error = unsafe { bpf(command, &mut attr) }.err();
    // Errors from before the first entry (EFAULT, EPERM, EINVAL) leave the count as it was asked for.
    let untouched = error.as_ref().is_some_and(|error| {
        matches!(
            error.raw_os_error(),
            Some(libc::EFAULT | libc::EPERM | libc::EINVAL | ENOTSUPP | libc::EBADF)
        )
    });
    Batch { count: if untouched { 0 } else { attr.count as usize }, error }
}

/// Reads many entries, from the cursor on; the cursor moves. ENOENT says that these were the last.
///
/// # Safety
/// `keys` and `values` have to have room for `count` entries of the map, the cursor for a key.
pub unsafe fn map_lookup_batch(
    map: BorrowedFd<'_>,
    cursor: &mut Option<Vec<u8>>,
    key_size: usize,
    keys: &mut [u8],
    values: &mut [u8],
    count: usize,
) -> Batch {
    let from = cursor.take();
    // Hashes keep a bucket number there, arrays and tries a key.
    let mut next = vec![0; key_size.max(4)];
    let outcome = batch(
        bpf_cmd::BPF_MAP_LOOKUP_BATCH,
        BatchAttr {
            from: from.as_ref().map_or(0, |bytes| bytes.as_ptr() as u64),
            next: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: count as u32,
            map: raw(map),
            ..Default::default()
        },
    );
    *cursor = Some(next);
    outcome
}

/// Writes many entries.
///
/// # Safety
/// `keys` and `values` have to hold `count` entries of the map.
pub unsafe fn map_update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: usize,
) -> Batch {
    batch(
        bpf_cmd::BPF_MAP_UPDATE_BATCH,
        BatchAttr {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: count as u32,
            map: raw(map),
            ..Default::default()
        },
    )
}

/// Removes many keys; ENOENT says that the one after the counted ones was not there.
///
/// # Safety
/// `keys` has to hold `count` keys of the map.
pub unsafe fn map_delete_batch(map: BorrowedFd<'_>, keys: &[u8], count: usize) -> Batch {
    batch(
        bpf_cmd::BPF_MAP_DELETE_BATCH,
        BatchAttr {
            keys: keys.as_ptr() as u64,
            count: count as u32,
            map: raw(map),
            ..Default::default()
        },
    )
}
