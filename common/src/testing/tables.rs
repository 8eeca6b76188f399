//! Maps in B-trees, with a capacity for those that packets fill.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
};

use crate::{
    abi::{
        Chosen, Config, Direction, Endpoint, EndpointCounters, Flow, FlowKey, FragmentKey,
        FragmentPorts, Ip4, Ip6, LinkKey, Local, Neighbour, NeighbourKey, Network, Rule,
        RuleCounters, ServedKey, Stat, Subnet, Traffic, TrustKey, Uplink,
    },
    datapath::{
        Family,
        conntrack::{Entries, Touch},
        short::Recent,
    },
    io::{Inserted, Tables},
    memory::Own,
};

/// The maps of one family.
#[derive(Clone, Debug)]
pub struct Half<A> {
    /// `NEIGHBOURS4` or `NEIGHBOURS6`.
    pub neighbours: BTreeMap<NeighbourKey<A>, Neighbour>,
    /// `LOCALS4` or `LOCALS6`.
    pub locals: BTreeMap<A, Local>,
    /// `SUBNETS4` or `SUBNETS6`: prefix length and address.
    pub subnets: Vec<(u8, A, Subnet)>,
    /// `FLOWS4` or `FLOWS6`.
    pub flows: RefCell<BTreeMap<FlowKey<A>, Flow<A>>>,
    /// `OPENED4` or `OPENED6`: the oldest first.
    pub opened: RefCell<VecDeque<FlowKey<A>>>,
    /// `FRAGMENTS4` or `FRAGMENTS6`.
    pub fragments: RefCell<BTreeMap<FragmentKey<A>, FragmentPorts>>,
    /// `TRAFFIC4` or `TRAFFIC6`.
    pub traffic: RefCell<BTreeMap<FlowKey<A>, Traffic>>,
}

impl<A> Default for Half<A> {
    fn default() -> Self {
        Self {
            neighbours: BTreeMap::new(),
            locals: BTreeMap::new(),
            subnets: Vec::new(),
            flows: RefCell::new(BTreeMap::new()),
            opened: RefCell::new(VecDeque::new()),
            fragments: RefCell::new(BTreeMap::new()),
            traffic: RefCell::new(BTreeMap::new()),
        }
    }
}

/// A family whose maps [`MemTables`] has.
pub trait Stored: Family {
    /// Its maps.
    fn half(tables: &MemTables) -> &Half<Self>;
}

impl Stored for Ip4 {
    fn half(tables: &MemTables) -> &Half<Self> {
        &tables.four
    }
}

impl Stored for Ip6 {
    fn half(tables: &MemTables) -> &Half<Self> {
        &tables.six
    }
}

/// The maps. What the agent writes is plain data; what packets write is behind cells, as in the kernel.
#[derive(Clone, Debug)]
pub struct MemTables {
    /// `CONFIG`.
    pub config: Config,
    /// `ENDPOINTS` and `ENDPOINTS_HI`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `NETWORKS`.
    pub networks: BTreeMap<u32, Network>,
    /// `GENERATIONS`.
    pub generations: BTreeMap<u32, u32>,
    /// `CHOSEN`.
    pub chosen: Vec<Chosen>,
    /// `UPLINKS`.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// `LINKS`.
    pub links: BTreeMap<LinkKey, u64>,
    /// `PORTS`: rule by table and slot.
    pub ports: BTreeMap<(u32, u32), u32>,
    /// `RULES`.
    pub rules: BTreeMap<u32, Rule>,
    /// `SERVED`, a port an entry.
    pub served: BTreeMap<ServedKey, u32>,
    /// `TRUSTED`.
    pub trusted: BTreeMap<TrustKey, u64>,
    /// `BRIDGES`.
    pub bridges: BTreeMap<u32, u64>,
    /// What is particular to IPv4.
    pub four: Half<Ip4>,
    /// What is particular to IPv6.
    pub six: Half<Ip6>,
    /// ICMP errors that may still be sent.
    pub answers: Cell<u32>,
    /// Entries that `flows` holds at most; a full table refuses.
    pub flow_capacity: usize,
    /// `ENDPOINT_STATS`.
    pub endpoint_stats: RefCell<BTreeMap<u32, EndpointCounters>>,
    /// `RULE_STATS`.
    pub rule_stats: RefCell<BTreeMap<u32, RuleCounters>>,
    /// `STATS`.
    pub stats: RefCell<BTreeMap<Stat, u64>>,
    /// Flow look-ups so far.
    pub flow_lookups: Cell<u64>,
}

