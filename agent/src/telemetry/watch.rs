//! Connections that come and go, told as they are seen: the table is read again and again, for as long as somebody
//! watches. An entry stays there for seconds after its connection's end, so that none is missed between two readings.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bascule_common::abi::Stat;
use jiff::Timestamp;

use super::{
    connections::{Connection, watched},
    events::Events,
    names::Names,
    seen::Seen,
};
use crate::kernel::bpf::{BpfError, Tables};

/// Time between two readings, at least; and how many times of what a reading takes.
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 20;

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
    lost: [u64; 2],
}

/// What could not be told, by what it was.
const LOST: [&str; 2] = [
    "drops that were counted and not told",
    "packets of connections that there was no room to count",
];

/// Has the data plane know who watches, and tells of connections meanwhile; never ends.
pub async fn watch(events: Events, tables: Arc<Tables>) {
    let packets = packets(&events, &tables);
    tokio::join!(packets, connections(&events, &tables));
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

async fn connections(events: &Events, tables: &Arc<Tables>) {
    loop {
        count(tables, false).await;
        events.watched(true).await;
        count(tables, true).await;
        let mut watch = Watch::default();
        // What is there already has not been opened now.
        let mut first = true;
        while events.is_watched() {
            let begin = Instant::now();
            let (names, own) = (events.names(), Arc::clone(tables));
            let read = tokio::task::spawn_blocking(move || read(&own, &names)).await;
            match read {
                Ok(Ok((found, lost))) => {
                    for seen in watch.compare(found, lost, first) {
                        events.tell(seen);
                    }
                    first = false;
                }
                Ok(Err(error)) => tracing::warn!(%error, "connections are not watched"),
                Err(error) => tracing::error!(%error, "connections are not watched"),
            }
            let pause = PAUSE.max(begin.elapsed() * PATIENCE);
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

fn read(tables: &Tables, names: &Names) -> Result<(Vec<Connection>, [u64; 2]), BpfError> {
    let (found, uncounted) = watched(tables, names)?;
    let untold = tables.stats.get(Stat::EventsLost as u32)?.unwrap_or_default();
    Ok((found, [untold, uncounted]))
}

impl Watch {
    fn compare(&mut self, found: Vec<Connection>, lost: [u64; 2], first: bool) -> Vec<Seen> {
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
                let seen = Seen::opened(&connection, now);
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
        for ((lost, before), what) in lost.into_iter().zip(self.lost).zip(LOST) {
            if !first && lost > before {
                told.push(Seen::lost(lost - before, what));
            }
        }
        self.lost = lost;
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
            let told = watch.compare(found, [lost, 0], first);
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
