//! Typed access to every map: what is written is read back whole, and what is removed is gone.

use std::{collections::BTreeMap, fmt::Debug};

use bascule::kernel::bpf::{PortKey, Table};
use bascule_common::abi::{
    Config, Endpoint, Flow4, FlowKey4, Ip4, LinkKey, Local, Neighbour, NeighbourKey4, Network,
    Port, PortSlot, Rule, Subnet, Uplink, service,
};

use crate::Plane;

/// Writes, reads back, overwrites and removes the entries of one map.
fn round_trip<T>(table: &T, entries: impl IntoIterator<Item = (T::Key, T::Value)>)
where
    T: Table,
    T::Key: Debug,
    T::Value: Debug,
{
    let name = table.name();
    let want: BTreeMap<_, _> = entries.into_iter().collect();
    assert!(table.all().expect("read").is_empty(), "{name} is not empty");
    for (key, value) in &want {
        table.put(key, value).expect("put");
        table.put(key, value).expect("put again");
    }
    assert_eq!(table.all().expect("read"), want, "{name}");
    for key in want.keys() {
        assert!(table.remove(key).expect("remove"), "{name}: {key:?} was not there");
    }
    assert!(table.all().expect("read").is_empty(), "{name} is not empty again");
}

#[test]
fn every_table_holds_what_is_written() {
    let plane = Plane::new();
    let tables = &plane.loaded.tables;
    round_trip(&tables.config, [(0, Config { netns_cookie: 5, ..Default::default() })]);
    let endpoint = |ifindex| Endpoint { ifindex, endpoint: 1, ..Default::default() };
    round_trip(
        &tables.endpoints,
        [1, 65_535, 65_536, 4_000_000].map(|ifindex| (ifindex, endpoint(ifindex))),
    );
    round_trip(
        &tables.neighbours4,
        (1..=10_000).map(|i| {
            let key = NeighbourKey4 { network: i % 7, address: Ip4::new(i.to_be_bytes()) };
            (key, Neighbour { ifindex: i, ..Default::default() })
        }),
    );
    let network = |bridge| Network { flags: Network::PRESENT, bridge, ..Default::default() };
    round_trip(&tables.networks, [1, 4_095].map(|i| (i, network(i))));
    round_trip(&tables.generations, [(1, 1), (65_535, u64::MAX)]);
    let local = Local { table: 2, flags: Local::GATEWAY };
    round_trip(&tables.locals4, [(Ip4::new([10, 0, 0, 1]), local)]);
    round_trip(
        &tables.subnets4,
        ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24"].map(|text| {
            let network: ipnetwork::Ipv4Network = text.parse().expect("a network");
            (network.into(), Subnet { network: network.prefix().into(), flags: 0 })
        }),
    );
    let uplink = Uplink { mtu: 1_500, ..Default::default() };
    round_trip(&tables.uplinks, [(2, uplink), (70_000, uplink)]);
    let link =
        |port| LinkKey { from: 1, to: 2, port: Port::new(port), proto: 6, ..Default::default() };
    round_trip(&tables.links, [80, 443].map(|port| (link(port), 1)));
    let rule = |count| Rule { proto: 6, count, ..Default::default() };
    round_trip(&tables.rules, [(1, rule(1)), (262_143, rule(9))]);
    round_trip(
        &tables.ports,
        [(0, 6, 80), (0, 17, 65_535), (1, 6, 80), (63, 17, 53)].map(|(table, proto, port)| {
            let slot = service::slot(proto, Port::new(port)).expect("a slot");
            (PortKey { table, slot }, PortSlot { rule: 262_143, reserved: 0 })
        }),
    );
}

#[test]
fn many_slots_are_written_at_once() {
    let plane = Plane::new();
    let rules: BTreeMap<u32, Rule> =
        (1..20_000).map(|i| (i, Rule { proto: 17, network: i, ..Default::default() })).collect();
    plane.loaded.tables.rules.put_many(&rules).expect("put");
    assert_eq!(plane.loaded.tables.rules.all().expect("read"), rules);
}

#[test]
fn port_tables_outlive_the_process_that_mapped_them() {
    let mut plane = Plane::new();
    let key = PortKey { table: 5, slot: 8_080 };
    plane.loaded.tables.ports.put(&key, &PortSlot { rule: 3, reserved: 0 }).expect("put");
    plane.reload();
    let ports = &plane.loaded.tables.ports;
    assert_eq!(ports.tables(), [5]);
    assert_eq!(ports.all().expect("read")[&key].rule, 3);
    assert!(ports.remove_table(5).expect("remove"));
    assert!(!ports.remove_table(5).expect("remove"), "removed twice");
    assert!(ports.all().expect("read").is_empty());
}

#[test]
fn flows_end_with_their_rule_or_endpoint() {
    let plane = Plane::new();
    let flows = &plane.loaded.tables.flows4;
    for i in 0..300_u32 {
        let key = FlowKey4 { src: Ip4(i), ..Default::default() };
        let flow = Flow4 { rule: i % 3, from: i % 5, to: 100 + i % 2, ..Default::default() };
        flows.put(&key, &flow).expect("put");
    }
    assert_eq!(flows.count().expect("count"), 300);
    assert_eq!(flows.remove_of_rule(2).expect("remove"), 100);
    assert_eq!(flows.remove_of_rule(2).expect("remove"), 0);
    assert_eq!(flows.remove_of_endpoint(4).expect("remove"), 40);
    assert_eq!(flows.remove_of_endpoint(101).expect("remove"), 80);
    let mut left = 0;
    flows.for_each(|_, flow| left += u32::from(flow.to == 100)).expect("read");
    assert_eq!((left, flows.count().expect("count")), (80, 80));
}

#[test]
fn counters_are_summed_and_reset() {
    let plane = Plane::new();
    let tables = &plane.loaded.tables;
    assert_eq!(tables.endpoint_counters.get(65_535).expect("read"), Some(Default::default()));
    assert_eq!(tables.endpoint_counters.get(65_536).expect("read"), None);
    tables.reset_endpoint_counters(7).expect("reset");
    tables.reset_rule_counters(7).expect("reset");
    tables.reset_rule_counters(4_000_000).expect("an uncounted rule needs no reset");
    assert!(tables.drops.all().expect("read").is_empty());
}

#[test]
fn collection_runs_in_the_kernel() {
    let plane = Plane::new();
    let tables = &plane.loaded.tables;
    tables.put_config(&Config::default()).expect("config");
    plane.loaded.collect().expect("collect");
}
