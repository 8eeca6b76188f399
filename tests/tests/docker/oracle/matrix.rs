//! Everybody asks everybody, in every way.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
};

use bascule_tests::probe::{self, Means, Outcome, Question, Verdict};

use super::{
    letters,
    stage::{HOST_B, HOST6_B, PUBLISHED, Place, Stage, gateways},
};

/// One question of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Who asks.
    pub from: String,
    /// Whose server, or whose published port.
    pub to: String,
    /// By which of the addresses that lead there.
    pub at: String,
    /// 4 or 6.
    pub family: u8,
    /// How.
    pub by: String,
}

/// What became of every question, in words.
pub type Answers = BTreeMap<Cell, String>;

/// Sizes: of one packet, and of several fragments.
pub const SIZES: [usize; 2] = [56, 4000];
/// The port of nobody.
const CLOSED: u16 = 7;

/// A question and its place in the matrix.
struct Asked<'a> {
    cell: Cell,
    question: Question,
    /// Who should answer.
    server: &'a str,
}

/// Asks everything.
pub fn ask(stage: &Stage) -> Answers {
    thread::scope(|scope| {
        let asker = |place| {
            move || {
                let asked = questions(stage, place);
                let questions: Vec<Question> = asked.iter().map(|asked| asked.question).collect();
                let outcomes = probe::ask(&place.ns, &stage.witness, &questions);
                let answers = asked.into_iter().zip(outcomes);
                let answers = answers.map(|(asked, outcome)| {
                    let words = words(stage, place, &asked, &outcome);
                    (asked.cell, words)
                });
                answers.collect::<Vec<_>>()
            }
        };
        let askers: Vec<_> = stage.places.iter().map(|place| scope.spawn(asker(place))).collect();
        let mut answers = Answers::new();
        for (cell, words) in askers.into_iter().flat_map(|asker| asker.join().expect("an asker")) {
            assert!(answers.insert(cell.clone(), words).is_none(), "{cell:?} was asked twice");
        }
        answers.extend(letters::send(stage));
        answers
    })
}

/// Everything that one place asks.
fn questions<'a>(stage: &'a Stage, place: &Place) -> Vec<Asked<'a>> {
    let mut found = Vec::new();
    let host = stage.place("host");
    for other in stage.places.iter().filter(|other| other.name != place.name) {
        let addresses = [Some(other.v4), other.v6];
        for (at, open) in [("its address", true), ("its address, a closed port", false)] {
            for address in addresses.into_iter().flatten() {
                server(place, other, at, address, open, &mut found);
            }
        }
    }
    for (at, address) in host_addresses(place) {
        server(place, host, &at, address, true, &mut found);
    }
    let own = [host.v4, host.v6.expect("IPv6")].map(|own| ("the host's address".to_owned(), own));
    for (what, tcp, udp) in PUBLISHED {
        let server = stage.place(&what[..2]);
        for (at, address) in own.iter().cloned().chain(host_addresses(place)) {
            published(place, server, what, (tcp, udp), (&at, address), &mut found);
        }
    }
    // Who has no address of a family has nothing to ask by it.
    found.retain(|asked| asked.cell.family == 4 || place.v6.is_some());
    found
}

/// Asks a server at one of its addresses, in every way.
fn server<'a>(
    place: &Place,
    server: &'a Place,
    at: &str,
    address: IpAddr,
    open: bool,
    found: &mut Vec<Asked<'a>>,
) {
    let [small, large] = SIZES;
    for by in
        [Means::Tcp, Means::Udp(small), Means::Udp(large), Means::Echo(small), Means::Echo(large)]
    {
        let port = match by {
            Means::Echo(_) if !open => continue,
            Means::Tcp if open => 80,
            Means::Udp(_) if open => 53,
            _ => CLOSED,
        };
        let cell = Cell {
            from: place.name.clone(),
            to: server.name.clone(),
            at: at.to_owned(),
            family: family(address),
            by: by.to_string(),
        };
        let question = Question { to: SocketAddr::new(address, port), by, bind: None };
        found.push(Asked { cell, question, server: &server.name });
    }
}

