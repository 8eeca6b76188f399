//! Network namespaces of a test's own, held by a file descriptor and gone with it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{process, wait};

/// A handle on a network namespace; the namespace lives as long as one of its handles, or a process
/// or a mount elsewhere holds it.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    fd: Arc<OwnedFd>,
}

impl Netns {
    /// Makes a namespace with `lo` up. The name is for messages only.
    pub fn new(name: &str) -> Self {
        crate::require_root();
        let fd = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
            OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("own namespace"))
        })
        .join()
        .expect("a thread makes a namespace");
        let ns = Self { name: name.to_owned(), fd: Arc::new(fd) };
        ns.sh("ip link set lo up");
        // Error messages are what many tests are about: no rate limits on them.
        ns.sysctl_set("net/ipv4/icmp_ratelimit", "0");
        ns.sysctl_set("net/ipv4/icmp_ratemask", "0");
        ns
    }

    /// Opens a namespace that somebody else made.
    pub fn open(name: &str, path: &Path) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), fd: Arc::new(File::open(path)?.into()) })
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other processes can open the namespace while this one lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// Inode of the namespace: equal for handles of the same one.
    pub fn inode(&self) -> u64 {
        nix::sys::stat::fstat(self.fd.as_fd()).expect("fstat of a namespace").st_ino
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    pub fn enter(&self) {
        setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
    }

    /// Runs the function in the namespace and waits for its value.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let joined = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    function()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread in the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let ns = self.clone();
        thread::spawn(move || {
            ns.enter();
            function()
        })
    }

    /// A command that will run in the namespace and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let fd = Arc::clone(&self.fd);
        // SAFETY: between fork and exec the closure only makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                setns(fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            });
        }
        process::dies_with_us(&mut command);
        command
    }

    /// Runs words separated by white space as a command, demands success, and returns its output.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command");
        let out = process::run(self.command(program).args(words), process::LIMIT);
        assert!(out.ok(), "in {}: `{line}` failed with {}: {}", self.name, out.code, out.stderr);
        out.stdout
    }

    /// Runs a command whose failure is an answer too.
    pub fn try_sh(&self, line: &str) -> process::Output {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command");
        process::run(self.command(program).args(words), process::LIMIT)
    }

    /// Reads `/proc/sys/...` as the namespace sees it.
    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/{key}");
        let read = self.run(|| fs::read_to_string(&path));
        read.unwrap_or_else(|error| panic!("cannot read {path}: {error}")).trim().to_owned()
    }

    /// Writes `/proc/sys/net/...` of the namespace.
    pub fn sysctl_set(&self, key: &str, value: &str) {
        assert!(key.starts_with("net/"), "{key} is not a sysctl of a network namespace");
        let path = format!("/proc/sys/{key}");
        let written = self.run(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("cannot write {value} to {path}: {error}"));
    }

    /// Index of an interface, if there is one of that name.
    pub fn ifindex(&self, interface: &str) -> Option<u32> {
        let name = std::ffi::CString::new(interface).expect("a name without zero bytes");
        // SAFETY: the name is a live string that ends with a zero byte.
        let index = self.run(|| unsafe { libc::if_nametoindex(name.as_ptr()) });
        (index != 0).then_some(index)
    }

    /// Names of all interfaces.
    pub fn interfaces(&self) -> Vec<String> {
        let listed = self.sh("ip -o link show");
        listed
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect()
    }

    /// Waits until an interface carries frames. The kernel takes note of a carrier a moment after it is there, a
    /// loaded one some seconds; until then what is sent is thrown away.
    #[track_caller]
    pub fn wait_up(&self, interface: &str) {
        wait::wait_until(&format!("{interface} carries frames"), wait::SOON, || {
            let shown = self.sh(&format!("ip -o link show dev {interface}"));
            shown.contains("state UP") && !shown.contains("qdisc noop ")
        });
    }

    /// Waits until a port of a bridge carries frames.
    #[track_caller]
    pub fn wait_forwarding(&self, port: &str) {
        self.wait_up(port);
        wait::wait_until(&format!("{port} forwards"), wait::SOON, || {
            self.sh(&format!("bridge link show dev {port}")).contains("state forwarding")
        });
    }

    /// Ethernet address of an interface.
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let shown = self.sh(&format!("ip -o link show dev {interface}"));
        let text = shown.split("link/ether ").nth(1).expect("an Ethernet interface");
        parse_mac(&text[..17])
    }

    /// IPv4 addresses of an interface, with prefix lengths.
    pub fn addresses(&self, interface: &str) -> Vec<(Ipv4Addr, u8)> {
        let shown = self.sh(&format!("ip -4 -o addr show dev {interface}"));
        shown
            .lines()
            .filter_map(|line| line.split("inet ").nth(1)?.split(' ').next())
            .map(|text| {
                let (address, length) = text.split_once('/').unwrap_or((text, "32"));
                (address.parse().expect("an address"), length.parse().expect("a prefix length"))
            })
            .collect()
    }

    /// Turns the interface's offloads off, so that a capture shows what a wire would carry.
    pub fn offloads_off(&self, interface: &str) {
        self.sh(&format!("ethtool -K {interface} rx off tx off tso off gso off gro off"));
    }

    /// All rules of both iptables and nft, without comments and empty tables: empty means none.
    pub fn firewall_rules(&self) -> String {
        let mut rules = self.sh("nft list ruleset");
        for program in ["iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save"] {
            let out = self.try_sh(program);
            rules.extend(
                out.stdout.lines().filter(|line| line.starts_with('-')).map(|l| format!("{l}\n")),
            );
        }
        rules
    }
}

/// The six bytes of an Ethernet address in the usual notation.
pub fn parse_mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC")).collect();
    bytes.try_into().expect("six bytes")
}

/// A number that no other call in this process got.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
