//! The firewalls that hosts have, run for real in a test's own namespaces: ufw and firewalld.
//!
//! Both keep files in fixed places. They run in a mount namespace of their own, where those places are
//! copies that vanish with the test.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    Netns,
    process::{self, Output},
    wait,
};

/// `ufw`, with a configuration of its own.
#[derive(Debug)]
pub struct Ufw {
    host: Netns,
    files: TempDir,
}

impl Ufw {
    /// Takes the package's own configuration for a host.
    pub fn new(host: &Netns) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        for (from, to) in [("/etc/ufw", "ufw"), ("/etc/default", "default")] {
            let to = files.path().join(to);
            let copied = Command::new("cp").arg("-a").arg(from).arg(&to).status();
            assert!(copied.is_ok_and(|status| status.success()), "cannot copy {from}");
        }
        Self { host: host.clone(), files }
    }

    /// Runs a verb of `ufw` and demands success.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let files = self.files.path().display();
        let script = format!(
            "set -e; mount --bind {files}/ufw /etc/ufw; mount --bind {files}/default /etc/default; \
             mount -t tmpfs tmpfs /run; exec ufw {line}"
        );
        let mut command = self.host.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let out = process::run(&mut command, process::LIMIT);
        assert!(out.ok(), "ufw {line} failed with {}: {}{}", out.code, out.stdout, out.stderr);
        out.stdout
    }
}

/// A bus that firewalld finds instead of the system's.
const BUS: &str = r#"<busconfig><type>system</type><auth>EXTERNAL</auth>
<listen>unix:path=SOCKET</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow eavesdrop="true"/>
<allow send_destination="*" eavesdrop="true"/></policy>
</busconfig>"#;

/// A running firewalld; it ends with this.
#[derive(Debug)]
pub struct Firewalld {
    host: Netns,
    files: TempDir,
    process: Child,
}

impl Firewalld {
    /// Starts one in a host's namespace and waits until it answers.
    #[track_caller]
    pub fn start(host: &Netns) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let bus = files.path().join("bus");
        let conf = files.path().join("bus.conf");
        std::fs::write(&conf, BUS.replace("SOCKET", &bus.display().to_string())).expect("a file");
        let dir = files.path().display();
        let script = format!(
            "mount -t tmpfs tmpfs /run; mkdir /run/firewalld
             dbus-daemon --config-file={} --nofork --nopidfile &
             while ! [ -S {} ]; do sleep 0.05; done
             exec firewalld --nofork --nopid --log-file {dir}/log",
            conf.display(),
            bus.display()
        );
        // A process namespace: everything in it ends with its first process.
        let mut command = host.command("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", &script]).env("DBUS_SYSTEM_BUS_ADDRESS", address(&bus));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("unshare");
        let firewalld = Self { host: host.clone(), files, process };
        wait::wait_until("firewalld answers", wait::START, || firewalld.cmd("--state").ok());
        firewalld
    }

    /// Runs `firewall-cmd`.
    pub fn cmd(&self, line: &str) -> Output {
        let mut command = self.host.command("firewall-cmd");
        command.args(line.split_whitespace());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address(&self.files.path().join("bus")));
        process::run(&mut command, process::LIMIT)
    }
}

fn address(bus: &Path) -> String {
    format!("unix:path={}", bus.display())
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
