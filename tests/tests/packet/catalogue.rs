//! Cases of the catalogue that no other file names.
//!
//! Of its group M three cases have nothing to show: a published port has one container, on this host. So there is no
//! backend elsewhere (CIL-LB-003), none that gives way to another (CIL-LB-006), and no choice to stay with (CIL-LB-007).

use bascule_common::abi::{DropReason, FlowKey4, Port, state};
use bascule_tests::frame::{Body, Frame, ICMP, TCP, UDP};

use super::{
    twin::Twin,
    world::{C1, HOST, WORLD, World, ip},
};

/// Three fragments of a ping with 3,000 bytes.
fn ping(frame: Frame, id: u16) -> Vec<Frame> {
    frame.data(&[0x5a; 3_000]).fragment(0).id(id).fragments(1_480)
}

#[test]
fn cil_nat_016_a_fragmented_ping_leaves_and_comes_back() {
    let mut twin = Twin::new(World::new());
    let mut outside = 0;
    for (index, part) in ping(Frame::echo(C1, WORLD, 0x1234), 1_234).iter().enumerate() {
        let end = twin.sends(1, part);
        let seen = end.left();
        assert_eq!((seen.src.to_string().as_str(), seen.id), (HOST, 1_234));
        if index == 0 {
            outside = u16::from_be_bytes([end.bytes[38], end.bytes[39]]);
        } else {
            // Nothing of it is a header, and nothing of it is changed.
            assert_eq!(end.bytes[34..], part.bytes()[34..]);
        }
    }
    for (index, part) in ping(Frame::echo_reply(WORLD, HOST, outside), 1_235).iter().enumerate() {
        let end = twin.arrives(part);
        assert_eq!(end.delivered(1).dst.to_string(), C1);
        if index == 0 {
            assert_eq!(end.bytes[38..40], 0x1234_u16.to_be_bytes(), "the container's identifier");
        }
    }
    assert_eq!(twin.tables.four.flows.borrow().len(), 2);
}

#[test]
fn cil_nat_007_the_first_packet_out_enters_the_way_back() {
    let mut twin = Twin::new(World::new());
    // A port of the range is kept where it is free.
    twin.sends(1, &Frame::tcp("172.20.0.2:50000", "203.0.113.7:80").syn()).left();
    let key = FlowKey4 {
        src: ip(WORLD),
        dst: ip(HOST),
        src_port: Port::new(80),
        dst_port: Port::new(50_000),
        proto: 6,
        ..FlowKey4::default()
    };
    let flows = twin.tables.four.flows.borrow();
    let back = flows.get(&key).expect("the entry for the answers");
    assert_eq!((back.dst, back.dst_port, back.to), (ip(C1), Port::new(50_000), 1));
    assert_eq!(back.state & state::IS_REPLY, state::IS_REPLY);
}

#[test]
fn cil_ct_001_a_connection_closes_by_both_sides_and_opens_again() {
    let mut twin = Twin::new(World::new());
    let seen = twin.sends(1, &Frame::tcp("172.20.0.2:50000", "203.0.113.7:80").syn()).left();
    assert_eq!(seen.ports(), Some((50_000, 80)));
    let out = |flags| Frame::tcp("172.20.0.2:50000", "203.0.113.7:80").flags(flags);
    let back = |flags| Frame::tcp("203.0.113.7:80", "198.51.100.1:50000").flags(flags);
    let seen = |twin: &Twin| {
        twin.tables.four.flows.borrow().values().fold(0, |all, flow| all | flow.state)
    };
    twin.arrives(&back(18)).delivered(1);
    twin.sends(1, &out(16)).left();
    assert_ne!(seen(&twin) & state::ESTABLISHED, 0);
    twin.sends(1, &out(17)).left();
    assert_eq!(seen(&twin) & (state::FIN_ORIGINAL | state::FIN_REPLY), state::FIN_ORIGINAL);
    // Half closed is open: the answer still comes.
    twin.arrives(&back(24)).delivered(1);
    twin.arrives(&back(17)).delivered(1);
    assert_ne!(seen(&twin) & state::FIN_REPLY, 0);
    // The same tuple again: the same mapping, a new connection.
    let again = twin.sends(1, &out(2).data(b"")).left();
    assert_eq!(again.ports(), Some((50_000, 80)));
    let forward = twin.tables.four.flows.borrow();
    let forward = forward.values().find(|flow| flow.state & state::IS_REPLY == 0).copied();
    let left = forward.expect("the forward entry").state;
    assert_eq!(left & (state::FIN_ORIGINAL | state::FIN_REPLY | state::ESTABLISHED), 0);
}

