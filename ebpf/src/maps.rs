//! Every map, on one screen. The agent sizes those marked so from the host's memory when it loads them.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{
        Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
        SockMap,
    },
    macros::btf_map,
};
use bascule_common::abi::{
    Chosen, Config, Count, Denied, DropKey, Endpoint, EndpointCounters, Flow4, Flow6, FlowKey,
    FlowKey4, FlowKey6, FragmentKey4, FragmentKey6, FragmentPorts, Ip4, Ip6, LinkKey, Local,
    Neighbour, NeighbourKey4, NeighbourKey6, Network, PortSlot, Record, Rule, RuleCounters,
    ServedKey, SocketKey, SocketOrigin, Stat, Subnet, Traffic, TrustKey, Uplink, deny, names::map,
    service,
};
use bascule_common::datapath::{conntrack::Entries, short};

// Written by the agent alone, and grown as needed: not allocated beforehand.
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;
// The agent reads and writes these through mappings of its own: a pass compares all of them, and
// publishing 10,000 ports is a loop of stores.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static ENDPOINTS: Array<Endpoint, { map::ENDPOINTS_LEN as usize }, MAPPED> = Array::new();
#[btf_map]
pub static ENDPOINTS_HI: HashMap<u32, Endpoint, 65_536, SPARSE> = HashMap::new();
#[btf_map]
pub static NEIGHBOURS4: HashMap<NeighbourKey4, Neighbour, 131_072, SPARSE> = HashMap::new();
#[btf_map]
pub static NEIGHBOURS6: HashMap<NeighbourKey6, Neighbour, 131_072, SPARSE> = HashMap::new();
#[btf_map]
pub static NETWORKS: Array<Network, { map::NETWORKS_LEN as usize }, MAPPED> = Array::new();
#[btf_map]
pub static GENERATIONS: Array<u64, { map::ENDPOINT_INDICES as usize }, MAPPED> = Array::new();
#[btf_map]
pub static LOCALS4: HashMap<Ip4, Local, 16_384, SPARSE> = HashMap::new();
#[btf_map]
pub static SUBNETS4: LpmTrie<Ip4, Subnet, 8_192> = LpmTrie::new();
#[btf_map]
pub static LOCALS6: HashMap<Ip6, Local, 16_384, SPARSE> = HashMap::new();
#[btf_map]
pub static SUBNETS6: LpmTrie<Ip6, Subnet, 8_192> = LpmTrie::new();
#[btf_map]
pub static SERVED: LpmTrie<ServedKey, u64, 262_144> = LpmTrie::new();
#[btf_map]
pub static TRUSTED: HashMap<TrustKey, u64, 4_096, SPARSE> = HashMap::new();
#[btf_map]
pub static BRIDGES: HashMap<u32, u64, { map::NETWORKS_LEN as usize }, SPARSE> = HashMap::new();
#[btf_map]
pub static UPLINKS: HashMap<u32, Uplink, 4_096, SPARSE> = HashMap::new();
#[btf_map]
pub static LINKS: HashMap<LinkKey, u64, 65_536, SPARSE> = HashMap::new();
#[btf_map]
pub static PORTS: ArrayOfMaps<
    Array<PortSlot, { service::SLOTS as usize }, MAPPED>,
    { service::TABLES as usize },
> = ArrayOfMaps::new();
#[btf_map]
pub static RULES: Array<Rule, { map::RULES_LEN as usize }, MAPPED> = Array::new();

// Sized by the agent: two entries a flow. LRU, because a plain hash fills while the agent is away.
#[btf_map]
pub static FLOWS4: LruHashMap<FlowKey4, Flow4, 262_144> = LruHashMap::new();
#[btf_map]
pub static FLOWS6: LruHashMap<FlowKey6, Flow6, 131_072> = LruHashMap::new();
/// Flows that were opened last, for as many as may be half open, and how many were.
pub type Opened<A> = Array<FlowKey<A>, { Config::HALF_OPEN as usize }>;
#[btf_map]
pub static OPENED4: Opened<Ip4> = Opened::new();
#[btf_map]
pub static OPENED6: Opened<Ip6> = Opened::new();
#[btf_map]
pub static OPENED: Array<[u64; 2], 1> = Array::new();
#[btf_map]
pub static FRAGMENTS4: LruHashMap<FragmentKey4, FragmentPorts, 8_192> = LruHashMap::new();
#[btf_map]
pub static FRAGMENTS6: LruHashMap<FragmentKey6, FragmentPorts, 8_192> = LruHashMap::new();

