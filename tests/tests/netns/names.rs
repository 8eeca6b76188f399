//! Names: containers ask their gateway, and are answered by who they are.

use std::{
    io::Write as _,
    net::{IpAddr, TcpStream, UdpSocket},
    process::Stdio,
    time::Duration,
};

use bascule_tests::{
    Agent, Container, Netns, Topology,
    agent::Settings,
    process::Killed,
    topology::{HOST, OUTSIDE},
    traffic::{TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

/// Asks a server, and gives what it says in short: lines of addresses or names.
#[track_caller]
pub fn dig(ns: &Netns, server: impl std::fmt::Display, question: &str) -> Vec<String> {
    let out = ns.sh(&format!("dig +short +time=5 +tries=2 @{server} {question}"));
    let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The code of an answer, and how many records it has.
#[track_caller]
pub fn status(ns: &Netns, server: impl std::fmt::Display, question: &str) -> (String, usize) {
    let out = ns.sh(&format!("dig +time=8 +tries=1 @{server} {question}"));
    let after = |key: &str| {
        let rest = out.split_once(key).unwrap_or_else(|| panic!("no {key} in {out}")).1;
        rest.split([',', ';', '\n']).next().unwrap_or_default().trim().to_owned()
    };
    (after("status:"), after("ANSWER:").parse().expect("a number"))
}

/// Whether nobody answers at an address.
fn is_silent(ns: &Netns, server: impl std::fmt::Display, question: &str) -> bool {
    !ns.try_sh(&format!("dig +time=1 +tries=1 @{server} {question}")).ok()
}

pub fn gateway(stage: &Stage, network: &str) -> Vec<IpAddr> {
    let shown = stage.agent.inspect("network", network);
    let all = shown["IPAM"]["Config"].as_array().expect("a list").clone();
    let gateways = all.iter().map(|pool| pool["Gateway"].as_str().expect("an address"));
    gateways.map(|text| text.parse().expect("an address")).collect()
}

pub fn found(container: &Container) -> Vec<String> {
    vec![container.address().to_string()]
}

/// A name server of others, in the outside.
pub struct Upstream {
    _child: Killed,
}

impl Upstream {
    pub fn start(ns: &Netns, at: impl std::fmt::Display, more: &[&str]) -> Self {
        let mut command = ns.command("dnsmasq");
        command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]);
        command.args(["--conf-file=/dev/null", "--pid-file=", "--bind-interfaces"]);
        command.arg(format!("--listen-address={at}")).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let upstream = Self { _child: Killed(command.spawn().expect("start dnsmasq")) };
        wait::wait_until("the upstream answers", wait::SOON, || !is_silent(ns, &at, "x.test"));
        upstream
    }
}

/// A host whose containers ask a server in the outside for what they do not know.
fn with_upstream(more: &[&str]) -> (Stage, Upstream) {
    let net = Topology::new();
    let upstream = Upstream::start(&net.outside, OUTSIDE, more);
    let server = OUTSIDE.to_string();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--dns", &server]));
    (Stage { agent, net }, upstream)
}

#[test]
fn s138_s141_s142_p104_moby_dns_001_aard_dns_001_aard_dns_003_netav_dns_003_names_whoever_holds_port_53()
 {
    let stage = Stage::dual();
    let host = &stage.net.host;
    // Somebody has the port, and the firewall lets nobody in.
    let _udp = UdpServer::start_at(host, at([0, 0, 0, 0].into(), 53));
    let _tcp = TcpServer::start_at(host, at([0, 0, 0, 0].into(), 53));
    host.sh("iptables -P INPUT DROP");
    host.sh("iptables -P FORWARD DROP");
    for proto in ["udp", "tcp"] {
        // Without neighbour discovery there is no IPv6 at all.
        host.sh(&format!("ip6tables -A INPUT -p {proto} --dport 53 -j DROP"));
    }
    stage.agent.network("n1", "--subnet 172.30.1.0/24 --subnet fd73::/64");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "--hostname Inner.example");
    let four = c2.address().to_string();
    let six = c2.address6().to_string();
    let id = stage.agent.inspect("container", "c2")["Id"].as_str().expect("an id")[..12].to_owned();
    for server in gateway(&stage, "n1") {
        for how in ["", "+tcp"] {
            for name in
                ["c2", "C2", "c2.", "c2.n1", "c2.N1.", "c2.dns.podman", &id, "inner.EXAMPLE"]
            {
                let ask = |kind| dig(&c1.ns, server, &format!("{how} {name} {kind}"));
                assert_eq!(ask("A"), [four.as_str()], "{name} {how} at {server}");
                assert_eq!(ask("AAAA"), [six.as_str()], "{name} {how} at {server}");
            }
        }
        assert_eq!(dig(&c1.ns, server, &format!("-x {four}")).last().unwrap(), "inner.example.");
        assert!(dig(&c1.ns, server, &format!("-x {six}")).contains(&"c2.n1.".to_owned()));
        // Known names have no other data, and say so at once (N28).
        assert_eq!(status(&c1.ns, server, "c2 MX"), ("NOERROR".into(), 0));
        // Three questions on one connection (AARD-DNS-003).
        let kept = c1.ns.sh(&format!("dig +tcp +keepopen +short @{server} c1 c2 c1.n1"));
        assert_eq!(kept.lines().count(), 3, "{kept}");
    }
    // The host's own server is asked by the host as ever, and not by containers.
    assert!(is_silent(host, "172.30.1.1", "c2"), "the host asks whoever has its port");
}

