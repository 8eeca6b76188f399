//! Names that others know, and containers that want more than their share: what is asked of whom, what is believed
//! for how long, and who waits for it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Netns, Topology, agent::Settings, topology::OUTSIDE, wait};

use crate::{
    Stage,
    names::{Upstream, dig, found, gateway, status},
    resolving::question,
};

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A server of others that says what a test wants, over UDP and TCP.
struct Fake {
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Makes the answer to a question: its code, and records of the answer and the authority section.
type Said = fn(&[u8]) -> (u8, Vec<u8>, Vec<u8>);

impl Fake {
    fn start(ns: &Netns, at: impl Into<SocketAddr>, said: Said) -> Self {
        let (asked, stop) = (Arc::default(), Arc::<AtomicBool>::default());
        let mut fake = Self { asked: Arc::clone(&asked), stop: Arc::clone(&stop), thread: None };
        let at = at.into();
        let udp = ns.run(|| UdpSocket::bind(at)).expect("a socket");
        let tcp = ns.run(|| TcpListener::bind(at)).expect("a listener");
        udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        tcp.set_nonblocking(true).expect("a listener");
        fake.thread = Some(thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, client)) = udp.recv_from(&mut bytes) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    udp.send_to(&reply(&bytes[..length], said), client).ok();
                }
                if let Ok((stream, _)) = tcp.accept() {
                    asked.fetch_add(1, Ordering::Relaxed);
                    over_tcp(stream, said).ok();
                }
            }
        }));
        fake
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

fn over_tcp(mut stream: TcpStream, said: Said) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question)?;
    let answer = reply(&question, said);
    stream.write_all(&(answer.len() as u16).to_be_bytes())?;
    stream.write_all(&answer)
}

fn reply(question: &[u8], said: Said) -> Vec<u8> {
    // The name ends with a zero; type and class follow.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    let (code, answer, authority) = said(&question[12..end]);
    let mut reply = question[..end].to_vec();
    reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    let counts = [1, u8::from(!answer.is_empty()), u8::from(!authority.is_empty()), 0];
    for (at, count) in counts.into_iter().enumerate() {
        reply[4 + 2 * at..6 + 2 * at].copy_from_slice(&[0, count]);
    }
    reply.extend(answer);
    reply.extend(authority);
    reply
}

/// A record of the name that was asked for.
fn record(kind: u8, ttl: u8, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, kind, 0, 1, 0, 0, 0, ttl, 0, data.len() as u8];
    record.extend(data);
    record
}

/// There is no such name, for a minute; the zone says so.
fn nobody(_: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    let mut soa = vec![1, b'm', 0, 1, b'h', 0];
    soa.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 60]);
    (NXDOMAIN, Vec::new(), record(6, 60, &soa))
}

fn broken(_: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    (SERVFAIL, Vec::new(), Vec::new())
}

fn good(_: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    (0, record(1, 1, &[192, 0, 2, 80]), Vec::new())
}

fn good_too(_: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    (0, record(1, 1, &[192, 0, 2, 81]), Vec::new())
}

/// A host whose agent asks these.
fn asking(net: Topology, servers: &str) -> Stage {
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--dns", servers]));
    Stage { agent, net }
}

fn second(net: &Topology, address: [u8; 4]) -> IpAddr {
    let address = IpAddr::from(address);
    net.outside.sh(&format!("ip addr add {address}/32 dev eth0"));
    net.router.sh(&format!("ip route add {address}/32 dev wan0"));
    address
}

#[test]
fn moby_dns_004_a_server_that_fails_is_followed_by_the_next() {
    let net = Topology::new();
    let at = second(&net, [203, 0, 113, 77]);
    let first = Fake::start(&net.outside, (IpAddr::V4(OUTSIDE), 53), broken);
    let then = Fake::start(&net.outside, (at, 53), good);
    let stage = asking(net, &format!("{OUTSIDE},{at}"));
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    assert_eq!(dig(&c1.ns, server, "a.test"), ["192.0.2.80"]);
    assert_eq!((first.asked(), then.asked()), (1, 1));
    assert_eq!(dig(&c1.ns, server, "+tcp b.test"), ["192.0.2.80"]);
    assert_eq!((first.asked(), then.asked()), (2, 2));
    // None can: then that is the answer, whatever is asked (MOBY-DNS-003).
    drop(then);
    for question in ["c.test MX", "c.test A", "_x._tcp.c.test SRV", "-x 192.0.2.9"] {
        assert_eq!(status(&c1.ns, server, question).0, "SERVFAIL", "{question}");
    }
}

