//! Who asks.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    Means, Outcome, Question, STREAM, Verdict, Witness, cookie, payload,
    reply::{raw, receive},
};
use crate::{Netns, checksum, netns};

/// How long is waited at least: longer than a neighbour that does not exist is looked for.
const AT_LEAST: Duration = Duration::from_secs(4);
/// And until nothing has come for so long: on a slow machine answers dribble in.
const QUIET: Duration = Duration::from_millis(1500);
/// What can get lost is said again so often, and after such pauses.
const AGAIN: (u32, Duration) = (3, Duration::from_millis(900));

/// Asks everything from one namespace, and waits until nothing more comes.
pub fn ask(ns: &Netns, witness: &Witness, questions: &[Question]) -> Vec<Outcome> {
    ns.run(|| {
        let mut asker = Asker::new(witness, questions);
        asker.hear_out();
        asker.open.into_iter().map(|open| open.outcome(witness)).collect()
    })
}

/// Everything that one namespace asks.
struct Asker {
    open: Vec<Open>,
    /// For all echo requests of a family there is one socket.
    raw: [Socket; 2],
    identifier: u16,
    numbers: HashMap<u64, usize>,
}

/// A question under way.
struct Open {
    question: Question,
    number: u64,
    line: Line,
    sent: u32,
    verdict: Option<Verdict>,
}

enum Line {
    Tcp { socket: Socket, connected: bool, got: Vec<u8> },
    Udp(UdpSocket),
    Echo,
}

impl Open {
    fn new(question: Question, number: u64) -> Self {
        let mut verdict = None;
        let line = match question.by {
            Means::Tcp => connect(&question),
            Means::Udp(_) => bind(&question).map(Line::Udp),
            Means::Echo(_) => Ok(Line::Echo),
        };
        let line = line.unwrap_or_else(|error| {
            verdict = Some(failed(&error));
            Line::Echo
        });
        Self { question, number, line, sent: 0, verdict }
    }

    fn outcome(self, witness: &Witness) -> Outcome {
        let verdict = self.verdict.unwrap_or(Verdict::Silent);
        Outcome { verdict, seen: witness.of(self.number) }
    }

    /// Looks whether something has come.
    fn look(&mut self) {
        let heard = match &mut self.line {
            Line::Tcp { socket, connected, got } => talk(socket, connected, got, self.number),
            Line::Udp(socket) => listen(socket, self.number),
            Line::Echo => return,
        };
        match heard {
            Ok(Some(by)) => self.verdict = Some(Verdict::Answered(by)),
            Ok(None) => {}
            Err(error) => self.verdict = Some(failed(&error)),
        }
    }
}

impl Asker {
    fn new(witness: &Witness, questions: &[Question]) -> Self {
        let raw = [raw(Domain::IPV4), raw(Domain::IPV6)];
        let open: Vec<Open> =
            questions.iter().map(|question| Open::new(*question, witness.number())).collect();
        let numbers = open.iter().enumerate().map(|(at, open)| (open.number, at)).collect();
        let identifier = u16::try_from(0x4200 + netns::unique() % 0x1000).unwrap_or(0);
        Self { open, raw, identifier, numbers }
    }

