//! Events of the data plane: read from the ring, named, handed to whoever listens, and logged in measure.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use bascule_common::abi::{Chosen, Record, Stat, event};
use jiff::Timestamp;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{broadcast, watch},
};

use super::{
    names::{Names, SharedNames},
    origin::origin,
    seen::Seen,
};
use crate::kernel::bpf::Tables;

/// Events that a slow listener may lag behind before it loses some.
const BACKLOG: usize = 4_096;
/// A drop of the same kind is logged again after this, with the number left out meanwhile.
const QUIET: Duration = Duration::from_secs(10);
/// How often it is looked whether events were lost, while there are any.
const LOOK: Duration = Duration::from_secs(1);
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

/// Returns the number of a protocol by its name, or as it is written.
pub fn proto_number(name: &str) -> Option<u8> {
    (0..=u8::MAX).find(|number| proto_name(*number) == name)
}

/// Returns when something was by the wall clock.
pub(super) fn wall_time(monotonic: u64, (now, now_monotonic): (Timestamp, u64)) -> Timestamp {
    now - Duration::from_nanos(now_monotonic.saturating_sub(monotonic))
}

/// Returns this moment by both clocks, the monotonic one in nanoseconds.
pub(super) fn both_clocks() -> (Timestamp, u64) {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| Duration::from(time).as_nanos() as u64);
    (Timestamp::now(), monotonic)
}

/// Where events go. Connections are looked at, and questions about names are told, for as long as somebody watches
/// them.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Seen>>,
    names: SharedNames,
    watchers: watch::Sender<usize>,
    packets: watch::Sender<Slots>,
    /// How many watch questions about names: looked at with every question.
    curious: Arc<AtomicUsize>,
}

/// Somebody who watches connections, until this is dropped.
#[derive(Debug)]
pub struct Watcher(watch::Sender<usize>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.send_modify(|watchers| *watchers -= 1);
    }
}

/// Whose packets are told, by slot of the data plane.
pub(super) type Slots = [Option<Chosen>; Chosen::SLOTS as usize];

/// Somebody who watches packets, until this is dropped.
#[derive(Debug)]
pub struct PacketWatcher {
    packets: watch::Sender<Slots>,
    slots: Vec<usize>,
}

impl PacketWatcher {
    /// Watches these packets instead; false: there are not enough slots, and those stay that were watched.
    pub fn choose(&mut self, chosen: &[Chosen]) -> bool {
        let own = std::mem::take(&mut self.slots);
        let mut taken = None;
        self.packets.send_if_modified(|all| {
            let before = *all;
            own.iter().for_each(|slot| all[*slot] = None);
            taken = take(all, chosen);
            if taken.is_none() {
                *all = before;
            }
            *all != before
        });
        let enough = taken.is_some();
        self.slots = taken.unwrap_or(own);
        enough
    }
}

/// Takes slots that are free; none: there are not enough.
fn take(all: &mut Slots, chosen: &[Chosen]) -> Option<Vec<usize>> {
    let free = (0..all.len()).filter(|slot| all[*slot].is_none()).take(chosen.len());
    let slots: Vec<_> = free.collect();
    (slots.len() == chosen.len()).then(|| {
        for (slot, one) in slots.iter().zip(chosen) {
            all[*slot] = Some(*one);
        }
        slots
    })
}

impl Drop for PacketWatcher {
    fn drop(&mut self) {
        self.packets.send_modify(|all| self.slots.iter().for_each(|slot| all[*slot] = None));
    }
}

/// Somebody who watches questions about names, until this is dropped.
#[derive(Debug)]
pub struct QuestionWatcher(Arc<AtomicUsize>);

impl Drop for QuestionWatcher {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Events {
    /// Makes the channel.
    pub fn new(names: SharedNames) -> Self {
        let (sender, watchers) = (broadcast::Sender::new(BACKLOG), watch::Sender::new(0));
        let packets = watch::Sender::default();
        Self { sender, names, watchers, packets, curious: Arc::default() }
    }

    /// Listens to everything from now on; one that lags too far behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Seen>> {
        self.sender.subscribe()
    }

