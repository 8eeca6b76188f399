//! `GET /bascule/v1/monitor`: what is seen on the network, as it is seen, one line an event.

use std::{io, sync::Arc};

use axum::body::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::{broadcast, watch};

use super::{context::Context, reply::Reply, request::Request};
pub use crate::telemetry::Seen;
use crate::{
    reconcile::{Event, Journal},
    state::Rejected,
    telemetry::{QuestionWatcher, Watcher},
};

/// Kinds of events.
const TYPES: [&str; 5] = ["drop", "open", "close", "lifecycle", DNS];
/// The kind that is told to those alone who name it: there may be many, and what is asked for is its asker's.
const DNS: &str = "dns";

/// Which events are asked for: each list that is not empty has to have the event's.
#[derive(Clone, Debug, Default)]
struct Filter {
    types: Vec<String>,
    from: Vec<String>,
    to: Vec<String>,
    related: Vec<String>,
    networks: Vec<String>,
    ports: Vec<String>,
    protos: Vec<String>,
    reasons: Vec<String>,
    verdicts: Vec<String>,
}

impl Filter {
    fn read(request: &Request) -> Result<Self, Rejected> {
        let list = |key: &str| -> Vec<String> {
            let pairs = request.query.iter().filter(|(k, v)| k == key && !v.is_empty());
            pairs.flat_map(|(_, v)| v.split(',')).map(str::to_owned).collect()
        };
        let filter = Self {
            types: list("type"),
            from: list("from"),
            to: list("to"),
            related: list("related-to"),
            networks: list("network"),
            ports: list("port"),
            protos: list("proto"),
            reasons: list("reason"),
            verdicts: list("verdict"),
        };
        let none_of = |what, value: &String, known: &[&str]| {
            let known = known.join(", ");
            Err(Rejected::invalid(format!("invalid {what} {value:?}: it is none of {known}")))
        };
        if let Some(wrong) = filter.types.iter().find(|t| !TYPES.contains(&t.as_str())) {
            return none_of("type", wrong, &TYPES);
        }
        let verdicts = ["allowed", "dropped"];
        if let Some(wrong) = filter.verdicts.iter().find(|v| !verdicts.contains(&v.as_str())) {
            return none_of("verdict", wrong, &verdicts);
        }
        let reasons = bascule_common::abi::DropReason::ALL.map(|reason| reason.label());
        if let Some(wrong) = filter.reasons.iter().find(|r| !reasons.contains(&r.as_str())) {
            return none_of("reason", wrong, &reasons);
        }
        if let Some(wrong) = filter.ports.iter().find(|port| port.parse::<u16>().is_err()) {
            return Err(Rejected::invalid(format!("invalid port {wrong:?}: it is not a number")));
        }
        Ok(filter)
    }

    fn wants(&self, kind: &str) -> bool {
        match self.types.as_slice() {
            [] => kind != DNS,
            types => types.iter().any(|wanted| wanted == kind),
        }
    }

    fn takes(&self, seen: &Seen) -> bool {
        // What was lost concerns everybody.
        if seen.kind == "lost" {
            return true;
        }
        let any = |wanted: &[String], found: &[&str]| {
            wanted.is_empty() || wanted.iter().any(|w| found.contains(&w.as_str()))
        };
        let ip = |end: &str| {
            end.parse::<std::net::SocketAddr>().map_or(end.to_owned(), |end| end.ip().to_string())
        };
        let port = |end: &str| {
            end.parse::<std::net::SocketAddr>().map_or(String::new(), |end| end.port().to_string())
        };
        let (source, destination) = (ip(&seen.source), ip(&seen.destination));
        let translated = ip(&seen.translated_destination);
        let from = [seen.from.as_str(), &source];
        let to = [seen.to.as_str(), &destination, &translated];
        let related = [&from[..], &to[..], &[seen.container.as_str()]].concat();
        let ports =
            [&seen.source, &seen.destination, &seen.translated_destination].map(|e| port(e));
        self.wants(&seen.kind)
            && any(&self.from, &from)
            && any(&self.to, &to)
            && any(&self.related, &related)
            && any(&self.networks, &[seen.network.as_str()])
            && any(&self.protos, &[seen.proto.as_str()])
            && any(&self.reasons, &[seen.reason.as_str()])
            && any(&self.verdicts, &[seen.verdict.as_str()])
            && any(&self.ports, &ports.each_ref().map(String::as_str))
    }
}

