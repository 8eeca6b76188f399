//! `bascule why`: what it says of a packet, held against what becomes of a real one.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use bascule::kernel::bpf::{Pins, Tables};
use bascule_tests::{
    Agent, Container, Netns,
    capture::inject,
    frame::Frame,
    process,
    topology::{HOST, NEIGHBOUR, OUTSIDE, ROUTER, UPLINK},
    traffic::{TcpServer, UdpServer, udp},
    wait,
};
use serde_json::{Value, json};

use crate::{Stage, at};

const ICC_OFF: &str = "-o com.docker.network.bridge.enable_icc=false";

/// What `bascule why` says.
#[track_caller]
fn why(agent: &Agent, line: &str) -> Value {
    let text = agent.ok(&format!("--output json why {line}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("why {line}: {error}: {text}"))
}

fn word<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer[key].as_str().unwrap_or_default()
}

/// What a real packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Answer,
    Refusal,
    Silence,
}

/// A real packet that is the one asked about.
#[derive(Clone, Copy)]
enum Send {
    Ping(IpAddr),
    Tcp(SocketAddr),
    Udp(SocketAddr),
}

fn send(ns: &Netns, what: Send) -> Met {
    match what {
        Send::Ping(to) => {
            let answered = ns.try_sh(&format!("ping -n -c 1 -W 1 {to}")).ok();
            if answered { Met::Answer } else { Met::Silence }
        }
        Send::Tcp(to) => {
            match ns.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(900))) {
                Ok(_) => Met::Answer,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Met::Refusal,
                Err(_) => Met::Silence,
            }
        }
        Send::Udp(to) => {
            let asked = match to {
                SocketAddr::V4(to) => udp::try_exchange(ns, to, 10).map(drop),
                SocketAddr::V6(to) => udp::try_exchange(ns, to, 10).map(drop),
            };
            match asked {
                Ok(()) => Met::Answer,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Met::Refusal,
                Err(_) => Met::Silence,
            }
        }
    }
}

/// Asks, sends, and demands that both agree; and that it is what the test expects.
#[track_caller]
fn agree(agent: &Agent, from: &Netns, line: &str, what: Send, verdict: &str, reason: &str) {
    let answer = why(agent, line);
    let said = (word(&answer, "Verdict"), word(&answer, "Reason"));
    assert_eq!(said, (verdict, reason), "why {line}: {answer:#}");
    if reason.is_empty() {
        // A first packet may have to wait for a neighbour's address, and a loaded machine for anything.
        let met = (0..3).map(|_| send(from, what)).find(|met| *met != Met::Silence);
        let met = met.unwrap_or(Met::Silence);
        let nobody = answer["Remarks"].to_string().contains("no process of the host listens");
        let expected = if nobody { Met::Refusal } else { Met::Answer };
        assert_eq!(met, expected, "why {line}: {answer:#}");
        return;
    }
    let before = agent.metrics().drops_anywhere(reason);
    assert_eq!(send(from, what), Met::Silence, "why {line}: {answer:#}");
    wait::wait_until(&format!("the packet of `why {line}` is counted"), wait::SOON, || {
        agent.metrics().drops_anywhere(reason) > before
    });
    assert!(!word(&answer, "Remedy").is_empty() && !word(&answer, "Explanation").is_empty());
}

fn tcp(to: impl Into<IpAddr>, port: u16) -> Send {
    Send::Tcp(SocketAddr::new(to.into(), port))
}

fn udp(to: impl Into<IpAddr>, port: u16) -> Send {
    Send::Udp(SocketAddr::new(to.into(), port))
}

fn ping(to: impl Into<IpAddr>) -> Send {
    Send::Ping(to.into())
}

