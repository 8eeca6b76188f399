//! Which connections end with what a plan takes away: their entries would lead where nothing is.
//!
//! Endpoints that go need nothing here, their generation has ended.

use std::collections::BTreeSet;

use bascule_common::abi::{Action as Verdict, Address, AnyIp, Flow, FlowKey, Port, Rule};

use super::observe::Known;
use crate::{
    kernel::bpf::{BpfError, Tables},
    plan::{Action, Contents, Entry, Planned},
};

/// What ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Endpoints whose veth somebody deleted: both entries of a flow go, or answers would be lost.
    endpoints: BTreeSet<u32>,
    /// Uplinks that were pulled.
    links: BTreeSet<u32>,
    /// Addresses of the host: which family, and which.
    addresses: BTreeSet<(bool, AnyIp)>,
    /// Ports that are newly published: whoever was told something else about them is told again.
    ports: Vec<Ports>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    rule: u32,
    proto: u8,
    first: u16,
    count: u16,
    ipv6: bool,
    address: AnyIp,
}

impl Ends {
    /// Finds what a plan ends; to be asked before it is executed.
    pub fn of(plan: &[Planned], known: &Known) -> Self {
        let mut ends = Self::default();
        for planned in plan {
            let Action::Map(entry) = &planned.action else { continue };
            match entry {
                Entry::Endpoint(index, None) => {
                    ends.endpoints.extend(still_valid(&known.contents, *index));
                }
                Entry::Uplink(index, None) => {
                    ends.links.insert(*index);
                }
                Entry::Local(address, None) => {
                    ends.addresses.insert((false, address.to_any()));
                }
                Entry::Local6(address, None) => {
                    ends.addresses.insert((true, address.to_any()));
                }
                Entry::Rule(rule, Some(new)) if !known.contents.rules.contains_key(rule) => {
                    let (rule, proto, count) = (*rule, new.proto, new.count);
                    ends.ports.push(Ports {
                        rule,
                        proto,
                        first: new.host_base,
                        count,
                        ipv6: new.flags & Rule::IPV6 != 0,
                        address: new.host,
                    });
                }
                _ => {}
            }
        }
        ends
    }

    /// Removes the entries; returns how many.
    pub fn carry_out(&self, tables: &Tables, contents: &Contents) -> Result<usize, BpfError> {
        if *self == Self::default() {
            return Ok(0);
        }
        let local4 = |ip: &_| contents.locals.contains_key(ip);
        let local6 = |ip: &_| contents.locals6.contains_key(ip);
        tables.change(|| {
            let removed = tables.flows4.remove_where(|key, flow| self.end(key, flow, local4))?;
            Ok(removed + tables.flows6.remove_where(|key, flow| self.end(key, flow, local6))?)
        })
    }

    fn end<A: Address>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        local: impl Fn(&A) -> bool,
    ) -> bool {
        let is_gone = |ip: A| self.addresses.contains(&(is_ipv6::<A>(), ip.to_any()));
        self.links.contains(&flow.ifindex)
            || self.endpoints.contains(&flow.from)
            || self.endpoints.contains(&flow.to)
            || is_gone(key.dst)
            || is_gone(flow.src)
            || self.ports.iter().any(|ports| ports.concern(key, flow, &local))
    }
}

fn is_ipv6<A: Address>() -> bool {
    A::BITS == 128
}

/// Returns the endpoint behind an interface, if the data plane would still follow entries that name it.
fn still_valid(contents: &Contents, ifindex: u32) -> Option<u32> {
    let endpoint = contents.endpoints.get(&ifindex)?;
    let current = contents.generations.get(&endpoint.endpoint);
    (current == Some(&endpoint.generation.into())).then_some(endpoint.endpoint)
}

impl Ports {
    fn concern<A: Address>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        local: &impl Fn(&A) -> bool,
    ) -> bool {
        let address = A::from_any(self.address);
        let covers = |port: Port| port.number().wrapping_sub(self.first) < self.count;
        let here = |ip: &A| (address == A::UNSPECIFIED && local(ip)) || address == *ip;
        let arriving = covers(key.dst_port) && here(&key.dst);
        let leaving =
            flow.action == Verdict::Leave as u8 && covers(flow.src_port) && here(&flow.src);
        self.ipv6 == is_ipv6::<A>()
            && key.proto == self.proto
            && flow.rule != self.rule
            && (arriving || leaving)
    }
}

#[cfg(test)]
mod tests {
    use bascule_common::abi::{Endpoint, Flow4, Flow6, FlowKey4, FlowKey6, Ip4};

    use super::*;
    use crate::plan::Subject;

    fn planned(entry: Entry) -> Planned {
        Planned { subject: Subject::Host, action: Action::Map(entry) }
    }

    #[test]
    fn a_veth_that_was_deleted_ends_connections_and_one_whose_container_stopped_needs_not() {
        let mut known = Known::default();
        let endpoint = Endpoint { endpoint: 3, generation: 7, ..Endpoint::default() };
        known.contents.endpoints.insert(9, endpoint);
        known.contents.generations.insert(3, 7);
        let plan = [planned(Entry::Endpoint(9, None))];
        assert_eq!(Ends::of(&plan, &known).endpoints, BTreeSet::from([3]));
        known.contents.generations.insert(3, 8);
        assert_eq!(Ends::of(&plan, &known), Ends::default());
    }

    #[test]
    fn publishing_ends_what_used_the_port_before() {
        let rule = Rule { host_base: 50_000, count: 2, proto: 17, ..Rule::default() };
        let ends = Ends::of(&[planned(Entry::Rule(4, Some(rule)))], &Known::default());
        let host = Ip4::new([192, 0, 2, 7]);
        let local = |ip: &Ip4| *ip == host;
        let concern =
            |key: FlowKey4, flow: Flow4| ends.ports.iter().any(|p| p.concern(&key, &flow, &local));
        let key = |dst, port| FlowKey4 {
            dst,
            dst_port: Port::new(port),
            proto: 17,
            ..FlowKey4::default()
        };
        assert!(concern(key(host, 50_001), Flow4::default()));
        assert!(!concern(key(host, 50_002), Flow4::default()));
        assert!(!concern(key(Ip4::new([8, 8, 8, 8]), 50_001), Flow4::default()));
        assert!(!concern(key(host, 50_001), Flow4 { rule: 4, ..Flow4::default() }));
        let leaving = Flow4 {
            src: host,
            src_port: Port::new(50_000),
            action: Verdict::Leave as u8,
            ..Flow4::default()
        };
        assert!(concern(key(Ip4::new([8, 8, 8, 8]), 53), leaving));
        let key6 = FlowKey6 { dst_port: Port::new(50_001), proto: 17, ..FlowKey6::default() };
        let all = |_: &_| true;
        assert!(!ends.ports[0].concern(&key6, &Flow6::default(), &all), "another family's port");
    }
}
