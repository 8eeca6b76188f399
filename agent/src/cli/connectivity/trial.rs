//! Tries a case on the stage, and says what became of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    super::{
        args::{External, Family},
        why,
    },
    ping,
    plan::{Case, Check, What, Whither, Who},
    probe,
    report::{CaseReport, Outcome, Trouble, family_name},
    resolver,
    stage::{PORT, Stage},
};
use crate::{
    api::{
        client::{Client, ClientError},
        paths,
        traffic::Traffic,
        why::{Answer, Question},
    },
    error::Failure,
};

/// How long a packet that is not to arrive is waited for: a thousand times as long as one takes that does.
const SILENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// What is found of a case: nothing to say, a reason why it cannot be tried, or trouble.
type Found = Result<(), Outcome>;
/// Packets in and out by container.
type Counts = BTreeMap<String, (u64, u64)>;

/// What cases are tried with.
#[derive(Debug)]
pub struct Trial<'a> {
    client: &'a Client,
    stage: &'a Stage,
    limit: Duration,
    before: Counts,
}

/// A packet to be sent.
struct Packet {
    from: Who,
    what: What,
    to: SocketAddr,
}

impl Packet {
    /// The packet in the words of `bascule why`.
    fn destination(&self) -> String {
        match self.what {
            What::Tcp => format!("{}/tcp", self.to),
            What::Udp => format!("{}/udp", self.to),
            What::Ping | What::FullPing => self.to.ip().to_string(),
        }
    }
}

impl<'a> Trial<'a> {
    /// Remembers what has been counted before anything is tried.
    pub fn new(client: &'a Client, stage: &'a Stage, limit: Duration) -> Result<Self, Failure> {
        Ok(Self { client, stage, limit, before: counts(client)? })
    }

    /// Tries a case.
    pub fn run(&self, case: &Case) -> CaseReport {
        let start = Instant::now();
        let outcome = match self.check(case) {
            Ok(()) => Outcome::Ok,
            Err(outcome) => outcome,
        };
        CaseReport::new(case, outcome, start.elapsed())
    }

    fn check(&self, case: &Case) -> Found {
        let family = case.family.unwrap_or(Family::V4);
        if family == Family::V6 && !self.stage.host.has_ipv6 {
            return Err(Outcome::Skipped("the host has no IPv6".to_owned()));
        }
        match &case.check {
            Check::Arrives(from, what, whither) => {
                self.arrives(&self.packet(*from, *what, *whither, family)?, *whither, family)
            }
            Check::Barred(from, what, whither) => {
                self.barred(&self.packet(*from, *what, *whither, family)?, *whither)
            }
            Check::Resolves => self.resolves(family),
            Check::Outside(place) => self.outside(place, family),
            Check::Counted => self.counted(),
        }
    }

    /// Finds out where a packet is to be sent.
    fn packet(
        &self,
        from: Who,
        what: What,
        whither: Whither,
        family: Family,
    ) -> Result<Packet, Outcome> {
        let name = self.stage.name(from);
        let missing = |what: &str| {
            let seen = format!("the agent says nothing of {what}");
            Outcome::Failed(Trouble {
                tried: format!("to send from {name}"),
                seen,
                ..Default::default()
            })
        };
        let (address, port) = match whither {
            Whither::Own(who) => {
                let sandbox = self.stage.sandbox(who);
                let address = sandbox.and_then(|sandbox| sandbox.address(family));
                (address.ok_or_else(|| missing("the container's address"))?, PORT)
            }
            Whither::Gateway => {
                let sandbox = self.stage.sandbox(from);
                let gateway = sandbox.and_then(|sandbox| sandbox.gateway(family));
                (gateway.ok_or_else(|| missing("the network's gateway"))?, 0)
            }
            Whither::Loopback | Whither::HostAddress => {
                let address = match (whither, family) {
                    (Whither::Loopback, Family::V4) => Ipv4Addr::LOCALHOST.into(),
                    (Whither::Loopback, Family::V6) => Ipv6Addr::LOCALHOST.into(),
                    _ => self.host_address(family)?,
                };
                let proto = if what == What::Udp { "udp" } else { "tcp" };
                let port = self.stage.published(family, proto);
                (address, port.ok_or_else(|| missing("a published port"))?)
            }
        };
        Ok(Packet { from, what, to: SocketAddr::new(address, port) })
    }

    fn host_address(&self, family: Family) -> Result<IpAddr, Outcome> {
        self.stage.host.address(family).ok_or_else(|| {
            Outcome::Skipped(format!("no uplink has an {} address", family_name(family)))
        })
    }

    /// Sends a packet, and returns who the other end took it from, where it tells.
    fn send(&self, packet: &Packet, to: Who, limit: Duration) -> Result<Option<IpAddr>, String> {
        let from = self.stage.namespace(packet.from);
        let ears = || self.stage.sandbox(to).map(|sandbox| &sandbox.ears).ok_or_else(String::new);
        match packet.what {
            What::Tcp => probe::tcp(from, packet.to, ears()?, limit).map(Some),
            What::Udp => probe::udp(from, packet.to, ears()?, limit).map(Some),
            What::Ping => ping::ping(from, packet.to.ip(), false, limit).map(|_| None),
            What::FullPing => ping::ping(from, packet.to.ip(), true, limit).map(|_| None),
        }
    }

    fn arrives(&self, packet: &Packet, whither: Whither, family: Family) -> Found {
        let sent = self.send(packet, listener(whither), self.limit);
        let peer = sent.map_err(|seen| self.trouble(packet, seen))?;
        let own = self.stage.sandbox(packet.from).and_then(|sandbox| sandbox.address(family));
        match (whither, peer) {
            // Nobody stands between neighbours.
            (Whither::Own(_), Some(peer)) if Some(peer) != own => {
                Err(self.trouble(packet, format!("it arrived with the source address {peer}")))
            }
            _ => Ok(()),
        }
    }

