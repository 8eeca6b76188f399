//! `cargo xtask demo`: Bascule at work between namespaces of its own, every claim checked as it is
//! shown.
//!
//! - `stage`: the namespaces, directories and processes, and their complete removal.
//! - `show`: running a command, printing it and what came back, and judging that.
//! - `story`: what is shown, in order.

mod show;
mod stage;
mod story;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use self::{show::Show, stage::Stage};
use crate::{setup, sh, ui};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Leave everything up at the end, to play with
    #[arg(long)]
    keep: bool,
    /// No colours
    #[arg(long)]
    plain: bool,
    /// Take down what `--keep` left up under this name
    #[arg(long, value_name = "NAME", conflicts_with = "keep")]
    end: Option<String>,
}

/// Set by a signal that asks to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Sets the stage, tells the story, clears the stage.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.plain {
        anstream::ColorChoice::Never.write_global();
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the demo makes network namespaces and loads eBPF programs: run it as root \
             (`sudo -E env PATH=\"$PATH\" cargo xtask demo`)"
        );
    }
    if let Some(name) = &options.end {
        return end(name);
    }
    setup::ready()?;
    ui::step("build (some minutes the first time)");
    sh::run(sh::command("cargo").args(["build", "--package", "bascule"]))?;
    catch_signals()?;
    let stage = Stage::new()?;
    let mut show = Show::new();
    let told = stage.set().and_then(|()| story::tell(&mut show, &stage));
    if let Err(error) = &told {
        show.fail(&format!("{error:#}"));
        if let Some(log) = stage.log_tail().filter(|_| !interrupted()) {
            ui::note("the agent's last words:");
            ui::line(&log);
        }
    }
    if options.keep && !interrupted() {
        stage.introduce();
    } else {
        clear(&mut show, &stage);
    }
    if interrupted() {
        // As shells have it for an interrupt.
        return Ok(ExitCode::from(130));
    }
    ui::line(&format!("demo: {} passed, {} failed", show.passed, show.failed));
    Ok(if show.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes everything, and counts what is left behind as a failure.
fn clear(show: &mut Show, stage: &Stage) {
    ui::step("the end: everything is removed");
    match stage.clear() {
        Ok(()) => show.pass("no namespace, mount, process, cgroup or file is left"),
        Err(error) => show.fail(&format!("{error:#}")),
    }
}

fn end(name: &str) -> Result<ExitCode> {
    Stage::found(name)?.clear()?;
    ui::good(&format!("{name} is gone"));
    Ok(ExitCode::SUCCESS)
}

/// Whether someone has asked to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// From here on, signals that would end the process are noticed and acted upon in order.
fn catch_signals() -> Result<()> {
    extern "C" fn note(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but to store to an atomic.
        unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
    }
    Ok(())
}
