//! The programs in the kernel: loaded once, in a namespace with the interfaces that the maps speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuHashMap,
        PerCpuValues, lpm_trie::Key,
    },
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
    util::nr_cpus,
};
use bascule::kernel::bpf::OBJECT;
use bascule_common::{
    abi::{
        Count, DropKey, EndpointCounters, Flow4, Flow6, FlowKey4, FlowKey6, FragmentKey4,
        FragmentKey6, FragmentPorts, Ip4, Ip6, LinkKey, Local, Neighbour, NeighbourKey4,
        NeighbourKey6, PortSlot, Rule, RuleCounters, ServedKey, Subnet, TrustKey, Uplink,
        names::{map, program},
        service, watch,
    },
    testing::{FramePacket, MemTables, Walk},
};
use bascule_tests::{Netns, topology::veth};

use super::world::{
    CONTAINERS, HOST, NETWORKS, ROUTER, UPLINK, UPLINK_MAC, bridge, interface, six,
};

/// Entries of the maps that packets fill.
pub const FLOWS: u32 = 4096;
/// Tables of ports that tests use.
const TABLES: u32 = 4;

/// The programs, their maps, and the namespace they run in.
pub struct Kernel {
    pub ns: Netns,
    _router: Netns,
    ebpf: Ebpf,
    maps: BTreeMap<&'static str, Map>,
    tables: Vec<Array<MapData, PortSlot>>,
    /// How often the tables were written.
    generation: u64,
}

/// The one set of programs of this process, for one test at a time.
pub fn kernel() -> MutexGuard<'static, Kernel> {
    static KERNEL: LazyLock<Mutex<Kernel>> = LazyLock::new(|| Mutex::new(Kernel::new()));
    KERNEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A namespace in which the interfaces, addresses and routes of a `World` exist.
fn namespace() -> (Netns, Netns) {
    let (ns, router) = (Netns::new("world"), Netns::new("router"));
    ns.sysctl_set("net/ipv4/ip_forward", "1");
    veth(&router, "lan0", &ns, "up0");
    // The index is part of the fixtures.
    ns.sh("ip link del up0");
    ns.sh(&format!(
        "ip link add up0 index {UPLINK} address {} type veth peer name lan0 netns {}",
        UPLINK_MAC.map(|byte| format!("{byte:02x}")).join(":"),
        router.path().display()
    ));
    router.sh("ip link set lan0 up");
    ns.sh("ip link set up0 up");
    ns.sh(&format!("ip addr add {HOST}/24 dev up0"));
    ns.sh(&format!("ip route add default via {ROUTER}"));
    // The same in IPv6, beside each address.
    ns.sysctl_set("net/ipv6/conf/all/forwarding", "1");
    ns.sh(&format!("ip -6 addr add {}/64 dev up0 nodad", six(HOST)));
    ns.sh(&format!("ip -6 route add default via {}", six(ROUTER)));
    for (index, (gateway, _)) in (1..).zip(NETWORKS) {
        ns.sh(&format!("ip link add br{index} index {} type bridge", bridge(index)));
        ns.sh(&format!("ip addr add {gateway}/16 dev br{index}"));
        ns.sh(&format!("ip link set br{index} up"));
        ns.sh(&format!("ip -6 addr add {}/48 dev br{index} nodad", six(gateway)));
    }
    for index in (1..).take(CONTAINERS.len()) {
        // Any Ethernet device does: nothing is really sent.
        ns.sh(&format!("ip link add c{index} index {} type bridge", interface(index)));
        ns.sh(&format!("ip link set c{index} up"));
    }
    (ns, router)
}