/// Answers with a stream of events.
pub(super) fn monitor(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let filter = Filter::read(request)?;
    let frames = request.switch("frames");
    if frames {
        request.peer.must_be_root("what is in packets")?;
    }
    let journal = context.handle.journal.clone();
    let written = journal.listen();
    let from = *written.borrow();
    let connections = filter.wants("open") || filter.wants("close");
    let listener = Listener {
        events: context.events.subscribe(),
        _watcher: connections.then(|| context.events.watch_connections()),
        _questions: filter.wants(DNS).then(|| context.events.watch_questions()),
        journal,
        written,
        from,
        filter,
        frames,
    };
    let lines = stream::unfold(listener, |mut listener| async {
        let line = listener.line().await?;
        Some((Ok::<_, io::Error>(Bytes::from(line)), listener))
    });
    Ok(Reply::Lines(lines.boxed()))
}

/// Somebody who watches.
struct Listener {
    events: broadcast::Receiver<Arc<Seen>>,
    _watcher: Option<Watcher>,
    _questions: Option<QuestionWatcher>,
    journal: Journal,
    written: watch::Receiver<u64>,
    /// Number of the next event of the journal.
    from: u64,
    filter: Filter,
    frames: bool,
}

impl Listener {
    /// Waits for the next events that are asked for; none when no more will come.
    async fn line(&mut self) -> Option<String> {
        loop {
            let seen = tokio::select! {
                seen = self.events.recv() => match seen {
                    Ok(seen) => vec![Seen::clone(&seen)],
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        vec![Seen::lost(count, "events that this listener was too slow for")]
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                changed = self.written.changed() => {
                    changed.ok()?;
                    let page = self.journal.read(self.from);
                    self.from = page.next;
                    let events: Vec<_> = page.events.iter().map(|event| happened(event)).collect();
                    if page.last && events.is_empty() {
                        return None;
                    }
                    events
                }
            };
            let lines: String = seen.into_iter().filter_map(|seen| self.shown(seen)).collect();
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    fn shown(&self, mut seen: Seen) -> Option<String> {
        if !self.filter.takes(&seen) {
            return None;
        }
        if !self.frames {
            seen.frame.clear();
        }
        serde_json::to_string(&seen).ok().map(|line| line + "\n")
    }
}

/// Tells of what has happened to a container or a network.
fn happened(event: &Event) -> Seen {
    let name = event.attributes.get("name").cloned().unwrap_or_else(|| event.id.clone());
    let is_container = event.kind == "container";
    Seen {
        time: event.at.to_string(),
        kind: "lifecycle".to_owned(),
        explanation: format!("{} {name}: {}", event.kind, event.action),
        network: if is_container { String::new() } else { name.clone() },
        container: match is_container {
            true => name,
            false => event.attributes.get("container").cloned().unwrap_or_default(),
        },
        ..Seen::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p80_filters_narrow_down_by_name_address_and_port() {
        let seen = Seen {
            kind: "drop".into(),
            from: "c1".into(),
            to: "outside".into(),
            source: "172.18.0.2:40000".into(),
            destination: "198.51.100.7:443".into(),
            proto: "tcp".into(),
            network: "n1".into(),
            reason: "policy_icc".into(),
            verdict: "dropped".into(),
            ..Seen::default()
        };
        let list = |value: &str| vec![value.to_owned()];
        let good = [
            Filter::default(),
            Filter { from: list("c1"), to: list("198.51.100.7"), ..Filter::default() },
            Filter { related: list("172.18.0.2"), ports: list("443"), ..Filter::default() },
            Filter { protos: list("tcp"), networks: list("n1"), ..Filter::default() },
            Filter { reasons: list("policy_icc"), verdicts: list("dropped"), ..Filter::default() },
        ];
        for filter in &good {
            assert!(filter.takes(&seen), "{filter:?}");
        }
        let bad = [
            Filter { types: list("open"), ..Filter::default() },
            Filter { from: list("outside"), ..Filter::default() },
            Filter { ports: list("44"), ..Filter::default() },
            Filter { from: list("c1"), networks: list("n2"), ..Filter::default() },
        ];
        for filter in &bad {
            assert!(!filter.takes(&seen), "{filter:?}");
            assert!(filter.takes(&Seen { kind: "lost".into(), ..Seen::default() }), "{filter:?}");
        }
        let asked = Seen { kind: "dns".into(), from: "c1".into(), ..Seen::default() };
        assert!(!Filter::default().takes(&asked), "nobody asked for it");
        assert!(Filter { types: list("dns"), from: list("c1"), ..Filter::default() }.takes(&asked));
    }
}
