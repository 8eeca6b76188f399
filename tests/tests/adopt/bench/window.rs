//! How long a port of a Docker bridge is open before anybody knows whose it is, and how long it is shut then.
//!
//! Three moments count from the one at which the port joins its bridge: when our programs are on it, and nothing passes;
//! when Docker moves its other end into the container, before which nobody can send; and when what the policy lets
//! through passes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aya::programs::{SchedClassifier, TcAttachType};
use bascule_tests::{Netns, process, traffic::UdpServer};

use super::{ADOPTED, Figures};
use crate::Stage;

/// How often each is measured.
const TIMES: usize = 20;
/// No window is longer.
const LIMIT: Duration = Duration::from_secs(10);
/// The bridge whose ports are watched.
const BRIDGE: &str = "watched0";

/// What happened to a port, in seconds of the day.
#[derive(Clone, Debug, Default)]
struct Port {
    name: String,
    joined: f64,
    shut: Option<f64>,
    moved: Option<f64>,
}

/// Watches the ports of one bridge.
struct Watch {
    ports: Arc<Mutex<Vec<Port>>>,
    child: Child,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn start(host: &Netns) -> Self {
        let mut command = host.command("ip");
        command.args(["-ts", "-o", "monitor", "link"]).env("TZ", "UTC").stdout(Stdio::piped());
        let mut child = command.spawn().expect("ip monitor");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ports: Arc<Mutex<Vec<Port>>> = Arc::default();
        let (found, ns) = (Arc::clone(&ports), host.clone());
        let thread = thread::spawn(move || {
            ns.enter();
            for line in lines.map_while(Result::ok) {
                if let Some(port) = heard(&line, &found) {
                    let shut = shut(&port);
                    let mut ports = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(last) = ports.last_mut() {
                        last.shut = shut;
                    }
                }
            }
        });
        Self { ports, child, thread: Some(thread) }
    }

    /// The port that has joined since a moment, where all of it was heard: notices of the kernel may be lost.
    fn since(&self, begin: f64) -> Option<Port> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let port = ports.last().filter(|port| port.joined >= begin)?;
        (port.shut.is_some() && port.moved.is_some()).then(|| port.clone())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Reads a line; a port that has joined is returned.
fn heard(line: &str, ports: &Mutex<Vec<Port>>) -> Option<String> {
    let (stamp, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let clock = stamp.split_once('T')?.1;
    let mut parts = clock.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let when = hours * 3600.0 + minutes * 60.0 + seconds;
    let mut names = rest.split_once(": ")?.1.split(':').next()?.split('@');
    let (name, peer) = (names.next()?, names.next().unwrap_or_default());
    let mut ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(port) = ports.last_mut().filter(|port| port.moved.is_none()) {
        // The other end goes, and names the port as its own; or the port says that it is in another namespace.
        let goes = rest.starts_with("Deleted ") && peer == port.name;
        if goes || name == port.name && peer.starts_with("if") {
            port.moved = Some(when);
        }
    }
    if rest.starts_with("Deleted ")
        || !rest.contains(&format!("master {BRIDGE} "))
        || ports.iter().any(|port| port.name == name)
    {
        return None;
    }
    ports.push(Port { name: name.to_owned(), joined: when, ..Port::default() });
    Some(name.to_owned())
}

/// When programs are on both sides of a port.
fn shut(port: &str) -> Option<f64> {
    let start = Instant::now();
    let is_there = |side| {
        SchedClassifier::query_tcx(port, side).is_ok_and(|(_, programs)| !programs.is_empty())
    };
    while start.elapsed() < LIMIT && nix::net::if_::if_nametoindex(port).is_ok() {
        if is_there(TcAttachType::Ingress) && is_there(TcAttachType::Egress) {
            return Some(now());
        }
    }
    None
}

/// Seconds of the day.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() % 86_400.0
}

/// When the first datagram comes back that a container sends by its new interface.
fn answered(ns: &Netns, interface: String, to: Ipv4Addr) -> thread::JoinHandle<Option<f64>> {
    let ns = ns.clone();
    thread::spawn(move || {
        ns.enter();
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let quickly = format!("/proc/sys/net/ipv4/neigh/{interface}/retrans_time_ms");
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            // Addresses are asked for again at once, not after a second.
            let quick = fs::write(&quickly, "4").is_ok();
            if quick
                && socket2::SockRef::from(&socket).bind_device(Some(interface.as_bytes())).is_ok()
            {
                socket.send_to(b"hello", (to, 53)).ok();
                if socket.recv(&mut [0; 64]).is_ok() {
                    return Some(now());
                }
            }
            thread::sleep(Duration::from_micros(300));
        }
        None
    })
}

/// Measures both ways in which a container comes to a network.
pub fn measure(stage: &Stage, figures: &mut Figures) {
    let docker = &stage.docker;
    docker.ok(&format!("network create -o com.docker.network.bridge.name={BRIDGE} blue"));
    let target = docker.container("target", "blue", "");
    let runner = docker.container("runner", "bridge", "");
    stage.settle();
    let _server = UdpServer::start(&target.ns, 53);
    let watch = Watch::start(&stage.net.host);
    let mut put = |measure: String, values: &dyn Fn(&(Port, f64)) -> f64, seen: &[(Port, f64)]| {
        let values: Vec<_> = seen.iter().map(|one| (values(one) - one.0.joined) * 1000.0).collect();
        figures.put(ADOPTED, &measure, "ms", &values);
    };
    let shut = |one: &(Port, f64)| one.0.shut.unwrap_or(f64::NAN);
    let moved = |one: &(Port, f64)| one.0.moved.unwrap_or(f64::NAN);
    let mut seen = Vec::new();
    for n in 1..=TIMES {
        let begin = now();
        // Docker counts on.
        let first = answered(&runner.ns, format!("eth{n}"), target.address());
        docker.ok("network connect blue runner");
        let first = first.join().expect("a thread").expect("an answer");
        seen.extend(watch.since(begin).map(|port| (port, first)));
        docker.ok("network disconnect blue runner");
    }
    let subject = "`docker network connect`: from the port's joining its bridge until";
    put(format!("{subject} it is shut"), &shut, &seen);
    put(format!("{subject} the container has the other end"), &moved, &seen);
    put(format!("{subject} what may pass passes"), &|one| one.1, &seen);
    seen.clear();
    let mut passed = 0;
    for _ in 0..TIMES {
        let begin = now();
        let line = format!(
            "run --rm --network blue busybox /bin/busybox ping -c 1 -W 1 {}",
            target.address()
        );
        let mut command = docker.host.command("docker");
        command.env("DOCKER_HOST", docker.url()).args(line.split(' '));
        passed += usize::from(process::run(&mut command, LIMIT * 6).ok());
        seen.extend(watch.since(begin).map(|port| (port, 0.0)));
    }
    let subject = "`docker run`: from the port's joining its bridge until";
    put(format!("{subject} it is shut"), &shut, &seen);
    put(format!("{subject} the container has the other end"), &moved, &seen);
    let measure = format!("`docker run`: first packets of first processes that pass, of {TIMES}");
    figures.put(ADOPTED, &measure, "", &[passed as f64]);
}
