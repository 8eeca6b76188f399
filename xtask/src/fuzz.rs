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
    /// Add to the corpus what ends in a way that nothing in it ends in, or runs code that nothing in it runs
    #[arg(long)]
    keep: bool,
}

/// Arguments that build and run the fuzzer, among what runs on the host alone. A target of its own keeps the flags from
/// build scripts, and a directory of its own from everything else.
const TEST: [&str; 4] =
    ["test", "--package=bascule-common", "--test=fuzz", "--target-dir=target/fuzz"];
/// The one test that fuzzes, by itself: whatever else runs counts too.
const NAME: [&str; 3] = ["--nocapture", "--exact", "the_corpus_and_what_comes_of_it_end_well"];
/// The test that fuzzes messages about names.
const MESSAGES: &str = "dns::fuzz::moby_dns_022_no_message_is_too_strange";
/// Has LLVM count how often every edge of the code is run: what `cargo fuzz --sanitizer none` asks of a stable
/// compiler. One unit, or the linker drops counters with duplicate functions.
const FLAGS: [&str; 4] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Ccodegen-units=1",
];

fn cargo() -> Command {
    let mut command = sh::command("cargo");
    let target = format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(TEST).arg(target).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    // Four times the cases; checks of arithmetic and assertions stay on.
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    command
}

/// The command that builds it.
pub fn build() -> Command {
    let mut command = cargo();
    command.arg("--no-run");
    command
}

/// The command that runs it for some seconds.
pub fn command(seconds: u64) -> Command {
    let mut command = cargo();
    command.arg("--").args(NAME);
    command.env("BASCULE_FUZZ_SECONDS", seconds.to_string()).env("BASCULE_FUZZ_COVER", "1");
    command
}

/// Completes the command that tests the agent's own code by what fuzzes messages about names for some seconds.
pub fn messages(command: &mut Command, seconds: u64) -> &mut Command {
    command.args(["--lib", "--", "--nocapture", "--exact", MESSAGES]);
    command.env("BASCULE_FUZZ_SECONDS", seconds.to_string())
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
