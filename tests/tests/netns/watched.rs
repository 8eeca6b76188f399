//! What is seen of connections and packets while somebody watches: every packet once, with the right names, and
//! nothing any more when nobody does.

use std::net::{Ipv6Addr, SocketAddr};

use bascule_tests::{
    Netns,
    capture::Capture,
    frame::Frame,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
    wait,
};
use serde_json::Value;

use crate::{
    Stage, at, at6,
    monitor::{Monitor, is},
};

/// Packets and bytes from the IP header on, to this port and back from it.
fn captured(capture: &Capture, port: u16) -> [u64; 4] {
    let mut sums = [0; 4];
    for bytes in capture.raw() {
        let Some((src, dst)) = Frame::parse(&bytes).and_then(|frame| frame.ports()) else {
            continue;
        };
        let way = match port {
            port if port == dst => 0,
            port if port == src => 2,
            _ => continue,
        };
        sums[way] += 1;
        sums[way + 1] += bytes.len() as u64 - 14;
    }
    sums
}

fn told(seen: &Value) -> [u64; 4] {
    ["SentPackets", "SentBytes", "ReceivedPackets", "ReceivedBytes"]
        .map(|key| seen[key].as_u64().unwrap_or_else(|| panic!("no {key} in {seen}")))
}

/// Says something over a connection, and ends it.
fn talk<A: traffic::Endpoint>(ns: &Netns, to: A) {
    let mut conversation = Conversation::open(ns, to).expect("a connection");
    for _ in 0..3 {
        conversation.say().expect("an answer");
    }
}

#[test]
fn n48_p81_every_packet_of_a_connection_is_counted_once() {
    let stage = Stage::dual();
    stage.agent.network("n1", "--ipv6");
    let ports = "-p 8080:80 -p 8082:82";
    let web = stage.agent.container("web", "n1", ports);
    let c1 = stage.agent.container("c1", "n1", "");
    let serve =
        |ns: &Netns, port| TcpServer::start_at(ns, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let _servers = [80, 81, 82, 84].map(|port| serve(&web.ns, port));
    let _outside = serve(&stage.net.outside, 83);
    let monitor = Monitor::start(&stage, "closes", "--type open,close -o json");
    // Once something is told, somebody watches.
    monitor.expect(
        "a first connection",
        || {
            traffic::reaches(&c1.ns, at(web.address(), 81));
        },
        |seen| is(seen, &[("Type", "open"), ("To", "web")]),
    );
    let capture = Capture::both_ways(&web.ns, "eth0");
    let before = captured(&capture, 81);
    assert_eq!(before, [0; 4], "the first connections are over");

    talk(&stage.net.outside, at(HOST, 8080));
    talk(&c1.ns, at6(web.address6(), 84));
    talk(&stage.net.host, at([127, 0, 0, 1].into(), 8082));
    talk(&web.ns, at(OUTSIDE, 83));
    for (from, to, port, kind) in [
        ("outside", "web", 80, "TranslatedDestination"),
        ("c1", "web", 84, "Destination"),
        ("host", "web", 82, "Destination"),
        ("web", "outside", 83, "Destination"),
    ] {
        let is_it = |seen: &Value| {
            is(seen, &[("Type", "close"), ("From", from), ("To", to), ("End", "closed")])
                && seen[kind].as_str().is_some_and(|end| end.ends_with(&format!(":{port}")))
        };
        let seen = monitor.expect(&format!("the end of port {port}"), || (), is_it);
        let counted = captured(&capture, port);
        assert!(counted[0] > 5 && counted[2] > 4, "{counted:?}");
        assert_eq!(told(&seen), counted, "port {port}: {seen}");
        assert_eq!(seen["Network"], "n1", "{seen}");
    }
}

#[test]
fn p80_packets_are_traced_of_whom_it_is_asked_for_and_no_longer_than_that() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let web = stage.agent.container("web", "n1", "-p 8080:80");
    let c1 = stage.agent.container("c1", "n1", "");
    let _servers = [80, 81].map(|port| TcpServer::start(&web.ns, port));
    let _outside = TcpServer::start(&stage.net.outside, 80);
    let refused = stage.agent.refused("monitor --type trace --network n1");
    assert!(refused.contains("name whose packets"), "{refused}");

    let trace = Monitor::start(&stage, "trace", "--type trace --related-to web --port 80 -o json");
    let line = Monitor::start(&stage, "line", "--type trace --from c1 --to web");
    let from_outside = |seen: &Value| is(seen, &[("From", "outside"), ("To", "web")]);
    let seen = trace.expect(
        "a packet from outside",
        || {
            traffic::reaches(&stage.net.outside, at(HOST, 8080));
        },
        |seen| from_outside(seen),
    );
    for (key, value) in [
        ("Type", "trace"),
        ("Verdict", "allowed"),
        ("Proto", "tcp"),
        ("Network", "n1"),
        ("Explanation", "sent on"),
        ("Destination", &format!("{HOST}:8080")),
        ("TranslatedDestination", &format!("{}:80", web.address())),
    ] {
        assert_eq!(seen[key], value, "{key} of {seen}");
    }
    let answer = trace.expect("its answer", || (), |seen| is(seen, &[("From", "web")]));
    let (source, translated) = (format!("{}:80", web.address()), format!("{HOST}:8080"));
    assert!(is(&answer, &[("Source", &source), ("TranslatedSource", &translated)]), "{answer}");
    // Another port, other containers: nobody asked.
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
    wait::wait_until("a line for people", wait::START, || {
        traffic::reaches(&c1.ns, at(web.address(), 81));
        line.text().contains("trace     c1 ")
    });
    let other = |text: String| text.contains(":81\"") || text.contains("\"From\":\"c1\"");
    assert!(!other(trace.text()), "{}", trace.text());
    assert!(line.text().contains("bytes, sent on"), "{}", line.text());

    // There are eight slots, two of which are taken until their watchers go.
    let seven: Vec<_> = (1..=7).map(|last| format!("192.0.2.{last}")).collect();
    let eight = format!("--type trace --from {},web", seven.join(","));
    let refused = stage.agent.refused(&format!("monitor {eight}"));
    assert!(refused.contains("8 addresses and endpoints"), "{refused}");
    drop((trace, line));
    wait::wait_until("room for eight", wait::START, || {
        let next = Monitor::start(&stage, "next", &eight);
        wait::wait_until("an event or an error", wait::START, || {
            traffic::reaches(&c1.ns, at(web.address(), 81));
            !next.text().is_empty()
        });
        next.text().contains("trace     web ")
    });
}