impl Default for MemTables {
    fn default() -> Self {
        Self {
            config: Config::default(),
            endpoints: BTreeMap::new(),
            networks: BTreeMap::new(),
            generations: BTreeMap::new(),
            chosen: Vec::new(),
            uplinks: BTreeMap::new(),
            links: BTreeMap::new(),
            ports: BTreeMap::new(),
            rules: BTreeMap::new(),
            served: BTreeMap::new(),
            trusted: BTreeMap::new(),
            bridges: BTreeMap::new(),
            four: Half::default(),
            six: Half::default(),
            answers: Cell::new(1_000),
            flow_capacity: 262_144,
            endpoint_stats: RefCell::default(),
            rule_stats: RefCell::default(),
            stats: RefCell::default(),
            flow_lookups: Cell::new(0),
        }
    }
}

impl<A: Stored> Tables<A> for MemTables {
    type Ref<T: Copy + 'static> = Own<T>;
    type Scratch = Own<Entries<A>>;
    type Recent = Own<Recent<A>>;

    fn recent(&self, _place: u32) -> Option<Own<Recent<A>>> {
        // The whole walk alone is run, to which the short way has to come.
        None
    }

    fn scratch(&self) -> Option<Own<Entries<A>>> {
        Some(Own::default())
    }

    fn config(&self) -> Option<Own<Config>> {
        Some(Own(self.config))
    }

    fn endpoint(&self, ifindex: u32) -> Option<Own<Endpoint>> {
        self.endpoints.get(&ifindex).copied().map(Own)
    }

    fn neighbour(&self, network: u32, address: A) -> Option<Own<Neighbour>> {
        A::half(self).neighbours.get(&NeighbourKey { network, address }).copied().map(Own)
    }

    fn network(&self, index: u32) -> Option<Own<Network>> {
        self.networks.get(&index).copied().map(Own)
    }

    fn generation(&self, endpoint: u32) -> u32 {
        self.generations.get(&endpoint).copied().unwrap_or(0)
    }

    fn local(&self, address: A) -> Option<Local> {
        A::half(self).locals.get(&address).copied()
    }

    fn subnet(&self, address: A) -> Option<Subnet> {
        let number = |address: A| {
            let [a, b, c, d] = address.to_any().0.map(u32::from_be).map(u128::from);
            (a << 96 | b << 64 | c << 32 | d) >> if A::BITS == 32 { 96 } else { 0 }
        };
        A::half(self)
            .subnets
            .iter()
            .filter(|(prefix, net, _)| {
                let host = A::BITS - u32::from(*prefix);
                number(address).checked_shr(host) == number(*net).checked_shr(host)
            })
            .max_by_key(|(prefix, ..)| *prefix)
            .map(|(.., subnet)| *subnet)
    }

    fn uplink(&self, ifindex: u32) -> Option<Own<Uplink>> {
        self.uplinks.get(&ifindex).copied().map(Own)
    }

    fn linked(&self, key: &LinkKey) -> bool {
        self.links.contains_key(key)
    }

    fn published(&self, table: u32, slot: u32) -> u32 {
        self.ports.get(&(table, slot)).copied().unwrap_or(0)
    }

    fn served(&self, key: &ServedKey) -> u32 {
        self.served.get(key).copied().unwrap_or(0)
    }

