//! From the end of a walk to what the kernel wants, with the count and the event of a drop.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh as NextHop},
    helpers::generated as bpf,
};
use bascule_common::{
    abi::{AnyIp, Direction, DropKey, DropReason, Event, Ip4, Port, Record, Stat, event},
    datapath::{End, Kind, Next, Outcome, Verdict, Went, family},
    io::{Packet, Tables},
    wire::{Ipv4, Ipv6, L3, Ports, ethertype, proto},
};

use crate::{
    maps,
    skb::{Helped, Skb},
    tables::{self, Maps},
};

const PACKET_HOST: u32 = 0;

/// How a part of a walk ended, as the number that a function returns: an action of the kernel's, or what is left to
/// do. The verifier looks at a function that returns a number once, wherever it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    const FIRST: Self = Self(0x0100_0000);
    const ERROR: Self = Self(0x0200_0000);
    /// And the reason.
    const DROP: i32 = 0x0300_0000;
    /// Dropped, and to be answered.
    const EXPIRED: Self = Self(0x0400_0000);
    /// And the MTU.
    const TOO_BIG: i32 = 0x0500_0000;
    /// Redirected already; and the MTU that the SYN shall fit.
    const CLAMP: i32 = 0x0600_0000;
    const STALE: Self = Self(0x0700_0000);
    const VACANT: Self = Self(0x0900_0000);
    const KIND: i32 = 0x0f00_0000;
    const DETAIL: i32 = 0xffff;

    /// What was said beside the kind.
    #[inline(always)]
    fn detail(self) -> u32 {
        (self.0 & Self::DETAIL) as u32
    }
}

impl End for Code {
    const LOST: Self = Self(Self::DROP | DropReason::CtTableFull as i32);
    const WHOLE: Self = Self(0x0800_0000);

    #[inline(always)]
    fn next(&self) -> Next {
        // An action, nearly always.
        if self.0 & Self::KIND == 0 {
            return Next::Done;
        }
        match *self {
            Self::FIRST => Next::First,
            Self::ERROR => Next::Error,
            Self::STALE => Next::Refresh,
            Self::WHOLE => Next::Whole,
            Self::VACANT => Next::Vacant,
            _ => Next::Done,
        }
    }

    #[inline(always)]
    fn went(&self) -> Option<Went> {
        match self.0 {
            TC_ACT_UNSPEC => Some(Went::ToKernel),
            TC_ACT_REDIRECT => Some(Went::On),
            number if number & Self::KIND == Self::CLAMP => Some(Went::On),
            _ => None,
        }
    }
}

/// Carries a verdict out, as far as one function can.
#[inline(always)]
pub fn code<A: Helped, const NETWORK: u32>(skb: &mut Skb<NETWORK>, end: Outcome) -> i32 {
    let verdict = match end {
        Ok(verdict) => verdict,
        Err(reason) => return Code::DROP | reason as i32,
    };
    let action = match verdict.kind {
        Kind::Deliver => deliver(skb, verdict.ifindex),
        Kind::Leave => {
            skb.note_sent();
            leave::<A>(verdict.ifindex, verdict.next_hop)
        }
        // SAFETY: no pointers; out of the interface, not into it.
        Kind::Back => return unsafe { bpf::bpf_redirect(skb.interface(), 0) as i32 },
        // SAFETY: no pointers; out of the interface.
        Kind::Send => return unsafe { bpf::bpf_redirect(verdict.ifindex, 0) as i32 },
        Kind::Host => {
            let ingress = u64::from(BPF_F_INGRESS);
            // SAFETY: no pointers; into the interface.
            return unsafe { bpf::bpf_redirect(verdict.ifindex, ingress) as i32 };
        }
        Kind::First => return Code::FIRST.0,
        Kind::Error => return Code::ERROR.0,
        Kind::Stale => return Code::STALE.0,
        Kind::Whole => return Code::WHOLE.0,
        Kind::Vacant => return Code::VACANT.0,
        Kind::Expired => return Code::EXPIRED.0,
        Kind::TooBig => return Code::TOO_BIG | (verdict.ifindex as i32 & Code::DETAIL),
        // Unlike TC_ACT_OK, this lets the programs of others on the interface run.
        Kind::Pass => {
            // Classifiers of a container's own may have written it.
            skb.take_sent();
            return TC_ACT_UNSPEC;
        }
    };
    if verdict.clamp != 0 {
        return Code::CLAMP | (verdict.clamp as i32 & Code::DETAIL);
    }
    action
}

