//! As many published ports as a host may have.

use std::{io::ErrorKind, net::TcpListener};

use bascule_tests::{
    topology::HOST,
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

/// Ports of a range.
const RANGE: u16 = 16_384;
/// First ports of the ranges.
const FIRST: [u16; 3] = [10_000, 10_000 + RANGE, 10_000 + 2 * RANGE];
/// Ports behind the ranges that have a rule each: 100,000 in all.
const SINGLE: std::ops::Range<u16> = 60_000..61_696;

#[test]
fn n8_n9_a_hundred_thousand_ports_are_published_and_served() {
    let mut stage = Stage::new();
    // What is published is reserved: all of the usual range is, and the host's own connections need some.
    stage.net.host.sysctl_set("net/ipv4/ip_local_port_range", "2000 8999");
    stage.agent.network("n1", "");
    let published = 2 * FIRST.len() * usize::from(RANGE) + SINGLE.len();
    assert_eq!(published, 100_000);
    let ranges: Vec<String> = ["tcp", "udp"]
        .into_iter()
        .flat_map(|proto| {
            FIRST.map(|first| {
                let last = first + (RANGE - 1);
                format!("-p {first}-{last}:{first}-{last}/{proto}")
            })
        })
        .collect();
    let wide = stage.agent.container("wide", "n1", &ranges.join(" "));
    let singles: Vec<String> = SINGLE.map(|port| format!("-p {port}:{port}")).collect();
    let many = stage.agent.container("many", "n1", &singles.join(" "));

    let last = FIRST[2] + (RANGE - 1);
    let ends = [FIRST[0], FIRST[1], last];
    let _tcp: Vec<_> = ends.iter().map(|port| TcpServer::start(&wide.ns, *port)).collect();
    let _udp: Vec<_> = ends.iter().map(|port| UdpServer::start(&wide.ns, *port)).collect();
    let edges = [SINGLE.start, SINGLE.end - 1];
    let _edges: Vec<_> = edges.iter().map(|port| TcpServer::start(&many.ns, *port)).collect();
    let served = |stage: &Stage| {
        for from in [&stage.net.outside, &stage.net.host] {
            for port in ends {
                traffic::reaches(from, at(HOST, port));
                traffic::exchange(from, at(HOST, port), 10);
            }
            for port in edges {
                traffic::reaches(from, at(HOST, port));
            }
        }
        traffic::refused(&stage.net.outside, at(HOST, SINGLE.end));
    };
    served(&stage);

    // Lists take no longer for it, and a range is one word there and one series a direction.
    assert_eq!(stage.agent.ok("port many").lines().count(), SINGLE.len());
    let listed = stage.agent.ok("ps");
    let (first, last) = (FIRST[0], FIRST[2] + (RANGE - 1));
    assert!(listed.contains(&format!("0.0.0.0:{first}-{last}->{first}-{last}/udp")), "{listed}");
    let metrics = stage.agent.metrics();
    let series = metrics.select("bascule_port_packets_total", &[("container", "wide")]).count();
    assert!((1..=2 * ranges.len()).contains(&series), "{series} series of {} ranges", ranges.len());
    // No process of the host gets any of them.
    for port in [FIRST[0] + 1, last - 1, SINGLE.start + 1] {
        let bound = stage.net.host.run(|| TcpListener::bind(at(HOST, port)));
        assert_eq!(
            bound.map(drop).map_err(|error| error.kind()),
            Err(ErrorKind::AddrInUse),
            "{port}"
        );
    }

    // The next agent finds them as they are.
    stage.agent.kill9();
    stage.agent.restart();
    served(&stage);
    stage.agent.ok("container rm -f wide many");
    for port in ends.into_iter().chain(edges) {
        traffic::refused(&stage.net.outside, at(HOST, port));
    }
}
