//! Showing a command, what came back, and whether that is as it should be.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::interrupted;
use crate::ui;

const PLACE: Style = AnsiColor::Magenta.on_default();
const COMMAND: Style = AnsiColor::Cyan.on_default().bold();
/// No command of the demo takes longer.
const LIMIT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(20);
/// What is shown of a long output.
const LINES: usize = 30;

/// What came back from a command.
pub struct Answer {
    /// Whether it succeeded.
    pub fine: bool,
    /// What it wrote, to standard output and standard error alike.
    pub text: String,
}

/// The audience's view, and the score.
pub struct Show {
    /// Statements that held.
    pub passed: usize,
    /// Statements that did not.
    pub failed: usize,
}

impl Show {
    /// Nothing shown yet.
    pub fn new() -> Self {
        Self { passed: 0, failed: 0 }
    }

    /// A statement that holds.
    pub fn pass(&mut self, what: &str) {
        self.passed += 1;
        ui::good(what);
    }

    /// A statement that does not.
    pub fn fail(&mut self, what: &str) {
        self.failed += 1;
        ui::bad(what);
    }

    /// A statement, judged.
    pub fn check(&mut self, holds: bool, what: &str) {
        if holds {
            self.pass(what);
        } else {
            self.fail(what);
        }
    }

    /// Prints a command as it is run at a place.
    pub fn prompt(&self, place: &str, words: &str) {
        println!("{PLACE}{place}#{PLACE:#} {COMMAND}{words}{COMMAND:#}");
    }

    /// Runs a command, and prints it and what came back.
    pub fn run(&self, place: &str, words: &str, command: Command) -> Result<Answer> {
        self.prompt(place, words);
        let answer = quietly(command)?;
        self.text(&answer.text);
        Ok(answer)
    }

    /// Prints what came back.
    pub fn text(&self, text: &str) {
        let all: Vec<&str> = text.lines().collect();
        for line in all.iter().take(LINES) {
            println!("  {line}");
        }
        if all.len() > LINES {
            ui::note(&format!("... and {} lines more", all.len() - LINES));
        }
    }
}

/// Runs a command to its end, within the limit.
pub fn quietly(mut command: Command) -> Result<Answer> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe()?;
    let errors = writer.try_clone()?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    // The command holds ends of the pipe; with it gone, the reader sees the end.
    drop(command);
    let (lines, text) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(std::result::Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let fine = wait(&mut child, LIMIT)?.success();
    // What the command left running in the background may hold the pipe for ever.
    let mut said = Vec::new();
    while let Ok(line) = text.recv_timeout(Duration::from_millis(200)) {
        said.push(line);
    }
    Ok(Answer { fine, text: said.join("\n") })
}

/// Waits for a child; kills it and its group when time is up or someone asks to end.
pub fn wait(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let late = since.elapsed() > limit;
        if late || interrupted() {
            let group = Pid::from_raw(i32::try_from(child.id())?);
            // It may have ended in this moment; then there is nothing to kill.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            if late {
                bail!("a command did not end within {}", ui::took(limit));
            }
            bail!("interrupted");
        }
        thread::sleep(TICK);
    }
}

/// Waits until something holds; says so if it does not in time.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !holds()? {
        if interrupted() {
            bail!("interrupted");
        }
        if since.elapsed() > limit {
            bail!("{what}: not within {}", ui::took(limit));
        }
        thread::sleep(TICK);
    }
    Ok(())
}
