//! The maps of the data plane, read and never written: what a walk enters stays here.

use std::{cell::RefCell, collections::BTreeMap};

use bascule_common::{
    abi::{
        Chosen, Config, Direction, Endpoint, Flow, FlowKey, FragmentKey, FragmentPorts, Ip4, Ip6,
        LinkKey, Local, Neighbour, NeighbourKey, Network, Rule, ServedKey, Stat, Subnet, TrustKey,
        Uplink, service,
    },
    datapath::{
        conntrack::{self, Entries, Touch},
        short::Recent,
    },
    io::{Inserted, Tables},
    memory::Own,
};

use super::notes::{self, Notes, Shown};
use crate::kernel::bpf::{self, BpfError, Prefix};

/// Flows that a walk has entered, or removed (none).
type Entered<A> = RefCell<BTreeMap<FlowKey<A>, Option<Flow<A>>>>;

/// The live maps under what the walks have entered.
#[derive(Debug)]
pub struct Live<'a> {
    maps: &'a bpf::Tables,
    notes: &'a Notes,
    four: Entered<Ip4>,
    six: Entered<Ip6>,
}

impl<'a> Live<'a> {
    /// Nothing entered yet.
    pub fn new(maps: &'a bpf::Tables, notes: &'a Notes) -> Self {
        Self { maps, notes, four: RefCell::default(), six: RefCell::default() }
    }

    /// The slot on the deny list of a source address, if it is there.
    pub fn denied<A: Mapped>(&self, source: A) -> Option<u32> {
        self.notes.read(A::denied(self.maps, source))
    }
}

/// A family with maps of its own.
pub trait Mapped: Shown {
    /// What the walks have entered.
    fn entered<'a>(live: &'a Live<'_>) -> &'a Entered<Self>;
    /// Reads an entry of the flows.
    fn flow(maps: &bpf::Tables, key: &FlowKey<Self>) -> Result<Option<Flow<Self>>, BpfError>;
    /// Reads a neighbour.
    fn neighbour(
        maps: &bpf::Tables,
        key: &NeighbourKey<Self>,
    ) -> Result<Option<Neighbour>, BpfError>;
    /// Reads an address of the host's.
    fn local(maps: &bpf::Tables, address: Self) -> Result<Option<Local>, BpfError>;
    /// Reads the subnet of an address.
    fn subnet(maps: &bpf::Tables, address: Self) -> Result<Option<Subnet>, BpfError>;
    /// Reads the slot of the prefix on the deny list that an address is in.
    fn denied(maps: &bpf::Tables, source: Self) -> Result<Option<u32>, BpfError>;
}

macro_rules! mapped {
    ($family:ty: $overlay:ident, $flows:ident, $neighbours:ident, $locals:ident, $subnets:ident, $deny:ident, $bits:literal) => {
        impl Mapped for $family {
            fn entered<'a>(live: &'a Live<'_>) -> &'a Entered<Self> {
                &live.$overlay
            }

            fn flow(
                maps: &bpf::Tables,
                key: &FlowKey<Self>,
            ) -> Result<Option<Flow<Self>>, BpfError> {
                maps.$flows.get(key)
            }

            fn neighbour(
                maps: &bpf::Tables,
                key: &NeighbourKey<Self>,
            ) -> Result<Option<Neighbour>, BpfError> {
                maps.$neighbours.get(key)
            }

            fn local(maps: &bpf::Tables, address: Self) -> Result<Option<Local>, BpfError> {
                maps.$locals.get(&address)
            }

            fn subnet(maps: &bpf::Tables, address: Self) -> Result<Option<Subnet>, BpfError> {
                maps.$subnets.get(&Prefix { length: $bits, key: address })
            }

            fn denied(maps: &bpf::Tables, source: Self) -> Result<Option<u32>, BpfError> {
                let found = maps.deny.$deny.get(&Prefix { length: $bits, key: source })?;
                Ok(found.map(|denied| denied.slot))
            }
        }
    };
}
mapped!(Ip4: four, flows4, neighbours4, locals4, subnets4, v4, 32);
mapped!(Ip6: six, flows6, neighbours6, locals6, subnets6, v6, 128);

