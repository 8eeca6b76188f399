//! The guest's files: an initramfs of the test's own binary, the one under test, and the tools they run.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::image::Kernel;
use crate::{agent, process};

/// Programs of the host that guests run.
const TOOLS: [&str; 6] = ["busybox", "ip", "bridge", "tc", "ping", "bpftool"];
/// Modules that the agent and the harness may have the guest's kernel ask for, with what those need.
const MODULES: [&str; 12] = [
    "veth",
    "llc",
    "stp",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "garp",
    "mrp",
    "8021q",
];
/// Where things are mounted, and where programs expect to be allowed to write.
const DIRECTORIES: [&str; 8] = ["bin", "sbin", "proc", "sys", "dev", "tmp", "run", "var"];

/// The initramfs.
pub fn archive(kernel: &Kernel, init: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    for dir in DIRECTORIES {
        archive.directory(Path::new(dir));
    }
    archive.file("init", 0o755, init.as_bytes());
    // The kernel loads modules by this name, and busybox does what it is called.
    archive.link("sbin/modprobe", "/bin/busybox");
    archive.link("bin/sh", "/bin/busybox");
    for name in MODULES {
        archive.module(kernel, name);
    }
    let mut programs: Vec<(PathBuf, String)> =
        TOOLS.iter().map(|tool| (find(tool), format!("bin/{tool}"))).collect();
    programs.push((std::env::current_exe().expect("path of the test"), "bin/guest-test".into()));
    programs.push((agent::binary(), "bin/bascule".into()));
    for (from, to) in &programs {
        archive.copy(from, to);
    }
    let libraries: BTreeSet<PathBuf> =
        programs.iter().flat_map(|(program, _)| libraries(program)).collect();
    for library in libraries {
        archive.copy(&library, library.to_str().expect("a library's path"));
    }
    archive.finish()
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no `{program}` (`cargo xtask setup` installs it)"))
}

/// The libraries that a program is linked with, and the loader itself.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let out = process::run(Command::new("ldd").arg(program), process::LIMIT);
    out.stdout.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// An archive in the format `newc` of cpio, which is what the kernel unpacks.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    /// Adds a file of the host.
    fn copy(&mut self, from: &Path, to: &str) {
        let read = fs::read(from).and_then(|bytes| {
            let mode = fs::metadata(from)?.permissions().mode() & 0o777;
            Ok((bytes, mode))
        });
        let (bytes, mode) =
            read.unwrap_or_else(|error| panic!("cannot read {}: {error}", from.display()));
        self.file(to, mode, &bytes);
    }

    fn module(&mut self, kernel: &Kernel, name: &str) {
        let file = format!("{name}.ko");
        let path = search(&kernel.modules.join("kernel"), &file)
            .unwrap_or_else(|| panic!("Linux {} has no module {name}", kernel.release));
        self.copy(&path, &format!("lib/modules/{}/{file}", kernel.release));
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = Path::new(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            self.directory(parent);
        }
        self.entry(path, 0o100_000 | mode, content);
    }

    fn link(&mut self, path: &str, to: &str) {
        self.entry(Path::new(path), 0o120_777, to.as_bytes());
    }

    fn directory(&mut self, path: &Path) {
        let above: Vec<&Path> = path.ancestors().filter(|dir| *dir != Path::new("")).collect();
        for dir in above.into_iter().rev() {
            if self.directories.insert(dir.to_owned()) {
                self.entry(dir, 0o040_755, &[]);
            }
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let name = path.to_str().expect("a name in UTF-8");
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of less than 4 GiB");
        let length = u32::try_from(name.len() + 1).expect("a short name");
        let links = 1;
        // inode, mode, owner, group, links, time, size, device, device of the node, name, checksum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, &[]);
        self.bytes
    }
}

/// Finds a file by its name below a directory.
fn search(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(dir).ok()?.flatten().collect();
    let here = entries.iter().find(|entry| entry.file_name() == name);
    here.map(fs::DirEntry::path).or_else(|| {
        entries.iter().filter(|e| e.path().is_dir()).find_map(|e| search(&e.path(), name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_brings_every_directory_once_before_what_is_in_it() {
        let mut archive = Archive::default();
        archive.file("/lib/x/a.so", 0o755, b"abc");
        archive.file("lib/x/b.so", 0o644, b"");
        archive.link("bin", "/lib");
        let text = String::from_utf8(archive.finish()).expect("plain characters");
        let names: Vec<&str> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap_or_default())
            .collect();
        assert_eq!(names, ["lib", "lib/x", "lib/x/a.so", "lib/x/b.so", "bin", "TRAILER!!!"]);
        assert_eq!(text.len() % 4, 0);
    }
}
