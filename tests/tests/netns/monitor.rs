//! `bascule monitor`: what happens is told as it happens, by name, and packets are readable by Wireshark.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bascule_tests::{
    Agent, Container, capture,
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer},
    wait,
};
use serde_json::Value;

use crate::{Stage, at, names::Upstream};

/// A monitor that writes into a file, until the end of the test.
pub(crate) struct Monitor {
    child: Child,
    log: PathBuf,
}

impl Monitor {
    pub(crate) fn start(stage: &Stage, name: &str, args: &str) -> Self {
        Self::of("monitor", &stage.agent, name, args)
    }

    /// Starts another command that tells of events.
    pub(crate) fn of(verb: &str, agent: &Agent, name: &str, args: &str) -> Self {
        let log = agent.places.root().join(name);
        let mut command = agent.bascule();
        command.arg(verb).args(args.split_whitespace());
        let out = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stderr(out.try_clone().expect("a log")).stdout(out);
        Self { child: command.spawn().expect("bascule monitor"), log }
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// What was told that `wanted` says true of.
    fn find(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let text = self.text();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(wanted)
    }

    /// Does something again and again until it is told.
    #[track_caller]
    pub(crate) fn expect(
        &self,
        what: &str,
        act: impl Fn(),
        wanted: impl Fn(&Value) -> bool + Copy,
    ) -> Value {
        wait::wait_until(what, wait::START, || {
            act();
            self.find(wanted).is_some()
        });
        self.find(wanted).expect("just found")
    }
}

impl Drop for Monitor {
    #[expect(clippy::print_stderr, reason = "what is printed is shown with the test's failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the monitor said:\n{}", self.text());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What Wireshark reads of a file: some fields of each packet.
pub(crate) fn packets<const N: usize>(file: &Path, fields: [&str; N]) -> Vec<[String; N]> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(file).args(["-T", "fields", "-E", "separator=|"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let out = tshark.output().expect("tshark (Debian's package `tshark`)");
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = |line: &str| {
        let mut values = line.split('|').map(str::to_owned);
        std::array::from_fn(|_| values.next().unwrap_or_else(|| panic!("fields of {line}")))
    };
    text.lines().map(line).collect()
}

pub(crate) fn is(value: &Value, pairs: &[(&str, &str)]) -> bool {
    pairs.iter().all(|(key, wanted)| value[key] == *wanted)
}

#[test]
fn p80_d2_drops_connections_and_lifecycle_are_told_with_names() {
    let stage = Stage::new();
    stage.agent.network("blue", "");
    stage.agent.network("green", "--subnet 10.88.0.0/24");
    let web = stage.agent.container("web", "blue", "-p 8080:80");
    let other = stage.agent.container("other", "green", "");
    let _server = TcpServer::start(&web.ns, 80);
    let all = Monitor::start(&stage, "all", "-o json");
    let some = Monitor::start(&stage, "some", "--type drop --from other --reason policy_isolation");

    let dropped = all.expect(
        "a drop",
        || drop(traffic::ping(&web.ns, other.address(), 1)),
        |seen| is(seen, &[("Type", "drop"), ("From", "web"), ("To", "other")]),
    );
    for (key, value) in [
        ("Reason", "policy_isolation"),
        ("Verdict", "dropped"),
        ("Proto", "icmp"),
        ("Network", "blue"),
        ("Container", "web"),
        ("Direction", "out"),
    ] {
        assert_eq!(dropped[key], value, "{dropped}");
    }
    assert!(dropped["Interface"].as_str().is_some_and(|name| name.starts_with("bsc")), "{dropped}");
    assert!(dropped["Frame"].is_null(), "nobody asked for it: {dropped}");

    let opened = all.expect(
        "a connection",
        || {
            traffic::reaches(&stage.net.outside, at(HOST, 8080));
        },
        |seen| is(seen, &[("Type", "open"), ("From", "outside"), ("To", "web")]),
    );
    assert_eq!(opened["Published"], "0.0.0.0:8080", "{opened}");
    assert_eq!(opened["TranslatedDestination"], format!("{}:80", web.address()), "{opened}");
    all.expect("its end", || (), |seen| is(seen, &[("Type", "close"), ("To", "web")]));

    stage.agent.network("later", "");
    all.expect("a network", || (), |seen| is(seen, &[("Type", "lifecycle"), ("Network", "later")]));

    // Others hear of what they asked for, and people read a line.
    wait::wait_until("a line for people", wait::START, || {
        drop(traffic::ping(&other.ns, web.address(), 1));
        some.text().contains(" -> web ")
    });
    let text = some.text();
    assert!(text.lines().all(|line| line.contains("drop      other ")), "{text}");
    assert!(text.contains("policy_isolation: The destination is on another network."), "{text}");
    for (wrong, why) in [
        ("monitor --type nosuch", "none of drop, open, close, lifecycle, policy, trace, dns"),
        ("monitor --reason nonsense", "none of policy_icc"),
        ("monitor --port http", "it is not a number"),
    ] {
        assert!(stage.agent.refused(wrong).contains(why), "{wrong}");
    }
}

#[test]
fn p80_drops_that_come_too_fast_are_counted_and_said() {
    let (stage, c1) = Stage::with_one("");
    let drops = Monitor::start(&stage, "drops", "--type drop -o json");
    let bridge = stage.net.host.mac(&crate::bridge_of(&stage, "n1"));
    let own = c1.ns.mac("eth0");
    let spoofed = |source: &str| {
        let frame = Frame::udp(&format!("{source}:7"), &format!("{OUTSIDE}:9"));
        frame.macs(own, bridge).bytes()
    };
    // What came before is told before.
    let marker = |seen: &Value| is(seen, &[("Source", "203.0.113.99:7")]);
    let mark = || capture::inject(&c1.ns, "eth0", &spoofed("203.0.113.99"));
    drops.expect("a drop", mark, marker);
    let counted = || stage.agent.metrics().drops("c1", "spoofed_ip");
    let told = || {
        let (mut told, mut lost) = (0, 0);
        for line in drops.text().lines() {
            let seen: Value = serde_json::from_str(line).expect("JSON");
            told += u64::from(seen["Type"] == "drop");
            lost += seen["Count"].as_u64().unwrap_or_default();
        }
        (told, lost)
    };
    let (before, (told_before, _)) = (counted(), told());
    let flood = (0..20_000).map(|_| spoofed("203.0.113.98"));
    capture::inject_all(&c1.ns, "eth0", flood);
    let dropped = counted() - before;
    assert!(dropped > 5_000, "{dropped}");
    wait::wait_equal("every drop is told, or said to be lost", wait::SOON, &dropped, || {
        let (told, lost) = told();
        told - told_before + lost
    });
    assert!(told().1 > 0, "a processor tells a thousand a second");
}

#[test]
fn p110_p80_questions_about_names_are_told_to_those_who_want_them() {
    let stage = Stage::new();
    let server = OUTSIDE.to_string();
    let knows = ["--address=/example.com/192.0.2.80", "--local-ttl=60"];
    let _upstream = Upstream::start(&stage.net.outside, OUTSIDE, &knows);
    stage.agent.network("n1", &format!("--dns {server}"));
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let own = c2.address().to_string();
    let dns = Monitor::start(&stage, "dns", "--dns -o json");
    let other = Monitor::start(&stage, "other", "-o json");
    let line = Monitor::start(&stage, "line", "--dns --from c1");
    let asks = |from: &Container, question: &str| {
        from.ns.sh(&format!("dig +tries=1 +time=8 @127.0.0.11 {question}"));
    };
    let known = dns.expect(
        "a question about a container",
        || asks(&c1, "C2.n1"),
        |seen| is(seen, &[("Query", "C2.n1"), ("Code", "NOERROR")]),
    );
    let source = c1.address().to_string();
    for (key, value) in [
        ("Type", "dns"),
        ("From", "c1"),
        ("Network", "n1"),
        ("Source", &source),
        ("Destination", "127.0.0.11:53"),
        ("Proto", "udp"),
        ("QueryType", "A"),
        ("AnsweredBy", "local"),
    ] {
        assert_eq!(known[key], value, "{known}");
    }
    assert_eq!(known["Answers"], serde_json::json!([own]), "{known}");
    for (from, question, wanted) in [
        (&c1, "+tcp c2", [("Query", "c2"), ("Proto", "tcp"), ("AnsweredBy", "local")]),
        (&c2, "www.example.com", [("From", "c2"), ("AnsweredBy", "upstream"), ("Code", "NOERROR")]),
        (&c1, "www.example.com", [("From", "c1"), ("AnsweredBy", "cache"), ("Code", "NOERROR")]),
        (&c1, "who.test", [("Query", "who.test"), ("AnsweredBy", "upstream"), ("Code", "REFUSED")]),
        (&c1, "c2 AAAA", [("Query", "c2"), ("QueryType", "AAAA"), ("Code", "NOERROR")]),
    ] {
        asks(from, question);
        dns.expect(question, || (), |seen| is(seen, &wanted));
    }
    wait::wait_until("a line for people", wait::START, || {
        asks(&c1, "c2");
        line.text().contains(&format!(" dns       c1 {source}: c2 A: NOERROR (local) {own}\n"))
    });
    assert!(!line.text().contains("dns       c2 "), "{}", line.text());
    // Whoever does not ask for it does not hear of it; it came before this.
    stage.agent.network("later", "");
    other.expect("a network", || (), |seen| is(seen, &[("Network", "later")]));
    assert!(!other.text().contains("\"dns\""), "{}", other.text());
}

#[test]
fn p90_dropped_packets_are_written_for_wireshark_with_interface_and_reason() {
    let (stage, c1) = Stage::with_one("");
    stage.agent.network("n2", "--subnet 10.88.0.0/24");
    let file = stage.agent.places.root().join("drops.pcapng");
    let args = format!("--type drop --from c1 --count 3 --write {}", file.display());
    let mut monitor = Monitor::start(&stage, "monitor", &args);
    let away = std::net::Ipv4Addr::new(10, 88, 0, 9);
    wait::wait_until("three drops", wait::START, || {
        drop(traffic::ping(&c1.ns, away, 1));
        monitor.child.try_wait().expect("a child").is_some()
    });
    let fields = ["frame.interface_name", "ip.src", "ip.dst", "icmp.type", "frame.comment"];
    let lines = packets(&file, fields);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let own = c1.address().to_string();
    for [interface, source, destination, kind, comment] in &lines {
        assert!(interface.starts_with("bsc"), "{lines:?}");
        assert_eq!([source, destination, kind], [&own, "10.88.0.9", "8"], "{lines:?}");
        assert!(comment.starts_with("dropped out of c1: policy_isolation: "), "{lines:?}");
    }
}