    fn hear_out(&mut self) {
        let start = Instant::now();
        let mut last = start;
        let mut round = 0;
        loop {
            if round < AGAIN.0 && start.elapsed() >= AGAIN.1 * round {
                round += 1;
                for at in 0..self.open.len() {
                    self.send(at);
                }
            }
            let before = self.pending();
            self.open.iter_mut().filter(|open| open.verdict.is_none()).for_each(Open::look);
            self.pings();
            let now = self.pending();
            if now < before {
                last = Instant::now();
            }
            let patient = start.elapsed() < AT_LEAST || last.elapsed() < QUIET;
            if now == 0 || !patient {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn pending(&self) -> usize {
        self.open.iter().filter(|open| open.verdict.is_none()).count()
    }

    /// Sends what one question sends, if it is still open and can be sent again.
    fn send(&mut self, at: usize) {
        let open = &mut self.open[at];
        if open.verdict.is_some() {
            return;
        }
        open.sent += 1;
        let to = open.question.to;
        let sent = match (open.question.by, &open.line) {
            (Means::Udp(size), Line::Udp(socket)) => {
                socket.send_to(&payload(open.number, size), to)
            }
            (Means::Echo(size), _) => {
                let message = request(to.ip(), self.identifier, at, open.number, size);
                let socket = &self.raw[usize::from(to.is_ipv6())];
                socket.send_to(&message, &SockAddr::from(SocketAddr::new(to.ip(), 0)))
            }
            _ => return,
        };
        if let Err(error) = sent {
            open.verdict = Some(failed(&error));
        }
    }

    /// Takes in everything that has come for the pings.
    fn pings(&mut self) {
        for (socket, [reply, too_far, unreachable]) in
            self.raw.iter().zip([[0, 11, 3], [129, 3, 1]])
        {
            while let Some((message, peer)) = receive(socket) {
                let Some(kind) = message.first().copied() else { continue };
                let (at, verdict) = if kind == reply {
                    let number = message.get(8..).and_then(cookie);
                    (number.and_then(|n| self.numbers.get(&n).copied()), Verdict::Answered(peer))
                } else if kind == unreachable || kind == too_far {
                    let at = quoted(&message, peer.is_ipv4(), self.identifier);
                    (at, Verdict::Failed("an ICMP error".to_owned()))
                } else {
                    continue;
                };
                if let Some(open) = at.and_then(|at| self.open.get_mut(at))
                    && matches!(open.line, Line::Echo)
                {
                    open.verdict.get_or_insert(verdict);
                }
            }
        }
    }
}

fn any(question: &Question) -> SocketAddr {
    let any = match question.to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(question.bind.unwrap_or(any), 0)
}

fn connect(question: &Question) -> io::Result<Line> {
    let domain = Domain::for_address(question.to);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if question.bind.is_some() {
        socket.bind(&any(question).into())?;
    }
    match socket.connect(&question.to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(Line::Tcp { socket, connected: false, got: Vec::new() }),
    }
}

fn bind(question: &Question) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any(question))?;
    socket.set_nonblocking(true)?;
    // Errors are told to sockets that are not connected, too.
    if question.to.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(socket)
}

/// Goes on with a connection; who answered, once everything has come back.
fn talk(
    socket: &mut Socket,
    connected: &mut bool,
    got: &mut Vec<u8>,
    number: u64,
) -> io::Result<Option<IpAddr>> {
    if !*connected {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let Ok(_) = socket.peer_addr() else { return Ok(None) };
        *connected = true;
        socket.write_all(&payload(number, STREAM))?;
    }
    let mut buffer = [0; STREAM];
    match socket.read(&mut buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => {
            got.extend(&buffer[..length]);
            if got.len() < STREAM {
                return Ok(None);
            }
            same(got, number, STREAM)?;
            Ok(socket.peer_addr()?.as_socket().map(|peer| peer.ip()))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn listen(socket: &UdpSocket, number: u64) -> io::Result<Option<IpAddr>> {
    let mut buffer = [0; 8192];
    match socket.recv_from(&mut buffer) {
        Ok((length, peer)) => {
            same(&buffer[..length], number, length)?;
            Ok(Some(peer.ip()))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(got: &[u8], number: u64, size: usize) -> io::Result<()> {
    if got == payload(number, size) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn failed(error: &io::Error) -> Verdict {
    match error.kind() {
        ErrorKind::ConnectionRefused => Verdict::Refused,
        ErrorKind::UnexpectedEof => Verdict::Failed("closed".to_owned()),
        ErrorKind::InvalidData => Verdict::Failed("wrong bytes".to_owned()),
        ErrorKind::HostUnreachable => Verdict::Failed("host unreachable".to_owned()),
        ErrorKind::NetworkUnreachable => Verdict::Failed("no route".to_owned()),
        ErrorKind::ConnectionReset => Verdict::Failed("reset".to_owned()),
        _ => Verdict::Failed(error.to_string()),
    }
}

/// An echo request whose sequence number is that of the question.
fn request(to: IpAddr, identifier: u16, at: usize, number: u64, size: usize) -> Vec<u8> {
    let mut message = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(u16::try_from(at).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(payload(number, size));
    if to.is_ipv4() {
        // The kernel fills it in for IPv6 alone.
        let sum = checksum::finish(checksum::add(0, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The sequence number in the echo request of ours that an error quotes.
fn quoted(message: &[u8], v4: bool, identifier: u16) -> Option<usize> {
    let quote = message.get(8..)?;
    let header = if v4 { usize::from(quote.first()? & 15) * 4 } else { 40 };
    let mut inner = quote.get(header..)?;
    // The first fragment of an IPv6 packet has its own header between.
    if !v4 && quote.get(6) == Some(&44) {
        inner = inner.get(8..)?;
    }
    let word = |at: usize| Some(u16::from_be_bytes(inner.get(at..at + 2)?.try_into().ok()?));
    (word(4)? == identifier).then_some(usize::from(word(6)?))
}