    fn trusted(&self, key: &TrustKey) -> bool {
        self.trusted.contains_key(key)
    }

    fn stands_for(&self, ifindex: u32) -> Option<u32> {
        self.bridges.get(&ifindex).map(|index| *index as u32)
    }

    fn may_answer(&self) -> bool {
        let left = self.answers.get();
        self.answers.set(left.saturating_sub(1));
        left != 0
    }

    fn rule(&self, index: u32) -> Option<Own<Rule>> {
        self.rules.get(&index).copied().map(Own)
    }

    fn flow(&self, key: &FlowKey<A>) -> Option<Flow<A>> {
        self.flow_lookups.set(self.flow_lookups.get() + 1);
        A::half(self).flows.borrow().get(key).copied()
    }

    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        if A::half(self).flows.borrow().contains_key(key) {
            return Inserted::Exists;
        }
        self.replace_flow(key, flow)
    }

    fn replace_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        let mut flows = A::half(self).flows.borrow_mut();
        if flows.len() >= self.flow_capacity && !flows.contains_key(key) {
            return Inserted::Full;
        }
        flows.insert(*key, *flow);
        Inserted::Yes
    }

    fn remember_opened(&self, key: &FlowKey<A>, places: u32, former: &mut FlowKey<A>) -> bool {
        let mut opened = A::half(self).opened.borrow_mut();
        opened.push_back(*key);
        if opened.len() <= places as usize {
            return false;
        }
        opened.pop_front().is_some_and(|oldest| {
            *former = oldest;
            true
        })
    }

    fn remove_flow(&self, key: &FlowKey<A>) {
        A::half(self).flows.borrow_mut().remove(key);
    }

    fn touch_flow(&self, key: &FlowKey<A>, peer: &FlowKey<A>, touch: Touch) -> bool {
        let mut flows = A::half(self).flows.borrow_mut();
        let Some(flow) = flows.get_mut(key) else { return false };
        let Some((last_seen, state)) = touch.of(flow, peer) else { return false };
        (flow.last_seen, flow.state) = (last_seen, state);
        true
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        A::half(self).fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey<A>, ports: FragmentPorts) {
        A::half(self).fragments.borrow_mut().insert(*key, ports);
    }

    fn count_traffic(&self, key: &FlowKey<A>, packets: u32, bytes: u32, flags: u64) {
        let mut all = A::half(self).traffic.borrow_mut();
        let traffic = all.entry(*key).or_default();
        traffic.packets += u64::from(packets);
        traffic.bytes += u64::from(bytes);
        traffic.flags |= flags;
    }

    fn chosen(&self, slot: u32) -> Option<Own<Chosen>> {
        self.chosen.get(slot as usize).copied().map(Own)
    }

    fn count_endpoint(&self, endpoint: u32, direction: Direction, packets: u32, bytes: u32) {
        let mut stats = self.endpoint_stats.borrow_mut();
        let counters = stats.entry(endpoint).or_default();
        let count = match direction {
            Direction::In => &mut counters.received,
            Direction::Out => &mut counters.sent,
        };
        count.packets += u64::from(packets);
        count.bytes += u64::from(bytes);
    }

    fn count_rule(&self, rule: u32, direction: Direction, packets: u32, bytes: u32) {
        let mut stats = self.rule_stats.borrow_mut();
        let counters = stats.entry(rule).or_default();
        let count = match direction {
            Direction::In => &mut counters.received,
            Direction::Out => &mut counters.sent,
        };
        count.packets += u64::from(packets);
        count.bytes += u64::from(bytes);
    }

    fn count_connection(&self, rule: u32) {
        self.rule_stats.borrow_mut().entry(rule).or_default().connections += 1;
    }

    fn count(&self, stat: Stat) {
        *self.stats.borrow_mut().entry(stat).or_default() += 1;
    }
}
