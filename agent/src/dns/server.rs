//! Where questions come in: a thread for the datagrams of each family, and a task for each connection.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    net::{IpAddr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::JoinSet,
    time,
};

use super::{
    batch::{Batch, Parties, Turn},
    engine::{Engine, Fate, View},
    forward::Transport,
    framed,
    limits::Limit,
    pressure::Pressure,
    sockets::{self, Sockets},
    told::Exchange,
};
use crate::{
    kernel::names::Place,
    telemetry::{By, Questions, Refusal},
};

/// Connections at once, for everybody and for one container.
const CONNECTIONS: (usize, usize) = (512, 32);
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long a message may take once it has begun, either way.
const MESSAGE: Duration = Duration::from_secs(5);
/// Answers that a thread remembers, as long as no name changes.
const REMEMBERED: usize = 16_384;
/// Questions longer than a name with its header and what EDNS says are not remembered: padding would fill the memory.
const LONGEST_REMEMBERED: usize = 320;
/// How long a failure is waited over, and how often a thread that keeps a flood out looks whether that is over.
const BREATH: Duration = Duration::from_millis(500);

/// A server, until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    datagrams: Vec<Arc<UdpSocket>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.abort_all();
        for socket in &self.datagrams {
            // Linux wakes who waits for datagrams, and says that nobody is connected.
            drop(SockRef::from(socket.as_ref()).shutdown(Shutdown::Read));
        }
    }
}

impl Server {
    /// Listens in a place of its own.
    pub(super) async fn start(engine: &Arc<Engine>, place: &Place) -> io::Result<Self> {
        let mut server =
            Self { stop: Arc::default(), tasks: JoinSet::new(), datagrams: Vec::new() };
        let limit = Limit::new(CONNECTIONS.0, CONNECTIONS.1);
        for is_v6 in [false, true] {
            if is_v6 && !place.has_ipv6 {
                continue;
            }
            let opened = place.namespace.run(move || sockets::open(is_v6)).await;
            let Sockets { udp, tcp } = opened.map_err(io::Error::other)??;
            let udp = Arc::new(udp);
            server.datagrams.push(Arc::clone(&udp));
            let (engine_, stop) = (Arc::clone(engine), Arc::clone(&server.stop));
            let runtime = Handle::current();
            thread::Builder::new()
                .name(if is_v6 { "names-6" } else { "names-4" }.into())
                .spawn(move || Datagrams::new(engine_, udp, runtime).run(&stop))?;
            let tcp = TcpListener::from_std(tcp)?;
            server.tasks.spawn(accept(Arc::clone(engine), tcp, Arc::clone(&limit)));
        }
        Ok(server)
    }
}

/// An answer without its number, and what counts it.
type Remembered = (Box<[u8]>, Questions);

/// The datagrams of a family.
struct Datagrams {
    engine: Arc<Engine>,
    socket: Arc<UdpSocket>,
    runtime: Handle,
    view: Arc<View>,
    /// By who asked, at which address, and all of the question but its number.
    remembered: HashMap<Box<[u8]>, Remembered>,
    key: Vec<u8>,
    turn: usize,
    pressure: Pressure,
}

