//! The walks on the host: what leaves, what comes back, and what never happens.

mod properties;

use std::net::Ipv4Addr;

use bascule_common::{
    abi::{
        Address as _, DropReason, Ip6, Local, Network, Stat, names::map::TABLES_GENERATION, state,
        traffic::OPENED, watch,
    },
    datapath::{Kind, Verdict},
    testing::{
        Frame, FramePacket, Walk,
        bytes::{self, tuple},
        run,
        world::{
            C1, C2, C3, GATEWAY, GATEWAY2, HOST, ROUTER, UPLINK, WORLD, World, ip, mac, routed,
            veth,
        },
    },
    wire::{Icmp, proto, tcp},
};

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// Sends a frame of c1's to the outside. Answers the tuple as the outside sees it.
fn out(world: &World, frame: Frame) -> bytes::Tuple {
    let (end, bytes) = world.container_sends(1, &routed(frame, GATEWAY));
    assert_eq!(end, Ok(Verdict::leave(UPLINK, ip(ROUTER).to_any())));
    tuple(&bytes, 14)
}

#[test]
fn s93_s99_neighbours_talk_and_keep_their_addresses() {
    let world = World::new();
    let frame = Frame::tcp((C1, 40000), (C2, 80)).syn();
    let (end, bytes) = world.container_sends(1, &frame);
    assert_eq!(end, Ok(Verdict::deliver(veth(2))));
    assert_eq!(bytes, frame.build(), "a frame within a network is not touched");
    assert!(world.tables.four.flows.borrow().is_empty(), "and not tracked");
    let stats = world.tables.endpoint_stats.borrow();
    assert_eq!((stats[&1].sent.packets, stats[&2].received.packets), (1, 1));
}

#[test]
fn n48_what_goes_on_is_counted_by_its_translated_tuple_while_somebody_watches() {
    let syn = Frame::tcp((C1, 40000), (WORLD, 443)).syn();
    let unwatched = World::new();
    out(&unwatched, syn.clone());
    assert!(unwatched.tables.four.traffic.borrow().is_empty());
    let bits = watch::CONNECTIONS;
    let world = World::new().with(|tables| {
        tables.generations.insert(TABLES_GENERATION, bits);
    });
    out(&world, syn);
    assert!(
        world
            .container_sends(1, &routed(Frame::tcp((C1, 40000), (C3, 80)).syn(), GATEWAY))
            .0
            .is_err()
    );
    let traffic = world.tables.four.traffic.borrow();
    assert_eq!(traffic.len(), 1, "what is dropped is not counted");
    let (key, counted) = traffic.first_key_value().expect("one");
    assert_eq!((key.src, key.dst), (ip(HOST), ip(WORLD)));
    assert_eq!((counted.packets, counted.flags), (1, OPENED | u64::from(tcp::SYN)));
}

#[test]
fn s94_other_networks_are_out_of_reach() {
    let world = World::new();
    let frame = routed(Frame::tcp((C1, 40000), (C3, 80)).syn(), GATEWAY);
    assert_eq!(world.container_sends(1, &frame).0, Err(DropReason::PolicyIsolation));
}

#[test]
fn s96_s97_a_link_opens_the_exposed_port_and_its_answers() {
    let mut world = World::new();
    world = world.icc_off(1);
    let send = |world: &World, from: u32, frame: Frame| world.container_sends(from, &frame).0;
    assert_eq!(send(&world, 1, Frame::tcp((C1, 4000), (C2, 80)).syn()), Err(DropReason::PolicyIcc));
    world = world.link(1, 2, proto::TCP, 80);
    assert_eq!(
        send(&world, 1, Frame::tcp((C1, 4000), (C2, 80)).syn()),
        Ok(Verdict::deliver(veth(2)))
    );
    assert_eq!(
        send(&world, 2, Frame::tcp((C2, 80), (C1, 4000)).flags(tcp::SYN | tcp::ACK)),
        Ok(Verdict::deliver(veth(1)))
    );
    // Not the way back, not another port, not a ping.
    assert_eq!(send(&world, 2, Frame::tcp((C2, 80), (C1, 22)).syn()), Err(DropReason::PolicyIcc));
    assert_eq!(send(&world, 1, Frame::tcp((C1, 4000), (C2, 81)).syn()), Err(DropReason::PolicyIcc));
    assert_eq!(send(&world, 1, Frame::echo(C1, C2, 7)), Err(DropReason::PolicyIcc));
    // An error about what the link opened comes back; one about anything else does not.
    let refused = |about: &Frame| Frame::error(C2, C1, Icmp::UNREACHABLE, 3, about, 8);
    let opened = Frame::tcp((C1, 4000), (C2, 80)).syn();
    assert_eq!(send(&world, 2, refused(&opened)), Ok(Verdict::deliver(veth(1))));
    let closed = Frame::tcp((C1, 4000), (C2, 81)).syn();
    assert_eq!(send(&world, 2, refused(&closed)), Err(DropReason::PolicyIcc));
}

