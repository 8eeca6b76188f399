//! `cargo xtask check`: everything that can be said about the code without running it.

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    layering, licences, setup, sh, sources,
    toolchain::{BUILD_STD, TARGET, Toolchain},
    ui,
};

/// A check's name and what does it.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: [Check; 7] = [
    ("sources: first lines and forbidden words", sources::check),
    ("layering: who imports whom", layering::check),
    ("licences of the dependencies", licences::check),
    ("format", format),
    ("clippy of the eBPF programs", clippy_ebpf),
    ("clippy", clippy),
    ("documentation", documentation),
];

/// Runs all checks, and reports all that fail.
pub fn run() -> Result<ExitCode> {
    setup::ready()?;
    let mut failed = 0;
    for (name, check) in CHECKS {
        ui::step(name);
        let since = Instant::now();
        match check() {
            Ok(()) => ui::good(&ui::took(since.elapsed())),
            Err(error) => {
                failed += 1;
                ui::bad(&format!("{error:#}"));
            }
        }
    }
    ui::line(&format!("checks: {} passed, {failed} failed", CHECKS.len() - failed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format() -> Result<()> {
    sh::run(sh::command("cargo").args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    sh::run(
        sh::command("cargo")
            .args(["clippy", "--quiet", "--workspace", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )
}

/// The same lints where the programs are compiled for the kernel.
fn clippy_ebpf() -> Result<()> {
    let toolchain = Toolchain::chosen();
    if !toolchain.has_clippy() {
        bail!("{toolchain} has no clippy; `cargo xtask setup` says more");
    }
    sh::run(
        toolchain
            .command("cargo")
            .args(["clippy", "--quiet", "--package", "bascule-ebpf", "--target", TARGET])
            .args(BUILD_STD)
            .arg("--target-dir")
            .arg(sh::target_dir().join("xtask-clippy"))
            .args(["--", "-D", "warnings"]),
    )
}

fn documentation() -> Result<()> {
    sh::run(
        sh::command("cargo")
            .args(["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}
