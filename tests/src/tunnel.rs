//! A VPN's tunnel: two devices without Ethernet headers, and a process that carries the packets between.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::Netns;

/// `TUNSETIFF` (linux/if_tun.h); libc has it for some targets only.
const TUNSETIFF: u64 = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: packets as they are, nothing before them.
const FLAGS: i16 = 0x0001 | 0x1000;

/// A running tunnel; its devices go with it.
#[derive(Debug)]
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Tunnel {
    /// Makes a device of this name in both namespaces, up, and carries packets between them.
    #[track_caller]
    pub fn start(a: &Netns, b: &Netns, name: &str) -> Self {
        let [a_end, b_end] = [a, b].map(|ns| {
            let end = ns.run(|| device(name));
            let end = end.unwrap_or_else(|e| panic!("no device {name} in {}: {e}", ns.name()));
            ns.sh(&format!("ip link set {name} up"));
            Arc::new(end)
        });
        let stop = Arc::new(AtomicBool::new(false));
        let carry = |from: &Arc<OwnedFd>, to: &Arc<OwnedFd>| {
            let (from, to, stop) = (Arc::clone(from), Arc::clone(to), Arc::clone(&stop));
            thread::spawn(move || carry(&from, &to, &stop))
        };
        let threads = vec![carry(&a_end, &b_end), carry(&b_end, &a_end)];
        Self { stop, threads }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn device(name: &str) -> io::Result<OwnedFd> {
    // SAFETY: the path is a literal that ends with a zero byte.
    let raw = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let end = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: the request is a live ifreq, which is what this command reads and writes.
    let made = unsafe { libc::ioctl(raw, TUNSETIFF, &raw mut request) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(end) }
}

fn carry(from: &OwnedFd, to: &OwnedFd, stop: &AtomicBool) {
    let mut buffer = vec![0_u8; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, 20) } <= 0 {
            continue;
        }
        // SAFETY: the pointer and length are those of a live buffer.
        let got = unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(length) = usize::try_from(got) else { return };
        // A packet that the other end refuses is lost, as on any line.
        // SAFETY: that many bytes of the buffer were just filled.
        unsafe { libc::write(to.as_raw_fd(), buffer.as_ptr().cast(), length) };
    }
}
