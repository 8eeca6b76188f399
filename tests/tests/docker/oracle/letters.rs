//! Packets by hand: what arrives of each header, and what comes back. Sockets show none of this, and for SCTP there
//! are none.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{
    capture::Capture,
    checksum,
    frame::{Body, DESTINATION, Frame},
    sctp::{self, SCTP},
    topology::UPLINK,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    matrix::{Answers, Cell, family, role},
    stage::{PUBLISHED, Place, Stage},
};

/// Every letter bears this and its number, one step for what a TCP answers to a sequence number.
const MARK: u32 = 0xb5c1_0000;
const STEP: u32 = 4;
/// Source ports of letters, one each.
const PORTS: u16 = 20_000;
/// One that two containers have.
const SHARED: u16 = 4000;
/// Expedited forwarding, and a congestion mark.
const TOS: u8 = 0xb9;
/// Selective acknowledgement, time stamps, window scale; and the maximum segment sizes of both families in front.
const OPTIONS: [u8; 16] = [4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
const RST: u8 = 4;
/// How long is listened at least, and until nothing has come for so long.
const AT_LEAST: Duration = Duration::from_millis(600);
const QUIET: Duration = Duration::from_millis(250);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first packet of an association.
    Sctp,
    /// The same, from a port that another container has, too.
    Shared,
    /// The first packet of a connection, with options.
    Syn,
    /// A datagram that may not be fragmented.
    Whole,
    /// One that may.
    Datagram,
    /// One without a checksum.
    Unsummed,
    /// One with IPv4 options, or an IPv6 header in between.
    Optional,
    /// One whose time is over at the first router, or the second.
    Ends(u8),
    /// An echo request.
    Echo,
}

const KINDS: [Kind; 9] = [
    Kind::Sctp,
    Kind::Syn,
    Kind::Whole,
    Kind::Datagram,
    Kind::Unsummed,
    Kind::Optional,
    Kind::Ends(1),
    Kind::Ends(2),
    Kind::Echo,
];

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Sctp => "an SCTP INIT",
            Self::Shared => "an SCTP INIT from the port of another container",
            Self::Syn => "a SYN with options",
            Self::Whole => "a datagram with DF",
            Self::Datagram => "a datagram without DF",
            Self::Unsummed => "a datagram without checksum",
            Self::Optional => "a datagram with options of IP",
            Self::Ends(ttl) => return format!("a datagram with TTL {ttl}"),
            Self::Echo => "an echo request",
        }
        .to_owned()
    }

    /// Which of a place's ports it is for, or is published.
    const fn port(self, (tcp, udp): (u16, u16)) -> u16 {
        match self {
            Self::Sctp | Self::Shared | Self::Syn => tcp,
            _ => udp,
        }
    }
}

/// Who writes to whom: between containers and with the outside, at their own addresses and by published ports.
const WAYS: [(&str, &str); 14] = [
    ("a1", "a2"),
    ("a1", "b1"),
    ("q1", "q2"),
    ("i1", "i2"),
    ("i1", "outside"),
    ("a1", "outside"),
    ("a1", "neighbour"),
    ("d1", "outside"),
    ("m1", "outside"),
    ("p1", "outside"),
    ("outside", "a1"),
    ("neighbour", "a1"),
    ("a1", "host"),
    ("outside", "host"),
];

/// One packet and its place in the matrix.
struct Letter<'a> {
    cell: Cell,
    asker: &'a Place,
    server: &'a Place,
    frame: Frame,
    mark: u32,
}