#[test]
fn s107_an_internal_network_reaches_its_gateway_alone() {
    let mut world = World::new();
    world = world.network(1, Network::ICC | Network::INTERNAL);
    let to = |dst| routed(Frame::udp((C1, 4000), (dst, 53)), GATEWAY);
    assert_eq!(world.container_sends(1, &to(WORLD)).0, Err(DropReason::PolicyInternal));
    assert_eq!(world.container_sends(1, &to(HOST)).0, Err(DropReason::PolicyInternal));
    assert_eq!(world.container_sends(1, &to(GATEWAY)).0, Ok(Verdict::PASS));
}

/// An IPv6 frame of c1's: next header, source, destination and payload.
fn ipv6(next: u8, src: [u8; 16], dst: [u8; 16], payload: &[u8]) -> FramePacket {
    let mut bytes = [0x33, 0x33, 0, 0, 0, 0x16].to_vec();
    bytes.extend(mac(C1));
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 255]);
    bytes.extend(src);
    bytes.extend(dst);
    bytes.extend(payload);
    FramePacket::new(bytes, veth(1))
}

#[test]
fn s64_neighbour_discovery_passes_for_the_own_address_alone() {
    let world = World::new();
    let own = Ip6::link_local(&mac(C1)).octets();
    let other = Ip6::link_local(&mac(C2)).octets();
    let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
    let send = |mut packet: FramePacket| {
        run(Walk::FromContainer, &mut packet, &world.tables, &world.kernel).outcome
    };
    // A listener report behind a router alert, before and after the address is settled.
    let report = [58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(send(ipv6(0, [0; 16], all, &report)), Ok(Verdict::PASS));
    assert_eq!(send(ipv6(0, own, all, &report)), Ok(Verdict::PASS));
    assert_eq!(send(ipv6(0, other, all, &report)), Err(DropReason::SpoofedIp));
    // Advertising oneself, somebody else, and a router.
    let advertise = |target: [u8; 16]| {
        [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target, &[2, 1], &mac(C1)].concat()
    };
    assert_eq!(send(ipv6(58, own, all, &advertise(own))), Ok(Verdict::PASS));
    assert_eq!(send(ipv6(58, own, all, &advertise(other))), Err(DropReason::SpoofedNd));
    assert_eq!(
        send(ipv6(58, own, all, &[134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        Err(DropReason::SpoofedNd)
    );
    // Anything else without an address, and the world.
    assert_eq!(send(ipv6(17, [0; 16], all, &[0; 8])), Err(DropReason::SpoofedIp));
    let world_wide = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut routed = ipv6(17, own, world_wide, &[0; 8]);
    routed.bytes[..6].copy_from_slice(&mac(GATEWAY));
    assert_eq!(send(routed), Err(DropReason::UnsupportedProto));
}

#[test]
fn spoofed_frames_are_named() {
    let world = World::new();
    let frame = Frame::tcp((C1, 1), (C2, 2));
    let send = |frame: &Frame| world.container_sends(1, frame).0;
    assert_eq!(send(&frame.clone().from_mac(mac(C2))), Err(DropReason::SpoofedMac));
    let other = Frame::tcp((C2, 1), (C1, 2)).from_mac(mac(C1));
    assert_eq!(send(&other), Err(DropReason::SpoofedIp));
    let martian = routed(Frame::tcp((C1, 1), ("127.0.0.1", 2)), GATEWAY);
    assert_eq!(send(&martian), Err(DropReason::MartianLoopback));
    let unknown = world.container_sends(77, &frame).0;
    assert_eq!(unknown, Err(DropReason::AgentNotReady));
}

#[test]
fn s109_masquerade_and_back_for_tcp_udp_and_echo() {
    let world = World::new();
    for frame in [
        Frame::tcp((C1, 40000), (WORLD, 443)).syn(),
        Frame::udp((C1, 40000), (WORLD, 53)),
        Frame::udp((C1, 40001), (WORLD, 53)).unchecked(),
    ] {
        let before = tuple(&frame.build(), 14);
        let ((src, port), dst) = out(&world, frame.clone());
        assert_eq!(src, address(HOST));
        assert!((49_152..=65_535).contains(&port), "{port} is in the masquerade range");
        assert_eq!(dst, before.1);
        let answer = match frame.build()[23] {
            proto::TCP => Frame::tcp((WORLD, dst.1), (HOST, port)).flags(tcp::SYN | tcp::ACK),
            _ => Frame::udp((WORLD, dst.1), (HOST, port)),
        };
        let (end, bytes) = world.uplink_gets(&answer);
        assert_eq!(end, Ok(Verdict::deliver(veth(1))));
        assert_eq!(tuple(&bytes, 14), (before.1, before.0), "the answer is for the sender");
        assert_eq!(bytes[0..6], mac(C1));
        assert_eq!(bytes[22], 63, "it was routed");
    }
    let ((src, id), _) = out(&world, Frame::echo(C1, WORLD, 77));
    assert_eq!(src, address(HOST));
    let (end, bytes) = world.uplink_gets(&Frame::echo_reply(WORLD, HOST, id));
    assert_eq!(end, Ok(Verdict::deliver(veth(1))));
    assert_eq!(tuple(&bytes, 14), ((address(WORLD), 77), (address(C1), 77)));
}

#[test]
fn an_evicted_flow_finds_its_mapping_again() {
    let world = World::new();
    let frame = Frame::tcp((C1, 40000), (WORLD, 443));
    let first = out(&world, frame.clone());
    world.forget_flows();
    assert_eq!(out(&world, frame), first);
}

#[test]
fn a_half_evicted_flow_is_adopted() {
    let world = World::new();
    let frame = Frame::tcp((C1, 40000), (WORLD, 443));
    let first = out(&world, frame.clone());
    world.tables.four.flows.borrow_mut().retain(|_, flow| flow.state & state::IS_REPLY != 0);
    assert_eq!(out(&world, frame), first);
    assert_eq!(world.tables.stats.borrow()[&Stat::FlowsAdopted], 1);
}

#[test]
fn s110_a_network_without_masquerade_keeps_its_addresses_and_gets_its_answers() {
    let mut world = World::new();
    world = world.network(1, Network::ICC);
    let seen = out(&world, Frame::tcp((C1, 40000), (WORLD, 443)).syn());
    assert_eq!(seen.0, (address(C1), 40000));
    let answer = Frame::tcp((WORLD, 443), (C1, 40000)).flags(tcp::SYN | tcp::ACK);
    assert_eq!(world.uplink_gets(&answer).0, Ok(Verdict::deliver(veth(1))));
    let stranger = Frame::tcp((WORLD, 444), (C1, 40000)).syn();
    assert_eq!(world.uplink_gets(&stranger).0, Err(DropReason::DirectRoutingBlocked));
}

#[test]
fn s111_s103_only_published_ports_are_open_and_the_client_keeps_its_address() {
    let mut world = World::new();
    world = world.publish(5, proto::TCP, (8080, 80, 1), 1);
    let client = Frame::tcp((WORLD, 5555), (HOST, 8080)).syn();
    let (end, bytes) = world.uplink_gets(&client);
    assert_eq!(end, Ok(Verdict::deliver(veth(1))));
    assert_eq!(tuple(&bytes, 14), ((address(WORLD), 5555), (address(C1), 80)));
    let answer = Frame::tcp((C1, 80), (WORLD, 5555)).flags(tcp::SYN | tcp::ACK);
    let (end, bytes) = world.container_sends(1, &routed(answer, GATEWAY));
    assert_eq!(end, Ok(Verdict::leave(UPLINK, ip(ROUTER).to_any())));
    assert_eq!(tuple(&bytes, 14), ((address(HOST), 8080), (address(WORLD), 5555)));
    assert_eq!(world.tables.rule_stats.borrow()[&5].connections, 1);

    let closed = Frame::tcp((WORLD, 5555), (HOST, 8081)).syn();
    assert_eq!(world.uplink_gets(&closed).0, Ok(Verdict::PASS), "the host's own business");
    let direct = Frame::tcp((WORLD, 5555), (C1, 80)).syn();
    assert_eq!(world.uplink_gets(&direct).0, Err(DropReason::DirectRoutingBlocked));
    let inside_out = Frame::tcp((C2, 5555), (HOST, 8080)).syn();
    assert_eq!(world.uplink_gets(&inside_out).0, Err(DropReason::SpoofedIp));
}

#[test]
fn a_published_range_keeps_the_offset() {
    let mut world = World::new();
    world = world.publish(5, proto::UDP, (9000, 5000, 1000), 1);
    let (end, bytes) = world.uplink_gets(&Frame::udp((WORLD, 1), (HOST, 9999)));
    assert_eq!(end, Ok(Verdict::deliver(veth(1))));
    assert_eq!(tuple(&bytes, 14).1, (address(C1), 5999));
}

#[test]
fn hairpins_to_self_to_a_neighbour_and_to_another_network() {
    for (server, reply_by_gateway) in [(1, true), (2, true), (3, false)] {
        let mut world = World::new();
        world = world.publish(5, proto::TCP, (8080, 80, 1), server);
        let request = routed(Frame::tcp((C1, 4000), (HOST, 8080)).syn(), GATEWAY);
        let (end, bytes) = world.container_sends(1, &request);
        assert_eq!(end, Ok(Verdict::deliver(veth(server))));
        let ((src, port), (dst, service)) = tuple(&bytes, 14);
        assert_eq!(src, address(if reply_by_gateway { GATEWAY } else { C1 }));
        assert_eq!(service, 80);
        let answer =
            Frame::tcp((&dst.to_string(), 80), (&src.to_string(), port)).flags(tcp::SYN | tcp::ACK);
        let gateway = if server == 3 { GATEWAY2 } else { GATEWAY };
        let (end, bytes) = world.container_sends(server, &routed(answer, gateway));
        assert_eq!(end, Ok(Verdict::deliver(veth(1))), "from {server}");
        assert_eq!(tuple(&bytes, 14), ((address(HOST), 8080), (address(C1), 4000)));
    }
}

#[test]
fn a_removed_endpoint_takes_its_flows_along() {
    let mut world = World::new();
    world = world.publish(5, proto::UDP, (53, 53, 1), 1);
    assert_eq!(
        world.uplink_gets(&Frame::udp((WORLD, 9), (HOST, 53))).0,
        Ok(Verdict::deliver(veth(1)))
    );
    // c1 goes; its port goes to c2.
    world.tables.generations.insert(1, 2);
    world = world.publish(6, proto::UDP, (53, 53, 1), 2);
    let (end, bytes) = world.uplink_gets(&Frame::udp((WORLD, 9), (HOST, 53)));
    assert_eq!(end, Ok(Verdict::deliver(veth(2))));
    assert_eq!(tuple(&bytes, 14).1, (address(C2), 53));
}

#[test]
fn icmp_errors_find_the_flow_from_both_sides() {
    let mut world = World::new();
    world = world.publish(5, proto::UDP, (5353, 53, 1), 1);
    // Masquerade: a router reports on what it saw.
    let sent = Frame::udp((C1, 40000), (WORLD, 99));
    let ((_, port), _) = out(&world, sent.clone());
    let seen = Frame::udp((HOST, port), (WORLD, 99));
    let error = Frame::error("203.0.113.77", HOST, Icmp::TIME_EXCEEDED, 0, &seen, 8);
    let (end, bytes) = world.uplink_gets(&error);
    assert_eq!(end, Ok(Verdict::deliver(veth(1))));
    assert_eq!(tuple(&bytes, 42), tuple(&sent.build(), 14), "the quote is what c1 sent");
    assert_eq!(bytes[26..34], [203, 0, 113, 77, 172, 20, 0, 2], "the router keeps its address");
    // Publishing: the container refuses.
    let request = Frame::udp((WORLD, 7777), (HOST, 5353));
    let (_, delivered) = world.uplink_gets(&request);
    let got = Frame::udp((WORLD, 7777), (C1, 53));
    assert_eq!(tuple(&delivered, 14), tuple(&got.build(), 14));
    let refusal = routed(Frame::error(C1, WORLD, Icmp::UNREACHABLE, 3, &got, 8), GATEWAY);
    let (end, bytes) = world.container_sends(1, &refusal);
    let way = Verdict::leave(UPLINK, ip(ROUTER).to_any());
    assert_eq!(end, Ok(way), "known since the flow was opened");
    assert_eq!(tuple(&bytes, 42), tuple(&request.build(), 14), "the quote is what the client sent");
    assert_eq!(bytes[26..30], [198, 51, 100, 1], "it comes from the host");
    // Nobody reports on other people's flows.
    let forged = routed(Frame::error(C2, WORLD, Icmp::UNREACHABLE, 3, &got, 8), GATEWAY);
    assert_eq!(world.container_sends(2, &forged).0, Err(DropReason::CtInvalid));
}

#[test]
fn fragments_follow_the_first_one() {
    let world = World::new();
    let first = Frame::udp((C1, 40000), (WORLD, 99)).fragment(0, true);
    let later = Frame::udp((C1, 40000), (WORLD, 99)).fragment(16, false);
    let early = world.container_sends(1, &routed(later.clone(), GATEWAY)).0;
    assert_eq!(early, Err(DropReason::FragNotFound));
    let (end, _) = world.container_sends(1, &routed(first, GATEWAY));
    assert_eq!(end, Ok(Verdict::leave(UPLINK, ip(ROUTER).to_any())));
    let (end, bytes) = world.container_sends(1, &routed(later, GATEWAY));
    assert_eq!(end, Ok(Verdict::leave(UPLINK, ip(ROUTER).to_any())));
    assert_eq!(bytes[26..30], [198, 51, 100, 1]);
}

#[test]
fn what_the_kernel_forwards_is_masqueraded_alike() {
    let world = World::new();
    let frame = Frame::udp((C1, 40000), (WORLD, 99));
    let fast = out(&world, frame.clone());
    let (end, bytes) = world.run(Walk::ToUplink, UPLINK, &frame);
    assert_eq!(end, Ok(Verdict::PASS));
    assert_eq!(tuple(&bytes, 14), fast);
    assert_eq!(bytes[22], 64, "the kernel counts the hop");
    // Somebody plugged in by hand, at an address that no endpoint holds.
    let (end, bytes) =
        world.run(Walk::ToUplink, UPLINK, &Frame::udp(("172.20.9.9", 40000), (WORLD, 99)));
    assert_eq!(end, Ok(Verdict::PASS));
    let ((src, port), _) = tuple(&bytes, 14);
    assert_eq!(src, address(HOST));
    let (end, bytes) = world.uplink_gets(&Frame::udp((WORLD, 99), (HOST, port)));
    assert_eq!(end, Ok(Verdict::PASS), "the kernel routes the answer");
    assert_eq!(tuple(&bytes, 14).1, (address("172.20.9.9"), 40000));
}

#[test]
fn ports_of_the_host_are_left_alone() {
    let mut world = World::new();
    let frame = Frame::tcp((C1, 50_000), (WORLD, 443)).syn();
    assert_eq!(out(&world, frame.clone()).0.1, 50_000, "a port in the range is kept");
    world.forget_flows();
    world = world.publish(5, proto::TCP, (50_000, 80, 1), 2);
    assert_ne!(out(&world, frame.clone()).0.1, 50_000, "a published one is not");
    let mut world = World::new();
    let answers = bascule_common::abi::FlowKey4 {
        src: ip(WORLD),
        dst: ip(HOST),
        src_port: bascule_common::abi::Port::new(443),
        dst_port: bascule_common::abi::Port::new(50_000),
        proto: proto::TCP,
        ..Default::default()
    };
    world.kernel.sockets.get_mut().insert(answers);
    assert_ne!(out(&world, frame).0.1, 50_000, "nor one that a socket of the host holds");
}

/// Whatever tuple a flow has, its attempts do not all end in the same part of the range.
#[test]
fn a_range_published_amid_the_ports_of_masquerade_leaves_every_flow_one() {
    let world = World::new().publish(5, proto::TCP, (50_000, 10_000, 10_000), 2);
    for port in 2_000..8_000 {
        let frame = routed(Frame::tcp((C1, port), (WORLD, 443)).syn(), GATEWAY);
        assert!(world.container_sends(1, &frame).0.is_ok(), "from port {port}");
        world.forget_flows();
    }
}

#[test]
fn a_full_range_refuses_by_name_and_recovers() {
    let mut world = World::new();
    (world.tables.config.masquerade_first, world.tables.config.masquerade_last) = (50_000, 50_003);
    let frame = |port| routed(Frame::udp((C1, port), (WORLD, 99)), GATEWAY);
    for port in 50_000..=50_003 {
        assert!(world.container_sends(1, &frame(port)).0.is_ok());
    }
    assert_eq!(world.container_sends(1, &frame(1234)).0, Err(DropReason::NatPortExhausted));
    assert_eq!(world.tables.stats.borrow()[&Stat::PortsExhausted], 1);
    // Idle flows give way.
    world.kernel.now.set(world.kernel.now.get() + 10_000);
    assert!(world.container_sends(1, &frame(1234)).0.is_ok());
}

#[test]
fn tcp_states_follow_the_connection() {
    let world = World::new();
    let ((_, port), _) = out(&world, Frame::tcp((C1, 4000), (WORLD, 443)).syn());
    let answer = |flags| Frame::tcp((WORLD, 443), (HOST, port)).flags(flags);
    let states = || {
        world
            .tables
            .four
            .flows
            .borrow()
            .values()
            .map(|flow| flow.state & !state::IS_REPLY)
            .collect::<Vec<_>>()
    };
    assert_eq!(states(), [0, 0]);
    assert!(world.uplink_gets(&answer(tcp::SYN | tcp::ACK)).0.is_ok());
    assert_eq!(states(), [state::REPLIED; 2]);
    out(&world, Frame::tcp((C1, 4000), (WORLD, 443)));
    assert_eq!(states(), [state::REPLIED | state::ESTABLISHED; 2]);
    assert!(world.uplink_gets(&answer(tcp::FIN | tcp::ACK)).0.is_ok());
    out(&world, Frame::tcp((C1, 4000), (WORLD, 443)).flags(tcp::FIN | tcp::ACK));
    let closed = state::REPLIED | state::ESTABLISHED | state::FIN_ORIGINAL | state::FIN_REPLY;
    assert_eq!(states(), [closed; 2]);
    out(&world, Frame::tcp((C1, 4000), (WORLD, 443)).syn());
    assert_eq!(states(), [state::REPLIED; 2], "the port is used again");
}

#[test]
fn a_masquerade_address_that_left_the_host_is_not_used_on() {
    let mut world = World::new();
    let frame = Frame::udp((C1, 4000), (WORLD, 99));
    out(&world, frame.clone());
    world.tables.four.locals.remove(&ip(HOST));
    world.tables.four.locals.insert(ip("198.51.100.2"), Local::default());
    world.tables.uplinks.get_mut(&UPLINK).expect("the uplink").masquerade4 = ip("198.51.100.2");
    world.kernel.now.set(world.kernel.now.get() + 1);
    assert_eq!(out(&world, frame).0.0, address("198.51.100.2"));
}

#[test]
fn hops_are_counted_and_end() {
    let mut world = World::new();
    world = world.publish(5, proto::TCP, (8080, 80, 1), 1);
    let last = routed(Frame::tcp((C1, 4000), (WORLD, 443)).syn().ttl(1), GATEWAY);
    assert_eq!(world.container_sends(1, &last).0, Ok(Verdict::PASS), "the kernel answers");
    let last = Frame::tcp((WORLD, 5), (HOST, 8080)).syn().ttl(1);
    // The kernel would deliver it: the programs answer, from the address that was asked.
    let (end, bytes) = world.uplink_gets(&last);
    assert_eq!(end.map(|verdict| verdict.kind), Ok(Kind::Back));
    assert_eq!(tuple(&bytes, 14).0.0, address(HOST));
    assert_eq!(tuple(&bytes, 14).1.0, address(WORLD));
    assert_eq!(bytes[34..36], [Icmp::TIME_EXCEEDED, 0]);
    assert_eq!(tuple(&bytes, 42), ((address(WORLD), 5), (address(HOST), 8080)), "the quote");
}

#[test]
fn an_uplink_without_ethernet_headers_is_served_alike() {
    let mut world = World::new();
    world = world.publish(5, proto::TCP, (8080, 80, 1), 1);
    let bare = Frame::tcp((WORLD, 5555), (HOST, 8080)).syn().build()[14..].to_vec();
    let mut packet = FramePacket::bare(bare, UPLINK);
    let end = run(Walk::FromUplink, &mut packet, &world.tables, &world.kernel).outcome;
    assert_eq!(end, Ok(Verdict::deliver(veth(1))));
    assert_eq!(packet.bytes[0..6], mac(C1), "it has a header for the container now");
    assert_eq!(tuple(&packet.bytes, 14).1, (address(C1), 80));
    let bare = Frame::udp((C1, 40000), (WORLD, 99)).build()[14..].to_vec();
    let mut packet = FramePacket::bare(bare, UPLINK);
    let end = run(Walk::ToUplink, &mut packet, &world.tables, &world.kernel).outcome;
    assert_eq!(end, Ok(Verdict::PASS));
    assert_eq!(tuple(&packet.bytes, 0).0.0, address(HOST));
}
