//! Both engines side by side: every step must end the same way, with the same bytes; and at the end, both
//! must have counted and remembered the same.

use std::collections::BTreeMap;

use bascule_common::{
    abi::{Flow4, FlowKey4, Stat},
    datapath::Kind,
    testing::{
        Frame, FramePacket, Walk, run,
        world::{HOST, UPLINK, World, mac, tuple, veth},
    },
};

use crate::engine::{Engine, Fate};

pub struct Twin {
    pub world: World,
    engine: Engine,
}

impl Twin {
    /// A pair of engines in the world as `change` leaves it.
    pub fn new(change: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new();
        change(&mut world);
        let engine = Engine::new(&world);
        Self { world, engine }
    }

    /// Changes the world under both.
    pub fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.engine.fill(&self.world);
    }

    /// What the container of an endpoint sends.
    pub fn sends(&self, endpoint: u32, frame: &Frame) -> (Fate, Vec<u8>) {
        self.step(Walk::FromContainer, veth(endpoint), veth(endpoint), frame.build())
    }

    /// What arrives by the uplink, for the host's Ethernet address.
    pub fn arrives(&self, frame: Frame) -> (Fate, Vec<u8>) {
        self.step(Walk::FromUplink, UPLINK, UPLINK, frame.to_mac(mac(HOST)).build())
    }

    /// What the kernel forwarded to the uplink.
    pub fn leaves(&self, frame: &Frame) -> (Fate, Vec<u8>) {
        self.step(Walk::ToUplink, UPLINK, veth(1), frame.build())
    }

    /// What the kernel itself sends to the container of an endpoint.
    pub fn receives(&self, endpoint: u32, arrived_by: u32, frame: &Frame) -> (Fate, Vec<u8>) {
        self.step(Walk::ToContainer, veth(endpoint), arrived_by, frame.build())
    }

    /// Runs one frame through both engines.
    pub fn step(
        &self,
        walk: Walk,
        interface: u32,
        arrived_by: u32,
        frame: Vec<u8>,
    ) -> (Fate, Vec<u8>) {
        let mut packet = FramePacket::new(frame.clone(), interface);
        packet.arrived_by = arrived_by;
        let fate = match run(walk, &mut packet, &self.world.tables, &self.world.kernel) {
            Ok(verdict) if verdict.kind == Kind::Pass => Fate::Pass,
            Ok(_) => Fate::Redirect,
            Err(reason) => Fate::Drop(reason),
        };
        let (kernels, bytes) = self.engine.run(walk, interface, arrived_by, &frame);
        assert_eq!(kernels, fate, "{walk:?}: the kernel's fate and the host's");
        if !matches!(fate, Fate::Drop(_)) {
            assert_eq!(bytes, packet.bytes, "{walk:?}: the kernel's bytes and the host's");
        }
        (fate, bytes)
    }
}

/// What both must agree on of a flow: all but its times and what the route look-up left.
fn essence(flows: &BTreeMap<FlowKey4, Flow4>) -> BTreeMap<FlowKey4, Flow4> {
    let timeless = |flow: &Flow4| Flow4 { last_seen: 0, ..*flow };
    flows.iter().map(|(key, flow)| (*key, timeless(flow))).collect()
}

impl Drop for Twin {
    /// The end of every story: the same counters, the same flows.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let tables = &self.world.tables;
        assert_eq!(essence(&self.engine.flows()), essence(&tables.flows.borrow()), "flows");
        for index in 1..=3 {
            let host = tables.endpoint_stats.borrow().get(&index).copied().unwrap_or_default();
            assert_eq!(self.engine.endpoint(index), host, "counters of endpoint {index}");
        }
        for index in tables.rules.keys() {
            let host = tables.rule_stats.borrow().get(index).copied().unwrap_or_default();
            assert_eq!(self.engine.rule(*index), host, "counters of rule {index}");
        }
        for stat in Stat::ALL.into_iter().filter(|stat| *stat != Stat::EventsLost) {
            let host = tables.stats.borrow().get(&stat).copied().unwrap_or_default();
            assert_eq!(self.engine.stat(stat), host, "{stat:?}");
        }
    }
}

/// The port that a translated frame leaves with.
pub fn source_port(bytes: &[u8]) -> u16 {
    tuple(bytes, 14).0.1
}