    /// Has connections watched, which costs a reading of their table a second.
    pub fn watch_connections(&self) -> Watcher {
        self.watchers.send_modify(|watchers| *watchers += 1);
        Watcher(self.watchers.clone())
    }

    /// Has questions about names told.
    pub fn watch_questions(&self) -> QuestionWatcher {
        self.curious.fetch_add(1, Ordering::Relaxed);
        QuestionWatcher(Arc::clone(&self.curious))
    }

    /// Whether somebody wants to hear of questions about names.
    pub fn are_questions_watched(&self) -> bool {
        self.curious.load(Ordering::Relaxed) > 0
    }

    /// Has packets told, as many kinds as there are slots free; none: there are not enough.
    pub fn watch_packets(&self, chosen: &[Chosen]) -> Option<PacketWatcher> {
        let mut taken = None;
        self.packets.send_if_modified(|all| {
            taken = take(all, chosen);
            taken.is_some()
        });
        taken.map(|slots| PacketWatcher { packets: self.packets.clone(), slots })
    }

    /// Whose packets are told.
    pub(super) fn chosen(&self) -> watch::Receiver<Slots> {
        self.packets.subscribe()
    }

    /// Waits until somebody watches connections, or nobody does.
    pub(super) async fn watched(&self, wanted: bool) {
        let mut watchers = self.watchers.subscribe();
        // The sender is ours: it does not go.
        let _ = watchers.wait_for(|watchers| (*watchers > 0) == wanted).await;
    }

    /// Whether somebody watches connections.
    pub(super) fn is_watched(&self) -> bool {
        *self.watchers.borrow() > 0
    }

    /// The names now in force.
    pub(super) fn names(&self) -> Arc<Names> {
        self.names.get()
    }

    /// Tells everybody who listens.
    pub fn tell(&self, seen: Seen) {
        // Nobody may be listening.
        let _ = self.sender.send(Arc::new(seen));
    }

    /// Reads the ring for as long as it is polled. There may be one reader of a ring at a time.
    pub async fn run(&self, tables: &Tables) -> Result<(), EventsError> {
        let data = MapData::from_fd(tables.events().try_clone_to_owned()?)?;
        let ring = RingBuf::try_from(Map::RingBuf(data))?;
        // SAFETY: the ring owns its descriptor, and gives away the same one until it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let mut ring = ring.map_err(|error| error.into_parts().1)?;
        let mut gate = Gate::default();
        let mut untold = Untold::new(tables);
        loop {
            // Who has read everything is woken by the next event. What is lost is lost among others: nobody is woken for
            // it alone, but looks once more when no more come.
            let limit = if untold.may_grow { LOOK } else { Duration::MAX };
            if let Ok(ready) = tokio::time::timeout(limit, ring.readable_mut()).await {
                ready?.clear_ready();
                self.drain(ring.get_mut(), &mut gate, tables);
                untold.may_grow = true;
                if untold.looked.elapsed() < LOOK {
                    continue;
                }
            } else {
                untold.may_grow = false;
            }
            if let Some(count) = untold.look(tables) {
                self.tell(Seen::lost(
                    count,
                    "dropped and traced packets that came faster than they may be told",
                ));
            }
        }
    }

    fn drain(&self, ring: &mut RingBuf<MapData>, gate: &mut Gate, tables: &Tables) {
        let (names, clocks) = (self.names.get(), both_clocks());
        while let Some(record) = ring.next() {
            let Some(seen) = decode(&record) else { continue };
            drop(record);
            let event = &seen.event;
            if event.reason == event::SENT_ON || event.reason == event::TO_KERNEL {
                let named = Seen::packet(&seen, &names, tables, clocks);
                self.tell(match origin(tables, event) {
                    Some(ends) => named.before(ends, &names, tables),
                    None => named,
                });
                continue;
            }
            let held_back =
                gate.admit((event.endpoint, event.reason, event.direction), Instant::now());
            if held_back.is_none() && self.sender.receiver_count() == 0 {
                continue;
            }
            let named = Seen::packet(&seen, &names, tables, clocks);
            if let Some(held_back) = held_back {
                log(&named, held_back);
            }
            self.tell(named);
        }
    }
}

