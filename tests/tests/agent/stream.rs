//! A stream of questions and answers that notices every lost packet.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bascule_tests::{Netns, traffic, wait};

/// Long enough for a loaded machine, short enough to end a test.
const PATIENCE: Duration = Duration::from_secs(3);

/// Datagrams from one socket, one after the other, each of which must be answered.
pub struct Stream {
    what: &'static str,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Stream {
    /// Starts to ask a UDP server.
    pub fn start(what: &'static str, client: &Netns, to: SocketAddrV4) -> Self {
        traffic::exchange(client, to, 10);
        let socket = traffic::udp::client(client, to).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, answered, lost) = (stop.clone(), answered.clone(), lost.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let counter = match traffic::udp::ask(&socket, 64) {
                        Ok(_) => &answered,
                        Err(_) => &lost,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    // The machine has other things to do as well.
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        Self { what, stop, answered, lost, thread }
    }

    /// Waits until some more questions have been answered.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        wait::wait_until(&format!("{} goes on", self.what), wait::SOON, || {
            self.answered.load(Ordering::Relaxed) > before + 5
        });
    }

    /// Stops, and demands that nothing was lost.
    #[track_caller]
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the stream");
        let (answered, lost) =
            (self.answered.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed));
        assert_eq!(lost, 0, "{}: {lost} lost of {}", self.what, answered + lost);
        assert!(answered > 0, "{}: nothing was asked", self.what);
    }
}
