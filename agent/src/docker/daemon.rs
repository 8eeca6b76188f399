//! The configuration of Docker's daemon, and how the daemon itself runs.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Map, Value};

use crate::kernel::process;

/// What Docker's daemon must not do itself.
pub const KEYS: [&str; 3] = ["iptables", "ip6tables", "userland-proxy"];
/// Says whether containers of the default network reach each other. A daemon that says no does not start without rules.
const ICC: &str = "icc";
/// Says whether the default network is masqueraded.
const MASQUERADE: &str = "ip-masq";
/// What a copy of the configuration is named by.
const BACKUP: &str = "before-bascule";
/// Where a daemon notes its number, unless it is told otherwise.
const PID_FILES: [&str; 2] = ["/run/docker.pid", "/var/run/docker.pid"];
/// The service of systemd that runs it.
const UNIT: &str = "docker.service";

/// Why the configuration cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not read.
    #[error("{} is no object of JSON ({why}): put it right first, Docker's daemon does not start with it either", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A flag says otherwise.
    #[error(
        "Docker's daemon is started with --{0}, and would not start with the same key in its configuration: take the \
         flag out of the service first, or make it --{1}=false"
    )]
    Flag(String, &'static str),
    /// A flag says what a daemon without rules does not start with.
    #[error(
        "Docker's daemon is started with --icc=false, and would not start with \"iptables\": false then: take the flag \
         out of the service first, and put \"icc\": false into its configuration"
    )]
    Icc,
    /// It cannot be started again.
    #[error("`systemctl restart {UNIT}` failed: {0}")]
    Restart(String),
}

/// A key of the configuration that becomes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: &'static str,
    /// What it says; none where it says nothing.
    pub from: Option<String>,
    /// What it shall say.
    pub to: bool,
}

/// The configuration, and what is to be changed in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file as it is; none where there is none.
    pub before: Option<String>,
    /// The file as it shall be.
    pub after: String,
    /// What is different.
    pub changes: Vec<KeyChange>,
    /// Whether the default network is to be masqueraded, as far as the file says.
    pub masquerade: bool,
    /// Whether the file keeps containers of the default network apart.
    pub icc_off: bool,
}

/// Reads the configuration; none where there is no file.
pub fn read(path: &Path) -> Result<Option<String>, DaemonError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DaemonError::File { action: "read", path: path.to_owned(), source }),
    }
}

fn parse(path: &Path, text: Option<&str>) -> Result<Map<String, Value>, DaemonError> {
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text)
        .map_err(|error| DaemonError::Syntax { path: path.to_owned(), why: error.to_string() })
}

/// Returns what is to be changed for a daemon that makes no rules; keys that flags say already are left out.
pub fn edit(path: &Path, flags: &[String]) -> Result<Edit, DaemonError> {
    let before = read(path)?;
    let mut object = parse(path, before.as_deref())?;
    let masquerade = object.get(MASQUERADE).and_then(Value::as_bool).unwrap_or(true)
        && flag(flags, MASQUERADE).is_none_or(|value| value != "false");
    if flag(flags, ICC) == Some("false") {
        return Err(DaemonError::Icc);
    }
    let mut changes = Vec::new();
    let icc_off = object.get(ICC) == Some(&Value::Bool(false));
    if icc_off {
        changes.push(KeyChange { key: ICC, from: Some(false.to_string()), to: true });
        object.insert(ICC.to_owned(), Value::Bool(true));
    }
    for key in KEYS {
        match flag(flags, key) {
            Some("false") => continue,
            Some(value) => return Err(DaemonError::Flag(format!("{key}={value}"), key)),
            None => {}
        }
        if object.get(key) != Some(&Value::Bool(false)) {
            let from = object.get(key).map(ToString::to_string);
            changes.push(KeyChange { key, from, to: false });
            object.insert(key.to_owned(), Value::Bool(false));
        }
    }
    let after = match &before {
        Some(before) if changes.is_empty() => before.clone(),
        _ => written(&object),
    };
    Ok(Edit { before, after, changes, masquerade, icc_off })
}

/// Returns the configuration as it shall be when Docker's networks are Docker's again: as it was, byte by byte, or with
/// the keys as they were where somebody else has changed it meanwhile. None: there shall be no file.
pub fn restored(
    path: &Path,
    (before, wrote): (Option<&str>, &str),
) -> Result<Option<String>, DaemonError> {
    let now = read(path)?;
    if now.as_deref().is_none_or(|now| now == wrote) {
        return Ok(before.map(str::to_owned));
    }
    let (mut object, former) = (parse(path, now.as_deref())?, parse(path, before)?);
    for key in ours() {
        match former.get(key) {
            Some(value) => drop(object.insert(key.to_owned(), value.clone())),
            None => drop(object.remove(key)),
        }
    }
    Ok(Some(written(&object)))
}

