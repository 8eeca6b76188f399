//! The plan as a whole.

use std::collections::{BTreeMap, BTreeSet};

use bascule_common::abi::{Config, Mac};

use super::{
    Action, Contents, Entry, Observed, Owner, Planned, Subject, containers, contents::holders,
    deny, host, order,
};
use crate::model::{ContainerId, Desired, EndpointId, Network, NetworkId};

/// What the operator has set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Switches of the data plane.
    pub config: Config,
    /// Names of interfaces that lead out, with `*` and `?`; none is every one.
    pub uplinks: Vec<String>,
    /// Whether networks are masqueraded unless they say otherwise.
    pub masquerade: bool,
    /// Whether the default network has names.
    pub default_bridge_dns: bool,
    /// Whether containers may be addressed directly from outside, as far as they publish ports.
    pub direct_routing: bool,
}

impl Settings {
    /// Tells whether an interface may lead out.
    pub fn is_uplink(&self, name: &str) -> bool {
        self.uplinks.is_empty()
            || self.uplinks.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes()))
    }
}

fn matches(glob: &[u8], name: &[u8]) -> bool {
    match (glob, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=name.len()).any(|at| name.get(at..).is_some_and(|n| matches(rest, n)))
        }
        ([b'?', glob @ ..], [_, name @ ..]) => matches(glob, name),
        ([g, glob @ ..], [n, name @ ..]) => g == n && matches(glob, name),
        _ => false,
    }
}

/// Returns what leads from what is there towards what is desired, in order.
pub fn diff(desired: &Desired, observed: &Observed, settings: &Settings) -> Vec<Planned> {
    let mut plan = Vec::new();
    let view = &View::of(desired, observed);
    let wanted = Contents::desired(desired, view, settings);
    let subjects = Subjects::of(desired);
    let entry =
        |entry: Entry| Planned { subject: subjects.of_entry(&entry), action: Action::Map(entry) };
    plan.extend(observed.contents.towards(&wanted).into_iter().map(entry));
    host::networks(desired, view, &mut plan);
    host::hooks(desired, view, settings, &mut plan);
    deny::programs(desired, view, settings, &mut plan);
    containers::containers(desired, view, settings, &mut plan);
    order::sorted(plan)
}

/// Returns the running containers whose namespace is gone, or another's.
pub fn vanished(desired: &Desired, observed: &Observed) -> Vec<ContainerId> {
    let gone = |container: &&crate::model::Container| {
        let Some(namespace) = container.running().and_then(|r| r.namespace) else { return false };
        let seen = observed.sandboxes.get(&container.id);
        container.has_namespace()
            && seen.is_some_and(|sandbox| sandbox.namespace != Some(namespace))
    };
    desired.containers.values().filter(gone).map(|c| c.id).collect()
}

/// Returns the endpoints whose interface Docker has taken and that are gone with their sandbox.
pub fn unplugged(desired: &Desired, observed: &Observed) -> Vec<EndpointId> {
    let mut joined = desired.containers.values().filter(|c| c.has_joined()).peekable();
    if joined.peek().is_none() {
        return Vec::new();
    }
    let owner = |link: &super::Link| match link.owner {
        Owner::Endpoint(id) => Some(id),
        _ => None,
    };
    let there: BTreeSet<_> = observed.links.values().filter_map(owner).collect();
    let endpoints = joined.flat_map(|c| c.endpoints().map(|(_, e)| e.id));
    endpoints.filter(|id| !there.contains(id)).collect()
}

/// Whose entries of maps are.
pub(super) struct Subjects {
    endpoints: BTreeMap<u32, ContainerId>,
    networks: BTreeMap<u32, NetworkId>,
    rules: BTreeMap<u32, ContainerId>,
}

