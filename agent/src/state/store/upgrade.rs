//! What an older version has stored, as this one has it.

use std::{collections::BTreeMap, net::IpAddr};

use bascule_common::abi::service::{FIRST_OWN_TABLE, TABLES};
use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::model::{Indices, Network, Pool};

/// A network as it is stored: schema 1 had its IPv4 addresses beside everything else.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    subnet: Option<IpNetwork>,
    ip_range: Option<IpNetwork>,
    gateway: Option<IpAddr>,
    #[serde(default)]
    auxiliary: BTreeMap<String, IpAddr>,
    last_given: Option<IpAddr>,
    #[serde(flatten)]
    network: Network,
}

impl From<Stored> for Network {
    fn from(stored: Stored) -> Self {
        let Stored { subnet, ip_range, gateway, auxiliary, last_given, mut network } = stored;
        if let Some(subnet) = subnet {
            network.ipv4 = Some(Pool { subnet, ip_range, gateway, auxiliary, last_given });
        }
        network
    }
}

/// Gives addresses whose port tables have become those of IPv6 others.
pub(super) fn indices(mut indices: Indices) -> Indices {
    let tables = &mut indices.tables;
    let moved: Vec<_> =
        tables.iter().filter(|(_, table)| **table < FIRST_OWN_TABLE).map(|(ip, _)| *ip).collect();
    for ip in moved {
        let free = (FIRST_OWN_TABLE..TABLES).find(|t| !tables.values().any(|used| used == t));
        match free {
            Some(table) => drop(tables.insert(ip, table)),
            // As many as there can be: without one of its own, its ports stand in the wildcard's.
            None => drop(tables.remove(&ip)),
        }
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_schema_1_keeps_its_addresses() {
        let text = format!(
            r#"{{"id":"{id}","index":1,"name":"n1","created":"2026-01-02T03:04:05Z","subnet":"172.18.0.0/24",
            "ip_range":null,"gateway":"172.18.0.1","auxiliary":{{"r":"172.18.0.9"}},"last_given":"172.18.0.4",
            "bridge":"br-0","mtu":1500,"internal":false,"predefined":false,"labels":{{}},
            "options":{{"verbatim":{{}},"icc":true,"masquerade":true,"bridge":null,"host_binding":"192.0.2.7","mtu":null}}}}"#,
            id = "ab".repeat(32)
        );
        let network = Network::from(serde_json::from_str::<Stored>(&text).unwrap());
        let pool = network.ipv4.clone().unwrap();
        assert_eq!(pool.subnet.to_string(), "172.18.0.0/24");
        assert_eq!(pool.last_given, "172.18.0.4".parse().ok());
        assert_eq!(pool.auxiliary["r"], IpAddr::from([172, 18, 0, 9]));
        assert_eq!((network.ipv6.is_none(), network.options.icc), (true, true));
        // What this version stores reads back the same.
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(Network::from(serde_json::from_str::<Stored>(&text).unwrap()), network);
    }

    #[test]
    fn port_tables_of_schema_1_make_room_for_ipv6() {
        let mut old = crate::model::Desired::new(
            crate::model::Predefined {
                host: crate::model::NetworkId::new([1; 32]),
                none: crate::model::NetworkId::new([2; 32]),
                created: jiff::Timestamp::UNIX_EPOCH,
            },
            1,
        )
        .indices;
        old.tables =
            [2, 4, 3].into_iter().zip(1..).map(|(t, n)| ([192, 0, 2, n].into(), t)).collect();
        let tables: Vec<_> = indices((*old).clone()).tables.into_values().collect();
        assert_eq!(tables, [5, 4, 6]);
    }
}