#[test]
fn it_tells_what_containers_reach_of_each_other() {
    let stage = Stage::new();
    let agent = &stage.agent;
    agent.network("open", "");
    agent.network("quiet", ICC_OFF);
    let c1 = agent.container("c1", "open", "");
    let c2 = agent.container("c2", "open", "-p 8080:80 -p 8053:53/udp");
    let db = agent.container("db", "quiet", "--expose 5432");
    let app = agent.container("app", "quiet", "--link db:db");
    let other = agent.container("other", "quiet", "");
    let _web = TcpServer::start(&c2.ns, 80);
    let _dns = UdpServer::start(&c2.ns, 53);
    let _db = TcpServer::start(&db.ns, 5432);
    let _ssh = TcpServer::start(&stage.net.host, 22);
    let (c2ip, dbip) = (c2.address(), db.address());

    agree(agent, &c1.ns, "c1 c2", ping(c2ip), "delivered", "");
    agree(agent, &c1.ns, "c1 c2:80/tcp", tcp(c2ip, 80), "delivered", "");
    agree(agent, &c1.ns, &format!("c1 {c2ip}:53/udp"), udp(c2ip, 53), "delivered", "");
    agree(agent, &other.ns, "other db:5432", tcp(dbip, 5432), "dropped", "policy_icc");
    agree(agent, &app.ns, "app db:5432", tcp(dbip, 5432), "delivered", "");
    agree(agent, &app.ns, "app db", ping(dbip), "dropped", "policy_icc");
    agree(agent, &c1.ns, "c1 db", ping(dbip), "dropped", "policy_isolation");
    agree(agent, &c1.ns, "c1 db:5432/tcp", tcp(dbip, 5432), "dropped", "policy_isolation");
    // A published port: from another network, from its own, from itself.
    let published = format!("{HOST}:8080");
    for (from, name) in [(&other, "other"), (&c1, "c1"), (&c2, "c2")] {
        let line = format!("{name} {published}");
        agree(agent, &from.ns, &line, tcp(HOST, 8080), "delivered", "");
    }
    agree(agent, &other.ns, &format!("other {HOST}:8053/udp"), udp(HOST, 8053), "delivered", "");
    // Ports of the host: one that a process has, one that nobody has.
    agree(agent, &c1.ns, &format!("c1 {HOST}:22"), tcp(HOST, 22), "host", "");
    agree(agent, &c1.ns, &format!("c1 {HOST}:23"), tcp(HOST, 23), "host", "");
    agree(agent, &c1.ns, &format!("c1 {HOST}"), ping(HOST), "host", "");
    // The host itself.
    agree(agent, &stage.net.host, "host c2:80", tcp(c2ip, 80), "delivered", "");
    agree(agent, &stage.net.host, "host db", ping(dbip), "delivered", "");
    agree(agent, &stage.net.host, &format!("host {OUTSIDE}"), ping(OUTSIDE), "left", "");
    // Its sockets are led to published ports, by every address.
    let here = Ipv4Addr::LOCALHOST;
    for to in [HOST, here, Ipv4Addr::new(172, 17, 0, 1)] {
        agree(agent, &stage.net.host, &format!("host {to}:8080"), tcp(to, 8080), "delivered", "");
        agree(
            agent,
            &stage.net.host,
            &format!("host {to}:8053/udp"),
            udp(to, 8053),
            "delivered",
            "",
        );
    }
    let answer = why(agent, &format!("host {here}:8080"));
    let led = &answer["Parts"][0];
    assert_eq!((word(led, "Program"), word(led, "Verdict")), ("connect", "led"), "{answer:#}");
    assert!(word(led, "Text").contains(&format!("-> {c2ip}:80")), "{answer:#}");
    assert_ne!(word(&why(agent, &format!("host {here}:8081")), "Verdict"), "delivered");
}

