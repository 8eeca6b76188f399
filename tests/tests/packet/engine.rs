//! The kernel's side of a twin: the real programs over real maps, run by `BPF_PROG_TEST_RUN` in a namespace
//! whose interfaces have the indices, addresses and routes of the world.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use bascule::kernel::bpf::{Host, Loaded, Pins, PortKey, Sizes, Table, Wanted, load};
use bascule_common::{
    abi::{DropReason, EndpointCounters, Flow4, FlowKey4, PortSlot, RuleCounters, Stat},
    testing::{
        Walk,
        world::{GATEWAY, GATEWAY2, HOST, ROUTER, UPLINK, World, bridge, mac, veth},
    },
};
use bascule_tests::{netns::Netns, places::Places};
use ipnetwork::Ipv4Network;

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// `TC_ACT_UNSPEC`.
    Pass,
    /// `TC_ACT_REDIRECT`.
    Redirect,
    /// `TC_ACT_SHOT`, for this reason.
    Drop(DropReason),
}

pub struct Engine {
    ns: Netns,
    loaded: Loaded,
    _places: Places,
}

impl Engine {
    pub fn new(world: &World) -> Self {
        bascule_tests::require_root();
        let ns = namespace();
        let places = Places::new();
        let pins = Pins::open(&places.bpffs()).expect("pins");
        let wanted = Wanted {
            connections: Some(1_024),
            counted_rules: Some(4_096),
            event_bytes: Some(1 << 16),
        };
        let sizes = Sizes::new(Host { memory: 1 << 30, cpus: 2 }, wanted);
        let loaded = load(&pins, &sizes).expect("load");
        let engine = Self { ns, loaded, _places: places };
        engine.fill(world);
        engine
    }

    /// Makes the maps what the world's are, apart from those that packets write.
    pub fn fill(&self, world: &World) {
        let (tables, want) = (&self.loaded.tables, &world.tables);
        put(&tables.config, [(0, want.config)]);
        put(&tables.generations, want.generations.iter().map(|(k, v)| (*k, u64::from(*v))));
        put(&tables.networks, clone(&want.networks));
        put(&tables.endpoints, clone(&want.endpoints));
        put(&tables.neighbours4, clone(&want.neighbours));
        put(&tables.locals4, clone(&want.locals));
        put(&tables.uplinks, clone(&want.uplinks));
        put(&tables.links, clone(&want.links));
        put(&tables.rules, clone(&want.rules));
        put(
            &tables.subnets4,
            want.subnets.iter().map(|(prefix, address, subnet)| {
                let network = Ipv4Network::new((*address).into(), *prefix).expect("a subnet");
                (network.into(), *subnet)
            }),
        );
        put(
            &tables.ports,
            want.ports.iter().map(|(&(table, slot), &rule)| {
                (PortKey { table, slot }, PortSlot { rule, reserved: 0 })
            }),
        );
    }

    /// Runs a frame. `arrived_by` is the interface that the kernel remembers it by.
    pub fn run(
        &self,
        walk: Walk,
        interface: u32,
        arrived_by: u32,
        frame: &[u8],
    ) -> (Fate, Vec<u8>) {
        let name = match walk {
            Walk::FromContainer => "from_container",
            Walk::ToContainer => "to_container",
            Walk::FromUplink => "from_uplink",
            Walk::ToUplink => "to_uplink",
        };
        let before = self.drops();
        let program = self.loaded.programs.get(name).expect("a program").fd();
        let (code, bytes) = self
            .ns
            .run(|| test_run(program, interface, arrived_by, frame))
            .unwrap_or_else(|error| panic!("{name} does not run: {error}"));
        let fate = match code as i32 {
            -1 => Fate::Pass,
            7 => Fate::Redirect,
            2 => Fate::Drop(self.reason_since(&before)),
            code => panic!("{name} answered {code}"),
        };
        (fate, bytes)
    }

    fn drops(&self) -> BTreeMap<u8, u64> {
        let mut by_reason = BTreeMap::new();
        for (key, count) in self.loaded.tables.drops.all().expect("drops") {
            *by_reason.entry(key.reason).or_default() += count.packets;
        }
        by_reason
    }

