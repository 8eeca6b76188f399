//! Questions that others know the answer to: asked of one server after the other, each a moment after the one before
//! has said nothing, and the first good answer counts.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, UdpSocket},
    time,
};

use super::{framed, wire};

/// How long the next server waits for the one before.
const HEAD_START: Duration = Duration::from_millis(250);
/// After this long a datagram is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one server has.
const EACH: Duration = Duration::from_millis(2500);
/// How long all have: less than clients wait.
const ALL: Duration = Duration::from_secs(4);
/// How long a server that said nothing is asked last.
const GRUDGE: Duration = Duration::from_secs(10);
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// How a client asked, and so how a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What somebody may want to know of the servers.
pub(super) trait Witness: Sync {
    /// A server has answered after this long, or has not.
    fn asked(&self, server: SocketAddr, answered: Option<Duration>);
}

/// Asks others.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Forwarder {
    /// Asks the servers; none: nobody has answered in time.
    pub(super) async fn ask(
        &self,
        request: &[u8],
        transport: Transport,
        servers: &[SocketAddr],
        witness: &impl Witness,
    ) -> Option<Vec<u8>> {
        let ask = self.race(request, transport, self.in_order(servers), witness);
        time::timeout(ALL, ask).await.ok().flatten()
    }

    async fn race(
        &self,
        request: &[u8],
        transport: Transport,
        servers: Vec<SocketAddr>,
        witness: &impl Witness,
    ) -> Option<Vec<u8>> {
        let mut left = servers.into_iter();
        let mut asked = FuturesUnordered::new();
        asked.push(self.one(request, transport, left.next()?, witness));
        let mut worse = None;
        loop {
            let wait = if left.len() > 0 { HEAD_START } else { ALL };
            match time::timeout(wait, asked.next()).await {
                Ok(Some(Some(answer))) if !matches!(wire::code(&answer), SERVFAIL | REFUSED) => {
                    return Some(answer);
                }
                // It cannot, or will not: perhaps another can. The last word is relayed.
                Ok(Some(answer)) => worse = answer.or(worse),
                Ok(None) if left.len() == 0 => return worse,
                Ok(None) | Err(_) => {}
            }
            if let Some(next) = left.next() {
                asked.push(self.one(request, transport, next, witness));
            }
        }
    }

    /// Asks one server.
    async fn one(
        &self,
        request: &[u8],
        transport: Transport,
        server: SocketAddr,
        witness: &impl Witness,
    ) -> Option<Vec<u8>> {
        let begin = Instant::now();
        let mut own = request.to_vec();
        let number: [u8; 2] = rand::random();
        own.get_mut(..2)?.copy_from_slice(&number);
        let ask = async {
            match transport {
                Transport::Udp => datagram(&own, server).await,
                Transport::Tcp => stream(&own, server).await,
            }
        };
        let answer = time::timeout(EACH, ask).await;
        let answer = match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%server, %error, "a name server cannot be asked");
                None
            }
            Err(_) => None,
        };
        self.note(server, answer.is_some());
        witness.asked(server, answer.as_ref().map(|_| begin.elapsed()));
        let mut answer = answer?;
        wire::answer_to(&mut answer, request);
        Some(answer)
    }

    /// The servers, those last that have said nothing of late.
    fn in_order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let of_late =
            |server: &SocketAddr| silent.get(server).is_some_and(|at| at.elapsed() < GRUDGE);
        let mut servers = servers.to_vec();
        servers.sort_by_key(of_late);
        servers
    }

    fn note(&self, server: SocketAddr, answered: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            silent.remove(&server);
        } else {
            silent.retain(|_, at| at.elapsed() < GRUDGE);
            silent.insert(server, Instant::now());
        }
    }
}

/// A socket of its own for each question: its port is as hard to guess as its number.
async fn datagram(request: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match time::timeout(AGAIN, socket.recv(&mut buffer)).await {
            Ok(length) => {
                let answer = &buffer[..length?];
                if wire::answers(answer, request) {
                    return Ok(answer.to_vec());
                }
            }
            Err(_) => drop(socket.send(request).await?),
        }
    }
}

async fn stream(request: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    framed::write(&mut stream, request, EACH).await?;
    let Some(answer) = framed::read(&mut stream, EACH, EACH).await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    if wire::answers(&answer, request) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question"))
    }
}
