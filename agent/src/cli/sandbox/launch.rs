//! Starting a command inside a sandbox: it is held until the agent knows its process.
//!
//! ```text
//! thread: enter the sandbox, fork ──► child: send pid ─ wait ──────────────► execute
//! caller:                             receive pid ─ tell the agent ─ let go ──┘
//! ```

use std::{
    ffi::OsString,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, anyhow};
use nix::{
    errno::Errno,
    sys::signal::{self, SigHandler, Signal},
    unistd,
};

use super::{interior::Interior, rights::Rights, terminal, wait};
use crate::error::{Failure, exit};

/// Where a command reads and writes.
#[derive(Debug)]
pub enum Streams {
    /// Nowhere, in a session of its own.
    Nowhere,
    /// Where this client does; it has its input only where that is wanted.
    Own {
        /// Whether it has this client's input.
        input: bool,
    },
    /// A terminal of its own.
    Terminal(OwnedFd),
}

/// A command and how to execute it.
#[derive(Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Variables to set, or to take out.
    pub env: Vec<(String, Option<String>)>,
    /// Working directory.
    pub workdir: Option<PathBuf>,
    /// Where it reads and writes.
    pub streams: Streams,
    /// What it may do.
    pub rights: Rights,
}

/// Starts a command inside. `announce` gets its process id while it is held, and decides.
pub fn launch(
    interior: Interior,
    launch: Launch,
    announce: impl FnOnce(i32) -> Result<(), Failure>,
) -> Result<Child, Failure> {
    let (ready, report) = pipe()?;
    let (gate, open) = pipe()?;
    let callers_end = open.as_raw_fd();
    // Namespaces are a thread's own, so that this client itself stays outside.
    let starter = thread::Builder::new().name("sandbox".into()).spawn(move || {
        interior
            .enter(launch.rights.is_privileged())
            .map_err(|error| Failure::from(error).with_code(exit::ENGINE))?;
        start(launch, report, gate, callers_end)
    })?;
    let announced = receive_pid(ready).map(announce);
    if let Some(Ok(())) = announced {
        // A child that has died says so through its starter.
        std::fs::File::from(open).write_all(b"!").ok();
    } else {
        drop(open);
    }
    let started = starter.join().map_err(|_| Failure::new("the starting thread panicked"))?;
    match announced {
        // It never got as far as executing: the starter's error is the consequence.
        Some(Err(refused)) => {
            if let Ok(mut child) = started {
                child.wait().ok();
            }
            Err(refused)
        }
        _ => started,
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let ends = unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    Ok(ends)
}

/// Waits for the child's process id; nothing means that there is no child.
fn receive_pid(ready: OwnedFd) -> Option<i32> {
    let mut pid = [0; 4];
    std::fs::File::from(ready).read_exact(&mut pid).ok()?;
    Some(i32::from_ne_bytes(pid))
}

/// Forks, and returns when the command is executed or is not going to be.
fn start(launch: Launch, report: OwnedFd, gate: OwnedFd, open: RawFd) -> Result<Child, Failure> {
    let Launch { command: words, env, workdir, streams, rights } = launch;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(Failure::usage("there is no command"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, value) in env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = workdir {
        if !dir.is_dir() {
            let error = anyhow!("the working directory {} does not exist", dir.display());
            return Err(Failure::from(error).with_code(exit::NOT_EXECUTABLE));
        }
        command.current_dir(dir);
    }
    let (leads, has_terminal) = connect(&mut command, streams)?;
    let held = wait::held();
    // Those of this thread, which the command gets with it.
    rights.limit().map_err(|error| {
        Failure::new(format!("cannot take rights from the command: {error}"))
            .with_code(exit::ENGINE)
    })?;
    // SAFETY: between fork and exec the closure only makes calls that are async-signal-safe
    // (sigaction, pthread_sigmask, setsid, ioctl, close, getpid, write, read) on what exists already.
    unsafe {
        command.pre_exec(move || {
            heed_signals()?;
            held.thread_unblock()?;
            if leads {
                unistd::setsid()?;
            }
            if has_terminal {
                terminal::take(libc::STDIN_FILENO)?;
            }
            hold(&report, &gate, open)
        });
    }
    command.spawn().map_err(|error| not_executed(program, &error))
}

/// In the child: takes back that signals are ignored. What a shell ignores for its background jobs is nothing to
/// what runs in a container, here as with Docker.
fn heed_signals() -> io::Result<()> {
    for signal in Signal::iterator().filter(|s| ![Signal::SIGKILL, Signal::SIGSTOP].contains(s)) {
        // SAFETY: the default action runs no code of ours.
        unsafe { signal::signal(signal, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Connects a command; tells whether it leads a session of its own, and whether that has a terminal.
fn connect(command: &mut Command, streams: Streams) -> io::Result<(bool, bool)> {
    match streams {
        Streams::Nowhere => {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Ok((true, false))
        }
        Streams::Own { input } => {
            if !input {
                command.stdin(Stdio::null());
            }
            Ok((false, false))
        }
        Streams::Terminal(end) => {
            command.stdin(end.try_clone()?).stdout(end.try_clone()?).stderr(end);
            Ok((true, true))
        }
    }
}

/// In the child: sends its process id, and waits until it may go on.
fn hold(report: &OwnedFd, gate: &OwnedFd, open: RawFd) -> io::Result<()> {
    // Otherwise this copy would keep the gate from being closed by the death of the client.
    // SAFETY: the number is that of the caller's end of the gate, which is open at every fork, and
    // nothing in the child uses it.
    unsafe { libc::close(open) };
    unistd::write(report, &unistd::getpid().as_raw().to_ne_bytes())?;
    let mut word = [0];
    loop {
        match unistd::read(gate, &mut word) {
            Ok(1) => return Ok(()),
            Err(Errno::EINTR) => {}
            _ => return Err(Errno::ECANCELED.into()),
        }
    }
}

/// Tells a missing program from one that cannot be executed, as shells and docker do.
fn not_executed(program: &OsString, error: &io::Error) -> Failure {
    let name = program.to_string_lossy();
    let (code, why) = match error.kind() {
        ErrorKind::NotFound if name.contains('/') => {
            (exit::NOT_FOUND, "no such file or directory".to_owned())
        }
        ErrorKind::NotFound => (exit::NOT_FOUND, "executable file not found in $PATH".to_owned()),
        ErrorKind::PermissionDenied => (exit::NOT_EXECUTABLE, "permission denied".to_owned()),
        _ => (exit::NOT_EXECUTABLE, error.to_string()),
    };
    Failure::new(format!("cannot execute {name:?}: {why}")).with_code(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn try_start(words: &[&str], answer: bool) -> Result<Child, Failure> {
        let (ready, report) = pipe().expect("a pipe");
        let (gate, open) = pipe().expect("a pipe");
        let callers_end = open.as_raw_fd();
        let launch = Launch {
            command: words.iter().map(OsString::from).collect(),
            env: Vec::new(),
            workdir: None,
            streams: Streams::Own { input: true },
            rights: Rights::ALL,
        };
        let starter = thread::spawn(move || start(launch, report, gate, callers_end));
        if let Some(pid) = receive_pid(ready) {
            assert!(pid > 0);
            if answer {
                std::fs::File::from(open).write_all(b"!").expect("the gate is open");
            } else {
                drop(open);
            }
        }
        starter.join().expect("no panic")
    }

    #[test]
    fn a_command_runs_once_it_is_let_go() {
        let mut child = try_start(&["sh", "-c", "exit 7"], true).expect("started");
        assert_eq!(child.wait().expect("ended").code(), Some(7));
        let mut child = try_start(&["sh", "-c", "kill -TERM $$"], true).expect("started");
        assert_eq!(child.wait().expect("ended").signal(), Some(15));
    }

    #[test]
    fn a_command_gets_the_signals_that_its_client_holds_back() {
        let child = thread::spawn(|| {
            wait::held().thread_block().expect("blocked");
            // As a shell does it for a job in the background.
            // SAFETY: no code of ours runs; this process has nothing else that wants interrupts.
            unsafe { signal::signal(Signal::SIGINT, SigHandler::SigIgn) }.expect("ignored");
            try_start(&["sh", "-c", "kill -INT $$; exit 0"], true)
        });
        let mut child = child.join().expect("no panic").expect("started");
        assert_eq!(child.wait().expect("ended").signal(), Some(libc::SIGINT));
    }

    #[test]
    fn a_command_that_is_not_let_go_never_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let witness = dir.path().join("ran");
        let failure = try_start(&["touch", &witness.display().to_string()], false);
        assert!(failure.is_err());
        assert!(!witness.exists());
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        let code = |words: &[&str]| try_start(words, true).expect_err("not executable").code();
        assert_eq!(code(&["no-such-program-anywhere"]), 127);
        assert_eq!(code(&["/no/such/file"]), 127);
        assert_eq!(code(&["/etc/passwd"]), 126);
        assert_eq!(code(&["/etc"]), 126);
    }
}
