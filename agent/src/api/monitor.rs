//! `GET /bascule/v1/monitor`: what is seen on the network, as it is seen, one line an event.

use std::{io, sync::Arc};

use axum::body::Bytes;
use bascule_common::abi::Chosen;
use futures::{StreamExt as _, stream};
use tokio::sync::{broadcast, watch};

use super::{context::Context, reply::Reply, request::Request};
pub use crate::telemetry::{Filter, Past, Seen};
use crate::{
    reconcile::{Event, Journal},
    state::Rejected,
    telemetry::{DNS, POLICY, PacketWatcher, QuestionWatcher, SharedNames, TRACE, Watcher},
};

/// What a listener that lags behind is told.
const TOO_SLOW: &str = "events that this listener was too slow for";

/// Answers with a stream of events.
pub(super) fn monitor(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let filter = Filter::read(request.query.iter().map(|(key, value)| (&**key, &**value)))?;
    let frames = request.switch("frames");
    if frames {
        request.peer.must_be_root("what is in packets")?;
    }
    let journal = context.handle.journal.clone();
    let written = journal.listen();
    let from = *written.borrow();
    let connections = ["open", "close", POLICY].iter().any(|kind| filter.wants(kind));
    let listener = Listener {
        events: context.events.subscribe(),
        _watcher: connections.then(|| context.events.watch_connections()),
        _questions: filter.wants(DNS).then(|| context.events.watch_questions()),
        names: context.names.clone(),
        packets: filter.wants(TRACE).then(|| watch_packets(context, &filter)).transpose()?,
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

/// Has the data plane tell of the packets that the filter may take.
fn watch_packets(context: &Context, filter: &Filter) -> Result<PacketWatcher, Rejected> {
    let chosen = filter.chosen(&context.names.get());
    if chosen.is_empty() {
        let how = "name whose packets: --from, --to or --related-to with a container or an address, --port or --proto";
        return Err(Rejected::invalid(format!("a trace of everything tells nothing: {how}")));
    }
    context.events.watch_packets(&chosen).ok_or_else(|| {
        let most = Chosen::SLOTS;
        Rejected::conflict(format!(
            "cannot trace this, too: {most} addresses and endpoints are traced at one time; wait until another \
             `bascule monitor --type trace` has ended, or name fewer"
        ))
    })
}

/// Somebody who watches.
struct Listener {
    events: broadcast::Receiver<Arc<Seen>>,
    _watcher: Option<Watcher>,
    _questions: Option<QuestionWatcher>,
    packets: Option<PacketWatcher>,
    names: SharedNames,
    journal: Journal,
    written: watch::Receiver<u64>,
    /// Number of the next event of the journal.
    from: u64,
    filter: Filter,
    frames: bool,
}

impl Listener {
    /// Has the packets traced of whoever has the names now: a container that starts anew is another endpoint.
    fn follow_names(&mut self) {
        let Some(packets) = &mut self.packets else { return };
        let chosen = self.filter.chosen(&self.names.get());
        if !chosen.is_empty() && !packets.choose(&chosen) {
            tracing::warn!("there is no room to trace all that a listener asks for");
        }
    }

    /// Waits for the next events that are asked for; none when no more will come.
    async fn line(&mut self) -> Option<String> {
        loop {
            let seen = tokio::select! {
                seen = self.events.recv() => match seen {
                    Ok(seen) => vec![Seen::clone(&seen)],
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        vec![Seen::lost(count, TOO_SLOW)]
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                changed = self.written.changed() => {
                    changed.ok()?;
                    let page = self.journal.read(self.from);
                    let missed = page.next.saturating_sub(self.from) - page.events.len() as u64;
                    self.from = page.next;
                    let events: Vec<_> = page.events.iter().map(|event| happened(event)).collect();
                    if page.last && events.is_empty() {
                        return None;
                    }
                    self.follow_names();
                    let lost = (missed > 0).then(|| Seen::lost(missed, TOO_SLOW));
                    lost.into_iter().chain(events).collect()
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
