//! `cargo xtask build-ebpf`: the eBPF object alone, with the flags that `agent/build.rs` builds it with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::{
    sh,
    toolchain::{BUILD_STD, TARGET, Toolchain},
    ui,
};

/// What `aya-build` passes to the compiler: line numbers and types for the verifier's messages, and
/// the BTF that the agent reads the maps from.
const RUSTFLAGS: &str = "--cfg=bpf_target_arch=\"x86_64\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf";

/// Builds it and says where it is.
pub fn run() -> Result<ExitCode> {
    let object = build()?;
    let bytes =
        fs::metadata(&object).with_context(|| format!("cannot read {}", object.display()))?.len();
    ui::line(&format!("{}", object.display()));
    ui::line(&format!("{bytes} bytes"));
    sections(&object)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds it and returns its path.
pub fn build() -> Result<PathBuf> {
    let target_dir = sh::target_dir().join("xtask-ebpf");
    let flags = RUSTFLAGS.replace("x86_64", std::env::consts::ARCH);
    sh::run(
        Toolchain::chosen()
            .command("cargo")
            .args(["build", "--package", "bascule-ebpf", "--bins", "--release", "--target", TARGET])
            .args(BUILD_STD)
            .arg("--target-dir")
            .arg(&target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", flags),
    )
    .context("cannot build the eBPF programs; `cargo xtask setup` installs what they need")?;
    Ok(target_dir.join(TARGET).join("release/bascule-ebpf"))
}

/// Prints the sections that hold programs and maps.
fn sections(object: &Path) -> Result<()> {
    let Some(readelf) = sh::find("readelf").or_else(|| sh::find("llvm-readelf-22")) else {
        return Ok(());
    };
    let table = sh::output(sh::command(readelf).args(["--section-headers", "--wide"]).arg(object))?;
    for line in table.lines() {
        let Some((_, rest)) = line.split_once(']') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        if let [name, _type, _address, _offset, size, ..] = fields.as_slice()
            && let Ok(size) = u64::from_str_radix(size, 16)
            && size > 0
            && !name.starts_with(".debug")
            && !name.starts_with(".rel")
        {
            ui::line(&format!("  {name:<24} {size:>8} bytes"));
        }
    }
    Ok(())
}