impl Datagrams {
    fn new(engine: Arc<Engine>, socket: Arc<UdpSocket>, runtime: Handle) -> Self {
        let view = engine.view();
        Self {
            engine,
            socket,
            runtime,
            view,
            remembered: HashMap::new(),
            key: Vec::new(),
            turn: 0,
            pressure: Pressure::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut batch = Batch::new();
        let socket = Arc::clone(&self.socket);
        let mut is_off = true;
        while !stop.load(Ordering::Relaxed) {
            let mut fresh = false;
            let served = batch.serve(socket.as_fd(), |turn| {
                if !std::mem::replace(&mut fresh, true) {
                    self.look();
                }
                if self.pressure.admits(turn.parties.client.ip()) {
                    self.turn(turn);
                }
            });
            let floods = self.pressure.over(socket.as_fd(), *served.as_ref().unwrap_or(&0));
            (0..floods).for_each(|_| self.engine.metrics().refused(Refusal::Flood));
            if self.pressure.is_off() != is_off {
                is_off = !is_off;
                if let Err(error) = socket.set_read_timeout((!is_off).then_some(BREATH)) {
                    tracing::warn!(%error, "the server of names cannot tell when a flood is over");
                }
            }
            match served {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "the server of names cannot receive");
                    thread::sleep(BREATH);
                }
            }
        }
    }

    /// Takes up what has changed since the last batch.
    fn look(&mut self) {
        let view = self.engine.view();
        if !Arc::ptr_eq(&view, &self.view) {
            self.view = view;
            self.remembered.clear();
        }
    }

    fn turn(&mut self, turn: Turn<'_>) {
        let Turn { parties, question, answer } = turn;
        let Some((number, rest)) = question.split_first_chunk::<2>() else { return };
        let (client, asked) = (parties.client.ip(), parties.asked);
        self.key.clear();
        for address in [client, asked] {
            match address {
                IpAddr::V4(address) => self.key.extend(address.octets()),
                IpAddr::V6(address) => self.key.extend(address.octets()),
            }
        }
        self.key.extend_from_slice(rest);
        if let Some((known, counter)) = self.remembered.get(self.key.as_slice()) {
            answer.extend_from_slice(number);
            answer.extend_from_slice(known);
            counter.count();
            let manner = Engine::manner(&self.view, Transport::Udp, 0);
            self.engine.tell(
                Exchange::of(client, asked, manner),
                answer,
                By::Local,
                Duration::ZERO,
            );
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let manner = Engine::manner(&self.view, Transport::Udp, self.turn);
        match self.engine.judge(&self.view, (client, asked), question, manner) {
            Fate::Answer(bytes, lasts) => {
                if let Some(counter) = lasts
                    && self.remembered.len() < REMEMBERED
                    && question.len() <= LONGEST_REMEMBERED
                {
                    let known = bytes.get(2..).unwrap_or_default().into();
                    self.remembered.insert(self.key.as_slice().into(), (known, counter));
                }
                answer.extend_from_slice(&bytes);
            }
            Fate::Errand(errand) => {
                let (engine, socket) = (Arc::clone(&self.engine), Arc::clone(&self.socket));
                self.runtime.spawn(async move {
                    if let Some(bytes) = engine.run(*errand, Transport::Udp).await {
                        tell(&socket, parties, &bytes);
                    }
                });
            }
            Fate::None => {}
        }
    }
}

/// Sends an answer from the address that was asked. Who cannot be told asks again.
fn tell(socket: &UdpSocket, Parties { client, asked }: Parties, answer: &[u8]) {
    let parts = [IoSlice::new(answer)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let sent = match (client, asked) {
        (SocketAddr::V4(client), IpAddr::V4(asked)) => {
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(asked.octets()) };
            let source =
                libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
            let to = SockaddrIn::from(SocketAddrV4::new(*client.ip(), client.port()));
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&source)], flags, Some(&to))
        }
        (SocketAddr::V6(client), IpAddr::V6(asked)) => {
            let source = libc::in6_addr { s6_addr: asked.octets() };
            let source = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: source };
            let to = SockaddrIn6::from(SocketAddrV6::new(*client.ip(), client.port(), 0, 0));
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&source)], flags, Some(&to))
        }
        _ => return,
    };
    if let Err(error) = sent {
        tracing::debug!(%client, %error, "an answer about a name is lost");
    }
}

async fn accept(engine: Arc<Engine>, listener: TcpListener, limit: Arc<Limit>) {
    let mut connections = JoinSet::new();
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the server of names cannot accept");
                time::sleep(BREATH).await;
                continue;
            }
        };
        let Some(place) = limit.take(client.ip()) else {
            engine.metrics().refused(Refusal::Connections);
            continue;
        };
        let (engine, turn) = (Arc::clone(&engine), Arc::clone(&turn));
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection(&engine, stream, client, &turn).await {
                tracing::debug!(%client, %error, "a connection about names was cut short");
            }
        });
    }
}

/// Answers one question after the other, for as long as there are some.
async fn connection(
    engine: &Engine,
    mut stream: TcpStream,
    client: SocketAddr,
    turn: &AtomicUsize,
) -> io::Result<()> {
    let asked = stream.local_addr()?.ip();
    stream.set_nodelay(true)?;
    while let Some(request) = framed::read(&mut stream, IDLE, MESSAGE).await? {
        let view = engine.view();
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let manner = Engine::manner(&view, Transport::Tcp, turn);
        let fate = engine.judge(&view, (client.ip(), asked), &request, manner);
        let answer = match fate {
            Fate::Answer(answer, _) => Some(answer),
            Fate::Errand(errand) => engine.run(*errand, Transport::Tcp).await,
            Fate::None => None,
        };
        let Some(answer) = answer else { break };
        framed::write(&mut stream, &answer, MESSAGE).await?;
    }
    Ok(())
}
