//! Who answers.

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{STREAM, Witness};
use crate::Netns;

/// Room for everything that arrives while the thread is kept waiting.
pub(super) const ROOM: usize = 16 << 20;

/// Answers TCP and UDP of both families on some ports, and watches the pings that the kernel answers.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts it in a namespace.
    #[track_caller]
    pub fn start(ns: &Netns, name: &str, witness: &Witness, tcp: &[u16], udp: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut sockets = ns.run(|| Sockets::open(name, witness, tcp, udp));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                sockets.turn();
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Sockets {
    name: String,
    witness: Witness,
    listeners: Vec<TcpListener>,
    streams: Vec<(TcpStream, IpAddr, Vec<u8>)>,
    datagrams: Vec<UdpSocket>,
    raw: [Socket; 2],
}

impl Sockets {
    fn open(name: &str, witness: &Witness, tcp: &[u16], udp: &[u16]) -> Self {
        let at = |port: &u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
        let listen = |port: &u16| {
            let listener = TcpListener::bind(at(port)).expect("a free port");
            listener.set_nonblocking(true).expect("a listener");
            listener
        };
        let bind = |port: &u16| {
            let socket = UdpSocket::bind(at(port)).expect("a free port");
            socket.set_nonblocking(true).expect("a socket");
            setsockopt(&socket, sockopt::RcvBufForce, &ROOM).expect("room");
            socket
        };
        Self {
            name: name.to_owned(),
            witness: witness.clone(),
            listeners: tcp.iter().map(listen).collect(),
            streams: Vec::new(),
            datagrams: udp.iter().map(bind).collect(),
            raw: [raw(Domain::IPV4), raw(Domain::IPV6)],
        }
    }

    fn turn(&mut self) {
        for listener in &self.listeners {
            while let Ok((stream, peer)) = listener.accept() {
                stream.set_nonblocking(true).expect("a stream");
                self.streams.push((stream, peer.ip(), Vec::new()));
            }
        }
        let (name, witness) = (&self.name, &self.witness);
        self.streams.retain_mut(|(stream, peer, got)| {
            let mut buffer = [0; STREAM];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    got.extend(&buffer[..length]);
                    witness.saw(got, name, *peer);
                    got.len() < STREAM || stream.write_all(got).is_ok()
                }
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        let mut buffer = [0; 8192];
        for socket in &self.datagrams {
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                witness.saw(&buffer[..length], name, peer.ip());
                socket.send_to(&buffer[..length], peer).ok();
            }
        }
        for (socket, request) in self.raw.iter().zip([8, 128]) {
            while let Some((message, peer)) = receive(socket) {
                if message.first() == Some(&request) {
                    witness.saw(message.get(8..).unwrap_or_default(), name, peer);
                }
            }
        }
    }
}

/// A socket that gets every ICMP message of a family.
pub(super) fn raw(domain: Domain) -> Socket {
    let protocol = if domain == Domain::IPV4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
    socket.set_nonblocking(true).expect("a socket");
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM).expect("room");
    socket
}

/// The next ICMP message, without the header of IPv4, and its sender.
pub(super) fn receive(socket: &Socket) -> Option<(Vec<u8>, IpAddr)> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    let (length, peer) = socket.recv_from(&mut buffer).ok()?;
    // SAFETY: the kernel has written so many bytes.
    let bytes: Vec<u8> =
        buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
    let peer = peer.as_socket()?.ip();
    let header = if peer.is_ipv4() { usize::from(bytes.first()? & 15) * 4 } else { 0 };
    Some((bytes.get(header..)?.to_vec(), peer))
}
