//! `bascule agent cleanup` leaves nothing, and touches nothing that is not ours.

use std::path::Path;

use bascule_tests::{
    Agent, Netns, Topology,
    agent::Settings,
    places::mounts_below,
    process,
    topology::{OUTSIDE, veth},
    traffic::{self, UdpServer},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::at;

/// Everything of the host that an agent might change.
fn host_state(host: &Netns) -> Vec<String> {
    let mut state = vec![
        host.sh("ip -o link show").lines().map(strip_state).collect::<Vec<_>>().join("\n"),
        host.sh("ip -4 route show"),
        host.sh("ip rule show"),
        host.firewall_rules(),
        host.sh("tc qdisc show"),
    ];
    for key in
        ["ip_forward", "ip_local_reserved_ports", "conf/all/rp_filter", "conf/all/arp_ignore"]
    {
        state.push(format!("{key} = {}", host.sysctl(&format!("net/ipv4/{key}"))));
    }
    state
}

/// Name and kind of an interface without its counters and queue state.
fn strip_state(line: &str) -> String {
    line.split(" qdisc").next().unwrap_or(line).to_owned()
}

#[test]
fn cleanup_leaves_nothing_of_ours() {
    let net = Topology::new();
    net.host.sysctl_set("net/ipv4/ip_local_reserved_ports", "4711,5000-5010");
    let before = host_state(&net.host);
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    agent.network("n2", "--internal");
    let c1 = agent.container("c1", "n1", "-p 8080:80 -p 9000-9010:9000-9010/udp");
    agent.ok("network connect n2 c1");
    assert_ne!(host_state(&net.host), before);
    let refused = agent.cleanup(&[]);
    assert_eq!(refused.code, 1, "not while an agent runs: {refused:?}");
    assert_eq!(agent.stop(), 0);
    let id = c1.id.clone();
    drop(c1);
    let out = agent.cleanup(&[]);
    assert!(out.ok(), "{out:?}");
    assert_eq!(host_state(&net.host), before, "the host is as it was");
    assert_eq!(agent.places.pins(), Vec::<String>::new());
    assert!(!agent.places.run().join("netns").join(&id).exists());
    assert_eq!(mounts_below(&agent.places.run()), Vec::<std::path::PathBuf>::new());
    assert!(!Path::new("/run/netns/c1").exists() || !dangles("/run/netns/c1", &agent));
    // Again: nothing is left to do, and that is no error.
    let out = agent.cleanup(&[]);
    assert!(out.ok(), "{out:?}");
    // The store is still there, and with it everything that was asked for.
    agent.launch();
    agent.wait_ready();
    assert!(agent.ok("network ls").contains("n1"));
    agent.stop();
    let out = agent.cleanup(&["--purge"]);
    assert!(out.ok(), "{out:?}");
    agent.launch();
    agent.wait_ready();
    assert!(!agent.ok("network ls").contains("n1"));
}

/// Whether a name of `ip netns` leads into an agent's run directory.
fn dangles(name: &str, agent: &Agent) -> bool {
    std::fs::read_link(name).is_ok_and(|target| target.starts_with(agent.places.run()))
}

#[test]
fn cleanup_works_from_pins_and_names_without_the_store() {
    let net = Topology::new();
    let before = net.host.interfaces();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 8080:80");
    drop(c1);
    agent.kill9();
    for entry in std::fs::read_dir(agent.places.state()).expect("the store").flatten() {
        std::fs::remove_file(entry.path()).ok();
    }
    let out = agent.cleanup(&[]);
    assert!(out.ok(), "{out:?}");
    assert_eq!(net.host.interfaces(), before);
    assert_eq!(agent.places.pins(), Vec::<String>::new());
    drop(traffic::TcpServer::start(&net.host, 8080));
}

#[test]
fn what_is_not_ours_survives_everything() {
    let net = Topology::new();
    // Names that look like ours, and like others'.
    let guest = Netns::new("guest");
    for bridge in ["br-0123456789ab", "docker0", "bascule1"] {
        net.host.sh(&format!("ip link add {bridge} type bridge"));
        net.host.sh(&format!("ip link set {bridge} up"));
    }
    net.host.sh("ip addr add 10.99.3.1/24 dev br-0123456789ab");
    veth(&net.host, "bsc12345678", &guest, "eth0");
    net.host.sh("ip link set bsc12345678 master br-0123456789ab");
    guest.sh("ip addr add 10.99.3.2/24 dev eth0");
    let foreign = net.host.interfaces();
    let ports = net.host.sysctl("net/ipv4/ip_local_port_range");
    traffic::answers(&net.host, "10.99.3.2");
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let _c1 = agent.container("c1", "n1", "-p 8080:80");
    traffic::answers(&net.host, "10.99.3.2");
    agent.restart();
    agent.ok("container rm -f c1");
    agent.ok("network rm n1");
    agent.stop();
    assert!(agent.cleanup(&["--purge"]).ok());
    assert_eq!(net.host.interfaces(), foreign);
    assert_eq!(net.host.sysctl("net/ipv4/ip_local_port_range"), ports);
    traffic::answers(&net.host, "10.99.3.2");
}

#[test]
fn a_sysctl_changed_by_somebody_else_stays_changed() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    assert_eq!(net.host.sysctl("net/ipv4/ip_forward"), "1", "S104");
    net.host.sysctl_set("net/ipv4/ip_forward", "0");
    net.host.sysctl_set("net/ipv4/ip_forward", "1");
    agent.network("n1", "");
    let _c1 = agent.container("c1", "n1", "-p 8080:80");
    let ours = net.host.sysctl("net/ipv4/ip_local_reserved_ports");
    net.host.sysctl_set("net/ipv4/ip_local_reserved_ports", &format!("{ours},6000"));
    agent.stop();
    assert!(agent.cleanup(&[]).ok());
    let reserved = net.host.sysctl("net/ipv4/ip_local_reserved_ports");
    assert_eq!(reserved, "6000", "only our additions go");
}

