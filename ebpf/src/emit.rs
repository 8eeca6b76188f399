//! From the end of a walk to what the kernel wants, with the count and the event of a drop.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh as NextHop},
    helpers::generated as bpf,
};
use bascule_common::{
    abi::{Direction, DropKey, Event, Ip4, Port, Stat, config::CLOCK_SHIFT},
    datapath::{Flat, Kind, Verdict},
    io::{Packet, Tables as _},
    wire::{Ipv4, Ipv6, Ports, ethertype, proto},
};

use crate::{
    maps,
    skb::Skb,
    tables::{self, Maps},
};

const AF_INET: u32 = 2;
const PACKET_HOST: u32 = 0;

/// Carries a verdict out. `direction` is the program's, seen from the container or the host.
#[inline(always)]
pub fn finish<const NETWORK: u32>(skb: &mut Skb<NETWORK>, direction: Direction, end: Flat) -> i32 {
    match end.end() {
        Ok(Verdict { kind: Kind::Deliver, ifindex, .. }) => deliver(skb, ifindex),
        Ok(Verdict { kind: Kind::Leave, ifindex, next_hop }) => leave(ifindex, next_hop),
        // Unlike TC_ACT_OK, this lets the programs of others on the interface run.
        Ok(_) => TC_ACT_UNSPEC,
        Err(reason) => {
            dropped(skb, reason, direction as u8);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn deliver<const NETWORK: u32>(skb: &mut Skb<NETWORK>, ifindex: u32) -> i32 {
    skb.clear_marks();
    // A frame between containers carries the other one's address and was taken for somebody else's.
    // Linux 6.15 (c4327229948879) sets this itself; before it, ip_rcv would drop the packet.
    // SAFETY: the context is the running program's. A failure leaves the type as it was.
    unsafe {
        bpf::bpf_skb_change_type(skb.as_ptr(), PACKET_HOST);
        bpf::bpf_redirect_peer(ifindex, 0) as i32
    }
}

#[inline(always)]
fn leave(ifindex: u32, next_hop: Ip4) -> i32 {
    if next_hop == Ip4::UNSPECIFIED {
        // SAFETY: without parameters the kernel looks the next hop up.
        return unsafe { bpf::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 };
    }
    // SAFETY: integers; zero is a value.
    let mut hop: NextHop = unsafe { core::mem::zeroed() };
    hop.nh_family = AF_INET;
    hop.__bindgen_anon_1.ipv4_nh = next_hop.0;
    // SAFETY: the parameters have the length that is passed, and are read before the call returns.
    unsafe { bpf::bpf_redirect_neigh(ifindex, &raw mut hop, size_of::<NextHop>() as i32, 0) as i32 }
}

/// Counts a drop and reports it. A function of its own, for its stack.
#[inline(never)]
fn dropped<const NETWORK: u32>(skb: &Skb<NETWORK>, reason: u8, direction: u8) {
    let endpoint = endpoint_of(skb);
    let key = DropKey { endpoint, reason, direction, pad: 0 };
    tables::count_drop(&key, skb.segments(), skb.length().wrapping_sub(NETWORK));
    if !has_token() {
        Maps.count(Stat::EventsLost);
        return;
    }
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        Maps.count(Stat::EventsLost);
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
    let slot = entry.write(event);
    describe(skb, slot);
    entry.submit(0);
}

/// Whom a drop is counted for: the container behind the interface, or the one that was addressed.
#[inline(always)]
fn endpoint_of<const NETWORK: u32>(skb: &Skb<NETWORK>) -> u32 {
    if let Some(endpoint) = Maps.endpoint(skb.interface()) {
        return endpoint.endpoint;
    }
    skb.load::<Ipv4>(NETWORK)
        .and_then(|header| {
            let subnet = Maps.subnet(header.dst)?;
            Maps.neighbour(subnet.network, header.dst)
        })
        .map_or(0, |neighbour| neighbour.endpoint)
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
            event.src = header.src;
            event.dst = header.dst;
        }
        _ => {}
    }
}

/// Takes a token of this CPU's bucket, refilled once for each unit of the coarse clock.
#[inline(always)]
pub fn has_token() -> bool {
    let Some(bucket) = maps::EVENT_TOKENS.get_ptr_mut(0) else { return false };
    let Some(config) = maps::CONFIG.get(0) else { return false };
    // SAFETY: no arguments.
    let now = unsafe { bpf::bpf_ktime_get_coarse_ns() } >> CLOCK_SHIFT;
    // SAFETY: this CPU's own slot, valid until the program ends.
    let [tokens, filled] = unsafe { &mut *bucket };
    if *filled != now {
        *filled = now;
        *tokens = u64::from(config.events_per_second);
    }
    if *tokens == 0 {
        return false;
    }
    *tokens = tokens.wrapping_sub(1);
    true
}
