//! What is left unanswered where more questions come than can be answered: most of what those ask who ask most, so
//! that a flood of one container's is no silence for the others. The kernel lets little of it in to begin with.

use std::{
    io,
    net::IpAddr,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use socket2::{SockFilter, SockRef};

use super::{
    batch::SIZE,
    sockets::{self, BUFFER},
};

/// Full batches in a row after which it is looked how much waits.
const PATIENCE: usize = 8;
/// How much of the room for datagrams may be taken; a client that waits for its answers never comes this far.
const ROOM: usize = BUFFER / 2;
/// Questions of one client in a full batch that make it one of those who flood.
const LOUD: usize = SIZE / 4;
/// Clients that flood at once; who is one more has its turn when the others are silent.
const MOST: usize = 8;
/// One in so many of their questions gets through.
const SAMPLE: u32 = 64;
/// How long at first, and at most, a flood is kept out before it is looked again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// Who asks more than can be answered.
#[derive(Debug)]
pub(super) struct Pressure {
    /// Full batches in a row.
    full: usize,
    /// How often each client of this batch has asked.
    clients: Vec<(IpAddr, usize)>,
    loud: Vec<IpAddr>,
    until: Option<Instant>,
    pause: Duration,
}

impl Default for Pressure {
    fn default() -> Self {
        let (full, clients, loud, until) = (0, Vec::new(), Vec::new(), None);
        Self { full, clients, loud, until, pause: PAUSE.0 }
    }
}

impl Pressure {
    /// Notes a question, and tells whether it is to be answered.
    pub(super) fn admits(&mut self, client: IpAddr) -> bool {
        match self.clients.iter_mut().find(|(known, _)| *known == client) {
            Some((_, count)) => *count += 1,
            None => self.clients.push((client, 1)),
        }
        self.loud.is_empty() || !self.loud.contains(&client)
    }

    /// Notes that a batch of this many questions is over; tells who has begun to flood.
    pub(super) fn over(&mut self, socket: BorrowedFd<'_>, count: usize) -> usize {
        self.full = if count < SIZE { 0 } else { self.full + 1 };
        let new = if self.full >= PATIENCE {
            self.full = 0;
            // Where it cannot be told how much waits, it is not too much.
            let much = sockets::waiting(socket).is_ok_and(|bytes| bytes > ROOM);
            if much { self.blame() } else { 0 }
        } else {
            0
        };
        self.clients.clear();
        if new > 0 {
            self.until = Some(Instant::now() + self.pause);
            self.pause = (2 * self.pause).min(PAUSE.1);
            report(SockRef::from(&socket).attach_filter(&filter(&self.loud)));
        } else if self.until.is_some_and(|until| Instant::now() > until) {
            self.until = None;
            self.loud.clear();
            report(SockRef::from(&socket).detach_filter());
        } else if count == 0 && self.until.is_none() {
            self.pause = PAUSE.0;
        }
        new
    }

    /// Whether nobody is kept out, and nobody was a moment ago: then there is nothing to look at until somebody asks.
    pub(super) fn is_off(&self) -> bool {
        self.until.is_none() && self.pause == PAUSE.0
    }

    fn blame(&mut self) -> usize {
        let before = self.loud.len();
        for (client, count) in &self.clients {
            if *count >= LOUD && self.loud.len() < MOST && !self.loud.contains(client) {
                self.loud.push(*client);
            }
        }
        self.loud.len() - before
    }
}

/// Without a filter a flood costs more, and is no less left unanswered.
fn report(set: io::Result<()>) {
    if let Err(error) = set {
        tracing::warn!(%error, "a flood of questions about names cannot be kept out");
    }
}

/// A program that lets in what these clients send now and then only, and all that comes from others.
fn filter(loud: &[IpAddr]) -> Vec<SockFilter> {
    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const SKIP: u16 = 0x05;
    const RETURN: u16 = 0x06;
    const ALL: u32 = u32::MAX;
    /// Where the IP header begins, and where a random number is.
    const NETWORK: u32 = 0u32.wrapping_sub(0x10_0000);
    const RANDOM: u32 = 0u32.wrapping_sub(0x1000) + 56;
    let one = |code, yes, no, value| SockFilter::new(code, yes, no, value);
    let mut program = Vec::new();
    for (at, client) in loud.iter().enumerate() {
        let (source, words): (u32, Vec<u32>) = match client {
            IpAddr::V4(ip) => (12, vec![u32::from(*ip)]),
            IpAddr::V6(ip) => {
                let word = |at: u32| (u128::from(*ip) >> (96 - 32 * at)) as u32;
                (8, (0..4).map(word).collect())
            }
        };
        // Two steps a word, and one that leads to the sample.
        let size = 2 * words.len() + 1;
        for (number, word) in words.iter().enumerate() {
            let next = (size - 2 * (number + 1)) as u8;
            program.push(one(LOAD, 0, 0, NETWORK + source + 4 * number as u32));
            program.push(one(IF_EQUAL, 0, next, *word));
        }
        program.push(one(SKIP, 0, 0, (size * (loud.len() - 1 - at) + 1) as u32));
    }
    program.push(one(RETURN, 0, 0, ALL));
    program.push(one(LOAD, 0, 0, RANDOM));
    program.push(one(AND, 0, 0, SAMPLE - 1));
    program.push(one(IF_EQUAL, 0, 1, 0));
    program.push(one(RETURN, 0, 0, ALL));
    program.push(one(RETURN, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        os::fd::AsFd as _,
        time::{Duration, Instant},
    };

    use super::*;

    /// How many of a hundred datagrams come through after a flood of two hundred thousand bytes and more.
    fn through(at: &str, loud: &str, quiet: &str) -> [usize; 2] {
        let server = UdpSocket::bind((at, 0)).expect("a socket");
        let clients = [loud, quiet].map(|ip| UdpSocket::bind((ip, 0)).expect("a socket"));
        let to = server.local_addr().expect("an address");
        let loud: IpAddr = loud.parse().expect("an address");
        let attached = SockRef::from(&server).attach_filter(&filter(&[loud]));
        attached.expect("a filter");
        for client in &clients {
            for _ in 0..100 {
                client.send_to(b"x", to).expect("sent");
            }
        }
        server.set_nonblocking(true).expect("a socket");
        let mut counts = [0; 2];
        while let Ok((_, from)) = server.recv_from(&mut [0; 8]) {
            counts[usize::from(from.ip() != loud)] += 1;
        }
        counts
    }

    #[test]
    fn p105_the_kernel_keeps_a_flood_out_and_nobody_else() {
        for (at, loud, quiet) in [("0.0.0.0", "127.0.0.2", "127.0.0.1"), ("::", "::1", "::1")] {
            let [flood, rest] = through(at, loud, quiet);
            assert!(flood < 40, "{flood} of {loud}");
            assert!(rest == if loud == quiet { 0 } else { 100 }, "{rest} of {quiet}");
        }
    }

    #[test]
    fn p105_who_floods_is_silenced_and_heard_again() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        SockRef::from(&server).set_recv_buffer_size(BUFFER).expect("room");
        let [loud, quiet]: [IpAddr; 2] = [2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
        let mut pressure = Pressure::default();
        let batch = |pressure: &mut Pressure| {
            let heard = (1..SIZE).filter(|_| pressure.admits(loud)).count();
            let others = pressure.admits(quiet);
            pressure.over(server.as_fd(), SIZE);
            (heard, others)
        };
        for _ in 0..4 * PATIENCE {
            assert_eq!(batch(&mut pressure), (SIZE - 1, true), "nothing waits: all is answered");
        }
        pressure.clients = vec![(loud, SIZE - 1), (quiet, 1)];
        assert_eq!(pressure.blame(), 1);
        pressure.until = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(batch(&mut pressure), (0, true));
        std::thread::sleep(Duration::from_millis(5));
        batch(&mut pressure);
        assert_eq!(batch(&mut pressure), (SIZE - 1, true), "it is over");
    }
}
