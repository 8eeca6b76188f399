//! The deny list: who is on it reaches nothing, by whichever hook of an uplink.

use std::net::Ipv4Addr;

use bascule_tests::{
    Agent, Netns, Topology,
    agent::Settings,
    capture::inject,
    foreign::Foreign,
    frame::Frame,
    topology::{HOST, NEIGHBOUR, UPLINK},
    traffic::{self, TcpServer},
    tunnel::Tunnel,
    wait,
};
use serde_json::{Value, json};

use crate::{Stage, at};

const LIST: &str = "/bascule/v1/policy/deny";

/// What an uplink says about the list in `status`.
fn mode(agent: &Agent, uplink: &str) -> String {
    let status: Value = serde_json::from_str(&agent.ok("status --output json")).expect("JSON");
    let uplinks = status["Uplinks"].as_array().expect("a list").clone();
    let found = uplinks.iter().find(|found| found["Name"] == uplink).expect("the uplink");
    found["Deny"].as_str().unwrap_or_default().to_owned()
}

/// Packets and bytes that were dropped for a prefix.
fn dropped(agent: &Agent, prefix: &str) -> (u64, u64) {
    let text = agent.ok("policy deny ls --output json");
    let list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let found = list.iter().find(|denial| denial["Prefix"] == prefix).expect("on the list");
    let number = |key: &str| found[key].as_u64().expect("a number");
    (number("Packets"), number("Bytes"))
}

/// Identifier of the program in XDP of an interface, if there is one.
fn program(ns: &Netns, interface: &str) -> Option<String> {
    let shown = ns.sh(&format!("ip -d link show dev {interface}"));
    let at = shown.find("prog/xdp id ")?;
    shown[at..].split_whitespace().nth(2).map(str::to_owned)
}

fn pings6(ns: &Netns, to: &str) -> bool {
    ns.try_sh(&format!("ping -6 -n -c 2 -i 0.2 -W 1 {to}")).ok()
}

#[test]
fn a_denied_neighbour_reaches_neither_host_nor_published_port_and_others_do() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let (host, neighbour) = (&stage.net.host, &stage.net.neighbour);
    let _published = TcpServer::start(&c1.ns, 80);
    let _own = TcpServer::start(host, 22);
    traffic::reaches(neighbour, at(HOST, 8080));
    traffic::reaches(neighbour, at(HOST, 22));
    assert_eq!((program(host, UPLINK), mode(&stage.agent, UPLINK)), (None, String::new()));

    let added = stage.agent.ok(&format!("policy deny add {NEIGHBOUR} --comment noise"));
    assert_eq!(added, NEIGHBOUR.to_string());
    assert_eq!(mode(&stage.agent, UPLINK), "native", "a veth runs XDP itself");
    traffic::unreachable(neighbour, at(HOST, 8080));
    traffic::unreachable(neighbour, at(HOST, 22));
    let ping = traffic::ping_with(neighbour, HOST, 3, "-i 0.2 -W 0.5 -s 56");
    assert_eq!(ping.received, 0, "{}", ping.text);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&stage.net.outside, at(HOST, 22));
    // Nothing answers a container either that asks somebody denied.
    traffic::does_not_answer(&c1.ns, NEIGHBOUR);

    let prefix = format!("{NEIGHBOUR}/32");
    let (packets, bytes) = dropped(&stage.agent, &prefix);
    assert!(packets >= 5 && bytes >= 3 * 84, "{packets} packets, {bytes} bytes");
    let metrics = stage.agent.metrics();
    let labels = [("prefix", prefix.as_str())];
    assert!(metrics.sum("bascule_deny_packets_total", &labels) >= packets as f64);
    assert!(metrics.sum("bascule_deny_bytes_total", &labels) >= bytes as f64);
    assert!(metrics.drops_anywhere("deny_cidr") >= packets);
    let labels = [("iface", UPLINK), ("hook", "xdp"), ("mode", "native"), ("program", "deny")];
    assert_eq!(metrics.sum("bascule_program_info", &labels), 1.0);
    wait::wait_until("the log names the reason and the source", wait::SOON, || {
        let log = stage.agent.log();
        log.lines().any(|line| line.contains("deny_cidr") && line.contains("198.51.100.9"))
    });
    assert!(stage.agent.ok("policy deny ls").contains("noise"));

    assert_eq!(stage.agent.ok(&format!("policy deny rm {prefix}")), prefix);
    traffic::reaches(neighbour, at(HOST, 8080));
    assert_eq!((program(host, UPLINK), mode(&stage.agent, UPLINK)), (None, String::new()));
    assert_eq!(stage.agent.ok("policy deny ls -q"), "");
    // A total is a total: what was dropped for a prefix that is gone stays in it.
    assert!(stage.agent.metrics().drops_anywhere("deny_cidr") >= packets);
}

