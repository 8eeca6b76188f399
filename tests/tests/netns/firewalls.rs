//! The host's firewall: whatever it is set to and however often it is set anew, nothing that the programs
//! carry is lost, and nothing of the firewall is changed.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bascule_tests::{
    Container, Netns,
    firewall::{Firewalld, Ufw},
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at, bridge_of};

/// A host with a web server `c1`, its neighbour `c2`, and `c3` of another network.
fn stage() -> (Stage, [Container; 3]) {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let containers =
        [("c1", "n1", "-p 8080:80 -p 8053:53/udp"), ("c2", "n1", ""), ("c3", "n2", "")]
            .map(|(name, network, options)| stage.agent.container(name, network, options));
    (stage, containers)
}

/// Demands everything that the programs carry themselves.
#[track_caller]
fn all_works(stage: &Stage, [c1, c2, c3]: &[Container; 3]) {
    let (_tcp, _udp) = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let (_far, _far_udp) =
        (TcpServer::start(&stage.net.outside, 80), UdpServer::start(&stage.net.outside, 53));
    assert_eq!(*traffic::reaches(&stage.net.outside, at(HOST, 8080)).ip(), OUTSIDE);
    traffic::exchange(&stage.net.outside, at(HOST, 8053), 64);
    traffic::reaches(&c2.ns, at(c1.address(), 80));
    traffic::answers(&c2.ns, c1.address());
    for client in [c1, c2, c3] {
        traffic::reaches(&client.ns, at(HOST, 8080));
        assert_eq!(*traffic::reaches(&client.ns, at(OUTSIDE, 80)).ip(), HOST);
    }
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 64);
    traffic::answers(&c3.ns, OUTSIDE);
    // Processes of the host itself.
    for address in [Ipv4Addr::LOCALHOST, HOST] {
        traffic::reaches(&stage.net.host, at(address, 8080));
        traffic::exchange(&stage.net.host, at(address, 8053), 64);
    }
    // And no more than before.
    traffic::unreachable(&c3.ns, at(c1.address(), 80));
}

/// Traffic of every kind, and what of it was lost.
struct Streams {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(String, u32, u32)>>,
    _servers: (UdpServer, UdpServer),
}

impl Streams {
    fn start(stage: &Stage, [c1, c2, c3]: &[Container; 3]) -> Self {
        let servers = (UdpServer::start(&c1.ns, 53), UdpServer::start(&stage.net.outside, 53));
        let stop = Arc::new(AtomicBool::new(false));
        let stream = |name: &str, client: &Netns, to| {
            let socket = traffic::udp::client(client, to).expect("a socket");
            traffic::udp::ask(&socket, 32).unwrap_or_else(|e| panic!("{name}: {e}"));
            let (name, stop) = (name.to_owned(), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut sent, mut lost) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    sent += 1;
                    lost += u32::from(traffic::udp::ask(&socket, 32).is_err());
                    thread::sleep(Duration::from_millis(2));
                }
                (name, sent, lost)
            })
        };
        let threads = vec![
            stream("to a published port", &stage.net.outside, at(HOST, 8053)),
            stream("between neighbours", &c2.ns, at(c1.address(), 53)),
            stream("to the outside", &c3.ns, at(OUTSIDE, 53)),
            stream("from another network", &c3.ns, at(HOST, 8053)),
        ];
        Self { stop, threads, _servers: servers }
    }

    #[track_caller]
    fn assert_nothing_lost(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let (name, sent, lost) = thread.join().expect("a stream");
            assert!(sent > 20, "{name}: {sent} sent");
            assert_eq!(lost, 0, "{name}: lost of {sent}");
        }
    }
}

/// Does something again and again for a while.
fn repeat(seconds: u64, mut action: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        action();
    }
}

const TRAP: &str = "table inet trap {
  chain forward { type filter hook forward priority -300 ; policy drop ; }
  chain pre { type filter hook prerouting priority -300 ; }
}
";

#[test]
fn n5_nft_flush_ruleset_under_traffic_loses_nothing() {
    let (stage, containers) = stage();
    let file = stage.agent.places.root().join("trap.nft");
    std::fs::write(&file, TRAP).expect("a ruleset");
    let load = format!("nft -f {}", file.display());
    stage.net.host.sh(&load);
    let streams = Streams::start(&stage, &containers);
    repeat(3, || {
        stage.net.host.sh("nft flush ruleset");
        stage.net.host.sh(&load);
    });
    streams.assert_nothing_lost();
}

