//! The two ends of the traffic: a server that counts, and a client that is told what to do, line by line.
//!
//! A server listens on one port over TCP and UDP. The first byte of a connection says what it is for:
//! one question and its answer, questions without end, bytes to be counted, or how many datagrams came.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::cpu;

/// Bytes of a datagram.
const DATAGRAM: usize = 64;
/// Datagrams of a system call.
const BATCH: usize = 64;
/// Datagrams of a system call where the load is fixed.
const SMALL_BATCH: usize = 16;
/// Bytes of a write, and of a read, of a bulk flow.
const CHUNK: usize = 128 << 10;
/// How long an answer may take: a lost SYN is sent again after one second, and after two more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for datagrams at the receiver.
const ROOM: libc::c_int = 4 << 20;

/// What a connection is for.
mod purpose {
    pub const ASK: u8 = b'c';
    pub const TALK: u8 = b'r';
    pub const COUNT: u8 = b'b';
    pub const ARRIVED: u8 = b'u';
}

/// What a client did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Datagrams, round trips, connections or bytes that arrived.
    pub count: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// Of how many that were tried.
    pub tried: u64,
}

/// Datagrams that a socket took, and those that it had no room for.
struct Arrived {
    read: AtomicU64,
    socket: RawFd,
}

impl Arrived {
    fn all(&self) -> io::Result<u64> {
        Ok(self.read.load(Ordering::Relaxed) + dropped(self.socket)?)
    }
}

/// Serves for ever; says `ready` when it listens.
pub fn serve(port: u16) -> io::Result<()> {
    cpu::pin(cpu::SERVER)?;
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    make_room(udp.as_raw_fd())?;
    let listener = listen(port)?;
    let arrived = Arc::new(Arrived { read: AtomicU64::new(0), socket: udp.as_raw_fd() });
    let counted = Arc::clone(&arrived);
    thread::spawn(move || receive(&udp, &counted.read));
    io::stdout().write_all(b"ready\n")?;
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away is its own affair.
        answer(stream, &arrived).ok();
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn answer(mut stream: TcpStream, arrived: &Arc<Arrived>) -> io::Result<()> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    match first[0] {
        purpose::ASK => stream.write_all(&first),
        purpose::TALK => detach(move || talk(stream)),
        purpose::COUNT => detach(move || count(stream)),
        purpose::ARRIVED => {
            let arrived = Arc::clone(arrived);
            detach(move || tell(stream, &arrived))
        }
        other => Err(io::Error::other(format!("nobody knows what {other} means"))),
    }
}

fn detach(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work).map(drop)
}

fn talk(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
}

fn count(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            bytes => total += bytes as u64,
        }
    }
}

fn tell(mut stream: TcpStream, arrived: &Arrived) -> io::Result<()> {
    let mut byte = [0];
    loop {
        stream.write_all(&arrived.all()?.to_be_bytes())?;
        stream.read_exact(&mut byte)?;
    }
}

/// Does what a line says, such as `udp 192.0.2.1:80 250 0`: what, to whom, for how many milliseconds, and how many a
/// second (zero: as many as can be) or, for bulk flows, how many at once.
pub fn obey(line: &str) -> io::Result<Done> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unknown = || io::Error::other(format!("not understood: {line}"));
    let [what, to, milliseconds, number] = words[..] else { return Err(unknown()) };
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    let time = Duration::from_millis(milliseconds.parse().map_err(io::Error::other)?);
    let number: u32 = number.parse().map_err(io::Error::other)?;
    match what {
        "udp" => datagrams(to, time, number),
        "rr" => round_trips(to, time),
        "crr" => connections(to, time, number),
        "bulk" => bulk(to, time, number),
        _ => Err(unknown()),
    }
}

/// When things of a fixed rate are due.
struct Pace {
    begin: Instant,
    each: Option<Duration>,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let each = (rate > 0).then(|| Duration::from_secs(1) / rate);
        Self { begin: Instant::now(), each }
    }

    /// Waits until so many may have been begun.
    fn wait(&self, begun: u64) {
        let Some(each) = self.each else { return };
        let due = each * u32::try_from(begun).unwrap_or(u32::MAX);
        if let Some(early) = due.checked_sub(self.begin.elapsed()) {
            thread::sleep(early);
        }
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    // Of connecting, too.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let connected = socket.connect(&to.into());
    connected.map_err(|error| {
        let from = socket.local_addr().ok().and_then(|address| address.as_socket());
        io::Error::new(error.kind(), format!("connecting from {from:?}: {error}"))
    })?;
    Ok(socket.into())
}

fn round_trips(to: SocketAddr, time: Duration) -> io::Result<Done> {
    let mut stream = connect(to)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[purpose::TALK])?;
    let mut byte = [0];
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < time {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        count += 1;
    }
    Ok(Done { count, seconds: begin.elapsed().as_secs_f64(), tried: count })
}

