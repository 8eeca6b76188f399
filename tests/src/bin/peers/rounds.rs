//! The rounds: in each, every measure on every path, by one system after the other, so that whatever else the machine
//! does meets all of them alike.

use std::{collections::BTreeMap, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    cpu::Spinners,
    say,
    traffic::Done,
    worlds::{Cell, Worlds},
};

/// Datagrams and connections a second where the load is fixed.
pub const LOAD: (u32, u32) = (50_000, 2_000);
/// Bulk flows, where they are many.
pub const FLOWS: u32 = 8;
/// How long processors are watched that have nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// How often a sample is tried, and how many rounds may be lost to one that fails each time.
const ATTEMPTS: usize = 3;
const LOST: usize = 3;

/// What is measured of a path.
pub struct Measure {
    /// Its name in results.
    pub name: &'static str,
    what: &'static str,
    milliseconds: u64,
    number: u32,
    kind: Kind,
}

enum Kind {
    /// How many a second.
    Rate,
    /// Gigabits a second.
    Gigabits,
    /// Nanoseconds of processors for each.
    Cpu,
}

impl Measure {
    const fn new(
        name: &'static str,
        (what, milliseconds, number): (&'static str, u64, u32),
        kind: Kind,
    ) -> Self {
        Self { name, what, milliseconds, number, kind }
    }
}

/// Datagrams of 64 bytes, one way.
pub const UDP: &str = "udp packets/s";
/// Connections with a byte each way.
pub const CRR: &str = "tcp connections/s";

/// All measures.
pub const MEASURES: [Measure; 7] = [
    Measure::new(UDP, ("udp", 250, 0), Kind::Rate),
    Measure::new(CRR, ("crr", 250, 0), Kind::Rate),
    Measure::new("tcp round trips/s", ("rr", 100, 0), Kind::Rate),
    Measure::new("tcp 1 flow Gbit/s", ("bulk", 150, 1), Kind::Gigabits),
    Measure::new("tcp 8 flows Gbit/s", ("bulk", 150, FLOWS), Kind::Gigabits),
    Measure::new("cpu ns/packet", ("udp", 200, LOAD.0), Kind::Cpu),
    Measure::new("cpu ns/connection", ("crr", 200, LOAD.1), Kind::Cpu),
];

/// What was measured: by measure, path and system, a value a round.
#[derive(Default)]
pub struct Samples {
    values: BTreeMap<(usize, usize), Vec<f64>>,
    names: Vec<(&'static str, &'static str)>,
    /// Samples that were taken again, and why.
    pub again: Vec<String>,
    /// Rounds that were measured to their end.
    pub rounds: usize,
}

impl Samples {
    /// The values of one system.
    pub fn of(&self, measure: &str, path: &str, system: &str) -> Option<&[f64]> {
        let measure = MEASURES.iter().position(|known| known.name == measure)?;
        let cell = self.names.iter().position(|known| *known == (path, system))?;
        self.values.get(&(measure, cell)).map(Vec::as_slice)
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let one = |(&(measure, cell), values): (&(usize, usize), &Vec<f64>)| {
            let (path, system) = self.names[cell];
            json!({"measure": MEASURES[measure].name, "path": path, "system": system, "values": values})
        };
        self.values.iter().map(one).collect()
    }
}

/// Measures rounds until they are done or nobody wants more; a round that is cut short is left out.
pub fn run(
    worlds: &mut Worlds,
    rounds: usize,
    go_on: &dyn Fn() -> bool,
) -> Result<Samples, String> {
    let mut samples = Samples {
        names: worlds.cells.iter().map(|cell| (cell.path, cell.system)).collect(),
        ..Samples::default()
    };
    let mut free = Vec::new();
    let mut lost = 0;
    while samples.rounds < rounds {
        learn(&mut free)?;
        let number = samples.rounds + lost;
        let round = match round(&mut worlds.cells, number, &free, &mut samples.again, go_on) {
            Ok(Some(round)) => round,
            Ok(None) => break,
            Err(error) if lost == LOST => return Err(error),
            Err(error) => {
                say(&format!("a round is lost: {error}"));
                lost += 1;
                continue;
            }
        };
        for (key, value) in round {
            samples.values.entry(key).or_default().push(value);
        }
        samples.rounds += 1;
        say(&format!("round {} of {rounds}", samples.rounds));
    }
    Ok(samples)
}

type Round = BTreeMap<(usize, usize), f64>;

/// One round. Who begins changes with its number.
fn round(
    cells: &mut [Cell],
    number: usize,
    free: &[f64],
    again: &mut Vec<String>,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Round>, String> {
    let mut round = Round::new();
    for (index, measure) in MEASURES.iter().enumerate() {
        let mut first = 0;
        while first < cells.len() {
            let path = cells[first].path;
            let count = cells[first..].iter().take_while(|cell| cell.path == path).count();
            for place in 0..count {
                if !go_on() {
                    return Ok(None);
                }
                let at = first + (place + number) % count;
                let value = sample(&mut cells[at], measure, free, again)?;
                round.insert((index, at), value);
            }
            first += count;
        }
    }
    Ok(Some(round))
}

/// Takes a sample. One lost SYN is a second lost, and the sample with it: that is noise of a loaded machine, and told.
fn sample(
    cell: &mut Cell,
    measure: &Measure,
    free: &[f64],
    again: &mut Vec<String>,
) -> Result<f64, String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match try_sample(cell, measure, free) {
            Ok(value) => return Ok(value),
            Err(error) => {
                again.push(error.clone());
                last = error;
            }
        }
    }
    Err(last)
}

fn try_sample(cell: &mut Cell, measure: &Measure, free: &[f64]) -> Result<f64, String> {
    let Measure { what, milliseconds, number, .. } = *measure;
    let spinners = matches!(measure.kind, Kind::Cpu).then(Spinners::start);
    let done = cell.run(what, milliseconds, number);
    let left = spinners.map(Spinners::stop).transpose().map_err(|error| error.to_string())?;
    let Done { count, seconds, .. } = done?;
    let nothing = || format!("{}, {}: nothing arrives by {what}", cell.path, cell.system);
    if count == 0 {
        return Err(nothing());
    }
    let count = count as f64;
    Ok(match measure.kind {
        Kind::Rate => count / seconds,
        Kind::Gigabits => count * 8e-9 / seconds,
        Kind::Cpu => {
            let left = left.unwrap_or_default();
            let used = left.iter().zip(free).map(|(left, free)| left.used(*free));
            used.sum::<f64>() * 1e9 / count
        }
    })
}

/// Turns a second of spinners beside nothing: the most that were ever seen.
fn learn(free: &mut Vec<f64>) -> Result<(), String> {
    let spinners = Spinners::start();
    thread::sleep(IDLE);
    let spun = spinners.stop().map_err(|error| error.to_string())?;
    free.resize(spun.len(), 0.0);
    for (free, spun) in free.iter_mut().zip(spun) {
        *free = free.max(spun.turns / spun.seconds);
    }
    Ok(())
}
