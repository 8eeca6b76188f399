//! A frame through both bodies, and what must not differ.

use std::{collections::BTreeMap, sync::MutexGuard};

use bascule_common::{
    abi::{
        Address, Count, DropReason, EndpointCounters, Flow, Flow4, Flow6, FlowKey, FlowKey4,
        FlowKey6, FragmentKey4, FragmentKey6, FragmentPorts, Ip4, Ip6, RuleCounters, Stat,
        config::CLOCK_SHIFT, names::map,
    },
    datapath::{Kind, Verdict},
    io::Route,
    testing::{Ended, FixedKernel, FramePacket, MemTables, Walk, run},
};
use bascule_tests::{
    checksum,
    frame::{Body, Frame},
};

use super::{
    kernel::{FLOWS, Kernel, kernel},
    world::{CONTAINERS, ROUTER_MAC, UPLINK, UPLINK_MAC, World, gateway, interface, mac},
};

const PASS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

/// A world in both bodies.
pub struct Twin {
    pub tables: MemTables,
    pub host: FixedKernel,
    pub kernel: MutexGuard<'static, Kernel>,
    drops: BTreeMap<u8, u64>,
}

/// How a frame ended, the same in both bodies.
#[derive(Debug)]
pub struct End {
    pub verdict: Result<Verdict, DropReason>,
    pub bytes: Vec<u8>,
}

impl Twin {
    pub fn new(mut world: World) -> Self {
        world.tables.flow_capacity = FLOWS as usize;
        let mut kernel = kernel();
        kernel.load(&world.tables);
        Self { tables: world.tables, host: world.kernel, kernel, drops: BTreeMap::new() }
    }

    /// The coarse clock that the kernel has now.
    pub fn now() -> u32 {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
            .expect("a monotonic clock");
        let nanoseconds =
            now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned();
        u32::try_from(nanoseconds >> CLOCK_SHIFT).expect("an uptime of less than a century")
    }

    /// A frame that a container sends to its gateway, as its stack would address it.
    pub fn sends(&mut self, container: u32, frame: &Frame) -> End {
        let own = CONTAINERS[usize::try_from(container - 1).expect("an index")].0;
        let frame = frame.clone().macs(mac(own), mac(&gateway(own)));
        self.frame(Walk::FromContainer, interface(container), &frame)
    }

    /// A frame that a container sends to a station of its network.
    pub fn sends_near(&mut self, container: u32, frame: &Frame) -> End {
        let own = CONTAINERS[usize::try_from(container - 1).expect("an index")].0;
        let frame = frame.clone().macs(mac(own), mac(&frame.dst.to_string()));
        self.frame(Walk::FromContainer, interface(container), &frame)
    }

    /// A frame that arrives from the router.
    pub fn arrives(&mut self, frame: &Frame) -> End {
        let frame = frame.clone().macs(ROUTER_MAC, UPLINK_MAC);
        self.frame(Walk::FromUplink, UPLINK, &frame)
    }

    /// A frame that the kernel forwards out.
    pub fn leaves(&mut self, from: u32, frame: &Frame) -> End {
        let mut packet =
            FramePacket::new(frame.clone().macs(UPLINK_MAC, ROUTER_MAC).bytes(), UPLINK);
        packet.arrived_by = from;
        self.packet(Walk::ToUplink, packet)
    }

    pub fn frame(&mut self, walk: Walk, interface: u32, frame: &Frame) -> End {
        self.packet(walk, FramePacket::new(frame.bytes(), interface))
    }

    /// Runs a packet through both bodies and compares everything.
    #[track_caller]
    pub fn packet(&mut self, walk: Walk, packet: FramePacket) -> End {
        // A run that straddles a tick of the coarse clock would see two times.
        let tick = Self::now();
        self.host.now.set(tick);
        let (code, bytes) = self.kernel.run(walk, &packet);
        let mut copy = packet;
        let Ended { outcome: verdict, answered } = run(walk, &mut copy, &self.tables, &self.host);
        let wanted = match verdict {
            Ok(verdict) if verdict == Verdict::PASS => PASS,
            Ok(_) => REDIRECT,
            Err(_) => DROP,
        };
        // What is answered is a drop too.
        if let Some(reason) = answered.or(verdict.err()) {
            *self.drops.entry(reason as u8).or_default() += 1;
        }
        assert_eq!(code, wanted, "the host ends with {verdict:?}");
        if verdict.is_ok() {
            assert_eq!(
                bytes,
                copy.bytes,
                "the bytes differ: kernel {:#?}, host {:#?}",
                Frame::parse(&bytes),
                Frame::parse(&copy.bytes)
            );
        }
        self.compare();
        End { verdict, bytes }
    }