#[test]
fn p106_what_is_not_there_is_relayed_and_remembered_with_its_zone() {
    let net = Topology::new();
    let fake = Fake::start(&net.outside, (IpAddr::V4(OUTSIDE), 53), nobody);
    let stage = asking(net, &OUTSIDE.to_string());
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    for _ in 0..3 {
        let out = c1.ns.sh(&format!("dig +time=5 +tries=1 @{server} gone.test"));
        assert!(out.contains("status: NXDOMAIN") && out.contains("AUTHORITY: 1"), "{out}");
        assert!(out.contains("SOA\tm. h. 1 2 3 4 60"), "{out}");
    }
    assert_eq!(fake.asked(), 1, "once");
}

#[test]
fn p101_what_is_too_long_for_a_datagram_comes_by_tcp() {
    let net = Topology::new();
    let text = "x".repeat(200);
    let record = format!("--txt-record=big.test,{text},{text},{text},{text}");
    let _upstream = Upstream::start(&net.outside, OUTSIDE, &[&record]);
    let stage = asking(net, &OUTSIDE.to_string());
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    let ask = |how: &str| c1.ns.sh(&format!("dig +time=5 {how} @{server} big.test TXT"));
    let cut = ask("+noedns +ignore");
    assert!(cut.contains("flags: qr") && cut.contains(" tc "), "{cut}");
    let (plain, large) = (ask("+noedns"), ask("+bufsize=1232"));
    assert!(plain.contains("(TCP)") && plain.contains(&text), "{plain}");
    assert!(large.contains("(UDP)") && large.contains(&text), "{large}");
}

#[test]
fn p106_n30_the_hosts_servers_are_followed_as_they_change() {
    let net = Topology::new();
    let at = second(&net, [203, 0, 113, 77]);
    let _first = Fake::start(&net.outside, (IpAddr::V4(OUTSIDE), 53), good);
    let _then = Fake::start(&net.outside, (at, 53), good_too);
    let mut agent = Agent::prepare(&net.host, Settings::default());
    let file = agent.places.root().join("resolv.conf");
    fs::write(&file, format!("nameserver {OUTSIDE}\n")).expect("a file");
    let told = file.to_str().expect("a path").to_owned();
    agent.launch_with(&Settings::default().arg(&["--resolv-conf", &told]));
    agent.wait_ready();
    let stage = Stage { agent, net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let server = gateway(&stage, "n1")[0];
    assert_eq!(dig(&c1.ns, server, "a.test"), ["192.0.2.80"]);
    // In place, and by another file under its name, as resolvconf and editors do it.
    fs::write(&file, format!("nameserver {at}\n")).expect("a file");
    wait::wait_until("the other one is asked", Duration::from_secs(1), || {
        dig(&c1.ns, server, "a.test") == ["192.0.2.81"]
    });
    let new = file.with_extension("new");
    fs::write(&new, format!("# again\nnameserver {OUTSIDE}\n")).expect("a file");
    fs::rename(&new, &file).expect("a file");
    wait::wait_until("the first one is asked", Duration::from_secs(1), || {
        dig(&c1.ns, server, "a.test") == ["192.0.2.80"]
    });
    // A network may have its own, and other ones while it is used (NETAV-DNS-001).
    stage.agent.network("n2", &format!("--dns {OUTSIDE}"));
    let c2 = stage.agent.container("c2", "n2", "");
    let server = gateway(&stage, "n2")[0];
    assert_eq!(dig(&c2.ns, server, "b.test"), ["192.0.2.80"]);
    stage.agent.ok(&format!("network update n2 --dns-add {at} --dns-drop {OUTSIDE}"));
    assert_eq!(dig(&c2.ns, server, "c.test"), ["192.0.2.81"]);
}

#[test]
fn aard_dns_006_a_server_of_the_link_is_asked_by_it() {
    let net = Topology::dual();
    net.router.sh("ip -6 addr add fe80::53/64 dev lan0 nodad");
    let index = net.router.ifindex("lan0").expect("an interface");
    let link: Ipv6Addr = "fe80::53".parse().expect("an address");
    let at = std::net::SocketAddrV6::new(link, 53, 0, index);
    let _fake = Fake::start(&net.router, at, good);
    let mut agent = Agent::prepare(&net.host, Settings::default());
    let file = agent.places.root().join("resolv.conf");
    let uplink = bascule_tests::topology::UPLINK;
    fs::write(&file, format!("nameserver fe80::53%{uplink}\n")).expect("a file");
    let told = file.to_str().expect("a path").to_owned();
    agent.launch_with(&Settings::default().arg(&["--resolv-conf", &told]));
    agent.wait_ready();
    let stage = Stage { agent, net };
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    assert_eq!(dig(&c1.ns, gateway(&stage, "n1")[0], "a.test"), ["192.0.2.80"]);
}

#[test]
fn n30_a_server_that_asks_us_is_not_asked_in_turn() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.88.0.0/24 --dns 10.88.0.9");
    let c1 = stage.agent.container("c1", "n1", "");
    let turn = stage.agent.container("turn", "n1", "--ip 10.88.0.9");
    let _turn = Upstream::start(&turn.ns, turn.address(), &["--server=10.88.0.1"]);
    let begin = Instant::now();
    assert_ne!(status(&c1.ns, "10.88.0.1", "a.test A").0, "NOERROR");
    assert!(begin.elapsed() < Duration::from_secs(4), "at once: {:?}", begin.elapsed());
    let loops = stage.agent.metrics().sum("bascule_dns_refused_total", &[("reason", "loop")]);
    assert!(loops >= 1.0, "{loops}");
    assert_eq!(dig(&c1.ns, "10.88.0.1", "turn"), found(&turn));
}