#[test]
fn s139_s140_s158_moby_dns_032_aard_dns_009_names_end_where_the_network_ends() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n2", "");
    let both = stage.agent.container("both", "n1", "");
    stage.agent.ok("network connect n2 both");
    let plain = stage.agent.container("plain", "bridge", "");
    let [g1, g2, g0] = ["n1", "n2", "bridge"].map(|name| gateway(&stage, name)[0]);
    let second = both.address_on("eth1").to_string();
    // Whoever shares a network is found at the address on it.
    assert_eq!(dig(&c1.ns, g1, "both"), found(&both));
    assert_eq!(dig(&c2.ns, g2, "both"), [second.as_str()]);
    assert_eq!(dig(&both.ns, g1, "c2"), found(&c2));
    assert_eq!(dig(&both.ns, g2, "c1.n1"), found(&c1));
    // Its own name is all of its addresses (AARD-DNS-009).
    assert_eq!(dig(&both.ns, g1, "both").len(), 2);
    // Another network's names, its gateway, and the default network's have no answer.
    assert_ne!(status(&c1.ns, g1, "c2 A").0, "NOERROR");
    assert_ne!(status(&c1.ns, g1, "c2.n2 A").0, "NOERROR");
    assert!(is_silent(&c1.ns, g2, "c2"), "the gateway of another network");
    assert!(is_silent(&plain.ns, g0, "plain"), "the default network has no names");
    stage.net.route_to_host("172.16.0.0/12");
    assert!(is_silent(&stage.net.outside, g1, "c1"), "nobody comes from outside");
    assert!(is_silent(&stage.net.outside, HOST, "c1"));
}

#[test]
fn s156_s159_s161_s162_an_alias_of_several_is_all_of_them_that_run() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let a = stage.agent.container("one", "n1", "--network-alias app");
    let b = stage.agent.container("two", "n1", "--network-alias app --network-alias other");
    let server = gateway(&stage, "n1")[0];
    let both = [a.address().to_string(), b.address().to_string()];
    assert_eq!(dig(&c1.ns, server, "app"), both);
    let first =
        || c1.ns.sh(&format!("dig +short @{server} app")).lines().next().unwrap().to_owned();
    let firsts: std::collections::BTreeSet<_> = (0..8).map(|_| first()).collect();
    assert_eq!(firsts.len(), 2, "each is the first one at times");
    assert_eq!(dig(&c1.ns, server, "other"), found(&b));
    stage.agent.ok("container stop one");
    // The very next question.
    assert_eq!(dig(&c1.ns, server, "app"), found(&b));
    assert_eq!(status(&c1.ns, server, "one A"), ("NXDOMAIN".into(), 0));
    stage.agent.ok("container start one");
    assert_eq!(dig(&c1.ns, server, "app").len(), 2);
    stage.agent.ok("container rm -f one two");
    assert_ne!(status(&c1.ns, server, "app A").0, "NOERROR");
}

