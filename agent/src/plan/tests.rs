//! From any start a few rounds lead to what is desired, and then there is nothing to do.

use std::{collections::BTreeMap, net::Ipv6Addr};

use bascule_common::abi::{self, Config, Ip4, Local, Rule, names::program, service};
use jiff::Timestamp;
use proptest::prelude::*;

use super::{Action, Hook, Owner, Settings, Side, Xdp, diff, fake::Fake, vanished};
use crate::{
    model::{Desired, NetworkId, Predefined},
    state::{
        Change, ContainerSpec, DefaultNetwork, DefaultPlace, EndpointSpec, Facts, NetworkSpec,
        SubnetSpec, change,
    },
};

mod narrow;

struct World {
    desired: Desired,
    facts: Facts,
    kernel: Fake,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let (host, none) = (NetworkId::new([0xaa; 32]), NetworkId::new([0xbb; 32]));
        let predefined = Predefined { host, none, created: Timestamp::UNIX_EPOCH };
        Self {
            desired: Desired::new(predefined, 5),
            facts: Facts::sample(),
            kernel: Fake::new(),
            settings: Settings {
                config: Config::default(),
                uplinks: Vec::new(),
                masquerade: true,
                direct_routing: false,
                default_bridge_dns: false,
            },
        }
    }

    /// Makes a change; a refused one changes nothing.
    fn change(&mut self, change: &Change) {
        if let Ok((next, _)) = change::apply(&self.desired, change, &mut self.facts) {
            self.desired = next;
        }
    }

    /// Makes rounds until there is nothing to do; returns how many there were.
    fn converge(&mut self) -> usize {
        for round in 0..8 {
            for id in vanished(&self.desired, &self.kernel.observe(&self.desired)) {
                self.change(&Change::Stop { container: id.to_string(), exit_code: None });
            }
            let plan = diff(&self.desired, &self.kernel.observe(&self.desired), &self.settings);
            if plan.is_empty() {
                let running: Vec<_> = self.desired.containers.values().cloned().collect();
                for container in running {
                    if let Some(namespace) = self.kernel.namespace(&container) {
                        self.change(&Change::BroughtUp { container: container.id, namespace });
                    }
                }
                return round;
            }
            plan.iter().for_each(|planned| self.kernel.execute(planned));
        }
        let plan = diff(&self.desired, &self.kernel.observe(&self.desired), &self.settings);
        panic!("no end: {plan:?}");
    }

    /// Makes one round, and stops in it.
    fn crash_after(&mut self, actions: usize) {
        let plan = diff(&self.desired, &self.kernel.observe(&self.desired), &self.settings);
        plan.iter().take(actions).for_each(|planned| self.kernel.execute(planned));
    }

    fn network(&mut self, number: u8) {
        let subnets =
            vec![SubnetSpec { subnet: format!("10.{number}.0.0/24"), ..SubnetSpec::default() }];
        let name = format!("n{number}");
        self.change(&Change::CreateNetwork(NetworkSpec {
            name,
            subnets,
            ..NetworkSpec::default()
        }));
    }

    fn container(&mut self, number: u8, network: u8) {
        self.change(&Change::CreateContainer(Box::new(spec(number, network))));
        self.change(&Change::Start(format!("c{number}")));
    }
}

fn spec(number: u8, network: u8) -> ContainerSpec {
    let name = format!("c{number}");
    let link = format!("c{}", number.wrapping_add(1));
    ContainerSpec {
        name: name.parse().ok(),
        networks: vec![(format!("n{network}"), EndpointSpec::default())],
        publish: vec![
            format!("80{number:02}:80").parse().unwrap(),
            format!("192.0.2.7:90{number:02}:90/udp").parse().unwrap(),
        ],
        expose: vec!["443".parse().unwrap()],
        links: vec![link.parse().unwrap()],
        ..ContainerSpec::default()
    }
}

