//! What publishing costs with Docker's own rules and proxies, and when its networks are taken over: `cargo xtask bench
//! docker`. All of it is measured on the same daemon, one way after the other.

mod window;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Container, Dockerd, Netns, Topology, topology::HOST};
use serde_json::{Value, json};

use crate::{Stage, at, stage::settings};

/// How often connections are counted, and how long each time.
const ROUNDS: usize = 3;
const COUNTED: Duration = Duration::from_secs(1);
/// Where the number of ports stands that are published beside the one that is asked.
const PORTS: &str = "BASCULE_BENCH_PORTS";
/// Where the figures go.
const FILE: &str = "BASCULE_BENCH_FILE";
/// The first of those many ports.
const FIRST: u16 = 10_000;
/// What a container does that is there for its ports.
const IDLE: &str = "busybox /bin/busybox sleep 100000";
/// How dockerd is run, in words.
const PROXIES: &str = "Docker";
const ALONE: &str = "Docker without proxies";
const ADOPTED: &str = "adopted";

/// What was measured.
#[derive(Default)]
pub struct Figures(Vec<Value>);

impl Figures {
    /// Takes note of values, and says them.
    #[expect(clippy::print_stdout, reason = "the figures are what it is for")]
    pub fn put(&mut self, way: &str, measure: &str, unit: &str, values: &[f64]) {
        let shown: Vec<_> = values.iter().map(|value| format!("{value:.2}")).collect();
        println!("{way}: {measure}: {} {unit}", shown.join(" "));
        self.0.push(json!({"way": way, "measure": measure, "unit": unit, "values": values}));
    }
}

