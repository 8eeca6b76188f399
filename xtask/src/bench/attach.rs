//! What attaching a running sandbox to a network costs, with a release build of the agent, and with a real dockerd in
//! the same run: the measurement is a test of the agent layer, which has the harness at hand.

use std::process::ExitCode;

use anyhow::Result;

use crate::sh;

/// Runs it.
pub fn run() -> Result<ExitCode> {
    sh::run(sh::command("cargo").args(["build", "--release", "--package", "bascule"]))?;
    let mut test = super::test("agent", "attach::measure", &[]);
    super::measure(test.env("BASCULE_BIN", sh::target_dir().join("release/bascule")))
}
