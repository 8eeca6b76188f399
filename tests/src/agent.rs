//! The real agent, in a host's namespace, with directories of its own.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    Container, Netns, api, dump,
    metrics::Metrics,
    places::{self, Places},
    process::{self, Output},
    vm, wait,
};

/// Where the agent under test serves its metrics, in its own namespace.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// What a test may say about an agent before it starts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More arguments of `bascule agent`.
    pub args: Vec<String>,
    /// More environment.
    pub env: Vec<(String, String)>,
}

impl Settings {
    /// Adds arguments.
    pub fn arg(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Adds a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// An agent and everything it keeps. Dropping it removes all of it; dropping it in a panic first
/// says everything that is known.
#[derive(Debug)]
pub struct Agent {
    /// The namespace it lives in.
    pub host: Netns,
    /// Its directories.
    pub places: Places,
    settings: Settings,
    binary: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// Starts an agent and waits until it answers.
    #[track_caller]
    pub fn start(host: &Netns) -> Self {
        Self::start_with(host, Settings::default())
    }

    /// Starts an agent with settings and waits until it answers.
    #[track_caller]
    pub fn start_with(host: &Netns, settings: Settings) -> Self {
        let mut agent = Self::prepare(host, settings);
        agent.launch();
        agent.wait_ready();
        agent
    }

    /// Makes the directories of an agent without starting it.
    pub fn prepare(host: &Netns, settings: Settings) -> Self {
        crate::require_root();
        places::cgroup();
        Self { host: host.clone(), places: Places::new(), settings, binary: binary(), child: None }
    }

    /// Has it start with other settings from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Has it, and its client, be another build of the same program from now on: the one under test, with another
    /// version number of the same length in it, where no digit of something else stands beside it: in what an answer
    /// says of its server.
    #[track_caller]
    pub fn rebuild(&mut self, version: &str) {
        let mut bytes = std::fs::read(binary()).expect("the binary under test");
        let old = env!("CARGO_PKG_VERSION").as_bytes();
        assert_eq!(old.len(), version.len(), "another version of the same length");
        let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_digit() || *b == b'.');
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(old.len()).position(|window| window == old) {
            let (from, to) = (at + found, at + found + old.len());
            // Not a part of a longer number, such as an address.
            if !part(from.checked_sub(1).and_then(|before| bytes.get(before)))
                && !part(bytes.get(to))
            {
                bytes[from..to].copy_from_slice(version.as_bytes());
            }
            at = to;
        }
        let path = self.places.root().join(format!("bascule-{version}"));
        // Copied by a process of its own: a file that another thread's child still holds for writing cannot be executed.
        let written = path.with_extension("new");
        std::fs::write(&written, bytes).expect("another build");
        let copied = process::run(Command::new("cp").args([&written, &path]), process::LIMIT);
        assert!(copied.ok(), "cp: {}", copied.stderr);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("an executable");
        self.binary = path;
        self.forget_programs();
    }

    /// Has the next start find none of its build's programs: it loads them, and swaps them onto the live links, as that of
    /// a build with other programs does.
    #[track_caller]
    pub fn forget_programs(&self) {
        for pin in self.places.pins().iter().filter(|pin| pin.contains("/programs/")) {
            std::fs::remove_file(self.places.bpffs().join(pin)).expect("a pin");
        }
    }

    /// What it starts with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes note of the end of a process that has ended.
    #[track_caller]
    pub fn reap(&mut self) {
        assert!(self.has_ended(), "the agent is running");
        self.child = None;
    }

    /// Starts the process, without waiting for anything.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the agent is running already");
        let settings = self.settings.clone();
        self.launch_with(&settings);
    }