/// How many events the data plane could not tell.
struct Untold {
    count: u64,
    looked: Instant,
    /// Something was told since: more may have been lost with it.
    may_grow: bool,
}

impl Untold {
    fn new(tables: &Tables) -> Self {
        Self { count: Self::read(tables), looked: Instant::now(), may_grow: false }
    }

    fn read(tables: &Tables) -> u64 {
        // What cannot be read is asked for again.
        tables.stats.get(Stat::EventsLost as u32).ok().flatten().unwrap_or_default()
    }

    /// How many more there are.
    fn look(&mut self, tables: &Tables) -> Option<u64> {
        let before = self.count;
        (self.count, self.looked) = (Self::read(tables).max(before), Instant::now());
        Some(self.count - before).filter(|more| *more > 0)
    }
}

fn decode(record: &[u8]) -> Option<Record> {
    // SAFETY: the length is checked, and any bytes are a Record.
    (record.len() >= size_of::<Record>())
        .then(|| unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) })
}

fn log(event: &Seen, held_back: u64) {
    tracing::info!(
        target: "bascule::drops",
        reason = event.reason,
        direction = event.direction,
        container = event.container,
        network = event.network,
        interface = event.interface,
        proto = event.proto,
        source = event.source,
        destination = event.destination,
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
    use std::net::IpAddr;

    use bascule_common::abi::{Direction, DropReason, Event, Port, event::SNAP};

    use super::*;
    use crate::telemetry::{EndpointName, seen::Around};

    struct Known;

    impl Around for Known {
        fn interface(&self, index: u32) -> Option<String> {
            (index == 12).then(|| "bsc00000001".to_owned())
        }

        fn is_host(&self, _: IpAddr) -> bool {
            false
        }

        fn network(&self, _: IpAddr) -> Option<u32> {
            None
        }
    }

    fn record() -> Record {
        let mut src = [0; 16];
        src[..4].copy_from_slice(&[172, 20, 0, 2]);
        let event = Event {
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
            captured: 3,
        };
        Record { event, frame: [0xab; SNAP] }
    }

    #[test]
    fn a_record_is_named() {
        let name = EndpointName {
            endpoint: "0123456789ab".into(),
            container: "web".into(),
            network: "n1".into(),
            ..EndpointName::default()
        };
        let names = Names {
            endpoints: [(3, name)].into(),
            addresses: [("172.20.0.2".parse().expect("an address"), "web".to_owned())].into(),
            ..Default::default()
        };
        let now: Timestamp = "2026-01-01T00:00:05Z".parse().expect("a time");
        let named = Seen::packet(&record(), &names, &Known, (now, 5_000_000_000));
        assert_eq!(named.time, "2026-01-01T00:00:04Z");
        assert_eq!((named.reason.as_str(), named.direction.as_str()), ("policy_icc", "out"));
        assert_eq!((named.container.as_str(), named.from.as_str()), ("web", "web"));
        assert_eq!(named.source, "172.20.0.2:40000");
        assert_eq!((named.interface.as_str(), named.frame.as_str()), ("bsc00000001", "ababab"));
        let json = serde_json::to_value(&named).expect("JSON");
        assert_eq!((&json["Proto"], &json["Type"]), (&"tcp".into(), &"drop".into()));
        assert!(json.get("Published").is_none(), "{json}");
        assert_eq!(serde_json::from_value::<Seen>(json).expect("and back"), named);
    }

    #[test]
    fn a_frame_that_is_not_ip_has_no_addresses() {
        let Record { event, frame } = record();
        let event = Event { family: 0, endpoint: 0, reason: 200, ..event };
        let record = Record { event, frame };
        let named = Seen::packet(&record, &Names::default(), &Known, (Timestamp::UNIX_EPOCH, 0));
        assert_eq!((named.source, named.proto, named.container), Default::default());
        assert_eq!((named.reason.as_str(), named.interface.as_str()), ("unknown", "bsc00000001"));
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