#[test]
fn s146_s148_s153_s155_moby_dns_019_a_link_is_the_linking_containers_own() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "--link db:sql");
    let c2 = stage.agent.container("c2", "n1", "");
    let server = gateway(&stage, "n1")[0];
    assert_eq!(status(&c1.ns, server, "sql A"), ("NXDOMAIN".into(), 0), "nobody yet");
    let db = stage.agent.container("db", "n1", "");
    assert_eq!(dig(&c1.ns, server, "sql"), found(&db));
    assert_eq!(dig(&c1.ns, server, "SQL.n1"), found(&db));
    assert_ne!(status(&c2.ns, server, "sql A").0, "NOERROR", "it is nobody else's");
    stage.agent.ok("network disconnect n1 db");
    assert_eq!(status(&c1.ns, server, "sql A").0, "NXDOMAIN");
    stage.agent.ok("network connect --ip 172.18.0.77 n1 db");
    let moved = dig(&c1.ns, server, "sql");
    assert_eq!(moved, ["172.18.0.77"], "it follows");
}

#[test]
fn moby_dns_004_aard_dns_002_aard_dns_007_p107_other_names_are_asked_of_others() {
    let (stage, upstream) = with_upstream(&[
        "--address=/example.com/192.0.2.80",
        "--local=/gone.test/",
        "--local-ttl=60",
        "--txt-record=long.test,0123456789012345678901234567890123456789",
    ]);
    stage.agent.network("n1", "");
    stage.agent.network("inner", "--internal");
    let c1 = stage.agent.container("c1", "n1", "");
    let inner = stage.agent.container("inner", "inner", "");
    let server = gateway(&stage, "n1")[0];
    for how in ["", "+tcp", "+edns=0", "+noedns"] {
        assert_eq!(dig(&c1.ns, server, &format!("{how} www.example.com")), ["192.0.2.80"], "{how}");
    }
    assert_eq!(dig(&c1.ns, server, "long.test TXT").len(), 1);
    assert_eq!(status(&c1.ns, server, "x.gone.test A"), ("NXDOMAIN".into(), 0));
    // What it does not know it refuses, which is relayed (AARD-DNS-007).
    assert_eq!(status(&c1.ns, server, "who A").0, "REFUSED");
    // A network without a way out has its names, and no others (AARD-INT-001, in Docker's words).
    let internal = gateway(&stage, "inner")[0];
    assert_eq!(status(&inner.ns, internal, "www.example.com A").0, "SERVFAIL");
    assert_eq!(dig(&inner.ns, internal, "inner"), found(&inner));
    // What was heard is told again, counted down; the case is the client's.
    drop(upstream);
    assert_eq!(dig(&c1.ns, server, "www.example.com"), ["192.0.2.80"]);
    assert!(c1.ns.sh(&format!("dig @{server} WWW.example.com")).contains("WWW.example.com."));
    assert_eq!(status(&c1.ns, server, "never.example.com A").0, "SERVFAIL");
    assert_eq!(dig(&c1.ns, server, "c1"), found(&c1));
}