/// Somebody who asks a server of names while a test does something else.
struct Meanwhile<T> {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<T>,
}

impl<T: Send + 'static> Meanwhile<T> {
    /// Has `work` go on until it is told that it is over.
    fn start(
        ns: &Netns,
        server: IpAddr,
        work: impl FnOnce(&UdpSocket, &AtomicBool) -> T + Send + 'static,
    ) -> Self {
        let (ns, over) = (ns.clone(), Arc::<AtomicBool>::default());
        let told = Arc::clone(&over);
        let thread = thread::spawn(move || {
            ns.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                socket.connect((server, 53)).expect("a route");
                work(&socket, &told)
            })
        });
        Self { over, thread }
    }

    fn end(self) -> T {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

#[test]
fn p105_n28_a_flood_of_one_container_is_no_silence_for_another() {
    // Nobody answers there: what is asked of it stays under way.
    let stage = asking(Topology::new(), "203.0.113.99");
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let server = gateway(&stage, "n1")[0];
    let flood = Meanwhile::start(&c1.ns, server, |socket, over| {
        let mut number = 0_u32;
        while !over.load(Ordering::Relaxed) {
            number = number.wrapping_add(1);
            // What is refused is asked again soon enough.
            socket.send(&question(1, &format!("n{:07}", number % 10_000_000))).ok();
        }
        number
    });
    // Before the flood is noticed, and each time that it is looked whether it is over, some of them may be lost.
    let own = c1.address().to_string();
    let ask = |_: &u32| {
        let answer = c2.ns.try_sh(&format!("dig +short +time=1 +tries=3 @{server} c1"));
        answer.stdout.trim() == own
    };
    let answered = (0..10).filter(ask).count();
    assert!(answered >= 8, "{answered} of 10");
    assert!(flood.end() > 1000);
    let refused = stage.agent.metrics().sum("bascule_dns_refused_total", &[]);
    assert!(refused > 0.0, "{refused}");
}

#[test]
fn n30_no_question_is_lost_while_names_change() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let server = gateway(&stage, "n1")[0];
    let asking = Meanwhile::start(&c1.ns, server, |socket, over| {
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let (mut number, mut answer) = (0_u16, [0; 512]);
        while !over.load(Ordering::Relaxed) {
            number += 1;
            socket.send(&question(number, "c2")).expect("sent");
            let length = socket.recv(&mut answer).expect("an answer");
            let told = (&answer[..2], answer[7]);
            assert_eq!(told, (&number.to_be_bytes()[..], 1), "{length}");
            thread::sleep(Duration::from_millis(1));
        }
        number
    });
    for round in 0..3 {
        stage.agent.network(&format!("other{round}"), "");
        let name = format!("x{round}");
        stage.agent.container(&name, "n1", "--network-alias more");
        assert_eq!(dig(&c1.ns, server, &name).len(), 1, "the very next question");
        stage.agent.ok(&format!("network connect other{round} {name}"));
        stage.agent.ok(&format!("container rm -f {name}"));
        assert_ne!(status(&c1.ns, server, &format!("{name} A")).0, "NOERROR");
    }
    assert!(asking.end() > 10);
    assert_eq!(dig(&c1.ns, server, "c2"), found(&c2));
}

