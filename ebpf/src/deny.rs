//! The deny list in XDP: the seam over `xdp_md`, the list over its maps, and the event of a drop.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::lpm_trie::Key,
    helpers::generated as bpf,
    programs::XdpContext,
};
use bascule_common::{
    abi::{Direction, DropReason, Event, Ip4, Ip6, Port, Record, Stat},
    datapath::deny::{self, Frame, List, Match},
    wire::{Ipv4, Ipv6, Ports, Wire, ethertype, proto},
};

use crate::{
    emit, maps,
    tables::{self, Maps},
};

/// Bits of an address.
const V4: u32 = 32;
/// The same of IPv6.
const V6: u32 = 128;

/// Drops what the list denies.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let frame = Xdp(ctx);
    let Some(found) = deny::judge(&frame, &Maps) else { return XDP_PASS };
    if emit::has_token(&maps::EVENT_TOKENS) {
        report(ctx, found);
    } else {
        tables::count(Stat::EventsLost);
    }
    XDP_DROP
}

/// A frame that no kernel structure stands for yet.
struct Xdp<'a>(&'a XdpContext);

impl Frame for Xdp<'_> {
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let start = self.0.data() + offset as usize;
        if start + size_of::<T>() > self.0.data_end() {
            return None;
        }
        // SAFETY: the bytes lie before data_end, which the verifier sees too; any bytes are a Wire.
        Some(unsafe { (start as *const T).read_unaligned() })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the running program's. With fragments, data_end is not the end.
        unsafe { bpf::bpf_xdp_get_buff_len(self.0.as_ptr().cast()) as u32 }
    }
}

impl List for Maps {
    #[inline(always)]
    fn is_asked_late(&self) -> bool {
        maps::DENY_LATE.get(0).is_some_and(|late| *late != 0)
    }

    #[inline(always)]
    fn find4(&self, src: Ip4) -> Option<u32> {
        maps::DENY4.get(&Key::new(V4, src)).map(|denied| denied.slot)
    }

    #[inline(always)]
    fn find6(&self, src: Ip6) -> Option<u32> {
        maps::DENY6.get(&Key::new(V6, src)).map(|denied| denied.slot)
    }

    #[inline(always)]
    fn count_denied(&self, slot: u32, packets: u32, bytes: u32) {
        if let Some(count) = maps::DENY_STATS.get_ptr_mut(slot) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            unsafe {
                (*count).packets = (*count).packets.wrapping_add(u64::from(packets));
                (*count).bytes = (*count).bytes.wrapping_add(u64::from(bytes));
            }
        }
    }
}

/// Reports a drop. A function of its own, for its stack.
#[inline(never)]
fn report(ctx: &XdpContext, found: Match) {
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        tables::count(Stat::EventsLost);
        return;
    };
    let frame = Xdp(ctx);
    let event = Event {
        // SAFETY: no arguments.
        time: unsafe { bpf::bpf_ktime_get_ns() },
        ifindex: ctx.ingress_ifindex() as u32,
        length: frame.length(),
        reason: DropReason::DenyCidr as u8,
        direction: Direction::In as u8,
        ..Event::default()
    };
    let record: *mut Record = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and nobody else's until it is submitted.
    let slot = unsafe { &mut (*record).event };
    *slot = event;
    describe(&frame, found, slot);
    let length = emit::snap(slot.length);
    // SAFETY: the helper writes `length` bytes, for which the field has room, or fails.
    let failed = unsafe {
        bpf::bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, (&raw mut (*record).frame).cast(), length)
    };
    slot.captured = if failed == 0 { length } else { 0 };
    entry.submit(0);
}

/// Fills in what can be read of the packet.
#[inline(always)]
fn describe(frame: &Xdp<'_>, found: Match, event: &mut Event) {
    let Match { network, ethertype, .. } = found;
    let mut transport = 0;
    if ethertype == ethertype::IPV4 {
        let Some(header) = frame.load::<Ipv4>(network) else { return };
        event.family = 4;
        event.proto = header.proto;
        [event.src[0], event.src[1], event.src[2], event.src[3]] = header.src.octets();
        [event.dst[0], event.dst[1], event.dst[2], event.dst[3]] = header.dst.octets();
        if header.fragment & Ipv4::OFFSET_MASK == 0 {
            transport = network + header.header_length();
        }
    } else {
        let Some(header) = frame.load::<Ipv6>(network) else { return };
        event.family = 6;
        event.proto = header.next_header;
        event.src = header.src.octets();
        event.dst = header.dst.octets();
        transport = network + size_of::<Ipv6>() as u32;
    }
    if transport != 0 && matches!(event.proto, proto::TCP | proto::UDP | proto::SCTP) {
        let none = Ports { src: Port(0), dst: Port(0) };
        let ports = frame.load::<Ports>(transport).unwrap_or(none);
        (event.src_port, event.dst_port) = (ports.src, ports.dst);
    }
}
