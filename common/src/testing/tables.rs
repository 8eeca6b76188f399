//! Maps in B-trees, with a capacity for those that packets fill.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use crate::{
    abi::{
        Config, Direction, Endpoint, EndpointCounters, Flow4, FlowKey4, FragmentKey4,
        FragmentPorts, Ip4, LinkKey, Local, Neighbour, NeighbourKey4, Network, Rule, RuleCounters,
        Stat, Subnet, Uplink,
    },
    datapath::conntrack::Entries,
    io::{Inserted, Tables},
};

/// The maps. What the agent writes is plain data; what packets write is behind cells, as in the kernel.
#[derive(Clone, Debug)]
pub struct MemTables {
    /// `CONFIG`.
    pub config: Config,
    /// `ENDPOINTS` and `ENDPOINTS_HI`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `NEIGHBOURS4`.
    pub neighbours: BTreeMap<NeighbourKey4, Neighbour>,
    /// `NETWORKS`.
    pub networks: BTreeMap<u32, Network>,
    /// `GENERATIONS`.
    pub generations: BTreeMap<u32, u32>,
    /// `LOCALS4`.
    pub locals: BTreeMap<Ip4, Local>,
    /// `SUBNETS4`: prefix length and address.
    pub subnets: Vec<(u8, Ip4, Subnet)>,
    /// `UPLINKS`.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// `LINKS`.
    pub links: BTreeMap<LinkKey, u64>,
    /// `PORTS`: rule by table and slot.
    pub ports: BTreeMap<(u32, u32), u32>,
    /// `RULES`.
    pub rules: BTreeMap<u32, Rule>,
    /// `FLOWS4`.
    pub flows: RefCell<BTreeMap<FlowKey4, Flow4>>,
    /// Entries that `flows` holds at most; a full table refuses.
    pub flow_capacity: usize,
    /// `FRAGMENTS4`.
    pub fragments: RefCell<BTreeMap<FragmentKey4, FragmentPorts>>,
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
            neighbours: BTreeMap::new(),
            networks: BTreeMap::new(),
            generations: BTreeMap::new(),
            locals: BTreeMap::new(),
            subnets: Vec::new(),
            uplinks: BTreeMap::new(),
            links: BTreeMap::new(),
            ports: BTreeMap::new(),
            rules: BTreeMap::new(),
            flows: RefCell::default(),
            flow_capacity: 262_144,
            fragments: RefCell::default(),
            endpoint_stats: RefCell::default(),
            rule_stats: RefCell::default(),
            stats: RefCell::default(),
            flow_lookups: Cell::new(0),
        }
    }
}

/// A value by itself, where the kernel has one in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<T>(T);

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Own<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Tables for MemTables {
    type Ref<T: Copy + 'static> = Own<T>;
    type Scratch = Own<Entries>;

    fn scratch(&self) -> Option<Own<Entries>> {
        Some(Own::default())
    }

    fn config(&self) -> Option<Own<Config>> {
        Some(Own(self.config))
    }

    fn endpoint(&self, ifindex: u32) -> Option<Own<Endpoint>> {
        self.endpoints.get(&ifindex).copied().map(Own)
    }

    fn neighbour(&self, network: u32, ip4: Ip4) -> Option<Own<Neighbour>> {
        self.neighbours.get(&NeighbourKey4 { network, address: ip4 }).copied().map(Own)
    }

    fn network(&self, index: u32) -> Option<Own<Network>> {
        self.networks.get(&index).copied().map(Own)
    }

    fn generation(&self, endpoint: u32) -> u32 {
        self.generations.get(&endpoint).copied().unwrap_or(0)
    }

    fn local(&self, ip4: Ip4) -> Option<Local> {
        self.locals.get(&ip4).copied()
    }

    fn subnet(&self, ip4: Ip4) -> Option<Subnet> {
        let address = u32::from_be(ip4.0);
        self.subnets
            .iter()
            .filter(|(prefix, net, _)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                address & mask == u32::from_be(net.0) & mask
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

    fn rule(&self, index: u32) -> Option<Own<Rule>> {
        self.rules.get(&index).copied().map(Own)
    }

    fn flow(&self, key: &FlowKey4) -> Option<Flow4> {
        self.flow_lookups.set(self.flow_lookups.get() + 1);
        self.flows.borrow().get(key).copied()
    }

    fn insert_flow(&self, key: &FlowKey4, flow: &Flow4) -> Inserted {
        if self.flows.borrow().contains_key(key) {
            return Inserted::Exists;
        }
        self.replace_flow(key, flow)
    }

    fn replace_flow(&self, key: &FlowKey4, flow: &Flow4) -> Inserted {
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= self.flow_capacity && !flows.contains_key(key) {
            return Inserted::Full;
        }
        flows.insert(*key, *flow);
        Inserted::Yes
    }

    fn remove_flow(&self, key: &FlowKey4) {
        self.flows.borrow_mut().remove(key);
    }

    fn touch_flow(&self, key: &FlowKey4, now: u32, clear: u8, set: u8) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            flow.last_seen = now;
            flow.state = (flow.state & !clear) | set;
        }
    }

    fn fragment(&self, key: &FragmentKey4) -> Option<FragmentPorts> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey4, ports: FragmentPorts) {
        self.fragments.borrow_mut().insert(*key, ports);
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