/// A server that greets whoever comes, and lets them go.
struct Sink {
    ns: Netns,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sink {
    fn start(ns: &Netns) -> Self {
        let listener = ns.run(|| TcpListener::bind("0.0.0.0:80")).expect("a listener");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut stream, _)) = listener.accept() {
                    stream.write_all(b"!").ok();
                }
            }
        });
        Self { ns: ns.clone(), stop, thread: Some(thread) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ns.run(|| TcpStream::connect("127.0.0.1:80")).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Opens a connection, and waits for the greeting: a queue of connections that nobody accepts would be no measure.
fn greeted(to: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    // Ended by a reset: ports in TIME-WAIT would run out.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.set_read_timeout(Some(limit))?;
    stream.read_exact(&mut [0])
}

/// Connections a second, one after the other.
fn rate(ns: &Netns, to: SocketAddr) -> f64 {
    ns.run(|| {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < COUNTED {
            count += u32::from(greeted(to).is_ok());
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    })
}

/// MiB that Docker's and our processes in a namespace have, and how many they are.
fn memory(host: &Netns) -> (f64, usize) {
    let (mut pages, mut count) = (0_u64, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let there =
            fs::metadata(path.join("ns/net")).is_ok_and(|found| found.ino() == host.inode());
        if there && ["dockerd", "docker-proxy", "bascule"].contains(&name.trim()) {
            let statm = fs::read_to_string(path.join("statm")).unwrap_or_default();
            pages += statm.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            count += 1;
        }
    }
    (pages as f64 / 256.0, count)
}

/// Seconds that a line of Docker's client takes.
fn timed(docker: &Dockerd, line: &str) -> f64 {
    let start = Instant::now();
    let mut command = docker.host.command("docker");
    command.env("DOCKER_HOST", docker.url()).args(line.split_whitespace());
    let out = bascule_tests::process::run(&mut command, Duration::from_secs(600));
    assert!(out.ok(), "docker {line}: {}", out.stderr);
    start.elapsed().as_secs_f64()
}

/// The rules that dockerd writes for a port of a container on its default bridge, for many of them, without asking it:
/// it takes minutes for so many.
fn rules(host: &Netns, container: Ipv4Addr, ports: std::ops::Range<u16>) {
    let each = |rule: &dyn Fn(u16) -> String| ports.clone().map(rule).collect::<String>();
    let text = format!(
        "*nat\n{}{}COMMIT\n*filter\n{}COMMIT\n",
        each(&|port| format!(
            "-A POSTROUTING -s {container}/32 -d {container}/32 -p tcp -m tcp --dport {port} -j MASQUERADE\n"
        )),
        each(&|port| format!(
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport {port} -j DNAT --to-destination {container}:{port}\n"
        )),
        each(&|port| format!(
            "-A DOCKER -d {container}/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport {port} -j ACCEPT\n"
        )),
    );
    restore(host, &["--noflush"], &text);
}

fn restore(host: &Netns, options: &[&str], text: &str) {
    let mut command = host.command("iptables-restore");
    let mut child = command.args(options).stdin(Stdio::piped()).spawn().expect("iptables-restore");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("rules are told");
    assert!(child.wait().expect("iptables-restore").success(), "iptables-restore refuses");
}

/// One way of publishing.
struct Way<'a> {
    name: &'static str,
    docker: &'a Dockerd,
    net: &'a Topology,
    figures: &'a mut Figures,
}

impl Way<'_> {
    /// Five hundred ports: start, removal, and what they take.
    fn range(&mut self) {
        let (before, _) = memory(&self.net.host);
        let line = format!("run --detach --name range -p 20000-20499:20000-20499 {IDLE}");
        let start = timed(self.docker, &line);
        let (after, processes) = memory(&self.net.host);
        let removal = timed(self.docker, "rm --force range");
        let way = self.name;
        self.figures.put(way, "start of a container with 500 published ports", "s", &[start]);
        self.figures.put(way, "its removal", "s", &[removal]);
        self.figures.put(
            way,
            "memory of dockerd, its proxies and the agent for them",
            "MiB",
            &[after - before],
        );
        self.figures.put(
            way,
            "processes of dockerd, its proxies and the agent",
            "",
            &[processes as f64],
        );
    }

    /// Connections a second to one port among so many.
    fn rates(&mut self, web: &Container, peer: &Container, ports: u32) {
        let _sink = Sink::start(&web.ns);
        thread::sleep(Duration::from_millis(500));
        let ways: [(&str, &Netns, SocketAddr); 3] = [
            ("from outside", &self.net.outside, at(HOST, 8080).into()),
            ("from the host by 127.0.0.1", &self.net.host, at(Ipv4Addr::LOCALHOST, 8080).into()),
            ("between containers", &peer.ns, at(web.address(), 80).into()),
        ];
        for (who, ns, to) in ways {
            let rates: Vec<_> = (0..ROUNDS).map(|_| rate(ns, to)).collect();
            let measure = format!("connections/s {who}, {ports} published ports");
            self.figures.put(self.name, &measure, "", &rates);
        }
    }

    /// With one published port.
    fn one(&mut self) {
        let web = self.docker.container("web", "bridge", "-p 8080:80");
        let peer = self.docker.container("peer", "bridge", "");
        self.rates(&web, &peer, 1);
        timed(self.docker, "rm --force web peer");
    }

    /// With so many more, by the rules that dockerd would write: the port that is asked is in their middle.
    fn many_by_rules(&mut self, many: u16) {
        let other = self.docker.container("other", "bridge", "");
        let before = self.net.host.sh("iptables-save");
        let middle = FIRST + many / 2;
        rules(&self.net.host, other.address(), FIRST..middle);
        let web = self.docker.container("web", "bridge", "-p 8080:80");
        rules(&self.net.host, other.address(), middle..FIRST + many - 1);
        let peer = self.docker.container("peer", "bridge", "");
        self.rates(&web, &peer, many.into());
        restore(&self.net.host, &[], &before);
        timed(self.docker, "rm --force web peer other");
    }

    /// With so many more that are really published.
    fn many(&mut self, many: u16) {
        let last = FIRST + many - 2;
        let line = format!("run --detach --name many -p {FIRST}-{last}:{FIRST}-{last} {IDLE}");
        let start = timed(self.docker, &line);
        let web = self.docker.container("web", "bridge", "-p 8080:80");
        let peer = self.docker.container("peer", "bridge", "");
        self.rates(&web, &peer, many.into());
        timed(self.docker, "rm --force web peer");
        let removal = timed(self.docker, "rm --force many");
        let ports = u32::from(many) - 1;
        let measure = format!("start of a container with {ports} published ports");
        self.figures.put(self.name, &measure, "s", &[start]);
        self.figures.put(self.name, &format!("removal of the one with {ports}"), "s", &[removal]);
    }
}

#[test]
#[ignore = "a measurement: `cargo xtask bench docker`"]
fn docker() {
    let many = std::env::var(PORTS).ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let mut figures = Figures::default();
    let net = Topology::new();
    let mut docker = Dockerd::start(&net.host, &["--live-restore"]);
    for (name, config) in [(PROXIES, None), (ALONE, Some("{\"userland-proxy\": false}"))] {
        if let Some(config) = config {
            fs::write(docker.config(), config).expect("daemon.json");
            docker.end("TERM");
            docker.launch();
            docker.wait_ready();
        }
        let mut way = Way { name, docker: &docker, net: &net, figures: &mut figures };
        way.range();
        way.one();
        way.many_by_rules(many);
    }
    let agent = Agent::start_with(&net.host, settings(&docker));
    let mut stage = Stage { agent, docker, net };
    stage.adopt();
    let mut way =
        Way { name: ADOPTED, docker: &stage.docker, net: &stage.net, figures: &mut figures };
    way.range();
    way.one();
    way.many(many);
    window::measure(&stage, &mut figures);
    if let Some(file) = std::env::var_os(FILE) {
        let written = fs::write(&file, json!(figures.0).to_string());
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
}
