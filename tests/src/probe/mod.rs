//! Many questions at once: who answers, whom the server sees, and what stays silent.
//!
//! [`ask`] sends everything from one namespace and waits once for all of it, so that silence costs the
//! same however often it is met. [`Responder`]s answer, and write down in the common [`Witness`] whom
//! they saw, even where no answer ever arrives.

mod ask;
mod reply;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use ask::ask;
pub use reply::Responder;

/// What every payload begins with: this, and the number of the question.
const MAGIC: u64 = 0xba5c_01e0 << 32;
/// Bytes of that beginning.
const COOKIE: usize = 8;
/// Bytes that a TCP client sends and wants back: more than one segment.
const STREAM: usize = 4000;

/// By what a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Means {
    /// A connection, data in several segments, and the same data back.
    Tcp,
    /// A datagram with so many bytes.
    Udp(usize),
    /// An echo request with so many bytes.
    Echo(usize),
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => write!(f, "tcp"),
            Self::Udp(size) => write!(f, "udp {size}"),
            Self::Echo(size) => write!(f, "ping {size}"),
        }
    }
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Whom to ask; the port of a ping is of no matter.
    pub to: SocketAddr,
    /// How.
    pub by: Means,
    /// The address that the asking socket is bound to, if it is.
    pub bind: Option<IpAddr>,
}

/// What came of it, as the asker sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// What was sent came back, from this address.
    Answered(IpAddr),
    /// Refused: a reset, or a port that is said to be closed.
    Refused,
    /// An error of another kind.
    Failed(String),
    /// Nothing came.
    Silent,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the asker saw.
    pub verdict: Verdict,
    /// Which responder got it, and the source address that it saw.
    pub seen: Option<(String, IpAddr)>,
}

/// What responders saw.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    next: Arc<AtomicU64>,
    seen: Arc<Mutex<HashMap<u64, (String, IpAddr)>>>,
}

impl Witness {
    /// A number that no other question of this witness has.
    fn number(&self) -> u64 {
        MAGIC | self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn saw(&self, payload: &[u8], who: &str, peer: IpAddr) {
        let Some(number) = cookie(payload) else { return };
        let mut seen = self.seen.lock().expect("nobody panics holding it");
        seen.entry(number).or_insert_with(|| (who.to_owned(), peer.to_canonical()));
    }

    fn of(&self, number: u64) -> Option<(String, IpAddr)> {
        self.seen.lock().expect("nobody panics holding it").get(&number).cloned()
    }
}

/// The question that a payload is of.
fn cookie(payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(payload.get(..COOKIE)?.try_into().ok()?);
    (number >> 32 == MAGIC >> 32).then_some(number)
}

/// A payload of that size, at least of a cookie's.
fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((COOKIE..size).map(|at| u8::try_from(at % 251).unwrap_or(0)));
    bytes
}

/// Lets this process have as many sockets as it may.
pub fn many_sockets() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("as many as allowed");
}
