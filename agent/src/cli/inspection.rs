//! `bascule conntrack`, `nat` and `map`: what is in the data plane.

use super::{Context, args, output};
use crate::{
    api::{
        flows::{Connection, Connections},
        maps::{Map, MapEntry},
        paths,
    },
    error::{Failure, exit},
};

/// Prints the connections that are tracked.
pub fn connections(context: &Context, wanted: &args::Connections) -> Result<u8, Failure> {
    show(context, wanted, "", table)
}

/// Prints the connections that are translated.
pub fn translations(context: &Context, wanted: &args::Connections) -> Result<u8, Failure> {
    show(context, wanted, "1", translated)
}

/// Does a verb of `map`.
pub fn map(context: &Context, verb: &args::Map) -> Result<u8, Failure> {
    let client = context.client()?;
    match verb {
        args::Map::Ls => {
            let list: Vec<Map> = client.get(paths::MAPS)?;
            if context.wants_json() {
                output::json(&list)?;
            } else {
                output::print(&maps(&list))?;
            }
        }
        args::Map::Dump { name } => {
            let entries: Vec<MapEntry> = client.get(&paths::map(name))?;
            if context.wants_json() {
                output::json(&entries)?;
            } else {
                let line = |e: &MapEntry| output::line(format!("{} => {}", e.key, e.value));
                entries.iter().try_for_each(line)?;
            }
        }
    }
    Ok(exit::OK)
}

fn show(
    context: &Context,
    wanted: &args::Connections,
    translated: &str,
    table: fn(&[Connection]) -> String,
) -> Result<u8, Failure> {
    let query = [
        ("container", wanted.container.as_str()),
        ("network", &wanted.network),
        ("proto", &wanted.proto),
        ("limit", &wanted.limit.to_string()),
        ("translated", translated),
    ];
    let found: Connections = context.client()?.get(&paths::query(paths::CONNECTIONS, &query))?;
    if context.wants_json() {
        output::json(&found)?;
    } else {
        output::print(&table(&found.connections))?;
        say_rest(&found);
    }
    Ok(exit::OK)
}

fn say_rest(found: &Connections) {
    let rest = found.total - found.connections.len().min(found.total);
    if rest > 0 {
        output::complain(format!("and {rest} more; --limit 0 lists all"));
    }
}

fn table(connections: &[Connection]) -> String {
    let row = |c: &Connection| {
        [
            c.proto.clone(),
            c.state.clone(),
            format!("{}s/{}s", c.idle_seconds, c.timeout_seconds),
            c.from.clone(),
            c.source.clone(),
            c.to.clone(),
            c.destination.clone(),
            c.kind.clone(),
        ]
    };
    let rows: Vec<_> = connections.iter().map(row).collect();
    let titles = ["PROTO", "STATE", "IDLE", "FROM", "SOURCE", "TO", "DESTINATION", "KIND"];
    output::table(titles, &rows)
}

fn translated(connections: &[Connection]) -> String {
    let change = |before: &str, after: &str| match before == after {
        true => before.to_owned(),
        false => format!("{before} => {after}"),
    };
    let row = |c: &Connection| {
        [
            c.proto.clone(),
            c.kind.clone(),
            c.from.clone(),
            change(&c.source, &c.translated_source),
            c.to.clone(),
            change(&c.destination, &c.translated_destination),
        ]
    };
    let rows: Vec<_> = connections.iter().map(row).collect();
    output::table(["PROTO", "KIND", "FROM", "SOURCE", "TO", "DESTINATION"], &rows)
}

fn maps(list: &[Map]) -> String {
    let row = |m: &Map| {
        let entries = m.entries.map_or_else(|| "-".to_owned(), |entries| entries.to_string());
        [
            m.name.clone(),
            m.kind.clone(),
            entries,
            m.capacity.to_string(),
            format!("{}+{}", m.key_bytes, m.value_bytes),
            m.memory_bytes.to_string(),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    output::table(["NAME", "KIND", "ENTRIES", "CAPACITY", "BYTES", "MEMORY"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p87_connections_are_tables() {
        let connection = Connection {
            proto: "tcp".into(),
            source: "172.18.0.2:40000".into(),
            destination: "198.51.100.7:80".into(),
            translated_source: "203.0.113.10:49152".into(),
            translated_destination: "198.51.100.7:80".into(),
            kind: "masqueraded".into(),
            from: "c1".into(),
            to: "outside".into(),
            network: "n1".into(),
            state: "open".into(),
            idle_seconds: 3,
            timeout_seconds: 21_600,
            published: String::new(),
            traffic: Default::default(),
        };
        let golden = "\
PROTO     STATE     IDLE        FROM      SOURCE             TO        DESTINATION       KIND
tcp       open      3s/21600s   c1        172.18.0.2:40000   outside   198.51.100.7:80   masqueraded
";
        assert_eq!(table(std::slice::from_ref(&connection)), golden);
        let golden = "\
PROTO     KIND          FROM      SOURCE                                   TO        DESTINATION
tcp       masqueraded   c1        172.18.0.2:40000 => 203.0.113.10:49152   outside   198.51.100.7:80
";
        assert_eq!(translated(&[connection]), golden);
    }
}
