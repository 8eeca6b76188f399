//! The ABI: the maps of the object as it is built, and the layout of every type in them.
//!
//! What the programs do is in `packet`; that they pass the verifier is in `cargo xtask budget`.

use std::{collections::BTreeMap, mem::offset_of};

use aya_obj::Object;
use bascule::kernel::bpf::OBJECT;
use bascule_common::abi::{
    self, ABI_VERSION, Chosen, Config, Count, Denied, DropKey, Endpoint, EndpointCounters, Event,
    Flow4, Flow6, FlowKey4, FlowKey6, FragmentKey4, FragmentKey6, FragmentPorts, Ip4, Ip6, LinkKey,
    Local, Neighbour, NeighbourKey4, NeighbourKey6, Network, PortSlot, QuestionKey, Record, Rule,
    RuleCounters, ServedKey, SocketKey, SocketOrigin, Stat, Subnet, Timeouts, Traffic, TrustKey,
    Uplink, deny, names, service,
};

// Numbers of <linux/bpf.h>.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_HASH: u32 = 5;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const ARRAY_OF_MAPS: u32 = 12;
const SOCKMAP: u32 = 15;
const RINGBUF: u32 = 27;
const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// Maps that the programs share with nobody, and that no version inherits.
const PRIVATE: [&str; 10] = [
    "ANSWER_TOKENS",
    "OPENED",
    "OPENED4",
    "OPENED6",
    "RECENT4",
    "RECENT6",
    "RESTARTS",
    "SCRATCH4",
    "SCRATCH6",
    "TRACE_TOKENS",
];

/// Type, key size, value size, flags.
type Shape = (u32, usize, usize, u32);

/// Every map with the types that `common::abi` says it holds.
fn shapes() -> BTreeMap<&'static str, Shape> {
    use names::map::*;
    let u32_ = size_of::<u32>();
    let u64_ = size_of::<u64>();
    BTreeMap::from([
        (CONFIG, (ARRAY, u32_, size_of::<Config>(), 0)),
        (ENDPOINTS, (ARRAY, u32_, size_of::<Endpoint>(), MMAPABLE)),
        (ENDPOINTS_HI, (HASH, u32_, size_of::<Endpoint>(), NO_PREALLOC)),
        (NEIGHBOURS4, (HASH, size_of::<NeighbourKey4>(), size_of::<Neighbour>(), NO_PREALLOC)),
        (NETWORKS, (ARRAY, u32_, size_of::<Network>(), MMAPABLE)),
        (GENERATIONS, (ARRAY, u32_, u64_, MMAPABLE)),
        (LOCALS4, (HASH, size_of::<Ip4>(), size_of::<Local>(), NO_PREALLOC)),
        (SUBNETS4, (LPM_TRIE, u32_ + size_of::<Ip4>(), size_of::<Subnet>(), NO_PREALLOC)),
        (UPLINKS, (HASH, u32_, size_of::<Uplink>(), NO_PREALLOC)),
        (LINKS, (HASH, size_of::<LinkKey>(), u64_, NO_PREALLOC)),
        (PORTS, (ARRAY_OF_MAPS, u32_, u32_, 0)),
        (RULES, (ARRAY, u32_, size_of::<Rule>(), MMAPABLE)),
        (FLOWS4, (LRU_HASH, size_of::<FlowKey4>(), size_of::<Flow4>(), 0)),
        (FRAGMENTS4, (LRU_HASH, size_of::<FragmentKey4>(), size_of::<FragmentPorts>(), 0)),
        (FLOWS6, (LRU_HASH, size_of::<FlowKey6>(), size_of::<Flow6>(), 0)),
        (FRAGMENTS6, (LRU_HASH, size_of::<FragmentKey6>(), size_of::<FragmentPorts>(), 0)),
        (NEIGHBOURS6, (HASH, size_of::<NeighbourKey6>(), size_of::<Neighbour>(), NO_PREALLOC)),
        (LOCALS6, (HASH, size_of::<Ip6>(), size_of::<Local>(), NO_PREALLOC)),
        (SUBNETS6, (LPM_TRIE, u32_ + size_of::<Ip6>(), size_of::<Subnet>(), NO_PREALLOC)),
        (SERVED, (LPM_TRIE, u32_ + size_of::<ServedKey>(), u64_, NO_PREALLOC)),
        (BRIDGES, (HASH, u32_, u64_, NO_PREALLOC)),
        (TRUSTED, (HASH, size_of::<TrustKey>(), u64_, NO_PREALLOC)),
        (ENDPOINT_STATS, (PERCPU_ARRAY, u32_, size_of::<EndpointCounters>(), 0)),
        (RULE_STATS, (PERCPU_ARRAY, u32_, size_of::<RuleCounters>(), 0)),
        (DROPS, (PERCPU_HASH, size_of::<DropKey>(), size_of::<Count>(), 0)),
        (STATS, (PERCPU_ARRAY, u32_, u64_, 0)),
        (EVENTS, (RINGBUF, 0, 0, 0)),
        (EVENT_TOKENS, (PERCPU_ARRAY, u32_, 2 * u64_, 0)),
        (SOCKETS, (LRU_HASH, size_of::<SocketKey>(), size_of::<SocketOrigin>(), 0)),
        (PROXIES, (SOCKMAP, u32_, u32_, 0)),
        (COLLECTED, (ARRAY, u32_, 2 * u64_, 0)),
        (DENY4, (LPM_TRIE, u32_ + size_of::<Ip4>(), size_of::<Denied>(), NO_PREALLOC)),
        (DENY6, (LPM_TRIE, u32_ + size_of::<Ip6>(), size_of::<Denied>(), NO_PREALLOC)),
        (DENY_STATS, (PERCPU_ARRAY, u32_, size_of::<Count>(), 0)),
        (DENY_LATE, (ARRAY, u32_, u64_, 0)),
        (TRAFFIC4, (HASH, size_of::<FlowKey4>(), size_of::<Traffic>(), NO_PREALLOC)),
        (TRAFFIC6, (HASH, size_of::<FlowKey6>(), size_of::<Traffic>(), NO_PREALLOC)),
        (CHOSEN, (ARRAY, u32_, size_of::<Chosen>(), 0)),
        (TALLIES, (ARRAY, u32_, u64_, 0)),
        (QUESTIONS, (HASH, size_of::<QuestionKey>(), u64_, NO_PREALLOC)),
    ])
}

