//! The agent's room of Linux operations against a real kernel, in namespaces of its own.

mod container;
mod links;
mod namespaces;
mod ports;
mod watch;

use std::{fs, future::Future, path::Path};

use bascule::kernel::{
    netlink::{NewBridge, NewVeth},
    netns::Namespace,
    owned::{self, Mark},
};
use bascule_tests::Netns;

/// Runs a future to its end.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// The namespace as the agent knows it.
fn namespace(ns: &Netns) -> Namespace {
    Namespace::open(&ns.path()).expect("a namespace")
}

fn mark() -> Mark {
    Mark::of_run_dir(Path::new("/nonexistent/bascule-kernel-test"))
}

/// A container id, network id or endpoint id that begins with a digit.
fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// What a bridge needs to be made.
struct Bridge {
    name: String,
    alias: String,
}

impl Bridge {
    const MAC: [u8; 6] = [0x02, 0x42, 10, 200, 0, 1];

    fn of(network: &str) -> Self {
        Self { name: owned::bridge_name(network), alias: mark().bridge_alias(network) }
    }

    fn wanted(&self, mtu: u32) -> NewBridge<'_> {
        let birth_mac = mark().birth_mac(&self.name);
        NewBridge { name: &self.name, birth_mac, mac: Self::MAC, mtu, alias: &self.alias }
    }
}

/// What a veth needs to be made.
struct Veth {
    name: String,
    alias: String,
    peer: String,
    inside: Namespace,
}

impl Veth {
    const MAC: [u8; 6] = [0x02, 0x42, 10, 200, 0, 2];

    fn of(endpoint: &str, inside: &Netns) -> Self {
        Self {
            name: owned::veth_name(endpoint),
            alias: mark().veth_alias(endpoint),
            peer: owned::temporary_peer_name(endpoint),
            inside: namespace(inside),
        }
    }

    fn wanted(&self) -> NewVeth<'_> {
        NewVeth {
            name: &self.name,
            birth_mac: mark().birth_mac(&self.name),
            alias: &self.alias,
            mtu: 1400,
            peer: &self.peer,
            peer_mac: Self::MAC,
            peer_namespace: std::os::fd::AsFd::as_fd(&self.inside),
        }
    }
}

/// The mount points below a directory, as this process sees them.
fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let below = |line: &&str| line.contains(&format!(" {}", directory.display()));
    mounts.lines().filter(below).map(str::to_owned).collect()
}
