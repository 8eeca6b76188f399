//! Builds the eBPF object and leaves it where `kernel::bpf::object` embeds it from.
//!
//! `BASCULE_EBPF_OBJECT=PATH` takes a ready object instead, for editors and documentation builds on
//! machines without a BPF linker.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=BASCULE_EBPF_OBJECT");
    if let Some(ready) = env::var_os("BASCULE_EBPF_OBJECT") {
        let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
        fs::copy(&ready, out.join("bascule-ebpf"))
            .with_context(|| format!("cannot copy the eBPF object {}", ready.display()))?;
        return Ok(());
    }
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let ebpf = root.join("../ebpf");
    println!("cargo:rerun-if-changed={}", root.join("../common/src").display());
    // SAFETY: a build script has one thread, and nothing has read the environment concurrently.
    unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    let package = Package {
        name: "bascule-ebpf",
        root_dir: ebpf.to_str().context("the path of the checkout is not UTF-8")?,
        ..Package::default()
    };
    aya_build::build_ebpf([package], toolchain())
        .context("cannot build the eBPF programs; `cargo xtask setup` installs what they need")
}

/// The toolchain with library sources: the one named `bpf` that `cargo xtask setup` links where
/// rustup's servers are out of reach, else nightly.
fn toolchain() -> Toolchain<'static> {
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let has_bpf = listed.is_ok_and(|out| {
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .any(|line| line.split(' ').next() == Some("bpf"))
    });
    if has_bpf { Toolchain::Custom("bpf") } else { Toolchain::Nightly }
}
