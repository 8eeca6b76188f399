//! [`Packet`] over `__sk_buff`: the only place that touches packet memory.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_fib_lookup as FibLookup,
        bpf_sock_tuple as SockTuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
    },
    helpers::generated as bpf,
};
use bascule_common::{
    abi::{FlowKey, Ip4, Ip6, Mac, config::CLOCK_SHIFT},
    datapath::Family,
    io::{Checksum, Kernel, Packet, Route, Step},
    wire::{Ethernet, L3, Macs, Wire, checksum, proto},
};

/// Between the Ethernet and the IP header (linux/bpf.h).
const BPF_ADJ_ROOM_MAC: u32 = 1;

/// `BPF_F_IPV6` (Linux 6.16): an IPv6 header has no checksum that makes up for a change of its
/// addresses. Without the flag, a device that sums whole frames (CHECKSUM_COMPLETE) is misunderstood.
const BPF_F_IPV6: u64 = 0x80;

/// `tc_index` of a frame that a walk has sent to an uplink. Nothing but classifiers writes the field: a socket cannot set
/// it, as it can the priority or, with a capability, the mark; and it stays with the frame from the redirection to the
/// egress, unlike those.
const SENT: u32 = 0xba5c;

/// Offsets that are known when the program is compiled lie below this, in bytes: Ethernet and IP without options.
const NEAR: u32 = 80;

/// A frame in the kernel, whose IP header is at this offset.
pub struct Skb<const NETWORK: u32 = L3> {
    skb: *mut __sk_buff,
}

impl<const NETWORK: u32> Skb<NETWORK> {
    /// The frame that a program was called with.
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
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

    /// Notes that a walk has sent the frame to an uplink, for the program there.
    #[inline(always)]
    pub fn note_sent(&mut self) {
        // SAFETY: a classifier may write the field.
        unsafe { (&raw mut (*self.skb).tc_index).write_volatile(SENT) };
    }

