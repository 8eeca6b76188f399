//! What each page lists: columns, and rows with what they are sorted by.

use std::{cmp::Ordering, collections::HashMap};

use super::super::args::Page;
use crate::api::{
    flows::{Connection, Connections},
    traffic::{Amount, Traffic, TrafficDrop},
};

/// A column. The higher the rank, the sooner it goes where there is no room.
pub struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// Its width; the first of a page has what is left.
    pub width: u16,
    /// Whether it holds numbers.
    pub number: bool,
    /// How dispensable it is.
    pub rank: u8,
}

const fn text(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, number: false, rank }
}

const fn number(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, number: true, rank }
}

const ENDPOINTS: &[Column] = &[
    text("CONTAINER", 10, 0),
    text("NETWORK", 10, 4),
    text("ADDRESS", 15, 7),
    number("IN B/s", 7, 0),
    number("OUT B/s", 7, 0),
    number("IN p/s", 7, 2),
    number("OUT p/s", 7, 2),
    number("DROPS/s", 7, 1),
    number("CONNS", 5, 3),
];
const DROPS: &[Column] = &[
    text("CONTAINER", 10, 0),
    text("NETWORK", 10, 4),
    text("WAY", 3, 3),
    text("REASON", 20, 0),
    number("p/s", 7, 0),
    number("PACKETS", 7, 1),
    number("BYTES", 7, 2),
];
const CONNECTIONS: &[Column] = &[
    text("FROM", 8, 0),
    text("SOURCE", 21, 4),
    text("TO", 8, 0),
    text("DESTINATION", 21, 0),
    text("PROTO", 5, 2),
    text("STATE", 10, 1),
    number("IDLE", 5, 3),
    text("KIND", 11, 5),
];
const PORTS: &[Column] = &[
    text("PUBLISHED", 18, 0),
    text("CONTAINER", 10, 0),
    number("PORT", 11, 5),
    text("NETWORK", 8, 6),
    number("IN B/s", 7, 0),
    number("OUT B/s", 7, 0),
    number("OPEN", 6, 1),
    number("OPENED", 7, 2),
];

impl Page {
    /// Every page, in the order of their keys.
    pub const ALL: [Self; 4] = [Self::Endpoints, Self::Drops, Self::Connections, Self::Ports];

    /// What it is called.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Endpoints => "Endpoints",
            Self::Drops => "Drops",
            Self::Connections => "Connections",
            Self::Ports => "Ports",
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Endpoints => ENDPOINTS,
            Self::Drops => DROPS,
            Self::Connections => CONNECTIONS,
            Self::Ports => PORTS,
        }
    }

    /// The column that it is sorted by at first.
    pub const fn favourite(self) -> usize {
        match self {
            Self::Endpoints => 3,
            Self::Drops => 4,
            Self::Connections => 6,
            Self::Ports => 4,
        }
    }
}

/// A cell: what is shown, and what it is sorted by where that is a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    number: Option<f64>,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), number: None }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, number: None }
    }
}

/// A number, abbreviated.
fn short_number(number: f64) -> Cell {
    Cell { text: short(number), number: Some(number) }
}

/// A number with a text of its own.
fn shown_as(number: f64, text: String) -> Cell {
    Cell { text, number: Some(number) }
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What tells it from the others, over readings.
    pub id: String,
    /// Its cells, one a column.
    pub cells: Vec<Cell>,
    /// Endpoint that it is about, where it is about one.
    pub endpoint: Option<String>,
    /// What is said of it below.
    pub note: String,
}

/// Returns the rows of a page that contain a text, sorted.
pub fn rows(
    page: Page,
    traffic: &Traffic,
    connections: &[Connection],
    filter: &str,
    (column, upwards): (usize, bool),
) -> Vec<Row> {
    let mut rows: Vec<_> = match page {
        Page::Endpoints => endpoints(traffic),
        Page::Drops => drops(traffic),
        Page::Connections => connections.iter().map(connection).collect(),
        Page::Ports => ports(traffic),
    };
    number_equals(&mut rows);
    let filter = filter.to_lowercase();
    let contains = |text: &str| text.to_lowercase().contains(&filter);
    rows.retain(|row| {
        filter.is_empty()
            || row.cells.iter().any(|cell| contains(&cell.text))
            || contains(&row.note)
    });
    rows.sort_by(|a, b| {
        let order = compare(a.cells.get(column), b.cells.get(column));
        let order = if upwards { order } else { order.reverse() };
        order.then_with(|| a.id.cmp(&b.id))
    });
    rows
}

/// Tells rows apart that read alike: two of one id could not be chosen both.
fn number_equals(rows: &mut [Row]) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(rows.len());
    for row in rows {
        let times = seen.entry(row.id.clone()).or_default();
        *times += 1;
        if *times > 1 {
            row.id += &format!("#{times}");
        }
    }
}

