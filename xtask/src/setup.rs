//! `cargo xtask setup`: installs what builds, tests and the demo need.
//!
//! Two worlds are known. On Debian, the packages of the archive bring a compiler with the library
//! sources and its LLVM. Elsewhere rustup's nightly does, and the LLVM has to be there. What is there
//! already is left alone, in whatever way it came.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{sh, toolchain::Toolchain, ui};

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Options {
    /// Only report what is missing; exits with 1 if anything is
    #[arg(long)]
    check: bool,
}

/// A program that has to be on the search path, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What the tests and the demo run.
const TOOLS: [Tool; 33] = [
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "bridge", package: "iproute2" },
    Tool { program: "tc", package: "iproute2" },
    Tool { program: "ping", package: "iputils-ping" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "ncat", package: "ncat" },
    Tool { program: "socat", package: "socat" },
    Tool { program: "iperf3", package: "iperf3" },
    Tool { program: "tcpdump", package: "tcpdump" },
    Tool { program: "tshark", package: "tshark" },
    Tool { program: "traceroute", package: "traceroute" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "bpftool", package: "bpftool" },
    Tool { program: "nft", package: "nftables" },
    Tool { program: "iptables-save", package: "iptables" },
    Tool { program: "ufw", package: "ufw" },
    Tool { program: "firewalld", package: "firewalld" },
    Tool { program: "firewall-cmd", package: "firewalld" },
    Tool { program: "dbus-daemon", package: "dbus-daemon" },
    Tool { program: "promtool", package: "prometheus" },
    Tool { program: "dig", package: "bind9-dnsutils" },
    Tool { program: "dnsmasq", package: "dnsmasq-base" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "jq", package: "jq" },
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "ps", package: "procps" },
    Tool { program: "nsenter", package: "util-linux" },
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Tool { program: "busybox", package: "busybox-static" },
    Tool { program: "musl-gcc", package: "musl-tools" },
    Tool { program: "dockerd", package: "docker.io" },
    Tool { program: "docker", package: "docker.io" },
    Tool { program: "docker-compose", package: "docker-compose" },
];

/// The compiler with library sources, as Debian has it, and its linter.
const DEBIAN_COMPILER: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// The name under which rustup knows Debian's compiler.
const LINKED: &str = "bpf";
/// The version of the BPF linker that the project is built with.
const LINKER: &str = "0.13.0";

/// Installs what is missing.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        return Ok(report());
    }
    ready()?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the machine ready; says next to nothing if it is.
pub fn ready() -> Result<()> {
    ui::step("set-up");
    let apt = Apt::new();
    tools(&apt)?;
    compiler(&apt)?;
    linker(&apt)?;
    Ok(())
}

/// Says what is missing, and installs nothing.
fn report() -> ExitCode {
    ui::step("set-up");
    let mut complete = true;
    let packages = missing_packages(&missing_tools());
    complete &= say(packages.is_empty(), "tools of the tests and the demo", &packages.join(" "));
    let chosen = Toolchain::chosen();
    let compiles = chosen.has_sources() && chosen.has_clippy();
    complete &= say(compiles, &format!("eBPF compiler: {chosen}"), "library sources or clippy");
    let linker = linker_state(chosen);
    let lack = linker.as_ref().err().map(ToString::to_string).unwrap_or_default();
    complete &= say(linker.is_ok(), "bpf-linker", &lack);
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(fine: bool, what: &str, lack: &str) -> bool {
    if fine {
        ui::good(what);
    } else {
        ui::bad(&format!("{what}: missing: {lack}"));
    }
    fine
}

/// Sees to the programs that tests and the demo run.
fn tools(apt: &Apt) -> Result<()> {
    let missing = missing_tools();
    if !missing.is_empty() {
        apt.install(&missing_packages(&missing), "the tools of the tests and the demo")?;
        let still = missing_tools();
        if let Some(tool) = still.first() {
            bail!(
                "package {} is installed, but `{}` is not on the search path",
                tool.package,
                tool.program
            );
        }
    }
    ui::good("tools of the tests and the demo");
    Ok(())
}

fn missing_tools() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| sh::find(tool.program).is_none()).collect()
}

