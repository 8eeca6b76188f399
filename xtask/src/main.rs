//! The project's own commands, one file a verb. They know nothing of the code they build.

mod bench;
mod budget;
mod build_ebpf;
mod check;
mod demo;
mod fuzz;
mod layering;
mod licences;
mod loader;
mod setup;
mod sh;
mod sources;
mod test;
mod toolchain;
mod ui;

use std::process::ExitCode;

use clap::Parser;

/// The commands of the Bascule project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Installs what builds, tests and the demo need; does nothing when all of it is there
    Setup(setup::Options),
    /// Builds the eBPF object alone and prints where it is and how large
    BuildEbpf,
    /// Prints what the eBPF programs cost, and fails if they grew past xtask/budget.toml
    Budget(budget::Options),
    /// Measures, and compares with what else there is; needs root
    Bench(bench::Options),
    /// Runs all tests, layer by layer; most layers need root
    Test(test::Options),
    /// Boots Linux 6.1 in qemu, loads every program there and does the main job; needs root
    Vm,
    /// Sends mutated frames through the walks of the data plane, on the host, for a time
    Fuzz(fuzz::Options),
    /// Shows Bascule at work between network namespaces, and checks what it shows; needs root
    Demo(demo::Options),
    /// Checks format, lints, layering, licences and documentation
    Check(check::Options),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup(options) => setup::run(&options),
        Command::BuildEbpf => build_ebpf::run(),
        Command::Budget(options) => budget::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Vm => test::run(&test::Options::only("verifier")),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Check(options) => check::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
