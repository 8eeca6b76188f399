//! A real dockerd in a host's namespace, with a world of its own around it.
//!
//! The daemon, its containerd and its containers live in mount, process and cgroup namespaces that end with
//! this value, and with the test. They see cgroups of version 2 only, whatever the machine has, and no
//! registry. The socket and the data root are in a directory of the test's own; `/run` and `/etc/docker`
//! are the world's own, and seen from outside below [`Dockerd::root`].

pub mod cases;

use std::{
    fmt::Display,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Container, Netns, api,
    api::Answer,
    dump, netns, places,
    process::{self, Output, Running},
    wait,
};

/// The image that is there from the start: busybox alone.
pub const IMAGE: &str = "busybox";
/// The time limit of the client: on a loaded machine a start takes its time.
const LIMIT: Duration = Duration::from_secs(120);
/// What a container runs when it is there for its network namespace.
const IDLE: &str = "/bin/busybox sleep 100000";

/// What the world's first process does: it reaps, and ends with everything in it.
const WORLD: &str = "set -e
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/init
echo 0 > /sys/fs/cgroup/init/cgroup.procs
mount -t tmpfs tmpfs /run
mkdir -p /etc/docker
mount -t tmpfs tmpfs /etc/docker
touch /run/ready
while :; do sleep 1000 & wait; done";

/// A running dockerd. Dropping it ends its containers too and removes all that it kept.
#[derive(Debug)]
pub struct Dockerd {
    /// The namespace it lives in.
    pub host: Netns,
    files: TempDir,
    cgroup: PathBuf,
    args: Vec<String>,
    world: Child,
    init: u32,
    daemon: Option<Child>,
}

impl Dockerd {
    /// Starts a daemon with more arguments, waits until it answers, and imports [`IMAGE`].
    #[track_caller]
    pub fn start(host: &Netns, args: &[&str]) -> Self {
        crate::require_root();
        let files = places::directory();
        let cgroup = places::cgroup_beside(&format!("docker{}", netns::unique()));
        let mut command = host.command("sh");
        let enter = format!(
            "echo 0 > {}/cgroup.procs; exec unshare --cgroup --mount --propagation private --pid --fork \
             --kill-child --mount-proc sh -c '{WORLD}'",
            cgroup.display()
        );
        command.args(["-c", &enter]).stdin(Stdio::null());
        let mut world = command.spawn().expect("unshare");
        let init = wait::wait_for("the daemon's world", wait::START, || {
            let ended = world.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the daemon's world ended with {ended:?}");
            let pid = world.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            let init = children.split_whitespace().next()?.parse().ok()?;
            root_of(init).join("run/ready").exists().then_some(init)
        });
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut docker =
            Self { host: host.clone(), files, cgroup, args, world, init, daemon: None };
        docker.launch();
        docker.wait_ready();
        docker.import();
        docker
    }

    /// Starts the daemon's process without waiting for anything.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "dockerd is running already");
        let dir = self.files.path();
        let log = OpenOptions::new().create(true).append(true).open(dir.join("log"));
        let log = log.expect("the daemon's log");
        let mut command = self.inside("dockerd");
        command
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
            .args(["--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            // There are no names but the containers': whoever asks for another one waits for nobody long.
            .args(["--dns", "127.0.0.1", "--dns-opt", "timeout:1", "--dns-opt", "attempts:1"])
            .args(["--cgroup-parent", "docker", "--data-root"])
            .arg(dir.join("data"))
            .args(["--host", &self.url()])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        self.daemon = Some(command.spawn().expect("start dockerd"));
    }

    /// Waits until the API answers; a daemon that ends before fails the test with its log.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        while !self.cli(["version"]).ok() {
            let ended = self.daemon.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "dockerd ended with {ended:?}; its log:\n{}", self.log());
            assert!(start.elapsed() < wait::START, "dockerd does not answer:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends the daemon's process a signal (`TERM`, `KILL`) and waits until it is gone. Its containers
    /// stay if it runs with `--live-restore`, or dies of `KILL`.
    #[track_caller]
    pub fn end(&mut self, signal: &str) {
        let mut daemon = self.daemon.take().expect("dockerd is running");
        let pid = fs::read_to_string(self.root().join("run/docker.pid")).expect("a pid file");
        let sent =
            process::run(self.inside("kill").args(["-s", signal, pid.trim()]), process::LIMIT);
        assert!(sent.ok(), "kill: {}", sent.stderr);
        process::wait(&mut daemon, wait::START).expect("dockerd ends");
    }

    /// Runs docker-compose in a project's directory.
    #[track_caller]
    pub fn compose(&self, project: &Path, line: &str) -> Output {
        let out = self.try_compose(project, line);
        assert!(out.ok(), "docker-compose {line}: {}\n{}", out.stdout, out.stderr);
        out
    }

    /// Has docker-compose take a project away. The daemon miscounts endpoints that come and go side by side, and
    /// keeps a network that nobody is on until it starts anew (moby/moby#42119): then it is started, and asked again.
    #[track_caller]
    pub fn compose_down(&mut self, project: &Path, line: &str) {
        let out = self.try_compose(project, line);
        if !out.stderr.contains("has active endpoints") {
            assert!(out.ok(), "docker-compose {line}: {}\n{}", out.stdout, out.stderr);
            return;
        }
        self.end("TERM");
        self.launch();
        self.wait_ready();
        self.compose(project, line);
    }

    fn try_compose(&self, project: &Path, line: &str) -> Output {
        let mut command = self.host.command("docker-compose");
        command.env("DOCKER_HOST", self.url()).current_dir(project).args(line.split_whitespace());
        process::run(&mut command, wait::START * 3)
    }

    fn import(&self) {
        let script = "d=$(mktemp -d) && mkdir $d/bin && cp \"$(command -v busybox)\" $d/bin/busybox && \
                      ln -s busybox $d/bin/sh && tar -C $d -c . | docker import - \"$0\"; e=$?; rm -r $d; exit $e";
        let mut command = self.host.command("sh");
        command.args(["-c", script, IMAGE]).env("DOCKER_HOST", self.url());
        command.env("DOCKER_CONFIG", self.files.path());
        let out = process::run(&mut command, process::LIMIT);
        assert!(out.ok(), "docker import: {}\n{}", out.stderr, self.log());
    }

    /// Where clients find the daemon, as `DOCKER_HOST` says it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.files.path().join("docker.sock")
    }

