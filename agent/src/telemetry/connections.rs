//! What is tracked, by name.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bascule_common::{
    abi::{Config, Count, Flow, FlowKey, Ip4, Ip6, Port, Traffic, config::CLOCK_SHIFT, state},
    datapath::conntrack,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Names,
    events::proto_name,
    names::{HOST, OUTSIDE},
    seen::{Around as _, is_zero, owner},
    traffic::{Counted, Counts, Pair},
};
use crate::kernel::bpf::{BpfError, Tables};

/// A connection that is tracked: one that is translated, or goes out of its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Connection {
    /// Name or number of the protocol.
    pub proto: String,
    /// Source as it was sent, with its port; of an echo request that is the identifier.
    pub source: String,
    /// Destination as it was sent.
    pub destination: String,
    /// Source after translation.
    pub translated_source: String,
    /// Destination after translation.
    pub translated_destination: String,
    /// `published`, `masqueraded`, both with a blank between, or `routed` where nothing is translated; `local` within
    /// a network or with the host, which is not tracked, and seen while somebody watches.
    pub kind: String,
    /// Container that opened it, or `outside`.
    pub from: String,
    /// Container that it was opened to, or `outside`.
    pub to: String,
    /// Network of the container that it was opened to, else of the one that opened it.
    pub network: String,
    /// `opening`, `open`, `closing` or `reset`; of protocols without handshakes `unanswered` or `open`.
    pub state: String,
    /// Seconds since its last packet, in steps of about one.
    pub idle_seconds: u64,
    /// Idle seconds after which it is forgotten.
    pub timeout_seconds: u64,
    /// What it came by, where that is published: `0.0.0.0:8080`.
    pub published: String,
    /// What its opener sent, where somebody watches connections.
    #[serde(flatten)]
    pub traffic: Both,
}

/// What went both ways of a connection since somebody watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Both {
    /// Packets of its opener; those of segmentation offload count their segments.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent_packets: u64,
    /// Bytes of its opener, from the IP header on.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent_bytes: u64,
    /// Packets that came back.
    #[serde(skip_serializing_if = "is_zero")]
    pub received_packets: u64,
    /// Bytes that came back.
    #[serde(skip_serializing_if = "is_zero")]
    pub received_bytes: u64,
}

impl Both {
    fn new(sent: Count, received: Count) -> Self {
        Self {
            sent_packets: sent.packets,
            sent_bytes: sent.bytes,
            received_packets: received.packets,
            received_bytes: received.bytes,
        }
    }
}

/// Reads every connection that `wanted` says true of; it may take tens of milliseconds.
pub fn connections(
    tables: &Tables,
    names: &Names,
    wanted: impl FnMut(&Connection) -> bool,
) -> Result<Vec<Connection>, BpfError> {
    Reader::new(tables, names)?.tracked(wanted)
}

/// Reads every connection, those that nothing tracks included, for somebody who has them watched. What is over of those
/// is forgotten. Beside them, how many packets there was no room to count.
pub(super) fn watched(tables: &Tables, names: &Names) -> Result<(Vec<Connection>, u64), BpfError> {
    let mut reader = Reader::new(tables, names)?;
    let mut found = reader.tracked(|_| true)?;
    let over4 = reader.local::<Ip4>(&mut found);
    let over6 = reader.local::<Ip6>(&mut found);
    tables.watching.traffic4.remove_many(&over4)?;
    tables.watching.traffic6.remove_many(&over6)?;
    Ok((found, reader.counted.lost))
}

/// Units of the coarse clock in seconds.
fn seconds(units: u32) -> u64 {
    (u64::from(units) << CLOCK_SHIFT) / 1_000_000_000
}

struct Reader<'a> {
    config: Config,
    tables: &'a Tables,
    names: &'a Names,
    counted: Counted,
    /// The coarse monotonic clock, in nanoseconds.
    now: u64,
}

impl<'a> Reader<'a> {
    fn new(tables: &'a Tables, names: &'a Names) -> Result<Self, BpfError> {
        let counted = Counted::read(tables)?;
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
        let now = time.map_or(0, |time| Duration::from(time).as_nanos() as u64);
        let config = tables.config()?.unwrap_or_default();
        Ok(Self { config, tables, names, counted, now })
    }

    /// Every connection that is tracked and `wanted` says true of: there may be a million, and few be wanted.
    fn tracked(
        &mut self,
        mut wanted: impl FnMut(&Connection) -> bool,
    ) -> Result<Vec<Connection>, BpfError> {
        let mut found = Vec::new();
        let mut keep = |connection: Option<Connection>| {
            found.extend(connection.filter(|connection| wanted(connection)));
        };
        self.tables.flows4.for_each(|key, flow| keep(self.connection(&key, &flow)))?;
        self.tables.flows6.for_each(|key, flow| keep(self.connection(&key, &flow)))?;
        Ok(found)
    }

