//! What is seen on the network, as people and programs read it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bascule_common::abi::{Direction, DropReason, Record, event};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    connections::{Both, Connection, end},
    events::{proto_name, wall_time},
    names::{HOST, Names, OUTSIDE},
    origin::End,
};
use crate::kernel::bpf::{Prefix4, Prefix6, Tables};

/// Something that was seen. What does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Seen {
    /// When, in RFC 3339.
    pub time: String,
    /// `drop`, `open`, `close`, `lifecycle`, `dns`, `trace`, or `lost` for what could not be told.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `dropped`, or `allowed` for a connection that was opened and a packet that went on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// Why it was dropped, as in metrics.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason in a sentence; of `lifecycle`, what happened; of `trace`, where the packet went.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub explanation: String,
    /// Network of the container that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// The container that a drop is counted for, whose packet was seen, or that something happened to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// `in` or `out`, seen from the container, or from the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub direction: String,
    /// Interface that a packet was seen at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Name or number of the protocol.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proto: String,
    /// Who sent: a container, `host` or `outside`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// To whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Source address, with its port where there is one; of echo requests that is the identifier.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Destination address, with its port where there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// What the source was translated to, where it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub translated_source: String,
    /// What the destination was translated to, where it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub translated_destination: String,
    /// What a connection came by, where that is published: `0.0.0.0:8080`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub published: String,
    /// Of `close`: when the connection was seen to open; not there where it was before anybody watched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub opened: String,
    /// Of `close`: `closed`, `reset`, or `idle` for what was forgotten.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub end: String,
    /// Of `dns`: the name that was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Of `dns`: what of it, as `A`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query_type: String,
    /// Of `dns`: the answer's code, as `NOERROR`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Of `dns`: `local` for what the agent knows, `cache` for what it was told before, `upstream` for another server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answered_by: String,
    /// Of `dns`: the first sixteen records of the answer: addresses and names, and the types of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Of `dns`: how long another server took.
    #[serde(skip_serializing_if = "is_zero")]
    pub microseconds: u64,
    /// What went both ways of a connection; of `close`, all of it.
    #[serde(flatten)]
    pub traffic: Both,
    /// Length of a frame, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub length: u64,
    /// Of `lost`: how many.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// The beginning of a frame, in hexadecimal digits, where it was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub frame: String,
    /// Whether that begins with the IP header, as on lines without Ethernet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(super) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The host around the data plane.
pub trait Around {
    /// Returns an interface's name.
    fn interface(&self, index: u32) -> Option<String>;
    /// Tells whether an address is the host's own.
    fn is_host(&self, address: IpAddr) -> bool;
    /// Returns the index of the network that an address belongs to.
    fn network(&self, address: IpAddr) -> Option<u32>;
}

impl Around for Tables {
    fn interface(&self, index: u32) -> Option<String> {
        nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
    }

    fn is_host(&self, address: IpAddr) -> bool {
        // What cannot be read is not known to be.
        match address {
            IpAddr::V4(ip) => self.locals4.get(&ip.into()).is_ok_and(|local| local.is_some()),
            IpAddr::V6(ip) => self.locals6.get(&ip.into()).is_ok_and(|local| local.is_some()),
        }
    }

    fn network(&self, address: IpAddr) -> Option<u32> {
        let found = match address {
            IpAddr::V4(ip) => self.subnets4.get(&Prefix4 { length: 32, key: ip.into() }),
            IpAddr::V6(ip) => self.subnets6.get(&Prefix6 { length: 128, key: ip.into() }),
        };
        found.ok().flatten().map(|subnet| subnet.network)
    }
}

