//! What is tracked, by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bascule_common::{
    abi::{Address, Config, Flow, FlowKey, Port, config::CLOCK_SHIFT, state},
    datapath::conntrack,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Names, events::proto_name, names::OUTSIDE};
use crate::kernel::bpf::{BpfError, Tables};

/// A connection that is tracked: one that is translated, or goes out of its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Connection {
    /// Name or number of the protocol.
    pub proto: String,
    /// Source as it was sent.
    pub source: String,
    /// Destination as it was sent.
    pub destination: String,
    /// Source after translation.
    pub translated_source: String,
    /// Destination after translation.
    pub translated_destination: String,
    /// `published`, `masqueraded`, both with a blank between, or `routed` where nothing is translated.
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
}

/// Reads every connection that `wanted` says true of; it may take tens of milliseconds.
pub fn connections(
    tables: &Tables,
    names: &Names,
    mut wanted: impl FnMut(&Connection) -> bool,
) -> Result<Vec<Connection>, BpfError> {
    let reader = Reader { config: tables.config()?.unwrap_or_default(), names, now: now() };
    let mut found = Vec::new();
    let mut keep = |connection: Option<Connection>| {
        found.extend(connection.filter(|connection| wanted(connection)));
    };
    tables.flows4.for_each(|key, flow| {
        keep(reader.connection(&key, &flow, |ip| Ipv4Addr::from(ip).into()));
    })?;
    tables.flows6.for_each(|key, flow| {
        keep(reader.connection(&key, &flow, |ip| Ipv6Addr::from(ip).into()));
    })?;
    Ok(found)
}

/// The coarse clock of the flows.
fn now() -> u32 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    time.map_or(0, |time| (std::time::Duration::from(time).as_nanos() >> CLOCK_SHIFT) as u32)
}

/// Units of the coarse clock in seconds.
fn seconds(units: u32) -> u64 {
    (u64::from(units) << CLOCK_SHIFT) / 1_000_000_000
}

struct Reader<'a> {
    config: Config,
    names: &'a Names,
    now: u32,
}

impl Reader<'_> {
    /// Names an entry; none for that of the answers.
    fn connection<A: Address>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        ip: impl Fn(A) -> IpAddr,
    ) -> Option<Connection> {
        if flow.state & state::IS_REPLY != 0 {
            return None;
        }
        let at = |address: A, port: Port| end(key.proto, ip(address), port);
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
            idle_seconds: seconds(self.now.saturating_sub(flow.last_seen)),
            timeout_seconds: seconds(conntrack::timeout(&self.config, key.proto, flow.state)),
            published: rule
                .map(|rule| format!("{}:{}", rule.host_ip, rule.host_port))
                .unwrap_or_default(),
        })
    }
}

/// Writes an address, with its port where the protocol has any; of echo requests it is the identifier.
pub(super) fn end(proto: u8, ip: IpAddr, port: Port) -> String {
    match proto {
        6 | 17 | 132 => SocketAddr::new(ip, port.number()).to_string(),
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
