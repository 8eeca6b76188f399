//! What the kernel can do, probed and never guessed from its version. Printed at start and in `status`.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use serde::Serialize;

use super::{BpfError, attach::Mode, sys};

/// What the kernel can do for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// `uname -r`.
    pub kernel: String,
    /// Pinned links on interfaces (Linux 6.6).
    pub tcx: bool,
    /// Programs are compiled to machine code.
    pub jit: bool,
    /// The kernel describes its types in `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// Helpers that the programs on interfaces call, and whether they are there.
    pub helpers: BTreeMap<&'static str, bool>,
    /// Helpers that the programs on cgroups call; without them published ports are reserved by sockets.
    pub cgroup_helpers: BTreeMap<&'static str, bool>,
    /// Types of maps.
    pub maps: BTreeMap<&'static str, bool>,
}

const HELPERS: [(&str, BpfHelper); 14] = [
    ("redirect", BpfHelper::BPF_FUNC_redirect),
    ("redirect_peer", BpfHelper::BPF_FUNC_redirect_peer),
    ("redirect_neigh", BpfHelper::BPF_FUNC_redirect_neigh),
    ("fib_lookup", BpfHelper::BPF_FUNC_fib_lookup),
    ("l3_csum_replace", BpfHelper::BPF_FUNC_l3_csum_replace),
    ("l4_csum_replace", BpfHelper::BPF_FUNC_l4_csum_replace),
    ("csum_diff", BpfHelper::BPF_FUNC_csum_diff),
    ("skb_load_bytes", BpfHelper::BPF_FUNC_skb_load_bytes),
    ("skb_store_bytes", BpfHelper::BPF_FUNC_skb_store_bytes),
    ("skb_change_type", BpfHelper::BPF_FUNC_skb_change_type),
    ("skb_adjust_room", BpfHelper::BPF_FUNC_skb_adjust_room),
    ("ktime_get_coarse_ns", BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
    ("ringbuf_reserve", BpfHelper::BPF_FUNC_ringbuf_reserve),
    ("for_each_map_elem", BpfHelper::BPF_FUNC_for_each_map_elem),
];

const CGROUP_HELPERS: [(&str, BpfHelper); 2] = [
    ("get_netns_cookie", BpfHelper::BPF_FUNC_get_netns_cookie),
    ("set_retval", BpfHelper::BPF_FUNC_set_retval),
];

const MAPS: [(&str, MapType); 8] = [
    ("array", MapType::Array),
    ("hash", MapType::Hash),
    ("lru_hash", MapType::LruHash),
    ("lpm_trie", MapType::LpmTrie),
    ("percpu_array", MapType::PerCpuArray),
    ("percpu_hash", MapType::PerCpuHash),
    ("array_of_maps", MapType::ArrayOfMaps),
    ("ringbuf", MapType::RingBuf),
];

impl Features {
    /// Asks the kernel. Fails only where there is no BPF for this process at all.
    pub fn probe() -> Result<Self, BpfError> {
        available()?;
        let helper = |kind, helper| is_helper_supported(kind, helper).unwrap_or(false);
        Ok(Self {
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            tcx: tcx(),
            jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
                // Where it is absent, the kernel was built with the JIT always on.
                .map_or(true, |text| text.trim() != "0"),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            helpers: HELPERS
                .map(|(name, id)| (name, helper(ProgramType::SchedClassifier, id)))
                .into(),
            cgroup_helpers: CGROUP_HELPERS
                .map(|(name, id)| (name, helper(ProgramType::CgroupSockAddr, id)))
                .into(),
            maps: MAPS.map(|(name, kind)| (name, is_map_supported(kind).unwrap_or(false))).into(),
        })
    }

    /// Refuses a kernel that lacks what nothing replaces.
    pub fn check(&self) -> Result<(), BpfError> {
        let missing: Vec<_> = self
            .helpers
            .iter()
            .map(|(name, there)| (format!("the helper bpf_{name}"), there))
            .chain(self.maps.iter().map(|(name, there)| (format!("maps of type {name}"), there)))
            .filter_map(|(what, there)| (!there).then_some(what))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(BpfError::Features { release: self.kernel.clone(), missing: missing.join(", ") })
        }
    }

    /// Everything that was looked for by name, and `yes` or `no`.
    pub fn supported(&self) -> BTreeMap<String, String> {
        let kinds = [
            ("helper", &self.helpers),
            ("helper of cgroups", &self.cgroup_helpers),
            ("map", &self.maps),
        ];
        let kind = |(kind, found): (&str, &BTreeMap<&'static str, bool>)| -> Vec<_> {
            let answer = |there| if there { "yes" } else { "no" }.to_owned();
            found.iter().map(|(name, there)| (format!("{kind} {name}"), answer(*there))).collect()
        };
        kinds.into_iter().flat_map(kind).collect()
    }

    /// The mechanism to attach by: TCX where it is there and not forbidden.
    pub fn mode(&self, force_clsact: bool) -> Mode {
        if self.tcx && !force_clsact { Mode::Tcx } else { Mode::Clsact }
    }

    /// Whether programs on cgroups can answer EADDRINUSE for published ports.
    pub fn cgroup_bind(&self) -> bool {
        self.cgroup_helpers.values().all(|there| *there)
    }
}

impl fmt::Display for Features {
    /// One line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |there| if there { "yes" } else { "no" };
        write!(
            f,
            "kernel {}, TCX {}, JIT {}, BTF {}, bind hooks {}",
            self.kernel,
            yes(self.tcx),
            yes(self.jit),
            yes(self.btf),
            yes(self.cgroup_bind())
        )
    }
}

/// Every namespace has a loopback device of index 1; what counts is which error a query for it gets.
fn tcx() -> bool {
    match sys::tcx_query(1) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
    }
}

fn available() -> Result<(), BpfError> {
    let unavailable = |source: io::Error| {
        let hint = match source.raw_os_error() {
            Some(libc::ENOSYS) => "this kernel was built without CONFIG_BPF_SYSCALL",
            Some(libc::EPERM | libc::EACCES) => {
                "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN; \
                 inside a container or under a seccomp filter bpf(2) has to be allowed"
            }
            _ => "the kernel's log may say more",
        };
        BpfError::Unavailable { what: "creating a map", source, hint }
    };
    sys::map_create(MapType::Array as u32, 4, 4, 1, 0, None, "bascule_probe")
        .map(drop)
        .map_err(unavailable)?;
    match is_program_supported(ProgramType::SchedClassifier) {
        Ok(_) => Ok(()),
        Err(error) => {
            use std::error::Error as _;
            let os_error = error
                .source()
                .and_then(|source| source.downcast_ref::<io::Error>())
                .and_then(io::Error::raw_os_error)
                .unwrap_or(libc::EPERM);
            Err(unavailable(io::Error::from_raw_os_error(os_error)))
        }
    }
}
