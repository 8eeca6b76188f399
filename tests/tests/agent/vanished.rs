//! Namespaces and processes of others that end while the agent runs.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use bascule_tests::{
    Agent, Netns, Topology, process,
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};

use crate::at;

fn stage() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "--subnet 10.98.0.0/24");
    (net, agent)
}

fn runs(agent: &Agent, name: &str) -> bool {
    agent.ok("ps --format {{.Names}}").lines().any(|found| found == name)
}

/// Waits until a container has ended, and demands that nothing of it is left.
#[track_caller]
fn ends_and_leaves_nothing(net: &Topology, agent: &Agent, name: &str) {
    let begin = Instant::now();
    wait::wait_until("its end is noticed", wait::SOON, || !runs(agent, name));
    // A second is what it may take where nothing else does.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    wait::wait_until("its end of the veth is gone", wait::SOON, || {
        !net.host.interfaces().iter().any(|interface| interface.starts_with("bsc"))
    });
    traffic::becomes_refused(&net.outside, at(HOST, 8080));
    drop(TcpServer::start(&net.host, 8080));
    assert_eq!(agent.inspect("network", "n1")["Containers"], serde_json::json!({}));
}

#[test]
fn s88_a_process_that_was_brought_ends_and_its_container_with_it() {
    let (net, agent) = stage();
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", "1000"]);
    process::dies_with_us(&mut command);
    let mut child = command.spawn().expect("unshare");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    wait::wait_until("it has a namespace of its own", wait::SOON, || {
        std::fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|other| other != own)
    });
    let pid = child.id();
    agent.ok(&format!("run -d --name c1 --network n1 -p 8080:80 --pid {pid}"));
    assert!(runs(&agent, "c1"));
    child.kill().expect("ours");
    child.wait().expect("ours");
    ends_and_leaves_nothing(&net, &agent, "c1");
    agent.ok("rm c1");
}

#[test]
fn a_namespace_that_was_brought_loses_its_name_and_its_container_ends() {
    let (net, agent) = stage();
    let brought = Netns::new("brought");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ns");
    std::fs::write(&path, "").expect("a file");
    let mounted = nix::mount::mount(
        Some(&brought.path()),
        &path,
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    );
    mounted.expect("a name of it");
    agent.ok(&format!("run -d --name c1 --network n1 -p 8080:80 --netns {}", path.display()));
    assert!(runs(&agent, "c1"));
    drop(brought);
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).expect("a mount");
    std::fs::remove_file(&path).expect("its name");
    ends_and_leaves_nothing(&net, &agent, "c1");
    agent.ok("rm c1");
}
