//! What a scrape costs: the measurement is a test of the bpf layer, which has the maps, in the profile of a release.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Runs it.
pub fn run() -> Result<ExitCode> {
    let status = Command::new("cargo")
        .args(["test", "--release", "-p", "bascule-tests", "--test", "bpf"])
        .args(["--", "--ignored", "--nocapture", "--exact", "telemetry::bench_scrape"])
        .status()
        .context("cannot run `cargo test`: is cargo in the PATH?")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
