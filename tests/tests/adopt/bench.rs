//! What publishing costs with Docker's own rules and proxies, and when its networks are taken over: `cargo xtask bench
//! docker`. Both are measured on the same daemon, one after the other.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Dockerd, Netns, Topology, topology::HOST};

use crate::{Stage, at, stage::settings};

/// How long connections are counted.
const COUNTED: Duration = Duration::from_secs(3);
/// Where the number of ports stands that are published beside the one that is asked.
const PORTS: &str = "BASCULE_BENCH_PORTS";

/// A server that takes connections and lets them go.
struct Sink {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sink {
    fn start(ns: &Netns) -> Self {
        let listener = ns.run(|| TcpListener::bind("0.0.0.0:80")).expect("a listener");
        listener.set_nonblocking(true).expect("a listener");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if listener.accept().is_err() {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Connections a second, one after the other.
fn rate(ns: &Netns, to: impl Into<SocketAddr>) -> f64 {
    let to = to.into();
    ns.run(move || {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < COUNTED {
            // Ended by a reset: ports in TIME-WAIT would run out.
            if let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
                count += 1;
            }
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    })
}

/// MiB that processes of these names have in a namespace, and how many they are.
fn memory(host: &Netns, names: &[&str]) -> (f64, usize) {
    let (mut pages, mut count) = (0_u64, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let there =
            fs::metadata(path.join("ns/net")).is_ok_and(|found| found.ino() == host.inode());
        if there && names.contains(&name.trim()) {
            let statm = fs::read_to_string(path.join("statm")).unwrap_or_default();
            pages += statm.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            count += 1;
        }
    }
    (pages as f64 / 256.0, count)
}

fn timed(docker: &Dockerd, line: &str) -> f64 {
    let start = Instant::now();
    let mut command = docker.host.command("docker");
    command.env("DOCKER_HOST", docker.url()).args(line.split_whitespace());
    let out = bascule_tests::process::run(&mut command, Duration::from_secs(3600));
    assert!(out.ok(), "docker {line}: {}", out.stderr);
    start.elapsed().as_secs_f64()
}

/// Measures one way of publishing.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn measure(docker: &Dockerd, net: &Topology, way: &str, many: u16) {
    let idle = "busybox /bin/busybox sleep 100000";
    let names = ["dockerd", "docker-proxy", "bascule"];
    let (before, _) = memory(&net.host, &names);
    let start =
        timed(docker, &format!("run --detach --name range -p 20000-20499:20000-20499 {idle}"));
    let (after, processes) = memory(&net.host, &names);
    let removal = timed(docker, "rm --force range");
    println!(
        "{way}: 500 ports: start {start:.2} s, removal {removal:.2} s, {:.0} MiB more, {processes} processes",
        after - before
    );
    let web = docker.container("web", "bridge", "-p 8080:80");
    let peer = docker.container("peer", "bridge", "");
    let _sink = Sink::start(&web.ns);
    thread::sleep(Duration::from_millis(500));
    let rates = |ports: u32| {
        let outside = rate(&net.outside, at(HOST, 8080));
        let host = rate(&net.host, at(Ipv4Addr::LOCALHOST, 8080));
        let inside = rate(&peer.ns, at(web.address(), 80));
        println!(
            "{way}: {ports} ports: connections/s from outside {outside:.0}, from the host {host:.0}, between containers {inside:.0}"
        );
    };
    rates(1);
    let last = 10_000 + many - 1;
    let start =
        timed(docker, &format!("run --detach --name many -p 10000-{last}:10000-{last} {idle}"));
    println!("{way}: {many} ports: start {start:.2} s");
    thread::sleep(Duration::from_millis(500));
    rates(u32::from(many) + 1);
    let removal = timed(docker, "rm --force many web peer");
    println!("{way}: {many} ports: removal {removal:.2} s");
}

#[test]
#[ignore = "a measurement: `cargo xtask bench docker`"]
fn docker() {
    let many = std::env::var(PORTS).ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    // Not 10,000 with proxies: they, and as many for IPv6, would be some 60 GiB.
    let net = Topology::new();
    let mut docker = Dockerd::start(&net.host, &["--live-restore"]);
    measure(&docker, &net, "iptables and proxies", many.min(500));
    fs::write(docker.config(), "{\"userland-proxy\": false}").expect("daemon.json");
    docker.end("TERM");
    docker.launch();
    docker.wait_ready();
    measure(&docker, &net, "iptables alone", many);
    let agent = Agent::start_with(&net.host, settings(&docker));
    let mut stage = Stage { agent, docker, net };
    stage.adopt();
    measure(&stage.docker, &stage.net, "adopted", many);
}
