//! Real traffic between namespaces: servers, clients, bulk transfers, pings.

pub mod bulk;
pub mod tcp;
pub mod udp;

use std::{
    fmt::{Debug, Display},
    io::{self, ErrorKind},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

pub use bulk::{Flow, iperf};
pub use tcp::{
    Conversation, TcpServer, all_unreachable, becomes_refused, greets, reaches, refused,
    unreachable,
};
pub use udp::{UdpServer, exchange};

use crate::{Netns, process, wait::SOON};

/// An address with a port, of either family. What a client is told of itself is of the server's.
pub trait Endpoint: Copy + Debug + Display + FromStr + Into<SocketAddr> {
    /// The address and port from which a socket of this family is free to choose.
    const ANY: SocketAddr;
}

impl Endpoint for SocketAddrV4 {
    const ANY: SocketAddr = SocketAddr::V4(Self::new(std::net::Ipv4Addr::UNSPECIFIED, 0));
}

impl Endpoint for SocketAddrV6 {
    const ANY: SocketAddr = SocketAddr::V6(Self::new(std::net::Ipv6Addr::UNSPECIFIED, 0, 0, 0));
}

/// Binds a server's socket. What was bound there before may still be held by a process that another test starts at
/// this moment: a copy of all descriptors lives in it until it executes its program.
#[track_caller]
fn bind<S: Send>(
    ns: &Netns,
    address: SocketAddr,
    how: impl Fn(SocketAddr) -> io::Result<S> + Sync,
) -> S {
    let start = Instant::now();
    loop {
        match ns.run(|| how(address)) {
            Ok(socket) => return socket,
            Err(error) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < SOON => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("cannot bind {address} in {}: {error}", ns.name()),
        }
    }
}

/// What a ping saw.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Requests sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// Everything `ping` said.
    pub text: String,
}

/// Pings an address so many times, five a second.
pub fn ping(ns: &Netns, to: impl Display, count: u32) -> Ping {
    ping_with(ns, to, count, "-i 0.2 -W 1")
}

/// Pings with more options.
pub fn ping_with(ns: &Netns, to: impl Display, count: u32, options: &str) -> Ping {
    let mut command = ns.command("ping");
    command.args(["-n", "-c", &count.to_string()]).args(options.split_whitespace());
    let out = process::run(command.arg(to.to_string()), process::LIMIT);
    let text = out.stdout + &out.stderr;
    let number = |word: &str| -> u32 {
        text.lines()
            .find(|line| line.contains("packets transmitted"))
            .and_then(|line| line.split(", ").find(|part| part.contains(word)))
            .and_then(|part| part.split(' ').next()?.parse().ok())
            .unwrap_or(0)
    };
    Ping { sent: number("transmitted"), received: number("received"), text: text.clone() }
}

/// Demands that the address answers pings.
#[track_caller]
pub fn answers(ns: &Netns, to: impl Display) {
    let ping = ping(ns, &to, 2);
    assert_eq!(ping.received, 2, "{} pings {to}: {}", ns.name(), ping.text);
}

/// Demands that the address does not answer pings.
#[track_caller]
pub fn does_not_answer(ns: &Netns, to: impl Display) {
    let ping = ping_with(ns, &to, 2, "-i 0.2 -W 0.5");
    assert_eq!(ping.received, 0, "{} pings {to}: {}", ns.name(), ping.text);
}
