//! What an answer about a name costs, beside other servers with the same names: `cargo xtask bench dns`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bascule_tests::{Container, Netns, process::Killed, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Stage;

/// Names that are asked for.
const NAMES: usize = 100;
/// Questions under way at once.
const WINDOW: usize = 16;
/// How long each round asks each server.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

/// A server that is asked.
struct Server {
    name: &'static str,
    pid: u32,
    client: Netns,
    at: IpAddr,
    /// Questions per second, the same per second of CPU, and the 99th percentile in microseconds, by round.
    found: Vec<[f64; 3]>,
    _child: Option<Killed>,
    _daemon: Option<Daemon>,
}

/// A server that has left its parent.
struct Daemon(u32);

impl Drop for Daemon {
    fn drop(&mut self) {
        kill(Pid::from_raw(self.0.cast_signed()), Signal::SIGKILL).ok();
    }
}

/// Seconds of CPU that a process has taken.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let rest = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

/// A question for an address.
pub fn question(number: u16, name: &str) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8]);
    bytes.extend(name.bytes());
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Asks for a while; gives the number of answers, and how long each took.
fn ask(at: SocketAddr) -> Vec<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect(at).expect("a route");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let (begin, mut sent, mut took) = (Instant::now(), vec![None; 1 << 16], Vec::new());
    let mut next = 0_u16;
    let send = |next: &mut u16, sent: &mut Vec<Option<Instant>>| {
        sent[usize::from(*next)] = Some(Instant::now());
        let name = format!("c{}", usize::from(*next) * 31 % NAMES);
        socket.send(&question(*next, &name)).ok();
        *next = next.wrapping_add(1);
    };
    (0..WINDOW).for_each(|_| send(&mut next, &mut sent));
    let mut answer = [0; 512];
    while begin.elapsed() < ROUND {
        if let Ok(length) = socket.recv(&mut answer) {
            assert!(length > 12 && answer[7] == 1, "one address: {:?}", &answer[..length]);
            let number = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            took.extend(sent[number].take().map(|at| at.elapsed()));
        }
        // What was lost is made up for.
        send(&mut next, &mut sent);
    }
    took
}

impl Server {
    fn round(&mut self) {
        let before = cpu(self.pid);
        let at = SocketAddr::new(self.at, 53);
        let mut took = self.client.run(|| ask(at));
        let spent = (cpu(self.pid) - before).max(0.01);
        took.sort();
        let late = took.get(took.len() * 99 / 100).copied().unwrap_or(ROUND);
        let count = took.len() as f64;
        let p99 = late.as_secs_f64() * 1e6;
        self.found.push([count / ROUND.as_secs_f64(), count / spent, p99]);
    }

    fn median(&self, of: usize) -> f64 {
        let mut all: Vec<f64> = self.found.iter().map(|found| found[of]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

/// Starts a server of others at the default network's gateway, which has no names of ours.
fn other(client: &Netns, name: &'static str, mut command: Command, at: IpAddr) -> Server {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(command.spawn().expect(name));
    wait::wait_until("it answers", wait::SOON, || {
        client.try_sh(&format!("dig +time=1 +tries=1 +short @{at} c1")).stdout.contains('.')
    });
    let pid = child.0.id();
    let client = client.clone();
    Server { name, pid, client, at, found: Vec::new(), _child: Some(child), _daemon: None }
}

/// Has aardvark-dns serve these names at an address of the host; none where it is not installed.
fn aardvark(stage: &Stage, plain: &Container, at: IpAddr) -> Option<Server> {
    const PROGRAM: &str = "/usr/lib/podman/aardvark-dns";
    if !std::path::Path::new(PROGRAM).exists() {
        return None;
    }
    stage.net.host.sh(&format!("ip addr add {at}/32 dev lo"));
    let directory = stage.agent.places.root().join("bench-aardvark");
    fs::create_dir(&directory).expect("a directory");
    // Where it listens; then containers: an id, addresses of both families, and names.
    let line = |id: usize, ip: &str, name: &str| format!("{id:064x} {ip}  {name}\n");
    let names: String =
        (0..NAMES).map(|n| line(n + 1, &format!("10.66.1.{}", n + 1), &format!("c{n}"))).collect();
    let own = line(NAMES + 1, &plain.address().to_string(), "plain");
    fs::write(directory.join("bench"), format!("{at}\n{names}{own}")).expect("a file of names");
    let mut command = stage.net.host.command(PROGRAM);
    command.arg("--config").arg(&directory).args(["--port", "53", "run"]);
    let server = other(&plain.ns, "aardvark-dns", command, at);
    let file = directory.join("aardvark.pid");
    let pid = wait::wait_for("its pid", wait::SOON, || {
        fs::read_to_string(&file).ok()?.trim().parse().ok()
    });
    Some(Server { pid, _daemon: Some(Daemon(pid)), ..server })
}

#[test]
#[ignore = "a measurement: cargo xtask bench dns"]
#[expect(clippy::print_stdout, reason = "its output is the result")]
fn measure() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.66.0.0/22");
    stage.agent.container("c0", "n1", "");
    let aliases: String = (1..NAMES).map(|n| format!(" --network-alias c{n}")).collect();
    stage.agent.container("all", "n1", &aliases);
    let client = stage.agent.container("client", "n1", "");
    let plain = stage.agent.container("plain", "bridge", "");
    let shown = stage.agent.inspect("network", "bridge");
    let text = shown["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").to_owned();
    let gateway: IpAddr = text.parse().expect("an address");
    let ours = Server {
        name: "bascule",
        pid: stage.agent.pid(),
        client: client.ns.clone(),
        at: "10.66.0.1".parse().expect("an address"),
        found: Vec::new(),
        _child: None,
        _daemon: None,
    };
    let hosts = stage.agent.places.root().join("bench-hosts");
    let lines: String = (0..NAMES).map(|n| format!("10.66.1.{} c{n}\n", n + 1)).collect();
    fs::write(&hosts, lines).expect("a file of hosts");
    let mut dnsmasq = stage.net.host.command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]);
    dnsmasq.args(["--conf-file=/dev/null", "--pid-file=", "--bind-interfaces"]);
    dnsmasq.arg(format!("--listen-address={gateway}"));
    dnsmasq.arg(format!("--addn-hosts={}", hosts.display()));
    let dnsmasq = other(&plain.ns, "dnsmasq", dnsmasq, gateway);
    let mut servers = vec![ours, dnsmasq];
    servers.extend(aardvark(&stage, &plain, IpAddr::from([10, 98, 0, 1])));
    for _ in 0..ROUNDS {
        servers.iter_mut().for_each(Server::round);
    }
    println!("{:<12} {:>12} {:>16} {:>10}", "server", "answers/s", "answers/s/core", "p99 (µs)");
    for server in &servers {
        let [all, each, late] = [0, 1, 2].map(|of| server.median(of));
        println!("{:<12} {all:>12.0} {each:>16.0} {late:>10.0}", server.name);
    }
}