    /// Starts the process with other settings than the agent's own.
    pub fn launch_with(&mut self, settings: &Settings) {
        let log = log_file(&self.places);
        let mut command = self.agent_command(settings);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("start bascule agent"));
    }

    /// The command that starts the agent.
    pub fn agent_command(&self, settings: &Settings) -> Command {
        let mut command = self.bascule();
        command.arg("agent").args(&settings.args);
        for (name, value) in &settings.env {
            command.env(name, value);
        }
        command
    }

    /// The binary, in the host's namespace, with this agent's places in its environment.
    pub fn bascule(&self) -> Command {
        let mut command = self.host.command(&self.binary);
        let places = &self.places;
        command
            .env("BASCULE_STATE_DIR", places.state())
            .env("BASCULE_RUN_DIR", places.run())
            .env("BASCULE_BPFFS", places.bpffs())
            .env("BASCULE_CGROUP", places::cgroup())
            .env("BASCULE_METRICS_LISTEN", METRICS.to_string())
            .env("BASCULE_CONFIG", places.root().join("bascule.toml"))
            .env("NO_COLOR", "1")
            .current_dir(places.root());
        if !places.root().join("bascule.toml").exists() {
            std::fs::write(places.root().join("bascule.toml"), "").expect("an empty configuration");
        }
        command
    }

    /// Waits until the API answers; an agent that ends before fails the test with its log.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        // The verifier works on an emulated processor there.
        let limit = if vm::in_guest() { wait::START * 3 } else { wait::START };
        loop {
            if self.answers() {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the agent ended with {ended:?}; its log:\n{}", self.log());
            assert!(start.elapsed() < limit, "the agent does not answer; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the API answers.
    pub fn answers(&self) -> bool {
        let socket = self.places.socket();
        api::request(&socket, "GET", "/_ping", None).is_ok_and(|answer| answer.status == 200)
    }

    /// Whether the process that was started has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some())
    }

    /// Process id of the running agent.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the agent is running").id()
    }

    /// Kills the agent with SIGKILL and waits until it is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the agent is running");
        child.kill().expect("SIGKILL");
        child.wait().expect("wait for the agent");
    }

    /// Starts the agent again after it ended, and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.launch();
        self.wait_ready();
    }

    /// Stops the agent with SIGTERM and gives its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        let mut child = self.child.take().expect("the agent is running");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("SIGTERM");
        let status = process::wait(&mut child, wait::START);
        process::code(status.unwrap_or_else(|| {
            child.kill().ok();
            child.wait().ok();
            panic!("the agent does not end on SIGTERM; its log:\n{}", self.log())
        }))
    }

    /// Waits until the agent ends by itself, and gives its exit code.
    #[track_caller]
    pub fn wait_end(&mut self) -> i32 {
        let mut child = self.child.take().expect("the agent is running");
        let status = process::wait(&mut child, wait::START);
        process::code(status.unwrap_or_else(|| {
            child.kill().ok();
            child.wait().ok();
            panic!("the agent does not end; its log:\n{}", self.log())
        }))
    }

    /// Everything the agent said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.places.log()).unwrap_or_default()
    }

    /// Runs the command line client.
    pub fn cli<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.bascule();
        for arg in args {
            command.arg(arg.as_ref());
        }
        process::run(&mut command, process::LIMIT)
    }

    /// Runs the client with the words of a line, demands success, and gives its output, trimmed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let out = self.cli(line.split_whitespace());
        assert!(out.ok(), "`bascule {line}` failed with {}: {}", out.code, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Runs the client with the words of a line, demands that the agent refuses (exit code 1, an
    /// error on standard error, nothing on standard output), and gives the error.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let out = self.cli(line.split_whitespace());
        assert_eq!(out.code, 1, "`bascule {line}`: {out:?}");
        assert_eq!(out.stdout, "", "`bascule {line}` printed something although it failed");
        assert!(!out.stderr.trim().is_empty(), "`bascule {line}` failed without a word");
        out.stderr.trim_end().to_owned()
    }

    /// Sends a request to the API.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> api::Answer {
        api::request(&self.places.socket(), method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The JSON of an `inspect`, without the list around it.
    #[track_caller]
    pub fn inspect(&self, kind: &str, name: &str) -> Value {
        let text = self.ok(&format!("{kind} inspect {name}"));
        let value: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("`{kind} inspect {name}` is no JSON: {error}: {text}"));
        value[0].clone()
    }

    /// Scrapes `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(&self.host, METRICS).expect("scrape /metrics")
    }

    /// Makes a network; `options` are more words of the command line.
    #[track_caller]
    pub fn network(&self, name: &str, options: &str) -> String {
        self.ok(&format!("network create {options} {name}"))
    }

    /// Makes and starts a container; `options` are more words of the command line.
    #[track_caller]
    pub fn container(&self, name: &str, network: &str, options: &str) -> Container {
        let id = self.ok(&format!("container create --name {name} --network {network} {options}"));
        self.ok(&format!("container start {name}"));
        Container::open(self, name, &id)
    }

    /// Removes everything of this agent's by `bascule agent cleanup`.
    pub fn cleanup(&self, options: &[&str]) -> Output {
        self.cli(["agent", "cleanup"].iter().chain(options))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            dump::agent(self);
        }
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if !thread::panicking() {
            self.cleanup(&[]);
        }
    }
}

fn log_file(places: &Places) -> File {
    let log = places.log();
    OpenOptions::new().create(true).append(true).open(log).expect("the agent's log")
}

/// The binary under test: `BASCULE_BIN`, or the one beside the test's own build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BASCULE_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("path of the test");
    let path = test.ancestors().nth(2).expect("target directory").join("bascule");
    assert!(
        path.exists(),
        "{} does not exist: build it first with `cargo build -p bascule`",
        path.display()
    );
    path
}
