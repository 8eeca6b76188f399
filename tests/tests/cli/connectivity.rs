//! `bascule connectivity test`: it proves that a data plane works, and names what does not.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Stdio},
};

use bascule_tests::{
    Agent, Topology, process,
    topology::{OUTSIDE, OUTSIDE6},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// Everything that the test makes has this in its name.
const OURS: &str = "bascule-test-";

/// An address of the uplink's network that nobody has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

fn stage(net: Topology) -> (Agent, Topology) {
    let agent = Agent::start(&net.host);
    (agent, net)
}

/// Runs the test with more words, and returns the exit code and what it says as JSON.
#[track_caller]
fn tried(agent: &Agent, words: &str) -> (i32, Value) {
    let line = format!("--output json connectivity test {words}");
    let out = agent.cli(line.split_whitespace());
    let report = serde_json::from_str(&out.stdout);
    (out.code, report.unwrap_or_else(|error| panic!("no JSON: {error}: {out:?}")))
}

fn cases(report: &Value) -> &[Value] {
    report["Cases"].as_array().expect("a list")
}

/// Family and name of the cases that ended in a way.
fn those(report: &Value, outcome: &str) -> Vec<String> {
    let ended = cases(report).iter().filter(|case| case["Outcome"] == outcome);
    let name = |key: &str, case: &Value| case[key].as_str().expect("text").to_owned();
    ended
        .map(|case| format!("{} {}", name("Family", case), name("Name", case)).trim().to_owned())
        .collect()
}

/// What there is of tests: containers and networks of the agent, and interfaces and namespaces behind them.
fn left(agent: &Agent) -> Vec<String> {
    let mut left: Vec<String> = agent
        .ok("ps -a --format {{.Names}}")
        .lines()
        .map(str::to_owned)
        .chain(agent.ok("network ls --format {{.Name}}").lines().map(str::to_owned))
        .filter(|name| name.starts_with(OURS))
        .collect();
    let below = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    for dir in ["netns", "containers"] {
        left.extend(below(&agent.places.run().join(dir)));
    }
    left
}

/// Starts the test, and returns once it is at work. It has much to do: nobody is there at the addresses outside.
fn at_work(agent: &Agent) -> Child {
    let mut command = agent.bascule();
    command.args(["connectivity", "test", "--timeout", "1"]).stdin(Stdio::null());
    command.args((1..=30).flat_map(|port| ["--external".to_owned(), format!("{NOBODY}:{port}")]));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("start the client");
    wait::wait_until("its containers", wait::SOON, || {
        agent.ok("ps --format {{.Names}}").matches(OURS).count() == 4
    });
    child
}

/// Ends it by a signal, and returns its exit code.
fn end(mut client: Child, signal: Signal) -> i32 {
    kill(Pid::from_raw(client.id().cast_signed()), signal).expect("a signal");
    process::code(process::wait(&mut client, wait::START).expect("the client ends"))
}

#[test]
fn p94_everything_passes_on_a_healthy_host_and_nothing_is_left() {
    let (agent, net) = stage(Topology::dual());
    agent.network("n1", "--label com.bascule.other");
    agent.container("c1", "n1", "-p 8080:80");
    let interfaces = net.host.interfaces();
    let before = left(&agent);
    let listen = |address: &str| TcpListener::bind(address).expect("a listener");
    let _outside = net.outside.run(|| [listen("0.0.0.0:80"), listen("[::]:81")]);
    let outside = [format!("{OUTSIDE}:80"), format!("[{OUTSIDE6}]:81")];
    let out =
        agent.cli(["connectivity", "test", "--external", &outside[0], "--external", &outside[1]]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stdout.contains("\n39 ok, 0 failed, 0 skipped in "), "{}", out.stdout);
    assert!(out.stdout.contains(&format!("IPv4  TCP to {OUTSIDE} port 80 ")), "{}", out.stdout);
    assert!(out.stdout.contains(&format!("IPv6  TCP to {OUTSIDE6} port 81 ")), "{}", out.stdout);
    assert!(!out.stdout.contains('\r'), "there is no terminal to write over: {}", out.stdout);
    assert_eq!(left(&agent), before);
    assert_eq!(net.host.interfaces(), interfaces, "interfaces stayed");
    assert_eq!(agent.ok("ps --format {{.Names}}"), "c1", "the operator's own was touched");
}

#[test]
fn p94_what_is_not_there_is_skipped_with_a_reason() {
    let (agent, _net) = stage(Topology::new());
    let (code, report) = tried(&agent, "--family 6");
    assert_eq!((code, &report["Failed"]), (0, &json!(0)), "{report}");
    assert!(cases(&report).iter().all(|case| case["Family"] != "IPv4"), "{report}");
    assert!(those(&report, "ok").contains(&"IPv6 TCP on a network".to_owned()), "{report}");
    let skipped = those(&report, "skipped");
    assert!(skipped.contains(&"IPv6 published TCP, from its own network".to_owned()), "{report}");
    assert_eq!(report["Skipped"], json!(skipped.len()));
    let reason = |case: &&Value| case["Reason"] == "no uplink has an IPv6 address";
    assert_eq!(cases(&report).iter().filter(reason).count(), skipped.len(), "{report}");
}

#[test]
fn p94_what_a_firewall_of_the_host_drops_is_named() {
    let (agent, net) = stage(Topology::dual());
    net.host.sh("nft add table inet broken");
    net.host.sh("nft add chain inet broken in { type filter hook input priority 0 ; }");
    net.host.sh("nft add rule inet broken in icmp type echo-request drop");
    let (code, report) = tried(&agent, "--timeout 1");
    assert_eq!(code, 1, "{report}");
    assert_eq!(those(&report, "failed"), ["IPv4 ping to the gateway"], "{report}");
    let case = cases(&report).iter().find(|case| case["Outcome"] == "failed").expect("one");
    let text = |key: &str| case[key].as_str().expect("text");
    assert!(text("Tried").starts_with("an echo request from bascule-test-"), "{case}");
    assert_eq!(text("Seen"), "84 bytes sent: no answer came");
    assert_eq!(text("Hint"), "It reaches the host itself, and its answer comes back.");
    assert!(case["Seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{case}");
    assert_eq!(left(&agent), [""; 0]);
}

#[test]
fn p94_what_the_data_plane_drops_is_explained() {
    let (agent, net) = stage(Topology::new());
    let listen = || TcpListener::bind("0.0.0.0:80").expect("a listener");
    let _outside = net.outside.run(listen);
    agent.ok("policy deny add 203.0.113.0/24");
    let words = format!("connectivity test --family 4 --timeout 1 --external {OUTSIDE}:80");
    let out = agent.cli(words.split_whitespace());
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stdout.contains(", 1 failed, 0 skipped in "), "{}", out.stdout);
    let failed = format!("failed   IPv4  TCP to {OUTSIDE} port 80 ");
    let told = out.stdout.split_once(&failed).expect("the case is named").1;
    let lines: Vec<_> = told.lines().skip(1).take(3).map(str::trim).collect();
    assert!(lines[0].starts_with("tried  TCP from bascule-test-"), "{told}");
    assert_eq!(lines[1], "seen   no answer came");
    assert!(lines[2].starts_with("why ") && lines[2].contains("its answer is dropped"), "{told}");
}

#[test]
fn p94_an_interrupted_test_tidies_up() {
    let (agent, net) = stage(Topology::new());
    let interfaces = net.host.interfaces();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        assert_eq!(end(at_work(&agent), signal), code);
        assert_eq!(left(&agent), [""; 0]);
        assert_eq!(net.host.interfaces(), interfaces);
    }
}

#[test]
fn p94_what_a_killed_test_left_is_removed_by_the_next() {
    let (agent, _net) = stage(Topology::new());
    let client = at_work(&agent);
    assert!(agent.refused("connectivity test").contains("another connectivity test"));
    end(client, Signal::SIGKILL);
    assert!(!left(&agent).is_empty());
    let (code, report) = tried(&agent, "--family 4");
    assert_eq!(code, 0, "{report}");
    let removed = report["Removed"].as_array().expect("a list");
    assert_eq!(removed.len(), 7, "four containers and three networks: {report}");
    assert_eq!(left(&agent), [""; 0]);

    end(at_work(&agent), Signal::SIGKILL);
    let said = agent.ok("connectivity test --family 4");
    let first = said.lines().next().unwrap_or_default();
    assert!(first.starts_with("removed what an earlier test left: bascule-test-"), "{said}");
    assert_eq!(left(&agent), [""; 0]);
}