/// Sends every letter, and tells what became of each.
pub fn send(stage: &Stage) -> Answers {
    let letters = letters(stage);
    let captures: BTreeMap<&str, Capture> = stage
        .places
        .iter()
        .map(|place| {
            let interface = if place.name == "host" { UPLINK } else { "eth0" };
            (place.name.as_str(), Capture::arriving(&place.ns, interface))
        })
        .collect();
    // Who comes second of those with one port has to be the same everywhere.
    let second = Kind::Shared.name();
    let mut failed = BTreeMap::new();
    for last in [false, true] {
        for letter in letters.iter().filter(|letter| (letter.cell.by == second) == last) {
            if let Err(error) = letter.post() {
                failed.insert(&letter.cell, error);
            }
        }
        listen(&captures);
    }
    let heard: BTreeMap<&str, Vec<Vec<u8>>> =
        captures.iter().map(|(name, capture)| (*name, capture.raw())).collect();
    let words = |letter: &Letter<'_>| match failed.get(&letter.cell).map(|error| error.kind()) {
        None => letter.words(stage, &heard),
        Some(ErrorKind::NetworkUnreachable) => "no route".to_owned(),
        Some(other) => other.to_string(),
    };
    letters.iter().map(|letter| (letter.cell.clone(), words(letter))).collect()
}

/// Waits until nothing more comes.
fn listen(captures: &BTreeMap<&str, Capture>) {
    let count = || captures.values().map(Capture::count).sum::<usize>();
    let (start, mut last, mut seen) = (Instant::now(), Instant::now(), count());
    while start.elapsed() < AT_LEAST || last.elapsed() < QUIET {
        thread::sleep(Duration::from_millis(20));
        let now = count();
        if now != seen {
            (last, seen) = (Instant::now(), now);
        }
    }
}

/// All letters of the world.
fn letters(stage: &Stage) -> Vec<Letter<'_>> {
    let mut letters = Vec::new();
    let mut write = |from: &str, to: &str, at: (&str, &str, &[IpAddr]), ports, kind: Kind| {
        let (asker, server) = (stage.place(from), stage.place(to));
        for address in at.2.iter().copied() {
            let own = if address.is_ipv4() { Some(asker.v4) } else { asker.v6 };
            let Some(own) = own.filter(|_| kind.exists(address.is_ipv4())) else { continue };
            let number = u16::try_from(letters.len()).expect("not so many");
            let shared = kind == Kind::Shared || (kind, from, to) == (Kind::Sctp, "a1", "outside");
            let port = if shared { SHARED } else { PORTS + number };
            let mark = MARK + u32::from(number) * STEP;
            let cell = Cell {
                from: from.to_owned(),
                to: at.0.to_owned(),
                at: at.1.to_owned(),
                family: family(address),
                by: kind.name(),
            };
            let [from, to] = [(own, port), (address, kind.port(ports))].map(SocketAddr::from);
            letters.push(Letter { cell, asker, server, frame: kind.frame(from, to, mark), mark });
        }
    };
    for (from, to) in WAYS {
        let server = stage.place(to);
        let addresses: Vec<IpAddr> = [Some(server.v4), server.v6].into_iter().flatten().collect();
        for kind in KINDS {
            write(from, to, (to, "its address", &addresses), (80, 53), kind);
        }
    }
    let outside = stage.place("outside");
    let addresses: Vec<IpAddr> = [Some(outside.v4), outside.v6].into_iter().flatten().collect();
    write("b1", "outside", ("outside", "its address", &addresses), (80, 53), Kind::Shared);
    let host = stage.place("host");
    let addresses = [host.v4, host.v6.expect("IPv6")];
    let (what, tcp, udp) = PUBLISHED[0];
    for from in ["outside", "neighbour"] {
        for kind in KINDS {
            let to = (&*format!("port of {what}"), "the host's address", &addresses[..]);
            write(from, &what[..2], to, (tcp, udp), kind);
        }
    }
    letters
}

impl Kind {
    /// Whether the family has it.
    fn exists(self, v4: bool) -> bool {
        v4 || !matches!(self, Self::Whole | Self::Unsummed)
    }

