//! Child processes with time limits, that never outlive the test.

use std::{
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The time limit of ordinary commands.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code, or 128 and the signal's number.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command succeeded.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

/// Exit code as a shell gives it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Has the child killed when the thread that starts it ends.
pub fn dies_with_us(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

/// Runs the command to its end; one that takes longer than the limit is killed and fails the test.
pub fn run(command: &mut Command, limit: Duration) -> Output {
    command.stdin(Stdio::null());
    let name = format!("{command:?}");
    start(command).finish(&name, limit)
}

/// A running command whose output is being collected.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

/// Starts the command and collects its output.
pub fn start(command: &mut Command) -> Running {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    Running { child, stdout, stderr }
}

impl Running {
    /// Waits for the command's end, and fails when the limit passes first.
    pub fn finish(mut self, name: &str, limit: Duration) -> Output {
        let status = wait(&mut self.child, limit).unwrap_or_else(|| {
            self.child.kill().ok();
            self.child.wait().ok();
            panic!("{name} took longer than {limit:?}")
        });
        Output {
            code: code(status),
            stdout: self.stdout.join().unwrap_or_default(),
            stderr: self.stderr.join().unwrap_or_default(),
        }
    }
}

/// Waits for the child's end up to the limit.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("wait for a child of ours") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that ends with its owner, whatever becomes of the test.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
