//! TCP: a server that says who is talking to it, and clients.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::Endpoint;
use crate::{Netns, wait};

/// Longer than a connection over idle virtual links takes, shorter than a SYN's first retry.
const CONNECT: Duration = Duration::from_millis(900);
/// The time an answer may take on a loaded machine.
const ANSWER: Duration = Duration::from_secs(10);

/// A server in a namespace. It greets with the peer's address and port in a line, and then echoes;
/// to an HTTP request it answers with the same line as body.
#[derive(Debug)]
pub struct TcpServer {
    /// Where it listens.
    pub address: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens on a port of every address.
    #[track_caller]
    pub fn start(ns: &Netns, port: u16) -> Self {
        Self::start_at(ns, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
    }

    /// Listens on an address.
    #[track_caller]
    pub fn start_at(ns: &Netns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let listener = super::bind(ns, address, TcpListener::bind);
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("a listener");
        let peers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (peers, stop) = (Arc::clone(&peers), Arc::clone(&stop));
            thread::spawn(move || accept(&listener, &peers, &stop))
        };
        Self { address, peers, stop, thread: Some(thread) }
    }

    /// Everybody who connected, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().expect("nobody panics holding it").clone()
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, peers: &Mutex<Vec<SocketAddr>>, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                // A server of both families sees who came by IPv4 in IPv6's clothes.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                peers.lock().expect("nobody panics holding it").push(peer);
                let stop = Arc::clone(stop);
                thread::spawn(move || serve(stream, peer, &stop).ok());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break,
        }
    }
    // Nobody is to be taken any more, whoever else still holds the listener: see `bind`.
    nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
}

fn serve(mut stream: TcpStream, peer: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut greeted = false;
    let mut buffer = [0; 16 << 10];
    while !stop.load(Ordering::Relaxed) {
        let got = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => &buffer[..got],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if got.starts_with(b"GET ") {
            let body = format!("{peer}\n");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )?;
            return Ok(());
        }
        if !greeted {
            greeted = true;
            writeln!(stream, "{peer}")?;
        }
        stream.write_all(got)?;
    }
    Ok(())
}

/// A client's open connection.
#[derive(Debug)]
pub struct Conversation<A = SocketAddrV4> {
    stream: TcpStream,
    /// The client's address and port as the server sees them.
    pub seen_as: A,
    sent: u64,
}

impl<A: Endpoint> Conversation<A> {
    /// Connects, and learns how the server sees the client.
    pub fn open(ns: &Netns, to: A) -> io::Result<Self> {
        let stream = connect(ns, to.into())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut conversation = Self { stream, seen_as: to, sent: 0 };
        conversation.stream.write_all(b"hello\n")?;
        let greeting = conversation.line()?;
        conversation.seen_as = greeting
            .parse()
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("greeted {greeting:?}")))?;
        let echo = conversation.line()?;
        if echo == "hello" {
            Ok(conversation)
        } else {
            Err(io::Error::new(ErrorKind::InvalidData, format!("echoed {echo:?}")))
        }
    }

    /// Sends a line and demands it back.
    pub fn say(&mut self) -> io::Result<()> {
        self.sent += 1;
        let line = format!("line {}", self.sent);
        self.stream.write_all(format!("{line}\n").as_bytes())?;
        let echo = self.line()?;
        if echo == line {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::InvalidData, format!("said {line:?}, heard {echo:?}")))
    }

    /// The client's own socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn connect(ns: &Netns, to: SocketAddr) -> io::Result<TcpStream> {
    ns.run(|| TcpStream::connect_timeout(&to, CONNECT))
}

/// Demands that a connection works both ways, and gives the client's address as the server sees it.
#[track_caller]
pub fn reaches<A: Endpoint>(ns: &Netns, to: A) -> A {
    // A first packet may have to wait for a neighbour's address, and a loaded machine for anything.
    let mut last = None;
    for _ in 0..3 {
        match Conversation::open(ns, to) {
            Ok(mut conversation) => {
                conversation.say().unwrap_or_else(|e| panic!("{} talks to {to}: {e}", ns.name()));
                return conversation.seen_as;
            }
            Err(error) => last = Some(error),
        }
    }
    panic!("{} does not reach {to}: {last:?}", ns.name());
}

/// Demands that nothing answers a connection, not even with a refusal.
#[track_caller]
pub fn unreachable(ns: &Netns, to: impl Into<SocketAddr>) {
    let to = to.into();
    match connect(ns, to) {
        Ok(_) => panic!("{} reaches {to}", ns.name()),
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            ),
            "{} to {to}: {error}",
            ns.name()
        ),
    }
}

/// Demands that nothing answers any of many connections.
#[track_caller]
pub fn all_unreachable<'a, A: Endpoint + Send>(ways: impl IntoIterator<Item = (&'a Netns, A)>) {
    thread::scope(|scope| {
        for (ns, to) in ways {
            scope.spawn(move || unreachable(ns, to));
        }
    });
}

/// Whether a server of ours greets a client in this thread's namespace within so much time.
pub fn greets(to: impl Into<SocketAddr>, limit: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to.into(), limit) else { return false };
    stream.set_read_timeout(Some(limit)).ok();
    stream.write_all(b"hello\n").is_ok() && stream.read(&mut [0; 64]).is_ok_and(|n| n > 0)
}

/// Demands that the connection is refused by whoever has the address.
#[track_caller]
pub fn refused(ns: &Netns, to: impl Into<SocketAddr>) {
    let to = to.into();
    let error = connect(ns, to).expect_err("the port is closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{} to {to}: {error}", ns.name());
}

/// Waits until the connection is refused: whoever tells that a container has ended does so before its ports are given back.
#[track_caller]
pub fn becomes_refused(ns: &Netns, to: impl Into<SocketAddr>) {
    let to = to.into();
    wait::wait_equal("a closed port", wait::SOON, &Some(ErrorKind::ConnectionRefused), || {
        connect(ns, to).err().map(|error| error.kind())
    });
}