    /// Whether a walk has sent the frame to this uplink. Takes the note off: it is not for the next host.
    #[inline(always)]
    pub fn take_sent(&mut self) -> bool {
        // SAFETY: the projection stays within the context.
        let sent = self.field(|skb| unsafe { &raw mut (*skb).tc_index }) == SENT;
        if sent {
            // SAFETY: a classifier may write the field.
            unsafe { (&raw mut (*self.skb).tc_index).write_volatile(0) };
        }
        sent
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
    fn address(&mut self, dst: Mac, src: Mac, ethertype: u16) -> Option<()> {
        if NETWORK != 0 {
            return self.store(0, Macs { dst, src }.words());
        }
        // SAFETY: the context is the running program's; the helper makes room or fails.
        let failed = unsafe { bpf::bpf_skb_change_head(self.skb, L3, 0) };
        if failed != 0 {
            return None;
        }
        self.store(0, Ethernet { dst, src, ethertype })
    }

    #[inline(always)]
    fn make_room(&mut self, keep: u32, room: u32) -> Option<()> {
        // SAFETY: the context is the running program's; the helpers make room or fail.
        unsafe {
            if bpf::bpf_skb_change_tail(self.skb, keep, 0) != 0 {
                return None;
            }
            let failed = bpf::bpf_skb_adjust_room(self.skb, room as i32, BPF_ADJ_ROOM_MAC, 0);
            (failed == 0).then_some(())
        }
    }

    #[inline(always)]
    fn extensions(&self, at: u32, next: u8) -> u64 {
        crate::parts::extensions(self.skb, at, u32::from(next))
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
    fn mark(&self) -> u32 {
        // SAFETY: as above.
        self.field(|skb| unsafe { &raw mut (*skb).mark })
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
    fn near<T: Wire>(&self, offset: u32) -> Option<T> {
        // SAFETY: as above.
        let start = self.field(|skb| unsafe { &raw mut (*skb).data }) as usize;
        // SAFETY: as above.
        let end = self.field(|skb| unsafe { &raw mut (*skb).data_end }) as usize;
        let at = start + offset as usize;
        // SAFETY: the bytes lie within the linear part of the frame, as is checked, and any bytes
        // are a T (Wire). The read claims T's alignment so that it becomes one load; BPF on x86-64
        // and arm64 has no alignment to honour for packet data (NET_IP_ALIGN, verifier's
        // check_pkt_ptr_alignment), and the kernel refuses the program where it has.
        (at + size_of::<T>() <= end).then(|| unsafe { (at as *const T).read() })
    }

    // Not by way of `near`, whose answer LLVM would keep on the stack beside the other one.
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        // SAFETY: as above.
        let start = self.field(|skb| unsafe { &raw mut (*skb).data }) as usize;
        // SAFETY: as above.
        let end = self.field(|skb| unsafe { &raw mut (*skb).data_end }) as usize;
        let at = start + offset as usize;
        if at + size_of::<T>() <= end {
            // SAFETY: see `near`.
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
        // SAFETY: as above.
        let start = self.field(|skb| unsafe { &raw mut (*skb).data }) as usize;
        // SAFETY: as above.
        let end = self.field(|skb| unsafe { &raw mut (*skb).data_end }) as usize;
        let at = start + offset as usize;
        // The helper's call and copy cost as much as two look-ups. The kernel sees that the program writes and
        // gives a cloned frame a head of its own before it runs (tc_cls_act_prologue).
        if offset < NEAR && at + size_of::<T>() <= end {
            // SAFETY: the bytes lie within the linear part of the frame, as just checked; of the alignment, see
            // `near`.
            unsafe { (at as *mut T).write(value) };
            return Some(());
        }
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
        if scope != Checksum::Segment {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        if udp {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        // A size of 0 in the flags: `to` is a difference. The helper knows whether the checksum is left
        // to the device (CHECKSUM_PARTIAL), which a program cannot see.
        // SAFETY: the helper checks the frame's bounds.
        let replace = |flags| unsafe {
            bpf::bpf_l4_csum_replace(self.skb, offset, 0, u64::from(diff), flags)
        };
        // An older kernel refuses the flag before it looks at the frame.
        if scope == Checksum::Pseudo6 && replace(flags | BPF_F_IPV6) == 0 {
            return Some(());
        }
        (replace(flags) == 0).then_some(())
    }

    #[inline(always)]
    fn adjust_both(
        &mut self,
        offset: u32,
        addresses: u16,
        scope: Checksum,
        ports: u16,
        udp: bool,
    ) -> Option<()> {
        if offset < NEAR
            && let Some(old) = self.near::<u16>(offset)
        {
            if udp && old == 0 {
                return Some(());
            }
            self.adjust(offset, addresses.into(), scope, udp)?;
            let new: u16 = self.near(offset)?;
            // What the addresses made of it tells whether it is a whole checksum, or the one of the pseudo header that
            // is left to the device to complete (CHECKSUM_PARTIAL) and does not cover the ports: the one gets the
            // difference subtracted, the other gets it added. Zero is the same either way.
            let changes = addresses != 0 && addresses != 0xffff;
            if changes && new == ones(checksum::update_by(old, addresses), udp) {
                return self.store(offset, ones(checksum::update_by(new, ports), udp));
            }
            if changes && new == !checksum::update_by(!old, addresses) {
                return Some(());
            }
            return self.adjust(offset, ports.into(), Checksum::Segment, udp);
        }
        self.adjust(offset, addresses.into(), scope, udp)?;
        self.adjust(offset, ports.into(), Checksum::Segment, udp)
    }
}

/// A checksum as UDP sends it: a computed zero as all ones (RFC 768).
#[inline(always)]
const fn ones(checksum: u16, udp: bool) -> u16 {
    if udp && checksum == 0 { 0xffff } else { checksum }
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
    pub fn new(skb: *mut __sk_buff) -> Self {
        Self { ctx: skb.cast() }
    }
}

/// What `bpf_fib_lookup` answers (linux/bpf.h).
mod fib {
    pub const SUCCESS: i64 = 0;
    pub const FWD_DISABLED: i64 = 5;
    pub const NO_NEIGH: i64 = 7;
}

// Source and destination, then their ports: what a key begins with.
const _: () = assert!(
    core::mem::offset_of!(Tuple4, daddr) == core::mem::offset_of!(FlowKey<Ip4>, dst)
        && core::mem::offset_of!(Tuple4, sport) == core::mem::offset_of!(FlowKey<Ip4>, src_port)
        && core::mem::offset_of!(Tuple4, dport) == core::mem::offset_of!(FlowKey<Ip4>, dst_port)
        && core::mem::offset_of!(Tuple6, daddr) == core::mem::offset_of!(FlowKey<Ip6>, dst)
        && core::mem::offset_of!(Tuple6, sport) == core::mem::offset_of!(FlowKey<Ip6>, src_port)
        && core::mem::offset_of!(Tuple6, dport) == core::mem::offset_of!(FlowKey<Ip6>, dst_port)
);

/// A family in the words of the helpers.
pub trait Helped: Family {
    /// `AF_INET` or `AF_INET6`.
    const AF: u8;
    /// Fills a route query in.
    fn ask(query: &mut FibLookup, src: Self, dst: Self);
    /// The next hop that a query was answered with.
    fn next_hop(query: &FibLookup) -> Self;
    /// Length of the family's `struct bpf_sock_tuple`, with which a flow's key begins.
    const TUPLE: u32;
}

impl Helped for Ip4 {
    const AF: u8 = 2;
    const TUPLE: u32 = size_of::<Tuple4>() as u32;

    #[inline(always)]
    fn ask(query: &mut FibLookup, src: Self, dst: Self) {
        query.__bindgen_anon_3.ipv4_src = src.0;
        query.__bindgen_anon_4.ipv4_dst = dst.0;
    }

    #[inline(always)]
    fn next_hop(query: &FibLookup) -> Self {
        // SAFETY: an IPv4 query has an IPv4 answer: the next hop's address.
        Self(unsafe { query.__bindgen_anon_4.ipv4_dst })
    }
}

impl Helped for Ip6 {
    const AF: u8 = 10;
    const TUPLE: u32 = size_of::<Tuple6>() as u32;

    #[inline(always)]
    fn ask(query: &mut FibLookup, src: Self, dst: Self) {
        query.__bindgen_anon_3.ipv6_src = src.0;
        query.__bindgen_anon_4.ipv6_dst = dst.0;
    }

    #[inline(always)]
    fn next_hop(query: &FibLookup) -> Self {
        // SAFETY: an IPv6 query has an IPv6 answer: the next hop's address.
        Self(unsafe { query.__bindgen_anon_4.ipv6_dst })
    }
}

impl<A: Helped> Kernel<A> for Host {
    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: no arguments. The coarse clock costs 3 ns, the precise one 28.
        (unsafe { bpf::bpf_ktime_get_coarse_ns() } >> CLOCK_SHIFT) as u32
    }

    #[inline(always)]
    fn route(&self, arrived_by: u32, src: A, dst: A) -> Route<A> {
        // SAFETY: integers and arrays of integers; zero is a value.
        let mut query: FibLookup = unsafe { core::mem::zeroed() };
        query.family = A::AF;
        // Anything but 0: the route alone is asked for, and the frame's length judged by us.
        query.__bindgen_anon_1.tot_len = 20;
        query.ifindex = arrived_by;
        A::ask(&mut query, src, dst);
        // SAFETY: the context is the running program's; the query has the length that is passed.
        let answer = unsafe {
            bpf::bpf_fib_lookup(self.ctx, &raw mut query, size_of::<FibLookup>() as i32, 0)
        };
        match answer {
            fib::SUCCESS | fib::NO_NEIGH => Route::Via {
                ifindex: query.ifindex,
                next_hop: A::next_hop(&query),
                // SAFETY: both sides of the union are integers; the answer is the MTU (Linux 5.12).
                mtu: match unsafe { query.__bindgen_anon_1.mtu_result } {
                    // Not filled in.
                    20 => 0,
                    mtu => u32::from(mtu),
                },
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
    fn socket(&self, key: &FlowKey<A>) -> bool {
        // BPF_F_CURRENT_NETNS
        const HERE: u64 = u64::MAX;
        let (tuple, length) = (core::ptr::from_ref(key).cast_mut().cast::<SockTuple>(), A::TUPLE);
        // SAFETY: the context is the running program's; the helper only reads the tuple, whose family's part is
        // the beginning of the key (asserted below) and has the length passed.
        let socket = unsafe {
            match key.proto {
                proto::TCP => bpf::bpf_skc_lookup_tcp(self.ctx, tuple, length, HERE, 0),
                proto::UDP => bpf::bpf_sk_lookup_udp(self.ctx, tuple, length, HERE, 0),
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