#[test]
fn moby_dns_009_n30_a_dead_server_is_no_wait() {
    let net = Topology::new();
    let _upstream = Upstream::start(&net.outside, OUTSIDE, &["--address=/example.com/192.0.2.80"]);
    let servers = format!("203.0.113.99,{OUTSIDE}");
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--dns", &servers]));
    let stage = Stage { agent, net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    for how in ["", "+tcp"] {
        let out =
            c1.ns.sh(&format!("dig {how} +short +time=3 +tries=1 @{server} a{how}.example.com"));
        assert_eq!(out.trim(), "192.0.2.80");
    }
}

#[test]
fn p105_n30_moby_dns_022_strange_clients_disturb_nobody() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let server = gateway(&stage, "n1")[0];
    // Connections that say half a word, and datagrams of no sense.
    let slow = c1.ns.run(|| {
        let mut slow: Vec<TcpStream> = Vec::new();
        for _ in 0..64 {
            if let Ok(mut stream) =
                TcpStream::connect_timeout(&(server, 53).into(), Duration::from_secs(5))
            {
                stream.write_all(&[0, 40, 1]).ok();
                slow.push(stream);
            }
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for length in 0..300 {
            let junk: Vec<u8> = (0..length).map(|at: usize| (at * 7 + length) as u8).collect();
            socket.send_to(&junk, (server, 53)).ok();
        }
        slow
    });
    for how in ["", "+tcp"] {
        assert_eq!(dig(&c2.ns, server, &format!("{how} c1")), found(&c1), "{how}");
    }
    drop(slow);
    assert_eq!(dig(&c1.ns, server, "c2"), found(&c2));
}

#[test]
fn n30_names_come_back_with_the_agent() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    assert_eq!(dig(&c1.ns, server, "c1"), found(&c1));
    stage.agent.kill9();
    assert!(is_silent(&c1.ns, server, "c1"));
    stage.agent.launch();
    stage.agent.wait_ready();
    assert_eq!(dig(&c1.ns, server, "c1"), found(&c1));
    // Somebody takes the way away: it is made again.
    stage.net.host.sh("ip link del bascule-names");
    wait::wait_until("there is a server again", wait::START, || !is_silent(&c1.ns, server, "c1"));
    stage.agent.stop();
    stage.agent.cleanup(&[]);
    assert!(!stage.net.host.interfaces().contains(&"bascule-names".to_owned()));
}

#[test]
fn p100_decisions_8_29_in_our_sandboxes_names_are_asked_at_127_0_0_11() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("inner", "--internal");
    stage.agent.network("flat", "-o bascule.l2=bpf");
    let c1 = stage.agent.container("c1", "n1", "");
    let _c2 = stage.agent.container("c2", "inner", "");
    let c3 = stage.agent.container("c3", "flat", "");
    let inner = stage.agent.container("inner", "inner", "");
    let plain = stage.agent.container("plain", "bridge", "");
    for (container, name) in [(&c1, "c1"), (&inner, "c2"), (&c3, "c3")] {
        for how in ["", "+tcp"] {
            assert_eq!(
                dig(&container.ns, "127.0.0.11", &format!("{how} {name}")).len(),
                1,
                "{name}"
            );
        }
        // Nothing else is behind the address, and the loopback device is as it was.
        assert!(
            TcpStream::connect_timeout(&at([127, 0, 0, 1].into(), 9).into(), wait::SOON).is_err()
        );
        assert!(container.ns.try_sh("ping -c 1 -W 1 127.0.0.1").ok());
        assert!(!container.ns.try_sh("ping -c 1 -W 1 127.0.0.11").ok());
    }
    // A server of the container's own has its port 53, on every address.
    let _own = UdpServer::start_at(&c1.ns, at([0, 0, 0, 0].into(), 53));
    assert_eq!(dig(&c1.ns, "127.0.0.11", "c1"), found(&c1));
    assert!(is_silent(&plain.ns, "127.0.0.11", "plain"), "the default network has no names");
    // The way is by whichever network is left.
    stage.agent.ok("network connect inner c1");
    stage.agent.ok("network disconnect n1 c1");
    assert_eq!(dig(&c1.ns, "127.0.0.11", "c2").len(), 1);
}

#[test]
fn p109_the_host_resolves_names_where_it_is_asked_to() {
    let net = Topology::new();
    let listen = Settings::default().arg(&["--dns-listen", "127.0.0.54:5300"]);
    let stage = Stage { agent: Agent::start_with(&net.host, listen), net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "--network-alias web");
    let own = c1.address().to_string();
    for name in ["c1", "C1.n1", "web", "web.N1."] {
        assert_eq!(stage.agent.ok(&format!("resolve {name}")), own, "{name}");
        for how in ["", "+tcp"] {
            let asked = dig(&stage.net.host, "127.0.0.54", &format!("-p 5300 {how} {name}"));
            assert_eq!(asked, [own.as_str()], "{name} {how}");
        }
    }
    assert!(stage.agent.ok(&format!("resolve {own}")).lines().any(|name| name == "c1.n1"));
    assert!(stage.agent.refused("resolve nobody").contains("no container has the name nobody"));
    assert_eq!(status(&stage.net.host, "127.0.0.54", "-p 5300 example.com").0, "REFUSED");
    stage.agent.ok("container stop c1");
    assert!(stage.agent.refused("resolve web").contains("does not run"));
}