#[test]
fn cil_ct_002_a_served_connection_is_half_open_after_one_fin_and_who_is_unknown_is_new() {
    let mut twin = Twin::new(World::new().publish(1, TCP, (8080, 80, 1), 1));
    let asks = |port: u16, flags| {
        Frame::tcp(&format!("{WORLD}:{port}"), &format!("{HOST}:8080")).flags(flags)
    };
    let says = |flags| Frame::tcp(&format!("{C1}:80"), &format!("{WORLD}:5000")).flags(flags);
    let count = |twin: &Twin| twin.tables.four.flows.borrow().len();
    twin.arrives(&asks(5000, 2).data(b"")).delivered(1);
    twin.sends(1, &says(18)).left();
    twin.arrives(&asks(5000, 16)).delivered(1);
    // One entry a direction, and both know the state of the connection: one FIN ends neither.
    twin.arrives(&asks(5000, 17)).delivered(1);
    twin.sends(1, &says(24)).left();
    assert_eq!(count(&twin), 2);
    twin.arrives(&asks(5001, 2).data(b"")).delivered(1);
    assert_eq!(count(&twin), 4);
}

#[test]
fn cil_nat_014_a_network_leaves_with_its_own_fixed_address() {
    let world = World::new().with(|tables| {
        let fixed = "198.51.100.44";
        tables.networks.get_mut(&1).expect("network 1").masquerade4 = ip(fixed);
        tables.four.locals.insert(ip(fixed), Default::default());
    });
    let mut twin = Twin::new(world);
    let seen = twin.sends(1, &Frame::udp("172.20.0.2:50000", "203.0.113.7:53")).left();
    assert_eq!(seen.src.to_string(), "198.51.100.44");
    let back = Frame::udp("203.0.113.7:53", "198.51.100.44:50000");
    assert_eq!(twin.arrives(&back).delivered(1).ports(), Some((53, 50_000)));
    // Another network keeps the uplink's; the same network is no way out at all.
    let seen = twin.sends(3, &Frame::udp("172.21.0.2:50000", "203.0.113.7:53")).left();
    assert_eq!(seen.src.to_string(), HOST);
    let near = Frame::udp("172.20.0.2:50000", "172.20.0.3:53");
    assert_eq!(twin.sends_near(1, &near).delivered(2).src.to_string(), C1);
}

#[test]
fn cil_frg_002_what_is_a_fragment_and_what_has_ports() {
    let whole = Frame::udp("172.20.0.2:50000", "203.0.113.7:53").data(&[7; 100]);
    let parts = whole.clone().fragment(0).id(9).fragments(48);
    let mut twin = Twin::new(World::new());
    twin.sends(1, &whole).left();
    assert!(twin.tables.four.fragments.borrow().is_empty(), "it is none");
    // A middle one and the last one have no ports of their own, and nobody remembers any yet.
    twin.sends(1, &parts[1]).dropped(DropReason::FragNotFound);
    twin.sends(1, parts.last().expect("a last one")).dropped(DropReason::FragNotFound);
    twin.sends(1, &parts[0]).left();
    let fragments = twin.tables.four.fragments.borrow();
    let (key, ports) = fragments.iter().next().expect("the first one is remembered");
    assert_eq!((key.proto, key.src, key.id), (UDP, ip(C1), 9_u16.to_be().into()));
    assert_eq!((ports.src_port, ports.dst_port), (Port::new(50_000), Port::new(53)));
}

#[test]
fn cil_lb_011_a_drop_is_counted_once() {
    let mut twin = Twin::new(World::new().icc_off(1));
    // The comparison with the kernel's counters is the twin's, after every frame.
    for _ in 0..3 {
        twin.sends_near(1, &Frame::udp("172.20.0.2:1", "172.20.0.3:2"))
            .dropped(DropReason::PolicyIcc);
    }
    let drops: u64 = twin.kernel.drops().values().sum();
    assert_eq!(drops, 3);
    let echo = Frame::echo(C1, "172.20.0.3", 7);
    assert!(matches!(echo.body, Body::Icmp { .. }) && echo.proto() == ICMP);
    twin.sends_near(1, &echo).dropped(DropReason::PolicyIcc);
}