    fn barred(&self, packet: &Packet, whither: Whither) -> Found {
        // Silence says something only about who can hear at all.
        if let Whither::Own(who) = whither {
            let from = Packet { from: who, ..*packet };
            let heard = self.send(&from, who, self.limit);
            heard.map_err(|seen| self.trouble(&from, seen))?;
        }
        let reached = match packet.what {
            // A handshake is too much already.
            What::Tcp => probe::connect(
                self.stage.namespace(packet.from),
                packet.to,
                SILENCE.min(self.limit),
            )
            .map(drop),
            _ => self.send(packet, listener(whither), SILENCE.min(self.limit)).map(drop),
        };
        match reached {
            Ok(()) => {
                Err(self.trouble(packet, "it arrived and was answered: it must not".to_owned()))
            }
            Err(seen) if seen.starts_with("it arrived") => Err(self.trouble(packet, seen)),
            Err(_) => Ok(()),
        }
    }

    fn resolves(&self, family: Family) -> Found {
        let (Some(client), Some(server)) =
            (self.stage.sandbox(Who::Client), self.stage.sandbox(Who::Server))
        else {
            return Ok(());
        };
        let wanted = server.address(family);
        let seen = match resolver::lookup(client, &server.name, family, self.limit) {
            Ok(found) if wanted.is_some_and(|wanted| found.contains(&wanted)) => return Ok(()),
            Ok(found) if found.is_empty() => "it has no such address".to_owned(),
            Ok(found) => format!(
                "another address: {}",
                found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            Err(seen) => seen,
        };
        let tried = format!("to resolve {} in {}", server.name, client.name);
        let hint = format!(
            "`bascule resolve {}` asks the agent itself while there is such a container",
            server.name
        );
        Err(Outcome::Failed(Trouble { tried, seen, hint }))
    }

    fn outside(&self, place: &External, family: Family) -> Found {
        self.host_address(family)?;
        let Some(client) = self.stage.sandbox(Who::Client) else { return Ok(()) };
        let tried = || format!("TCP from {} to {} port {}", client.name, place.host, place.port);
        let addresses = match place.address() {
            Some(address) => vec![address],
            None => resolver::lookup(client, &place.host, family, self.limit).map_err(|seen| {
                Outcome::Failed(Trouble { tried: tried(), seen, ..Default::default() })
            })?,
        };
        let Some(address) = addresses.first() else {
            let reason = format!("{} has no {} address", place.host, family_name(family));
            return Err(Outcome::Skipped(reason));
        };
        let to = SocketAddr::new(*address, place.port);
        let packet = Packet { from: Who::Client, what: What::Tcp, to };
        let connected = probe::connect(&client.namespace, to, self.limit);
        connected.map(drop).map_err(|seen| self.trouble(&packet, seen))
    }

    /// Waits until what was sent is counted: the agent reads its counters from time to time.
    fn counted(&self) -> Found {
        let end = Instant::now() + self.limit;
        let names = [Who::Client, Who::Server].map(|who| self.stage.name(who));
        loop {
            let now =
                counts(self.client).map_err(|error| self.silent(&names, error.to_string()))?;
            let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or_default();
            let grown = |name: &&str| {
                let (before, now) = (of(&self.before, name), of(&now, name));
                now.0 > before.0 && now.1 > before.1
            };
            if names.iter().all(grown) {
                return Ok(());
            }
            if Instant::now() >= end {
                let told = names.map(|name| {
                    let (received, sent) = of(&now, name);
                    format!("{name}: {received} packets received, {sent} sent")
                });
                return Err(self.silent(&names, told.join("; ")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn silent(&self, names: &[&str], seen: String) -> Outcome {
        let tried = format!("to see the counters of {} grow", names.join(" and "));
        Outcome::Failed(Trouble { tried, seen, ..Default::default() })
    }

    /// Says what was tried and seen, and what the data plane makes of such a packet.
    fn trouble(&self, packet: &Packet, seen: String) -> Outcome {
        let what = match packet.what {
            What::Tcp => "TCP",
            What::Udp => "UDP",
            What::Ping => "an echo request",
            What::FullPing => "an echo request that fills the MTU, not to be fragmented,",
        };
        let to = match packet.what {
            What::Tcp | What::Udp => packet.to.to_string(),
            What::Ping | What::FullPing => packet.to.ip().to_string(),
        };
        let name = self.stage.name(packet.from);
        let tried = format!("{what} from {name} to {to}");
        let question = Question {
            source: name.to_owned(),
            destination: packet.destination(),
            family: if packet.to.is_ipv4() { 4 } else { 6 },
            ..Question::default()
        };
        let answer = self.client.post::<_, Answer>(paths::WHY, &question);
        let hint = answer.map_or_else(|error| error.to_string(), |answer| why::short(&answer));
        Outcome::Failed(Trouble { tried, seen, hint })
    }
}

/// Whose ears are at the end of a way.
fn listener(whither: Whither) -> Who {
    match whither {
        Whither::Own(who) => who,
        Whither::Gateway => Who::Host,
        Whither::Loopback | Whither::HostAddress => Who::Server,
    }
}

fn counts(client: &Client) -> Result<Counts, ClientError> {
    let traffic: Traffic = client.get(paths::TRAFFIC)?;
    let count = |e: crate::api::traffic::TrafficEndpoint| {
        (e.container, (e.received.packets, e.sent.packets))
    };
    Ok(traffic.endpoints.into_iter().map(count).collect())
}
