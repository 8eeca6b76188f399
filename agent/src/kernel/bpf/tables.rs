//! Every map of the data plane, typed. Reads and writes; what belongs in them is computed elsewhere.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::Pod;
use bascule_common::abi::{
    Address, Config, Count, Denied, DropKey, Endpoint, EndpointCounters, Flow, FlowKey, Ip4, Ip6,
    LinkKey, Local, Neighbour, NeighbourKey4, NeighbourKey6, Network, Rule, RuleCounters,
    ServedKey, Stat, Subnet, TrustKey, Uplink, names::map, service,
};
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{
    BpfError,
    bpffs::Pins,
    error::pin,
    layout::Geometry,
    map::{CounterHash, CounterSlots, Hash, Slots, Table},
    ports::Ports,
    sys::{self, Kind},
    tallies::Tallies,
    watching::Watching,
};

/// Key of `SUBNETS4` and `SUBNETS6`: a prefix as the kernel's tries want it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<K> {
    /// Bits that count.
    pub length: u32,
    /// The address, or whatever has prefixes.
    pub key: K,
}
/// Key of `SUBNETS4` and `DENY4`.
pub type Prefix4 = Prefix<Ip4>;
/// Key of `SUBNETS6` and `DENY6`.
pub type Prefix6 = Prefix<Ip6>;
/// Key of `SERVED`.
pub type ServedPrefix = Prefix<ServedKey>;
// SAFETY: repr(C), two fields of 4 bytes, no padding: any bytes are a value.
unsafe impl Pod for Prefix4 {}
// SAFETY: repr(C), five fields of 4 bytes, no padding: any bytes are a value.
unsafe impl Pod for Prefix6 {}
// SAFETY: repr(C), a field of 4 bytes and 8 bytes without padding: any bytes are a value.
unsafe impl Pod for ServedPrefix {}

impl From<Ipv4Network> for Prefix4 {
    fn from(network: Ipv4Network) -> Self {
        Self { length: network.prefix().into(), key: network.network().into() }
    }
}

impl From<Prefix4> for Ipv4Network {
    /// A length that no prefix has counts as the longest.
    fn from(prefix: Prefix4) -> Self {
        let address = Ipv4Addr::from(prefix.key);
        let length = u8::try_from(prefix.length).unwrap_or(32).min(32);
        Self::new(address, length).unwrap_or_else(|_| Self::from(address))
    }
}

impl From<Ipv6Network> for Prefix6 {
    fn from(network: Ipv6Network) -> Self {
        Self { length: network.prefix().into(), key: network.network().into() }
    }
}

impl From<Prefix6> for Ipv6Network {
    /// A length that no prefix has counts as the longest.
    fn from(prefix: Prefix6) -> Self {
        let address = Ipv6Addr::from(prefix.key);
        let length = u8::try_from(prefix.length).unwrap_or(128).min(128);
        Self::new(address, length).unwrap_or_else(|_| Self::from(address))
    }
}

/// The deny list.
#[derive(Debug)]
pub struct Denials {
    /// IPv4 prefixes.
    pub v4: Hash<Prefix4, Denied>,
    /// IPv6 prefixes.
    pub v6: Hash<Prefix6, Denied>,
    /// Slot 0: 1 where `from_uplink` has to ask.
    pub late: Slots<u64>,
    counters: CounterSlots<Count>,
}

impl Denials {
    fn open(fd: impl Fn(&'static str) -> Result<OwnedFd, BpfError>) -> Result<Self, BpfError> {
        Ok(Self {
            v4: Hash::new(map::DENY4, fd(map::DENY4)?)?,
            v6: Hash::new(map::DENY6, fd(map::DENY6)?)?,
            late: Slots::new(map::DENY_LATE, fd(map::DENY_LATE)?)?,
            counters: CounterSlots::new(map::DENY_STATS, fd(map::DENY_STATS)?)?,
        })
    }

    /// Reads what was dropped for the prefix with this slot.
    pub fn count(&self, slot: u32) -> Result<Count, BpfError> {
        Ok(self.counters.get(slot)?.unwrap_or_default())
    }

    /// Sets the counters of a slot to zero: it has a new owner.
    pub fn reset(&self, slot: u32) -> Result<(), BpfError> {
        self.counters.reset(slot)
    }
}

/// The endpoints by interface index: an array for the low ones, a hash for the rest.
#[derive(Debug)]
pub struct Endpoints {
    low: Slots<Endpoint>,
    high: Hash<u32, Endpoint>,
}

impl Endpoints {
    /// Reads the endpoint behind an interface.
    pub fn get(&self, ifindex: u32) -> Result<Option<Endpoint>, BpfError> {
        let found = if ifindex < map::ENDPOINTS_LEN {
            self.low.get(ifindex)?
        } else {
            self.high.get(&ifindex)?
        };
        Ok(found.filter(|endpoint| endpoint.endpoint != 0))
    }
}

impl Table for Endpoints {
    type Key = u32;
    type Value = Endpoint;