#[test]
fn moby_dns_011_a_network_without_ipv4_asks_at_127_0_0_11_too() {
    let net = Topology::dual();
    let _fake = Fake::start(&net.outside, (IpAddr::V4(OUTSIDE), 53), good);
    let stage = asking(net, &OUTSIDE.to_string());
    stage.agent.network("n6", "--ipv4=false --ipv6");
    stage.agent.network("n4", "");
    let c1 = stage.agent.container("c1", "n6", "");
    let c2 = stage.agent.container("c2", "n6", "--network-alias web");
    let six = c2.address6().to_string();
    for how in ["", "+tcp"] {
        let ask = |question: &str| dig(&c1.ns, "127.0.0.11", &format!("{how} {question}"));
        assert_eq!(ask("c2 AAAA"), [six.as_str()], "{how}");
        assert_eq!(ask("web.n6 AAAA"), [six.as_str()], "{how}");
        assert!(ask("c2 A").is_empty(), "no such data");
        // It has no way there itself: the agent asks, over IPv4.
        assert_eq!(ask("www.test A"), ["192.0.2.80"], "{how}");
        assert_eq!(
            dig(&c1.ns, gateway(&stage, "n6")[0], &format!("{how} c2 AAAA")),
            [six.as_str()]
        );
    }
    // It has no more of IPv4 than that.
    assert!(c1.ns.addresses("eth0").is_empty());
    assert!(!c1.ns.try_sh(&format!("ping -c 1 -W 1 {OUTSIDE}")).ok());
    assert!(!c1.ns.try_sh("ping -c 1 -W 1 127.0.0.11").ok());
    // The way is the other network's once this one is gone.
    stage.agent.ok("network connect n4 c1");
    stage.agent.ok("network disconnect n6 c1");
    assert_eq!(dig(&c1.ns, "127.0.0.11", "c1"), [c1.address_on("eth1").to_string()]);
}

#[test]
fn aard_dns_007_aard_dns_010_moby_dns_023_moby_dns_024_long_names_aliases_and_reverse() {
    let stage = Stage::dual();
    let long = format!("n{}", "x".repeat(60));
    stage.agent.network(&long, "");
    stage.agent.network("n2", "--ipv6 --subnet 10.89.0.0/24 --subnet fd89::/64");
    let options = "--network-alias a1 --network-alias a2 --hostname foobar";
    let c1 = stage.agent.container("c1", "n2", options);
    stage.agent.ok(&format!("network connect --alias far {long} c1"));
    let c2 = stage.agent.container("c2", "n2", "");
    stage.agent.ok(&format!("network connect {long} c2"));
    let server = "127.0.0.11";
    let second = c1.address_on("eth1").to_string();
    assert_eq!(dig(&c2.ns, server, "c1.n2"), found(&c1));
    assert_eq!(dig(&c2.ns, server, &format!("c1.{long}")), [second.as_str()]);
    assert_eq!(dig(&c2.ns, server, &format!("far.{long}")), [second.as_str()]);
    assert_eq!(dig(&c1.ns, server, "foobar.n2"), found(&c1), "its own host name");
    let id = &c1.id[..12];
    for address in [c1.address().to_string(), c1.address6().to_string()] {
        let names = dig(&c2.ns, server, &format!("-x {address}"));
        for name in ["c1.n2.", "c1.", "a1.", "a2.", "foobar.", &format!("{id}.")] {
            assert!(names.contains(&name.to_owned()), "{name} of {address} in {names:?}");
        }
    }
    // Of an alias of two the reverse stays until both are gone (MOBY-DNS-026).
    let c3 = stage.agent.container("c3", "n2", "--network-alias a1");
    stage.agent.ok("container stop c3");
    let names = dig(&c2.ns, server, &format!("-x {}", c1.address()));
    assert!(names.contains(&"a1.".to_owned()), "{names:?}");
    assert_eq!(dig(&c2.ns, server, "a1.n2"), found(&c1));
    drop(c3);
}

#[test]
fn s139_s60_the_default_network_has_names_as_soon_as_it_is_to_have_them() {
    let stage = Stage::new();
    let c1 = stage.agent.container("c1", "bridge", "");
    let server = gateway(&stage, "bridge")[0];
    let answers = || {
        let asked = c1.ns.try_sh(&format!("dig +short +time=1 +tries=1 @{server} c1"));
        asked.stdout.trim() == c1.address().to_string()
    };
    assert!(!answers());
    for wanted in [true, false] {
        let text = format!("default_bridge_dns = {wanted}\n");
        fs::write(stage.agent.places.root().join("bascule.toml"), text).expect("a file");
        stage.net.host.sh(&format!("kill -HUP {}", stage.agent.pid()));
        wait::wait_until("it has names, or not", wait::SOON, || answers() == wanted);
    }
}