fn missing_packages(tools: &[&Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.dedup();
    packages
}

/// Sees to a compiler with the sources of the library, and a linter of the same version.
fn compiler(apt: &Apt) -> Result<()> {
    let mut chosen = Toolchain::chosen();
    if !(chosen.has_sources() && chosen.has_clippy()) {
        if apt.offers(DEBIAN_COMPILER[0]) {
            apt.install(&DEBIAN_COMPILER, "a compiler with the library sources")?;
            link_debian()?;
        } else {
            nightly()?;
        }
        chosen = Toolchain::chosen();
        if !chosen.has_sources() {
            bail!("{chosen} has no library sources, though their installation went well");
        }
    }
    ui::good(&format!("eBPF compiler: {chosen}"));
    Ok(())
}

/// Gives Debian's compiler a name that rustup knows.
fn link_debian() -> Result<()> {
    if sh::find("rustup").is_none() {
        return Ok(());
    }
    sh::quietly(sh::command("rustup").args(["toolchain", "link", LINKED, "/usr"]))
        .context("cannot make Debian's compiler known to rustup")
}

/// Installs rustup's nightly with the library sources.
fn nightly() -> Result<()> {
    let busy = ui::Busy::start("rustup: nightly with rust-src and clippy");
    sh::quietly(sh::command("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src,clippy",
    ]))
    .context(
        "cannot install a compiler with the library sources. This machine's archive has no package \
         rustc-web (Debian 12 with security updates has), and rustup could not install nightly. With \
         access to rustup's servers run `rustup toolchain install nightly --component rust-src,clippy`",
    )?;
    busy.done();
    Ok(())
}

/// Sees to the linker, built against the LLVM of the compiler.
fn linker(apt: &Apt) -> Result<()> {
    let compiler = Toolchain::chosen();
    if let Err(lack) = linker_state(compiler) {
        ui::note(&format!("bpf-linker: {lack}"));
        install_linker(apt, compiler)?;
        if let Err(lack) = linker_state(compiler) {
            bail!("bpf-linker is installed, but {lack}");
        }
    }
    ui::good(&format!("bpf-linker {LINKER}"));
    Ok(())
}

/// Whether the linker is there and fits, or what is wrong.
fn linker_state(compiler: Toolchain) -> Result<()> {
    let Some(linker) = sh::find("bpf-linker") else { bail!("it is not on the search path") };
    let version = sh::output(sh::command(&linker).arg("--version"))
        .context("it does not run; its LLVM may have been removed")?;
    if version.trim() != format!("bpf-linker {LINKER}") {
        bail!("it says `{}`, and {LINKER} is needed", version.trim());
    }
    let libraries = sh::output(sh::command("ldd").arg(&linker)).unwrap_or_default();
    if let (Some(built), Some(wanted)) = (linked_llvm(&libraries), compiler.llvm())
        && built != wanted
    {
        bail!("it is built with LLVM {built}, and the compiler with LLVM {wanted}");
    }
    Ok(())
}

