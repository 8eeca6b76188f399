//! The stage: a host, its router and someone outside, each a network namespace; an agent's
//! directories; a cgroup that every process of the demo is in. All of it carries the demo's name, and
//! all of it goes by that name alone, however the demo ended.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{sh, ui};

/// The host's own address, which its uplink has.
pub const HOST: &str = "203.0.113.10";
/// The address of someone out there.
pub const OUTSIDE: &str = "198.51.100.7";

const PREFIX: &str = "bascule-demo-";
const PLACES: [&str; 3] = ["host", "router", "outside"];
/// How long a process may take to end once asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// An HTTP server that says where a request came from, in its answer and in its log.
const SERVER: &str = r#"
import http.server, socketserver, sys
name, port = sys.argv[1], int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"this is {name}; you are {self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("", port), Handler).serve_forever()
"#;

/// Everything that exists because of the demo.
pub struct Stage {
    name: String,
    dir: PathBuf,
    cgroup: PathBuf,
}

impl Stage {
    /// A stage with a name that no other has; nothing is made yet but its directory and cgroup.
    pub fn new() -> Result<Self> {
        let stage = Self::named(&format!("{PREFIX}{}", std::process::id()))?;
        fs::create_dir(&stage.dir)
            .with_context(|| format!("cannot create {}", stage.dir.display()))?;
        fs::create_dir(&stage.cgroup)
            .with_context(|| format!("cannot create the cgroup {}", stage.cgroup.display()))?;
        join(&stage.cgroup)?;
        Ok(stage)
    }

    /// A stage that was left up.
    pub fn found(name: &str) -> Result<Self> {
        if name.strip_prefix(PREFIX).is_none_or(|id| id.parse::<u32>().is_err()) {
            bail!("`{name}` is no name of a demo; they read {PREFIX}1234");
        }
        let stage = Self::named(name)?;
        if !stage.dir.exists() {
            bail!("there is no {name}; up are: {}", others().join(" "));
        }
        Ok(stage)
    }

    fn named(name: &str) -> Result<Self> {
        let cgroup = cgroup_root()?.join(name);
        Ok(Self { name: name.to_owned(), dir: env::temp_dir().join(name), cgroup })
    }