/// Returns the keys that the configuration does not have as they were written.
pub fn drift(path: &Path, wrote: &str) -> Result<Vec<&'static str>, DaemonError> {
    let (now, wrote) = (parse(path, read(path)?.as_deref())?, parse(path, Some(wrote))?);
    Ok(ours().filter(|key| now.get(*key) != wrote.get(*key)).collect())
}

/// Every key that may have been changed.
fn ours() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().chain([ICC])
}

fn written(object: &Map<String, Value>) -> String {
    // Text that can always be made of a map of JSON.
    let mut text = serde_json::to_string_pretty(object).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes the configuration, or removes it, and keeps a copy of what was there.
pub fn write(path: &Path, text: Option<&str>, backup: bool) -> Result<(), DaemonError> {
    let failed = |action| move |source| DaemonError::File { action, path: path.to_owned(), source };
    let Some(text) = text else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed("remove")),
        };
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
    }
    if backup && path.exists() {
        fs::copy(path, copy_of(path)).map_err(failed("copy"))?;
    }
    // One that is half written would keep the daemon from starting.
    let temporary = path.with_extension("json.new");
    let mode = fs::metadata(path).map_or(0o644, |found| found.mode());
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&temporary);
    let mut file = file.map_err(failed("write"))?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(failed("write"))?;
    file.sync_all().map_err(failed("write"))?;
    fs::rename(&temporary, path).map_err(failed("write"))
}

/// Returns where a copy of the configuration is kept.
pub fn copy_of(path: &Path) -> PathBuf {
    path.with_extension(format!("json.{BACKUP}"))
}

/// Removes that copy: what it was for is done.
pub fn forget_copy(path: &Path) {
    // One that was not there is as good.
    drop(fs::remove_file(copy_of(path)));
}

/// How Docker's daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number, where it can be told.
    pub pid: Option<i32>,
    /// What it was started with.
    pub flags: Vec<String>,
    /// Whether systemd starts it, in the agent's own network namespace.
    pub unit: bool,
}

impl Process {
    /// Finds the daemon behind a socket.
    pub async fn find(socket: &Path) -> Self {
        let Some((pid, mut flags)) = find(socket) else { return Self::default() };
        flags.remove(0);
        let unit = main_pid().await == Some(pid) && shares_namespace(pid);
        Self { pid: Some(pid), flags, unit }
    }

    /// Says how it is started again.
    pub fn how(&self) -> String {
        if self.unit {
            return format!("systemctl restart {UNIT}");
        }
        match self.pid {
            Some(pid) => {
                format!("stop Docker's daemon (process {pid}) and start it again as you did")
            }
            None => "stop Docker's daemon and start it again as you did".to_owned(),
        }
    }
}

/// Tells the daemon behind a socket from the one that was started before; none where its process cannot be told.
pub fn identity(socket: &Path) -> Option<String> {
    let (pid, _) = find(socket)?;
    process::start_time(pid).map(|start| format!("{pid}@{start}"))
}

/// Finds the daemon's process, and what it was started with. Where systemd listens for it, the process at the other end
/// of the socket is systemd's.
fn find(socket: &Path) -> Option<(i32, Vec<String>)> {
    let noted = |file: &&str| fs::read_to_string(file).ok()?.trim().parse().ok();
    let candidates = peer(socket).into_iter().chain(PID_FILES.iter().filter_map(noted));
    candidates
        .filter_map(|pid| Some((pid, arguments(pid)?)))
        .find(|(_, arguments)| arguments.first().is_some_and(|name| name.ends_with("dockerd")))
}

/// Has systemd start the daemon again.
pub async fn restart() -> Result<(), DaemonError> {
    let mut command = tokio::process::Command::new("systemctl");
    let output = command.args(["restart", UNIT]).stdin(Stdio::null()).output().await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(DaemonError::Restart(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
        Err(error) => Err(DaemonError::Restart(error.to_string())),
    }
}

/// The process of systemd's service, where there is one.
async fn main_pid() -> Option<i32> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut command = tokio::process::Command::new("systemctl");
    let output =
        command.args(["show", "--property", "MainPID", "--value", UNIT]).output().await.ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|pid| *pid > 0)
}

fn shares_namespace(pid: i32) -> bool {
    let inode =
        |pid: &str| fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino());
    inode(&pid.to_string()).is_some_and(|theirs| inode("self") == Some(theirs))
}