/// The major version of the shared LLVM in what `ldd` prints; none if LLVM is linked in.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let (_, rest) =
        libraries.split_once("libLLVM.so.").or_else(|| libraries.split_once("libLLVM-"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn install_linker(apt: &Apt, compiler: Toolchain) -> Result<()> {
    let llvm = compiler.llvm().context("the compiler does not tell its LLVM version")?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let devel = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let devel = devel.each_ref().map(String::as_str);
    let has_llvm = || prefix.join("bin/llvm-config").exists();
    if !has_llvm() || !sh::find("cc").is_some_and(|cc| cc.exists()) {
        let [llvm_dev, polly_dev] = devel;
        if !has_llvm() && !apt.offers(llvm_dev) {
            bail!(
                "bpf-linker needs LLVM {llvm}, the compiler's own, and package {llvm_dev} is not to \
                 be had here. Install it from apt.llvm.org or your distribution, or put a bpf-linker \
                 {LINKER} release binary on the search path, and run this again"
            );
        }
        apt.install(&[llvm_dev, polly_dev, "gcc", "libc6-dev"], "the compiler's LLVM")?;
    }
    let busy = ui::Busy::start(format!("cargo install bpf-linker {LINKER} (about a minute)"));
    sh::quietly(
        sh::command("cargo")
            .args(["install", "bpf-linker", "--version", LINKER, "--locked", "--force"])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", &prefix)
            .env_remove("CARGO_TARGET_DIR"),
    )
    .context("cannot install bpf-linker; it is built from the Rust crate registry")?;
    busy.done();
    Ok(())
}

/// Debian's package tools, or the lack of them.
struct Apt {
    here: bool,
    updated: std::cell::Cell<bool>,
}

impl Apt {
    fn new() -> Self {
        let here = sh::find("apt-get").is_some() && sh::find("dpkg").is_some();
        Self { here, updated: std::cell::Cell::new(false) }
    }

    /// Whether the archive has a package.
    fn offers(&self, package: &str) -> bool {
        let known = || {
            sh::output(sh::command("apt-cache").args(["policy", package])).is_ok_and(|policy| {
                policy.lines().any(|line| {
                    line.trim().strip_prefix("Candidate: ").is_some_and(|c| c != "(none)")
                })
            })
        };
        // A machine with an empty package list has to fetch it before it can tell.
        self.here && (known() || (self.update().is_ok() && known()))
    }

    /// Fetches the package lists, once.
    fn update(&self) -> Result<()> {
        if self.updated.get() {
            return Ok(());
        }
        need_root("fetch Debian's package lists", "apt-get update")?;
        let busy = ui::Busy::start("apt-get update");
        sh::quietly(sh::command("apt-get").args(["update", "--quiet"]))
            .context("cannot fetch the package lists; is Debian's archive within reach?")?;
        busy.done();
        self.updated.set(true);
        Ok(())
    }

    /// Installs packages without a question asked and without a service started.
    fn install(&self, packages: &[&str], what: &str) -> Result<()> {
        let list = packages.join(" ");
        if !self.here {
            bail!(
                "missing: {what}. This is not Debian or Ubuntu: install what brings Debian's packages \
                 `{list}` with the machine's own package manager, and run this again"
            );
        }
        need_root(&format!("install {what}"), &format!("apt-get install {list}"))?;
        self.update()?;
        let silent = NoServices::new()?;
        let busy = ui::Busy::start(format!("apt-get install {list}"));
        let installed = sh::quietly(
            sh::command("apt-get")
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
                .args(["-o", "Dpkg::Options::=--force-confdef"])
                .args(["-o", "Dpkg::Options::=--force-confold"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        );
        drop(silent);
        installed.with_context(|| format!("cannot install {what}"))?;
        busy.done();
        for (package, unit) in [
            ("prometheus", "prometheus.service"),
            ("firewalld", "firewalld.service"),
            ("ufw", "ufw.service"),
            ("docker.io", "docker.service"),
            ("docker.io", "docker.socket"),
            ("docker.io", "containerd.service"),
        ] {
            if packages.contains(&package) {
                keep_off(unit);
            }
        }
        Ok(())
    }
}

/// A service that came with a tool stays off after the next boot, too.
fn keep_off(unit: &str) {
    if sh::find("systemctl").is_some()
        && sh::quietly(sh::command("systemctl").args(["--quiet", "disable", unit])).is_ok()
    {
        ui::note(&format!("{unit} is left disabled: only its tools are needed"));
    }
}

/// While it lives, packages start no services. An administrator's own policy is left in place.
struct NoServices {
    placed: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        let policy = Path::new(Self::POLICY);
        if policy.exists() {
            return Ok(Self { placed: false });
        }
        fs::write(
            policy,
            "#!/bin/sh\n# Placed by `cargo xtask setup` while it installs.\nexit 101\n",
        )
        .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", Self::POLICY))?;
        Ok(Self { placed: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.placed {
            // Nothing better can be done about a failure than to let the next run find the file.
            drop(fs::remove_file(Self::POLICY));
        }
    }
}

/// Stops where only root can go on.
fn need_root(purpose: &str, by_hand: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = env::var("USER").unwrap_or_else(|_| "this user".into());
    bail!(
        "{user} cannot {purpose}: run `sudo {by_hand}`, or this command as root, and then this again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_llvm_is_read_from_its_libraries() {
        let ldd = "\tlibLLVM.so.22.1 => /lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x00007f)\n";
        assert_eq!(linked_llvm(ldd), Some(22));
        assert_eq!(linked_llvm("\tlibLLVM-14.so.1 => /lib/libLLVM-14.so.1\n"), Some(14));
        assert_eq!(linked_llvm("\tlibc.so.6 => /lib/libc.so.6\n"), None);
    }

    #[test]
    fn a_package_of_several_tools_is_asked_for_once() {
        let tools: Vec<&Tool> = TOOLS.iter().filter(|tool| tool.package == "iproute2").collect();
        assert!(tools.len() > 1);
        assert_eq!(missing_packages(&tools), ["iproute2"]);
    }
}
