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
    connections::{Connection, connections},
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
    over: bool,
}

/// What was there at the last reading.
#[derive(Default)]
struct Watch {
    connections: HashMap<Key, Open>,
    lost: u64,
}

/// Tells of connections while somebody watches them; never ends.
pub async fn watch(events: Events, tables: Arc<Tables>) {
    loop {
        events.watched(true).await;
        let mut watch = Watch::default();
        // What is there already has not been opened now.
        let mut first = true;
        while events.is_watched() {
            let begin = Instant::now();
            let (names, own) = (events.names(), Arc::clone(&tables));
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

fn read(tables: &Tables, names: &Names) -> Result<(Vec<Connection>, u64), BpfError> {
    let lost = tables.stats.get(Stat::EventsLost as u32)?.unwrap_or_default();
    Ok((connections(tables, names, |_| true)?, lost))
}

impl Watch {
    fn compare(&mut self, found: Vec<Connection>, lost: u64, first: bool) -> Vec<Seen> {
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
            let known = before.remove(&key).filter(|open| !open.over || end.is_some());
            let mut open = known.unwrap_or_else(|| {
                let seen = Seen::opened(&connection, now);
                if !first {
                    told.push(seen.clone());
                }
                Open { seen, over: first && end.is_some() }
            });
            if let Some(end) = end.filter(|_| !open.over) {
                told.push(open.seen.closed(now, end));
                open.over = true;
            }
            self.connections.insert(key, open);
        }
        let gone = before.into_values().filter(|open| !open.over);
        told.extend(gone.map(|open| open.seen.closed(now, "idle")));
        if !first && lost > self.lost {
            told.push(Seen::lost(lost - self.lost, "drops that were counted and not told"));
        }
        self.lost = lost;
        told
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
        assert_eq!(
            kinds(&[("c", "closing"), ("d", "reset")], 5, false),
            ["close c closed", "open d ", "close d reset"]
        );
        assert!(kinds(&[("c", "closing")], 5, false).is_empty());
        // The same ports again.
        assert_eq!(kinds(&[("c", "opening")], 7, false), ["open c ", "lost  "]);
    }
}
