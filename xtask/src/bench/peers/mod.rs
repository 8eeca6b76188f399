//! Ours beside the peers: interleaved rounds of all systems on all paths, judged against what is aimed at.
//!
//! The measuring itself is a program of the tests' package, which has the harness; here are the statistics, the targets,
//! the page and the plots.

mod judge;
mod plot;
mod results;
mod table;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigHandler, Signal, signal};

use self::{
    judge::{Outcome, Verdict},
    results::{Results, Walk},
};
use crate::{sh, ui};

/// Rounds of which results are worth being kept.
const ROUNDS: usize = 15;
/// Rounds of a short run.
const QUICK: usize = 3;

/// Options of `cargo xtask bench peers`.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds, in each of which everything is measured once
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: usize,
    /// Three rounds, and no waiting: to see that it works
    #[arg(long)]
    quick: bool,
    /// Writes the results into docs/benchmarks
    #[arg(long, conflicts_with = "quick")]
    record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: ROUNDS, quick: false, record: false }
    }
}

/// Measures, judges, and says how it went.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.record && options.rounds < ROUNDS {
        bail!("{} rounds are not worth a record: it takes {ROUNDS} at least", options.rounds);
    }
    ui::step("build");
    sh::run(sh::command("cargo").args(["build", "--release", "--package", "bascule"]))?;
    let package = ["build", "--release", "--package", "bascule-tests", "--bin", "peers"];
    sh::run(sh::command("cargo").args(package))?;
    let begin = Instant::now();
    let scratch = sh::target_dir().join("bench-peers");
    fs::create_dir_all(&scratch).context("cannot make a directory for results")?;
    let walks = walks(&scratch)?;
    let mut results = measure(options, &scratch)?;
    results.walks = walks;
    results.machine = super::machine()?;
    results.round();
    let verdicts = judge::all(&results);
    let directory = if options.record { super::place(&results.machine)? } else { scratch };
    write(&directory, &results, &verdicts)?;
    say(&results, &verdicts);
    ui::note(&format!("{}; took {}", directory.display(), ui::took(begin.elapsed())));
    let missed = verdicts.iter().any(|verdict| verdict.outcome == Outcome::Missed);
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Nanoseconds of each walk: a test of the packet layer, which can run the programs on frames.
fn walks(scratch: &Path) -> Result<Vec<Walk>> {
    ui::step("walks");
    let file = scratch.join("walks.json");
    // It fails where a packet costs more with more ports; that is said, and no reason to stop.
    let mut test = super::test("packet", "bench::datapath", &[]);
    if let Err(error) = sh::run(test.env("BASCULE_BENCH_FILE", &file)) {
        ui::bad(&format!("{error:#}"));
    }
    read(&file)
}

fn measure(options: &Options, scratch: &Path) -> Result<Results> {
    ui::step("systems");
    let file = scratch.join("measured.json");
    let target = sh::target_dir();
    let rounds = if options.quick { QUICK } else { options.rounds };
    let mut command: Command = sh::command(target.join("release/peers"));
    command.arg("measure").arg(&file).arg(rounds.to_string());
    command.args(options.quick.then_some("quick"));
    command.env("BASCULE_BIN", target.join("release/bascule"));
    // An interrupt is for the program that has something to remove; it ends then, and this one with it.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.context("cannot ignore SIGINT")?;
    let measured = sh::run(&mut command);
    // SAFETY: neither does what the system does by itself.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.context("cannot heed SIGINT")?;
    measured?;
    read(&file)
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not understood", file.display()))
}

fn write(directory: &Path, results: &Results, verdicts: &[Verdict]) -> Result<()> {
    let put = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("results.json", &(serde_json::to_string_pretty(results)? + "\n"))?;
    put("README.md", &table::page(results, verdicts))?;
    for measure in results.distinct(|sample| Some(&sample.measure)) {
        put(&plot::file(measure), &plot::svg(results, measure))?;
    }
    Ok(())
}

fn say(results: &Results, verdicts: &[Verdict]) {
    for path in results.distinct(|sample| Some(&sample.path)) {
        ui::step(path);
        ui::line(&table::matrix(results, path));
    }
    ui::step("targets");
    for Verdict { aim, measured, outcome } in verdicts {
        let line = format!("{aim}: {measured}, {}", outcome.word());
        if *outcome == Outcome::Missed { ui::bad(&line) } else { ui::good(&line) }
    }
}