#[test]
fn n38_br_netfilter_makes_no_difference_to_what_the_programs_carry() {
    let (stage, containers) = stage();
    let host = &stage.net.host;
    for forward in ["ACCEPT", "DROP"] {
        host.sh(&format!("iptables-legacy -P FORWARD {forward}"));
        for switch in ["0", "1"] {
            host.sysctl_set("net/bridge/bridge-nf-call-iptables", switch);
            host.sysctl_set("net/bridge/bridge-nf-call-arptables", switch);
            all_works(&stage, &containers);
        }
    }
    let policy = host.sh("iptables-legacy -S FORWARD");
    assert_eq!(policy.trim(), "-P FORWARD DROP", "the host's rules are its own");
    // Switched under traffic.
    let streams = Streams::start(&stage, &containers);
    let mut switch = ["0", "1"].into_iter().cycle();
    repeat(2, || {
        let value = switch.next().unwrap_or_default();
        host.sysctl_set("net/bridge/bridge-nf-call-iptables", value);
    });
    streams.assert_nothing_lost();
}

#[test]
fn n38_icc_off_needs_no_br_netfilter() {
    let stage = Stage::new();
    stage.agent.network("n1", "-o com.docker.network.bridge.enable_icc=false");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let _server = TcpServer::start(&c1.ns, 80);
    for switch in ["0", "1"] {
        stage.net.host.sysctl_set("net/bridge/bridge-nf-call-iptables", switch);
        traffic::unreachable(&c2.ns, at(c1.address(), 80));
        traffic::does_not_answer(&c2.ns, c1.address());
    }
    assert_eq!(stage.net.host.firewall_rules(), "");
}

#[test]
fn what_the_kernel_bridges_obeys_the_hosts_firewall() {
    // Decision 11: a broadcast is flooded by the bridge, and br_netfilter asks the firewall about it.
    let (stage, [c1, c2, _]) = stage();
    let capture = bascule_tests::capture::Capture::arriving(&c2.ns, "eth0");
    let shout = |word: &[u8]| {
        let frame = Frame::udp(&format!("{}:9", c1.address()), "255.255.255.255:9").data(word);
        let frame = frame.macs(c1.ns.mac("eth0"), [0xff; 6]);
        bascule_tests::capture::inject(&c1.ns, "eth0", &frame.bytes());
    };
    stage.net.host.sh("iptables-legacy -P FORWARD DROP");
    stage.net.host.sysctl_set("net/bridge/bridge-nf-call-iptables", "1");
    shout(b"unheard");
    stage.net.host.sysctl_set("net/bridge/bridge-nf-call-iptables", "0");
    shout(b"heard");
    capture.wait_for("the broadcast", |packet| packet.bytes().ends_with(b"heard"));
    let through = capture.raw().iter().any(|bytes| bytes.ends_with(b"unheard"));
    assert!(!through, "the firewall was passed by");
}

#[test]
fn appendix_d12_ufw_enabled_hurts_nothing() {
    let (stage, containers) = stage();
    stage.net.host.sysctl_set("net/bridge/bridge-nf-call-iptables", "1");
    let _host = TcpServer::start(&stage.net.host, 22);
    let ufw = Ufw::new(&stage.net.host);
    ufw.run("--force enable");
    let status = ufw.run("status verbose");
    assert!(status.contains("Status: active"), "{status}");
    assert!(status.contains("deny (incoming)") && status.contains("(routed)"), "{status}");
    all_works(&stage, &containers);
    // What is the host's own is the firewall's business.
    traffic::unreachable(&stage.net.outside, at(HOST, 22));
    let streams = Streams::start(&stage, &containers);
    repeat(3, || {
        ufw.run("reload");
        ufw.run("disable");
        ufw.run("--force enable");
    });
    streams.assert_nothing_lost();
    ufw.run("allow 22/tcp");
    traffic::reaches(&stage.net.outside, at(HOST, 22));
}

#[test]
fn n6_n7_firewalld_reloaded_under_traffic_loses_nothing() {
    let (stage, containers) = stage();
    let _host = TcpServer::start(&stage.net.host, 2222);
    let firewalld = Firewalld::start(&stage.net.host);
    assert!(stage.net.host.sh("nft list ruleset").contains("table inet firewalld"));
    // Its default zone lets ssh in and nothing else.
    wait::wait_until("the host's own port is shut", wait::SOON, || {
        traffic::Conversation::open(&stage.net.outside, at(HOST, 2222)).is_err()
    });
    all_works(&stage, &containers);
    let streams = Streams::start(&stage, &containers);
    repeat(3, || {
        for verb in ["--reload", "--complete-reload"] {
            let out = firewalld.cmd(verb);
            assert!(out.ok(), "firewall-cmd {verb}: {out:?}");
        }
    });
    // Panic mode drops everything that the kernel sees.
    assert!(firewalld.cmd("--panic-on").ok());
    thread::sleep(Duration::from_millis(200));
    assert!(firewalld.cmd("--panic-off").ok());
    streams.assert_nothing_lost();
    drop(firewalld);
    // Networks that are made and changed while its rules stand.
    stage.agent.network("n4", "");
    let c4 = stage.agent.container("c4", "n4", "-p 8084:80");
    let _server = TcpServer::start(&c4.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8084));
    assert!(stage.net.host.ifindex(&bridge_of(&stage, "n4")).is_some());
}