#[test]
fn one_container_takes_three_rounds_and_then_nothing_is_left_to_do() {
    let mut world = World::new();
    world.change(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
    world.network(1);
    world.container(1, 1);
    assert!(world.converge() <= 4);
    assert_eq!(world.converge(), 0);
    let seen = &world.kernel.seen;
    assert_eq!(seen.contents.endpoints.len(), 1);
    assert_eq!(seen.contents.neighbours.len(), 1);
    assert_eq!(seen.contents.rules.len(), 2);
    // The wildcard's port stands in its table, in that of all, and in that of the address with its own.
    let tables: Vec<_> = seen.contents.ports.runs().map(|(run, _)| run.table).collect();
    let own = world.desired.indices.tables.values().copied().next().unwrap();
    assert_eq!(tables, [service::WILDCARD_TABLE, service::ANY_TABLE, service::ANY_TABLE, own, own]);
    let local = seen.contents.locals.get(&Ip4::new([192, 0, 2, 7]));
    assert_eq!(local, Some(&Local { table: own, flags: 0 }));
}

#[test]
fn a_network_of_both_families_fills_the_maps_of_both() {
    let mut world = World::new();
    let subnets = ["10.1.0.0/24", "2001:db8:1::/64"]
        .map(|subnet| SubnetSpec { subnet: subnet.into(), ..SubnetSpec::default() });
    let options = [
        ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
        ("com.docker.network.bridge.trusted_host_interfaces", "wg0:eth0"),
        ("com.docker.network.host_ipv4", "192.0.2.7"),
    ];
    world.change(&Change::CreateNetwork(NetworkSpec {
        name: "n1".into(),
        subnets: subnets.into(),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..NetworkSpec::default()
    }));
    world.container(1, 1);
    assert!(world.converge() <= 4);
    let contents = world.kernel.seen.contents.clone();
    let network = contents.networks[&1];
    let flags = abi::Network::MASQUERADE4
        | abi::Network::DIRECT6
        | abi::Network::ROUTED6
        | abi::Network::HAS_TRUSTED
        | abi::Network::NAMES
        | abi::Network::PRESENT
        | abi::Network::ICC;
    assert_eq!(network.flags, flags, "P39, P40");
    assert_eq!(Ipv6Addr::from(network.gateway6).to_string(), "2001:db8:1::1");
    assert_eq!(network.masquerade4, Ip4::new([192, 0, 2, 7]), "P48");
    assert_eq!(contents.subnets6.len(), 1);
    let (link, endpoint) = contents.endpoints.iter().next().unwrap();
    assert_eq!(Ipv6Addr::from(endpoint.ip6).to_string(), "2001:db8:1::242:a01:2");
    let neighbours: Vec<_> =
        contents.neighbours6.keys().map(|key| Ipv6Addr::from(key.address).to_string()).collect();
    assert!(neighbours.contains(&"2001:db8:1::242:a01:2".to_owned()), "{neighbours:?}");
    assert!(neighbours.contains(&"fe80::42:aff:fe01:2".to_owned()), "S175: {neighbours:?}");
    assert!(contents.neighbours6.values().all(|neighbour| neighbour.ifindex == *link));
    // Published on IPv4, open on IPv6: no port of the host's IPv6 is taken.
    let tables: Vec<_> = contents.ports.runs().map(|(run, _)| run.table).collect();
    assert!(!tables.contains(&service::WILDCARD_TABLE6) && !tables.contains(&service::ANY_TABLE6));
    assert_eq!(contents.rules.len(), 3);
    let open = contents.rules.values().find(|rule| rule.flags & Rule::IPV6 != 0).unwrap();
    assert_eq!((open.host, open.container_base), (open.address, 80));
    let mut families: Vec<_> = contents.served.keys().map(|(_, key)| key.family).collect();
    families.sort_unstable();
    assert_eq!(families, [0, 0, 1]);
    // A trusted interface is followed as it comes and goes.
    let trusted = |world: &World| {
        world.kernel.seen.contents.trusted.keys().map(|key| key.ifindex).collect::<Vec<_>>()
    };
    assert_eq!(trusted(&world), [2]);
    let wg0 = world.kernel.plug("wg0");
    world.converge();
    assert_eq!(trusted(&world), [2, wg0]);
    world.kernel.unplug(wg0);
    world.converge();
    assert_eq!(trusted(&world), [2]);
}

#[test]
fn moby_inc_011_switches_of_the_agent_hold_for_every_network() {
    let mut world = World::new();
    world.settings.masquerade = false;
    world.settings.direct_routing = true;
    world.network(1);
    world.converge();
    let flags = world.kernel.seen.contents.networks[&1].flags;
    assert_eq!(flags & abi::Network::MASQUERADE4, 0, "S110");
    assert_ne!(flags & abi::Network::DIRECT4, 0);
    assert_eq!(flags & (abi::Network::DIRECT6 | abi::Network::ROUTED4), 0);
}

#[test]
fn decisions_8_16_without_a_bridge_between_them_veths_stay_on_their_own() {
    let mut world = World::new();
    world.change(&Change::CreateNetwork(NetworkSpec {
        name: "n1".into(),
        options: [("bascule.l2".to_owned(), "bpf".to_owned())].into(),
        ..NetworkSpec::default()
    }));
    world.container(1, 1);
    world.converge();
    let seen = &world.kernel.seen;
    assert_ne!(seen.contents.networks[&1].flags & abi::Network::L2_BPF, 0);
    let veth = seen.links.values().find(|l| matches!(l.owner, Owner::Endpoint(_))).unwrap();
    assert_eq!((veth.master, veth.up), (None, true));
    assert!(seen.fdb.is_empty());
    assert!(seen.neighbours.is_empty(), "the host asks for nobody there");
    let device = seen.links.values().find(|l| matches!(l.owner, Owner::Network(_))).unwrap();
    assert!(!device.asks && device.up);
    assert_eq!(seen.contents.bridges, [(device.index, 1)].into());
    let hook = Hook { ifindex: device.index, side: Side::Egress };
    assert_eq!(seen.hooks[&hook].program, program::TO_BRIDGE);
}

#[test]
fn a_container_that_ends_leaves_only_its_ended_generation() {
    let mut world = World::new();
    world.network(1);
    world.converge();
    let before = world.kernel.seen.clone();
    world.container(1, 1);
    world.converge();
    world.change(&Change::Stop { container: "c1".into(), exit_code: None });
    world.converge();
    let mut after = world.kernel.seen.clone();
    assert_eq!(after.contents.generations.remove(&1), Some(6));
    assert_eq!(after, before);
}

#[test]
fn uplinks_are_followed_and_globs_narrow_them() {
    let mut world = World::new();
    world.settings.uplinks = vec!["eth*".into()];
    let (eth1, wlan0) = (world.kernel.plug("eth1"), world.kernel.plug("wlan0"));
    world.converge();
    let uplinks =
        |world: &World| world.kernel.seen.contents.uplinks.keys().copied().collect::<Vec<_>>();
    assert_eq!(uplinks(&world), [2, eth1]);
    world.settings.uplinks = Vec::new();
    world.kernel.unplug(eth1);
    world.converge();
    assert_eq!(uplinks(&world), [2, wlan0]);
    assert!(world.kernel.seen.hooks.keys().all(|hook| [2, wlan0].contains(&hook.ifindex)));
}

#[test]
fn the_deny_list_runs_in_xdp_where_it_can_and_is_asked_late_where_it_cannot() {
    let mut world = World::new();
    let (old, tun) = (world.kernel.plug("old0"), world.kernel.plug("tun0"));
    world.kernel.seen.links.get_mut(&tun).unwrap().ethernet = false;
    world.converge();
    world.change(&Change::Deny {
        prefixes: vec!["198.51.100.0/24".into(), "2001:db8::/32".into()],
        comment: String::new(),
        force: false,
    });
    world.converge();
    let attached = |current| Xdp::Attached { current, generic: false };
    let seen = &world.kernel.seen;
    assert_eq!(seen.contents.denied.len(), 2);
    assert_eq!(
        seen.xdp,
        BTreeMap::from([(2, attached(true)), (old, Xdp::Refused { taken: true })])
    );
    assert_eq!(seen.contents.deny_late, BTreeMap::from([(0, 1)]));
    // Once every uplink looks at it in XDP, nobody is asked twice. Another agent's program is replaced.
    world.kernel.unplug(old);
    world.kernel.unplug(tun);
    world.kernel.seen.xdp.insert(2, attached(false));
    world.converge();
    assert_eq!(world.kernel.seen.xdp, BTreeMap::from([(2, attached(true))]));
    assert_eq!(world.kernel.seen.contents.deny_late, BTreeMap::new());
    world.change(&Change::Undeny(vec!["198.51.100.0/24".into(), "2001:db8::/32".into()]));
    world.converge();
    assert_eq!(world.kernel.seen.contents.denied, BTreeMap::new());
    assert_eq!(world.kernel.seen.xdp, BTreeMap::new());
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let mut world = World::new();
    world.kernel.plug("br-0123456789ab");
    world.kernel.plug("bsc01234567");
    world.network(1);
    world.container(1, 1);
    world.converge();
    world.change(&Change::RemoveContainer { container: "c1".into(), force: true });
    world.change(&Change::RemoveNetwork("n1".into()));
    let plan = diff(&world.desired, &world.kernel.observe(&world.desired), &world.settings);
    for planned in &plan {
        if let Action::DeleteLink { index, .. } = planned.action {
            assert_ne!(world.kernel.seen.links[&index].owner, Owner::Foreign);
        }
    }
    world.converge();
    let names: Vec<_> = world.kernel.seen.links.values().map(|l| l.name.clone()).collect();
    assert_eq!(names, ["lo", "eth0", "br-0123456789ab", "bsc01234567"]);
}

/// What may happen in any order.
#[derive(Clone, Debug)]
enum Event {
    Network(u8),
    Container(u8, u8),
    Connect(u8, u8),
    Disconnect(u8, u8),
    Stop(u8),
    Start(u8),
    RemoveNetwork(u8),
    /// Somebody deletes an interface.
    Unplug(u8),
    /// Everything is brought about.
    Converge,
    /// The agent dies within a round.
    Crash(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let small = || 0_u8..4;
    prop_oneof![
        small().prop_map(Event::Network),
        (small(), small()).prop_map(|(c, n)| Event::Container(c, n)),
        (small(), small()).prop_map(|(c, n)| Event::Connect(c, n)),
        (small(), small()).prop_map(|(c, n)| Event::Disconnect(c, n)),
        small().prop_map(Event::Stop),
        small().prop_map(Event::Start),
        small().prop_map(Event::RemoveNetwork),
        any::<u8>().prop_map(Event::Unplug),
        Just(Event::Converge),
        (0_u8..60).prop_map(Event::Crash),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let (network, container) = (|n: u8| format!("n{n}"), |c: u8| format!("c{c}"));
    match *event {
        Event::Network(n) => world.network(n),
        Event::Container(c, n) => world.container(c, n),
        Event::Connect(c, n) => world.change(&Change::Connect {
            network: network(n),
            container: container(c),
            endpoint: EndpointSpec::default(),
        }),
        Event::Disconnect(c, n) => {
            world.change(&Change::Disconnect {
                network: network(n),
                container: container(c),
                force: false,
            });
        }
        Event::Stop(c) => world.change(&Change::Stop { container: container(c), exit_code: None }),
        Event::Start(c) => world.change(&Change::Start(container(c))),
        Event::RemoveNetwork(n) => world.change(&Change::RemoveNetwork(network(n))),
        Event::Unplug(which) => {
            let ours = |l: &&super::Link| l.owner != Owner::Foreign;
            let ours: Vec<_> =
                world.kernel.seen.links.values().filter(ours).map(|l| l.index).collect();
            if let Some(index) = ours.get(usize::from(which) % ours.len().max(1)) {
                world.kernel.unplug(*index);
            }
        }
        Event::Converge => drop(world.converge()),
        Event::Crash(actions) => world.crash_after(actions.into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_start_leads_to_what_is_desired(events in prop::collection::vec(event(), 0..24)) {
        let mut world = World::new();
        world.change(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
        for event in &events {
            happen(&mut world, event);
        }
        world.converge();
        prop_assert_eq!(world.converge(), 0);
        // A kernel that starts from nothing ends up the same, indices of interfaces excepted.
        let endpoints = world.desired.containers.values().flat_map(|c| c.endpoints().collect::<Vec<_>>()).count();
        prop_assert_eq!(world.kernel.seen.contents.endpoints.len(), endpoints);
        prop_assert_eq!(world.kernel.seen.contents.neighbours.len(), endpoints);
        prop_assert_eq!(world.kernel.seen.contents.networks.len(), world.desired.networks.len());
    }
}