/// Says what of a page was not told, and is thus neither listed nor found.
pub fn cut_off(page: Page, traffic: &Traffic, connections: &Connections) -> Option<String> {
    let (shown, total, which) = match page {
        Page::Connections => (connections.connections.len(), connections.total, "used last"),
        Page::Ports => (traffic.ports.len(), traffic.ports_total, "busiest"),
        Page::Endpoints | Page::Drops => return None,
    };
    (total > shown).then(|| format!("only the {shown} {which} of {total}"))
}

fn compare(a: Option<&Cell>, b: Option<&Cell>) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return Ordering::Equal };
    match (a.number, b.number) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.text.cmp(&b.text),
    }
}

fn bytes(amount: &Amount) -> Cell {
    short_number(amount.byte_rate.unwrap_or_default())
}

fn packets(amount: &Amount) -> Cell {
    short_number(amount.packet_rate.unwrap_or_default())
}

fn endpoints(traffic: &Traffic) -> Vec<Row> {
    let row = |e: &crate::api::traffic::TrafficEndpoint| Row {
        id: e.id.clone(),
        cells: vec![
            e.container.as_str().into(),
            e.network.as_str().into(),
            e.addresses.first().map_or("", String::as_str).into(),
            bytes(&e.received),
            bytes(&e.sent),
            packets(&e.received),
            packets(&e.sent),
            packets(&e.dropped),
            shown_as(e.connections as f64, e.connections.to_string()),
        ],
        endpoint: Some(e.id.clone()),
        note: e.addresses.join(" "),
    };
    traffic.endpoints.iter().map(row).collect()
}

fn drops(traffic: &Traffic) -> Vec<Row> {
    let row = |who: &str, network: &str, endpoint: Option<&String>, drop: &TrafficDrop| Row {
        id: format!("{who} {network} {} {}", drop.direction, drop.reason),
        cells: vec![
            who.into(),
            network.into(),
            drop.direction.as_str().into(),
            drop.reason.as_str().into(),
            packets(&drop.dropped),
            short_number(drop.dropped.packets as f64),
            short_number(drop.dropped.bytes as f64),
        ],
        endpoint: endpoint.cloned(),
        note: drop.explanation.clone(),
    };
    let of_endpoints = traffic.endpoints.iter().flat_map(|e| {
        e.drops.iter().map(move |drop| row(&e.container, &e.network, Some(&e.id), drop))
    });
    let of_host = traffic.drops.iter().map(|drop| row("(host)", "", None, drop));
    of_endpoints.chain(of_host).collect()
}

fn connection(c: &Connection) -> Row {
    let mut note = format!("{} {} -> {}", c.proto, c.source, c.destination);
    if (&c.source, &c.destination) != (&c.translated_source, &c.translated_destination) {
        note += &format!(", translated {} -> {}", c.translated_source, c.translated_destination);
    }
    Row {
        id: format!("{} {} {}", c.proto, c.source, c.destination),
        cells: vec![
            c.from.as_str().into(),
            c.source.as_str().into(),
            c.to.as_str().into(),
            c.destination.as_str().into(),
            c.proto.as_str().into(),
            c.state.as_str().into(),
            shown_as(c.idle_seconds as f64, format!("{}s", c.idle_seconds)),
            c.kind.as_str().into(),
        ],
        endpoint: None,
        note,
    }
}

fn ports(traffic: &Traffic) -> Vec<Row> {
    let row = |p: &crate::api::traffic::TrafficPort| {
        let of = |e: &&crate::api::traffic::TrafficEndpoint| {
            (&e.container, &e.network) == (&p.container, &p.network)
        };
        let host = published(p);
        Row {
            cells: vec![
                host.as_str().into(),
                p.container.as_str().into(),
                format!("{}/{}", p.container_port, p.proto).into(),
                p.network.as_str().into(),
                bytes(&p.received),
                bytes(&p.sent),
                shown_as(p.active as f64, p.active.to_string()),
                short_number(p.opened as f64),
            ],
            endpoint: traffic.endpoints.iter().find(of).map(|e| e.id.clone()),
            note: format!(
                "{host}/{} leads to port {} of {}",
                p.proto, p.container_port, p.container
            ),
            id: format!("{host}/{}", p.proto),
        }
    };
    traffic.ports.iter().map(row).collect()
}

/// The host's end of a published range: `0.0.0.0:8080`.
pub fn published(port: &crate::api::traffic::TrafficPort) -> String {
    match port.host_ip.contains(':') {
        true => format!("[{}]:{}", port.host_ip, port.host_port),
        false => format!("{}:{}", port.host_ip, port.host_port),
    }
}

/// Writes a number in at most five characters: `0`, `9.5`, `999`, `1.2k`, `350M`.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut number, mut unit) = (number.max(0.0), 0);
    while number >= 999.5 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1_000.0, unit + 1);
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    if number < 9.95 && (number.fract() >= 0.05 && number.fract() < 0.95 || !unit.is_empty()) {
        format!("{number:.1}{unit}")
    } else {
        format!("{number:.0}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (3.0, "3"),
            (12.3, "12"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (1_234.0, "1.2k"),
            (12_345.0, "12k"),
            (350_000_000.0, "350M"),
            (7.2e9, "7.2G"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }
}
