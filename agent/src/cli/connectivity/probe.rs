//! TCP and UDP from anywhere to a container. A socket stays in the namespace that it was made in, whoever uses it
//! afterwards: both ends are used here, in one thread, and who fails is known.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::stage::PORT;
use crate::{error::Failure, kernel::netns::Namespace};

/// What is said, and answered: nobody else says it.
type Word = [u8; 16];

/// What a container hears with, at [`PORT`].
#[derive(Debug)]
pub struct Ears {
    v4: Pair,
    v6: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    tcp: Socket,
    udp: UdpSocket,
}

impl Ears {
    /// Opens them in a namespace.
    pub fn open(namespace: &Namespace, has_ipv6: bool) -> Result<Self, Failure> {
        let open = || -> io::Result<Self> {
            let v4 = pair(Ipv4Addr::UNSPECIFIED.into())?;
            let v6 = has_ipv6.then(|| pair(Ipv6Addr::UNSPECIFIED.into())).transpose()?;
            Ok(Self { v4, v6 })
        };
        Ok(namespace.run_blocking(open).map_err(anyhow::Error::from)??)
    }

    fn of(&self, address: IpAddr) -> Result<&Pair, String> {
        match (address, &self.v6) {
            (IpAddr::V4(_), _) => Ok(&self.v4),
            (IpAddr::V6(_), Some(pair)) => Ok(pair),
            (IpAddr::V6(_), None) => Err("the container does not listen to IPv6".to_owned()),
        }
    }
}

fn pair(any: IpAddr) -> io::Result<Pair> {
    let at = SockAddr::from(SocketAddr::new(any, PORT));
    let bound = |kind, protocol| -> io::Result<Socket> {
        let socket = Socket::new(domain(any), kind, Some(protocol))?;
        if any.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at)?;
        Ok(socket)
    };
    let tcp = bound(Type::STREAM, Protocol::TCP)?;
    tcp.listen(16)?;
    Ok(Pair { tcp, udp: bound(Type::DGRAM, Protocol::UDP)?.into() })
}

/// Returns the domain of sockets for an address.
pub fn domain(address: IpAddr) -> Domain {
    if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

/// Returns an error in the kernel's words.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer came".to_owned(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
    }
}

/// Makes something in a namespace.
pub fn inside<T: Send>(
    namespace: &Namespace,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, String> {
    let made = namespace.run_blocking(make).map_err(|error| error.to_string())?;
    made.map_err(|error| words(&error))
}

/// Connects, and nothing more.
pub fn connect(from: &Namespace, to: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    let socket = inside(from, || Socket::new(domain(to.ip()), Type::STREAM, Some(Protocol::TCP)))?;
    socket.connect_timeout(&to.into(), limit).map_err(|error| words(&error))?;
    Ok(socket.into())
}

/// Connects, says a word, and has it answered. Returns who the container took it from.
pub fn tcp(
    from: &Namespace,
    to: SocketAddr,
    ears: &Ears,
    limit: Duration,
) -> Result<IpAddr, String> {
    let listener = &ears.of(to.ip())?.tcp;
    let mut stream = connect(from, to, limit)?;
    let said: Word = rand::random();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("connected, but {what}: {}", words(&error))
    };
    stream.set_read_timeout(Some(limit)).map_err(failed("no limit can be set"))?;
    stream.write_all(&said).map_err(failed("nothing can be sent"))?;
    let heard = accept(listener, &said, limit).map_err(failed("the container heard nothing"))?;
    let (mut heard, peer) = heard;
    heard.write_all(&said).map_err(failed("the container cannot answer"))?;
    let mut answer = Word::default();
    stream.read_exact(&mut answer).map_err(failed("its answer is missing"))?;
    match answer == said {
        true => Ok(peer),
        false => Err("another answer came than the container's".to_owned()),
    }
}

/// Accepts the connection that a word is said on; others are left from what failed before.
fn accept(listener: &Socket, said: &Word, limit: Duration) -> io::Result<(TcpStream, IpAddr)> {
    let end = Instant::now() + limit;
    loop {
        listener.set_read_timeout(Some(rest(end)?))?;
        let (heard, peer) = listener.accept()?;
        let mut heard = TcpStream::from(heard);
        heard.set_read_timeout(Some(rest(end)?))?;
        let mut word = Word::default();
        if heard.read_exact(&mut word).is_ok() && word == *said {
            return Ok((heard, sender(&peer)));
        }
    }
}

/// Returns the time that is left, and fails where there is none.
pub fn rest(end: Instant) -> io::Result<Duration> {
    match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        rest => Ok(rest),
    }
}

fn sender(peer: &SockAddr) -> IpAddr {
    peer.as_socket().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// Sends a datagram, and has it answered. Returns who the container took it from.
pub fn udp(
    from: &Namespace,
    to: SocketAddr,
    ears: &Ears,
    limit: Duration,
) -> Result<IpAddr, String> {
    let ears = &ears.of(to.ip())?.udp;
    let socket = inside(from, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        Ok(socket)
    })?;
    let said: Word = rand::random();
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {}", words(&error));
    socket.send(&said).map_err(failed("it cannot be sent"))?;
    let peer = hear(ears, &said, limit).map_err(failed("the container heard nothing"))?;
    ears.send_to(&said, peer).map_err(failed("it arrived, but the container cannot answer"))?;
    hear(&socket, &said, limit).map_err(failed("it arrived, but its answer is missing"))?;
    Ok(peer.ip())
}

/// Waits for a word; others are left from what failed before.
fn hear(socket: &UdpSocket, said: &Word, limit: Duration) -> io::Result<SocketAddr> {
    let end = Instant::now() + limit;
    loop {
        socket.set_read_timeout(Some(rest(end)?))?;
        let mut word = [0; 64];
        let (length, peer) = socket.recv_from(&mut word)?;
        if word[..length] == *said {
            return Ok(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p94_errors_are_told_in_the_kernels_words() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(words(&refused), "connection refused");
        assert_eq!(words(&io::ErrorKind::TimedOut.into()), "no answer came");
    }
}
