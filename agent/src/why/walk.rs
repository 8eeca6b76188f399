//! The packet on its way: which program it meets, how that ends, and what its answer meets.

use std::net::IpAddr;

use bascule_common::{
    abi::{DropReason, Endpoint, FlowKey, Mac, NeighbourKey, Network, Port, Stat, Uplink},
    datapath::{Kind, Verdict, family},
    memory::{self, Ended, FramePacket, Walk},
    wire::L3,
};

use super::{
    Answer, Part, World,
    ask::{Asked, From},
    frame::Probe,
    host::{Host, Routed},
    led::Named,
    notes::{self, Notes},
    tables::{Live, Mapped},
};

/// Ethernet address of a station that nobody is.
const NOBODY: Mac = [0x02, 0, 0, 0, 0, 0xfe];

/// What every walk needs.
#[derive(Debug)]
pub struct Walker<'a> {
    pub(super) world: &'a World,
    pub(super) notes: &'a Notes,
    pub(super) live: &'a Live<'a>,
    pub(super) host: &'a Host<'a>,
}

/// A packet in words.
pub fn shown(probe: &Probe) -> String {
    let what = match (notes::protocol(probe.proto).as_str(), probe.reply) {
        ("tcp", false) => "tcp SYN",
        ("tcp", true) => "tcp SYN ACK",
        ("udp", _) => "udp",
        (_, false) => "echo request",
        (_, true) => "echo reply",
    };
    let (src, dst) = (Port::new(probe.src_port), Port::new(probe.dst_port));
    let (src, dst) = match what {
        "echo request" | "echo reply" => (probe.src.to_string(), probe.dst.to_string()),
        _ => (notes::socket(probe.src, src), notes::socket(probe.dst, dst)),
    };
    format!("{what} {src} -> {dst}")
}

/// Where a packet is after a walk.
enum At {
    Container(Endpoint),
    Uplink(u32, Uplink),
    Host,
    /// Nowhere that an answer comes from.
    End,
}

/// One walk to be done.
struct Leg<'a> {
    way: &'static str,
    walk: Walk,
    interface: u32,
    arrived_by: u32,
    ethernet: Option<(Mac, Mac)>,
    probe: &'a Probe,
}