#[test]
fn ipv6_prefixes_are_denied_and_the_longest_one_counts() {
    let stage = Stage::new();
    let net = &stage.net;
    net.host.sh(&format!("ip addr add 2001:db8:1::1/64 dev {UPLINK} nodad"));
    net.neighbour.sh("ip addr add 2001:db8:1::9/64 dev eth0 nodad");
    net.router.sh("ip addr add 2001:db8:1::fe/64 dev lan0 nodad");
    wait::wait_until("everybody has IPv6", wait::SOON, || {
        pings6(&net.neighbour, "2001:db8:1::1") && pings6(&net.router, "2001:db8:1::1")
    });
    stage.agent.ok("policy deny add 2001:db8:1::9 2001:db8:1:0::8/125 2001:db8:2::/48");
    assert!(!pings6(&net.neighbour, "2001:db8:1::1"), "denied");
    assert!(pings6(&net.router, "2001:db8:1::1"), "not denied");
    assert!(dropped(&stage.agent, "2001:db8:1::9/128").0 >= 2);
    assert_eq!(dropped(&stage.agent, "2001:db8:1::8/125"), (0, 0));
    stage.agent.ok("policy deny rm 2001:db8:1::9");
    assert!(!pings6(&net.neighbour, "2001:db8:1::1"), "the shorter prefix still denies");
    assert!(dropped(&stage.agent, "2001:db8:1::8/125").0 >= 2);
    stage.agent.ok("policy deny rm 2001:db8:1::8/125");
    assert!(pings6(&net.neighbour, "2001:db8:1::1"));
    assert_eq!(stage.agent.ok("policy deny ls -q"), "2001:db8:2::/48");
}

#[test]
fn a_tag_hides_nobody() {
    let stage = Stage::new();
    let (host, neighbour) = (&stage.net.host, &stage.net.neighbour);
    stage.agent.ok("policy deny add 10.7.0.0/28");
    let send = |src: &str, tags: usize| {
        let frame = Frame::udp(src, &format!("{HOST}:8053")).data(b"tagged");
        let mut bytes = frame.macs(neighbour.mac("eth0"), host.mac(UPLINK)).bytes();
        for _ in 0..tags {
            bytes.splice(12..12, [0x81, 0, 0, 7]);
        }
        inject(neighbour, "eth0", &bytes);
    };
    for tags in 0..3 {
        send("10.7.0.9:9", tags);
        send("10.7.0.16:9", tags);
    }
    wait::wait_until("those of the prefix are counted", wait::SOON, || {
        dropped(&stage.agent, "10.7.0.0/28").0 >= 3
    });
    let bytes = 3 * (20 + 8 + 6);
    assert_eq!(dropped(&stage.agent, "10.7.0.0/28"), (3, bytes), "from the IP header on");
}

/// A host whose uplink is a macvlan, whose driver knows nothing of XDP.
fn macvlan() -> (Agent, Topology) {
    let net = Topology::new();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--uplink", "mv0"]));
    net.host.sh(&format!("ip addr del {HOST}/24 dev {UPLINK}"));
    // It would answer for the macvlan's address, too.
    net.host.sh(&format!("ip link set {UPLINK} arp off"));
    net.host.sh(&format!("ip link add link {UPLINK} name mv0 type macvlan mode bridge"));
    net.host.sh(&format!("ip addr add {HOST}/24 dev mv0"));
    net.host.sh("ip link set mv0 up");
    wait::wait_until("the neighbour reaches the host", wait::SOON, || {
        traffic::ping(&net.neighbour, HOST, 1).received == 1
    });
    (agent, net)
}

#[test]
fn where_the_driver_cannot_the_kernel_runs_the_list() {
    let (agent, net) = macvlan();
    agent.ok(&format!("policy deny add {NEIGHBOUR}"));
    assert_eq!(mode(&agent, "mv0"), "generic");
    traffic::does_not_answer(&net.neighbour, HOST);
    assert!(dropped(&agent, "198.51.100.9/32").0 >= 2);
    agent.ok(&format!("policy deny rm {NEIGHBOUR}"));
    traffic::answers(&net.neighbour, HOST);
    assert_eq!(program(&net.host, "mv0"), None);
}

/// Whether somebody there pings and reaches a published port of the host.
fn gets_in(from: &Netns, to: Ipv4Addr) -> (bool, bool) {
    let pings = traffic::ping_with(from, to, 2, "-i 0.2 -W 0.5").received > 0;
    (pings, traffic::Conversation::open(from, at(to, 8080)).is_ok())
}

