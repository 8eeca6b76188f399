//! The short way of flows that were judged a moment ago: which packets go it, and that it ends as the whole walk, which
//! is all that the host's body does.

use bascule_common::{
    abi::{DropReason, Flow4, Flow6, FlowKey4, FlowKey6, names::map, state},
    testing::{FramePacket, Walk},
};
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{
        BOTH, C1, C2, Family, HOST, ROUTER_MAC, UPLINK, UPLINK_MAC, WORLD, World, gateway,
        interface, mac,
    },
};

const ACK: u8 = 16;

/// A flow of each protocol and direction, up to where it is settled.
struct Settled {
    twin: Twin,
    walk: Walk,
    /// A packet of it.
    frame: Frame,
}

impl Settled {
    fn new(family: Family, proto: u8, walk: Walk) -> Self {
        let mut twin = Twin::new(World::new().publish_on(family, 1, proto, (8080, 80, 1), 1));
        let (client, port) = (family.at(WORLD, 40_000), family.at(HOST, 8080));
        let (server, container) = (family.at(C1, 80), family.at(C1, 50_000));
        let (to, back): (Frame, Frame) = match (proto, walk) {
            (TCP, Walk::FromUplink) => (Frame::tcp(&client, &port), Frame::tcp(&server, &client)),
            (_, Walk::FromUplink) => (Frame::udp(&client, &port), Frame::udp(&server, &client)),
            (TCP, _) => {
                (Frame::tcp(&container, &client), Frame::tcp(&client, &family.at(HOST, 50_000)))
            }
            _ => (Frame::udp(&container, &client), Frame::udp(&client, &family.at(HOST, 50_000))),
        };
        let (to, back) = if walk == Walk::FromUplink {
            (to.macs(ROUTER_MAC, UPLINK_MAC), back.macs(mac(C1), mac(&gateway(C1))))
        } else {
            (to.macs(mac(C1), mac(&gateway(C1))), back.macs(ROUTER_MAC, UPLINK_MAC))
        };
        let mut settled = Self { twin, walk, frame: to.clone() };
        let flags = |frame: &Frame, flags| {
            if proto == TCP { frame.clone().flags(flags) } else { frame.clone() }
        };
        settled.goes(&flags(&to, 2));
        settled.other(&flags(&back, 18));
        settled.frame = flags(&to, ACK);
        settled.again();
        twin = settled.twin;
        Self { twin, walk, frame: flags(&to, ACK) }
    }

    fn interface(walk: Walk) -> u32 {
        if walk == Walk::FromUplink { UPLINK } else { interface(1) }
    }

    /// A packet of the flow, through both bodies.
    fn goes(&mut self, frame: &Frame) -> super::twin::End {
        self.twin.frame(self.walk, Self::interface(self.walk), frame)
    }

    /// One of the other direction.
    fn other(&mut self, frame: &Frame) -> super::twin::End {
        let walk =
            if self.walk == Walk::FromUplink { Walk::FromContainer } else { Walk::FromUplink };
        self.twin.frame(walk, Self::interface(walk), frame)
    }

    /// Some ordinary packets of it.
    fn again(&mut self) {
        for length in 0..3 {
            let frame = self.frame.clone().data(&vec![0x5a; length]);
            self.goes(&frame).parsed();
        }
    }

    /// Whether a packet finds its way without its flow, which nobody has said is gone. Afterwards all is as before.
    fn goes_short(&mut self, frame: &Frame, change: impl FnOnce(&mut Twin)) -> bool {
        self.twin.kernel.lose_flows();
        change(&mut self.twin);
        let packet = FramePacket::new(frame.bytes(), Self::interface(self.walk));
        let (code, _) = self.twin.kernel.run(self.walk, &packet);
        let opened = !self.twin.kernel.entries::<FlowKey4, Flow4>(map::FLOWS4).is_empty()
            || !self.twin.kernel.entries::<FlowKey6, Flow6>(map::FLOWS6).is_empty();
        self.twin.change(|_| {});
        code == 7 && !opened
    }

    /// Whether it does at one of some attempts: the clock may tick in between, and the thread may move to another CPU.
    fn does(&mut self) -> bool {
        (0..20).any(|_| {
            self.again();
            let frame = self.frame.clone();
            self.goes_short(&frame, |_| {})
        })
    }
}

/// Every kind of flow.
fn kinds() -> impl Iterator<Item = (Family, u8, Walk)> {
    let walks = [Walk::FromContainer, Walk::FromUplink];
    BOTH.into_iter().flat_map(move |family| {
        walks.into_iter().flat_map(move |walk| [TCP, UDP].map(|proto| (family, proto, walk)))
    })
}

#[test]
fn p1_a_settled_flow_goes_the_short_way() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        assert!(flow.does(), "{family:?} {proto} {walk:?}");
    }
}

#[test]
fn p1_a_change_of_the_tables_ends_it_at_once() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        let frame = flow.frame.clone();
        for _ in 0..5 {
            flow.again();
            assert!(!flow.goes_short(&frame, |twin| twin.kernel.changed()), "{family:?} {proto}");
        }
    }
}

