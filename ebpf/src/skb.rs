//! [`Packet`] over `__sk_buff`: the only place that touches packet memory.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_fib_lookup as FibLookup,
        bpf_sock_tuple as SockTuple,
    },
    helpers::generated as bpf,
    programs::TcContext,
};
use bascule_common::{
    abi::{FlowKey4, Ip4, Mac, config::CLOCK_SHIFT},
    io::{Checksum, Kernel, Packet, Route, Step},
    wire::{Ethernet, L3, Macs, Wire, ethertype, proto},
};

/// A frame in the kernel, whose IP header is at this offset.
pub struct Skb<const NETWORK: u32 = L3> {
    skb: *mut __sk_buff,
}

impl<const NETWORK: u32> Skb<NETWORK> {
    /// The frame that a program was called with. Marks left by others on its way here are cleared: they
    /// would be visible in the container that it is redirected to.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.as_ptr().cast() }
    }

    /// The frame as the helpers want it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    fn field(&self, pick: impl Fn(*mut __sk_buff) -> *mut u32) -> u32 {
        // SAFETY: the pointer is the program's own context, valid while it runs. Volatile, because the
        // verifier wants each field loaded from the context where it is used: LLVM would pass data_end
        // on as an integer and shift it, "pointer arithmetic on pkt_end prohibited".
        unsafe { pick(self.skb).read_volatile() }
    }

    /// Clears what earlier stages left on the frame and what would follow it into a container.
    #[inline(always)]
    pub fn clear_marks(&mut self) {
        // SAFETY: both fields may be written by a classifier. Volatile, because LLVM would merge the two
        // writes into one of eight bytes: "invalid bpf_context access off=8 size=8".
        unsafe {
            (&raw mut (*self.skb).mark).write_volatile(0);
            // The receive queue that veth recorded would pin the flow to one transmit queue.
            (&raw mut (*self.skb).queue_mapping).write_volatile(0);
        }
    }
}

impl<const NETWORK: u32> Packet for Skb<NETWORK> {
    const NETWORK: u32 = NETWORK;

    #[inline(always)]
    fn protocol(&self) -> u16 {
        // The lower half holds it, in network byte order.
        // SAFETY: the projection stays within the context.
        self.field(|skb| unsafe { &raw mut (*skb).protocol }) as u16
    }