fn connections(to: SocketAddr, time: Duration, rate: u32) -> io::Result<Done> {
    let pace = Pace::new(rate);
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < time {
        let mut stream = connect(to)?;
        let mut byte = [purpose::ASK];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        drop(stream);
        count += 1;
        pace.wait(count);
    }
    Ok(Done { count, seconds: begin.elapsed().as_secs_f64(), tried: count })
}

fn bulk(to: SocketAddr, time: Duration, flows: u32) -> io::Result<Done> {
    let begin = Instant::now();
    let counts = thread::scope(|scope| {
        let flows: Vec<_> = (0..flows).map(|_| scope.spawn(|| bulk_flow(to, time))).collect();
        let join = |flow: thread::ScopedJoinHandle<'_, io::Result<u64>>| {
            flow.join().unwrap_or_else(|_| Err(io::Error::other("a flow's thread panicked")))
        };
        flows.into_iter().map(join).collect::<io::Result<Vec<u64>>>()
    })?;
    let count = counts.iter().sum();
    Ok(Done { count, seconds: begin.elapsed().as_secs_f64(), tried: count })
}

fn bulk_flow(to: SocketAddr, time: Duration) -> io::Result<u64> {
    let mut stream = connect(to)?;
    stream.write_all(&[purpose::COUNT])?;
    let chunk = vec![0; CHUNK];
    let begin = Instant::now();
    while begin.elapsed() < time {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total))
}

fn datagrams(to: SocketAddr, time: Duration, rate: u32) -> io::Result<Done> {
    let mut control = connect(to)?;
    control.set_nodelay(true)?;
    control.write_all(&[purpose::ARRIVED])?;
    let mut ask = |again: bool| -> io::Result<u64> {
        let mut count = [0; 8];
        if again {
            control.write_all(&[0])?;
        }
        control.read_exact(&mut count)?;
        Ok(u64::from_be_bytes(count))
    };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    let before = ask(false)?;
    let batch = if rate == 0 { BATCH } else { SMALL_BATCH };
    let mut batch = Batch::new(batch);
    let pace = Pace::new(rate);
    let begin = Instant::now();
    let mut tried = 0;
    while begin.elapsed() < time {
        tried += batch.send(&socket)?;
        pace.wait(tried);
    }
    let seconds = begin.elapsed().as_secs_f64();
    // What is under way arrives, or nothing does any more.
    let mut last = ask(true)?;
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(2));
        let now = ask(true)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(Done { count: last - before, seconds, tried })
}

/// Datagrams for one system call.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    // What the headers point to: boxed, so that it stays where it is.
    _vectors: Box<[libc::iovec]>,
    _payload: Box<[u8]>,
}

impl Batch {
    fn new(count: usize) -> Self {
        let mut payload = vec![0_u8; DATAGRAM].into_boxed_slice();
        let vector = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        let mut vectors = vec![vector; count].into_boxed_slice();
        // SAFETY: all zero is a valid header: no address, nothing to send.
        let header = || unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        let headers = vectors.iter_mut().map(|vector| {
            let mut header = header();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        let headers = headers.collect();
        Self { headers, _vectors: vectors, _payload: payload }
    }

    fn send(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let count = u32::try_from(self.headers.len()).map_err(io::Error::other)?;
        // SAFETY: headers, vectors and payload live as long as this.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        u64::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let count = u32::try_from(self.headers.len()).map_err(io::Error::other)?;
        let none = std::ptr::null_mut();
        let wait = libc::MSG_WAITFORONE;
        // SAFETY: headers, vectors and payload live as long as this; what is received is written over itself.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, wait, none)
        };
        u64::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

fn receive(socket: &UdpSocket, counter: &AtomicU64) {
    let mut batch = Batch::new(BATCH);
    loop {
        // An ICMP error of a client's is none of the counter's.
        let count = batch.receive(socket).unwrap_or(0);
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Gives a socket more room than the machine's limit allows.
fn make_room(socket: RawFd) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&ROOM)).map_err(io::Error::other)?;
    let room = std::ptr::from_ref(&ROOM).cast();
    // SAFETY: the value lives for ever and is as long as is said.
    let set =
        unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, room, size) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that found no room in a socket.
fn dropped(socket: RawFd) -> io::Result<u64> {
    // linux/sock_diag.h: SK_MEMINFO_DROPS is the ninth of nine.
    let mut info = [0_u32; 9];
    let mut size = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let to = info.as_mut_ptr().cast();
    // SAFETY: the buffer is alive and as long as is said.
    let got =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, to, &raw mut size) };
    if got == 0 { Ok(info[8].into()) } else { Err(io::Error::last_os_error()) }
}

/// Reads lines from standard input until its end, and answers each with what was done.
pub fn client() -> io::Result<()> {
    cpu::pin(cpu::CLIENT)?;
    cpu::exact_timers()?;
    for line in io::stdin().lines() {
        let answer = match obey(&line?) {
            Ok(Done { count, seconds, tried }) => format!("{count} {seconds} {tried}\n"),
            Err(error) => format!("error: {error}\n"),
        };
        io::stdout().write_all(answer.as_bytes())?;
    }
    Ok(())
}