#[test]
fn p1_nothing_is_kept_while_the_tables_are_being_changed() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        let frame = flow.frame.clone();
        let begin = |twin: &mut Twin| twin.kernel.changes();
        assert!(!flow.goes_short(&frame, begin), "{family:?} {proto} {walk:?}");
        // An agent that dies in the middle leaves it so: however many packets have gone, the next one sees the tables.
        for _ in 0..3 {
            begin(&mut flow.twin);
            flow.again();
            assert!(!flow.goes_short(&frame, |_| {}), "{family:?} {proto} {walk:?}");
        }
        assert!(flow.does(), "{family:?} {proto} {walk:?}");
    }
}

#[test]
fn p80_nothing_goes_short_while_somebody_watches() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        let frame = flow.frame.clone();
        let watch = |twin: &mut Twin| twin.kernel.watched();
        assert!(!flow.goes_short(&frame, watch), "{family:?} {proto} {walk:?}");
        watch(&mut flow.twin);
        flow.again();
        assert!(!flow.goes_short(&frame, |_| {}), "{family:?} {proto} {walk:?}");
    }
}

#[test]
fn p1_what_is_not_plain_goes_the_whole_way() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        let plain = flow.frame.clone();
        let mut odd =
            vec![plain.clone().ttl(1), plain.clone().data(&[1; 1600]), plain.clone().ttl(0)];
        if family == Family::Four {
            odd.push(plain.clone().ip_options(&[1, 1, 1, 0]));
            odd.push(plain.clone().data(&[7; 64]).fragment(0x2000));
        } else {
            odd.push(plain.clone().padding(60));
        }
        for frame in odd {
            flow.again();
            flow.goes(&frame);
            assert!(!flow.goes_short(&frame, |_| {}), "{family:?} {frame:?}");
        }
        // By way of another interface it is not this flow's, whatever it says.
        flow.again();
        if walk == Walk::FromContainer {
            flow.twin.frame(walk, interface(2), &plain).dropped(DropReason::SpoofedMac);
            let foreign = plain.clone().macs(mac("172.20.0.9"), mac(&gateway(C1)));
            flow.goes(&foreign).dropped(DropReason::SpoofedMac);
        }
    }
}

#[test]
fn p1_segments_are_measured_one_by_one() {
    for (family, proto, walk) in kinds() {
        let mut flow = Settled::new(family, proto, walk);
        let frame = flow.frame.clone().data(&[3; 2_900]);
        for segment in [1_000, 1_400, 1_470, 1_490] {
            flow.again();
            let mut packet = FramePacket::new(frame.bytes(), Settled::interface(walk));
            // What is dropped counts once in the host's body.
            let count = if segment > 1_400 { 1 } else { 2_900_u32.div_ceil(segment) };
            (packet.segment_size, packet.segments) = (segment, count);
            flow.twin.packet(walk, packet);
        }
    }
}

#[test]
fn p1_a_connection_that_ends_and_begins_anew_is_followed() {
    for family in BOTH {
        for walk in [Walk::FromContainer, Walk::FromUplink] {
            let mut flow = Settled::new(family, TCP, walk);
            let plain = flow.frame.clone();
            let states = |flow: &Settled| -> Vec<u8> {
                let four = flow.twin.tables.four.flows.borrow();
                let six = flow.twin.tables.six.flows.borrow();
                four.values().map(|f| f.state).chain(six.values().map(|f| f.state)).collect()
            };
            assert!(states(&flow).iter().all(|bits| bits & state::ESTABLISHED != 0));
            for flags in [17, 4] {
                flow.goes(&plain.clone().flags(flags));
                // Both bodies agree on every state, which each packet compares.
                flow.again();
                flow.goes(&plain.clone().flags(2));
                assert!(states(&flow).iter().any(|bits| bits & state::ESTABLISHED == 0));
                flow.again();
                assert!(states(&flow).iter().any(|bits| bits & state::ESTABLISHED != 0));
            }
        }
    }
}

#[test]
fn appendix_d4_a_port_that_another_took_over_leads_to_it_at_once() {
    for (family, port) in BOTH.into_iter().flat_map(|family| [(family, 50_000), (family, 50_001)]) {
        let mut twin = Twin::new(World::new());
        let server = family.at(WORLD, 443);
        let asks = |container| Frame::tcp(&family.at(container, port), &server);
        let answers = || Frame::tcp(&server, &family.at(HOST, port));
        twin.sends(1, &asks(C1).syn()).left();
        twin.arrives(&answers().syn_ack()).delivered(1);
        twin.sends(1, &asks(C1).flags(ACK)).left();
        for _ in 0..3 {
            twin.arrives(&answers().flags(ACK)).delivered(1);
        }
        twin.sends(1, &asks(C1).rst()).left();
        let (taken, _) = twin.sends(2, &asks(C2).syn()).left().ports().expect("ports");
        assert_eq!(taken, port, "what is over gives its port away");
        twin.arrives(&answers().flags(ACK)).delivered(2);
    }
}