#[test]
fn p106_moby_int_005_a_container_or_its_network_may_have_servers_of_its_own() {
    let stage = Stage::new();
    let _outside =
        Upstream::start(&stage.net.outside, OUTSIDE, &["--address=/example.com/192.0.2.80"]);
    stage.agent.network("n1", &format!("--dns {OUTSIDE}"));
    let c1 = stage.agent.container("c1", "n1", "");
    assert_eq!(dig(&c1.ns, gateway(&stage, "n1")[0], "www.example.com"), ["192.0.2.80"]);
    // A server inside a network without a way out is asked by those that name it.
    stage.agent.network("inner", "--internal --subnet 10.77.0.0/24");
    let server = stage.agent.container("server", "inner", "");
    let _inside =
        Upstream::start(&server.ns, server.address(), &["--address=/example.com/192.0.2.99"]);
    let of = |address: &str| format!("--dns {address}");
    let client = stage.agent.container("client", "inner", &of(&server.address().to_string()));
    let lost = stage.agent.container("lost", "inner", &of(&OUTSIDE.to_string()));
    let inner = gateway(&stage, "inner")[0];
    assert_eq!(dig(&client.ns, inner, "www.example.com"), ["192.0.2.99"]);
    assert_eq!(status(&lost.ns, inner, "www.example.com A").0, "SERVFAIL");
}

#[test]
fn d8_questions_are_counted_by_network_source_and_code() {
    let (stage, _upstream) = with_upstream(&["--address=/example.com/192.0.2.80"]);
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    for name in ["c1", "c1", "a.example.com", "who.test"] {
        c1.ns.sh(&format!("dig +tries=1 +time=8 @{server} {name}"));
    }
    let metrics = stage.agent.metrics();
    for (source, code, count) in
        [("local", "NOERROR", 2.0), ("upstream", "NOERROR", 1.0), ("upstream", "REFUSED", 1.0)]
    {
        let labels = [("network", "n1"), ("source", source), ("rcode", code)];
        let found = metrics.sum("bascule_dns_queries_total", &labels);
        assert!((found - count).abs() < 0.5, "{source} {code}: {found}");
    }
    let server = OUTSIDE.to_string();
    let asked = metrics.sum("bascule_dns_upstream_seconds_count", &[("server", &server)]);
    assert!(asked >= 2.0, "{asked}");
}

#[test]
fn d8_questions_are_counted_over_restarts_and_forgotten_with_their_network() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "");
    let ask = |agent: &Agent, name: &str, times: usize| {
        let found = agent.inspect("network", "n1")["IPAM"]["Config"][0]["Gateway"].clone();
        let server = found.as_str().expect("a gateway").to_owned();
        for _ in 0..times {
            c1.ns.sh(&format!("dig +tries=1 +time=8 @{server} {name}"));
        }
    };
    let counted = |agent: &Agent| {
        let labels = [("network", "n1"), ("source", "local"), ("rcode", "NOERROR")];
        agent.metrics().sum("bascule_dns_queries_total", &labels)
    };
    ask(&agent, "c1", 3);
    assert_eq!(counted(&agent) as u64, 3);
    agent.kill9();
    agent.launch();
    agent.wait_ready();
    assert_eq!(counted(&agent) as u64, 3, "what was told goes on after a kill");
    ask(&agent, "c1", 2);
    // Nobody asks for them before it stops.
    assert_eq!(agent.stop(), 0, "{}", agent.log());
    agent.launch();
    agent.wait_ready();
    assert_eq!(counted(&agent) as u64, 5, "what was not told yet goes on after a stop");
    agent.ok("container rm -f c1");
    agent.ok("network rm n1");
    let metrics = agent.metrics();
    assert!(!metrics.text.contains("network=\"n1\""), "{}", metrics.text);
    // Whoever has the index next begins at zero.
    for name in ["n2", "n3"] {
        agent.network(name, "");
        let of_it = agent.metrics().sum("bascule_dns_queries_total", &[("network", name)]);
        assert_eq!(of_it as u64, 0, "{name}");
    }
}