#[test]
fn a_device_without_ethernet_looks_at_the_list_in_tc() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80");
    let _published = TcpServer::start(&c1.ns, 80);
    let office = Netns::new("office");
    let _tunnel = Tunnel::start(&stage.net.host, &office, "vpn0");
    let (own, far) = (Ipv4Addr::new(10, 99, 7, 1), Ipv4Addr::new(10, 99, 7, 2));
    for (ns, own, far) in [(&stage.net.host, own, far), (&office, far, own)] {
        ns.sh(&format!("ip addr add {own}/32 peer {far} dev vpn0"));
    }
    office.sh("ip addr add 10.99.8.1/32 dev lo");
    wait::wait_until("the tunnel is an uplink", wait::SOON, || {
        gets_in(&office, own) == (true, true)
    });
    stage.agent.ok("policy deny add 10.99.7.2/31 2001:db8::/32");
    assert_eq!(mode(&stage.agent, "vpn0"), "tc");
    assert_eq!(mode(&stage.agent, UPLINK), "native", "where it can be, it is in XDP");
    assert_eq!(gets_in(&office, own), (false, false));
    traffic::reaches(&stage.net.neighbour, at(HOST, 8080));
    let (packets, bytes) = dropped(&stage.agent, "10.99.7.2/31");
    assert!(packets >= 3 && bytes >= 2 * 84 + 40, "{packets} packets, {bytes} bytes");
    assert!(stage.agent.metrics().drops_anywhere("deny_cidr") >= packets);
    stage.agent.kill9();
    assert_eq!(gets_in(&office, own), (false, false), "while no agent runs");
    stage.agent.restart();
    assert_eq!(gets_in(&office, own), (false, false), "under the next agent");
    assert!(dropped(&stage.agent, "10.99.7.2/31").0 > packets);
    stage.agent.ok("policy deny rm 10.99.7.2/31 2001:db8::/32");
    assert_eq!(gets_in(&office, own), (true, true));
}

#[test]
fn where_somebody_else_has_xdp_the_list_is_looked_at_in_tc() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80");
    let _published = TcpServer::start(&c1.ns, 80);
    let theirs = Foreign::xdp(&stage.net.host, UPLINK);
    let neighbour = stage.net.neighbour.clone();
    assert_eq!(gets_in(&neighbour, HOST), (true, true));
    stage.agent.ok(&format!("policy deny add {NEIGHBOUR}"));
    assert_eq!(mode(&stage.agent, UPLINK), "tc");
    assert_eq!(gets_in(&neighbour, HOST), (false, false));
    assert!(dropped(&stage.agent, "198.51.100.9/32").0 >= 3);
    traffic::answers(&stage.net.outside, HOST);
    let status = stage.agent.api("GET", "/bascule/v1/status", None);
    assert_eq!(status.body["Failures"], json!([]), "it is no failure");
    let before = theirs.runs();
    traffic::answers(&stage.net.outside, HOST);
    assert!(theirs.runs() > before, "their program goes on");
    stage.agent.restart();
    assert_eq!(mode(&stage.agent, UPLINK), "tc");
    // Once they are gone, we take their place. Nothing tells of that; the next look for whatever reason finds it.
    drop(theirs);
    stage.net.host.sh(&format!("ip link set dev {UPLINK} alias ours"));
    wait::wait_until("the list is looked at in XDP", wait::START, || {
        mode(&stage.agent, UPLINK) == "native"
    });
    assert_eq!(gets_in(&neighbour, HOST), (false, false));
}

#[test]
fn n3_the_list_drops_while_no_agent_runs_and_outlives_its_restart() {
    let (mut stage, _c1) = Stage::with_one("");
    stage.agent.ok(&format!("policy deny add {NEIGHBOUR} 2001:db8::/32"));
    traffic::does_not_answer(&stage.net.neighbour, HOST);
    let before = dropped(&stage.agent, "198.51.100.9/32").0;
    let first = program(&stage.net.host, UPLINK);
    stage.agent.kill9();
    traffic::does_not_answer(&stage.net.neighbour, HOST);
    traffic::answers(&stage.net.outside, HOST);
    stage.agent.restart();
    assert_eq!(mode(&stage.agent, UPLINK), "native");
    let second = program(&stage.net.host, UPLINK);
    assert!(second.is_some() && second == first, "one program of one build: {first:?}, {second:?}");
    traffic::does_not_answer(&stage.net.neighbour, HOST);
    assert!(dropped(&stage.agent, "198.51.100.9/32").0 >= before + 4, "counters go on");
    assert_eq!(stage.agent.ok("policy deny ls -q"), "198.51.100.9/32\n2001:db8::/32");
    // Gone while the agent was away: it sees to it when it is back.
    stage.agent.kill9();
    assert!(stage.agent.cleanup(&[]).ok());
    assert_eq!(program(&stage.net.host, UPLINK), None, "clean-up takes it off");
    traffic::answers(&stage.net.neighbour, HOST);
    stage.agent.restart();
    traffic::does_not_answer(&stage.net.neighbour, HOST);
}

