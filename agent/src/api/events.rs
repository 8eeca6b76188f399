//! `GET /events`: what has happened, and what happens, one line an event.

use std::{io, time::Duration};

use axum::body::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::{context::Context, filters::Filters, proto, reply::Reply, request::Request};
use crate::{
    reconcile::{Event, Journal},
    state::Rejected,
};

/// What events can be narrowed by. Kinds of objects that there are none of are asked for in vain.
const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// Names of filters that stand for an object of another kind than the two there are.
const ABSENT: [&str; 8] =
    ["config", "daemon", "image", "node", "plugin", "secret", "service", "volume"];
/// The longest wait for a time that is named.
const AGE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Answers with a stream of events.
pub(super) fn events(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let filters = Filters::read(request.value("filters"), &FILTERS)?;
    let (since, until) = (time(request, "since")?, time(request, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Rejected::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let journal = context.handle.journal.clone();
    let written = journal.listen();
    // Nobody who names no time asks for what has been.
    let from = match (since, until) {
        (None, None) => *written.borrow(),
        _ => journal.first(),
    };
    let left = until.map(|until| {
        let left = until.duration_since(Timestamp::now());
        Duration::try_from(left).unwrap_or_default().min(AGE)
    });
    let listener = Listener {
        journal,
        written,
        filters,
        since,
        until,
        end: left.map(|left| Instant::now() + left),
        from,
        began: false,
        ended: false,
    };
    let lines = stream::unfold(listener, |mut listener| async {
        let lines = listener.lines().await?;
        Some((Ok::<_, io::Error>(Bytes::from(lines)), listener))
    });
    Ok(Reply::Lines(lines.boxed()))
}

/// Reads a time of the query: seconds since the epoch, with a fraction or without, or RFC 3339.
fn time(request: &Request, key: &str) -> Result<Option<Timestamp>, Rejected> {
    let Some(text) = request.value(key) else { return Ok(None) };
    read_time(text).map(Some).ok_or_else(|| {
        Rejected::invalid(format!(
            "invalid value for {key}: {text:?} is neither seconds since 1970 nor a time of RFC 3339"
        ))
    })
}

pub(super) fn read_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// Somebody who hears what happens.
struct Listener {
    journal: Journal,
    written: watch::Receiver<u64>,
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    end: Option<Instant>,
    /// Number of the next event to hear of.
    from: u64,
    began: bool,
    ended: bool,
}

impl Listener {
    /// Waits for events and returns them; none where no more will come.
    async fn lines(&mut self) -> Option<String> {
        loop {
            if self.ended {
                return None;
            }
            self.written.borrow_and_update();
            let page = self.journal.read(self.from);
            let heard: String = page.events.iter().filter_map(|event| self.line(event)).collect();
            if page.torn && self.began {
                // Who is too slow to hear everything hears no half of it.
                tracing::warn!("a listener to events is too slow, and is cut off");
                return None;
            }
            (self.from, self.began) = (page.next, true);
            let now = Timestamp::now();
            self.ended = page.last || self.until.is_some_and(|until| until <= now);
            if !heard.is_empty() {
                return Some(heard);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                changed = self.written.changed() => changed.ok()?,
                () = end(self.end) => {}
            }
        }
    }

    /// Writes an event, if it is one that is asked for.
    fn line(&self, event: &Event) -> Option<String> {
        let early = self.since.is_some_and(|since| event.at < since);
        let late = self.until.is_some_and(|until| event.at > until);
        if early || late || !takes(&self.filters, event) {
            return None;
        }
        serde_json::to_string(&shown(event)).ok().map(|line| line + "\n")
    }
}

async fn end(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn takes(filters: &Filters, event: &Event) -> bool {
    let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
    // As with Docker: the key names the kind, its values an object's id or name, or the beginning of one.
    let object =
        |kind| filters.any(kind, |wanted| event.id.starts_with(wanted) || name.starts_with(wanted));
    let kinds = ["container", "network"];
    filters.exactly("type", event.kind)
        && filters.exactly("event", event.action)
        && filters.exactly("scope", "local")
        && filters.labels(&event.attributes)
        && kinds.into_iter().all(object)
        && !ABSENT.into_iter().any(|kind| filters.has(kind))
}

fn shown(event: &Event) -> proto::Event {
    let container = event.kind == "container";
    proto::Event {
        status: if container { event.action.to_owned() } else { String::new() },
        id: if container { event.id.clone() } else { String::new() },
        kind: event.kind.to_owned(),
        action: event.action.to_owned(),
        actor: proto::Actor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.as_second(),
        time_nano: i64::try_from(event.at.as_nanosecond()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_sends_them() {
        let nanoseconds = |text| read_time(text).map(Timestamp::as_nanosecond);
        assert_eq!(nanoseconds("1795227733"), Some(1_795_227_733_000_000_000));
        assert_eq!(nanoseconds("1795227733.5"), Some(1_795_227_733_500_000_000));
        assert_eq!(nanoseconds("1795227733.000000001"), Some(1_795_227_733_000_000_001));
        assert_eq!(nanoseconds("2026-11-21T00:00:00Z"), Some(1_795_219_200_000_000_000));
        for bad in ["x", "1.x", "1.0000000000", "99999999999999999999", "1e9", "-", "."] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }
}