#[test]
fn it_tells_what_passes_between_containers_and_the_outside() {
    let stage = Stage::new();
    let agent = &stage.agent;
    agent.network("n1", "");
    agent.network("inside", "--internal");
    let c1 = agent.container("c1", "n1", "-p 8080:80");
    let hidden = agent.container("hidden", "inside", "");
    let _web = TcpServer::start(&c1.ns, 80);
    let world = TcpServer::start(&stage.net.outside, 80);
    let (outside, neighbour) = (&stage.net.outside, &stage.net.neighbour);
    let c1ip = c1.address();

    agree(agent, &c1.ns, &format!("c1 {OUTSIDE}"), ping(OUTSIDE), "left", "");
    agree(agent, outside, &format!("outside {HOST}:8080"), tcp(HOST, 8080), "delivered", "");
    agree(agent, neighbour, &format!("{NEIGHBOUR} {HOST}:8080"), tcp(HOST, 8080), "delivered", "");
    agree(agent, outside, &format!("{OUTSIDE} {HOST}:81"), tcp(HOST, 81), "host", "");
    // Past the translation, by somebody who knows the way.
    stage.net.route_to_host("172.16.0.0/12");
    let line = format!("{NEIGHBOUR} c1:80");
    agree(agent, neighbour, &line, tcp(c1ip, 80), "dropped", "direct_routing_blocked");
    agree(agent, outside, "outside c1", ping(c1ip), "dropped", "direct_routing_blocked");
    // An internal network, whose container got itself a route.
    let gateway = format!("{}.1", hidden.address().to_string().rsplit_once('.').expect("dots").0);
    hidden.ns.sh(&format!("ip route add default via {gateway}"));
    let line = format!("hidden {OUTSIDE}");
    assert!(why(agent, &line)["Remarks"].to_string().contains("no default route"));
    agree(agent, &hidden.ns, &line, ping(OUTSIDE), "dropped", "policy_internal");
    let line = format!("hidden {HOST}:8080");
    agree(agent, &hidden.ns, &line, tcp(HOST, 8080), "dropped", "policy_internal");
    // The deny list.
    agent.ok(&format!("policy deny add {NEIGHBOUR}"));
    let line = format!("{NEIGHBOUR} {HOST}:8080");
    agree(agent, neighbour, &line, tcp(HOST, 8080), "dropped", "deny_cidr");
    // The answer to what is allowed may be the one that is dropped.
    let answer = why(agent, &format!("c1 {NEIGHBOUR}"));
    assert_eq!((word(&answer, "Verdict"), word(&answer, "Answer")), ("left", "dropped"));
    assert_eq!(word(&answer, "Reason"), "deny_cidr");
    drop(world);
}

#[test]
fn it_names_the_very_port_that_masquerade_takes() {
    let (stage, c1) = Stage::with_one("");
    let world = TcpServer::start(&stage.net.outside, 80);
    for port in ["40000", "41234", "50000"] {
        let line = format!("c1 {OUTSIDE}:80/tcp --from-port {port}");
        let said = why(&stage.agent, &line)["Text"].as_str().expect("text").to_owned();
        let seen = world.peers().len();
        let sent = process::run(
            c1.ns
                .command("curl")
                .args(["-sS", "-m", "3", "--local-port", port, "-o", "/dev/null"])
                .arg(format!("http://{OUTSIDE}/")),
            process::LIMIT,
        );
        assert!(sent.ok(), "{sent:?}");
        let peers = world.peers();
        assert_eq!(peers.len(), seen + 1);
        let peer = peers[seen];
        assert!(said.contains(&format!("{peer} -> ")), "it said {said}, and it was {peer}");
        // Now that there is a connection, it is found.
        let steps = why(&stage.agent, &line)["Parts"][0]["Steps"].to_string();
        assert!(steps.contains("is of a connection"), "{steps}");
    }
}