#[test]
fn s104_ip_forward_can_be_left_alone() {
    let net = Topology::new();
    let settings = Settings::default().arg(&["--ip-forward=false"]);
    let agent = Agent::start_with(&net.host, settings);
    assert_eq!(net.host.sysctl("net/ipv4/ip_forward"), "0");
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "");
    let _server = UdpServer::start(&c1.ns, 53);
    traffic::exchange(&net.host, at(c1.address(), 53), 10);
    traffic::does_not_answer(&c1.ns, OUTSIDE);
}

#[test]
fn cleanup_works_on_a_full_disk() {
    let net = Topology::new();
    let mut agent = Agent::prepare(&net.host, Settings::default());
    let state = agent.places.root().join("small");
    std::fs::create_dir_all(&state).expect("a directory");
    let (kind, size) = (Some("tmpfs"), Some("size=4m"));
    // Unmounted with the agent's other places.
    nix::mount::mount(kind, &state, kind, nix::mount::MsFlags::empty(), size)
        .expect("a small disk");
    let settings = Settings::default().env("BASCULE_STATE_DIR", &state.display().to_string());
    agent.launch_with(&settings);
    agent.wait_ready();
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 8080:80");
    drop(c1);
    agent.kill9();
    let full = std::io::copy(
        &mut std::io::repeat(0),
        &mut std::fs::File::create(state.join("other")).expect("a file"),
    );
    assert_eq!(full.expect_err("no end").kind(), std::io::ErrorKind::StorageFull);
    let mut cleanup = agent.bascule();
    cleanup.args(["agent", "cleanup"]).env("BASCULE_STATE_DIR", &state);
    let out = bascule_tests::process::run(&mut cleanup, bascule_tests::process::LIMIT);
    assert!(out.ok(), "{out:?}");
    assert_eq!(net.host.sysctl("net/ipv4/ip_forward"), "0");
    assert_eq!(net.host.sysctl("net/ipv4/ip_local_reserved_ports"), "");
    assert_eq!(agent.places.pins(), Vec::<String>::new());
}

/// Whether a process holds SIGTERM back.
fn holds_signals_back(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (libc::SIGTERM - 1)) != 0)
}

#[test]
fn p98_signals_do_not_end_a_cleanup_halfway() {
    let net = Topology::new();
    let before = host_state(&net.host);
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    for number in 0..20 {
        agent.ok(&format!("run -d --name c{number} --network n1 -p {}:80", 8000 + number));
    }
    assert_eq!(agent.stop(), 0);
    let cleaning = process::start(agent.bascule().args(["agent", "cleanup"]));
    let pid = cleaning.child.id();
    let ours = Pid::from_raw(i32::try_from(pid).expect("a process"));
    wait::wait_until("it is at it", wait::SOON, || holds_signals_back(pid));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        kill(ours, signal).expect("it runs, or nobody has waited for it");
    }
    let out = cleaning.finish("cleanup", process::LIMIT);
    assert!(out.ok(), "{out:?}");
    assert!(!out.stdout.is_empty(), "it says what it removed");
    assert_eq!(host_state(&net.host), before, "the host is as it was");
    assert_eq!(agent.places.pins(), Vec::<String>::new());
    assert_eq!(mounts_below(&agent.places.run()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn p98_an_agent_that_is_told_to_end_leaves_no_removal_halfway() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let names: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    for (port, name) in (8000..).zip(&names) {
        agent.ok(&format!("run -d --name {name} --network n1 -p {port}:80"));
    }
    let ends = || net.host.interfaces().iter().filter(|name| name.starts_with("bsc")).count();
    assert_eq!(ends(), names.len());
    let removing = process::start(agent.bascule().args(["rm", "-f"]).args(&names));
    wait::wait_until("the first one is gone", wait::SOON, || ends() < names.len());
    let ours = Pid::from_raw(i32::try_from(agent.pid()).expect("a process"));
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
        kill(ours, signal).ok();
    }
    assert_eq!(agent.wait_end(), 0);
    removing.finish("rm", process::LIMIT);
    agent.launch();
    agent.wait_ready();
    // Each is there, whole, or gone.
    let listed = agent.ok("ps -a --format {{.Names}}");
    let left: Vec<_> = listed.lines().collect();
    assert_eq!(agent.ok("port").is_empty(), left.is_empty(), "{listed}");
    assert_eq!(ends(), left.len(), "{listed}");
    for name in left {
        agent.ok(&format!("rm -f {name}"));
    }
    assert_eq!(ends(), 0);
    agent.ok("network rm n1");
    let named = std::fs::read_dir(agent.places.run().join("netns")).map_or(0, Iterator::count);
    assert_eq!(named, 0, "no namespace is left");
}
