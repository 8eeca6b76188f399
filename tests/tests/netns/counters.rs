//! Counters equal what was sent, drops have their reasons, and Prometheus understands it.

use std::process::{Command, Stdio};

use bascule_tests::{
    capture::Capture,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

/// Packets and bytes, from the header of layer 3 on, that a capture saw in and out of the container.
fn seen(capture: &Capture, own: [u8; 6]) -> [(u64, u64); 2] {
    let mut totals = [(0, 0); 2];
    for frame in capture.raw() {
        let total = &mut totals[usize::from(frame[6..12] == own)];
        total.0 += 1;
        total.1 += frame.len() as u64 - 14;
    }
    totals
}

#[test]
fn endpoint_counters_equal_what_was_sent() {
    let (stage, c1, c2) = Stage::with_pair();
    // Neighbour discovery of IPv6 counts too, and comes when it likes.
    for ns in [&stage.net.host, &c1.ns, &c2.ns] {
        ns.sysctl_set("net/ipv6/conf/all/disable_ipv6", "1");
    }
    for container in [&c1, &c2] {
        container.ns.offloads_off("eth0");
    }
    // Neighbours are known and quiet before the count begins.
    traffic::answers(&c1.ns, c2.address());
    for (container, peer) in [(&c1, &c2), (&c2, &c1)] {
        let mac = peer.ns.mac("eth0").map(|byte| format!("{byte:02x}")).join(":");
        container.ns.sh(&format!(
            "ip neigh replace {} lladdr {mac} dev eth0 nud permanent",
            peer.address()
        ));
    }
    let before =
        [stage.agent.metrics().traffic("c1", "in"), stage.agent.metrics().traffic("c1", "out")];
    let capture = Capture::both_ways(&c1.ns, "eth0");
    let ping = traffic::ping(&c1.ns, c2.address(), 10);
    assert_eq!(ping.received, 10, "{}", ping.text);
    let _udp = UdpServer::start(&c2.ns, 53);
    traffic::exchange(&c1.ns, at(c2.address(), 53), 777);
    let wanted = seen(&capture, c1.ns.mac("eth0"));
    assert!(wanted.iter().all(|total| total.0 >= 11), "{wanted:?}");
    for (at, direction) in ["in", "out"].into_iter().enumerate() {
        wait::wait_equal(direction, wait::SOON, &wanted[at], || {
            let now = stage.agent.metrics().traffic("c1", direction);
            (now.0 - before[at].0, now.1 - before[at].1)
        });
    }
}

#[test]
fn gso_packets_count_as_their_segments() {
    let (stage, c1) = Stage::with_one("");
    let flow = traffic::iperf(&stage.net.outside, 5201, &c1.ns, at(OUTSIDE, 5201), 1, "");
    let (packets, bytes) = stage.agent.metrics().traffic("c1", "out");
    assert!(bytes >= flow.received, "{bytes} bytes counted, {} received", flow.received);
    assert!(packets >= flow.received / 1500, "{packets} packets for {} bytes", flow.received);
}

#[test]
fn s123_published_ports_count_packets_bytes_and_connections() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    for _ in 0..3 {
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
    }
    let labels = [("host_port", "8080"), ("proto", "tcp"), ("container", "c1")];
    wait::wait_until("three connections are counted", wait::SOON, || {
        let metrics = stage.agent.metrics();
        let sum = |name, direction| {
            let mut labels = labels.to_vec();
            labels.push(("direction", direction));
            metrics.sum(name, &labels)
        };
        metrics.sum("bascule_port_connections_total", &labels) as u64 == 3
            && sum("bascule_port_packets_total", "in") >= 9.0
            && sum("bascule_port_packets_total", "out") >= 9.0
            && sum("bascule_port_bytes_total", "in") > 9.0 * 40.0
    });
}

#[test]
fn promtool_finds_nothing_to_say() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    traffic::answers(&c1.ns, OUTSIDE);
    stage.agent.network("n2", "--subnet 10.88.0.0/24");
    traffic::unreachable(&c1.ns, at(std::net::Ipv4Addr::new(10, 88, 0, 9), 80));
    let text = stage.agent.metrics().text;
    for name in [
        "bascule_endpoint_bytes_total",
        "bascule_endpoint_packets_total",
        "bascule_endpoint_drops_total",
        "bascule_port_bytes_total",
        "bascule_port_packets_total",
        "bascule_port_connections_total",
        "bascule_conntrack_entries",
        "bascule_conntrack_capacity",
        "bascule_network_info",
        "bascule_program_info",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing:\n{text}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian's package `prometheus`)");
    std::io::Write::write_all(&mut promtool.stdin.take().expect("piped"), text.as_bytes())
        .expect("promtool reads");
    let out = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.is_empty(), "promtool says:\n{said}");
}

#[test]
fn healthz_answers() {
    let stage = Stage::new();
    let url = format!("http://{}/healthz", bascule_tests::agent::METRICS);
    stage.net.host.sh(&format!("curl -sSf --max-time 5 {url}"));
}