#[btf_map]
pub static ENDPOINT_STATS: PerCpuArray<EndpointCounters, { map::ENDPOINT_INDICES as usize }> =
    PerCpuArray::new();
// Sized by the agent.
#[btf_map]
pub static RULE_STATS: PerCpuArray<RuleCounters, { map::RULES_LEN as usize }> = PerCpuArray::new();
// Sized by the agent. Allocated beforehand: several first drops in one softirq would find nothing to allocate.
#[btf_map]
pub static DROPS: PerCpuHashMap<DropKey, Count, 65_536> = PerCpuHashMap::new();
#[btf_map]
pub static STATS: PerCpuArray<u64, { Stat::COUNT as usize }> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<Record, { 1 << 20 }> = RingBuf::new();
/// Tokens left, and the coarse time of the last refill.
pub type Tokens = PerCpuArray<[u64; 2], 1>;
#[btf_map]
pub static EVENT_TOKENS: Tokens = Tokens::new();
/// Limits packets that are traced. Nobody else's business, as the next one.
#[btf_map]
pub static TRACE_TOKENS: Tokens = Tokens::new();
/// Limits the ICMP errors that the programs make. Nobody else's business: it has no pin.
#[btf_map]
pub static ANSWER_TOKENS: Tokens = Tokens::new();
/// Flows seen and removed by the last collection.
#[btf_map]
pub static COLLECTED: Array<[u64; 2], 1> = Array::new();
/// Room for the two entries of a flow while it is opened.
#[btf_map]
pub static SCRATCH4: PerCpuArray<Entries<Ip4>, 1> = PerCpuArray::new();
#[btf_map]
pub static SCRATCH6: PerCpuArray<Entries<Ip6>, 1> = PerCpuArray::new();
/// What was judged a moment ago.
#[btf_map]
pub static RECENT4: PerCpuArray<short::Recent<Ip4>, { short::SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
pub static RECENT6: PerCpuArray<short::Recent<Ip6>, { short::SLOTS as usize }> = PerCpuArray::new();

/// How often flows of a slot of those began anew, for all CPUs.
#[btf_map]
pub static RESTARTS: Array<u32, { short::SLOTS as usize }> = Array::new();

// The deny list: written by the agent alone, so that no peer can grow it.
#[btf_map]
pub static DENY4: LpmTrie<Ip4, Denied, { deny::SLOTS as usize }> = LpmTrie::new();
#[btf_map]
pub static DENY6: LpmTrie<Ip6, Denied, { deny::SLOTS as usize }> = LpmTrie::new();
#[btf_map]
pub static DENY_STATS: PerCpuArray<Count, { deny::SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
pub static DENY_LATE: Array<u64, 1> = Array::new();

// Filled while somebody watches, and emptied by the agent: memory is taken for what is there.
#[btf_map]
pub static TRAFFIC4: HashMap<FlowKey4, Traffic, 65_536, SPARSE> = HashMap::new();
#[btf_map]
pub static TRAFFIC6: HashMap<FlowKey6, Traffic, 65_536, SPARSE> = HashMap::new();
#[btf_map]
pub static CHOSEN: Array<Chosen, { Chosen::SLOTS as usize }> = Array::new();

/// What processes of the host asked for, by what they got. Sized by the agent; LRU, because sockets that close
/// say no word.
#[btf_map]
pub static SOCKETS: LruHashMap<SocketKey, SocketOrigin, 65_536> = LruHashMap::new();
/// The proxy's sockets.
#[btf_map]
pub static PROXIES: SockMap<{ map::PROXIES_LEN as usize }> = SockMap::new();
