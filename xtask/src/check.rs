//! `cargo xtask check`: everything that can be said about the code without running it.

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    layering, licences, setup, sh, sources,
    toolchain::{BUILD_STD, TARGET, Toolchain},
    ui,
};

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub struct Options {
    /// Checks to run; all of them by default
    #[arg(value_parser = CHECKS.map(|check| check.name))]
    checks: Vec<String>,
}

/// A check: its name, what it looks at, and what does it.
struct Check {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
}

const CHECKS: [Check; 7] = [
    Check {
        name: "sources",
        about: "first lines, and words that no file may have",
        run: sources::check,
    },
    Check { name: "layering", about: "who imports whom", run: layering::check },
    Check { name: "licences", about: "of everything in the lock file", run: licences::check },
    Check { name: "format", about: "rustfmt", run: format },
    Check { name: "clippy-ebpf", about: "lints, compiled for the kernel", run: clippy_ebpf },
    Check { name: "clippy", about: "lints, compiled for this machine", run: clippy },
    Check { name: "docs", about: "rustdoc without a warning", run: documentation },
];

/// Runs checks, and reports all that fail.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ready()?;
    let asked = |check: &&Check| {
        options.checks.is_empty() || options.checks.iter().any(|name| name == check.name)
    };
    let (mut passed, mut failed) = (0, 0);
    for check in CHECKS.iter().filter(asked) {
        ui::step(&format!("{}: {}", check.name, check.about));
        let since = Instant::now();
        match (check.run)() {
            Ok(()) => {
                passed += 1;
                ui::good(&ui::took(since.elapsed()));
            }
            Err(error) => {
                failed += 1;
                ui::bad(&format!("{error:#}"));
            }
        }
    }
    ui::line(&format!("checks: {passed} passed, {failed} failed"));
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
