//! Entry points of the eBPF programs. Plumbing only: every decision is in `bascule_common::datapath`.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

    use crate::maps;

    #[classifier]
    pub fn from_container(_ctx: TcContext) -> i32 {
        if let Some(c) = maps::STATS.get_ptr_mut(7) {
            unsafe { *c += 1 };
        }
        TC_ACT_UNSPEC
    }
    #[classifier]
    pub fn to_container(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }
    #[classifier]
    pub fn from_uplink(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }
    #[classifier]
    pub fn to_uplink(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }
    #[classifier]
    pub fn collect_flows4(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Says to the kernel that the programs may call helpers reserved for GPL-compatible ones.
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in this crate can panic: a call that reached this loop would not pass the verifier.
    loop {}
}