fn object() -> Object {
    Object::parse(OBJECT).expect("the embedded object is an object")
}

#[test]
fn the_object_has_the_maps_that_the_abi_names() {
    let object = object();
    let mut built: Vec<&str> = object.maps.keys().map(String::as_str).collect();
    // Read-only data of the programs is a map to the loader, and nobody else's business.
    built.retain(|name| !name.starts_with('.') && !PRIVATE.contains(name));
    built.sort_unstable();
    let mut named = names::map::ALL.to_vec();
    named.sort_unstable();
    // A map that no program refers to yet is left out by the linker, and made by the agent.
    let strangers: Vec<&&str> = built.iter().filter(|name| !named.contains(name)).collect();
    assert!(strangers.is_empty(), "maps without a name in the ABI: {strangers:?}");
    assert_eq!(shapes().into_keys().collect::<Vec<_>>(), named, "shapes of all maps are stated");
    for essential in [
        names::map::ENDPOINTS,
        names::map::FLOWS4,
        names::map::PORTS,
        names::map::RULES,
        names::map::DROPS,
        names::map::EVENTS,
    ] {
        assert!(built.contains(&essential), "no program uses {essential}");
    }
}

#[test]
fn every_map_has_the_types_that_the_abi_says() {
    let object = object();
    for (name, (kind, key, value, flags)) in shapes() {
        let Some(map) = object.maps.get(name) else { continue };
        let built =
            (map.map_type(), map.key_size() as usize, map.value_size() as usize, map.map_flags());
        assert_eq!(built, (kind, key, value, flags), "{name}: type, key, value, flags");
    }
    let tables = &object.maps[names::map::PORTS];
    assert_eq!(tables.max_entries(), service::TABLES);
    let table = tables.inner().expect("an array of maps has an inner map");
    let built = (table.map_type(), table.key_size(), table.value_size() as usize);
    assert_eq!(built, (ARRAY, 4, size_of::<PortSlot>()));
    assert_eq!((table.max_entries(), table.map_flags()), (service::SLOTS, MMAPABLE));
}

#[test]
fn arrays_are_as_long_as_the_indices_that_the_abi_promises() {
    let object = object();
    for (name, length) in [
        (names::map::ENDPOINTS, names::map::ENDPOINTS_LEN),
        (names::map::NETWORKS, names::map::NETWORKS_LEN),
        (names::map::GENERATIONS, names::map::ENDPOINT_INDICES),
        (names::map::ENDPOINT_STATS, names::map::ENDPOINT_INDICES),
        (names::map::RULES, names::map::RULES_LEN),
        (names::map::RULE_STATS, names::map::RULES_LEN),
        (names::map::STATS, Stat::COUNT),
        (names::map::DENY_STATS, deny::SLOTS),
    ] {
        let Some(map) = object.maps.get(name) else { continue };
        assert_eq!(map.max_entries(), length, "{name}");
    }
}

#[test]
fn the_object_has_the_programs_that_the_abi_names() {
    use names::program::*;
    let object = object();
    for name in [
        FROM_CONTAINER,
        TO_CONTAINER,
        FROM_UPLINK,
        TO_UPLINK,
        COLLECT_FLOWS4,
        DENY,
        CONNECT4,
        CONNECT6,
        SENDMSG4,
        SENDMSG6,
        RECVMSG4,
        RECVMSG6,
        GETPEERNAME4,
        GETPEERNAME6,
        TO_PROXY,
    ] {
        assert!(object.programs.contains_key(name), "{name} is missing");
        assert!(name.len() <= 15, "{name} would be cut by the kernel");
    }
    for name in object.programs.keys() {
        assert!(name.len() <= 15, "{name} would be cut by the kernel");
    }
    assert_eq!(object.license.to_bytes(), b"Dual MIT/GPL");
}

