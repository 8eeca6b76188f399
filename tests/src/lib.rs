//! The harness of the tests that need a kernel: namespaces, the agent, traffic, captures.
//!
//! Every test makes its own network namespaces and directories, and all of them vanish with the
//! test's process, however it ends: namespaces are held by file descriptors only, children die with
//! the thread that started them, and mounts of dead processes are swept at the next start.
//!
//! - [`netns`] and [`topology`]: a host, its router, and the outside.
//! - [`agent`]: the real binary in the host's namespace, with directories of its own.
//! - [`traffic`]: servers, clients and bulk transfers; [`frame`]: frames by hand; [`capture`]: what
//!   really was on a wire, with checksums verified independently of the code under test.
//! - [`probe`]: many questions at once, and what became of each.
//! - [`browser`]: a real Chromium; [`terminal`]: a program on a terminal of its own.
//! - [`tunnel`]: a VPN; [`foreign`]: programs of others on the same interfaces; [`firewall`]: a host's own.
//! - [`dockerd`]: a real dockerd in a host's namespace.
//! - [`vm`]: other kernels than the running one.
//! - [`wait`]: conditions with deadlines, never sleeps for luck.
//!
//! What a test demands lives in `tests/<layer>/`, not here, but for what two layers demand alike: [`dockerd::cases`].

pub mod agent;
pub mod api;
pub mod browser;
pub mod capture;
pub mod checksum;
pub mod container;
pub mod dockerd;
pub mod dump;
pub mod firewall;
pub mod foreign;
pub mod frame;
pub mod metrics;
pub mod netns;
pub mod places;
pub mod probe;
pub mod process;
pub mod sctp;
pub mod terminal;
pub mod topology;
pub mod traffic;
pub mod tunnel;
pub mod vm;
pub mod wait;

pub use agent::Agent;
pub use container::Container;
pub use dockerd::Dockerd;
pub use netns::Netns;
pub use topology::Topology;

/// Fails loudly where the test cannot work: without root there is nothing to test.
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces and load eBPF programs: run them as root \
         (`sudo -E cargo xtask test`)"
    );
}