/// Asks a published port at one address.
fn published<'a>(
    place: &Place,
    server: &'a Place,
    what: &str,
    (tcp, udp): (u16, u16),
    (at, address): (&str, IpAddr),
    found: &mut Vec<Asked<'a>>,
) {
    let [small, large] = SIZES;
    for (by, port) in [(Means::Tcp, tcp), (Means::Udp(small), udp), (Means::Udp(large), udp)] {
        // Sockets that are bound to loopback go another way than others.
        for bind in [None, Some(address)] {
            let from = match bind {
                None => place.name.clone(),
                Some(address) if address.is_loopback() => {
                    format!("{}, bound to loopback", place.name)
                }
                Some(_) => continue,
            };
            let cell = Cell {
                from,
                to: format!("port of {what}"),
                at: at.to_owned(),
                family: family(address),
                by: by.to_string(),
            };
            let question = Question { to: SocketAddr::new(address, port), by, bind };
            found.push(Asked { cell, question, server: &server.name });
        }
    }
}

pub fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Addresses by which a place may try the host, beside the first one.
fn host_addresses(place: &Place) -> Vec<(String, IpAddr)> {
    let mut found: Vec<(String, IpAddr)> = vec![
        ("the host's second address".to_owned(), HOST_B.into()),
        ("the host's second address".to_owned(), HOST6_B.into()),
    ];
    let others = ["blue", "green"].into_iter().filter(|other| Some(*other) != place.network);
    let gateways = |network: &str, name: &str| {
        let (v4, v6) = gateways(network);
        let both = [Some(v4), v6].into_iter().flatten();
        both.map(|address| (name.to_owned(), address)).collect::<Vec<_>>()
    };
    if let Some(network) = place.network {
        found.extend(gateways(network, "the own gateway"));
    }
    for other in others {
        found.extend(gateways(other, &format!("the gateway of {other}")));
    }
    if place.name == "host" {
        found.push(("loopback".to_owned(), Ipv4Addr::LOCALHOST.into()));
        found.push(("loopback".to_owned(), Ipv6Addr::LOCALHOST.into()));
    }
    found
}

fn words(stage: &Stage, place: &Place, asked: &Asked<'_>, outcome: &Outcome) -> String {
    let role = |address| role(stage, place, asked.server, address);
    let seen = outcome.seen.as_ref().map(|(who, peer)| {
        let who = if who == asked.server { "the server" } else { who };
        format!("{who} sees {}", role(*peer))
    });
    let result = match &outcome.verdict {
        Verdict::Answered(by) if *by == asked.question.to.ip() => "answered".to_owned(),
        Verdict::Answered(by) => format!("answered by {}", role(*by)),
        Verdict::Refused => return "refused".to_owned(),
        Verdict::Failed(how) => how.clone(),
        Verdict::Silent => "silence".to_owned(),
    };
    match (&outcome.verdict, seen) {
        (_, None) => result,
        (Verdict::Answered(_), Some(seen)) => format!("{result}; {seen}"),
        (_, Some(seen)) => format!("{result}, but {seen}"),
    }
}

/// What an address is to those who talk.
pub fn role(stage: &Stage, client: &Place, server: &str, address: IpAddr) -> String {
    let server = stage.place(server);
    let gateway_of = |place: &Place| {
        place.network.is_some_and(|network| {
            let (v4, v6) = gateways(network);
            v4 == address || v6 == Some(address)
        })
    };
    if client.has(address) {
        "the client".to_owned()
    } else if server.has(address) {
        "the server".to_owned()
    } else if gateway_of(server) {
        "the server's gateway".to_owned()
    } else if gateway_of(client) {
        "the client's gateway".to_owned()
    } else {
        stage.name(address)
    }
}