    fn all(&self) -> Result<BTreeMap<u32, Endpoint>, BpfError> {
        let mut all = self.low.all()?;
        all.append(&mut self.high.all()?);
        Ok(all)
    }

    fn put(&self, ifindex: &u32, endpoint: &Endpoint) -> Result<(), BpfError> {
        if *ifindex < map::ENDPOINTS_LEN {
            self.low.put(ifindex, endpoint)
        } else {
            self.high.put(ifindex, endpoint)
        }
    }

    fn remove(&self, ifindex: &u32) -> Result<bool, BpfError> {
        if *ifindex < map::ENDPOINTS_LEN {
            self.low.remove(ifindex)
        } else {
            self.high.remove(ifindex)
        }
    }

    fn name(&self) -> &'static str {
        map::ENDPOINTS
    }
}

/// The tracked connections of a family; the data plane makes them, and the agent may end them.
#[derive(Debug)]
pub struct Flows<A> {
    map: Hash<FlowKey<A>, Flow<A>>,
}

impl<A: Address> Flows<A>
where
    FlowKey<A>: Pod + Ord,
    Flow<A>: Pod,
{
    /// Entries that the table has room for.
    pub fn capacity(&self) -> u32 {
        self.map.geometry().max_entries
    }

    /// Counts the entries, by reading them all: tens of milliseconds where there are many.
    pub fn count(&self) -> Result<usize, BpfError> {
        let mut count = 0;
        self.map.for_each(|_, _| count += 1)?;
        Ok(count)
    }

    /// Calls `each` with every entry.
    pub fn for_each(&self, each: impl FnMut(FlowKey<A>, Flow<A>)) -> Result<(), BpfError> {
        self.map.for_each(each)
    }

    /// Reads one entry.
    pub fn get(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>, BpfError> {
        self.map.get(key)
    }

    /// Writes an entry: for tests and for handing over connections.
    pub fn put(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), BpfError> {
        self.map.put(key, flow)
    }

    /// Removes every entry that `ends` says true of; returns how many.
    pub fn remove_where(
        &self,
        mut ends: impl FnMut(&FlowKey<A>, &Flow<A>) -> bool,
    ) -> Result<usize, BpfError> {
        let mut keys = Vec::new();
        self.map.for_each(|key, flow| {
            if ends(&key, &flow) {
                keys.push(key);
            }
        })?;
        self.map.remove_many(&keys)
    }

    /// Removes every entry of a published rule; returns how many.
    pub fn remove_of_rule(&self, rule: u32) -> Result<usize, BpfError> {
        self.remove_where(|_, flow| flow.rule == rule)
    }

    /// Removes every entry from or to an endpoint; returns how many.
    pub fn remove_of_endpoint(&self, endpoint: u32) -> Result<usize, BpfError> {
        self.remove_where(|_, flow| flow.from == endpoint || flow.to == endpoint)
    }
}

/// Every map.
#[derive(Debug)]
pub struct Tables {
    /// Slot 0 of `CONFIG`.
    pub config: Slots<Config>,
    /// Endpoints by interface index.
    pub endpoints: Endpoints,
    /// Where the addresses of a network live.
    pub neighbours4: Hash<NeighbourKey4, Neighbour>,
    /// The same for IPv6.
    pub neighbours6: Hash<NeighbourKey6, Neighbour>,
    /// Networks by index.
    pub networks: Slots<Network>,
    /// Generations by endpoint index.
    pub generations: Slots<u64>,
    /// Addresses of the host.
    pub locals4: Hash<Ip4, Local>,
    /// The same for IPv6.
    pub locals6: Hash<Ip6, Local>,
    /// Subnets of ours.
    pub subnets4: Hash<Prefix4, Subnet>,
    /// The same for IPv6.
    pub subnets6: Hash<Prefix6, Subnet>,
    /// Interfaces that may address containers directly.
    pub trusted: Hash<TrustKey, u64>,
    /// `BRIDGES`.
    pub bridges: Hash<u32, u64>,
    /// Uplinks by interface index.
    pub uplinks: Hash<u32, Uplink>,
    /// Link rules.
    pub links: Hash<LinkKey, u64>,
    /// Published ports.
    pub ports: Ports,
    /// Published rules by index.
    pub rules: Slots<Rule>,
    /// Which rule publishes a container's port.
    pub served: Hash<ServedPrefix, u64>,
    /// Tracked connections.
    pub flows4: Flows<Ip4>,
    /// The same for IPv6.
    pub flows6: Flows<Ip6>,
    /// Traffic by endpoint index.
    pub endpoint_counters: CounterSlots<EndpointCounters>,
    /// Traffic by rule index.
    pub rule_counters: CounterSlots<RuleCounters>,
    /// Drops by endpoint, reason and direction.
    pub drops: CounterHash<DropKey, Count>,
    /// Who watches.
    pub watching: Watching,
    /// Counters of the whole, by [`bascule_common::abi::Stat`].
    pub stats: CounterSlots<u64>,
    /// The deny list.
    pub deny: Denials,
    /// What the agent counts of its own doing, by [`bascule_common::abi::Tally`].
    pub tallies: Tallies,
    collected: Slots<[u64; 2]>,
    events: OwnedFd,
}

impl Tables {
    /// Opens every map from its pin.
    pub fn open(pins: &Pins) -> Result<Self, BpfError> {
        let fd = |name: &'static str| {
            let path = pins.map(name);
            sys::object_get(&path, Kind::Map).map_err(pin("open the map pinned at", &path))
        };
        Ok(Self {
            config: Slots::new(map::CONFIG, fd(map::CONFIG)?)?,
            endpoints: Endpoints {
                low: Slots::new(map::ENDPOINTS, fd(map::ENDPOINTS)?)?,
                high: Hash::new(map::ENDPOINTS_HI, fd(map::ENDPOINTS_HI)?)?,
            },
            neighbours4: Hash::new(map::NEIGHBOURS4, fd(map::NEIGHBOURS4)?)?,
            neighbours6: Hash::new(map::NEIGHBOURS6, fd(map::NEIGHBOURS6)?)?,
            networks: Slots::new(map::NETWORKS, fd(map::NETWORKS)?)?,
            generations: Slots::new(map::GENERATIONS, fd(map::GENERATIONS)?)?,
            locals4: Hash::new(map::LOCALS4, fd(map::LOCALS4)?)?,
            locals6: Hash::new(map::LOCALS6, fd(map::LOCALS6)?)?,
            subnets4: Hash::new(map::SUBNETS4, fd(map::SUBNETS4)?)?,
            subnets6: Hash::new(map::SUBNETS6, fd(map::SUBNETS6)?)?,
            trusted: Hash::new(map::TRUSTED, fd(map::TRUSTED)?)?,
            bridges: Hash::new(map::BRIDGES, fd(map::BRIDGES)?)?,
            uplinks: Hash::new(map::UPLINKS, fd(map::UPLINKS)?)?,
            links: Hash::new(map::LINKS, fd(map::LINKS)?)?,
            ports: Ports::new(fd(map::PORTS)?)?,
            rules: Slots::new(map::RULES, fd(map::RULES)?)?,
            served: Hash::new(map::SERVED, fd(map::SERVED)?)?,
            flows4: Flows { map: Hash::new(map::FLOWS4, fd(map::FLOWS4)?)? },
            flows6: Flows { map: Hash::new(map::FLOWS6, fd(map::FLOWS6)?)? },
            endpoint_counters: CounterSlots::new(map::ENDPOINT_STATS, fd(map::ENDPOINT_STATS)?)?,
            rule_counters: CounterSlots::new(map::RULE_STATS, fd(map::RULE_STATS)?)?,
            drops: CounterHash::new(map::DROPS, fd(map::DROPS)?)?,
            stats: CounterSlots::new(map::STATS, fd(map::STATS)?)?,
            watching: Watching::open(fd)?,
            deny: Denials::open(fd)?,
            tallies: Tallies::new(fd(map::TALLIES)?, fd(map::QUESTIONS)?)?,
            collected: Slots::new(map::COLLECTED, fd(map::COLLECTED)?)?,
            events: fd(map::EVENTS)?,
        })
    }

    /// Changes tables. What packets found before counts no longer from the beginning on, whatever becomes of this
    /// process: what they find meanwhile they keep when it has ended alone, for which the next agent sees, too.
    pub fn change<T, E: From<BpfError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.watching.changing(true)?;
        let done = work();
        self.watching.changing(false)?;
        done
    }

    /// Replaces the switches of the data plane.
    pub fn put_config(&self, config: &Config) -> Result<(), BpfError> {
        self.config.put(&0, config)
    }

    /// The switches as the data plane has them; none before the first time they are written.
    pub fn config(&self) -> Result<Option<Config>, BpfError> {
        Ok(self.config.all()?.get(&0).copied())
    }

    /// Makes everything that carries this endpoint index and an older generation void, at once.
    pub fn set_generation(&self, endpoint: u32, generation: u64) -> Result<(), BpfError> {
        self.generations.put(&endpoint, &generation)
    }

    /// Sets the counters of an endpoint index to zero: it has a new owner.
    pub fn reset_endpoint_counters(&self, endpoint: u32) -> Result<(), BpfError> {
        self.endpoint_counters.reset(endpoint)?;
        self.tallies.retire(&self.drops, endpoint)
    }

    /// Sets the counters of a rule index to zero: it has a new owner.
    pub fn reset_rule_counters(&self, rule: u32) -> Result<(), BpfError> {
        self.rule_counters.reset(rule)
    }

    /// Forgets what was counted on a network with this index: it has a new owner.
    pub fn reset_network_counters(&self, network: u32) -> Result<(), BpfError> {
        self.tallies.forget_questions(network)
    }

    /// Entries seen and removed by the last collection.
    pub fn collected(&self) -> Result<[u64; 2], BpfError> {
        Ok(self.collected.get(0)?.unwrap_or_default())
    }

    /// Entries that the programs made in the tables of connections, ever.
    pub fn entered(&self) -> Result<u64, BpfError> {
        [Stat::FlowsOpened, Stat::FlowsAdopted]
            .into_iter()
            .try_fold(0, |sum, stat| Ok(sum + self.stats.get(stat as u32)?.unwrap_or_default()))
    }

    /// The ring of events.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// How full the maps are that can fill up: entries in use and capacity, by map. The flows are not among them:
    /// counting them reads the whole table. Nor are those that are always full, since what is old makes room (fragments,
    /// sockets), and those whose indices are given by the control side (rules, networks, endpoints), which knows them.
    pub fn pressure(&self) -> Result<BTreeMap<&'static str, (usize, u32)>, BpfError> {
        fn of<K: Pod + Ord, V: Pod>(
            name: &'static str,
            map: &Hash<K, V>,
        ) -> Result<(&'static str, (usize, u32)), BpfError> {
            let mut count = 0;
            map.for_each(|_, _| count += 1)?;
            Ok((name, (count, map.geometry().max_entries)))
        }
        Ok(BTreeMap::from([
            of(map::ENDPOINTS_HI, &self.endpoints.high)?,
            of(map::NEIGHBOURS4, &self.neighbours4)?,
            of(map::NEIGHBOURS6, &self.neighbours6)?,
            of(map::LOCALS4, &self.locals4)?,
            of(map::LOCALS6, &self.locals6)?,
            of(map::SUBNETS4, &self.subnets4)?,
            of(map::SUBNETS6, &self.subnets6)?,
            of(map::SERVED, &self.served)?,
            of(map::TRUSTED, &self.trusted)?,
            of(map::BRIDGES, &self.bridges)?,
            of(map::UPLINKS, &self.uplinks)?,
            of(map::LINKS, &self.links)?,
            of(map::QUESTIONS, &self.tallies.questions)?,
            (map::PORTS, (self.ports.tables().len(), service::TABLES)),
            of(map::DENY4, &self.deny.v4)?,
            of(map::DENY6, &self.deny.v6)?,
            (map::DROPS, (self.drops.all()?.len(), self.drops.geometry().max_entries)),
        ]))
    }

    /// Geometry of the table of connections.
    pub fn flows_geometry(&self) -> Geometry {
        self.flows4.map.geometry()
    }
}
