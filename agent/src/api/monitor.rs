//! `GET /bascule/v1/monitor`: what is seen on the network, as it is seen, one line an event.

use std::{io, net::IpAddr, sync::Arc};

use axum::body::Bytes;
use bascule_common::abi::{Address as _, Chosen, Ip4, Ip6, Port};
use futures::{StreamExt as _, stream};
use tokio::sync::{broadcast, watch};

use super::{context::Context, reply::Reply, request::Request};
pub use crate::telemetry::Seen;
use crate::{
    reconcile::{Event, Journal},
    state::Rejected,
    telemetry::{Names, PacketWatcher, QuestionWatcher, SharedNames, Watcher, proto_number},
};

/// Kinds of events.
const TYPES: [&str; 7] = ["drop", "open", "close", "lifecycle", POLICY, TRACE, DNS];
/// The kind that is told to those alone who name it: there may be many, and what is asked for is its asker's.
const DNS: &str = "dns";
/// Connections that were opened, and drops that a policy asked for.
const POLICY: &str = "policy";
/// What a listener that lags behind is told.
const TOO_SLOW: &str = "events that this listener was too slow for";
/// Every packet of whom it is asked for: to those alone who name it, too.
const TRACE: &str = "trace";

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

    /// What the data plane is asked for: by the ends that are named, and one port and protocol. The rest is left out
    /// here ([`Self::takes`]).
    fn chosen(&self, names: &Names) -> Vec<Chosen> {
        let only = |list: &[String]| match list {
            [one] => Some(one.clone()),
            _ => None,
        };
        let port = only(&self.ports).and_then(|port| port.parse().ok()).map_or(Port(0), Port::new);
        let proto = only(&self.protos).and_then(|proto| proto_number(&proto)).unwrap_or_default();
        let any = Chosen { port, proto, taken: 1, ..Chosen::default() };
        let ends = [&self.related, &self.from, &self.to].into_iter();
        let found = ends.map(|values| ends_named(values, names)).find(|found| !found.is_empty());
        match found {
            Some(ends) => ends.into_iter().map(|end| Chosen { port, proto, ..end }).collect(),
            None if port == Port(0) && proto == 0 => Vec::new(),
            None => vec![any],
        }
    }

    fn wants(&self, kind: &str) -> bool {
        match self.types.as_slice() {
            [] => kind != DNS && kind != TRACE,
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
        // What stands there of an echo request is no port.
        let has_ports = !seen.proto.starts_with("icmp");
        let port = |end: &str| {
            let end = end.parse::<std::net::SocketAddr>().ok().filter(|_| has_ports);
            end.map_or(String::new(), |end| end.port().to_string())
        };
        let ends = [
            &seen.source,
            &seen.translated_source,
            &seen.destination,
            &seen.translated_destination,
        ];
        let [source, new_source, destination, new_destination] = ends.map(|end| ip(end));
        let from = [seen.from.as_str(), &source, &new_source];
        let to = [seen.to.as_str(), &destination, &new_destination];
        let related = [&from[..], &to[..], &[seen.container.as_str()]].concat();
        let ports = ends.map(|end| port(end));
        (self.wants(&seen.kind) || self.wants(POLICY) && is_verdict(seen))
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

/// Whether a policy has spoken: of a connection that was opened it has allowed the first packet.
fn is_verdict(seen: &Seen) -> bool {
    seen.kind == "open" || seen.kind == "drop" && seen.reason.starts_with("policy_")
}

/// Containers and addresses; none where one of the values is neither, as `outside`.
fn ends_named(values: &[String], names: &Names) -> Vec<Chosen> {
    let mut found = Vec::new();
    for value in values {
        let one = Chosen { taken: 1, ..Chosen::default() };
        if let Ok(ip) = value.parse::<IpAddr>() {
            let address = match ip {
                IpAddr::V4(ip) => Ip4::from(ip).to_any(),
                IpAddr::V6(ip) => Ip6::from(ip).to_any(),
            };
            found.push(Chosen { address, ..one });
            continue;
        }
        let of = names.endpoints.iter().filter(|(_, name)| name.container == *value);
        let before = found.len();
        found.extend(of.map(|(index, _)| Chosen { endpoint: *index, ..one }));
        if found.len() == before {
            return Vec::new();
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::EndpointName;

    #[test]
    fn p80_what_is_traced_is_named_to_the_data_plane() {
        let name = |container: &str| EndpointName {
            container: container.into(),
            ..EndpointName::default()
        };
        let names = Names {
            endpoints: [(3, name("web")), (4, name("web")), (5, name("db"))].into(),
            ..Names::default()
        };
        let list = |value: &str| vec![value.to_owned()];
        let chosen = |filter: Filter| {
            let found = filter.chosen(&names).into_iter();
            found.map(|one| (one.endpoint, one.port.number(), one.proto)).collect::<Vec<_>>()
        };
        let web = Filter { related: list("web"), ports: list("80"), ..Filter::default() };
        assert_eq!(chosen(web), [(3, 80, 0), (4, 80, 0)]);
        let out = Filter { from: list("outside"), protos: list("udp"), ..Filter::default() };
        assert_eq!(chosen(out), [(0, 0, 17)]);
        let both = Filter { from: list("outside"), to: list("db"), ..Filter::default() };
        assert_eq!(chosen(both), [(5, 0, 0)]);
        assert!(chosen(Filter { networks: list("n1"), ..Filter::default() }).is_empty());
        let ip = Filter { to: list("2001:db8::1"), ..Filter::default() }.chosen(&names);
        assert_eq!(
            ip[0].address,
            Ip6::from("2001:db8::1".parse::<std::net::Ipv6Addr>().expect("one")).to_any()
        );
    }

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
        // The answer of a published port, and what was masqueraded, go by both of their names.
        let answer = Seen {
            source: "172.18.0.2:80".into(),
            translated_source: "192.168.9.1:8080".into(),
            ..seen.clone()
        };
        for port in ["80", "8080"] {
            assert!(Filter { ports: list(port), ..Filter::default() }.takes(&answer));
        }
        assert!(Filter { related: list("192.168.9.1"), ..Filter::default() }.takes(&answer));
        let echo =
            Seen { proto: "icmp".into(), source: "172.18.0.2:443".into(), ..Seen::default() };
        let by_port = Filter { ports: list("443"), ..Filter::default() };
        assert!(!by_port.takes(&Seen { kind: "drop".into(), ..echo }), "an identifier is no port");
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
        let policy = Filter { types: list("policy"), ..Filter::default() };
        assert!(policy.takes(&seen) && policy.takes(&Seen { kind: "open".into(), ..seen.clone() }));
        assert!(!policy.takes(&Seen { reason: "ttl_expired".into(), ..seen.clone() }));
        assert!(!policy.takes(&Seen { kind: "close".into(), ..seen.clone() }));
        assert!(Filter { types: list("dns"), from: list("c1"), ..Filter::default() }.takes(&asked));
    }
}
