//! `cargo xtask fuzz`: frames made of the corpus in `common/tests/corpus`, through the walks of the data plane on
//! the host, for a time.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{sh, ui};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// How long to go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Make the cases of this seed, which an earlier run has printed; that of the clock by default
    #[arg(long)]
    seed: Option<u64>,
    /// Add to the corpus what ends in a way that nothing in it ends in
    #[arg(long)]
    keep: bool,
}

/// Arguments that build and run the fuzzer, among what runs on the host alone.
const TEST: [&str; 4] = ["test", "--package", "bascule-common", "--test=fuzz"];

/// The command that builds it.
pub fn build() -> Command {
    let mut command = sh::command("cargo");
    command.args(TEST).arg("--no-run");
    command
}

/// The command that runs it for some seconds.
pub fn command(seconds: u64) -> Command {
    let mut command = sh::command("cargo");
    command.args(TEST).args(["--", "--nocapture"]);
    command.env("BASCULE_FUZZ_SECONDS", seconds.to_string());
    command
}

/// Runs it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut command = command(options.seconds);
    if let Some(seed) = options.seed {
        command.env("BASCULE_FUZZ_SEED", seed.to_string());
    }
    if options.keep {
        command.env("BASCULE_FUZZ_KEEP", "1");
    }
    ui::step(&format!("fuzz the walks for {} s", options.seconds));
    sh::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