    /// Compares all that packets write.
    #[track_caller]
    fn compare(&mut self) {
        let flows = self.kernel.entries::<FlowKey4, Flow4>(map::FLOWS4);
        assert_eq!(timeless(&flows), timeless(&self.tables.four.flows.borrow()), "FLOWS4");
        let flows = self.kernel.entries::<FlowKey6, Flow6>(map::FLOWS6);
        assert_eq!(timeless(&flows), timeless(&self.tables.six.flows.borrow()), "FLOWS6");
        let fragments = self.kernel.entries::<FragmentKey4, FragmentPorts>(map::FRAGMENTS4);
        assert_eq!(fragments, *self.tables.four.fragments.borrow(), "FRAGMENTS4");
        let fragments = self.kernel.entries::<FragmentKey6, FragmentPorts>(map::FRAGMENTS6);
        assert_eq!(fragments, *self.tables.six.fragments.borrow(), "FRAGMENTS6");
        let stats = self.kernel.counters::<u64>(map::STATS, Stat::COUNT, |a, b| a + b);
        for stat in Stat::ALL {
            // The host's body emits no events.
            if stat != Stat::EventsLost {
                let host = self.tables.stats.borrow().get(&stat).copied().unwrap_or(0);
                assert_eq!(stats[stat as usize], host, "{stat:?}");
            }
        }
        let endpoints = self.kernel.counters(map::ENDPOINT_STATS, 16, both);
        for (index, counters) in (0..).zip(endpoints) {
            let host = self.tables.endpoint_stats.borrow().get(&index).copied().unwrap_or_default();
            assert_eq!(counters, host, "counters of endpoint {index}");
        }
        let rules = self.kernel.counters(map::RULE_STATS, 16, every);
        for (index, counters) in (0..).zip(rules) {
            let host = self.tables.rule_stats.borrow().get(&index).copied().unwrap_or_default();
            assert_eq!(counters, host, "counters of rule {index}");
        }
        let mut drops = BTreeMap::new();
        for ((_, reason), packets) in self.kernel.drops() {
            *drops.entry(reason).or_insert(0) += packets;
        }
        assert_eq!(drops, self.drops, "drops by reason");
    }

    /// Changes the world in both bodies; counters start anew.
    pub fn change(&mut self, change: impl FnOnce(&mut MemTables)) {
        change(&mut self.tables);
        self.tables.stats.borrow_mut().clear();
        self.tables.endpoint_stats.borrow_mut().clear();
        self.tables.rule_stats.borrow_mut().clear();
        self.drops.clear();
        self.kernel.load(&self.tables);
    }

    /// What the host's look-ups answer; the kernel's have to be made to answer the same.
    pub fn route(&mut self, route: Route<Ip4>) {
        self.host.route.set(route);
    }

    /// The same for IPv6.
    pub fn route6(&mut self, route: Route<Ip6>) {
        self.host.route6.set(route);
    }
}

impl End {
    #[track_caller]
    pub fn dropped(&self, reason: DropReason) {
        assert_eq!(self.verdict, Err(reason));
    }

    /// Dropped and answered by an ICMP error; the error, checksums verified.
    #[track_caller]
    pub fn answered(&self, kind: u8, code: u8) -> Frame {
        assert_eq!(self.verdict.map(|verdict| verdict.kind), Ok(Kind::Back));
        let frame = self.parsed();
        let Body::Icmp { kind: k, code: c, .. } = &frame.body else { panic!("{frame:?}") };
        assert_eq!((*k, *c), (kind, code));
        frame
    }

    /// Handed to the kernel, unchanged.
    #[track_caller]
    pub fn passed(&self) {
        assert_eq!(self.verdict, Ok(Verdict::PASS));
    }

    /// To the host, unchanged, by the device that stands for a network.
    #[track_caller]
    pub fn handed(&self, device: u32) {
        assert_eq!(self.verdict, Ok(Verdict::host(device)));
    }

    /// Out of the host end of a container's veth; the frame as it leaves, checksums verified.
    #[track_caller]
    pub fn sent(&self, container: u32) -> Frame {
        assert_eq!(self.verdict, Ok(Verdict::send(interface(container))));
        self.parsed()
    }

    /// Into a container; the frame as it gets it, checksums verified.
    #[track_caller]
    pub fn delivered(&self, container: u32) -> Frame {
        assert_eq!(self.verdict, Ok(Verdict::deliver(interface(container))));
        self.parsed()
    }

    /// Out of the uplink; the frame as it leaves, checksums verified.
    #[track_caller]
    pub fn left(&self) -> Frame {
        match self.verdict {
            Ok(verdict) if verdict.ifindex == UPLINK => self.parsed(),
            other => panic!("{other:?} instead of leaving"),
        }
    }

    #[track_caller]
    pub fn parsed(&self) -> Frame {
        checksum::verify(&self.bytes).unwrap_or_else(|error| panic!("{error}"));
        Frame::parse(&self.bytes).expect("an IP frame")
    }
}

/// Entries without the time of their last packet.
fn timeless<A: Address>(flows: &BTreeMap<FlowKey<A>, Flow<A>>) -> BTreeMap<FlowKey<A>, Flow<A>> {
    flows.iter().map(|(key, flow)| (*key, Flow { last_seen: 0, ..*flow })).collect()
}

fn plus(a: Count, b: Count) -> Count {
    Count { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

fn both(a: EndpointCounters, b: EndpointCounters) -> EndpointCounters {
    EndpointCounters { received: plus(a.received, b.received), sent: plus(a.sent, b.sent) }
}

fn every(a: RuleCounters, b: RuleCounters) -> RuleCounters {
    RuleCounters {
        received: plus(a.received, b.received),
        sent: plus(a.sent, b.sent),
        connections: a.connections + b.connections,
    }
}
