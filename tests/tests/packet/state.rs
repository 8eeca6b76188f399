//! Connections over time: collisions, exhaustion, eviction, generations, full tables.

use bascule_common::abi::{DropReason, Flow4, FlowKey4, Stat, state};
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{HOST, World, interface},
};

fn out(container: u32, port: u16) -> Frame {
    let source = super::world::CONTAINERS[usize::try_from(container - 1).expect("an index")].0;
    Frame::udp(&format!("{source}:{port}"), "203.0.113.7:53")
}

#[test]
fn appendix_d4_equal_ports_of_two_containers_get_two_outside() {
    let mut twin = Twin::new(World::new());
    let first = twin.sends(1, &out(1, 50_000)).left().ports().expect("ports").0;
    let second = twin.sends(2, &out(2, 50_000)).left().ports().expect("ports").0;
    assert_eq!(first, 50_000, "a port of the range is kept where it is free");
    assert_ne!(first, second);
    for (port, container) in [(first, 1), (second, 2)] {
        let back = Frame::udp("203.0.113.7:53", &format!("{HOST}:{port}"));
        twin.arrives(&back).delivered(container);
    }
}

#[test]
fn ports_of_a_small_range_run_out_with_a_reason() {
    let world = World::new().with(|tables| {
        tables.config.masquerade_first = 50_000;
        tables.config.masquerade_last = 50_001;
    });
    let mut twin = Twin::new(world);
    let mut seen = Vec::new();
    let mut refused = 0;
    for port in 1000..1010 {
        let end = twin.sends(1, &out(1, port));
        if end.verdict.is_ok() {
            seen.push(end.left().ports().expect("ports").0);
        } else {
            end.dropped(DropReason::NatPortExhausted);
            refused += 1;
        }
    }
    seen.sort_unstable();
    assert_eq!((seen, refused), (vec![50_000, 50_001], 8));
    assert_eq!(twin.tables.stats.borrow()[&Stat::PortsExhausted], 8);
    // Another destination has all the ports for itself.
    twin.sends(1, &Frame::udp("172.20.0.2:1000", "203.0.113.8:53")).left();
}

#[test]
fn a_published_port_of_the_range_is_not_masqueraded_with() {
    let mut twin = Twin::new(World::new().publish(1, UDP, (50_000, 80, 1), 2));
    let port = twin.sends(1, &out(1, 50_000)).left().ports().expect("ports").0;
    assert_ne!(port, 50_000);
}

#[test]
fn appendix_d3_an_evicted_flow_finds_its_port_again() {
    let mut twin = Twin::new(World::new());
    let before = twin.sends(1, &out(1, 1000)).left().ports();
    // Both entries.
    twin.change(|tables| tables.four.flows.borrow_mut().clear());
    assert_eq!(twin.sends(1, &out(1, 1000)).left().ports(), before);
    // The opening direction's alone: what is left is adopted.
    twin.change(|tables| {
        tables.four.flows.borrow_mut().retain(|_, flow| flow.state & state::IS_REPLY != 0);
    });
    assert_eq!(twin.sends(1, &out(1, 1000)).left().ports(), before);
    assert_eq!(twin.tables.stats.borrow().get(&Stat::FlowsAdopted), Some(&1));
}

