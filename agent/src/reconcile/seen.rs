//! What was seen last, kept true by what this agent does: a change to one container looks at nothing else.
//!
//! Only what is done for containers is followed. After anything else, and after every failure, everything is
//! looked at again.

use super::{machine::Machine, observe};
use crate::{
    kernel::netlink,
    model::{ContainerId, Desired, Sandbox},
    plan::{Action, Inside, Interface, Link, Observed, Owner, Places, Scope},
};

/// What was seen last.
#[derive(Debug)]
pub struct Seen {
    /// Everything but maps and programs, which are known anyway.
    pub observed: Observed,
    /// Where our interfaces are.
    pub places: Places,
}

/// Takes over what was seen inside namespaces that nobody looked into this time.
pub fn remember(observed: &mut Observed, mut before: Observed) {
    for (id, sandbox) in observed.sandboxes.iter_mut().filter(|(_, s)| s.inside.is_none()) {
        let known = before.sandboxes.remove(id).filter(|k| k.namespace == sandbox.namespace);
        sandbox.inside = known.and_then(|known| known.inside);
    }
}

impl Seen {
    /// Takes over what was observed; what is inside namespaces that nobody looked into this time is as it was.
    pub fn new(mut observed: Observed, former: Option<Self>) -> Self {
        (observed.contents, observed.hooks, observed.xdp) = Default::default();
        if let Some(former) = former {
            remember(&mut observed, former.observed);
        }
        let places = Places::of(observed.links.values());
        Self { observed, places }
    }

    /// Looks at the namespaces of these containers: which they are, and inside those that nobody has seen.
    pub async fn look(&mut self, machine: &Machine, desired: &Desired, scope: &Scope) {
        for &id in &scope.containers {
            let container = desired.containers.get(&id);
            let container = container.filter(|c| c.running().is_some() && c.has_namespace());
            let former = self.observed.sandboxes.remove(&id);
            if let Some(container) = container {
                let known = former.filter(|_| container.sandbox == Sandbox::Own);
                let seen = observe::sandbox(machine, container, known).await;
                self.observed.sandboxes.insert(id, seen);
            }
            let own = container.is_some_and(|c| c.sandbox == Sandbox::Own);
            if !own && machine.places.sandbox(id).exists() {
                self.observed.stray_sandboxes.insert(id.to_string());
            } else {
                self.observed.stray_sandboxes.remove(&id.to_string());
            }
        }
    }

    /// Notes what an action has changed; false: it is not followed here. A link that was made has this index.
    pub fn note(&mut self, machine: &Machine, action: &Action, made: Option<u32>) -> bool {
        let observed = &mut self.observed;
        match action {
            // Noted where they are done, or seen at the next look.
            Action::Map(_) | Action::Attach { .. } | Action::Detach(_) => {}
            Action::CreateSandbox(_) | Action::RemoveSandbox(_) | Action::PublishName { .. } => {}
            Action::SetUp { index, .. } => self.change(*index, |link| link.up = true),
            Action::SetMtu { index, mtu } => self.change(*index, |link| link.mtu = *mtu),
            Action::Enslave { index, bridge } => {
                self.change(*index, |link| link.master = Some(*bridge));
            }
            Action::Quiet { index } => self.change(*index, |link| link.quiet = true),
            Action::SetFdb(entry) => drop(observed.fdb.insert(*entry)),
            Action::DeleteFdb(entry) => drop(observed.fdb.remove(entry)),
            Action::SetNeighbour(n) => {
                observed.neighbours.retain(|old| (old.link, old.ip) != (n.link, n.ip));
                observed.neighbours.insert(*n);
            }
            Action::DeleteNeighbour(n) => drop(observed.neighbours.remove(n)),
            Action::LoopbackUp(container) => {
                self.inside(*container, |inside| inside.loopback_up = true);
            }
            Action::CreateVeth { .. } => return self.created(machine, action, made),
            Action::DeleteLink { index, .. } => self.deleted(*index),
            Action::Configure(wanted) => {
                let interface = Interface {
                    peer: Some(wanted.host_index),
                    up: true,
                    mac: wanted.mac,
                    mtu: wanted.mtu,
                    addresses: wanted.addresses.iter().copied().collect(),
                    gateways: wanted.gateways.iter().copied().collect(),
                };
                self.inside(wanted.container, |inside| {
                    inside.loopback_up = true;
                    // A default route takes the place of another interface's.
                    for other in inside.interfaces.values_mut() {
                        other.gateways.retain(|old| {
                            wanted.gateways.iter().all(|new| new.is_ipv4() != old.is_ipv4())
                        });
                    }
                    inside.interfaces.insert(wanted.name.clone(), interface);
                });
            }
            _ => return false,
        }
        true
    }

    fn change(&mut self, index: u32, work: impl FnOnce(&mut Link)) {
        if let Some(link) = self.observed.links.get_mut(&index) {
            work(link);
        }
    }

    fn inside(&mut self, container: ContainerId, work: impl FnOnce(&mut Inside)) {
        let sandbox = self.observed.sandboxes.get_mut(&container);
        if let Some(inside) = sandbox.and_then(|sandbox| sandbox.inside.as_mut()) {
            work(inside);
        }
    }

    fn created(&mut self, machine: &Machine, action: &Action, made: Option<u32>) -> bool {
        let (Action::CreateVeth { endpoint, name, mtu, .. }, Some(index)) = (action, made) else {
            return false;
        };
        let link = Link {
            index,
            name: name.clone(),
            owner: Owner::Endpoint(*endpoint),
            up: false,
            loopback: false,
            ethernet: true,
            mtu: *mtu,
            mac: machine.mark.birth_mac(name),
            master: None,
            quiet: false,
            source: None,
            source6: None,
            leads_out: false,
            asks: true,
            ipv6: false,
        };
        self.places.note(&link);
        self.observed.links.insert(index, link);
        true
    }

    fn deleted(&mut self, index: u32) {
        let Some(link) = self.observed.links.remove(&index) else { return };
        self.places.forget(&link);
        self.observed.fdb.retain(|entry| entry.port != index);
        let inside = self.observed.sandboxes.values_mut().filter_map(|s| s.inside.as_mut());
        for inside in inside {
            inside.interfaces.retain(|_, interface| interface.peer != Some(index));
        }
    }

    /// Tells whether what was heard is nothing but what is known already.
    pub async fn explains(
        &self,
        machine: &Machine,
        desired: &Desired,
        heard: &netlink::Change,
    ) -> bool {
        let links = &self.observed.links;
        let is_end = |index: &u32| {
            links.get(index).is_none_or(|link| matches!(link.owner, Owner::Endpoint(_)))
        };
        // What is ours and has gone took its addresses and routes with it.
        let gone = |index: &u32| *index != 0 && !links.contains_key(index);
        if heard.resync || !heard.addresses.iter().all(gone) {
            return false;
        }
        if heard.routes.contains(&0) || !heard.routes.iter().all(is_end) {
            return false;
        }
        for index in &heard.links {
            let known = links.get(index);
            let Ok(found) = machine.netlink.link(*index).await else { return false };
            let ours = |link: &Link| matches!(link.owner, Owner::Endpoint(_) | Owner::Network(_));
            let same = match (known, found) {
                (None, None) => true,
                (None, Some(found)) => observe::is_end(&found, links),
                (Some(known), Some(found)) if ours(known) => {
                    let Link { source, source6, leads_out, .. } = *known;
                    let found = observe::link_of(machine, desired, &found);
                    *known == Link { source, source6, leads_out, ..found }
                }
                _ => false,
            };
            if !same {
                return false;
            }
        }
        true
    }
}
