//! The plan for some containers alone: what it costs does not depend on how many others there are.
//!
//! Wishes and observation are cut down to these containers and their networks, and planned as always. What
//! concerns the host, a network as such, or links between containers is beyond it: [`Scope::of`] tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use bascule_common::abi::{Ip6, Mac};

use super::{
    Action, Contents, Hook, HookState, Link, Neighbour, Observed, Owner, Planned, Settings, Side,
    containers,
    diff::{Subjects, View},
    observed::FdbEntry,
    order,
};
use crate::model::{ContainerId, Desired, Endpoint, EndpointId, Network, NetworkId, Shelf};

/// What a change is about, where that is nothing but some containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The containers.
    pub containers: BTreeSet<ContainerId>,
}

impl Scope {
    /// Finds what is different between two states of affairs; none where it is more than containers.
    pub fn of(before: &Desired, after: &Desired) -> Option<Self> {
        let networks = before.networks.differences(&after.networks).all(|id| {
            let (old, new) = (before.networks.get(id), after.networks.get(id));
            old.zip(new).is_some_and(|(old, new)| is_same(old, new))
        });
        let rest = before.denials == after.denials
            && before.configs == after.configs
            && before.indices.tables == after.indices.tables
            && before.predefined == after.predefined
            && before.docker.is_active() == after.docker.is_active();
        let changed: BTreeSet<_> =
            before.containers.differences(&after.containers).copied().collect();
        let found = || {
            let both = [before, after].into_iter();
            both.flat_map(|d| changed.iter().filter_map(|id| d.containers.get(id)))
        };
        let names: BTreeSet<_> = found().map(|c| &c.name).collect();
        // What a link opens has two ends.
        let is_linked = [before, after].into_iter().any(|desired| {
            desired.containers.values().any(|c| {
                let own = c.attachments.iter().flat_map(|place| &place.links);
                let mut links = c.links.iter().chain(own);
                links.any(|l| changed.contains(&c.id) || names.contains(&l.container))
            })
        });
        let brought = || {
            found().flat_map(|c| &c.attachments).any(|place| {
                after.networks.get(&place.network).is_some_and(|network| network.brought)
            })
        };
        let fits = networks && rest && !is_linked && !brought();
        fits.then_some(Self { containers: changed })
    }

    fn networks(&self, before: &Desired, after: &Desired) -> BTreeSet<NetworkId> {
        let found = [before, after]
            .into_iter()
            .flat_map(|d| self.containers.iter().map(|id| d.containers.get(id)));
        found.flatten().flat_map(|c| c.attachments.iter().map(|place| place.network)).collect()
    }

    /// Returns the wishes for these containers and their networks.
    fn cut(&self, desired: &Desired, networks: &BTreeSet<NetworkId>) -> Desired {
        let mut few = Desired {
            networks: Shelf::new(),
            configs: Shelf::new(),
            containers: Shelf::new(),
            pools: Shelf::new(),
            denials: BTreeMap::new(),
            indices: desired.indices.clone(),
            predefined: desired.predefined,
            docker: desired.docker.clone(),
        };
        for id in networks {
            if let Some(network) = desired.networks.shared(id) {
                few.networks.share(*id, network);
            }
        }
        for id in &self.containers {
            if let Some(container) = desired.containers.shared(id) {
                few.containers.share(*id, container);
            }
        }
        few
    }
}

/// Tells whether a network is the same but for which address it gave out last.
fn is_same(old: &Network, new: &Network) -> bool {
    let mut old = old.clone();
    for (pool, new) in [(&mut old.ipv4, &new.ipv4), (&mut old.ipv6, &new.ipv6)] {
        if let (Some(pool), Some(new)) = (pool, new) {
            pool.last_given = new.last_given;
        }
    }
    old == *new
}

/// Where our interfaces are, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Bridges, by network.
    pub bridges: BTreeMap<NetworkId, u32>,
    /// Host ends of veths, by endpoint.
    pub veths: BTreeMap<EndpointId, u32>,
}

impl Places {
    /// Finds them.
    pub fn of<'a>(links: impl IntoIterator<Item = &'a Link>) -> Self {
        let mut places = Self::default();
        for link in links {
            places.note(link);
        }
        places
    }

    /// Notes an interface.
    pub fn note(&mut self, link: &Link) {
        match link.owner {
            Owner::Network(id) | Owner::Brought(id) => drop(self.bridges.insert(id, link.index)),
            Owner::Endpoint(id) | Owner::Adopted(id) => {
                self.veths.insert(id, link.index);
            }
            Owner::Foreign
            | Owner::Unknown(_)
            | Owner::Passing
            | Owner::Names
            | Owner::HalfMade => {}
        }
    }

    /// Forgets an interface.
    pub fn forget(&mut self, link: &Link) {
        match link.owner {
            Owner::Network(id) | Owner::Brought(id) => drop(self.bridges.remove(&id)),
            Owner::Endpoint(id) | Owner::Adopted(id) => drop(self.veths.remove(&id)),
            Owner::Foreign
            | Owner::Unknown(_)
            | Owner::Passing
            | Owner::Names
            | Owner::HalfMade => {}
        }
    }
}