impl Kernel {
    fn new() -> Self {
        bascule_tests::require_root();
        let (ns, router) = namespace();
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::FLOWS4, FLOWS)
            .map_max_entries(map::FRAGMENTS4, 1024)
            .map_max_entries(map::FLOWS6, FLOWS)
            .map_max_entries(map::FRAGMENTS6, 1024)
            .load(OBJECT)
            .expect("load the object");
        for (name, program) in ebpf.programs_mut() {
            if let Ok(program) = <&mut SchedClassifier>::try_from(program) {
                program.load().unwrap_or_else(|error| panic!("load {name}: {error}"));
            }
        }
        let maps = map::ALL.into_iter().filter_map(|name| Some((name, ebpf.take_map(name)?)));
        let mut kernel = Self {
            ns,
            _router: router,
            maps: maps.collect(),
            ebpf,
            tables: Vec::new(),
            generation: 0,
        };
        let mut outer: ArrayOfMaps<_, Array<MapData, PortSlot>> =
            kernel.map(map::PORTS).try_into().expect("PORTS");
        let flags = 1 << 10; // BPF_F_MMAPABLE, as the template has it.
        let mut tables = Vec::new();
        for index in 0..TABLES {
            let table = Array::create(service::SLOTS, flags).expect("a table of ports");
            outer.set(index, &table, 0).expect("a slot for it");
            tables.push(table);
        }
        kernel.tables = tables;
        kernel
    }

    fn map(&mut self, name: &str) -> &mut Map {
        self.maps.get_mut(name).unwrap_or_else(|| panic!("the object has no map {name}"))
    }

    fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        self.map(name).try_into().expect("an array")
    }

    fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        self.map(name).try_into().expect("a hash")
    }

    /// Makes a hash hold these entries alone.
    fn fill<K: Pod + Ord, V: Pod>(
        &mut self,
        name: &str,
        entries: impl IntoIterator<Item = (K, V)>,
    ) {
        let mut hash = self.hash::<K, V>(name);
        let old: Vec<K> = hash.keys().flatten().collect();
        for key in old {
            hash.remove(&key).ok();
        }
        for (key, value) in entries {
            hash.insert(key, value, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// Writes the slots of an array up to `length`, empty ones too.
    fn slots<V: Pod>(
        &mut self,
        name: &str,
        indices: impl IntoIterator<Item = u32>,
        mut value: impl FnMut(u32) -> V,
    ) {
        let mut array = self.array::<V>(name);
        for index in indices {
            array.set(index, value(index), 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// Makes the maps hold what the host's tables hold, and all counters zero.
    pub fn load(&mut self, tables: &MemTables) {
        self.slots(map::CONFIG, [0], |_| tables.config);
        self.slots(map::NETWORKS, 0..16, |i| tables.networks.get(&i).copied().unwrap_or_default());
        self.slots(map::ENDPOINTS, interface(0)..interface(16), |i| {
            tables.endpoints.get(&i).copied().unwrap_or_default()
        });
        self.slots(map::GENERATIONS, 1..16, |i| {
            u64::from(tables.generations.get(&i).copied().unwrap_or_default())
        });
        self.slots(map::RULES, 0..16, |i| tables.rules.get(&i).copied().unwrap_or_default());
        self.fill::<NeighbourKey4, Neighbour>(map::NEIGHBOURS4, tables.four.neighbours.clone());
        self.fill::<Ip4, Local>(map::LOCALS4, tables.four.locals.clone());
        self.fill::<NeighbourKey6, Neighbour>(map::NEIGHBOURS6, tables.six.neighbours.clone());
        self.fill::<Ip6, Local>(map::LOCALS6, tables.six.locals.clone());
        self.fill::<FlowKey6, Flow6>(map::FLOWS6, tables.six.flows.borrow().clone());
        self.fill::<FragmentKey6, FragmentPorts>(
            map::FRAGMENTS6,
            tables.six.fragments.borrow().clone(),
        );
        self.fill::<TrustKey, u64>(map::TRUSTED, tables.trusted.clone());
        self.fill::<u32, u64>(map::BRIDGES, tables.bridges.clone());
        self.fill::<u32, Uplink>(map::UPLINKS, tables.uplinks.clone());
        self.fill::<LinkKey, u64>(map::LINKS, tables.links.clone());
        self.fill::<FlowKey4, Flow4>(map::FLOWS4, tables.four.flows.borrow().clone());
        self.fill::<FragmentKey4, FragmentPorts>(
            map::FRAGMENTS4,
            tables.four.fragments.borrow().clone(),
        );
        self.prefixes::<Ip4, Subnet>(map::SUBNETS4, &tables.four.subnets);
        self.prefixes::<Ip6, Subnet>(map::SUBNETS6, &tables.six.subnets);
        let served: Vec<_> = tables.served.iter().map(|(k, v)| (64, *k, u64::from(*v))).collect();
        self.prefixes::<ServedKey, u64>(map::SERVED, &served);
        self.ports(tables);
        self.zero_counters();
        self.changed();
    }

    /// Raises the generation of the tables, as the agent does after it wrote one.
    pub fn changed(&mut self) {
        self.generation = (self.generation | u64::from(watch::ALL)) + 1;
        self.set_generation();
    }

    /// The same as before it writes one.
    pub fn changes(&mut self) {
        self.generation |= u64::from(watch::CHANGING);
        self.set_generation();
    }

    /// Says that somebody watches connections.
    pub fn watched(&mut self) {
        self.generation |= u64::from(watch::CONNECTIONS);
        self.set_generation();
    }

    fn set_generation(&mut self) {
        let generation = self.generation;
        self.slots(map::GENERATIONS, [map::TABLES_GENERATION], |_| generation);
    }

    /// Removes every flow, and does not say so.
    pub fn lose_flows(&mut self) {
        self.fill::<FlowKey4, Flow4>(map::FLOWS4, []);
        self.fill::<FlowKey6, Flow6>(map::FLOWS6, []);
    }

    /// Makes a trie hold these prefixes alone.
    fn prefixes<K: Pod, V: Pod>(&mut self, name: &str, entries: &[(u8, K, V)]) {
        let mut trie: LpmTrie<_, K, V> = self.map(name).try_into().expect("a trie");
        let old: Vec<Key<K>> = trie.keys().flatten().collect();
        for key in old {
            trie.remove(&key).ok();
        }
        for (length, key, value) in entries {
            trie.insert(&Key::new(u32::from(*length), *key), value, 0).expect("a prefix");
        }
    }

    fn ports(&mut self, tables: &MemTables) {
        // What earlier worlds wrote is forgotten by writing every slot they may have used.
        static USED: Mutex<BTreeSet<(u32, u32)>> = Mutex::new(BTreeSet::new());
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        used.extend(tables.ports.keys());
        for (table, slot) in used.iter() {
            let rule = tables.ports.get(&(*table, *slot)).copied().unwrap_or(0);
            let index = usize::try_from(*table).expect("an index");
            self.tables[index].set(*slot, PortSlot { rule, reserved: 0 }, 0).expect("a slot");
        }
    }

    fn zero_counters(&mut self) {
        self.zero::<EndpointCounters>(map::ENDPOINT_STATS, 16);
        self.zero::<RuleCounters>(map::RULE_STATS, 16);
        self.zero::<u64>(map::STATS, bascule_common::abi::Stat::COUNT);
        let mut drops: PerCpuHashMap<_, DropKey, Count> =
            self.map(map::DROPS).try_into().expect("DROPS");
        let old: Vec<DropKey> = drops.keys().flatten().collect();
        for key in old {
            drops.remove(&key).ok();
        }
    }

    fn zero<V: Pod + Default>(&mut self, name: &str, length: u32) {
        let cpus = nr_cpus().expect("CPUs");
        let mut array: PerCpuArray<_, V> = self.map(name).try_into().expect("a per-CPU array");
        for index in 0..length {
            let values = PerCpuValues::try_from(vec![V::default(); cpus]).expect("values");
            array.set(index, values, 0).expect("a counter");
        }
    }

    /// All entries of a hash.
    pub fn entries<K: Pod + Ord, V: Pod>(&mut self, name: &str) -> BTreeMap<K, V> {
        self.hash::<K, V>(name).iter().flatten().collect()
    }

    /// The first slots of a per-CPU array, summed.
    pub fn counters<V: Pod>(&mut self, name: &str, length: u32, add: fn(V, V) -> V) -> Vec<V> {
        let array: PerCpuArray<_, V> = self.map(name).try_into().expect("a per-CPU array");
        let sum = |index| {
            let values = array.get(&index, 0).expect("a counter");
            values.iter().copied().reduce(add).expect("at least one CPU")
        };
        (0..length).map(sum).collect()
    }

    /// Drops by reason, of all endpoints and both directions.
    pub fn drops(&mut self) -> BTreeMap<(u32, u8), u64> {
        let drops: PerCpuHashMap<_, DropKey, Count> =
            self.map(map::DROPS).try_into().expect("DROPS");
        let mut totals = BTreeMap::new();
        for (key, counts) in drops.iter().flatten() {
            let packets: u64 = counts.iter().map(|count| count.packets).sum();
            *totals.entry((key.endpoint, key.reason)).or_insert(0) += packets;
        }
        totals
    }

    /// Publishes a port of the host by a rule, in a table.
    pub fn publish(&mut self, table: u32, slot: u32, index: u32, rule: Rule) {
        self.array::<Rule>(map::RULES).set(index, rule, 0).expect("a rule");
        self.tables[table as usize]
            .set(slot, PortSlot { rule: index, reserved: 0 }, 0)
            .expect("a slot");
    }

    /// Runs a program over one frame again and again: its last return value, and nanoseconds a run.
    pub fn time(&mut self, walk: Walk, packet: &FramePacket, repeat: u32) -> (i32, u64) {
        let context = context(packet);
        let (ns, program) = self.program(walk);
        let result = ns.run(|| {
            program.test_run(TestRunOptions {
                data_in: Some(&packet.bytes),
                ctx_in: Some(&context),
                repeat,
                ..TestRunOptions::new()
            })
        });
        let result = result.unwrap_or_else(|error| panic!("test run of {walk:?}: {error:?}"));
        let nanoseconds = u64::try_from(result.duration.as_nanos()).expect("a short time");
        (result.return_value.cast_signed(), nanoseconds)
    }

    /// The namespace, and the program of a walk.
    fn program(&mut self, walk: Walk) -> (&Netns, &mut SchedClassifier) {
        let name = match walk {
            Walk::FromContainer => program::FROM_CONTAINER,
            Walk::ToContainer => program::TO_CONTAINER,
            Walk::FromUplink => program::FROM_UPLINK,
            Walk::ToUplink => program::TO_UPLINK,
            Walk::ToBridge => program::TO_BRIDGE,
            Walk::FromNames => program::FROM_NAMES,
        };
        let program = self
            .ebpf
            .program_mut(name)
            .unwrap_or_else(|| panic!("the object has no program {name}"))
            .try_into()
            .expect("a classifier");
        (&self.ns, program)
    }

    /// Runs a program over a frame: its return value and what became of the frame.
    pub fn run(&mut self, walk: Walk, packet: &FramePacket) -> (i32, Vec<u8>) {
        let context = context(packet);
        let mut out = vec![0; packet.bytes.len() + 64];
        let (ns, program) = self.program(walk);
        let result = ns.run(|| {
            program.test_run(TestRunOptions {
                data_in: Some(&packet.bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::new()
            })
        });
        let result = result.unwrap_or_else(|error| panic!("test run of {walk:?}: {error:?}"));
        out.truncate(usize::try_from(result.data_size_out).expect("a length"));
        (result.return_value.cast_signed(), out)
    }
}

/// A `struct __sk_buff` with what a test run may set.
fn context(packet: &FramePacket) -> [u8; 192] {
    let mut context = [0; 192];
    let mut set = |offset: usize, value: u32| {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    };
    set(8, packet.mark);
    set(36, packet.arrived_by);
    set(40, packet.interface);
    if packet.segment_size != 0 {
        set(164, packet.segments);
        set(176, packet.segment_size);
    }
    context
}
