//! Events of the data plane: read from the ring, named, handed to whoever listens, and logged in measure.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use bascule_common::abi::{Direction, DropReason, Event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::broadcast,
};

use super::names::{Names, SharedNames};
use crate::kernel::bpf::Tables;

/// Events that a slow listener may lag behind before it loses some.
const BACKLOG: usize = 4_096;
/// The programs do not wake the reader for every event.
const POLL: Duration = Duration::from_millis(500);
/// A drop of the same kind is logged again after this, with the number left out meanwhile.
const QUIET: Duration = Duration::from_secs(10);
/// Kinds of drops that the log remembers: more than this at once is a flood, and is forgotten.
const REMEMBERED: usize = 1_024;

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The ring cannot be mapped.
    #[error("cannot map the ring of events: {0}")]
    Map(#[from] MapError),
    /// The ring cannot be waited for.
    #[error("cannot wait for events: {0}")]
    Wait(#[from] io::Error),
}

/// A dropped packet, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropEvent {
    /// When.
    pub time: Timestamp,
    /// Name of the container, where the packet belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Name of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Id of the endpoint, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Interface that the program is attached to.
    pub ifindex: u32,
    /// `in` or `out`, seen from the container.
    pub direction: String,
    /// Name of the reason.
    pub reason: String,
    /// The reason in a sentence.
    pub explanation: String,
    /// Name or number of the protocol, where the frame is IP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// Source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// Destination address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpAddr>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_port: Option<u16>,
    /// Length of the frame, in bytes.
    pub length: u32,
}

impl DropEvent {
    /// Names what a record holds; `now` is the same moment by both clocks, the monotonic one in
    /// nanoseconds.
    pub fn new(event: &Event, names: &Names, now: (Timestamp, u64)) -> Self {
        let reason = DropReason::from_number(event.reason);
        let name = names.endpoints.get(&event.endpoint);
        let address = |bytes: [u8; 16]| match event.family {
            4 => Some(IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            6 => Some(IpAddr::from(Ipv6Addr::from(bytes))),
            _ => None,
        };
        let ports = matches!(event.proto, 6 | 17 | 132 | 136) && event.family != 0;
        Self {
            time: wall_time(event.time, now),
            container: name.map(|name| name.container.clone()),
            network: name.map(|name| name.network.clone()),
            endpoint: name.map(|name| name.endpoint.clone()),
            ifindex: event.ifindex,
            direction: Direction::from_number(event.direction)
                .map_or("unknown", Direction::label)
                .to_owned(),
            reason: reason.map_or("unknown", DropReason::label).to_owned(),
            explanation: reason
                .map_or("A newer data plane said so.", DropReason::explanation)
                .into(),
            proto: (event.family != 0).then(|| proto_name(event.proto)),
            src: address(event.src),
            dst: address(event.dst),
            src_port: ports.then(|| event.src_port.number()),
            dst_port: ports.then(|| event.dst_port.number()),
            length: event.length,
        }
    }
}

/// Returns the name of a protocol, or its number.
pub(super) fn proto_name(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        2 => "igmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        47 => "gre".into(),
        50 => "esp".into(),
        58 => "icmp6".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

fn wall_time(monotonic: u64, (now, now_monotonic): (Timestamp, u64)) -> Timestamp {
    now - Duration::from_nanos(now_monotonic.saturating_sub(monotonic))
}

fn both_clocks() -> (Timestamp, u64) {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| Duration::from(time).as_nanos() as u64);
    (Timestamp::now(), monotonic)
}

/// Where events go.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<DropEvent>>,
    names: SharedNames,
}

impl Events {
    /// Makes the channel.
    pub fn new(names: SharedNames) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), names }
    }

    /// Listens to everything from now on; one that lags too far behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<DropEvent>> {
        self.sender.subscribe()
    }

    /// Reads the ring for as long as it is polled. There may be one reader of a ring at a time.
    pub async fn run(&self, tables: &Tables) -> Result<(), EventsError> {
        let data = MapData::from_fd(tables.events().try_clone_to_owned()?)?;
        let ring = RingBuf::try_from(Map::RingBuf(data))?;
        // SAFETY: the ring owns its descriptor, and gives away the same one until it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let mut ring = ring.map_err(|error| error.into_parts().1)?;
        let mut gate = Gate::default();
        loop {
            let ready = tokio::time::timeout(POLL, ring.readable_mut()).await;
            if let Ok(guard) = ready {
                guard?.clear_ready();
            }
            self.drain(ring.get_mut(), &mut gate);
        }
    }

    fn drain(&self, ring: &mut RingBuf<MapData>, gate: &mut Gate) {
        let (names, clocks) = (self.names.get(), both_clocks());
        while let Some(record) = ring.next() {
            let Some(event) = decode(&record) else { continue };
            drop(record);
            let held_back =
                gate.admit((event.endpoint, event.reason, event.direction), Instant::now());
            if held_back.is_none() && self.sender.receiver_count() == 0 {
                continue;
            }
            let named = Arc::new(DropEvent::new(&event, &names, clocks));
            if let Some(held_back) = held_back {
                log(&named, held_back);
            }
            // Nobody may be listening.
            let _ = self.sender.send(named);
        }
    }
}