#[test]
fn appendix_d3_half_open_flows_make_room_and_answered_ones_stay() {
    const PLACES: u32 = 4;
    let world = World::new().publish(1, TCP, (8080, 80, 1), 2);
    let mut twin = Twin::new(world.with(|tables| tables.config.half_open = [PLACES, PLACES]));
    let early_drops =
        |twin: &Twin| twin.tables.stats.borrow().get(&Stat::EarlyDrops).copied().unwrap_or(0);
    // A connection of each direction, and a question with its answer.
    let (client, server) = ("203.0.113.9:1234", "172.20.0.3:80");
    let published = format!("{HOST}:8080");
    let request = Frame::tcp(client, &published);
    twin.arrives(&request.clone().syn()).delivered(2);
    twin.sends(2, &Frame::tcp(server, client).syn_ack()).left();
    twin.arrives(&request).delivered(2);
    let (inside, outside) = ("172.20.0.2:50000", "203.0.113.7:443");
    let back = Frame::tcp(outside, &format!("{HOST}:50000"));
    twin.sends(1, &Frame::tcp(inside, outside).syn()).left();
    twin.arrives(&back.clone().syn_ack()).delivered(1);
    twin.sends(1, &Frame::tcp(inside, outside)).left();
    let question = twin.sends(1, &out(1, 50_001)).left().ports().expect("ports").0;
    let answer = Frame::udp("203.0.113.7:53", &format!("{HOST}:{question}"));
    twin.arrives(&answer).delivered(1);
    let standing = twin.tables.four.flows.borrow().len();
    assert_eq!(standing, 6, "three flows");
    // Of a flood, so many are left as there are places; of what has an answer without the handshake's end, none more.
    for number in 0..20_u16 {
        let flood = Frame::tcp(&format!("203.0.113.100:{}", 2_000 + number), &published);
        twin.arrives(&flood.syn()).delivered(2);
        if number == 2 {
            let answer = Frame::tcp(server, "203.0.113.100:2002").syn_ack();
            twin.sends(2, &answer).left();
        }
    }
    let places = usize::try_from(PLACES).expect("a few");
    assert_eq!(twin.tables.four.flows.borrow().len(), standing + 2 * places);
    assert_eq!(early_drops(&twin), 20 - u64::from(PLACES));
    // Those that stood go on, as they were.
    twin.arrives(&back).delivered(1);
    twin.arrives(&answer).delivered(1);
    twin.sends(2, &Frame::tcp(server, client)).left();
    // One that comes again after its flow was given up opens it again.
    let again = Frame::tcp("203.0.113.100:2000", &published);
    twin.arrives(&again.syn()).delivered(2);
    assert_eq!(early_drops(&twin), 21 - u64::from(PLACES));
}

/// A connection from container 1 to outside that closed a while ago, and whose answers' entry is gone.
fn half_closed(proto: u8) -> (Twin, Frame, Frame) {
    let mut twin = Twin::new(World::new());
    let (inside, outside) = ("172.20.0.2:50000", "203.0.113.7:53");
    let back = format!("{HOST}:50000");
    let (request, answer) = if proto == UDP {
        (Frame::udp(inside, outside), Frame::udp(outside, &back))
    } else {
        let (request, answer) = (Frame::tcp(inside, outside), Frame::tcp(outside, &back));
        twin.sends(1, &request.clone().syn()).left();
        twin.arrives(&answer.clone().syn_ack()).delivered(1);
        for _ in 0..2 {
            twin.sends(1, &request.clone().fin()).left();
            twin.arrives(&answer.clone().fin()).delivered(1);
        }
        (request.syn(), answer.syn_ack())
    };
    twin.sends(1, &request).left();
    twin.arrives(&answer).delivered(1);
    twin.change(|tables| {
        let mut flows = tables.four.flows.borrow_mut();
        flows.retain(|_, flow| flow.state & state::IS_REPLY == 0);
        for flow in flows.values_mut() {
            flow.last_seen = flow.last_seen.wrapping_sub(5);
        }
    });
    (twin, request, answer)
}

#[test]
fn appendix_d3_traffic_of_one_direction_keeps_both_entries() {
    let mut twin = Twin::new(World::new());
    twin.sends(1, &out(1, 50_000)).left();
    let age = |twin: &mut Twin| {
        let mut oldest = 0;
        twin.change(|tables| {
            for flow in tables.four.flows.borrow_mut().values_mut() {
                oldest = oldest.max(Twin::now().wrapping_sub(flow.last_seen));
                flow.last_seen = flow.last_seen.wrapping_sub(20);
            }
        });
        oldest
    };
    age(&mut twin);
    twin.sends(1, &out(1, 50_000)).left();
    assert!(age(&mut twin) <= 2, "both were seen a moment ago");
}

#[test]
fn appendix_d3_a_flow_whose_answers_lost_their_way_opens_anew() {
    for proto in [TCP, UDP] {
        let (mut twin, request, answer) = half_closed(proto);
        assert_eq!(twin.sends(1, &request).left().ports(), Some((50_000, 53)));
        twin.arrives(&answer).delivered(1);
    }
}

#[test]
fn appendix_d3_a_flow_whose_answers_became_anothers_takes_another_port() {
    for proto in [TCP, UDP] {
        let (mut twin, request, answer) = half_closed(proto);
        let (from, to) = ("172.20.0.3:50000", "203.0.113.7:53");
        let other = if proto == TCP { Frame::tcp(from, to).syn() } else { Frame::udp(from, to) };
        assert_eq!(twin.sends(2, &other).left().ports(), Some((50_000, 53)));
        assert_ne!(twin.sends(1, &request).left().ports(), Some((50_000, 53)));
        twin.arrives(&answer).delivered(2);
    }
}