    /// Names an entry; none for that of the answers.
    fn connection<A: Counts>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) -> Option<Connection> {
        if flow.state & state::IS_REPLY != 0 {
            return None;
        }
        let at = |address: A, port: Port| end(key.proto, address.ip(), port);
        let (from, to) = (self.names.endpoints.get(&flow.from), self.names.endpoints.get(&flow.to));
        let network = to.or(from).map(|name| name.network.clone());
        let who = |name: Option<&super::EndpointName>| {
            name.map_or_else(|| OUTSIDE.to_owned(), |name| name.container.clone())
        };
        let led = (key.dst, key.dst_port) != (flow.dst, flow.dst_port);
        let masqueraded = (key.src, key.src_port) != (flow.src, flow.src_port);
        let kind = match (led || flow.rule != 0, masqueraded) {
            (true, true) => "published masqueraded",
            (true, false) => "published",
            (false, true) => "masqueraded",
            (false, false) => "routed",
        };
        let rule = self.names.rules.get(&flow.rule);
        let there = conntrack::rewritten(key, flow);
        let traffic = Both::new(
            self.counted.take([*key, there]),
            self.counted.take([key.reversed(), there.reversed()]),
        );
        let now = (self.now >> CLOCK_SHIFT) as u32;
        Some(Connection {
            proto: proto_name(key.proto),
            source: at(key.src, key.src_port),
            destination: at(key.dst, key.dst_port),
            translated_source: at(flow.src, flow.src_port),
            translated_destination: at(flow.dst, flow.dst_port),
            kind: kind.to_owned(),
            from: who(from),
            to: who(to),
            network: network.unwrap_or_default(),
            state: stage(key.proto, flow.state).to_owned(),
            idle_seconds: seconds(now.saturating_sub(flow.last_seen)),
            timeout_seconds: seconds(conntrack::timeout(&self.config, key.proto, flow.state)),
            published: rule
                .map(|rule| format!("{}:{}", rule.host_ip, rule.host_port))
                .unwrap_or_default(),
            traffic,
        })
    }

    /// Names what was counted and is not tracked: connections within a network, and with the host. Answers which of
    /// the rest is over, or belongs to a connection that is tracked no longer.
    fn local<A: Counts>(&mut self, found: &mut Vec<Connection>) -> Vec<FlowKey<A>> {
        let mut over = Vec::new();
        while let Some(pair) = self.counted.next::<A>() {
            let key = pair.key;
            let (from, to) = (self.owner(key.src), self.owner(key.dst));
            let ours = from != OUTSIDE && to != OUTSIDE && (from != HOST || to != HOST);
            if !ours || pair.idle(self.now) >= pair.timeout(&self.config) {
                over.extend([key, key.reversed()]);
            } else if pair.has_begun() {
                found.push(self.untracked(&pair, from, to));
            }
        }
        over
    }

    fn owner<A: Counts>(&self, address: A) -> String {
        owner(address.ip(), self.names, self.tables)
    }

    fn untracked<A: Counts>(&self, pair: &Pair<A>, from: String, to: String) -> Connection {
        let (key, now) = (pair.key, self.now);
        let at = |address: A, port: Port| end(key.proto, address.ip(), port);
        let (source, destination) = (at(key.src, key.src_port), at(key.dst, key.dst_port));
        let network =
            [key.dst.ip(), key.src.ip()].into_iter().find_map(|ip| self.tables.network(ip));
        let network = network.and_then(|index| self.names.networks.get(&index));
        let count = |way: Traffic| Count { packets: way.packets, bytes: way.bytes };
        Connection {
            proto: proto_name(key.proto),
            translated_source: source.clone(),
            translated_destination: destination.clone(),
            source,
            destination,
            kind: "local".to_owned(),
            from,
            to,
            network: network.map(|name| name.network.clone()).unwrap_or_default(),
            state: stage(key.proto, pair.state()).to_owned(),
            idle_seconds: pair.idle(now).as_secs(),
            timeout_seconds: pair.timeout(&self.config).as_secs(),
            published: String::new(),
            traffic: Both::new(count(pair.sent), count(pair.received)),
        }
    }
}

/// Writes an address, with its port where the protocol has any; of an echo request that is the identifier, which alone
/// tells it from others of the same ends.
pub(super) fn end(proto: u8, ip: IpAddr, port: Port) -> String {
    match proto {
        6 | 17 | 132 => SocketAddr::new(ip, port.number()).to_string(),
        1 | 58 if port != Port(0) => SocketAddr::new(ip, port.number()).to_string(),
        _ => ip.to_string(),
    }
}

/// Returns the word for the state of a connection.
pub(super) fn stage(proto: u8, bits: u8) -> &'static str {
    let closed = state::FIN_ORIGINAL | state::FIN_REPLY;
    match proto {
        6 if bits & state::RESET != 0 => "reset",
        6 if bits & closed != 0 => "closing",
        6 if bits & state::ESTABLISHED != 0 => "open",
        6 => "opening",
        _ if bits & state::REPLIED != 0 => "open",
        _ => "unanswered",
    }
}
