//! The compiler of the eBPF programs: one with the library sources. The choice is that of
//! `agent/build.rs`: the toolchain named `bpf` where there is one, else nightly; whatever cargo there
//! is on machines without rustup.

use std::{fmt, path::PathBuf, process::Command};

use crate::sh;

/// Flags that turn on what nightly has on.
pub const BUILD_STD: [&str; 2] = ["-Z", "build-std=core"];
/// The target of the programs.
pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler for the eBPF programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// One that rustup knows by this name.
    Rustup(&'static str),
    /// The only one there is.
    Only,
}

impl Toolchain {
    /// The one that builds use.
    pub fn chosen() -> Self {
        if sh::find("rustup").is_none() {
            return Self::Only;
        }
        let listed = sh::output(sh::command("rustup").args(["toolchain", "list"]));
        let has_bpf = listed.is_ok_and(|list| names(&list).any(|name| name == "bpf"));
        Self::Rustup(if has_bpf { "bpf" } else { "nightly" })
    }

    /// Prepares one of its programs.
    pub fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Rustup(name) => {
                let mut command = sh::command("rustup");
                command.args(["run", name, program]);
                command
            }
            Self::Only => sh::command(program),
        };
        // Turns on in a stable compiler what nightly has on.
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
        command
    }

    /// Where its files are, if it works at all.
    pub fn sysroot(self) -> Option<PathBuf> {
        let out = sh::output(self.command("rustc").args(["--print", "sysroot"])).ok()?;
        Some(PathBuf::from(out.trim()))
    }

    /// Whether the sources of the library are there.
    pub fn has_sources(self) -> bool {
        self.sysroot()
            .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists())
    }

    /// Whether it can lint.
    pub fn has_clippy(self) -> bool {
        self.sysroot().is_some_and(|root| root.join("bin/cargo-clippy").exists())
    }

    /// The major version of its LLVM, which has to be that of the linker.
    pub fn llvm(self) -> Option<u32> {
        let out = sh::output(self.command("rustc").arg("-vV")).ok()?;
        llvm_major(&out)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup(name) => write!(f, "rustup's toolchain `{name}`"),
            Self::Only => f.write_str("the cargo on the search path"),
        }
    }
}

/// The names in what `rustup toolchain list` prints.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.split_whitespace().next())
}

/// The LLVM that `rustc -vV` names.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_recognised_by_their_whole_name() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nbpf\n";
        assert!(names(list).any(|name| name == "bpf"));
        assert!(!names("bpf-old\nstable").any(|name| name == "bpf"));
    }

    #[test]
    fn the_llvm_of_a_compiler_is_read() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