#[test]
fn appendix_d3_a_published_port_whose_answers_lost_their_way_is_reached_again() {
    let mut twin = Twin::new(World::new().publish(1, TCP, (8080, 80, 1), 2));
    let request = Frame::tcp("203.0.113.7:50000", &format!("{HOST}:8080")).syn();
    let answer = Frame::tcp("172.20.0.3:80", "203.0.113.7:50000").syn_ack();
    twin.arrives(&request).delivered(2);
    twin.sends(2, &answer).left();
    twin.change(|tables| {
        let mut flows = tables.four.flows.borrow_mut();
        flows.retain(|_, flow| flow.state & state::IS_REPLY == 0);
        for flow in flows.values_mut() {
            flow.last_seen = flow.last_seen.wrapping_sub(5);
        }
    });
    twin.arrives(&request).delivered(2);
    let answered = twin.sends(2, &answer).left();
    assert_eq!(
        (answered.src.to_string(), answered.ports()),
        (HOST.to_owned(), Some((8080, 50_000)))
    );
}

#[test]
fn n14_appendix_d1_a_stale_generation_is_never_followed() {
    let mut twin = Twin::new(World::new());
    let port = twin.sends(1, &out(1, 1000)).left().ports().expect("ports").0;
    let back = Frame::udp("203.0.113.7:53", &format!("{HOST}:{port}"));
    twin.arrives(&back).delivered(1);
    // The container goes: the first thing that happens is this.
    twin.change(|tables| {
        tables.generations.insert(1, 77);
    });
    twin.arrives(&back).passed();
    // And its address is another's, with the same index, before any entry is collected.
    twin.change(|tables| {
        tables.endpoints.get_mut(&interface(1)).expect("an endpoint").generation = 77;
        for neighbour in tables.four.neighbours.values_mut() {
            if neighbour.endpoint == 1 {
                neighbour.generation = 77;
            }
        }
    });
    twin.arrives(&back).passed();
    // The new one's own flow to the same place takes the dead one's over.
    twin.sends(1, &out(1, 1000)).left();
    assert_eq!(twin.tables.four.flows.borrow().len(), 2);
}

#[test]
fn cil_nat_013_an_uplink_address_that_left_ends_its_flows() {
    let mut twin = Twin::new(World::new());
    twin.sends(1, &out(1, 1000)).left();
    twin.change(|tables| {
        tables.four.locals.remove(&super::world::ip(HOST));
        tables.four.locals.insert(super::world::ip("198.51.100.77"), Default::default());
        for uplink in tables.uplinks.values_mut() {
            uplink.masquerade4 = super::world::ip("198.51.100.77");
        }
        for flow in tables.four.flows.borrow_mut().values_mut() {
            flow.last_seen = flow.last_seen.wrapping_sub(5);
        }
    });
    assert_eq!(twin.sends(1, &out(1, 1000)).left().src.to_string(), "198.51.100.77");
}

#[test]
fn cil_ct_003_a_finished_flow_gives_its_place() {
    let mut twin = Twin::new(World::new());
    let flow = |twin: &mut Twin, source: &str, flags: u8| {
        let frame = Frame::tcp(&format!("{source}:50000"), "203.0.113.7:80").flags(flags);
        let container = if source.ends_with(".2") { 1 } else { 2 };
        twin.sends(container, &frame).left().ports().expect("ports").0
    };
    assert_eq!(flow(&mut twin, "172.20.0.2", 2), 50_000);
    assert_ne!(flow(&mut twin, "172.20.0.3", 2), 50_000);
    // The first is reset; a third may have its port.
    assert_eq!(flow(&mut twin, "172.20.0.2", 4), 50_000);
    let frame = Frame::tcp("172.21.0.2:50000", "203.0.113.7:80").syn();
    assert_eq!(twin.sends(3, &frame).left().ports(), Some((50_000, 80)));
}

#[test]
fn the_same_frame_again_changes_nothing_but_counters() {
    let mut twin = Twin::new(World::new());
    twin.sends(1, &out(1, 1000)).left();
    let before: Vec<(FlowKey4, Flow4)> =
        twin.tables.four.flows.borrow().iter().map(|(k, v)| (*k, *v)).collect();
    for _ in 0..10 {
        twin.sends(1, &out(1, 1000)).left();
    }
    let after: Vec<FlowKey4> = twin.tables.four.flows.borrow().keys().copied().collect();
    assert_eq!(after, before.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    assert_eq!(twin.tables.endpoint_stats.borrow()[&1].sent.packets, 11);
}