/// Does what the parts left to do: counts and reports a drop, answers, clamps. `direction` is the program's, seen
/// from the container or the host.
#[inline(always)]
pub fn finish<const NETWORK: u32>(
    skb: &Skb<NETWORK>,
    direction: Direction,
    end: Code,
    answer: impl Fn(Verdict) -> Code,
    clamp: impl Fn(u32),
) -> i32 {
    if end.0 & Code::KIND == 0 || end.0 < 0 {
        return end.0;
    }
    let (reason, verdict) = match end.0 & Code::KIND {
        Code::DROP => {
            dropped::<NETWORK>(skb, end.detail() as u8, direction as u8);
            return TC_ACT_SHOT;
        }
        Code::CLAMP => {
            clamp(end.detail());
            return TC_ACT_REDIRECT;
        }
        Code::TOO_BIG => (DropReason::MtuExceeded, Verdict::too_big(end.detail())),
        _ if end == Code::EXPIRED => (DropReason::TtlExpired, Verdict::EXPIRED),
        _ => return end.0,
    };
    dropped::<NETWORK>(skb, reason as u8, direction as u8);
    let end = answer(verdict);
    if end.0 & Code::KIND != 0 { TC_ACT_SHOT } else { end.0 }
}

/// Drops a packet that no walk has seen.
#[inline(always)]
pub fn refuse<const NETWORK: u32>(
    skb: &Skb<NETWORK>,
    direction: Direction,
    reason: DropReason,
) -> i32 {
    dropped::<NETWORK>(skb, reason as u8, direction as u8);
    TC_ACT_SHOT
}

/// What redirecting helpers answer when they did.
const TC_ACT_REDIRECT: i32 = 7;

#[inline(always)]
fn deliver<const NETWORK: u32>(skb: &mut Skb<NETWORK>, ifindex: u32) -> i32 {
    skb.clear_marks();
    if !skb.is_for_host() {
        // A frame between containers carries the other one's address and was taken for somebody else's.
        // Linux 6.15 (c4327229948879) sets this itself; before it, ip_rcv would drop the packet.
        // SAFETY: the context is the running program's. A failure leaves the type as it was.
        unsafe { bpf::bpf_skb_change_type(skb.as_ptr(), PACKET_HOST) };
    }
    // SAFETY: no pointers.
    unsafe { bpf::bpf_redirect_peer(ifindex, 0) as i32 }
}

#[inline(always)]
fn leave<A: Helped>(ifindex: u32, next_hop: AnyIp) -> i32 {
    if A::from_any(next_hop) == A::UNSPECIFIED {
        // SAFETY: without parameters the kernel looks the next hop up.
        return unsafe { bpf::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 };
    }
    const LENGTH: i32 = size_of::<NextHop>() as i32;
    if A::AF == Ip4::AF {
        let mut words = MaybeUninit::<[u64; 3]>::uninit();
        let at = words.as_mut_ptr().cast::<u64>();
        // In words, as the kernel copies it: written field by field, it would be read before the processor has put the
        // fields together, which costs 5 ns. IPv6 has no room for four more bytes on the stack.
        // SAFETY: the three words are all there are, and aligned. Volatile, because LLVM would write halves. The
        // parameters have the length that is passed, and are read before the call returns.
        return unsafe {
            at.write_volatile(u64::from(A::AF) | u64::from(next_hop.0[0]) << 32);
            at.add(1).write_volatile(0);
            at.add(2).write_volatile(0);
            bpf::bpf_redirect_neigh(ifindex, at.cast(), LENGTH, 0) as i32
        };
    }
    // SAFETY: integers; zero is a value.
    let mut hop: NextHop = unsafe { core::mem::zeroed() };
    hop.nh_family = A::AF.into();
    hop.__bindgen_anon_1.ipv6_nh = next_hop.0;
    // SAFETY: as above.
    unsafe { bpf::bpf_redirect_neigh(ifindex, &raw mut hop, LENGTH, 0) as i32 }
}
// The family, and then the address.
const _: () = assert!(
    size_of::<NextHop>() == 20
        && offset_of!(NextHop, __bindgen_anon_1) == 4
        && cfg!(target_endian = "little")
);

/// Counts a drop and reports it. A function of its own, for its stack.
#[inline(never)]
fn dropped<const NETWORK: u32>(skb: &Skb<NETWORK>, reason: u8, direction: u8) {
    let endpoint = endpoint_of(skb);
    let key = DropKey { endpoint, reason, direction, pad: 0 };
    tables::count_drop(&key, skb.segments(), skb.length().wrapping_sub(NETWORK));
    report(skb, endpoint, reason, direction, &maps::EVENT_TOKENS);
}