/// Who listens at a socket.
fn peer(socket: &Path) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}

fn arguments(pid: i32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// What a flag says; one without a value says yes.
fn flag<'a>(flags: &'a [String], key: &str) -> Option<&'a str> {
    flags.iter().rev().find_map(|flag| {
        let rest = flag.trim_start_matches('-').strip_prefix(key)?;
        if rest.is_empty() { Some("true") } else { rest.strip_prefix('=') }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: Option<&str>) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker/daemon.json");
        if let Some(text) = text {
            write(&path, Some(text), false).unwrap();
        }
        (directory, path)
    }

    #[test]
    fn what_somebody_else_wrote_stays_and_comes_back_byte_by_byte() {
        let text = "{ \"log-driver\":\"local\",\n\t\"iptables\": true }";
        let (_directory, path) = file(Some(text));
        let edit = edit(&path, &[]).unwrap();
        assert_eq!(edit.changes.len(), 3);
        assert_eq!(
            edit.changes[0],
            KeyChange { key: "iptables", from: Some("true".into()), to: false }
        );
        write(&path, Some(&edit.after), true).unwrap();
        let object = parse(&path, read(&path).unwrap().as_deref()).unwrap();
        assert_eq!(object["log-driver"], "local");
        assert!(KEYS.iter().all(|key| object[*key] == false));
        assert_eq!(fs::read_to_string(copy_of(&path)).unwrap(), text);
        assert!(drift(&path, &edit.after).unwrap().is_empty());
        let before = (edit.before.as_deref(), edit.after.as_str());
        assert_eq!(restored(&path, before).unwrap().as_deref(), Some(text));
        // Changed meanwhile, everything stays but our keys.
        write(&path, Some("{\"debug\":true,\"iptables\":false,\"ip6tables\":true}"), false)
            .unwrap();
        assert_eq!(drift(&path, &edit.after).unwrap(), ["ip6tables", "userland-proxy"]);
        let object: Value =
            serde_json::from_str(&restored(&path, before).unwrap().unwrap()).unwrap();
        assert_eq!(object, serde_json::json!({ "debug": true, "iptables": true }));
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let (_directory, path) = file(None);
        let edit = edit(&path, &[]).unwrap();
        assert_eq!((edit.before.as_ref(), edit.changes.len()), (None, 3));
        write(&path, Some(&edit.after), true).unwrap();
        let restored = restored(&path, (None, &edit.after)).unwrap();
        assert_eq!(restored, None);
        write(&path, None, false).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn flags_count_and_a_key_is_never_in_both_places() {
        let (_directory, path) = file(Some("{\"ip-masq\": false}"));
        let flags = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let read = edit(&path, &flags(&["--iptables=false", "-H", "fd://"])).unwrap();
        let keys: Vec<_> = read.changes.iter().map(|change| change.key).collect();
        assert_eq!(keys, ["ip6tables", "userland-proxy"]);
        assert!(!read.masquerade);
        let error = edit(&path, &flags(&["--ip6tables"])).unwrap_err().to_string();
        assert!(error.contains("--ip6tables=true"), "{error}");
        let nothing = flags(&["--iptables=false", "--ip6tables=false", "--userland-proxy=false"]);
        let read = edit(&path, &nothing).unwrap();
        assert!(read.changes.is_empty() && read.after == "{\"ip-masq\": false}");
    }

    #[test]
    fn a_default_network_without_icc_does_not_keep_the_daemon_from_starting() {
        let text = "{\"icc\": false}";
        let (_directory, path) = file(Some(text));
        let edit = edit(&path, &[]).unwrap();
        assert!(edit.icc_off);
        assert_eq!((edit.changes[0].key, edit.changes[0].to), (ICC, true));
        write(&path, Some("{\"icc\": true, \"debug\": true}"), false).unwrap();
        let before = (edit.before.as_deref(), edit.after.as_str());
        let object: Value =
            serde_json::from_str(&restored(&path, before).unwrap().unwrap()).unwrap();
        assert_eq!(object, serde_json::json!({ "debug": true, "icc": false }));
        let error = super::edit(&path, &["--icc=false".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("--icc=false"), "{error}");
    }

    #[test]
    fn what_does_not_read_is_not_overwritten() {
        let (_directory, path) = file(Some("{ \"iptables\": false, }"));
        let error = edit(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("daemon.json") && error.contains("put it right first"), "{error}");
        let (_directory, empty) = file(Some(" \n"));
        assert_eq!(
            edit(&empty, &[]).unwrap().changes.len(),
            3,
            "Docker takes an empty file for {{}}"
        );
    }
}
