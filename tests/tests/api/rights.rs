//! Who may talk to the agent: root, and the group that owns the socket, whatever the socket's mode is.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use bascule_tests::{Agent, Topology, process};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// A user and a group that are nobody's.
const STRANGER: &str = "64999";
const GROUP: &str = "64998";

/// What an agent answers to a request of another user: status and body.
fn ask(agent: &Agent, group: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let mut command = agent.host.command("setpriv");
    command.args([
        "--reuid",
        STRANGER,
        "--regid",
        group,
        "--clear-groups",
        "curl",
        "-s",
        "-m",
        "20",
    ]);
    command.args(["-X", method, "-w", "\n%{http_code}", "-H", "Content-Type: application/json"]);
    if !body.is_empty() {
        command.args(["-d", body]);
    }
    command.arg("--unix-socket").arg(agent.places.socket()).arg(format!("http://x{path}"));
    let out = process::run(command.current_dir("/"), process::LIMIT);
    let (body, status) = out.stdout.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

/// Lets others come as far as the socket.
fn open_directories(agent: &Agent) {
    for directory in [agent.places.root(), &agent.places.run()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

#[test]
fn a_stranger_is_kept_out_and_told_why() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    open_directories(&agent);
    let socket = agent.places.socket();
    assert_eq!(fs::metadata(&socket).expect("a socket").mode() & 0o7777, 0o660);
    // The mode keeps it out ...
    assert_eq!(ask(&agent, STRANGER, "GET", "/networks", "").0, "000");
    // ... and where somebody has opened the socket to all, the agent does.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("a mode");
    let before = agent.ok("network ls --no-trunc");
    for (method, path, body) in [
        ("GET", "/_ping", ""),
        ("GET", "/networks", ""),
        ("POST", "/networks/create", r#"{"Name":"n1"}"#),
        ("GET", "/bascule/v1/status", ""),
        ("GET", "/nosuch", ""),
    ] {
        let (status, body) = ask(&agent, STRANGER, method, path, body);
        assert_eq!(status, "403", "{method} {path}: {body}");
        assert!(body.contains("user 64999 is n") && body.contains("bascule"), "{body}");
    }
    assert_eq!(agent.ok("network ls --no-trunc"), before);
}

#[test]
fn the_group_may_and_yet_not_all_that_root_may() {
    // A group of the test's own, in a mount namespace of its own thread.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    let groups = tempfile::NamedTempFile::new().expect("a file");
    let text = fs::read_to_string("/etc/group").expect("groups");
    let others: Vec<_> = text.lines().filter(|line| !line.starts_with("bascule:")).collect();
    fs::write(groups.path(), others.join("\n") + &format!("\nbascule:x:{GROUP}:\n"))
        .expect("groups");
    fs::set_permissions(groups.path(), fs::Permissions::from_mode(0o644)).expect("a mode");
    mount(Some(groups.path()), "/etc/group", none, MsFlags::MS_BIND, none).expect("mounted");

    let net = Topology::new();
    let agent = Agent::start(&net.host);
    open_directories(&agent);
    let socket = fs::metadata(agent.places.socket()).expect("a socket");
    assert_eq!((socket.mode() & 0o7777, socket.uid()), (0o660, 0));
    assert_eq!(socket.gid().to_string(), GROUP);
    let (status, body) = ask(&agent, GROUP, "POST", "/networks/create", r#"{"Name":"n1"}"#);
    assert_eq!(status, "201", "{body}");
    for body in [r#"{"Netns":"/proc/1/ns/net"}"#, r#"{"Pid":1}"#] {
        let (status, said) = ask(&agent, GROUP, "POST", "/bascule/v1/containers", body);
        assert_eq!(status, "403", "{body}: {said}");
        assert!(said.contains("needs root"), "{said}");
    }
    let (status, body) = ask(&agent, GROUP, "POST", "/bascule/v1/containers", r#"{"Name":"c1"}"#);
    assert_eq!(status, "201", "{body}");
    let (status, body) =
        ask(&agent, GROUP, "POST", "/bascule/v1/containers/c1/process", r#"{"Pid":1}"#);
    assert_eq!(status, "403", "{body}");
    // Others than its members stay outside.
    assert_eq!(ask(&agent, STRANGER, "GET", "/networks", "").0, "000");
}
