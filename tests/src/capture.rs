//! Captures of what really was on a link, and frames put there by hand.
//!
//! Checksums are whole only where no offload is left to finish them: captures that verify them turn
//! the offloads of both ends off first ([`Netns::offloads_off`]).

use std::{
    mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Netns, checksum, frame::Frame, wait};

const ETH_P_ALL: u16 = 3;
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A running capture on one interface.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures what arrives on the interface.
    pub fn arriving(ns: &Netns, interface: &str) -> Self {
        Self::start(ns, interface, true)
    }

    /// Captures what arrives on and leaves by the interface.
    pub fn both_ways(ns: &Netns, interface: &str) -> Self {
        Self::start(ns, interface, false)
    }

    fn start(ns: &Netns, interface: &str, arriving: bool) -> Self {
        let ifindex =
            ns.ifindex(interface).unwrap_or_else(|| panic!("no {interface} in {}", ns.name()));
        let socket = ns.run(|| packet_socket(ifindex, arriving));
        let stop = Arc::new(AtomicBool::new(false));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (stop, frames) = (Arc::clone(&stop), Arc::clone(&frames));
            thread::spawn(move || receive(&socket, &stop, &frames))
        };
        Self { stop, frames, thread: Some(thread) }
    }

    /// The frames so far.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        self.frames.lock().expect("the capture's thread does not panic").clone()
    }

    /// The number of frames so far.
    pub fn count(&self) -> usize {
        self.frames.lock().expect("the capture's thread does not panic").len()
    }

    /// The IP packets so far.
    pub fn packets(&self) -> Vec<Frame> {
        self.raw().iter().filter_map(|bytes| Frame::parse(bytes)).collect()
    }

    /// Waits for a packet that the condition holds for.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&Frame) -> bool) -> Frame {
        wait::wait_for(what, wait::SOON, || {
            self.packets().into_iter().find(|packet| condition(packet))
        })
    }

    /// Fails if a packet that the condition holds for was seen.
    #[track_caller]
    pub fn assert_none(&self, what: &str, mut condition: impl FnMut(&Frame) -> bool) {
        let found = self.packets().into_iter().find(|packet| condition(packet));
        assert_eq!(found, None, "{what}");
    }

    /// Verifies the checksums of every frame so far, and gives their number.
    #[track_caller]
    pub fn verify(&self) -> usize {
        let frames = self.raw();
        for bytes in &frames {
            if let Err(error) = checksum::verify(bytes) {
                panic!("{error}\n{:?}", Frame::parse(bytes));
            }
        }
        frames.len()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Puts a frame on a link, as it is.
pub fn inject(ns: &Netns, interface: &str, bytes: &[u8]) {
    inject_all(ns, interface, [bytes]);
}

/// Puts frames on a link, one after the other.
pub fn inject_all<B: AsRef<[u8]>>(
    ns: &Netns,
    interface: &str,
    frames: impl IntoIterator<Item = B> + Send,
) {
    let ifindex =
        ns.ifindex(interface).unwrap_or_else(|| panic!("no {interface} in {}", ns.name()));
    ns.run(|| {
        let socket = packet_socket(ifindex, true);
        for frame in frames {
            let bytes = frame.as_ref();
            // SAFETY: the pointer and length are those of a live slice.
            let sent =
                unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            assert_eq!(sent, bytes.len().cast_signed(), "{}", std::io::Error::last_os_error());
        }
    });
}

fn packet_socket(ifindex: u32, arriving: bool) -> OwnedFd {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed; the result is checked below.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ETH_P_ALL.to_be())) };
    assert!(raw >= 0, "AF_PACKET: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20);
    option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, i32::from(arriving));
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("a family");
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = ifindex.cast_signed();
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("a length");
    // SAFETY: the pointer and length are those of a live sockaddr_ll.
    let bound = unsafe { libc::bind(raw, (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
    socket
}

fn option(socket: &OwnedFd, level: i32, name: i32, value: i32) {
    let length = u32::try_from(size_of::<i32>()).expect("a length");
    // SAFETY: the pointer and length are those of a live integer.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    assert_eq!(set, 0, "setsockopt {name}: {}", std::io::Error::last_os_error());
}

fn receive(socket: &OwnedFd, stop: &AtomicBool, frames: &Mutex<Vec<Vec<u8>>>) {
    let timeout = i32::try_from(Duration::from_millis(20).as_millis()).expect("a timeout");
    let mut buffer = vec![0_u8; 1 << 17];
    loop {
        let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
        if ready <= 0 {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            continue;
        }
        // SAFETY: the pointer and length are those of a live buffer.
        let got =
            unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(length) = usize::try_from(got) else { continue };
        frames.lock().expect("nobody panics holding it").push(buffer[..length].to_vec());
    }
}
