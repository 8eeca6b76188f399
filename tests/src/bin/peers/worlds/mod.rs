//! The systems that are compared: each a host of its own, with its containers and, behind a veth, its outside.

mod docker;
mod netavark;
mod ours;
mod plain;

pub use ours::Ours;

use std::{
    any::Any,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use bascule_tests::{Netns, process::Killed, topology::veth};

use crate::traffic::Done;

/// Port of every server, and the one by which it is published.
pub const PORT: u16 = 8080;
/// The host, towards the outside.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The outside.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The host's uplink.
const UPLINK: &str = "up0";

/// From where to where, as results name it.
pub mod path {
    /// From container to container.
    pub const CONTAINERS: &str = "container to container";
    /// From the outside to a published port.
    pub const PUBLISHED: &str = "outside to published port";
    /// From the host to a published port of 127.0.0.1.
    pub const LOOPBACK: &str = "host to 127.0.0.1 published";
    /// From a container to the outside.
    pub const OUTSIDE: &str = "container to outside";
}

/// One system on one path.
pub struct Cell {
    /// The path.
    pub path: &'static str,
    /// The system.
    pub system: &'static str,
    /// Where the server is found.
    pub to: SocketAddrV4,
    client: Client,
}

impl Cell {
    /// Has the client do something with the server.
    pub fn run(&mut self, what: &str, milliseconds: u64, number: u32) -> Result<Done, String> {
        let line = format!("{what} {} {milliseconds} {number}", self.to);
        let done = self.client.tell(&line);
        done.map_err(|error| format!("{}, {}: {line}: {error}", self.path, self.system))
    }
}

/// All systems, and what keeps them alive.
#[derive(Default)]
pub struct Worlds {
    /// Systems on paths, those on the same one beside each other.
    pub cells: Vec<Cell>,
    servers: Vec<Killed>,
    keep: Vec<Box<dyn Any>>,
    /// What readers should know.
    pub notes: Vec<String>,
}

impl Worlds {
    /// Makes all of them; `go_on` says between two of them whether to go on.
    pub fn new(go_on: &dyn Fn() -> bool) -> Self {
        let mut worlds = Self::default();
        let makers: [fn(&mut Self); 7] = [
            plain::direct,
            plain::bridge,
            plain::routed,
            docker::real,
            docker::generated,
            netavark::make,
            ours::make,
        ];
        for make in makers {
            if go_on() {
                make(&mut worlds);
            }
        }
        let order = [path::CONTAINERS, path::PUBLISHED, path::LOOPBACK, path::OUTSIDE];
        let place = |cell: &Cell| order.iter().position(|path| *path == cell.path);
        worlds.cells.sort_by_key(place);
        worlds
    }

    /// Starts a server; in a cgroup, where one is named.
    fn serve(&mut self, ns: &Netns, cgroup: Option<&Path>) {
        let mut command = ns.command(own_binary());
        command.args(["serve", &PORT.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a server");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("hear from a server");
        assert_eq!(line, "ready\n", "a server in {}", ns.name());
        join(&child, cgroup);
        self.servers.push(Killed(child));
    }

    /// Adds a way from a client to a server, and sees that it is one.
    fn way(
        &mut self,
        path: &'static str,
        system: &'static str,
        (ns, cgroup): (&Netns, Option<&Path>),
        to: SocketAddrV4,
    ) {
        let mut cell = Cell { path, system, to, client: Client::start(ns, cgroup) };
        for what in ["rr", "crr", "udp"] {
            let done = cell.run(what, 10, 0).unwrap_or_else(|error| panic!("{error}"));
            assert!(done.count > 0, "{path}, {system}: nothing arrives by {what}");
        }
        self.cells.push(cell);
    }

    fn keep(&mut self, what: impl Any) {
        self.keep.push(Box::new(what));
    }
}

impl Drop for Worlds {
    fn drop(&mut self) {
        // Processes first: what they are in can only be removed when they are gone.
        self.cells.clear();
        self.servers.clear();
        while self.keep.pop().is_some() {}
    }
}

/// A process that sends, in a namespace.
struct Client {
    child: Killed,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(ns: &Netns, cgroup: Option<&Path>) -> Self {
        let mut command = ns.command(own_binary());
        command.arg("client").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a client");
        join(&child, cgroup);
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child: Killed(child), input, output }
    }

    fn tell(&mut self, line: &str) -> Result<Done, String> {
        let gone = |error: std::io::Error| format!("client {}: {error}", self.child.0.id());
        self.input.write_all(format!("{line}\n").as_bytes()).map_err(gone)?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(gone)?;
        let mut words = answer.split_whitespace();
        let mut next = || words.next()?.parse::<f64>().ok();
        match (next(), next(), next()) {
            (Some(count), Some(seconds), Some(tried)) => {
                Ok(Done { count: count as u64, seconds, tried: tried as u64 })
            }
            _ => Err(answer.trim().to_owned()),
        }
    }
}

fn own_binary() -> PathBuf {
    std::env::current_exe().expect("the path of this program")
}

/// Programs of an agent see who is in its cgroup, and sockets are in the one that they were made in.
fn join(child: &Child, cgroup: Option<&Path>) {
    if let Some(cgroup) = cgroup {
        let joined = fs::write(cgroup.join("cgroup.procs"), child.id().to_string());
        joined.expect("move a process into a cgroup");
    }
}

fn at(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, PORT)
}

/// A namespace in which a client that has done all its connections can do them again: thousands a second are more than
/// there are ports for, as long as each is held for a minute.
fn tireless(name: &str) -> Netns {
    let ns = Netns::new(name);
    let ready = tire_not(&ns);
    assert!(ready, "{name} keeps connections");
    ns
}

fn tire_not(ns: &Netns) -> bool {
    ns.sysctl_set("net/ipv4/tcp_max_tw_buckets", "0");
    ns.sysctl("net/ipv4/tcp_max_tw_buckets") == "0"
}

/// A host with an uplink, and the outside at its other end.
fn host_and_outside() -> (Netns, Netns) {
    let (host, outside) = (tireless("host"), tireless("outside"));
    veth(&host, UPLINK, &outside, "eth0");
    host.sh(&format!("ip addr add {HOST}/24 dev {UPLINK}"));
    outside.sh(&format!("ip addr add {OUTSIDE}/24 dev eth0"));
    host.sh(&format!("ip route add default via {OUTSIDE}"));
    host.wait_up(UPLINK);
    (host, outside)
}

/// A container by hand: a namespace with a veth into a host.
fn container(host: &Netns, name: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Netns {
    let ns = tireless(name);
    veth(host, name, &ns, "eth0");
    ns.sh(&format!("ip addr add {address}/16 dev eth0"));
    ns.sh(&format!("ip route add default via {gateway}"));
    ns
}

/// A bridge by hand.
fn bridge(host: &Netns, name: &str, gateway: Ipv4Addr) {
    host.sh(&format!("ip link add {name} type bridge stp_state 0"));
    host.sh(&format!("ip addr add {gateway}/16 dev {name}"));
    host.sh(&format!("ip link set {name} up"));
}

fn enslave(host: &Netns, port: &str, bridge: &str) {
    host.sh(&format!("ip link set {port} master {bridge}"));
    host.wait_forwarding(port);
}
