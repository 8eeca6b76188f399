//! Programs of others on the same interfaces: they count what they see and let it pass on.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::OnceLock,
};

use crate::Netns;

// linux/bpf.h
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_CREATE: i32 = 28;
const ENABLE_STATS: i32 = 32;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
const XDP_HOOK: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
const F_BEFORE: u32 = 1 << 3;
const F_AFTER: u32 = 1 << 4;
/// `r0 = -1; exit`: TCX_NEXT.
const PASS_ON: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
/// `r0 = 2; exit`: XDP_PASS.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// Where in the chain of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before everything that is there.
    First,
    /// After everything that is there.
    Last,
}

/// Which packets of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those that come in by it.
    Ingress,
    /// Those that go out of it.
    Egress,
}

/// A program of somebody else's, attached by TCX or to XDP for as long as this lives, or by `tc`.
#[derive(Debug)]
pub struct Foreign {
    program: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Foreign {
    /// Loads one and attaches it.
    #[track_caller]
    pub fn attach(ns: &Netns, interface: &str, side: Side, place: Place) -> Self {
        Self::attach_program(&PASS_ON, ns, interface, side, place)
    }

    /// Loads one that marks what arrives, and attaches it before everything that is there.
    #[track_caller]
    pub fn marking(ns: &Netns, interface: &str, mark: u32) -> Self {
        // r2 = mark; *(u32 *)(r1 + offsetof(__sk_buff, mark)) = r2
        let [next, exit] = PASS_ON;
        let program = [u64::from(mark) << 32 | 0x02b7, 0x0008_2163, next, exit];
        Self::attach_program(&program, ns, interface, Side::Ingress, Place::First)
    }

    /// Loads one that leaves a number in `tc_index` of what a container sends, and attaches it there.
    #[track_caller]
    pub fn indexing(container: &Netns, number: u32) -> Self {
        // r2 = number; *(u32 *)(r1 + offsetof(__sk_buff, tc_index)) = r2
        let [next, exit] = PASS_ON;
        let program = [u64::from(number) << 32 | 0x02b7, 0x002c_2163, next, exit];
        Self::attach_program(&program, container, "eth0", Side::Egress, Place::Last)
    }

    #[track_caller]
    fn attach_program(
        program: &[u64],
        ns: &Netns,
        interface: &str,
        side: Side,
        place: Place,
    ) -> Self {
        count_runs();
        let ifindex =
            ns.ifindex(interface).unwrap_or_else(|| panic!("no {interface} in {}", ns.name()));
        let program = load(SCHED_CLS, program).expect("load a program of few instructions");
        let attach_type = if side == Side::Ingress { TCX_INGRESS } else { TCX_EGRESS };
        let flags = if place == Place::First { F_BEFORE } else { F_AFTER };
        let link = ns.run(|| link(&program, ifindex, attach_type, flags));
        let link = link.unwrap_or_else(|e| panic!("attach to {interface} of {}: {e}", ns.name()));
        Self { program, _link: Some(link) }
    }

    /// Loads one and attaches it to XDP, in the kernel's generic hook.
    #[track_caller]
    pub fn xdp(ns: &Netns, interface: &str) -> Self {
        count_runs();
        let ifindex =
            ns.ifindex(interface).unwrap_or_else(|| panic!("no {interface} in {}", ns.name()));
        let program = load(XDP, &PASS).expect("load a program of two instructions");
        let link = ns.run(|| link(&program, ifindex, XDP_HOOK, GENERIC));
        let link = link.unwrap_or_else(|e| panic!("attach to {interface} of {}: {e}", ns.name()));
        Self { program, _link: Some(link) }
    }

    /// Loads one and pins it, for `tc` to attach it.
    #[track_caller]
    pub fn pinned(path: &Path) -> Self {
        count_runs();
        let program = load(SCHED_CLS, &PASS_ON).expect("load a program of two instructions");
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let fd = program.as_raw_fd().cast_unsigned();
        let attr = [name.as_ptr().expose_provenance() as u64, u64::from(fd)];
        // SAFETY: the attribute names a live string that ends with a zero byte.
        unsafe { bpf(OBJ_PIN, &attr) }.expect("pin a program");
        Self { program, _link: None }
    }

    /// How often it ran.
    pub fn runs(&self) -> u64 {
        // bpf_prog_info is longer; the kernel fills as much as it is given. run_cnt is at byte 200.
        let mut info = [0_u64; 26];
        #[repr(C)]
        struct Attr {
            fd: u32,
            length: u32,
            info: u64,
        }
        let length = u32::try_from(mem::size_of_val(&info)).expect("a length");
        let fd = self.program.as_raw_fd().cast_unsigned();
        let attr = Attr { fd, length, info: info.as_mut_ptr().expose_provenance() as u64 };
        // SAFETY: the attribute names a live buffer of the length that it says.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &attr) }.expect("describe a program");
        info[25]
    }
}

/// Has the kernel count the runs of all programs for as long as this process lives.
fn count_runs() {
    static STATS: OnceLock<OwnedFd> = OnceLock::new();
    STATS.get_or_init(|| {
        let run_time = 0_u32;
        // SAFETY: the attribute is an integer; the result is checked.
        let raw = unsafe { bpf(ENABLE_STATS, &run_time) }.expect("BPF_ENABLE_STATS");
        // SAFETY: the descriptor is new and nobody else's.
        unsafe { OwnedFd::from_raw_fd(raw) }
    });
}

fn load(kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
    }
    let attr = Attr {
        kind,
        count: u32::try_from(instructions.len()).expect("few instructions"),
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        log: [0; 2],
        log_buffer: 0,
    };
    // SAFETY: the addresses are those of live arrays of the length given.
    let raw = unsafe { bpf(PROG_LOAD, &attr) }?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn link(program: &OwnedFd, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    // program, interface, attach type, flags, relative to nobody.
    let attr = [program.as_raw_fd().cast_unsigned(), ifindex, attach_type, flags, 0, 0, 0, 0];
    // SAFETY: the attribute holds integers alone.
    let raw = unsafe { bpf(LINK_CREATE, &attr) }?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// # Safety
/// Addresses in the attribute have to be valid for what the command does with them.
unsafe fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
    // SAFETY: the attribute is a live object of the size given; the caller answers for the rest.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), mem::size_of::<T>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("a descriptor"))
}
