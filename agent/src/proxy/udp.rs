//! UDP: a socket towards the container for each client and port, until nothing was said for a while.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bascule_common::wire::proto;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use tokio::{io::Interest, net::UdpSocket, task::JoinHandle, time};

use super::{Context, answer::Sender};
use crate::telemetry::Carried;

/// After this long without a datagram a conversation is over.
const IDLE: Duration = Duration::from_secs(90);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(5);
/// More than any datagram holds.
const DATAGRAM: usize = 1 << 16;

/// Who talks to whom. The container is part of it: where the port leads elsewhere, a new conversation begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Parties {
    client: SocketAddr,
    asked: SocketAddr,
    backend: SocketAddr,
}

/// A conversation.
struct Conversation {
    socket: Arc<UdpSocket>,
    last: Arc<AtomicU64>,
    answers: JoinHandle<()>,
    _count: Carried,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// All conversations of a family.
pub(super) struct Server {
    socket: UdpSocket,
    context: Arc<Context>,
    sender: Arc<Sender>,
    start: Instant,
    conversations: HashMap<Parties, Conversation>,
}

impl Server {
    pub(super) fn new(socket: UdpSocket, context: Arc<Context>, sender: Arc<Sender>) -> Self {
        let conversations = HashMap::new();
        Self { socket, context, sender, start: Instant::now(), conversations }
    }

    /// Carries datagrams, of so many conversations at once.
    pub(super) async fn run(mut self, limit: usize) {
        let mut buffer = vec![0; DATAGRAM];
        let mut sweep = time::interval(SWEEP);
        loop {
            let received = tokio::select! {
                received = receive(&self.socket, &mut buffer) => received,
                // Who talks to nobody has nothing to forget.
                _ = sweep.tick(), if !self.conversations.is_empty() => {
                    self.sweep();
                    continue;
                }
            };
            match received {
                Ok(Some((length, client, asked))) => {
                    self.forward(client, asked, &buffer[..length], limit).await;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the proxy cannot receive");
                    time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn forward(&mut self, client: SocketAddr, asked: SocketAddr, bytes: &[u8], limit: usize) {
        let proxy = &self.context.metrics.proxy;
        let Some(backend) = self.context.ports.backend(proto::UDP, asked) else {
            return proxy.refuse("udp", "unpublished");
        };
        let parties = Parties { client, asked, backend };
        if !self.conversations.contains_key(&parties) {
            if self.conversations.len() >= limit {
                return proxy.refuse("udp", "full");
            }
            match self.open(parties).await {
                Ok(conversation) => drop(self.conversations.insert(parties, conversation)),
                Err(error) => {
                    tracing::debug!(%backend, %error, "the proxy does not reach a container");
                    return proxy.refuse("udp", "unreachable");
                }
            }
        }
        if let Some(conversation) = self.conversations.get(&parties) {
            conversation.last.store(self.now(), Ordering::Relaxed);
            // An error is an earlier datagram's (nobody listened); this one is sent all the same.
            if conversation.socket.try_send(bytes).is_err() {
                drop(conversation.socket.try_send(bytes));
            }
        }
    }

    async fn open(&self, parties: Parties) -> io::Result<Conversation> {
        let own: SocketAddr = match parties.backend {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = Arc::new(UdpSocket::bind(own).await?);
        socket.connect(parties.backend).await?;
        // tokio learns with the first attempt that the socket can be written.
        socket.writable().await?;
        let last = Arc::new(AtomicU64::new(self.now()));
        let answers = tokio::spawn(answer(
            Arc::clone(&socket),
            Arc::clone(&self.sender),
            parties,
            Arc::clone(&last),
            self.start,
        ));
        let count = self.context.metrics.proxy.begin("udp");
        Ok(Conversation { socket, last, answers, _count: count })
    }

    /// Forgets conversations that are over.
    fn sweep(&mut self) {
        let now = self.now();
        let idle = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
        self.conversations.retain(|_, c| now.saturating_sub(c.last.load(Ordering::Relaxed)) < idle);
    }

    fn now(&self) -> u64 {
        elapsed(self.start)
    }
}

fn elapsed(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Carries what the container answers.
async fn answer(
    socket: Arc<UdpSocket>,
    sender: Arc<Sender>,
    parties: Parties,
    last: Arc<AtomicU64>,
    start: Instant,
) {
    // A buffer for the time of a datagram: conversations are many, and mostly silent.
    while socket.readable().await.is_ok() {
        let mut buffer = vec![0; DATAGRAM];
        // An error says that nobody listens there, yet.
        let Ok(length) = socket.try_recv(&mut buffer) else { continue };
        last.store(elapsed(start), Ordering::Relaxed);
        if let Err(error) = sender.send(parties.asked, parties.client, &buffer[..length]) {
            tracing::debug!(client = %parties.client, %error, "an answer of the proxy is lost");
        }
    }
}

/// Receives a datagram: its length, who sent it, and to which address and port.
async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
    socket
        .async_io(Interest::READABLE, || {
            let mut control = nix::cmsg_space!(libc::sockaddr_in6);
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                flags,
            )?;
            let asked = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
                }
                ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                    Some(SocketAddrV6::new(ip, u16::from_be(address.sin6_port), 0, 0).into())
                }
                _ => None,
            });
            let client = received.address.as_ref().and_then(address_of);
            Ok(client.zip(asked).map(|(client, asked)| (received.bytes, client, asked)))
        })
        .await
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
}