#[test]
fn a_new_uplink_is_guarded_too() {
    let stage = Stage::new();
    stage.agent.ok("policy deny add 203.0.113.128/25");
    let peer = Netns::new("peer");
    bascule_tests::topology::veth(&stage.net.host, "up1", &peer, "eth0");
    stage.net.host.sh("ip addr add 203.0.113.129/25 dev up1");
    peer.sh("ip addr add 203.0.113.130/25 dev eth0");
    wait::wait_until("the new uplink runs the list", wait::SOON, || {
        program(&stage.net.host, "up1").is_some()
    });
    traffic::does_not_answer(&peer, Ipv4Addr::new(203, 0, 113, 129));
    assert!(dropped(&stage.agent, "203.0.113.128/25").0 >= 2);
}

#[test]
fn the_api_takes_all_of_a_request_or_nothing() {
    let stage = Stage::new();
    let deny = |body: &Value| stage.agent.api("POST", LIST, Some(body));
    let list = || stage.agent.api("GET", LIST, None).body;
    assert_eq!(list(), json!([]));
    let body = json!({"Prefixes": ["192.0.2.0/24", "2001:db8::/32"], "Comment": "both"});
    assert_eq!(deny(&body).status, 204);
    let found = list();
    assert_eq!(
        (&found[0]["Prefix"], &found[1]["Prefix"]),
        (&json!("192.0.2.0/24"), &json!("2001:db8::/32"))
    );
    assert_eq!((&found[0]["Comment"], &found[0]["Packets"]), (&json!("both"), &json!(0)));
    for (prefixes, status, message) in [
        (json!(["203.0.113.0/24", "192.0.2.0/24"]), 409, "already on the deny list"),
        (json!(["203.0.113.0/24", "192.0.2.1/24"]), 400, "did you mean 192.0.2.0/24?"),
        (json!(["203.0.113.0/24", "nonsense"]), 400, "neither a prefix"),
        (json!(["203.0.113.0/24", "0.0.0.0/0"]), 403, "it is everyone"),
        (json!([]), 400, "no prefix"),
    ] {
        let answer = deny(&json!({"Prefixes": prefixes}));
        assert_eq!(answer.status, status, "{prefixes}: {}", answer.message());
        assert!(answer.message().contains(message), "{prefixes}: {}", answer.message());
    }
    assert_eq!(list().as_array().map(Vec::len), Some(2), "nothing of a refused request is kept");
    let undeny =
        |prefixes: Value| stage.agent.api("DELETE", LIST, Some(&json!({"Prefixes": prefixes})));
    assert_eq!(undeny(json!(["192.0.2.0/24", "203.0.113.0/24"])).status, 404);
    assert_eq!(undeny(json!(["192.0.2.0/24", "2001:db8::/32"])).status, 204);
    assert_eq!(list(), json!([]));
}

#[test]
fn the_command_line_says_what_is_wrong_and_what_to_do() {
    let stage = Stage::new();
    let agent = &stage.agent;
    agent.ok("policy deny add 192.0.2.0/24");
    for (line, words) in [
        ("add 192.0.2.0/24", "192.0.2.0/24 is already on the deny list"),
        ("add 192.0.2.1/24", "it has bits of a host; did you mean 192.0.2.0/24?"),
        ("add 192.0.2.0/40", "it is neither a prefix"),
        ("add 198.51.100.0/24 198.51.100.0/24", "198.51.100.0/24 is given twice"),
        ("add 0.0.0.0/0", "--force"),
        ("add ::/0", "it is everyone, you too"),
        ("rm 203.0.113.0/24", "203.0.113.0/24 is not on the deny list"),
    ] {
        let refused = agent.refused(&format!("policy deny {line}"));
        assert!(refused.contains(words), "{line}: {refused}");
    }
    assert_eq!(agent.cli(["policy", "deny", "add"]).code, 2);
    assert_eq!(agent.ok("policy deny ls -q"), "192.0.2.0/24");
    assert!(agent.cli(["policy", "deny", "--help"]).stdout.contains("Examples:"));
}
