//! What `bascule status --verbose` shows below the rest: tables.

use super::super::output;
use crate::api::proto::{self, StatusDetails};

/// Writes every table that has something in it.
pub fn text(details: &StatusDetails) -> String {
    let mut text = String::new();
    let mut add = |title: &str, lines: usize, table: String| {
        if lines > 0 {
            text.push_str(&format!("\n{title}\n{table}"));
        }
    };
    add("Versions", details.versions.len(), pairs(["WHAT", "VERSION"], &details.versions));
    let supported = pairs(["KERNEL HAS", "THERE"], &details.supported);
    add("Support", details.supported.len(), supported);
    add("Programs", details.programs.len(), programs(details));
    add("Maps", details.maps.len(), maps(details));
    add("Addresses and connections of networks", details.networks.len(), networks(details));
    add("Connections", details.tracked.len(), tracked(details));
    add("Ports of masquerade, towards the busiest destination", details.nat.len(), nat(details));
    text
}

fn pairs(titles: [&str; 2], map: &proto::Map) -> String {
    let rows: Vec<_> = map.iter().map(|(key, value)| [key.clone(), value.clone()]).collect();
    output::table(titles, &rows)
}

fn programs(details: &StatusDetails) -> String {
    let rows: Vec<_> = details
        .programs
        .iter()
        .map(|p| [p.interface.clone(), p.hook.clone(), p.mode.clone(), p.program.clone()])
        .collect();
    output::table(["INTERFACE", "HOOK", "MODE", "PROGRAM"], &rows)
}

fn maps(details: &StatusDetails) -> String {
    let row = |map: &crate::api::maps::Map| {
        // Where every slot is always there, nothing can be full.
        let entries = map.entries.map_or_else(|| "-".to_owned(), |entries| entries.to_string());
        let fill = map.entries.map_or_else(|| "-".to_owned(), |n| share(n, map.capacity.into()));
        [map.name.clone(), map.kind.clone(), entries, map.capacity.to_string(), fill]
    };
    let rows: Vec<_> = details.maps.iter().map(row).collect();
    output::table(["NAME", "KIND", "ENTRIES", "CAPACITY", "FILL"], &rows)
}

fn networks(details: &StatusDetails) -> String {
    let rows: Vec<_> = details
        .networks
        .iter()
        .map(|n| {
            let (used, free) = (n.addresses_in_use.to_string(), n.addresses_free.to_string());
            let connections = n.connections.to_string();
            [n.network.clone(), n.subnet.clone(), n.bridge.clone(), used, free, connections]
        })
        .collect();
    output::table(["NETWORK", "SUBNET", "BRIDGE", "IN USE", "FREE", "CONNECTIONS"], &rows)
}

fn tracked(details: &StatusDetails) -> String {
    let rows: Vec<_> = details
        .tracked
        .iter()
        .map(|t| [t.proto.clone(), t.state.clone(), t.connections.to_string()])
        .collect();
    output::table(["PROTO", "STATE", "CONNECTIONS"], &rows)
}

fn nat(details: &StatusDetails) -> String {
    let rows: Vec<_> = details
        .nat
        .iter()
        .map(|n| {
            let ports = format!("{} of {}", n.ports_in_use, n.ports);
            let fill = share(n.ports_in_use, n.ports);
            [n.address.clone(), n.proto.clone(), n.connections.to_string(), ports, fill]
        })
        .collect();
    output::table(["ADDRESS", "PROTO", "CONNECTIONS", "PORTS", "FILL"], &rows)
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::maps::Map;

    #[test]
    fn p94_details_are_tables_and_empty_ones_are_left_out() {
        let map = |name: &str, entries| Map {
            name: name.into(),
            kind: "hash".into(),
            capacity: 1_000,
            entries,
            ..Map::default()
        };
        let details = StatusDetails {
            programs: vec![proto::AttachedProgram {
                interface: "up0".into(),
                hook: "ingress".into(),
                mode: "tcx".into(),
                program: "from_uplink".into(),
            }],
            maps: vec![map("endpoints", Some(5)), map("config", None)],
            nat: vec![proto::NatUse {
                address: "203.0.113.10".into(),
                proto: "tcp".into(),
                connections: 9,
                ports_in_use: 7,
                ports: 28_000,
            }],
            ..StatusDetails::default()
        };
        let golden = "
Programs
INTERFACE   HOOK      MODE      PROGRAM
up0         ingress   tcx       from_uplink

Maps
NAME        KIND      ENTRIES   CAPACITY   FILL
endpoints   hash      5         1000       0.5 %
config      hash      -         1000       -

Ports of masquerade, towards the busiest destination
ADDRESS        PROTO     CONNECTIONS   PORTS        FILL
203.0.113.10   tcp       9             7 of 28000   0.0 %
";
        assert_eq!(text(&details), golden);
    }
}
