//! A model of the kernel: does what actions say, as far as the next observation can tell, and refuses
//! what the kernel would refuse.

use std::collections::BTreeSet;

use super::{
    Action, Address, Entry, HookState, Inside, Interface, Link, Name, Observed, Owner, Planned,
    Sandbox, Xdp,
};
use crate::model::{self, ContainerId, Desired, NamespaceId};

/// The kernel, as far as it concerns us.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    /// What an observation sees, namespaces excepted.
    pub(super) seen: Observed,
    /// Namespaces that exist: container and contents.
    namespaces: std::collections::BTreeMap<ContainerId, (NamespaceId, Inside)>,
    next: u32,
}

fn foreign(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        owner: Owner::Foreign,
        up: true,
        loopback: name == "lo",
        ethernet: true,
        asks: true,
        ipv6: true,
        mtu: 1500,
        mac: [0, 1, 2, 3, 4, index as u8],
        master: None,
        quiet: false,
        source: None,
        source6: None,
        leads_out: false,
    }
}

impl Fake {
    /// A host with `lo` and `eth0`.
    pub(super) fn new() -> Self {
        let mut fake = Self { next: 3, ..Self::default() };
        for link in [foreign(1, "lo"), foreign(2, "eth0")] {
            fake.seen.links.insert(link.index, link);
        }
        let address = |link, text: &str| Address { link, address: text.parse().unwrap() };
        fake.seen.addresses = vec![address(1, "127.0.0.1/8"), address(2, "192.0.2.7/24")];
        fake
    }