/// The switches of a network that decide about packets.
fn switches(network: &Network) -> String {
    let icc = if network.flags & Network::ICC != 0 { "ICC on" } else { "ICC off" };
    let others = [
        (Network::INTERNAL, "internal"),
        (Network::MASQUERADE4, "masquerades IPv4"),
        (Network::MASQUERADE6, "masquerades IPv6"),
        (Network::UNPROTECTED4, "unprotected in IPv4"),
        (Network::UNPROTECTED6, "unprotected in IPv6"),
        (Network::ROUTED4, "routed in IPv4"),
        (Network::ROUTED6, "routed in IPv6"),
        (Network::HAS_TRUSTED, "trusts some interfaces"),
        (Network::L2_BPF, "has no bridge"),
    ];
    let others = others.iter().filter(|(flag, _)| network.flags & flag != 0);
    std::iter::once(icc).chain(others.map(|(_, word)| *word)).collect::<Vec<_>>().join(", ")
}

impl<A: Mapped> Tables<A> for Live<'_> {
    type Ref<T: Copy + 'static> = Own<T>;
    type Scratch = Own<Entries<A>>;
    type Recent = Own<Recent<A>>;

    fn recent(&self, _place: u32) -> Option<Own<Recent<A>>> {
        // The whole walk alone is run, to which the short way has to come.
        None
    }

    fn watched(&self) -> u32 {
        0
    }

    fn count_traffic(&self, _key: &FlowKey<A>, _packets: u32, _bytes: u32, _flags: u64) {}

    fn chosen(&self, _slot: u32) -> Option<Own<Chosen>> {
        None
    }

    fn scratch(&self) -> Option<Own<Entries<A>>> {
        Some(Own::default())
    }

    fn config(&self) -> Option<Own<Config>> {
        self.notes.read(self.maps.config.get(0)).map(Own)
    }

    fn endpoint(&self, ifindex: u32) -> Option<Own<Endpoint>> {
        let endpoint = self.notes.read(self.maps.endpoints.get(ifindex))?;
        let source = if endpoint.flags & Endpoint::ALLOW_SPOOF != 0 {
            "any address".to_owned()
        } else {
            let own = [(endpoint.ip4.shown()), (endpoint.ip6.shown())];
            let own = own.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string);
            own.collect::<Vec<_>>().join(" and ")
        };
        let who = self.notes.endpoint(endpoint.endpoint);
        let interface = notes::interface(ifindex);
        self.notes.note("endpoint", format!("{interface} is {who}, which may send from {source}"));
        Some(Own(endpoint))
    }

    fn neighbour(&self, network: u32, address: A) -> Option<Own<Neighbour>> {
        let found = self.notes.read(A::neighbour(self.maps, &NeighbourKey { network, address }));
        let what = match &found {
            Some(found) => {
                format!("{} is {}", address.shown(), self.notes.endpoint(found.endpoint))
            }
            None => {
                format!("no container has {} on {}", address.shown(), self.notes.network(network))
            }
        };
        self.notes.note("neighbour", what);
        found.map(Own)
    }

    fn network(&self, index: u32) -> Option<Own<Network>> {
        let network = self.notes.read(self.maps.networks.get(index))?;
        if network.flags & Network::PRESENT == 0 {
            return None;
        }
        let what = format!("{}: {}", self.notes.network(index), switches(&network));
        self.notes.note("network", what);
        Some(Own(network))
    }

    fn generation(&self, endpoint: u32) -> u32 {
        self.notes.read(self.maps.generations.get(endpoint)).unwrap_or(0) as u32
    }

    fn local(&self, address: A) -> Option<Local> {
        let found = self.notes.read(A::local(self.maps, address));
        let is =
            if found.is_some() { "an address of this host" } else { "no address of this host" };
        self.notes.note("local", format!("{} is {is}", address.shown()));
        found
    }

    fn subnet(&self, address: A) -> Option<Subnet> {
        let found = self.notes.read(A::subnet(self.maps, address));
        let what = match found {
            Some(subnet) => format!("of network {}", self.notes.network(subnet.network)),
            None => "of no network".to_owned(),
        };
        self.notes.note("subnet", format!("{} is {what}", address.shown()));
        found
    }

    fn uplink(&self, ifindex: u32) -> Option<Own<Uplink>> {
        let found = self.notes.read(self.maps.uplinks.get(&ifindex));
        let what = if found.is_some() { "an uplink" } else { "no uplink" };
        self.notes.note("uplink", format!("{} is {what}", notes::interface(ifindex)));
        found.map(Own)
    }

    fn linked(&self, key: &LinkKey) -> bool {
        let found = self.notes.read(self.maps.links.get(key)).is_some();
        let what = if found { "a link" } else { "no link" };
        let (from, to) = (self.notes.endpoint(key.from), self.notes.endpoint(key.to));
        let port = format!("{}/{}", key.port.number(), notes::protocol(key.proto));
        self.notes.note("link", format!("{what} opens {port} of {to} to {from}"));
        found
    }

    fn published(&self, table: u32, slot: u32) -> u32 {
        let rule = self.maps.ports.rule(table, slot);
        let proto = if slot < service::SLOTS / 2 { "tcp" } else { "udp" };
        let port = format!("{}/{proto}", slot % (service::SLOTS / 2));
        let what = match rule {
            0 => format!("{port} is not published there"),
            rule => format!("{port} is published by {}", self.notes.rule(rule)),
        };
        self.notes.note("published", what);
        rule
    }

    fn served(&self, key: &ServedKey) -> u32 {
        const WHOLE: u32 = ServedKey::FIXED_BITS + 16;
        let found = self.maps.served.get(&Prefix { length: WHOLE, key: *key });
        let rule = self.notes.read(found).unwrap_or(0) as u32;
        let who = self.notes.endpoint(u32::from_be(key.endpoint));
        let port = format!("{}/{} of {who}", key.port.number(), notes::protocol(key.proto));
        let what = match rule {
            0 => format!("{port} is not published"),
            rule => format!("{port} is published by {}", self.notes.rule(rule)),
        };
        self.notes.note("served", what);
        rule
    }

    fn trusted(&self, key: &TrustKey) -> bool {
        let found = self.notes.read(self.maps.trusted.get(key)).is_some();
        let what = if found { "trusts" } else { "does not trust" };
        let (who, whom) = (self.notes.network(key.network), notes::interface(key.ifindex));
        self.notes.note("trusted", format!("{who} {what} {whom}"));
        found
    }

    fn stands_for(&self, ifindex: u32) -> Option<u32> {
        let index = self.notes.read(self.maps.bridges.get(&ifindex))?;
        let index = u32::try_from(index).ok()?;
        let what =
            format!("{} stands for {}", notes::interface(ifindex), self.notes.network(index));
        self.notes.note("device", what);
        Some(index)
    }

    fn may_answer(&self) -> bool {
        true
    }

    fn rule(&self, index: u32) -> Option<Own<Rule>> {
        self.notes.read(self.maps.rules.get(index)).map(Own)
    }

    fn flow(&self, key: &FlowKey<A>) -> Option<Flow<A>> {
        let entered = A::entered(self).borrow().get(key).copied();
        let ours = matches!(entered, Some(Some(_)));
        let found = entered.unwrap_or_else(|| self.notes.read(A::flow(self.maps, key)));
        let what = match &found {
            Some(flow) => {
                let to = notes::tuple(&conntrack::rewritten(key, flow));
                let which = if ours { "the connection just opened" } else { "a connection" };
                format!("{} is of {which}; it goes on as {to}", notes::tuple(key))
            }
            None => format!("{} is of no connection", notes::tuple(key)),
        };
        self.notes.note("conntrack", what);
        found
    }

    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        let entered = A::entered(self).borrow().get(key).copied();
        let taken = entered.unwrap_or_else(|| self.notes.read(A::flow(self.maps, key)));
        if taken.is_some() {
            self.notes.note("taken", format!("{} is taken", notes::tuple(key)));
            return Inserted::Exists;
        }
        self.replace_flow(key, flow)
    }

    fn replace_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted {
        A::entered(self).borrow_mut().insert(*key, Some(*flow));
        let to = notes::tuple(&conntrack::rewritten(key, flow));
        self.notes.note("opens", format!("{} would go on as {to}", notes::tuple(key)));
        Inserted::Yes
    }

    fn remove_flow(&self, key: &FlowKey<A>) {
        A::entered(self).borrow_mut().insert(*key, None);
    }

    fn touch_flow(&self, key: &FlowKey<A>, peer: &FlowKey<A>, touch: Touch) -> bool {
        let entered = A::entered(self).borrow().get(key).copied();
        let found = entered.unwrap_or_else(|| self.notes.read(A::flow(self.maps, key)));
        let touched = found.and_then(|flow| {
            let (last_seen, state) = touch.of(&flow, peer)?;
            Some(Flow { last_seen, state, ..flow })
        });
        let Some(flow) = touched else { return false };
        A::entered(self).borrow_mut().insert(*key, Some(flow));
        true
    }

    fn fragment(&self, _key: &FragmentKey<A>) -> Option<FragmentPorts> {
        None
    }

    fn remember_fragment(&self, _key: &FragmentKey<A>, _ports: FragmentPorts) {}

    fn count_endpoint(&self, _endpoint: u32, _direction: Direction, _packets: u32, _bytes: u32) {}

    fn count_rule(&self, _rule: u32, _direction: Direction, _packets: u32, _bytes: u32) {}

    fn count_connection(&self, _rule: u32) {}

    fn count(&self, stat: Stat) {
        self.notes.hand_over(stat);
    }
}