    /// The daemon's configuration, seen from outside of its world; there is none at first.
    pub fn config(&self) -> PathBuf {
        self.root().join("etc/docker/daemon.json")
    }

    /// The daemon's `/`, seen from outside of its world.
    pub fn root(&self) -> PathBuf {
        root_of(self.init)
    }

    /// A command that will run where the daemon does.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--"]).arg(program);
        process::dies_with_us(&mut command);
        command
    }

    /// Everything the daemon said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }

    /// Runs the command line client.
    pub fn cli<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.host.command("docker");
        command.env("DOCKER_HOST", self.url()).env("DOCKER_CONFIG", self.files.path());
        for arg in args {
            command.arg(arg.as_ref());
        }
        process::run(&mut command, LIMIT)
    }

    /// Runs the client with the words of a line, demands success, and gives its output, trimmed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let out = self.cli(line.split_whitespace());
        assert!(out.ok(), "`docker {line}` failed with {}: {}", out.code, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Runs the client with the words of a line, demands that it fails, and gives what it says.
    #[track_caller]
    pub fn fails(&self, line: &str) -> String {
        let out = self.cli(line.split_whitespace());
        assert!(!out.ok(), "`docker {line}` succeeded: {}", out.stdout);
        out.stderr
    }

    /// Runs the client with the words of a line while other things happen.
    pub fn background(&self, line: &str) -> Running {
        let mut command = self.host.command("docker");
        command.env("DOCKER_HOST", self.url()).env("DOCKER_CONFIG", self.files.path());
        process::start(command.args(line.split_whitespace()))
    }

    /// Sends a request to the API, in the version that this engine speaks.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        api::request(&self.socket(), method, &format!("/v1.41{path}"), body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What is known of a container, as `docker inspect` shows it.
    #[track_caller]
    pub fn inspect_container(&self, name: &str) -> Value {
        let answer = self.request("GET", &format!("/containers/{name}/json"), None);
        assert_eq!(answer.status, 200, "container {name}: {}", answer.body);
        answer.body
    }

    /// What is known of a network, as `docker network inspect` shows it.
    #[track_caller]
    pub fn inspect_network(&self, name: &str) -> Value {
        let answer = self.request("GET", &format!("/networks/{name}"), None);
        assert_eq!(answer.status, 200, "network {name}: {}", answer.body);
        answer.body
    }

    /// Runs a container that does nothing; `options` are more words of `docker run`.
    #[track_caller]
    pub fn container(&self, name: &str, network: &str, options: &str) -> Container {
        self.run(name, network, options, IDLE)
    }

    /// Runs a container with a command, in the background. It ends at once when it is told to.
    #[track_caller]
    pub fn run(&self, name: &str, network: &str, options: &str, command: &str) -> Container {
        self.ok(&format!(
            "run --detach --stop-signal KILL --name {name} --network {network} {options} {IMAGE} {command}"
        ));
        self.open(name)
    }

    /// Runs containers that do nothing, side by side: name, network, options.
    #[track_caller]
    pub fn containers<const N: usize>(&self, wanted: [(&str, &str, &str); N]) -> [Container; N] {
        thread::scope(|scope| {
            wanted
                .map(|(name, network, options)| {
                    scope.spawn(move || self.container(name, network, options))
                })
                .map(|thread| thread.join().expect("a container"))
        })
    }

    /// Opens the network namespace of a running container.
    #[track_caller]
    pub fn open(&self, name: &str) -> Container {
        let found = self.inspect_container(name);
        let (id, pid) = (found["Id"].as_str().unwrap_or_default(), &found["State"]["Pid"]);
        let path = self.root().join("proc").join(pid.to_string()).join("ns/net");
        let ns = Netns::open(name, &path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        Container { name: name.to_owned(), id: id.to_owned(), ns }
    }

    /// Executes a line of shell in a container, where what busybox has is at hand.
    pub fn try_exec(&self, container: &str, line: &str) -> Output {
        let shell = format!(
            "for name in ping nslookup ip cat ifconfig wget traceroute; do alias $name=\"/bin/busybox $name\"; done\n{line}"
        );
        self.cli(["exec", container, "/bin/busybox", "sh", "-c", &shell])
    }

    /// Executes a line of shell in a container, demands success, and gives its output, trimmed.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> String {
        let out = self.try_exec(container, line);
        assert!(out.ok(), "`{line}` in {container} failed with {}: {}", out.code, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Whether a container's ping of a name or an address is answered.
    pub fn pings(&self, from: &str, to: impl Display) -> bool {
        self.try_exec(from, &format!("ping -c 1 -W 2 {to}")).ok()
    }

    /// Version of the daemon, such as `20.10.24+dfsg1`.
    pub fn version(&self) -> String {
        self.ok("version --format {{.Server.Version}}")
    }
}

/// A ping by `docker exec`, a hundred times a second until it is told to end.
#[derive(Debug)]
pub struct Exec<'a> {
    docker: &'a Dockerd,
    container: String,
    running: Running,
}

impl<'a> Exec<'a> {
    /// Starts it in a container.
    pub fn ping(docker: &'a Dockerd, container: &str, to: impl Display) -> Self {
        let script = format!(
            "b=/bin/busybox; $b ping -q -i 0.01 {to} & p=$!; until [ -e /end ]; do $b sleep 0.1; done; \
             kill -INT $p; wait $p"
        );
        let mut command = docker.host.command("docker");
        command.env("DOCKER_HOST", docker.url());
        command.args(["exec", container, "/bin/busybox", "sh", "-c", &script]);
        Self { docker, container: container.to_owned(), running: process::start(&mut command) }
    }

    /// Ends it, and demands that every answer came; the last one may have been on its way.
    #[track_caller]
    pub fn lost_nothing(self) {
        self.docker.ok(&format!("exec {} /bin/busybox touch /end", self.container));
        let out = self.running.finish("docker exec", LIMIT);
        let number = |word: &str| -> u32 {
            let before = out.stdout.split(word).next().unwrap_or_default();
            before.rsplit([' ', '\n', ',']).find_map(|n| n.parse().ok()).unwrap_or(0)
        };
        let (sent, received) = (number(" packets transmitted"), number(" packets received"));
        assert!(sent > 100 && received + 1 >= sent, "{}: {out:?}", self.container);
    }
}

/// A process's `/`, for others to look into.
fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if thread::panicking() {
            dump::daemon(self);
        }
        // The parent takes its only child, the world's first process, along; and that one everything.
        self.world.kill().ok();
        self.world.wait().ok();
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        places::remove_cgroup(&self.cgroup);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_runs_containers_and_leaves_nothing() {
        let host = Netns::new("docker");
        let mut docker = Dockerd::start(&host, &["--live-restore"]);
        docker.ok("network create --subnet 10.77.1.0/24 blue");
        let c1 = docker.container("c1", "blue", "--ip 10.77.1.7");
        assert_eq!(c1.address(), std::net::Ipv4Addr::new(10, 77, 1, 7));
        host.sh("ping -c 1 -W 5 10.77.1.7");
        let inspected = docker.inspect_container("c1");
        let key = inspected["NetworkSettings"]["SandboxKey"].as_str().expect("a path");
        let key = docker.root().join(key.trim_start_matches('/'));
        assert_eq!(Netns::open("c1", &key).expect("the sandbox").inode(), c1.ns.inode());
        // The daemon goes and comes; what it runs stays.
        docker.end("KILL");
        host.sh("ping -c 1 -W 5 10.77.1.7");
        docker.launch();
        docker.wait_ready();
        assert_eq!(docker.open("c1").ns.inode(), c1.ns.inode());
        let (cgroup, files) = (docker.cgroup.clone(), docker.files.path().to_owned());
        drop((docker, c1));
        assert!(!cgroup.exists() && !files.exists());
        wait::wait_until("the container's end", wait::SOON, || {
            !host.try_sh("ping -c 1 -W 1 10.77.1.7").ok()
        });
    }
}