impl Walker<'_> {
    /// Follows a packet to its end, and its answer to that one's.
    pub fn follow<A: Mapped + Routed + Named>(&self, asked: &Asked, answer: &mut Answer) {
        let (at, mut probe) = self.travel::<A>("request", asked.from, asked.probe, answer);
        std::mem::swap(&mut probe.src, &mut probe.dst);
        std::mem::swap(&mut probe.src_port, &mut probe.dst_port);
        probe.reply = true;
        let from = match at {
            At::Container(place) => From::Container(place),
            At::Uplink(index, uplink) => From::Outside(index, uplink),
            At::Host => From::Host,
            At::End => return,
        };
        if let From::Host = from
            && Probe::icmp(probe.src) != probe.proto
            && !self.host.listens(probe.src, probe.proto, probe.src_port)
        {
            let what = notes::socket(probe.src, Port::new(probe.src_port));
            let proto = notes::protocol(probe.proto);
            answer.remarks.push(format!("no process of the host listens on {what}/{proto}"));
            return;
        }
        self.travel::<A>("answer", from, probe, answer);
    }

    /// Takes a packet from where it is to where it ends.
    fn travel<A: Mapped + Routed + Named>(
        &self,
        way: &'static str,
        from: From,
        probe: Probe,
        answer: &mut Answer,
    ) -> (At, Probe) {
        match from {
            From::Container(place) => self.container_sends::<A>(way, &place, probe, answer),
            From::Outside(index, uplink) => {
                self.outside_sends::<A>(way, (index, &uplink), probe, answer)
            }
            From::Host => {
                let probe = self.connects::<A>(way, probe, answer);
                self.host_sends::<A>(way, probe, answer)
            }
        }
    }

    fn container_sends<A: Mapped + Routed>(
        &self,
        way: &'static str,
        place: &Endpoint,
        probe: Probe,
        answer: &mut Answer,
    ) -> (At, Probe) {
        let dst = self.next_station::<A>(place, A::of(probe.dst));
        let leg = Leg {
            way,
            walk: Walk::FromContainer,
            interface: place.ifindex,
            arrived_by: place.ifindex,
            ethernet: Some((dst, place.mac)),
            probe: &probe,
        };
        let (part, at, after) = self.walk::<A, L3>(&leg);
        answer.parts.push(part);
        if let At::Uplink(index, uplink) = at {
            return self.out::<A>(way, (index, uplink), place.ifindex, after, answer);
        }
        (at, after)
    }

    /// What leaves meets the program at the egress of the uplink.
    fn out<A: Mapped + Routed>(
        &self,
        way: &'static str,
        (index, uplink): (u32, Uplink),
        arrived_by: u32,
        probe: Probe,
        answer: &mut Answer,
    ) -> (At, Probe) {
        let framed = uplink.flags & Uplink::LAYER3 == 0;
        let leg = Leg {
            way,
            walk: Walk::ToUplink,
            interface: index,
            arrived_by,
            ethernet: framed.then_some((NOBODY, uplink.mac)),
            probe: &probe,
        };
        let (part, after) = if framed {
            let (part, _, after) = self.walk::<A, L3>(&leg);
            (part, after)
        } else {
            let (part, _, after) = self.walk::<A, 0>(&leg);
            (part, after)
        };
        let left = part.verdict == "passed";
        answer.parts.push(part);
        (if left { At::Uplink(index, uplink) } else { At::End }, after)
    }

    fn outside_sends<A: Mapped + Routed>(
        &self,
        way: &'static str,
        (index, uplink): (u32, &Uplink),
        probe: Probe,
        answer: &mut Answer,
    ) -> (At, Probe) {
        if let Some(slot) = self.live.denied(A::of(probe.src)) {
            let found = format!("{} is in {}", probe.src, self.notes.denied(slot));
            self.notes.note("deny list", found);
            answer.parts.push(Part {
                way: way.to_owned(),
                program: "deny".to_owned(),
                interface: notes::interface(index),
                packet: shown(&probe),
                steps: self.notes.take().0,
                verdict: "dropped".to_owned(),
                text: format!("dropped: {}", notes::reason(DropReason::DenyCidr)),
                reason: DropReason::DenyCidr.label().to_owned(),
            });
            return (At::End, probe);
        }
        let framed = uplink.flags & Uplink::LAYER3 == 0;
        let leg = Leg {
            way,
            walk: Walk::FromUplink,
            interface: index,
            arrived_by: index,
            ethernet: framed.then_some((uplink.mac, NOBODY)),
            probe: &probe,
        };
        let (part, at, after) =
            if framed { self.walk::<A, L3>(&leg) } else { self.walk::<A, 0>(&leg) };
        answer.parts.push(part);
        (at, after)
    }

    /// What the host itself sends: to a container it meets the program there, to the outside the one of the
    /// uplink, which lets the host's own packets pass.
    fn host_sends<A: Mapped + Routed>(
        &self,
        way: &'static str,
        probe: Probe,
        answer: &mut Answer,
    ) -> (At, Probe) {
        let to = A::of(probe.dst);
        let tables = &self.world.tables;
        let subnet = self.notes.read(A::subnet(tables, to));
        let neighbour = subnet.and_then(|subnet| {
            let key = NeighbourKey { network: subnet.network, address: to };
            self.notes.read(A::neighbour(tables, &key))
        });
        let network = subnet.and_then(|s| self.notes.read(tables.networks.get(s.network)));
        if let Some(network) = network.filter(|network| network.flags & Network::L2_BPF != 0) {
            let leg = Leg {
                way,
                walk: Walk::ToBridge,
                interface: network.bridge,
                arrived_by: 0,
                ethernet: Some((network.gateway_mac, network.gateway_mac)),
                probe: &probe,
            };
            let (part, ..) = self.walk::<A, L3>(&leg);
            answer.parts.push(part);
            if neighbour.is_none() {
                return (At::End, probe);
            }
        }
        if let Some(neighbour) = neighbour {
            let leg = Leg {
                way,
                walk: Walk::ToContainer,
                interface: neighbour.ifindex,
                arrived_by: 0,
                ethernet: Some((neighbour.mac, neighbour.gateway_mac)),
                probe: &probe,
            };
            let (part, at, after) = self.walk::<A, L3>(&leg);
            answer.parts.push(part);
            return (at, after);
        }
        let way_out = match self.host.way(probe.dst) {
            Some(crate::kernel::netlink::Way::By { link, .. }) => {
                self.notes.read(tables.uplinks.get(&link)).map(|uplink| (link, uplink))
            }
            _ => None,
        };
        if let Some(uplink) = way_out {
            return self.out::<A>(way, uplink, 0, probe, answer);
        }
        answer.parts.push(Part {
            way: way.to_owned(),
            packet: shown(&probe),
            verdict: "kernel".to_owned(),
            text: "the host's kernel alone decides: no program of Bascule's is on the way"
                .to_owned(),
            ..Part::default()
        });
        (At::End, probe)
    }

    /// The Ethernet address that a container sends to.
    fn next_station<A: Mapped>(&self, place: &Endpoint, to: A) -> Mac {
        let tables = &self.world.tables;
        let near = self
            .notes
            .read(A::subnet(tables, to))
            .is_some_and(|subnet| subnet.network == place.network);
        if !near || self.notes.read(A::local(tables, to)).is_some() {
            return place.gateway_mac;
        }
        let key = NeighbourKey { network: place.network, address: to };
        let neighbour = self.notes.read(A::neighbour(tables, &key));
        neighbour.map_or(NOBODY, |neighbour| neighbour.mac)
    }

    /// Runs one walk.
    fn walk<A: Mapped + Routed, const NETWORK: u32>(&self, leg: &Leg<'_>) -> (Part, At, Probe) {
        let ethernet = leg.ethernet.filter(|_| NETWORK != 0);
        let mut packet = FramePacket::<NETWORK>::of(leg.probe.build(ethernet), leg.interface);
        packet.arrived_by = leg.arrived_by;
        let ended = memory::run(leg.walk, &mut packet, self.live, self.host);
        let (steps, handed) = self.notes.take();
        let after = read::<A, NETWORK>(packet, &ended, leg.probe);
        let (at, verdict, text) = self.end::<A>(leg, &ended, handed, &after);
        let reason = match (ended.answered, ended.outcome) {
            (Some(reason), _) | (None, Err(reason)) => reason.label().to_owned(),
            (None, Ok(_)) => String::new(),
        };
        let program = match leg.walk {
            Walk::FromContainer => "from_container",
            Walk::ToContainer => "to_container",
            Walk::FromUplink => "from_uplink",
            Walk::ToUplink => "to_uplink",
            Walk::ToBridge => "to_bridge",
            Walk::FromNames => "from_names",
        };
        let part = Part {
            way: leg.way.to_owned(),
            program: program.to_owned(),
            interface: notes::interface(leg.interface),
            packet: shown(leg.probe),
            steps,
            verdict: verdict.to_owned(),
            text,
            reason,
        };
        (part, at, after)
    }

    /// What the end of a walk means.
    fn end<A: Mapped + Routed>(
        &self,
        leg: &Leg<'_>,
        ended: &Ended,
        handed: Option<Stat>,
        after: &Probe,
    ) -> (At, &'static str, String) {
        let Verdict { kind, ifindex, .. } = match (ended.answered, ended.outcome) {
            (Some(reason), _) | (None, Err(reason)) => {
                return (At::End, "dropped", format!("dropped: {}", notes::reason(reason)));
            }
            (None, Ok(verdict)) => verdict,
        };
        match (kind, leg.walk) {
            (Kind::Deliver, _) => self.delivered(ifindex, after),
            (Kind::Leave, _) => {
                let by = notes::interface(ifindex);
                let text = format!("leaves by {by} as {}", shown(after));
                let uplink = self.notes.read(self.world.tables.uplinks.get(&ifindex));
                let at = uplink.map_or(At::End, |uplink| At::Uplink(ifindex, uplink));
                (at, "left", text)
            }
            (Kind::Send, _) => {
                let by = notes::interface(ifindex);
                (At::End, "passed", format!("sent out of {by} as {}", shown(after)))
            }
            (Kind::Pass, Walk::ToContainer) => self.delivered(leg.interface, after),
            (Kind::Pass, Walk::ToUplink) => {
                (At::End, "passed", format!("passes as {}", shown(after)))
            }
            _ if self.is_local::<A>(after.dst) => {
                (At::Host, "host", "handed to the host itself".to_owned())
            }
            _ => {
                let why = handed.map_or("no program of Bascule's has a say in it", notes::handover);
                (At::End, "kernel", format!("handed to the kernel: {why}"))
            }
        }
    }

    fn is_local<A: Mapped + Routed>(&self, address: IpAddr) -> bool {
        self.notes.read(A::local(&self.world.tables, A::of(address))).is_some()
    }

    fn delivered(&self, ifindex: u32, after: &Probe) -> (At, &'static str, String) {
        let place = self.notes.read(self.world.tables.endpoints.get(ifindex));
        let who = place.map_or_else(String::new, |place| self.notes.endpoint(place.endpoint));
        let text = format!("delivered to {who} as {}", shown(after));
        (place.map_or(At::End, At::Container), "delivered", text)
    }
}

/// The packet as a walk left it.
fn read<A: Mapped, const NETWORK: u32>(
    packet: FramePacket<NETWORK>,
    ended: &Ended,
    before: &Probe,
) -> Probe {
    let delivered = matches!(ended.outcome, Ok(Verdict { kind: Kind::Deliver, .. }));
    // Whatever is delivered has an Ethernet header by now.
    let view = if delivered {
        family::view::<A, _>(&FramePacket::<L3>::new(packet.bytes, packet.interface))
    } else {
        family::view::<A, _>(&packet)
    };
    let Ok(view) = view else { return *before };
    let FlowKey { src, dst, src_port, dst_port, proto, .. } = view.key;
    Probe {
        src: src.shown(),
        dst: dst.shown(),
        proto,
        src_port: src_port.number(),
        dst_port: dst_port.number(),
        reply: before.reply,
    }
}
