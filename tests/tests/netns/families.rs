//! Families that are switched on and off: for a container, by a client of an older API, on lines that appear later.

use std::{fs, thread};

use bascule_tests::{Agent, Netns, Topology, agent::Settings, topology::OUTSIDE, traffic, wait};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount, umount2},
    sched::{CloneFlags, unshare},
};
use serde_json::json;

use crate::Stage;

const SUBNET: &str = "2001:db8:42::/64";

#[test]
fn s173_lines_that_appear_later_go_by_advertisements_too() {
    let net = Topology::dual();
    net.host.sysctl_set("net/ipv6/conf/all/forwarding", "0");
    let settings = Settings::default().arg(&["--uplink", "up*,late*"]);
    let mut agent = Agent::start_with(&net.host, settings);
    agent.network("n6", "--ipv6");
    let key = "net/ipv6/conf/late0/accept_ra";
    let accepts = |what, value: &str| {
        wait::wait_until(what, wait::SOON, || net.host.sysctl(key) == value);
    };
    let appear = || {
        net.host.sh("ip link add late0 type veth peer name other0");
        net.host.sysctl_set("net/ipv6/conf/other0/accept_ra", "1");
    };
    appear();
    accepts("a line that appears is seen to", "2");
    assert_eq!(
        net.host.sysctl("net/ipv6/conf/other0/accept_ra"),
        "1",
        "that is no line of the host"
    );
    // What somebody changes after that stays, over a restart as well; another device is another one.
    net.host.sysctl_set(key, "1");
    agent.restart();
    agent.network("n7", "--ipv6");
    assert_eq!(net.host.sysctl(key), "1");
    net.host.sh("ip link del late0");
    appear();
    accepts("a line of the same name is seen to", "2");
    agent.stop();
    assert!(agent.cleanup(&["--purge"]).ok());
    assert_eq!(net.host.sysctl(key), "1");
}

#[test]
fn moby_icc_006_moby_icc_010_ipv6_switched_off_for_a_whole_container_is_off() {
    let stage = Stage::dual();
    stage.agent.network("n4", "");
    stage.agent.network("n6", &format!("--subnet {SUBNET}"));
    let addresses = |ns: &Netns| ns.sh("ip -6 -o addr show");
    for network in ["n4", "n6"] {
        let (off, on) = (format!("{network}-off"), format!("{network}-on"));
        let switch = "--sysctl net.ipv6.conf.all.disable_ipv6=1";
        let without = stage.agent.container(&off, network, switch);
        let with = stage.agent.container(&on, network, "");
        assert_eq!(addresses(&without.ns), "", "{network}");
        let shown = &stage.agent.inspect("container", &off)["NetworkSettings"]["Networks"][network];
        assert_eq!(shown["GlobalIPv6Address"], "", "{shown}");
        // MOBY-ICC-010: without the switch the loopback device has ::1 whatever the network has.
        assert!(addresses(&with.ns).contains("inet6 ::1/128"), "{network}");
        traffic::answers(&without.ns, with.address());
        traffic::answers(&without.ns, OUTSIDE);
        assert_eq!(
            with.ns.sh("ip -6 -o addr show dev eth0 scope global").is_empty(),
            network == "n4"
        );
    }
    // It stays so: nothing of it counts as missing.
    let before = stage.agent.log().matches("configure").count();
    stage.agent.network("n5", "");
    assert_eq!(stage.agent.log().matches("configure").count(), before);
    // A namespace that is brought is obeyed as well.
    let brought = Netns::new("brought");
    brought.sysctl_set("net/ipv6/conf/all/disable_ipv6", "1");
    stage.agent.ok(&format!(
        "container create --name c1 --network n6 --netns {}",
        brought.path().display()
    ));
    stage.agent.ok("container start c1");
    assert!(brought.sh("ip -4 -o addr show dev eth0").contains("inet "));
    assert_eq!(addresses(&brought), "");
    // Sysctls are the network's, and of a namespace that the agent makes.
    for (bad, why) in [
        ("--sysctl kernel.hostname=x", "kernel.hostname"),
        ("--sysctl net.ipv4.nonsense=1", "nonsense"),
        ("--network host --sysctl net.ipv4.ip_forward=1", "does not make"),
    ] {
        let network = if bad.contains("host ") { "" } else { "--network n4" };
        let made = stage
            .agent
            .cli(format!("container create --name x {network} {bad}").split_whitespace());
        let out = if made.ok() { stage.agent.cli(["container", "start", "x"]) } else { made };
        assert!(out.code == 1 && out.stderr.contains(why), "{bad}: {out:?}");
        stage.agent.cli(["container", "rm", "-f", "x"]);
    }
}