    /// The packet.
    fn frame(self, from: SocketAddr, to: SocketAddr, mark: u32) -> Frame {
        let (src, dst) = (from.to_string(), to.to_string());
        let datagram =
            || Frame::udp(&src, &dst).data(&[&mark.to_be_bytes()[..], b"by hand"].concat());
        let frame = match self {
            Self::Sctp | Self::Shared => {
                let payload = sctp::init_with_tag(from.port(), to.port(), mark);
                Frame::new(from.ip(), to.ip(), Body::Raw { proto: SCTP, payload })
            }
            Self::Syn => {
                let segment: u16 = if from.is_ipv4() { 1460 } else { 1440 };
                let options = [&[2, 4][..], &segment.to_be_bytes(), &OPTIONS].concat();
                let mut frame = Frame::tcp(&src, &dst).syn().tcp_options(&options);
                if let Body::Tcp { seq, .. } = &mut frame.body {
                    *seq = mark;
                }
                frame
            }
            Self::Whole => datagram(),
            Self::Datagram => datagram().fragment(0),
            Self::Unsummed => datagram().without_checksum(),
            Self::Optional if from.is_ipv4() => datagram().ip_options(&[1, 1, 1, 0]),
            Self::Optional => datagram().padding(DESTINATION),
            Self::Ends(ttl) => datagram().ttl(ttl),
            Self::Echo => Frame::echo(&from.ip().to_string(), &to.ip().to_string(), from.port())
                .data(&mark.to_be_bytes()),
        };
        frame.tos(TOS)
    }
}

impl Letter<'_> {
    /// Sends it, headers and all, as its writer would.
    fn post(&self) -> io::Result<()> {
        let bytes = self.frame.ip_bytes();
        let to = SocketAddr::new(self.frame.dst, 0);
        self.asker.ns.run(|| {
            let raw = Protocol::from(libc::IPPROTO_RAW);
            let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(raw))?;
            socket.send_to(&bytes, &SockAddr::from(to)).map(drop)
        })
    }

    /// What became of it.
    fn words(&self, stage: &Stage, heard: &BTreeMap<&str, Vec<Vec<u8>>>) -> String {
        let mark = self.mark.to_be_bytes();
        let marked = |bytes: &&Vec<u8>| bytes.windows(mark.len()).any(|word| word == mark);
        let arrived = heard[self.server.name.as_str()].iter().filter(marked).find_map(|bytes| {
            let frame = Frame::parse(bytes).filter(|frame| frame.proto() == self.frame.proto())?;
            (self.server.has(frame.dst) && quoted(&frame).is_none()).then_some((bytes, frame))
        });
        let arrived = arrived.map(|(bytes, frame)| self.arrival(stage, bytes, &frame));
        let back = heard[self.asker.name.as_str()].iter().filter_map(|bytes| Frame::parse(bytes));
        let answers = |frame: &Frame| self.asker.has(frame.dst) && self.is_answered_by(frame);
        let back = back.filter(answers).map(|frame| self.answer(stage, &frame));
        let words: Vec<String> = arrived.into_iter().chain(back.take(1)).collect();
        if words.is_empty() { "silence".to_owned() } else { words.join("; ") }
    }

    /// Whether this comes back for it: what was sent, a segment that takes note of its number, or an error about it.
    fn is_answered_by(&self, frame: &Frame) -> bool {
        if let Some(quoted) = quoted(frame) {
            let to = |frame: &Frame| (frame.src, frame.dst, frame.proto(), ports(frame));
            return to(&quoted) == to(&self.frame);
        }
        match &frame.body {
            Body::Tcp { ack, .. } => *ack == self.mark + 1,
            Body::Udp { payload, .. } | Body::Icmp { payload, .. } => {
                payload.starts_with(&self.mark.to_be_bytes())
            }
            Body::Raw { .. } => false,
        }
    }

    /// What arrives, by what is another than it was.
    fn arrival(&self, stage: &Stage, bytes: &[u8], got: &Frame) -> String {
        let sent = &self.frame;
        let mut words = format!("arrives from {}", self.role(stage, got.src));
        let ports = [sent, got].map(ports);
        let mut different = |what: &str, is: bool| {
            if is {
                words += &format!(", {what}");
            }
        };
        different("another port", ports[0].0 != ports[1].0);
        different(
            &format!("TTL -{}", i32::from(sent.ttl) - i32::from(got.ttl)),
            sent.ttl != got.ttl,
        );
        different(&format!("TOS {:#04x}", got.tos), sent.tos != got.tos);
        different("other fragment bits", sent.fragment != got.fragment);
        let more = (&sent.options, &sent.extensions) != (&got.options, &got.extensions);
        different("other options of IP", more);
        different("another body", letter_of(sent) != letter_of(got));
        let broken = checksum::verify(bytes).is_err()
            || matches!(&got.body, Body::Raw { proto: SCTP, payload } if !sctp::is_intact(payload));
        different("a wrong checksum", broken);
        words
    }

    /// What comes back.
    fn answer(&self, stage: &Stage, got: &Frame) -> String {
        let by = self.role(stage, got.src);
        if let (Body::Icmp { kind, code, .. }, Some(quoted)) = (&got.body, quoted(got)) {
            let whole = letter_of(&quoted) == letter_of(&self.frame);
            let less = if whole { "" } else { ", quoting less than all" };
            return format!("told \"{}\" by {by}{less}", error(got.src.is_ipv4(), *kind, *code));
        }
        let mut words = match got.body {
            Body::Tcp { flags, .. } if flags & RST != 0 => "refused".to_owned(),
            _ => "answered".to_owned(),
        };
        if got.src != self.frame.dst {
            words += &format!(" by {by}");
        }
        match 64 - i32::from(got.ttl) {
            0 => words,
            less => format!("{words}, TTL -{less}"),
        }
    }

    fn role(&self, stage: &Stage, address: IpAddr) -> String {
        role(stage, self.asker, &self.server.name, address)
    }
}