/// What is known, to be cut down.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What was observed, maps and programs aside.
    pub observed: &'a Observed,
    /// Where our interfaces are.
    pub places: &'a Places,
    /// What the maps hold.
    pub contents: &'a Contents,
    /// Where programs of ours are attached.
    pub hooks: &'a BTreeMap<Hook, HookState>,
}

/// Returns what leads these containers from what is there to what is desired, in order.
pub fn narrow(
    before: &Desired,
    desired: &Desired,
    seen: Seen<'_>,
    scope: &Scope,
    settings: &Settings,
) -> Vec<Planned> {
    let networks = scope.networks(before, desired);
    let (before, desired) = (scope.cut(before, &networks), scope.cut(desired, &networks));
    let mut observed = seen.cut(&[&before, &desired], scope);
    let numbers: BTreeSet<_> =
        endpoints(&before).chain(endpoints(&desired)).map(|(_, e)| e.index).collect();
    // Which of them have links does not change here.
    let linked = seen.contents.links.keys().flat_map(|key| [key.from, key.to]);
    let linked = linked.filter(|number| numbers.contains(number)).collect();
    let contents = |desired: &Desired, observed: &Observed| {
        let view = &View::of(desired, observed);
        Contents::of_containers(desired, view, &numbers, &linked)
    };
    let (was, wanted) = (contents(&before, &observed), contents(&desired, &observed));
    observed.contents = seen.contents.cut([&was, &wanted]);
    let mut plan = Vec::new();
    let view = &View::of(&desired, &observed);
    let subjects = Subjects::of(&desired);
    let entries = observed.contents.towards(&wanted).into_iter();
    plan.extend(
        entries.map(|entry| Planned {
            subject: subjects.of_entry(&entry),
            action: Action::Map(entry),
        }),
    );
    containers::containers(&desired, view, settings, &mut plan);
    order::sorted(plan)
}

fn endpoints(desired: &Desired) -> impl Iterator<Item = (NetworkId, &Endpoint)> {
    desired.containers.values().flat_map(|container| container.endpoints())
}

impl Seen<'_> {
    fn cut(&self, desired: &[&Desired; 2], scope: &Scope) -> Observed {
        let mut cut = Observed::default();
        let both = || desired.iter().flat_map(|desired| endpoints(desired));
        let veths = both().filter_map(|(_, e)| self.places.veths.get(&e.id));
        let networks = desired.iter().flat_map(|d| d.networks.keys());
        let bridges = networks.filter_map(|id| self.places.bridges.get(id));
        for index in veths.chain(bridges) {
            let Some(link) = self.observed.links.get(index) else { continue };
            cut.links.insert(*index, link.clone());
            for side in [Side::Ingress, Side::Egress] {
                let hook = Hook { ifindex: *index, side };
                if let Some(state) = self.hooks.get(&hook) {
                    cut.hooks.insert(hook, state.clone());
                }
            }
            let of_port = |mac: Mac| FdbEntry { port: *index, mac };
            cut.fdb.extend(self.observed.fdb.range(of_port([0; 6])..=of_port([0xff; 6])));
        }
        for (network, endpoint) in both() {
            let Some(&link) = self.places.bridges.get(&network) else { continue };
            let link_local = Ipv6Addr::from(Ip6::link_local(&endpoint.mac.octets()));
            for ip in endpoint.addresses().chain([IpAddr::from(link_local)]) {
                let with = |mac: Mac| Neighbour { link, ip, mac };
                cut.neighbours
                    .extend(self.observed.neighbours.range(with([0; 6])..=with([0xff; 6])));
            }
        }
        for id in &scope.containers {
            if let Some(sandbox) = self.observed.sandboxes.get(id) {
                cut.sandboxes.insert(*id, sandbox.clone());
            }
            let pin = id.to_string();
            if self.observed.stray_sandboxes.contains(&pin) {
                cut.stray_sandboxes.insert(pin);
            }
        }
        cut
    }
}

impl Contents {
    /// Returns the entries whose keys any of these has.
    fn cut(&self, keys: [&Self; 2]) -> Self {
        fn few<K: Ord + Copy, V: Copy>(
            all: &BTreeMap<K, V>,
            [a, b]: [&BTreeMap<K, V>; 2],
        ) -> BTreeMap<K, V> {
            a.keys().chain(b.keys()).filter_map(|key| Some((*key, *all.get(key)?))).collect()
        }
        let [a, b] = keys;
        Self {
            generations: few(&self.generations, [&a.generations, &b.generations]),
            endpoints: few(&self.endpoints, [&a.endpoints, &b.endpoints]),
            neighbours: few(&self.neighbours, [&a.neighbours, &b.neighbours]),
            neighbours6: few(&self.neighbours6, [&a.neighbours6, &b.neighbours6]),
            rules: few(&self.rules, [&a.rules, &b.rules]),
            served: few(&self.served, [&a.served, &b.served]),
            ports: self.ports.cut([&a.ports, &b.ports]),
            ..Self::default()
        }
    }
}