/// Name, offset and size of every field, as text.
macro_rules! layout {
    ($($type:ident { $($field:ident),+ $(,)? })+) => {
        [$(
            format!("{} {} {}", stringify!($type), size_of::<$type>(), align_of::<$type>()),
            $(format!("{}.{} {}", stringify!($type), stringify!($field), offset_of!($type, $field)),)+
        )+]
    };
}

/// What the programs of this version and the maps of an older one would have to agree about.
fn everything() -> String {
    let fields = layout! {
        Config { netns_cookie, masquerade_first, masquerade_last, events_per_second, timeouts, accept_mark, accept_mark_mask, half_open }
        Timeouts {
            tcp_opening, tcp_established, tcp_closing, tcp_reset, udp, udp_replied, icmp, other,
        }
        Endpoint {
            ip4, network, endpoint, generation, ifindex, flags, mtu, mac, gateway_mac, ip6, reserved,
        }
        NeighbourKey4 { network, address }
        NeighbourKey6 { network, address }
        TrustKey { network, ifindex }
        ServedKey { endpoint, proto, family, port }
        Neighbour { ifindex, endpoint, generation, flags, mtu, mac, gateway_mac, reserved }
        Network {
            flags, bridge, gateway4, masquerade4, mtu, gateway_mac, pad, gateway6, masquerade6,
        }
        Subnet { network, flags }
        Local { table, flags }
        Uplink { masquerade4, mtu, flags, mac, pad, masquerade6 }
        LinkKey { from, to, port, proto, pad, reserved }
        FlowKey4 { src, dst, src_port, dst_port, proto, pad, zone }
        Flow4 {
            src, dst, src_port, dst_port, action, state, mtu, ifindex, from, from_generation, to,
            to_generation, last_seen, next_hop, rule, dst_mac, src_mac,
        }
        FlowKey6 { src, dst, src_port, dst_port, proto, pad, zone }
        Flow6 {
            src, dst, src_port, dst_port, action, state, mtu, ifindex, from, from_generation, to,
            to_generation, last_seen, next_hop, rule, dst_mac, src_mac,
        }
        FragmentKey4 { src, dst, id, proto, pad }
        FragmentPorts { src_port, dst_port, reserved }
        PortSlot { rule, reserved }
        Rule {
            host_base, container_base, count, proto, flags, network, endpoint, generation, address,
            host, reserved,
        }
        SocketKey { cookie, address, port, pad, reserved }
        SocketOrigin { address, port, pad }
        Count { packets, bytes }
        EndpointCounters { received, sent }
        RuleCounters { received, sent, connections }
        Denied { slot, reserved }
        DropKey { endpoint, reason, direction, pad }
        QuestionKey { network, code, kind, which, server }
        Event {
            time, endpoint, ifindex, length, reason, direction, proto, family, src, dst, src_port,
            dst_port, captured,
        }
        Record { event, frame }
    };
    let maps = shapes().into_iter().map(|(name, shape)| format!("{name} {shape:?}"));
    let flags = format!(
        "{:?}",
        (
            [Endpoint::HAS_LINKS, Endpoint::ALLOW_SPOOF],
            [Network::PRESENT, Network::ICC, Network::INTERNAL, Network::MASQUERADE4],
            [Local::BROADCAST, Local::GATEWAY, Uplink::LAYER3],
            [service::WILDCARD_TABLE, service::ANY_TABLE, service::TABLES, service::SLOTS],
        )
    );
    fields.into_iter().chain(maps).chain([flags]).collect::<Vec<_>>().join("\n")
}

/// FNV-1a: any change shows, and nobody attacks it.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_change_of_layout_takes_a_new_version() {
    /// Of each version, once it is released; until then of the newest alone.
    const PINNED: (u32, u64) = (2, 17429626558900644748);
    let text = everything();
    assert_eq!(
        (ABI_VERSION, fingerprint(&text)),
        PINNED,
        "the layout of the maps changed: an agent of this version would misread the pinned maps of \
         the one before. Once released, raise ABI_VERSION; in any case record the new fingerprint. \
         The layout is now:\n{text}"
    );
}

#[test]
fn numbers_of_drop_reasons_are_never_reused() {
    let reasons = abi::DropReason::ALL;
    for (at, reason) in reasons.iter().enumerate() {
        assert_eq!(*reason as usize, at + 1, "{}", reason.label());
    }
    let mut labels: Vec<&str> = reasons.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels[..3], ["policy_icc", "policy_isolation", "policy_internal"]);
    assert_eq!(labels[27], "agent_not_ready");
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), reasons.len(), "two reasons share a label");
}
