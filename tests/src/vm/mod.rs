//! Other kernels than the running one: a test's own binary, booted with the harness in a virtual machine.
//!
//! A test of the host asks for a test of the same binary to be run in a guest:
//!
//! ```text
//!   host:   vm::run("programs::in_a_guest", limit)  ->  the lines that the guest wrote
//!   guest:  /init -> modules -> this binary --exact programs::in_a_guest --ignored -> off
//! ```
//! Everything of the guest is in its memory: nothing of the host is mounted or reachable, and it has
//! no network card. Processors are emulated (TCG): the machines that run the tests are often guests
//! themselves, and where they offer KVM it does not always work.

mod image;
mod root;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::process;

/// The oldest kernel that Bascule supports.
pub const OLDEST: &str = "6.1";

/// Marks a line that a guest's test wrote for the host's.
const MARK: &str = "@guest ";
/// What init says when the test has ended, with its exit code.
const END: &str = "@guest-end ";
/// Set for a test that runs in a guest.
const IN_GUEST: &str = "BASCULE_TEST_GUEST";

/// What a guest did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The lines that its test wrote by [`tell`].
    pub told: Vec<String>,
    /// How long it lived.
    pub took: Duration,
}

/// Writes a line for the test of the host that started this guest.
pub fn tell(line: &str) {
    use std::io::Write;
    // Not by `println`, which the test harness captures. Its own lines may have no end yet.
    writeln!(std::io::stdout().lock(), "\n{MARK}{line}").ok();
}

/// Whether this process is in a guest. A test meant for one does nothing elsewhere.
pub fn in_guest() -> bool {
    std::env::var_os(IN_GUEST).is_some()
}

/// Runs an ignored test of the calling test binary on the oldest supported kernel, and demands that it
/// passes within the limit. Whatever the guest said is part of the failure otherwise.
#[track_caller]
pub fn run(test: &str, limit: Duration) -> Outcome {
    crate::require_root();
    let kernel = image::kernel(OLDEST);
    let dir = tempfile::Builder::new()
        .prefix("guest-")
        .tempdir_in(image::directory())
        .expect("a directory for the guest");
    let initramfs = dir.path().join("initramfs");
    fs::write(&initramfs, root::archive(&kernel, &init(test))).expect("the guest's initramfs");
    let console = dir.path().join("console");
    let since = Instant::now();
    let ended = boot(&kernel.image, &initramfs, &console, limit);
    let took = since.elapsed();
    let said = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    let code = said.lines().find_map(|line| line.strip_prefix(END)).map(str::trim);
    assert!(
        code == Some("0"),
        "`{test}` on Linux {OLDEST}: {}; the guest said:\n{said}",
        match (code, ended) {
            (Some(code), _) => format!("failed with {code} after {took:.1?}"),
            (None, true) => format!("the guest died after {took:.1?}"),
            (None, false) => format!("took longer than {limit:?}"),
        }
    );
    let told = said.lines().filter_map(|line| line.strip_prefix(MARK)).map(|l| l.trim().to_owned());
    Outcome { told: told.collect(), took }
}

/// Boots, and waits until the guest powers itself off; false if it had to be killed.
fn boot(image: &Path, initramfs: &Path, console: &Path, limit: Duration) -> bool {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 panic=-1 quiet tsc=reliable"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null());
    process::dies_with_us(&mut command);
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot start qemu-system-x86_64: {error} (`cargo xtask setup` installs it)")
    });
    let ended = process::wait(&mut child, limit).is_some();
    if !ended {
        child.kill().ok();
        child.wait().ok();
    }
    ended
}

/// The guest's first process: mounts, modules, the test, and off.
fn init(test: &str) -> String {
    format!(
        r#"#!/bin/busybox sh
export PATH=/bin:/sbin HOME=/ {IN_GUEST}=1 BASCULE_BIN=/bin/bascule
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
busybox mount -t tmpfs run /run
busybox mount -t cgroup2 cgroup /sys/fs/cgroup
busybox mount -t bpf bpf /sys/fs/bpf
busybox depmod -a
/bin/guest-test --exact {test} --ignored --nocapture --test-threads=1 2>&1
code=$?
[ $code = 0 ] || busybox dmesg | busybox tail -n 40
echo
echo "{END}$code"
busybox poweroff -f
"#
    )
}

/// The directory of the build, where downloads are kept too.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("path of the test");
    test.ancestors().nth(3).expect("target directory").to_owned()
}
