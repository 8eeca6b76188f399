//! Kernels for guests: those of the distribution's archive, fetched once and kept beside the build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use crate::process;

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The image that boots.
    pub image: PathBuf,
    /// Its release, as `uname -r` gives it.
    pub release: String,
    /// The directory of its modules.
    pub modules: PathBuf,
}

/// Names a ready package, for machines whose archive has no such kernel.
const PACKAGE: &str = "BASCULE_TEST_KERNEL";
/// The package that always depends on the newest kernel of the archive's release.
const META: &str = "linux-image-cloud-amd64";
/// How long a download may take.
const FETCH: Duration = Duration::from_secs(300);

/// Where kernels and guests are kept.
pub fn directory() -> PathBuf {
    let dir = super::target().join("vm");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
    dir
}

/// The kernel of a series, fetched where it is not there yet.
pub fn kernel(series: &str) -> Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    let kernel = KERNEL.get_or_init(|| {
        let unpacked = directory().join(format!("linux-{series}"));
        if !unpacked.exists() {
            fetch(series, &unpacked);
        }
        open(&unpacked)
    });
    assert!(kernel.release.starts_with(&format!("{series}.")), "{kernel:?} is no {series}");
    kernel.clone()
}

fn open(unpacked: &Path) -> Kernel {
    let boot = unpacked.join("boot");
    let found = fs::read_dir(&boot).into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((entry.path(), name.strip_prefix("vmlinuz-")?.to_owned()))
    });
    let (image, release) =
        found.unwrap_or_else(|| panic!("there is no kernel in {}: remove it", boot.display()));
    let modules = ["lib/modules", "usr/lib/modules"].map(|dir| unpacked.join(dir).join(&release));
    let modules = modules.into_iter().find(|dir| dir.is_dir()).expect("modules of the kernel");
    Kernel { image, release, modules }
}

/// Downloads the package and unpacks it; nothing is installed.
fn fetch(series: &str, unpacked: &Path) {
    let dir = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(directory())
        .expect("a directory for the download");
    let package = match std::env::var_os(PACKAGE) {
        Some(path) => PathBuf::from(path),
        None => download(series, dir.path()),
    };
    let content = dir.path().join("content");
    demand(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&content));
    // Another test binary may have been faster.
    if fs::rename(&content, unpacked).is_err() {
        assert!(unpacked.exists(), "cannot keep the kernel in {}", unpacked.display());
    }
}

fn download(series: &str, dir: &Path) -> PathBuf {
    let name = newest(series).unwrap_or_else(|| {
        demand(Command::new("apt-get").args(["update", "--quiet"]));
        newest(series).unwrap_or_else(|| {
            panic!(
                "the archive of this machine has no Linux {series} for guests ({META}; Debian 12 \
                 has it): name its package, a .deb file, in {PACKAGE}"
            )
        })
    });
    // As root, the download is not handed to the user `_apt`, who may not write here.
    demand(
        Command::new("apt-get")
            .args(["download", "--quiet", "-o", "APT::Sandbox::User=root", &name])
            .current_dir(dir),
    );
    let files = fs::read_dir(dir).expect("the download's directory").flatten();
    let mut packages =
        files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "deb"));
    packages.next().expect("apt-get leaves the package in its working directory")
}

/// Name of the newest kernel package of a series.
fn newest(series: &str) -> Option<String> {
    let out = process::run(Command::new("apt-cache").args(["depends", META]), FETCH);
    let prefix = format!("linux-image-{series}.");
    out.stdout
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(&prefix))
        .map(str::to_owned)
}

fn demand(command: &mut Command) {
    let name = format!("{command:?}");
    let out = process::run(command, FETCH);
    assert!(out.ok(), "{name} failed with {}: {}", out.code, out.stderr);
}
