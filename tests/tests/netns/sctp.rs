//! SCTP, frame by frame: there are no sockets for it here.

use bascule_tests::{
    Netns,
    capture::{Capture, inject},
    frame::{Body, Frame},
    sctp::{self, SCTP},
    topology::{HOST, OUTSIDE},
    wait,
};

use crate::{Stage, bridge_of};

fn carries(frame: &Frame, (from, to): (u16, u16)) -> bool {
    matches!(&frame.body, Body::Raw { proto: SCTP, payload } if payload.starts_with(&sctp::init(from, to)))
}

/// The router's Ethernet address on the client's segment.
fn next_hop(outside: &Netns) -> [u8; 6] {
    bascule_tests::traffic::answers(outside, bascule_tests::topology::ROUTER_OUTSIDE);
    let shown = outside.sh(&format!("ip neigh show {}", bascule_tests::topology::ROUTER_OUTSIDE));
    let at = shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    bascule_tests::netns::parse_mac(at.expect("an Ethernet address"))
}

#[test]
fn moby_pm_043_sctp_frames_go_out_and_come_back() {
    let (stage, c1, c2) = Stage::with_pair();
    let outside = &stage.net.outside;
    let bridge = stage.net.host.mac(&bridge_of(&stage, "n1"));
    let there = Capture::arriving(outside, "eth0");
    let (inside, beside) = (Capture::arriving(&c1.ns, "eth0"), Capture::arriving(&c2.ns, "eth0"));
    let send = |from: &bascule_tests::Container, ports: (u16, u16)| {
        let packet = sctp::init(ports.0, ports.1);
        let frame = Frame::raw(&from.address().to_string(), &OUTSIDE.to_string(), SCTP, &packet);
        inject(&from.ns, "eth0", &frame.macs(from.ns.mac("eth0"), bridge).bytes());
    };
    send(&c1, (4000, 300));
    let seen = there.wait_for("the packet outside", |frame| carries(frame, (4000, 300)));
    assert_eq!((seen.src, seen.dst), (HOST.into(), OUTSIDE.into()));
    let answer = Frame::raw(&OUTSIDE.to_string(), &HOST.to_string(), SCTP, &sctp::init(300, 4000));
    inject(outside, "eth0", &answer.macs(outside.mac("eth0"), next_hop(outside)).bytes());
    let seen = inside.wait_for("the answer inside", |frame| carries(frame, (300, 4000)));
    assert_eq!((seen.src, seen.dst), (OUTSIDE.into(), c1.address().into()));
    // Addresses alone: a neighbour with the same port is told apart from the first by nothing.
    send(&c2, (4000, 300));
    wait::wait_until("the drop is counted", wait::SOON, || {
        stage.agent.metrics().drops("c2", "nat_port_exhausted") == 1
    });
    send(&c2, (4001, 300));
    there.wait_for("another port outside", |frame| carries(frame, (4001, 300)));
    beside.assert_none("an answer that is another's", |frame| frame.proto() == SCTP);
    // Within the network nothing is translated.
    let packet = sctp::init(5000, 300);
    let near = Frame::raw(&c1.address().to_string(), &c2.address().to_string(), SCTP, &packet);
    inject(&c1.ns, "eth0", &near.macs(c1.ns.mac("eth0"), c2.ns.mac("eth0")).bytes());
    let seen = beside.wait_for("the neighbour's packet", |frame| carries(frame, (5000, 300)));
    assert_eq!(seen.src, c1.address());
    let refused = stage
        .agent
        .cli("container create --name x --network n1 -p 300:65000/sctp".split_whitespace());
    assert!(refused.code == 1 && refused.stderr.contains("sctp"), "{refused:?}");
}