    fn netns(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    fn sub(&self, part: &str) -> PathBuf {
        self.dir.join(part)
    }

    /// Makes the namespaces, connects them and writes the files that the story uses.
    pub fn set(&self) -> Result<()> {
        ui::step("the stage: a host, its router and someone outside");
        ui::line(&format!(
            "  outside {OUTSIDE} ----- 198.51.100.1 router 203.0.113.1 ----- {HOST} host\n\
             \n  Each is a network namespace; `host#` below stands for\n  \
             nsenter --net=/run/netns/{}",
            self.netns("host")
        ));
        fs::write(self.sub("server.py"), SERVER.trim_start())?;
        for place in PLACES {
            ip(&["netns", "add", &self.netns(place)])?;
            ip(&["-n", &self.netns(place), "link", "set", "lo", "up"])?;
        }
        self.wire("host", "uplink0", &format!("{HOST}/24"), "host0", "203.0.113.1/24")?;
        self.wire("outside", "eth0", &format!("{OUTSIDE}/24"), "outside0", "198.51.100.1/24")?;
        ip(&["-n", &self.netns("host"), "route", "add", "default", "via", "203.0.113.1"])?;
        ip(&["-n", &self.netns("outside"), "route", "add", "default", "via", "198.51.100.1"])?;
        let mut forward = self.at("router", "sh");
        forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        sh::quietly(&mut forward)
    }

    /// A wire between a place and the router.
    fn wire(
        &self,
        place: &str,
        device: &str,
        address: &str,
        far: &str,
        far_address: &str,
    ) -> Result<()> {
        let (near_ns, far_ns) = (self.netns(place), self.netns("router"));
        ip(&[
            "-n", &near_ns, "link", "add", device, "type", "veth", "peer", "name", far, "netns",
            &far_ns,
        ])?;
        for (ns, device, address) in [(&near_ns, device, address), (&far_ns, far, far_address)] {
            ip(&["-n", ns, "address", "add", address, "dev", device])?;
            ip(&["-n", ns, "link", "set", device, "up"])?;
        }
        Ok(())
    }

    /// A program in the namespace of a place, with this stage's agent in its environment.
    pub fn at(&self, place: &str, program: &str) -> Command {
        let mut command = sh::command("nsenter");
        let mut path = sh::target_dir().join("debug").into_os_string();
        path.push(":");
        path.push(sh::path());
        command
            .arg(format!("--net=/run/netns/{}", self.netns(place)))
            .arg("--")
            .arg(program)
            .current_dir(&self.dir)
            .env("PATH", path)
            .env("BASCULE_RUN_DIR", self.sub("run"))
            .env("DOCKER_HOST", format!("unix://{}/bascule.sock", self.sub("run").display()))
            .env("BASCULE_STATE_DIR", self.sub("state"))
            .env("BASCULE_BPFFS", self.sub("bpf"))
            .env("BASCULE_CGROUP", &self.cgroup);
        command
    }

    /// Starts a program in the background; its output goes to `<log>.log`.
    pub fn spawn(&self, mut command: Command, log: &str) -> Result<Child> {
        let path = self.sub(&format!("{log}.log"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        command.spawn().context("cannot start a program in the background")
    }

    /// What a program in the background has said so far.
    pub fn said(&self, log: &str) -> String {
        fs::read_to_string(self.sub(&format!("{log}.log"))).unwrap_or_default()
    }

    /// The end of the agent's log.
    pub fn log_tail(&self) -> Option<String> {
        let log = self.said("agent");
        (!log.is_empty()).then(|| sh::tail(log.as_bytes(), 15))
    }

    /// Says how to play with a stage that is left up, and how to end it.
    pub fn introduce(&self) {
        let name = &self.name;
        let bascule = sh::target_dir().join("debug/bascule");
        ui::step("the stage is left up");
        ui::line(&format!(
            "  alias b='{} --run-dir {}'\n  b ps; b run --rm --name c9 --network blue -- ping -c 2 {OUTSIDE}\n  \
             nsenter --net=/run/netns/{} curl -s http://{HOST}:8080/   # from outside\n  \
             nsenter --net=/run/netns/{} curl -s 127.0.0.1:9477/metrics\n  \
             cargo xtask demo --end {name}   # takes everything down",
            bascule.display(),
            self.sub("run").display(),
            self.netns("outside"),
            self.netns("host"),
        ));
    }

    /// Removes everything and makes sure of it.
    pub fn clear(&self) -> Result<()> {
        self.end_processes();
        if self.sub("run").exists() && Path::new("/run/netns").join(self.netns("host")).exists() {
            let mut cleanup = self.at("host", "bascule");
            cleanup.args(["agent", "cleanup", "--purge"]);
            if let Err(error) = sh::quietly(&mut cleanup) {
                ui::note(&format!("{error:#}"));
            }
        }
        for place in PLACES {
            if Path::new("/run/netns").join(self.netns(place)).exists() {
                ip(&["netns", "delete", &self.netns(place)])?;
            }
        }
        for path in mounts_below(&self.dir).iter().rev() {
            umount2(path, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}", path.display()))?;
        }
        remove_dangling(&self.dir);
        if self.cgroup.exists() {
            fs::remove_dir(&self.cgroup)
                .with_context(|| format!("cannot remove the cgroup {}", self.cgroup.display()))?;
        }
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)
                .with_context(|| format!("cannot remove {}", self.dir.display()))?;
        }
        self.inspect()
    }

    /// Ends every process of the demo but this one: those in its cgroup, and no others.
    fn end_processes(&self) {
        if let Some(parent) = self.cgroup.parent() {
            // Fails only where this process was never inside.
            drop(join(parent));
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let since = Instant::now();
            let mut inside = self.processes();
            for pid in &inside {
                let _ = kill(*pid, signal);
            }
            while !inside.is_empty() && since.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
                inside = self.processes();
            }
        }
    }

    fn processes(&self) -> Vec<Pid> {
        fs::read_to_string(self.cgroup.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok())
            .map(Pid::from_raw)
            .filter(|pid| *pid != nix::unistd::getpid())
            .collect()
    }

    /// Looks for anything with the demo's name on it.
    fn inspect(&self) -> Result<()> {
        let mut left: Vec<String> =
            mounts_below(&self.dir).iter().map(|path| path.display().to_string()).collect();
        for dir in [Path::new("/run/netns"), &env::temp_dir()] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = name.strip_prefix(&self.name);
                let ours = ours.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
                if ours || target.starts_with(&self.dir) {
                    left.push(entry.path().display().to_string());
                }
            }
        }
        if !left.is_empty() {
            bail!("left behind: {}", left.join(" "));
        }
        Ok(())
    }
}

fn ip(words: &[&str]) -> Result<()> {
    sh::quietly(sh::command("ip").args(words))
}

/// Moves this process into a cgroup.
fn join(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into the cgroup {}", cgroup.display()))
}

/// The root of the cgroup2 tree; on machines where none is mounted, it is mounted where the agent
/// would look for it.
fn cgroup_root() -> Result<PathBuf> {
    let find = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let line = table.lines().find(|line| line.contains(" - cgroup2 "))?;
        line.split(' ').nth(4).map(PathBuf::from)
    };
    if let Some(root) = find() {
        return Ok(root);
    }
    let root = PathBuf::from("/run/bascule-demo-cgroup");
    fs::create_dir_all(&root)?;
    mount(Some("cgroup2"), &root, Some("cgroup2"), MsFlags::empty(), None::<&str>)
        .context("cannot mount cgroup2")?;
    Ok(root)
}

/// What is mounted at or below a directory, in the order of mounting.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(dir))
        .collect()
}

/// Removes names of namespaces that pointed into a directory.
fn remove_dangling(dir: &Path) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(dir)) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Names of the stages that are up.
fn others() -> Vec<String> {
    fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}
