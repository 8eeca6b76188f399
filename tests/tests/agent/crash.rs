//! Killed at every line that matters: whatever was half done is done or undone at the next start.

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    topology::{HOST, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{at, stream::Stream};

/// Everything an operator does to a network and a container, from the first to the last.
const SCRIPT: [&str; 12] = [
    "network create --subnet 10.81.0.0/24 first",
    "network create --subnet 10.82.0.0/24 second",
    "container create --name victim --network first --ip 10.81.0.9 -p 8080:80 --expose 80",
    "container start victim",
    "network connect second victim",
    "policy deny add 10.83.0.0/24 2001:db8::/32",
    "network disconnect first victim",
    "container stop victim",
    "policy deny rm 10.83.0.0/24 2001:db8::/32",
    "container rm victim",
    "network rm first",
    "network rm second",
];

/// What brings any half of the script to its end.
const RESET: [&str; 4] = [
    "container rm -f victim",
    "network rm -f first",
    "network rm -f second",
    "policy deny rm 10.83.0.0/24 2001:db8::/32",
];

/// Points tried in a run: every one in the long form.
fn stride() -> usize {
    if std::env::var_os("BASCULE_TEST_FULL").is_some() { 1 } else { 7 }
}

#[test]
fn a_crash_at_every_point_converges() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let bystander = agent.container("bystander", "n1", "-p 4000:40/udp");
    let _server = UdpServer::start(&bystander.ns, 40);
    let stream = Stream::start("the bystander", &net.outside, at(HOST, 4000));
    let quiet = snapshot(&net, &agent);
    let mut crashes = 0;
    for point in (1_usize..).step_by(stride()) {
        assert!(point < 1000, "the script has no end");
        agent.stop();
        agent.launch_with(&Settings::default().env("BASCULE_CRASH_AT", &point.to_string()));
        let survived = play(&mut agent);
        if survived {
            agent.stop();
        } else {
            assert_eq!(agent.wait_end(), 128 + 6, "it ends by abort; its log:\n{}", agent.log());
            crashes += 1;
        }
        agent.launch();
        agent.wait_ready();
        check(&net, &agent, point);
        for line in RESET {
            agent.cli(line.split(' '));
        }
        assert_eq!(snapshot(&net, &agent), quiet, "after a crash at point {point}");
        if survived {
            break;
        }
    }
    assert!(crashes > 5, "only {crashes} points were reached");
    stream.end();
}

/// Plays the script until the agent dies; true if it never does.
fn play(agent: &mut Agent) -> bool {
    let ready = wait::wait_for("an end of the start", wait::START, || {
        if agent.answers() {
            return Some(true);
        }
        agent.has_ended().then_some(false)
    });
    if !ready {
        return false;
    }
    for line in SCRIPT {
        let out = agent.cli(line.split(' '));
        // The client hears of the end a little before the parent does.
        if out.stderr.contains("socket") || out.stderr.contains("did not answer") {
            wait::wait_until("the agent's end", wait::SOON, || agent.has_ended());
        }
        if agent.has_ended() {
            return false;
        }
        assert!(out.ok(), "`bascule {line}` failed with {}: {}", out.code, out.stderr);
    }
    true
}

/// What is there after a restart is whole: a container that is said to run does run.
fn check(net: &Topology, agent: &Agent, point: usize) {
    let status = agent.api("GET", "/bascule/v1/status", None);
    assert_eq!(status.body["Failures"], serde_json::json!([]), "after point {point}: {status:?}");
    assert!(!agent.places.run().join("rcu-expedited").exists(), "after point {point}");
    let denied = agent.ok("policy deny ls -q");
    assert!(
        ["", "10.83.0.0/24\n2001:db8::/32"].contains(&denied.as_str()),
        "half a list: {denied}"
    );
    let in_xdp = net.host.sh(&format!("ip link show dev {UPLINK}")).contains("xdp");
    assert_eq!(in_xdp, !denied.is_empty(), "after point {point}, the list is: {denied}");
    let listed = agent.ok("container ls");
    if !listed.contains("victim") {
        traffic::refused(&net.outside, at(HOST, 8080));
        return;
    }
    let id = agent.inspect("container", "victim")["Id"].as_str().expect("an id").to_owned();
    let victim = bascule_tests::Container::open(agent, "victim", &id);
    let _server = TcpServer::start(&victim.ns, 80);
    if victim.ns.ifindex("eth0").is_some() {
        traffic::reaches(&net.outside, at(HOST, 8080));
    }
}

/// Everything of ours in the kernel, by name.
fn snapshot(net: &Topology, agent: &Agent) -> (Vec<String>, usize, String, String) {
    let routes = net.host.sh("ip -4 route show");
    let pins = agent.places.pins();
    // Pins of interfaces carry indices; their number is what has to stay.
    // That of the server of names is another one with each agent.
    let mut interfaces = net.host.interfaces();
    interfaces.sort();
    (interfaces, pins.len(), routes, agent.ok("network ls -q"))
}

/// The generation of the tables, and the file of their pin.
fn generation(net: &Topology, agent: &Agent) -> (u64, String) {
    let pins = agent.places.pins();
    let pin = pins.iter().find(|pin| pin.ends_with("/GENERATIONS")).expect("a pin");
    let path = agent.places.bpffs().join(pin).display().to_string();
    let shown = net.host.sh(&format!("bpftool -j map lookup pinned {path} key 0 0 0 0"));
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let bytes = shown["value"].as_array().expect("bytes").iter().map(|byte| {
        u8::from_str_radix(byte.as_str().unwrap_or("").trim_start_matches("0x"), 16)
            .expect("a byte")
    });
    let bytes: Vec<u8> = bytes.collect();
    (u64::from_le_bytes(bytes.try_into().expect("eight bytes")), path)
}

#[test]
fn what_died_amid_a_change_of_the_tables_is_ended_by_the_next() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let web = agent.container("web", "n1", "-p 8080:80");
    let _server = TcpServer::start(&web.ns, 80);
    let (before, pin) = generation(&net, &agent);
    assert_eq!(before % 2, 0, "nobody changes anything");
    agent.kill9();
    // As if it had been killed between the beginning of a change and its end: all goes on, and nothing is remembered.
    let bytes: Vec<String> = (before + 1).to_le_bytes().map(|byte| byte.to_string()).to_vec();
    net.host.sh(&format!("bpftool map update pinned {pin} key 0 0 0 0 value {}", bytes.join(" ")));
    traffic::reaches(&net.outside, at(HOST, 8080));
    agent.launch();
    agent.wait_ready();
    let (after, _) = generation(&net, &agent);
    assert!(after > before && after % 2 == 0, "{after} after {before}");
    traffic::reaches(&net.outside, at(HOST, 8080));
}
