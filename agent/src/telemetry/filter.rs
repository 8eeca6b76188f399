//! Which events somebody asks for, of those that are told and those that were.

use std::net::IpAddr;

use bascule_common::abi::{Address as _, Chosen, Ip4, Ip6, Port};

use super::{events::proto_number, names::Names, seen::Seen};
use crate::state::Rejected;

/// Kinds of events.
const TYPES: [&str; 7] = ["drop", "open", "close", "lifecycle", POLICY, TRACE, DNS];
/// The kind that is told to those alone who name it: there may be many, and what is asked for is its asker's.
pub const DNS: &str = "dns";
/// Connections that were opened, and drops that a policy asked for.
pub const POLICY: &str = "policy";
/// Every packet of whom it is asked for: to those alone who name it, too.
pub const TRACE: &str = "trace";

/// Which events are asked for: each list that is not empty has to have the event's.
#[derive(Clone, Debug, Default)]
pub struct Filter {
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
    /// Reads it from pairs of a key and values with commas between them; other keys mean nothing here.
    pub fn read<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Self, Rejected> {
        let list = |key: &str| -> Vec<String> {
            let pairs = pairs.clone().filter(|(k, v)| *k == key && !v.is_empty());
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
    pub fn chosen(&self, names: &Names) -> Vec<Chosen> {
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

    /// Tells whether it may take events of a kind.
    pub fn wants(&self, kind: &str) -> bool {
        match self.types.as_slice() {
            [] => kind != DNS && kind != TRACE,
            types => types.iter().any(|wanted| wanted == kind),
        }
    }

    /// Tells whether it takes an event.
    pub fn takes(&self, seen: &Seen) -> bool {
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
