//! The one binary: reads the command line, does it, and ends with an exit code.

use std::{io::Write, process::ExitCode};

use bascule::cli::{self, args::Args};
use clap::Parser;

fn main() -> ExitCode {
    // Clap prints its own usage errors and ends with 2.
    match cli::main(Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_silent() {
                // Where nobody reads it, the exit code has to do.
                writeln!(std::io::stderr().lock(), "{failure}").ok();
            }
            ExitCode::from(failure.code())
        }
    }
}
