//! Whatever is asked for in whatever order, what is given out is what somebody has: no address, number or
//! table twice, none lost, on every path of success and of failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::{prelude::*, sample::select};

use super::*;
use crate::model::{Family, Indices, ipam};

const NETWORKS: [&str; 4] = ["n0", "n1", "n2", "bridge"];
const CONTAINERS: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

/// Small subnets, so that they fill up; some overlap, some make no sense.
fn networks() -> impl Strategy<Value = Change> {
    let subnets =
        ["", "10.0.0.0/29", "10.0.0.4/30", "10.1.0.0/30", "10.2.0.0/31", "0.0.0.0/29", "x"];
    (select(&NETWORKS[..]), select(subnets.to_vec()), any::<bool>()).prop_map(
        |(name, subnet, ipv6)| {
            Change::CreateNetwork(NetworkSpec { ipv6: Some(ipv6), ..network(name, subnet) })
        },
    )
}

fn containers() -> impl Strategy<Value = Change> {
    let publish = ["8080:80", "8080-8081:80-81", "127.0.0.1:9090:90/udp", "70"];
    let publish = prop::option::of(select(publish.to_vec()));
    (select(&CONTAINERS[..]), select(&NETWORKS[..]), publish).prop_map(
        |(name, network, publish)| {
            let publish = publishing(name, publish.as_slice()).publish;
            Change::CreateContainer(Box::new(ContainerSpec {
                publish,
                ..container(name, &[network])
            }))
        },
    )
}

fn changes() -> impl Strategy<Value = Change> {
    let name = || select(&CONTAINERS[..]).prop_map(str::to_owned);
    let on = || select(&NETWORKS[..]).prop_map(str::to_owned);
    let ip = prop::option::of((0_u8..3, 0_u8..8).prop_map(|(net, host)| [10, net, 0, host]));
    prop_oneof![
        2 => networks(),
        1 => on().prop_map(Change::RemoveNetwork),
        1 => Just(Change::PruneNetworks(PruneFilter::default())),
        4 => containers(),
        6 => name().prop_map(Change::Start),
        2 => name().prop_map(|name| stop(&name)),
        2 => (name(), any::<bool>()).prop_map(|(name, force)| remove(&name, force)),
        4 => (on(), name(), ip).prop_map(|(on, name, ip)| connect(&on, &name, ip)),
        2 => (on(), name()).prop_map(|(on, name)| disconnect(&on, &name)),
        1 => Just(Change::Rebooted),
    ]
}

const fn makes(change: &Change) -> bool {
    matches!(
        change,
        Change::CreateNetwork(_)
            | Change::CreateContainer(_)
            | Change::Start(_)
            | Change::Connect { .. }
    )
}

/// What containers have, by the simplest count: addresses and numbers of endpoints, numbers of rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: BTreeMap<NetworkId, BTreeSet<IpAddr>>,
    endpoints: BTreeSet<u32>,
    rules: BTreeSet<u32>,
    networks: BTreeSet<u32>,
    tables: BTreeSet<IpAddr>,
}

impl Held {
    /// Counts, and demands that nothing is there twice or where it cannot be.
    fn count(desired: &Desired) -> Self {
        let mut held = Self::default();
        for network in desired.networks.values() {
            assert!(held.networks.insert(network.index), "a number of networks twice");
            for other in desired.networks.values().filter(|n| n.id != network.id) {
                let mut pairs = network.pools().flat_map(|p| other.pools().map(move |o| (p, o)));
                assert!(!pairs.any(|(p, o)| ipam::overlap(p.subnet, o.subnet)), "subnets overlap");
            }
        }
        for container in desired.containers.values() {
            for (id, endpoint) in container.endpoints() {
                let network = &desired.networks[&id];
                assert!(held.endpoints.insert(endpoint.index), "a number of endpoints twice");
                for ip in endpoint.addresses() {
                    let pool = network.pool(Family::of(ip)).expect("a pool of the family");
                    assert!(pool.subnet.contains(ip) && !ipam::is_edge(pool.subnet, ip), "{ip}");
                    assert!(!pool.reserved().contains(&ip), "{ip} is the gateway's");
                    assert!(held.addresses.entry(id).or_default().insert(ip), "{ip} twice");
                }
            }
            for rule in container.running().iter().flat_map(|running| &running.rules) {
                assert!(held.rules.insert(rule.index), "a number of rules twice");
                if !rule.routed {
                    held.tables.insert(rule.host_ip);
                }
            }
        }
        held
    }

    /// Demands that exactly what is held is taken from the pools.
    fn matches(&self, indices: &Indices) {
        let taken = |pool: &crate::model::index::IndexPool| -> BTreeSet<u32> {
            pool.ever_used().filter(|index| pool.in_use(*index)).collect()
        };
        assert_eq!(taken(&indices.networks), self.networks);
        assert_eq!(taken(&indices.endpoints), self.endpoints);
        assert_eq!(taken(&indices.rules), self.rules);
        let named: BTreeSet<_> =
            self.tables.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
        assert_eq!(indices.tables.keys().copied().collect::<BTreeSet<_>>(), named);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_given_out_is_what_somebody_has(
        changes in prop::collection::vec((changes(), 0_u8..8), 1..60)
    ) {
        let mut world = World::with_default();
        for (change, luck) in changes {
            let before = world.desired.clone();
            match change::apply(&before, &change, &mut world.facts) {
                Ok((next, _)) => {
                    Held::count(&next).matches(&next.indices);
                    // Of what makes something, one in eight fails in the kernel, and is taken back.
                    let fails = luck == 0 && makes(&change);
                    world.desired = if fails { revert(&before, &next) } else { next };
                    if fails {
                        prop_assert_eq!(&world.desired.containers, &before.containers);
                        prop_assert_eq!(Held::count(&world.desired), Held::count(&before));
                    }
                }
                Err(error) => prop_assert!((400..=503).contains(&error.status()), "{}", error),
            }
            Held::count(&world.desired).matches(&world.desired.indices);
        }
        // In the end everything can be taken away, and nothing is left.
        for name in CONTAINERS {
            // Some were never made.
            if find::container(&world.desired, name).is_ok() {
                world.ok(&remove(name, true));
            }
        }
        world.ok(&Change::PruneNetworks(PruneFilter::default()));
        let left = Held::count(&world.desired);
        left.matches(&world.desired.indices);
        prop_assert_eq!(world.desired.networks.len(), 1);
        prop_assert_eq!((left.networks.len(), left.endpoints.len(), left.rules.len()), (1, 0, 0));
    }
}