    /// The reason whose count moved, by one, while no other moved.
    fn reason_since(&self, before: &BTreeMap<u8, u64>) -> DropReason {
        let moved: Vec<_> = self
            .drops()
            .into_iter()
            .filter(|(reason, count)| *count != before.get(reason).copied().unwrap_or(0))
            .collect();
        let [(reason, count)] = moved[..] else { panic!("one drop moved {moved:?}") };
        assert_eq!(count, before.get(&reason).copied().unwrap_or(0) + 1, "counted once");
        DropReason::from_number(reason).expect("a known reason")
    }

    pub fn flows(&self) -> BTreeMap<FlowKey4, Flow4> {
        let mut flows = BTreeMap::new();
        self.loaded
            .tables
            .flows4
            .for_each(|key, flow| {
                flows.insert(key, flow);
            })
            .expect("flows");
        flows
    }

    pub fn endpoint(&self, index: u32) -> EndpointCounters {
        self.loaded.tables.endpoint_counters.get(index).expect("a counter").unwrap_or_default()
    }

    pub fn rule(&self, index: u32) -> RuleCounters {
        self.loaded.tables.rule_counters.get(index).expect("a counter").unwrap_or_default()
    }

    pub fn stat(&self, stat: Stat) -> u64 {
        self.loaded.tables.stats.get(stat as u32).expect("a counter").unwrap_or_default()
    }
}

fn clone<K: Copy, V: Copy>(map: &BTreeMap<K, V>) -> impl Iterator<Item = (K, V)> {
    map.iter().map(|(key, value)| (*key, *value))
}

fn put<T: Table>(table: &T, entries: impl IntoIterator<Item = (T::Key, T::Value)>) {
    for (key, value) in entries {
        table.put(&key, &value).unwrap_or_else(|error| panic!("{}: {error}", table.name()));
    }
}

/// Interfaces with the world's indices; the uplink with the host's address, and a way out.
fn namespace() -> Netns {
    let ns = Netns::new("twin");
    let link = |name: &str, index: u32| {
        ns.sh(&format!("ip link add {name} index {index} type veth peer name {name}p"));
        ns.sh(&format!("ip link set {name}p up"));
    };
    for endpoint in 1..=3 {
        link(&format!("e{endpoint}"), veth(endpoint));
        ns.sh(&format!("ip link set e{endpoint} up"));
    }
    link("u0", UPLINK);
    let station: Vec<_> = mac(HOST).iter().map(|byte| format!("{byte:02x}")).collect();
    ns.sh(&format!("ip link set u0 address {} up", station.join(":")));
    ns.sh(&format!("ip addr add {HOST}/24 dev u0"));
    for (network, gateway) in [(1, GATEWAY), (2, GATEWAY2)] {
        ns.sh(&format!("ip link add b{network} index {} type bridge", bridge(network)));
        ns.sh(&format!("ip addr add {gateway}/16 dev b{network}"));
        ns.sh(&format!("ip link set b{network} up"));
    }
    ns.sh(&format!("ip route add default via {ROUTER}"));
    ns.sysctl_set("net/ipv4/ip_forward", "1");
    ns
}

/// Length of `struct __sk_buff` (Linux 6.18; older ones take the zeros at its end).
const CONTEXT: usize = 192;
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;

fn test_run(
    program: BorrowedFd<'_>,
    interface: u32,
    arrived_by: u32,
    frame: &[u8],
) -> io::Result<(u32, Vec<u8>)> {
    /// The part of `union bpf_attr` for `BPF_PROG_TEST_RUN` (linux/bpf.h).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        program: u32,
        code: u32,
        in_size: u32,
        out_size: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_in_size: u32,
        context_out_size: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        pad: u32,
    }
    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    let mut context = [0u8; CONTEXT];
    context[INGRESS_IFINDEX..][..4].copy_from_slice(&arrived_by.to_ne_bytes());
    context[IFINDEX..][..4].copy_from_slice(&interface.to_ne_bytes());
    let mut out = vec![0u8; frame.len() + 64];
    let mut attr = Attr {
        program: program.as_raw_fd() as u32,
        in_size: frame.len() as u32,
        out_size: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        context_in_size: CONTEXT as u32,
        context_in: context.as_ptr() as u64,
        ..Attr::default()
    };
    // SAFETY: every address is of a buffer that outlives the call, with the length beside it.
    let failed = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<Attr>())
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attr.out_size as usize);
    Ok((attr.code, out))
}