/// Ports, of SCTP too; the identifier of an echo stands for both.
fn ports(frame: &Frame) -> (u16, u16) {
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]))
    };
    match &frame.body {
        Body::Raw { payload, .. } => (word(payload, 0), word(payload, 2)),
        Body::Icmp { rest, .. } => (word(rest, 0), word(rest, 0)),
        _ => frame.ports().unwrap_or_default(),
    }
}

/// The body without what a translation changes.
fn letter_of(frame: &Frame) -> Body {
    let mut body = frame.body.clone();
    match &mut body {
        Body::Tcp { src, dst, .. } | Body::Udp { src, dst, .. } => (*src, *dst) = (0, 0),
        Body::Icmp { rest, .. } => rest[..2].fill(0),
        // Ports and checksum.
        Body::Raw { payload, .. } => drop(payload.drain(..payload.len().min(12))),
    }
    body
}

/// What an ICMP error is about.
fn quoted(frame: &Frame) -> Option<Frame> {
    let Body::Icmp { kind, payload, .. } = &frame.body else { return None };
    let errors: &[u8] = if frame.src.is_ipv4() { &[3, 11, 12] } else { &[1, 2, 3, 4] };
    errors.contains(kind).then(|| Frame::parse_ip(payload)).flatten()
}

/// An ICMP error in words.
fn error(v4: bool, kind: u8, code: u8) -> String {
    match (v4, kind, code) {
        (true, 3, 0) | (false, 1, 0) => "no route",
        (true, 3, 1) | (false, 1, 3) => "host unreachable",
        (true, 3, 2) => "protocol unreachable",
        (false, 4, 1) => "unknown next header",
        (true, 3, 3) | (false, 1, 4) => "port unreachable",
        (true, 3, 9 | 10 | 13) | (false, 1, 1) => "prohibited",
        (true, 11, 0) | (false, 3, 0) => "time exceeded",
        _ => return format!("ICMP {kind}/{code}"),
    }
    .to_owned()
}
