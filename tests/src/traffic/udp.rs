//! UDP: a server that says who is talking to it, and a client.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::Endpoint;
use crate::Netns;

/// A server that answers every datagram with its sender's address, a space, and the datagram.
#[derive(Debug)]
pub struct UdpServer {
    /// Where it listens.
    pub address: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Listens on a port of every address.
    #[track_caller]
    pub fn start(ns: &Netns, port: u16) -> Self {
        Self::start_at(ns, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
    }

    /// Listens on an address.
    #[track_caller]
    pub fn start_at(ns: &Netns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let socket = super::bind(ns, address, UdpSocket::bind);
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let address = socket.local_addr().expect("a socket");
        let peers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (peers, stop) = (Arc::clone(&peers), Arc::clone(&stop));
            thread::spawn(move || serve(&socket, &peers, &stop))
        };
        Self { address, peers, stop, thread: Some(thread) }
    }

    /// Senders of every datagram, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().expect("nobody panics holding it").clone()
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(socket: &UdpSocket, peers: &Mutex<Vec<SocketAddr>>, stop: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        peers.lock().expect("nobody panics holding it").push(peer);
        let mut answer = format!("{peer} ").into_bytes();
        // An answer longer than a datagram can be is cut: the client looks at its beginning.
        answer.extend(&buffer[..length.min(65_000)]);
        socket.send_to(&answer, peer).ok();
    }
}

/// A connected socket in a namespace.
pub fn client<A: Endpoint>(ns: &Netns, to: A) -> io::Result<UdpSocket> {
    let to: SocketAddr = to.into();
    let socket = ns.run(|| UdpSocket::bind(A::ANY))?;
    ns.run(|| socket.connect(to))?;
    socket.set_read_timeout(Some(Duration::from_millis(900)))?;
    Ok(socket)
}

/// Sends a datagram of that size and gives the client's address as the server sees it.
pub fn try_exchange<A: Endpoint>(ns: &Netns, to: A, size: usize) -> io::Result<A> {
    ask_as(&client(ns, to)?, size)
}

/// Sends a datagram on a connected socket and gives the client's address as the server sees it.
pub fn ask(socket: &UdpSocket, size: usize) -> io::Result<SocketAddrV4> {
    ask_as(socket, size)
}

/// The same, for a socket of either family.
pub fn ask_as<A: Endpoint>(socket: &UdpSocket, size: usize) -> io::Result<A> {
    let payload: Vec<u8> = (0..size).map(|at| b'a' + u8::try_from(at % 26).unwrap_or(0)).collect();
    socket.send(&payload)?;
    let mut buffer = [0; 66_000];
    let length = socket.recv(&mut buffer)?;
    let answer = &buffer[..length];
    let space = answer.iter().position(|byte| *byte == b' ').unwrap_or(length);
    if answer.get(space + 1..) != Some(payload.as_slice()) {
        return Err(io::Error::new(ErrorKind::InvalidData, "the echo is not what was sent"));
    }
    String::from_utf8_lossy(&answer[..space])
        .parse()
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "no address in the answer"))
}

/// Demands an answer to a datagram, and gives the client's address as the server sees it.
#[track_caller]
pub fn exchange<A: Endpoint>(ns: &Netns, to: A, size: usize) -> A {
    let mut last = None;
    for _ in 0..3 {
        match try_exchange(ns, to, size) {
            Ok(seen_as) => return seen_as,
            Err(error) => last = Some(error),
        }
    }
    panic!("{} gets no answer over UDP from {to}: {last:?}", ns.name());
}
