//! Connections that come and go, told as they are seen: the table is read again and again, for as long as somebody
//! watches. An entry stays there for ten seconds after its connection's end at least, so that none is missed between two
//! readings.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    connections::{Connection, watched},
    events::Events,
    seen::Seen,
};
use crate::kernel::bpf::Tables;

/// Time between two readings, at least and at most; and how many times of what a reading takes.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
const PATIENCE: u32 = 20;
/// Events that are told at once: a quarter of what listeners may lag behind.
const MOUTHFUL: usize = 1_024;

/// What tells a connection from others.
type Key = (String, String, String);

/// A connection that was seen.
struct Open {
    seen: Seen,
    /// How it ends, where that has been seen: told a reading later, when its last packets are counted.
    ending: Option<&'static str>,
    over: bool,
}

/// What was there at the last reading.
#[derive(Default)]
struct Watch {
    connections: HashMap<Key, Open>,
    uncounted: u64,
}

/// Has the data plane know who watches, and tells of connections meanwhile; never ends. What was counted before the start
/// is forgotten, unless it is `kept` for somebody who watches always.
pub async fn watch(events: Events, tables: Arc<Tables>, kept: bool) {
    let packets = packets(&events, &tables);
    tokio::join!(packets, connections(&events, &tables, kept));
}

/// Has packets told while somebody watches them.
async fn packets(events: &Events, tables: &Tables) {
    let mut chosen = events.chosen();
    loop {
        let slots: Vec<_> = chosen.borrow_and_update().iter().flatten().copied().collect();
        if let Err(error) = tables.watching.packets(&slots) {
            tracing::warn!(%error, "packets are not told");
        }
        // The sender is ours: it does not go.
        let _ = chosen.changed().await;
    }
}

async fn connections(events: &Events, tables: &Arc<Tables>, mut kept: bool) {
    loop {
        if !std::mem::take(&mut kept) {
            count(tables, false).await;
        }
        events.watched(true).await;
        count(tables, true).await;
        let mut watch = Watch::default();
        // What is there already has not been opened now.
        let mut first = true;
        while events.is_watched() {
            let begin = Instant::now();
            let (names, own) = (events.names(), Arc::clone(tables));
            let read = tokio::task::spawn_blocking(move || watched(&own, &names)).await;
            match read {
                Ok(Ok((found, uncounted))) => {
                    let told = watch.compare(found, uncounted, first);
                    for (number, seen) in (1..).zip(told) {
                        events.tell(seen);
                        if number % MOUTHFUL == 0 {
                            // Who listens has its turn before it loses any.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    first = false;
                }
                Ok(Err(error)) => tracing::warn!(%error, "connections are not watched"),
                Err(error) => tracing::error!(%error, "connections are not watched"),
            }
            let pause = (begin.elapsed() * PATIENCE).clamp(PAUSE.0, PAUSE.1);
            // Who leaves early ends it early.
            let _ = tokio::time::timeout(pause, events.watched(false)).await;
        }
    }
}

/// Has packets counted by connection, or no longer.
async fn count(tables: &Arc<Tables>, on: bool) {
    let own = Arc::clone(tables);
    match tokio::task::spawn_blocking(move || own.watching.connections(on)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "packets are not counted by connection"),
        Err(error) => tracing::error!(%error, "packets are not counted by connection"),
    }
}

impl Watch {
    fn compare(&mut self, found: Vec<Connection>, uncounted: u64, first: bool) -> Vec<Seen> {
        let now = Timestamp::now();
        let mut told = Vec::new();
        let mut before = std::mem::take(&mut self.connections);
        for connection in found {
            let key = (
                connection.proto.clone(),
                connection.source.clone(),
                connection.destination.clone(),
            );
            let end = match connection.state.as_str() {
                "closing" => Some("closed"),
                "reset" => Some("reset"),
                _ => None,
            };
            let known = before.remove(&key).filter(|open| open.goes_on(end, now, &mut told));
            let mut open = known.unwrap_or_else(|| {
                // When one that is there already was opened, nobody has seen.
                let seen = Seen::opened(&connection, (!first).then_some(now));
                if !first {
                    told.push(seen.clone());
                }
                Open { seen, ending: None, over: first && end.is_some() }
            });
            open.seen.traffic = connection.traffic;
            match open.ending {
                Some(ending) if !open.over => {
                    told.push(open.seen.closed(now, ending));
                    open.over = true;
                }
                _ => open.ending = end,
            }
            self.connections.insert(key, open);
        }
        let gone = before.into_values().filter(|open| !open.over);
        told.extend(gone.map(|open| open.seen.closed(now, open.ending.unwrap_or("idle"))));
        if !first && uncounted > self.uncounted {
            let what = "packets of connections that there was no room to count";
            told.push(Seen::lost(uncounted - self.uncounted, what));
        }
        self.uncounted = uncounted;
        told
    }
}

impl Open {
    /// Whether this is the same connection still, and not another with the same ports; tells of its end then.
    fn goes_on(&self, end: Option<&str>, now: Timestamp, told: &mut Vec<Seen>) -> bool {
        if end.is_some() || self.ending.is_none() && !self.over {
            return true;
        }
        if let (Some(ending), false) = (self.ending, self.over) {
            told.push(self.seen.closed(now, ending));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(source: &str, state: &str) -> Connection {
        Connection {
            proto: "tcp".into(),
            source: source.into(),
            destination: "203.0.113.7:80".into(),
            state: state.into(),
            ..Connection::default()
        }
    }

    #[test]
    fn p80_connections_are_told_once_when_they_come_and_once_when_they_go() {
        let mut watch = Watch::default();
        let mut kinds = |found: &[(&str, &str)], lost, first| {
            let found = found.iter().map(|(source, state)| connection(source, state)).collect();
            let told = watch.compare(found, lost, first);
            told.into_iter()
                .map(|s| format!("{} {} {}", s.kind, s.source, s.end))
                .collect::<Vec<_>>()
        };
        assert!(kinds(&[("a", "open"), ("b", "closing")], 5, true).is_empty());
        assert_eq!(kinds(&[("a", "open"), ("c", "opening")], 5, false), ["open c "]);
        assert_eq!(kinds(&[("c", "open")], 5, false), ["close a idle"]);
        assert_eq!(kinds(&[("c", "closing"), ("d", "reset")], 5, false), ["open d "]);
        // Told when its last packets are counted.
        assert_eq!(
            kinds(&[("c", "closing"), ("d", "reset")], 5, false),
            ["close c closed", "close d reset"]
        );
        assert!(kinds(&[("c", "closing")], 5, false).is_empty());
        // The same ports again.
        assert_eq!(kinds(&[("c", "opening")], 7, false), ["open c ", "lost  "]);
        assert!(kinds(&[("c", "closing")], 7, false).is_empty());
        assert_eq!(kinds(&[("c", "opening")], 7, false), ["close c closed", "open c "]);
        assert!(kinds(&[("c", "reset")], 7, false).is_empty());
        assert_eq!(kinds(&[], 7, false), ["close c reset"]);
    }
}
