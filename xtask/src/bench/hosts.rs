//! Network namespaces to measure in: a sender, and hosts on wires of their own.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::sh;

/// How long the agent may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Address of every host.
pub const HOST: [u8; 4] = [198, 18, 0, 1];
/// Name of every host's uplink.
pub const UPLINK: &str = "up0";

/// The sender's namespace, and what hangs on it; all of it goes with the value.
pub struct Lab {
    name: String,
    dir: PathBuf,
    hosts: Vec<Host>,
    agent: Option<Child>,
}

/// A host on a wire of its own.
#[derive(Clone, Debug)]
pub struct Host {
    netns: String,
    /// Index of the sender's end of the wire.
    pub sender: u32,
    /// Ethernet addresses of the host's end and of the sender's.
    pub macs: ([u8; 6], [u8; 6]),
}

impl Lab {
    /// Makes the sender's namespace.
    pub fn new() -> Result<Self> {
        let name = format!("bascule-bench-{}", std::process::id());
        let dir = env::temp_dir().join(&name);
        let lab = Self { name, dir, hosts: Vec::new(), agent: None };
        fs::create_dir(&lab.dir).with_context(|| format!("cannot make {}", lab.dir.display()))?;
        fs::write(lab.dir.join("bascule.toml"), "").context("cannot make a configuration")?;
        ip(&["netns", "add", &lab.name])?;
        Ok(lab)
    }

    /// Adds a host. Its end of the wire polls, as the driver of a network card does.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        let netns = format!("{}-{name}", self.name);
        ip(&["netns", "add", &netns])?;
        let wire = format!("w{}", self.hosts.len());
        let known = Host { netns: netns.clone(), sender: 0, macs: Default::default() };
        self.hosts.push(known);
        let sender = &self.name;
        ip(&[
            "-n", sender, "link", "add", &wire, "type", "veth", "peer", "name", UPLINK, "netns",
            &netns,
        ])?;
        ip(&["-n", sender, "link", "set", &wire, "up"])?;
        for device in ["lo", UPLINK] {
            ip(&["-n", &netns, "link", "set", device, "up"])?;
        }
        let [a, b, c, d] = HOST;
        ip(&["-n", &netns, "addr", "add", &format!("{a}.{b}.{c}.{d}/24"), "dev", UPLINK])?;
        sh::quietly(within(&netns, "ethtool").args(["-K", UPLINK, "gro", "on"]))?;
        let (index, own) = describe(sender, &wire)?;
        let (_, to) = describe(&netns, UPLINK)?;
        let host = Host { netns, sender: index, macs: (to, own) };
        if let Some(last) = self.hosts.last_mut() {
            last.clone_from(&host);
        }
        Ok(host)
    }

    /// Calls a function in the sender's namespace.
    pub fn at_sender<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let entered = || -> Result<T> {
            let namespace = fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("cannot enter it")?;
            work()
        };
        let ended = thread::scope(|scope| scope.spawn(entered).join());
        ended.unwrap_or_else(|_| bail!("the sender's thread panicked"))
    }

    /// Starts an agent on a host and waits until it answers.
    pub fn start_agent(&mut self, host: &Host) -> Result<()> {
        let log = fs::File::create(self.dir.join("log")).context("cannot make a log")?;
        let mut command = self.bascule(host);
        command.args(["agent", "--bridge", "none", "--ip-forward=false"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.agent = Some(command.spawn().context("cannot start the agent")?);
        let begin = Instant::now();
        while !sh::capture(self.bascule(host).arg("status"))?.status.success() {
            let ended = self.agent.as_mut().and_then(|agent| agent.try_wait().ok().flatten());
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read(self.dir.join("log")).unwrap_or_default();
                bail!("the agent does not start:\n{}", sh::tail(&log, 20));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The binary on a host, with this lab's agent in its environment.
    pub fn bascule(&self, host: &Host) -> Command {
        let mut command = host.command(sh::target_dir().join("debug/bascule"));
        for (name, part) in [
            ("STATE_DIR", "state"),
            ("RUN_DIR", "run"),
            ("BPFFS", "bpf"),
            ("CONFIG", "bascule.toml"),
        ] {
            command.env(format!("BASCULE_{name}"), self.dir.join(part));
        }
        command
    }

    fn end_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        let asked = i32::try_from(agent.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && asked.is_ok() {
            if matches!(agent.try_wait(), Ok(Some(_))) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        agent.kill().ok();
        agent.wait().ok();
        if let Some(host) = self.hosts.first() {
            sh::capture(self.bascule(host).args(["agent", "cleanup", "--purge"])).ok();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end_agent();
        for netns in self.hosts.iter().map(|host| &host.netns).chain([&self.name]) {
            ip(&["netns", "del", netns]).ok();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Host {
    /// A program in the host's namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        within(&self.netns, program)
    }
}

fn within(netns: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = sh::command("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).arg("--").arg(program);
    command
}

fn ip(words: &[&str]) -> Result<()> {
    sh::quietly(sh::command("ip").args(words))
}

/// Index and Ethernet address of a device.
fn describe(netns: &str, device: &str) -> Result<(u32, [u8; 6])> {
    let text = sh::output(sh::command("ip").args(["-n", netns, "-j", "link", "show", device]))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let index = links[0]["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok());
    let mut mac = [0; 6];
    let digits = links[0]["address"].as_str().unwrap_or_default().split(':');
    for (byte, digits) in mac.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok((index.with_context(|| format!("{device} has no index"))?, mac))
}