/// Reports a packet that goes on. A function of its own, for its stack.
#[inline(never)]
pub fn tell(skb: &Skb<L3>, what: u8, direction: u8) {
    // Whoever traces much takes nothing from those who wait for drops.
    report(skb, endpoint_of(skb), what, direction, &maps::TRACE_TOKENS);
}

/// Writes an event, if there is room and leave.
#[inline(always)]
fn report<const NETWORK: u32>(
    skb: &Skb<NETWORK>,
    endpoint: u32,
    reason: u8,
    direction: u8,
    bucket: &maps::Tokens,
) {
    if !has_token(bucket) {
        tables::count(Stat::EventsLost);
        return;
    }
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        tables::count(Stat::EventsLost);
        return;
    };
    let event = Event {
        // SAFETY: no arguments.
        time: unsafe { bpf::bpf_ktime_get_ns() },
        endpoint,
        ifindex: skb.interface(),
        length: skb.length(),
        reason,
        direction,
        ..Event::default()
    };
    let record: *mut Record = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and nobody else's until it is submitted.
    let slot = unsafe { &mut (*record).event };
    *slot = event;
    describe(skb, slot);
    let length = snap(slot.length);
    // SAFETY: the helper writes `length` bytes, for which the field has room, or fails.
    let failed = unsafe {
        bpf::bpf_skb_load_bytes(skb.as_ptr().cast(), 0, (&raw mut (*record).frame).cast(), length)
    };
    slot.captured = if failed == 0 { length } else { 0 };
    entry.submit(0);
}

/// How many bytes of a frame of this length an event carries.
///
/// At least one, by arithmetic: Linux 6.1's verifier learns nothing from a comparison with zero. Of an empty frame the
/// helper then reads nothing, and says so.
#[inline(always)]
pub fn snap(length: u32) -> u32 {
    const MOST: u32 = event::SNAP as u32;
    let length = if length > MOST { MOST } else { length };
    (length.wrapping_sub(1) & (MOST - 1)) + 1
}

/// Whether one more event may be reported now.
#[inline(always)]
pub fn has_token(bucket: &maps::Tokens) -> bool {
    let limit = maps::CONFIG.get(0).map_or(0, |config| config.events_per_second);
    tables::take_token(bucket, limit.into())
}

/// Whom a drop is counted for: the container behind the interface, or the one that was addressed.
#[inline(always)]
fn endpoint_of<const NETWORK: u32>(skb: &Skb<NETWORK>) -> u32 {
    if let Some(endpoint) = Tables::<Ip4>::endpoint(&Maps, skb.interface()) {
        return endpoint.endpoint;
    }
    match skb.protocol() {
        ethertype::IPV4 => {
            skb.load::<Ipv4>(NETWORK).map_or(0, |header| family::holder(&Maps, header.dst))
        }
        ethertype::IPV6 => {
            skb.load::<Ipv6>(NETWORK).map_or(0, |header| family::holder(&Maps, header.dst))
        }
        _ => 0,
    }
}

/// Fills in what can be read of the packet.
#[inline(always)]
fn describe<const NETWORK: u32>(skb: &Skb<NETWORK>, event: &mut Event) {
    match skb.protocol() {
        ethertype::IPV4 => {
            let Some(header) = skb.load::<Ipv4>(NETWORK) else { return };
            event.family = 4;
            event.proto = header.proto;
            [event.src[0], event.src[1], event.src[2], event.src[3]] = header.src.octets();
            [event.dst[0], event.dst[1], event.dst[2], event.dst[3]] = header.dst.octets();
            let first = header.fragment & Ipv4::OFFSET_MASK == 0;
            if first && matches!(header.proto, proto::TCP | proto::UDP | proto::SCTP) {
                let ports = skb.load::<Ports>(NETWORK + header.header_length());
                let none = Ports { src: Port(0), dst: Port(0) };
                Ports { src: event.src_port, dst: event.dst_port } = ports.unwrap_or(none);
            }
        }
        ethertype::IPV6 => {
            let Some(header) = skb.load::<Ipv6>(NETWORK) else { return };
            event.family = 6;
            event.proto = header.next_header;
            event.src = header.src.octets();
            event.dst = header.dst.octets();
            if matches!(header.next_header, proto::TCP | proto::UDP | proto::SCTP) {
                let ports = skb.load::<Ports>(NETWORK + size_of::<Ipv6>() as u32);
                let none = Ports { src: Port(0), dst: Port(0) };
                Ports { src: event.src_port, dst: event.dst_port } = ports.unwrap_or(none);
            }
        }
        _ => {}
    }
}
