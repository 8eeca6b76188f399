//! What is tracked, counted: read from the table of connections as a whole, and not more often than it is worth.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bascule_common::abi::{Action, Address, Flow, FlowKey, Port, state};

use super::{connections::stage, events::proto_name};
use crate::kernel::bpf::{BpfError, Tables};

/// A census is as good as new for this long, and for this many times of what it took: reading a table that is
/// full costs half a hundredth of a CPU at most.
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 200;

/// What masquerade takes of the ports of an address, for one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortUse {
    /// Connections that are masqueraded.
    pub connections: u64,
    /// Ports towards the destination that takes most of them: two connections to one destination have two ports.
    pub busiest: u64,
}

/// The numbers of one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Entries, two a connection.
    pub(super) entries: u64,
    /// Those of IPv4.
    pub(super) entries4: u64,
    /// Connections by protocol and state.
    pub(super) stages: BTreeMap<(String, &'static str), u64>,
    /// Connections that are not over, by published rule.
    pub(super) of_rules: BTreeMap<u32, u64>,
    /// Connections that are not over, by endpoint at either end.
    pub(super) of_endpoints: BTreeMap<u32, u64>,
    /// Use of ports by masquerade address and protocol.
    pub(super) ports: BTreeMap<(IpAddr, String), PortUse>,
}

/// The last reading.
#[derive(Debug, Default)]
pub(super) struct Census(Mutex<Option<Reading>>);

#[derive(Debug)]
struct Reading {
    at: Instant,
    took: Duration,
    counted: Arc<Counted>,
}

impl Census {
    /// Returns the numbers, not much older than they can be afforded to be.
    pub(super) fn get(&self, tables: &Tables) -> Result<Arc<Counted>, BpfError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        if let Some(reading) = &*last
            && begin.duration_since(reading.at) < FRESH.max(reading.took * PATIENCE)
        {
            return Ok(Arc::clone(&reading.counted));
        }
        let counted = Arc::new(count(tables)?);
        let reading = Reading { at: begin, took: begin.elapsed(), counted: Arc::clone(&counted) };
        *last = Some(reading);
        Ok(counted)
    }
}

fn count(tables: &Tables) -> Result<Counted, BpfError> {
    let mut counter = Counter::default();
    tables.flows4.for_each(|key, flow| counter.add(&key, &flow, |ip| Ipv4Addr::from(ip).into()))?;
    counter.counted.entries4 = counter.counted.entries;
    tables.flows6.for_each(|key, flow| counter.add(&key, &flow, |ip| Ipv6Addr::from(ip).into()))?;
    Ok(counter.end())
}

/// Source address and protocol, and the destination.
type Towards = (IpAddr, u8, IpAddr, Port);

#[derive(Default)]
struct Counter {
    counted: Counted,
    stages: BTreeMap<(u8, &'static str), u64>,
    towards: HashMap<Towards, u64>,
}

impl Counter {
    fn add<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>, ip: impl Fn(A) -> IpAddr) {
        self.counted.entries += 1;
        if flow.state & state::IS_REPLY != 0 {
            return;
        }
        let stage = stage(key.proto, flow.state);
        *self.stages.entry((key.proto, stage)).or_default() += 1;
        let closed = state::FIN_ORIGINAL | state::FIN_REPLY;
        let over = flow.state & state::RESET != 0 || flow.state & closed == closed;
        if flow.rule != 0 && !over {
            *self.counted.of_rules.entry(flow.rule).or_default() += 1;
        }
        for endpoint in [flow.from, flow.to] {
            if endpoint != 0 && !over {
                *self.counted.of_endpoints.entry(endpoint).or_default() += 1;
            }
        }
        if flow.action == Action::Leave as u8 && key.src != flow.src {
            let towards = (ip(flow.src), key.proto, ip(flow.dst), flow.dst_port);
            *self.towards.entry(towards).or_default() += 1;
        }
    }

    fn end(mut self) -> Counted {
        for ((address, proto, ..), connections) in self.towards {
            let used = self.counted.ports.entry((address, proto_name(proto))).or_default();
            used.connections += connections;
            used.busiest = used.busiest.max(connections);
        }
        let named = self.stages.into_iter().map(|((p, stage), n)| ((proto_name(p), stage), n));
        self.counted.stages = named.collect();
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use bascule_common::abi::{Flow4, FlowKey4, Ip4};

    use super::*;

    #[test]
    fn connections_are_counted_once_and_ports_by_destination() {
        let own = Ip4::new([203, 0, 113, 10]);
        let mut counter = Counter::default();
        let mut add = |port: u16, to: u8, bits: u8, rule: u32| {
            let key = FlowKey4 {
                src: Ip4::new([172, 18, 0, 2]),
                dst: Ip4::new([198, 51, 100, to]),
                src_port: Port::new(port),
                dst_port: Port::new(80),
                proto: 6,
                ..FlowKey4::default()
            };
            let (src, action) = if rule == 0 { (own, 2) } else { (key.src, 1) };
            let flow = Flow4 {
                from: 7,
                src,
                dst: key.dst,
                dst_port: key.dst_port,
                state: bits,
                rule,
                action,
                ..Flow4::default()
            };
            counter.add(&key, &flow, |ip| Ipv4Addr::from(ip).into());
        };
        add(1, 7, state::ESTABLISHED, 0);
        add(2, 7, state::ESTABLISHED, 0);
        add(3, 8, 0, 0);
        add(4, 7, state::IS_REPLY, 0);
        add(5, 9, state::ESTABLISHED, 3);
        add(6, 9, state::RESET, 3);
        let counted = counter.end();
        assert_eq!(counted.entries, 6);
        assert_eq!(counted.of_rules, [(3, 1)].into());
        assert_eq!(counted.of_endpoints, [(7, 4)].into(), "neither answers nor what is over");
        let used = PortUse { connections: 3, busiest: 2 };
        let address: IpAddr = "203.0.113.10".parse().expect("an address");
        assert_eq!(counted.ports, [((address, "tcp".to_owned()), used)].into());
        let stages = [("open", 3), ("opening", 1), ("reset", 1)];
        assert_eq!(counted.stages, stages.map(|(s, n)| (("tcp".to_owned(), s), n)).into());
    }
}