fn decode(record: &[u8]) -> Option<Event> {
    // SAFETY: the length is checked, and any bytes are an Event.
    (record.len() >= size_of::<Event>())
        .then(|| unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) })
}

fn log(event: &DropEvent, held_back: u64) {
    tracing::info!(
        target: "bascule::drops",
        reason = event.reason,
        direction = event.direction,
        container = event.container,
        network = event.network,
        ifindex = event.ifindex,
        proto = event.proto,
        src = event.src.map(tracing::field::display),
        dst = event.dst.map(tracing::field::display),
        src_port = event.src_port,
        dst_port = event.dst_port,
        length = event.length,
        held_back,
        "dropped: {}",
        event.explanation
    );
}

/// Lets the first of every kind of drop through to the log, and then one in a while.
#[derive(Default)]
struct Gate {
    seen: HashMap<(u32, u8, u8), (Instant, u64)>,
}

impl Gate {
    /// Whether to log, and how many of this kind were held back before.
    fn admit(&mut self, kind: (u32, u8, u8), now: Instant) -> Option<u64> {
        if let Some((since, held_back)) = self.seen.get_mut(&kind) {
            if now.duration_since(*since) < QUIET {
                *held_back += 1;
                return None;
            }
            *since = now;
            return Some(std::mem::take(held_back));
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, (since, _)| now.duration_since(*since) < QUIET);
            if self.seen.len() >= REMEMBERED {
                return None;
            }
        }
        self.seen.insert(kind, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use bascule_common::abi::Port;

    use super::*;
    use crate::telemetry::EndpointName;

    fn event() -> Event {
        let mut src = [0; 16];
        src[..4].copy_from_slice(&[172, 20, 0, 2]);
        Event {
            time: 4_000_000_000,
            endpoint: 3,
            ifindex: 12,
            length: 98,
            reason: DropReason::PolicyIcc as u8,
            direction: Direction::Out as u8,
            proto: 6,
            family: 4,
            src,
            dst: src,
            src_port: Port::new(40_000),
            dst_port: Port::new(80),
            captured: 0,
        }
    }

    #[test]
    fn a_record_is_named() {
        let name = EndpointName {
            endpoint: "0123456789ab".into(),
            container: "web".into(),
            network: "n1".into(),
            ..EndpointName::default()
        };
        let names = Names { endpoints: [(3, name)].into(), ..Default::default() };
        let now: Timestamp = "2026-01-01T00:00:05Z".parse().expect("a time");
        let named = DropEvent::new(&event(), &names, (now, 5_000_000_000));
        assert_eq!(named.time.to_string(), "2026-01-01T00:00:04Z");
        assert_eq!((named.reason.as_str(), named.direction.as_str()), ("policy_icc", "out"));
        assert_eq!(named.container.as_deref(), Some("web"));
        assert_eq!(named.src.map(|ip| ip.to_string()).as_deref(), Some("172.20.0.2"));
        assert_eq!((named.src_port, named.dst_port), (Some(40_000), Some(80)));
        let json = serde_json::to_value(&named).expect("JSON");
        assert_eq!(json["proto"], "tcp");
        assert_eq!(serde_json::from_value::<DropEvent>(json).expect("and back"), named);
    }

    #[test]
    fn a_frame_that_is_not_ip_has_no_addresses() {
        let event = Event { family: 0, endpoint: 0, reason: 200, ..event() };
        let named = DropEvent::new(&event, &Names::default(), (Timestamp::UNIX_EPOCH, 0));
        assert_eq!((named.src, named.proto, named.container), (None, None, None));
        assert_eq!(named.reason, "unknown");
    }

    #[test]
    fn a_short_record_is_no_event() {
        assert_eq!(decode(&[0; 8]), None);
    }

    #[test]
    fn the_log_gets_the_first_of_a_kind_and_then_a_count() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        assert_eq!(gate.admit((1, 1, 0), start), Some(0));
        assert_eq!(gate.admit((1, 1, 0), start), None);
        assert_eq!(gate.admit((1, 1, 0), start + QUIET / 2), None);
        assert_eq!(gate.admit((1, 2, 0), start), Some(0));
        assert_eq!(gate.admit((1, 1, 0), start + QUIET), Some(2));
        let flood = (0..10 * REMEMBERED as u32).filter(|i| gate.admit((*i, 9, 0), start).is_some());
        assert!(flood.count() < REMEMBERED);
    }
}