impl Subjects {
    pub(super) fn of(desired: &Desired) -> Self {
        let networks = desired.networks.values().map(|n| (n.index, n.id)).collect();
        let rules = desired.containers.values().filter_map(|c| Some((c.id, c.running()?)));
        let rules =
            rules.flat_map(|(id, r)| r.rules.iter().map(move |rule| (rule.index, id))).collect();
        Self { endpoints: holders(desired), networks, rules }
    }

    pub(super) fn of_entry(&self, entry: &Entry) -> Subject {
        let endpoint = |index: u32| {
            self.endpoints.get(&index).map_or(Subject::Host, |id| Subject::Container(*id))
        };
        let network = |index: u32| {
            self.networks.get(&index).map_or(Subject::Host, |id| Subject::Network(*id))
        };
        match entry {
            Entry::Generation(index, _) => endpoint(*index),
            Entry::Endpoint(_, Some(value)) => endpoint(value.endpoint),
            Entry::Neighbour(_, Some(value)) => endpoint(value.endpoint),
            Entry::Rule(_, Some(value)) => endpoint(value.endpoint),
            Entry::Link(key, Some(_)) => endpoint(key.from),
            Entry::Ports(_, Some(slot)) => {
                self.rules.get(&slot.rule).map_or(Subject::Host, |id| Subject::Container(*id))
            }
            Entry::Network(index, Some(_)) => network(*index),
            Entry::Neighbour6(_, Some(value)) => endpoint(value.endpoint),
            Entry::Served(_, Some(rule)) => {
                let rule = u32::try_from(*rule).unwrap_or_default();
                self.rules.get(&rule).map_or(Subject::Host, |id| Subject::Container(*id))
            }
            Entry::Subnet(_, Some(value)) | Entry::Subnet6(_, Some(value)) => {
                network(value.network)
            }
            Entry::Bridge(_, Some(index)) => network(u32::try_from(*index).unwrap_or_default()),
            Entry::Trusted(key, Some(_)) => network(key.network),
            Entry::Denied(..) | Entry::DenyLate(..) => Subject::DenyList,
            _ => Subject::Host,
        }
    }
}

/// What was observed, with our interfaces found by what they are for.
pub(super) struct View<'a> {
    observed: &'a Observed,
    /// Bridges, by network.
    pub(super) bridges: BTreeMap<NetworkId, u32>,
    /// Host ends of veths, by endpoint.
    pub(super) veths: BTreeMap<EndpointId, u32>,
    /// The host end of the veth of the server of names, where there is one.
    pub(super) names: Option<u32>,
}

impl<'a> View<'a> {
    pub(super) fn of(desired: &Desired, observed: &'a Observed) -> Self {
        let brought = |id: &NetworkId| desired.networks.get(id).is_some_and(|n| n.brought);
        let (mut bridges, mut veths, mut names) = (BTreeMap::new(), BTreeMap::new(), None);
        for link in observed.links.values() {
            match link.owner {
                Owner::Network(id) if !brought(&id) => drop(bridges.insert(id, link.index)),
                Owner::Brought(id) => drop(bridges.insert(id, link.index)),
                Owner::Endpoint(id) | Owner::Adopted(id) => drop(veths.insert(id, link.index)),
                // Of several the newest: an older one is going.
                Owner::Names => names = Some(link.index),
                Owner::Network(_)
                | Owner::Foreign
                | Owner::Unknown(_)
                | Owner::Passing
                | Owner::HalfMade => {}
            }
        }
        Self { observed, bridges, veths, names }
    }

    /// The Ethernet address of a network's gateway: one that is brought keeps its own.
    pub(super) fn gateway_mac(&self, network: &Network) -> Mac {
        let bridge = self.bridges.get(&network.id).and_then(|index| self.links.get(index));
        match bridge.filter(|_| network.brought) {
            Some(link) => link.mac,
            None => network.gateway_mac().octets(),
        }
    }
}

impl std::ops::Deref for View<'_> {
    type Target = Observed;
    fn deref(&self) -> &Observed {
        self.observed
    }
}
