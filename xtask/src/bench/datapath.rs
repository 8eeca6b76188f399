//! What a packet costs in the programs: the measurement is a test of the packet layer, which has the programs, a
//! world of maps and `BPF_PROG_TEST_RUN` at hand.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Runs it.
pub fn run() -> Result<ExitCode> {
    let status = Command::new("cargo")
        .args(["test", "-p", "bascule-tests", "--test", "packet"])
        .args(["--", "--ignored", "--nocapture", "--exact", "bench::datapath"])
        .status()
        .context("cannot run `cargo test`: is cargo in the PATH?")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
