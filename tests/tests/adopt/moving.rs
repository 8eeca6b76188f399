//! Transfers that run while a host is moved to adopt mode and back.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{
    Netns,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
};

use crate::{Stage, at};

/// New connections find their way at most so much later, on a loaded machine.
const PAUSE: Duration = Duration::from_secs(5);

/// A new connection is given so much time, and then there is another one.
const ANSWER: Duration = Duration::from_millis(200);

/// A transfer there and back, for as long as it lives.
struct Transfer {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Transfer {
    fn start(ns: &Netns, to: SocketAddrV4) -> Self {
        let conversation = Conversation::open(ns, to).expect("a connection");
        let (bytes, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (moved, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut stream: &TcpStream = conversation.stream();
            stream.set_read_timeout(Some(Duration::from_secs(30))).ok();
            let (block, mut back) = (vec![b'x'; 1 << 14], vec![0; 1 << 14]);
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                if stream.write_all(&block).and_then(|()| stream.read_exact(&mut back)).is_err() {
                    break;
                }
                moved.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(last.elapsed());
                last = Instant::now();
                // The daemon has to start beside it.
                thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        Self { bytes, stop, thread }
    }

    /// Whether it goes on.
    fn goes_on(&self) -> bool {
        let before = self.bytes.load(Ordering::Relaxed);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            if self.bytes.load(Ordering::Relaxed) > before {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends it, and gives the longest pause.
    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a thread")
    }
}

/// Opens one connection after the other; gives the longest time in which none came about.
struct Openings {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Openings {
    fn start(ns: &Netns, to: SocketAddrV4) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = ns.spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                if traffic::greets(to, ANSWER) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                thread::sleep(Duration::from_millis(20));
            }
            longest.max(last.elapsed())
        });
        Self { stop, thread }
    }

    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a thread")
    }
}

#[test]
fn transfers_live_through_a_move_and_back() {
    let mut stage = Stage::new(&["--live-restore"]);
    stage.docker.ok("network create blue");
    let c1 = stage.docker.container("c1", "blue", "-p 8080:80");
    let c2 = stage.docker.container("c2", "blue", "");
    let _server = TcpServer::start(&c1.ns, 80);
    let _far = TcpServer::start(&stage.net.outside, 80);
    let plan = stage.agent.ok("docker adopt --dry-run");
    assert!(plan.contains("connections that Docker's rules or its proxies translate"), "{plan}");
    let inside = Transfer::start(&c2.ns, at(c1.address(), 80));
    for way in ["adopt", "release"] {
        let published = Transfer::start(&stage.net.outside, at(HOST, 8080));
        let local = Transfer::start(&stage.net.host, at(Ipv4Addr::LOCALHOST, 8080));
        let out = Transfer::start(&c2.ns, at(OUTSIDE, 80));
        let openings = [
            (&stage.net.outside, at(HOST, 8080)),
            (&stage.net.host, at(Ipv4Addr::LOCALHOST, 8080)),
            (&c2.ns, at(OUTSIDE, 80)),
            (&c2.ns, at(HOST, 8080)),
        ]
        .map(|(ns, to)| Openings::start(ns, to));
        if way == "adopt" {
            stage.adopt();
            stage.settle();
        } else {
            stage.agent.ok("docker release");
            stage.restart_docker("TERM");
            stage.wait_phase("off");
        }
        assert!(inside.goes_on(), "{way}: inside of a network nothing is translated");
        if way == "adopt" {
            // Docker's proxy ends with the daemon, and says so.
            assert!(!local.goes_on() && local.thread.is_finished(), "{way}: no one hangs");
        } else {
            assert!(local.goes_on(), "{way}: the socket was led to the container");
        }
        let pauses = openings.map(Openings::end);
        assert!(pauses.iter().all(|pause| *pause < PAUSE), "{way}: {pauses:?}");
        // The others may go on: who translates is another one, and nobody told him of them.
        for transfer in [local, published, out] {
            transfer.stop.store(true, Ordering::Relaxed);
        }
    }
    let longest = inside.end();
    assert!(longest < PAUSE, "{longest:?}");
}