#[test]
fn moby_icc_009_an_older_client_gets_ipv4_whatever_it_says() {
    let stage = Stage::dual();
    for (version, name) in [("v1.46", "old"), ("v1.51", "new")] {
        let body = json!({"Name": name, "EnableIPv4": false, "EnableIPv6": true});
        let made = stage.agent.api("POST", &format!("/{version}/networks/create"), Some(&body));
        assert_eq!(made.status, 201, "{made:?}");
        let container = stage.agent.container(&format!("c-{name}"), name, "");
        let inside = container.ns.sh("ip -o addr show dev eth0");
        assert_eq!(inside.contains("inet "), name == "old", "{inside}");
        assert!(inside.contains("inet6 fd"), "{inside}");
        assert!(container.ns.sh("ip -o addr show dev lo").contains("127.0.0.1/8"));
    }
}

/// Has this thread, and whom it starts from now on, see mounts of its own.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .expect("mounts that nobody else sees");
    // What other tests hold by a mount is to end when they let go of it.
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("own mounts");
    for line in
        mounts.lines().filter(|line| [" - nsfs ", " - bpf "].iter().any(|of| line.contains(of)))
    {
        let path = line.split(' ').nth(4).expect("a path");
        // Some are gone by now.
        umount2(path, MntFlags::MNT_DETACH).ok();
    }
}

/// Makes all settings of the kernel read-only for whom this thread has started.
fn lock_sysctls() {
    let tree = "/proc/sys";
    let bind = MsFlags::MS_BIND;
    mount(Some(tree), tree, None::<&str>, bind, None::<&str>).expect("a mount of its own");
    let locked = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, tree, None::<&str>, locked, None::<&str>).expect("a read-only mount");
}

/// Of Docker's networks one without IPv6 has it switched off in its containers; ours leaves them the address of their link,
/// and takes no router's word for another one.
#[test]
fn moby_lc_022_settings_that_cannot_be_made_refuse_a_start() {
    // The mounts are those of a thread, which ends with them.
    let whole = thread::spawn(|| {
        own_mounts();
        let stage = Stage::dual();
        let agent = &stage.agent;
        agent.network("n4", "");
        agent.network("n6", &format!("--subnet {SUBNET}"));
        a_sandbox_without_ipv6_is_without(agent);
        let before = agent.container("before", "n4", "");
        let brought = ["n4", "n6"].map(|network| (network, Netns::new(network)));
        let interfaces = stage.net.host.interfaces();
        lock_sysctls();
        for (network, ns) in &brought {
            let netns = ns.path().display().to_string();
            let line = format!("container create --name {network} --network {network} --netns");
            agent.ok(&format!("{line} {netns}"));
            let why = agent.refused(&format!("container start {network}"));
            assert!(why.contains("sysctl") && why.contains("read-only"), "{network}: {why}");
            assert_eq!(ns.interfaces(), ["lo"], "{network}");
        }
        assert_eq!(stage.net.host.interfaces(), interfaces, "nothing is left of the attempts");
        traffic::answers(&before.ns, OUTSIDE);
        // As soon as they can be made, they are.
        umount("/proc/sys").expect("the tree as it was");
        for (network, ns) in &brought {
            agent.ok(&format!("container start {network}"));
            assert_eq!(ns.sysctl("net/ipv6/conf/eth0/accept_ra"), "0", "{network}");
            let global = ns.sh("ip -6 -o addr show dev eth0 scope global");
            assert_eq!(global.is_empty(), *network == "n4", "{global}");
            traffic::answers(ns, OUTSIDE);
        }
    });
    whole.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// In a sandbox the tree is read-only; the agent has made its settings from outside, and they stay.
fn a_sandbox_without_ipv6_is_without(agent: &Agent) {
    let look = "cat /proc/sys/net/ipv6/conf/eth0/accept_ra; ip -6 -o addr; \
                echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    for network in ["n4", "n6"] {
        let run = format!(
            "run --rm --network {network} --sysctl net.ipv6.conf.all.disable_ipv6=1 -- sh -c"
        );
        let out = agent.cli(run.split_whitespace().chain([look]));
        assert_eq!(out.stdout.trim(), "0", "{network}: {out:?}");
        assert!(out.stderr.contains("Read-only file system"), "{network}: {out:?}");
    }
}