    #[inline(always)]
    fn address(&mut self, dst: Mac, src: Mac) -> Option<()> {
        if NETWORK != 0 {
            return self.store(0, Macs { dst, src });
        }
        // SAFETY: the context is the running program's; the helper makes room or fails.
        let failed = unsafe { bpf::bpf_skb_change_head(self.skb, L3, 0) };
        if failed != 0 {
            return None;
        }
        self.store(0, Ethernet { dst, src, ethertype: ethertype::IPV4 })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the projection stays within the context.
        self.field(|skb| unsafe { &raw mut (*skb).len })
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: as above.
        match self.field(|skb| unsafe { &raw mut (*skb).gso_segs }) {
            0 => 1,
            segments => segments,
        }
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).gso_size })
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).ifindex })
    }

    #[inline(always)]
    fn arrived_by(&self) -> u32 {
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).ingress_ifindex })
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).vlan_present }) != 0
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        // PACKET_HOST is 0 (linux/if_packet.h).
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).pkt_type }) == 0
    }

    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        // SAFETY: as above.
        let start = self.field(|skb| unsafe { &raw mut (*skb).data }) as usize;
        // SAFETY: as above.
        let end = self.field(|skb| unsafe { &raw mut (*skb).data_end }) as usize;
        let at = start + offset as usize;
        if at + size_of::<T>() <= end {
            // SAFETY: the bytes lie within the linear part of the frame, as just checked, and any bytes
            // are a T (Wire). The read claims T's alignment so that it becomes one load; BPF on x86-64
            // and arm64 has no alignment to honour for packet data (NET_IP_ALIGN, verifier's
            // check_pkt_ptr_alignment), and the kernel refuses the program where it has.
            return Some(unsafe { (at as *const T).read() });
        }
        // Not in the linear part. It is not pulled there: a partial pull of an aggregated UDP frame
        // corrupts it (Linux before 6.16).
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the buffer has the length that is passed; the helper fills all of it or fails.
        let failed = unsafe {
            bpf::bpf_skb_load_bytes(
                self.skb.cast(),
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        // SAFETY: filled by the helper, and any bytes are a T.
        (failed == 0).then(|| unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: u32, value: T) -> Option<()> {
        // SAFETY: the buffer has the length that is passed; the helper checks the frame's bounds and
        // makes the bytes writable.
        let failed = unsafe {
            bpf::bpf_skb_store_bytes(
                self.skb,
                offset,
                (&raw const value).cast(),
                size_of::<T>() as u32,
                0,
            )
        };
        (failed == 0).then_some(())
    }

    #[inline(always)]
    fn adjust(&mut self, offset: u32, diff: u32, scope: Checksum, udp: bool) -> Option<()> {
        let mut flags = 0;
        if scope == Checksum::Pseudo {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        if udp {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        // A size of 0 in the flags: `to` is a difference. The helper knows whether the checksum is left
        // to the device (CHECKSUM_PARTIAL), which a program cannot see.
        // SAFETY: the helper checks the frame's bounds.
        let failed =
            unsafe { bpf::bpf_l4_csum_replace(self.skb, offset, 0, u64::from(diff), flags) };
        (failed == 0).then_some(())
    }
}

/// One round of `bpf_loop`; 1 ends it.
///
/// # Safety
/// Called by `bpf_loop` with a pointer to an `S` that nothing else uses meanwhile.
unsafe extern "C" fn round<S: Step>(index: u32, steps: *mut c_void) -> i64 {
    // SAFETY: see above.
    let steps = unsafe { &mut *steps.cast::<S>() };
    i64::from(!steps.step(index))
}

/// [`Kernel`] by helpers.
pub struct Host {
    ctx: *mut c_void,
}

impl Host {
    /// The kernel, as seen by the program that was called with this context.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { ctx: ctx.as_ptr() }
    }
}

/// What `bpf_fib_lookup` answers (linux/bpf.h).
mod fib {
    pub const SUCCESS: i64 = 0;
    pub const FWD_DISABLED: i64 = 5;
    pub const NO_NEIGH: i64 = 7;
}

const AF_INET: u8 = 2;

impl Kernel for Host {
    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: no arguments. The coarse clock costs 3 ns, the precise one 28.
        (unsafe { bpf::bpf_ktime_get_coarse_ns() } >> CLOCK_SHIFT) as u32
    }

    #[inline(always)]
    fn route(&self, arrived_by: u32, src: Ip4, dst: Ip4) -> Route {
        // SAFETY: integers and arrays of integers; zero is a value.
        let mut query: FibLookup = unsafe { core::mem::zeroed() };
        query.family = AF_INET;
        // Anything but 0: the route alone is asked for, and the frame's length judged by us.
        query.__bindgen_anon_1.tot_len = 20;
        query.ifindex = arrived_by;
        query.__bindgen_anon_3.ipv4_src = src.0;
        query.__bindgen_anon_4.ipv4_dst = dst.0;
        // SAFETY: the context is the running program's; the query has the length that is passed.
        let answer = unsafe {
            bpf::bpf_fib_lookup(self.ctx, &raw mut query, size_of::<FibLookup>() as i32, 0)
        };
        match answer {
            fib::SUCCESS | fib::NO_NEIGH => Route::Via {
                ifindex: query.ifindex,
                // SAFETY: an IPv4 query has an IPv4 answer: the next hop's address.
                next_hop: Ip4(unsafe { query.__bindgen_anon_4.ipv4_dst }),
            },
            fib::FWD_DISABLED => Route::ForwardingOff,
            _ => Route::Kernel,
        }
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, times: u32, steps: &mut S) {
        // SAFETY: the callback has the signature that bpf_loop wants, and `steps` outlives the call.
        // A failure leaves `steps` as it was, which its owner takes for an unsuccessful search.
        unsafe {
            bpf::bpf_loop(times, round::<S> as *mut c_void, core::ptr::from_mut(steps).cast(), 0);
        }
    }

    #[inline(always)]
    fn socket(&self, key: &FlowKey4) -> bool {
        // SAFETY: integers; zero is a value.
        let mut tuple: SockTuple = unsafe { core::mem::zeroed() };
        tuple.__bindgen_anon_1.ipv4 =
            aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: key.src.0,
                daddr: key.dst.0,
                sport: key.src_port.0,
                dport: key.dst_port.0,
            };
        const LENGTH: u32 =
            size_of::<aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;
        // BPF_F_CURRENT_NETNS
        const HERE: u64 = u64::MAX;
        let tuple = &raw mut tuple;
        // SAFETY: the context is the running program's; the tuple's IPv4 half has the length passed.
        let socket = unsafe {
            match key.proto {
                proto::TCP => bpf::bpf_skc_lookup_tcp(self.ctx, tuple, LENGTH, HERE, 0),
                proto::UDP => bpf::bpf_sk_lookup_udp(self.ctx, tuple, LENGTH, HERE, 0),
                _ => return false,
            }
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: a reference that the look-up took, given back once.
        unsafe { bpf::bpf_sk_release(socket.cast()) };
        true
    }
}