impl Seen {
    /// Names a packet, of what is told about the host; `now` is the same moment by both clocks, the monotonic one in
    /// nanoseconds.
    pub fn packet(
        record: &Record,
        names: &Names,
        around: &impl Around,
        now: (Timestamp, u64),
    ) -> Self {
        let event = &record.event;
        let (kind, verdict, reason, explanation) = fate(event.reason);
        let of_endpoint = names.endpoints.get(&event.endpoint);
        let interface = around.interface(event.ifindex);
        // What goes on from there has its Ethernet header by then.
        let is_raw = |name: &String| {
            kind == "drop"
                && names.programs.iter().any(|p| p.iface == *name && p.program.ends_with("_l3"))
        };
        let (src, dst) = (address(event.family, event.src), address(event.family, event.dst));
        let end = |ip: Option<IpAddr>, port| ip.map(|ip| end(event.proto, ip, port));
        let whose = |ip: Option<IpAddr>| ip.map(|ip| owner(ip, names, around));
        let captured = (event.captured as usize).min(event::SNAP);
        Self {
            time: wall_time(event.time, now).to_string(),
            kind: kind.to_owned(),
            verdict: verdict.to_owned(),
            reason: reason.to_owned(),
            explanation: explanation.to_owned(),
            network: of_endpoint.map(|name| name.network.clone()).unwrap_or_default(),
            container: of_endpoint.map(|name| name.container.clone()).unwrap_or_default(),
            direction: Direction::from_number(event.direction)
                .map_or("unknown", Direction::label)
                .to_owned(),
            raw: interface.as_ref().is_some_and(is_raw),
            interface: interface.unwrap_or_else(|| format!("if{}", event.ifindex)),
            proto: if event.family == 0 { String::new() } else { proto_name(event.proto) },
            from: whose(src).unwrap_or_default(),
            to: whose(dst).unwrap_or_default(),
            source: end(src, event.src_port).unwrap_or_default(),
            destination: end(dst, event.dst_port).unwrap_or_default(),
            length: event.length.into(),
            frame: record.frame.iter().take(captured).map(|byte| format!("{byte:02x}")).collect(),
            ..Self::default()
        }
    }

    /// Says what a packet that goes on was before it was translated, of the connection that it belongs to.
    pub(super) fn before(
        mut self,
        (source, destination): (End, End),
        names: &Names,
        around: &impl Around,
    ) -> Self {
        for (end, who, now, translated) in [
            (source, &mut self.from, &mut self.source, &mut self.translated_source),
            (destination, &mut self.to, &mut self.destination, &mut self.translated_destination),
        ] {
            let (ip, written) = end;
            if *now == written {
                continue;
            }
            *translated = std::mem::replace(now, written);
            // A published port is the container's.
            if *who == HOST {
                *who = owner(ip, names, around);
            }
        }
        self
    }

    /// Tells of a connection that was seen to open; without a time, it was there already.
    pub fn opened(connection: &Connection, at: Option<Timestamp>) -> Self {
        let changed = |before: &str, after: &str| match before == after {
            true => String::new(),
            false => after.to_owned(),
        };
        Self {
            time: at.map(|at| at.to_string()).unwrap_or_default(),
            kind: "open".to_owned(),
            verdict: "allowed".to_owned(),
            network: connection.network.clone(),
            proto: connection.proto.clone(),
            from: connection.from.clone(),
            to: connection.to.clone(),
            translated_source: changed(&connection.source, &connection.translated_source),
            translated_destination: changed(
                &connection.destination,
                &connection.translated_destination,
            ),
            source: connection.source.clone(),
            destination: connection.destination.clone(),
            published: connection.published.clone(),
            traffic: connection.traffic,
            ..Self::default()
        }
    }

    /// Tells of its end.
    pub fn closed(&self, at: Timestamp, end: &str) -> Self {
        Self {
            time: at.to_string(),
            kind: "close".to_owned(),
            opened: self.time.clone(),
            end: end.to_owned(),
            ..self.clone()
        }
    }

    /// Tells of what could not be told.
    pub fn lost(count: u64, explanation: &str) -> Self {
        Self {
            time: Timestamp::now().to_string(),
            kind: "lost".to_owned(),
            explanation: explanation.to_owned(),
            count,
            ..Self::default()
        }
    }
}

/// Whose an address is.
pub(super) fn owner(ip: IpAddr, names: &Names, around: &impl Around) -> String {
    match names.addresses.get(&ip) {
        Some(name) => name.clone(),
        None if around.is_host(ip) => HOST.to_owned(),
        None => OUTSIDE.to_owned(),
    }
}

/// What became of a packet: kind of the event, verdict, reason and explanation.
fn fate(number: u8) -> (&'static str, &'static str, &'static str, &'static str) {
    match number {
        event::SENT_ON => ("trace", "allowed", "", "sent on"),
        event::TO_KERNEL => ("trace", "allowed", "", "left to the kernel"),
        number => match DropReason::from_number(number) {
            Some(reason) => ("drop", "dropped", reason.label(), reason.explanation()),
            None => ("drop", "dropped", "unknown", "A newer data plane said so."),
        },
    }
}

fn address(family: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        4 => Some(IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        6 => Some(IpAddr::from(Ipv6Addr::from(bytes))),
        _ => None,
    }
}
