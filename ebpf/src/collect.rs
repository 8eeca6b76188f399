//! Collection of idle flows, run by the agent through `BPF_PROG_TEST_RUN`: check and removal happen on the
//! live entry, so that a flow that wakes up at this moment is not lost to an old decision.

use core::ffi::c_void;

use aya_ebpf::helpers::generated as bpf;
use bascule_common::{
    abi::{Config, Flow, FlowKey, Ip4, Ip6, config::CLOCK_SHIFT},
    datapath::conntrack,
};

use crate::{
    maps,
    tables::{Maps, Stored},
};

/// What the callback works with.
struct State {
    config: Config,
    now: u32,
    seen: u64,
    removed: u64,
}

/// Walks `FLOWS4`. Leaves the numbers of entries seen and removed in `COLLECTED`.
#[inline(always)]
pub fn flows4() {
    flows((&raw const maps::FLOWS4).cast_mut().cast(), each::<Ip4> as *mut c_void);
}

/// Walks `FLOWS6`. Leaves the numbers of entries seen and removed in `COLLECTED`.
#[inline(always)]
pub fn flows6() {
    flows((&raw const maps::FLOWS6).cast_mut().cast(), each::<Ip6> as *mut c_void);
}

#[inline(always)]
fn flows(map: *mut c_void, each: *mut c_void) {
    let Some(config) = maps::CONFIG.get(0).copied() else { return };
    // SAFETY: no arguments.
    let now = (unsafe { bpf::bpf_ktime_get_coarse_ns() } >> CLOCK_SHIFT) as u32;
    let mut state = State { config, now, seen: 0, removed: 0 };
    // SAFETY: the callback has the signature that the helper wants, and the state outlives the call.
    unsafe {
        bpf::bpf_for_each_map_elem(map, each, (&raw mut state).cast(), 0);
    }
    // The slot exists: an array of one. A failure leaves the last numbers.
    let _ = maps::COLLECTED.set(0, [state.seen, state.removed], 0);
}

/// Removes an entry whose endpoint is gone, or that has been idle too long.
///
/// # Safety
/// Called by `bpf_for_each_map_elem` over the flows of the family with a [`State`].
unsafe extern "C" fn each<A: Stored>(
    map: *mut c_void,
    key: *mut c_void,
    value: *mut c_void,
    state: *mut c_void,
) -> i64 {
    // SAFETY: the helper passes a key and a value of the map and the caller's state, all valid for the
    // call; the copies are taken at once.
    let (flow_key, flow, state) = unsafe {
        (*key.cast::<FlowKey<A>>(), *value.cast::<Flow<A>>(), &mut *state.cast::<State>())
    };
    state.seen = state.seen.wrapping_add(1);
    if !conntrack::is_current(&Maps, &flow)
        || conntrack::is_idle(&state.config, flow_key.proto, &flow, state.now)
    {
        // SAFETY: removal of the current element is allowed in the callback.
        unsafe { bpf::bpf_map_delete_elem(map, key) };
        state.removed = state.removed.wrapping_add(1);
    }
    0
}