#[test]
fn it_tells_who_would_be_taken_for_a_spoofer() {
    let (stage, c1, c2) = Stage::with_pair();
    let line = format!("c1 c2:9/udp --from-address {ROUTER}");
    let answer = why(&stage.agent, &line);
    let said = (word(&answer, "Verdict"), word(&answer, "Reason"));
    assert_eq!(said, ("dropped", "spoofed_ip"), "{answer:#}");
    let before = stage.agent.metrics().drops("c1", "spoofed_ip");
    let (own, peer) = (c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    let frame = Frame::udp(&format!("{ROUTER}:40000"), &format!("{}:9", c2.address()));
    inject(&c1.ns, "eth0", &frame.macs(own, peer).bytes());
    wait::wait_until("the real one is dropped for the same reason", wait::SOON, || {
        stage.agent.metrics().drops("c1", "spoofed_ip") == before + 1
    });
    // From outside nobody has an address of ours either.
    let line = format!("outside {HOST}:1/tcp --from-address {}", c1.address());
    assert_eq!(word(&why(&stage.agent, &line), "Verdict"), "host", "no port, no packet of ours");
    let answer = why(&stage.agent, &format!("outside c1 --from-address {}", c2.address()));
    assert_eq!(word(&answer, "Reason"), "direct_routing_blocked");
}

/// Global IPv6 address of a container.
fn address6(container: &Container) -> IpAddr {
    let text = container.ns.sh("ip -6 -o addr show dev eth0 scope global");
    let address = text.split_whitespace().nth(3).and_then(|cidr| cidr.split('/').next());
    address.expect("a global address").parse().expect("an address")
}

#[test]
fn it_tells_of_ipv6_too() {
    let stage = Stage::new();
    let (agent, net) = (&stage.agent, &stage.net);
    net.host.sh(&format!("ip addr add 2001:db8:1::1/64 dev {UPLINK} nodad"));
    net.neighbour.sh("ip addr add 2001:db8:1::9/64 dev eth0 nodad");
    agent.network("n1", "--ipv6");
    agent.network("n2", &format!("--ipv6 {ICC_OFF}"));
    let c1 = agent.container("c1", "n1", "");
    let c2 = agent.container("c2", "n1", "-p 8080:80");
    let c3 = agent.container("c3", "n2", "");
    let c4 = agent.container("c4", "n2", "");
    let web: SocketAddr = "[::]:80".parse().expect("an address");
    let _web = TcpServer::start_at(&c2.ns, web);
    let host: IpAddr = "2001:db8:1::1".parse().expect("an address");
    let peer: IpAddr = "2001:db8:1::9".parse().expect("an address");
    wait::wait_until("everybody has IPv6", wait::SOON, || {
        send(&net.neighbour, ping(host)) == Met::Answer
            && send(&c1.ns, ping(address6(&c2))) == Met::Answer
            && word(&why(agent, &format!("c1 {peer}")), "Verdict") == "left"
    });
    let (c2ip, c4ip) = (address6(&c2), address6(&c4));
    agree(agent, &c1.ns, "c1 c2 --family 6", ping(c2ip), "delivered", "");
    agree(agent, &c1.ns, &format!("c1 [{c2ip}]:80/tcp"), tcp(c2ip, 80), "delivered", "");
    agree(agent, &c3.ns, "c3 c4 --family 6", ping(c4ip), "dropped", "policy_icc");
    agree(agent, &c1.ns, "c1 c4:80/tcp --family 6", tcp(c4ip, 80), "dropped", "policy_isolation");
    agree(agent, &c1.ns, &format!("c1 {peer}"), ping(peer), "left", "");
    agree(agent, &c3.ns, &format!("c3 [{host}]:8080"), tcp(host, 8080), "delivered", "");
    let line = format!("{peer} [{host}]:8080/tcp");
    agree(agent, &net.neighbour, &line, tcp(host, 8080), "delivered", "");
    net.neighbour.sh("ip -6 route add fd00::/8 via 2001:db8:1::1");
    let line = format!("{peer} c2:80/tcp");
    agree(agent, &net.neighbour, &line, tcp(c2ip, 80), "dropped", "direct_routing_blocked");
}

/// Everything that is tracked.
fn flows(agent: &Agent) -> String {
    let tables = Tables::open(&Pins::open(&agent.places.bpffs()).expect("pins")).expect("tables");
    let mut lines = Vec::new();
    tables.flows4.for_each(|key, flow| lines.push(format!("{key:?} {flow:?}"))).expect("flows");
    tables.flows6.for_each(|key, flow| lines.push(format!("{key:?} {flow:?}"))).expect("flows");
    lines.sort();
    lines.join("\n")
}

#[test]
fn it_changes_nothing_and_counts_nothing() {
    let (stage, c1, c2) = Stage::with_pair();
    let agent = &stage.agent;
    // Over UDP: nothing is on its way any more once the answer is there.
    let _world = UdpServer::start(&stage.net.outside, 53);
    agent.container("web", "n1", "-p 8080:80");
    let client = c1.ns.run(|| UdpSocket::bind(("0.0.0.0", 4711))).expect("a socket");
    c1.ns.run(|| client.connect((OUTSIDE, 53))).expect("a destination");
    client.set_read_timeout(Some(wait::SOON)).expect("a timeout");
    udp::ask(&client, 10).expect("an answer");
    let spoofed = agent.metrics().drops("c1", "spoofed_ip");
    let before = flows(agent);
    assert!(!before.is_empty());
    for line in [
        format!("c1 {OUTSIDE}:80"),
        format!("c1 {OUTSIDE}:53/udp --from-port 4711"),
        format!("c1 {HOST}:8080"),
        format!("outside {HOST}:8080"),
        "c1 c2".to_owned(),
        format!("c1 {} --from-address 10.9.9.9", c2.address()),
    ] {
        assert!(!word(&why(agent, &line), "Verdict").is_empty());
    }
    assert_eq!(flows(agent), before);
    assert_eq!(agent.metrics().drops("c1", "spoofed_ip"), spoofed);
    let metrics = agent.metrics();
    let opened: Vec<_> = metrics.select("bascule_port_connections_total", &[]).collect();
    assert!(!opened.is_empty() && opened.iter().all(|sample| sample.value == 0.0), "{opened:?}");
}

#[test]
fn people_read_steps_and_what_would_allow_it() {
    let stage = Stage::new();
    let agent = &stage.agent;
    agent.network("n1", "");
    agent.network("n2", "");
    let c1 = agent.container("c1", "n1", "");
    let c2 = agent.container("c2", "n2", "");
    let text = agent.ok("why c1 c2:80/tcp");
    let packet = format!("tcp SYN {}:40000 -> {}:80", c1.address(), c2.address());
    for part in [
        packet.as_str(),
        "from container c1 on network n1",
        "request: from_container at ",
        &format!("{} is of network n2", c2.address()),
        "Dropped. policy_isolation: The destination is on another network.",
        "To allow it: connect both containers to one network",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let text = agent.ok(&format!("why c1 {OUTSIDE}"));
    assert!(text.ends_with("It leaves the host, and its answer comes back."), "{text}");
    assert!(text.contains(&format!("by {UPLINK}, next hop {ROUTER}")), "{text}");
    assert!(agent.cli(["why", "--help"]).stdout.contains("Examples:"));
}

#[test]
fn bad_questions_are_refused_with_what_is_wrong() {
    let (stage, c1, _c2) = Stage::with_pair();
    let agent = &stage.agent;
    agent.ok("container create --name idle --network n1");
    let own = c1.address();
    let free = at(own, 1).ip().octets();
    let free = format!("{}.{}.{}.200", free[0], free[1], free[2]);
    for (line, words) in [
        ("nosuch c1", "No such container: nosuch"),
        ("c1 nosuch:80", "No such container: nosuch"),
        ("c1 c2:0", "\"0\" is no port"),
        ("c1 c2:80/sctp", "none of tcp, udp, icmp"),
        ("c1 c2/tcp", "tcp needs a port"),
        ("c1 c2:80/icmp", "icmp has no ports"),
        ("c1 [::1", "a `[` is not closed"),
        ("c1 2001:db8::7", "has no address of the family of 2001:db8::7"),
        ("c1 c2 --family 6", "no address of this family"),
        ("c1 c2 --family 5", "there is no family 5"),
        ("idle c1", "container idle is on no network now"),
        ("c1 224.0.0.1", "not the address of one host"),
        ("c1 127.0.0.1:80", "leaves it by no interface"),
        (&format!("c1 {own}"), "leaves it by no interface"),
        (&format!("{free} c1"), "--from-address"),
        ("c1 c2 --from-address 2001:db8::7", "of different families"),
    ] {
        let refused = agent.refused(&format!("why {line}"));
        assert!(refused.contains(words), "why {line}: {refused}");
    }
    assert_eq!(agent.cli(["why", "c1"]).code, 2);
    assert_eq!(agent.cli(["why", "c1", "c2", "--from-port", "0"]).code, 2);
    let post = |body: Value| agent.api("POST", "/bascule/v1/why", Some(&body));
    assert_eq!(post(json!({"Source": "c1"})).status, 400);
    assert_eq!(post(json!({"Source": "c1", "Destination": "c2"})).status, 200);
    assert_eq!(post(json!({"Source": "nosuch", "Destination": "c2"})).status, 404);
}