    /// Adds an interface that is not ours.
    pub(super) fn plug(&mut self, name: &str) -> u32 {
        let index = self.index();
        self.seen.links.insert(index, foreign(index, name));
        index
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// What an observation for these wishes sees.
    pub(super) fn observe(&self, desired: &Desired) -> Observed {
        let mut seen = self.seen.clone();
        let mut wanted = BTreeSet::new();
        for container in desired.containers.values() {
            if container.running().is_none() || !container.has_namespace() {
                continue;
            }
            wanted.insert(container.id);
            let found = self.namespaces.get(&container.id);
            let namespace = found.map(|(id, _)| *id);
            let inside = found.map(|(_, inside)| inside.clone());
            seen.sandboxes.insert(container.id, Sandbox { namespace, name: Name::Settled, inside });
        }
        let strays = self.namespaces.keys().filter(|id| !wanted.contains(id));
        seen.stray_sandboxes = strays.map(ToString::to_string).collect();
        seen
    }

    /// Does what an action says.
    pub(super) fn execute(&mut self, planned: &Planned) {
        match &planned.action {
            Action::Map(entry) => self.map(entry),
            Action::CreateBridge { network, name, mac, mtu } => {
                let index = self.index();
                let link = foreign(index, name);
                let owner = Owner::Network(*network);
                self.seen
                    .links
                    .insert(index, Link { owner, up: false, mac: *mac, mtu: *mtu, ..link });
            }
            Action::DeleteLink { index, .. } => self.unplug(*index),
            Action::SetUp { index, .. } => self.link(*index).up = true,
            Action::SetMac { index, mac } => self.link(*index).mac = *mac,
            Action::SetMtu { index, mtu } => self.link(*index).mtu = *mtu,
            Action::StopAsking { index } => self.link(*index).asks = false,
            Action::AddAddress { index, address, .. } => {
                self.link(*index);
                self.seen.addresses.push(Address { link: *index, address: *address });
            }
            Action::DeleteAddress { index, address } => {
                self.seen.addresses.retain(|a| (a.link, a.address) != (*index, *address));
            }
            Action::Enslave { index, bridge } => {
                assert!(
                    self.seen.hooks.keys().any(|h| h.ifindex == *index),
                    "a port without programs"
                );
                assert!(
                    self.seen.contents.endpoints.contains_key(index),
                    "a port without endpoint"
                );
                self.link(*bridge);
                self.link(*index).master = Some(*bridge);
            }
            Action::Quiet { index } => self.link(*index).quiet = true,
            Action::SetFdb(entry) => {
                assert!(self.link(entry.port).master.is_some());
                self.seen.fdb.insert(*entry);
            }
            Action::DeleteFdb(entry) => assert!(self.seen.fdb.remove(entry)),
            Action::SetNeighbour(n) => {
                self.seen.neighbours.retain(|old| (old.link, old.ip) != (n.link, n.ip));
                self.seen.neighbours.insert(*n);
            }
            Action::DeleteNeighbour(n) => {
                self.seen.neighbours.remove(n);
            }
            Action::Attach { hook, program } => {
                self.link(hook.ifindex);
                let state = HookState { program: (*program).to_owned(), current: true };
                self.seen.hooks.insert(*hook, state);
            }
            Action::Detach(hook) => drop(self.seen.hooks.remove(hook)),
            Action::AttachXdp(index) => {
                assert!(!self.seen.contents.denied.is_empty(), "a program without a list");
                let taken = self.link(*index).name.starts_with("old");
                let running = Xdp::Attached { current: true, generic: false };
                self.seen.xdp.insert(*index, if taken { Xdp::Refused { taken } } else { running });
            }
            Action::DetachXdp(index) => drop(self.seen.xdp.remove(index)),
            Action::CreateSandbox(container) => {
                let id = NamespaceId { device: 4, inode: self.index().into() };
                assert!(self.namespaces.insert(*container, (id, Inside::default())).is_none());
            }
            Action::RemoveSandbox(name) => self.remove_sandbox(name),
            Action::PublishName { .. } => {}
            Action::LoopbackUp(container) => self.inside(*container).loopback_up = true,
            Action::CreateVeth { .. } | Action::Configure(_) => self.veth(&planned.action),
        }
    }

    fn veth(&mut self, action: &Action) {
        match action {
            Action::CreateVeth { container, endpoint, name, mac, mtu } => {
                let (index, owner) = (self.index(), Owner::Endpoint(*endpoint));
                let (mac, mtu) = (*mac, *mtu);
                let interface = Interface {
                    peer: Some(index),
                    up: false,
                    mac,
                    mtu,
                    addresses: BTreeSet::new(),
                    gateways: BTreeSet::new(),
                };
                let former =
                    self.inside(*container).interfaces.insert(format!("new-{name}"), interface);
                assert!(former.is_none());
                let link = foreign(index, name);
                self.seen.links.insert(index, Link { owner, up: false, mtu, ..link });
            }
            Action::Configure(wanted) => {
                assert!(
                    self.seen.contents.endpoints.contains_key(&wanted.host_index),
                    "open before it is known"
                );
                let interfaces = &mut self.inside(wanted.container).interfaces;
                let of_veth = |(_, i): &(&String, &Interface)| i.peer == Some(wanted.host_index);
                let name = interfaces.iter().find(of_veth).expect("a veth's other end").0.clone();
                let mut interface = interfaces.remove(&name).expect("found");
                interface.up = true;
                (interface.mac, interface.mtu) = (wanted.mac, wanted.mtu);
                interface.addresses = wanted.addresses.iter().copied().collect();
                interface.gateways.extend(&wanted.gateways);
                interfaces.insert(wanted.name.clone(), interface);
            }
            other => panic!("no veth in {other:?}"),
        }
    }

    fn map(&mut self, entry: &Entry) {
        // The order that keeps things shut: what leads to an endpoint comes after it, and goes before it.
        let contents = &self.seen.contents;
        match entry {
            Entry::Endpoint(index, Some(value)) => {
                assert_eq!(
                    contents.generations.get(&value.endpoint),
                    Some(&value.generation.into())
                );
                assert!(
                    self.seen.hooks.keys().any(|h| h.ifindex == *index),
                    "an endpoint without programs"
                );
            }
            Entry::Neighbour(_, Some(value)) | Entry::Neighbour6(_, Some(value)) => {
                assert!(contents.endpoints.contains_key(&value.ifindex))
            }
            Entry::Ports(_, Some(slot)) => assert!(contents.rules.contains_key(&slot.rule)),
            Entry::Served(_, Some(rule)) => {
                assert!(contents.rules.contains_key(&u32::try_from(*rule).unwrap()));
            }
            Entry::Rule(index, None) => {
                assert!(!contents.ports.runs().any(|(_, slot)| slot.rule == *index));
                assert!(!contents.served.values().any(|rule| *rule == u64::from(*index)));
            }
            _ => {}
        }
        self.seen.contents.apply(entry);
    }

    /// Removes an interface with all that goes with it.
    pub(super) fn unplug(&mut self, index: u32) {
        self.link(index);
        self.seen.links.remove(&index);
        self.seen.addresses.retain(|a| a.link != index);
        self.seen.fdb.retain(|e| e.port != index);
        self.seen.neighbours.retain(|n| n.link != index);
        self.seen.hooks.retain(|h, _| h.ifindex != index);
        self.seen.xdp.retain(|at, _| *at != index);
        for link in self.seen.links.values_mut().filter(|l| l.master == Some(index)) {
            link.master = None;
            link.quiet = false;
            self.seen.fdb.retain(|e| e.port != link.index);
        }
        for (_, inside) in self.namespaces.values_mut() {
            inside.interfaces.retain(|_, i| i.peer != Some(index));
        }
    }

    fn remove_sandbox(&mut self, name: &str) {
        let id: ContainerId = name.parse().expect("an id");
        let (_, inside) = self.namespaces.remove(&id).expect("there");
        for peer in inside.interfaces.values().filter_map(|i| i.peer) {
            self.unplug(peer);
        }
    }

    fn link(&mut self, index: u32) -> &mut Link {
        self.seen.links.get_mut(&index).unwrap_or_else(|| panic!("no interface {index}"))
    }

    fn inside(&mut self, container: ContainerId) -> &mut Inside {
        &mut self.namespaces.get_mut(&container).expect("a namespace").1
    }

    /// Which namespace a container has.
    pub(super) fn namespace(&self, container: &model::Container) -> Option<NamespaceId> {
        self.namespaces.get(&container.id).map(|(id, _)| *id)
    }
}
