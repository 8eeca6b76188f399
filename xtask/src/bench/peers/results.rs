//! What was measured, as the measuring program writes it, and what can be said of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Share of medians that the interval given with one has to catch, at least.
const CONFIDENCE: f64 = 0.95;

/// Everything of one run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// When, and on what.
    #[serde(default)]
    pub machine: BTreeMap<String, String>,
    /// Rounds.
    pub rounds: usize,
    /// The fixed load, a second.
    pub load: Load,
    /// What readers should know.
    pub notes: Vec<String>,
    /// Samples that failed and were taken again.
    pub again: Vec<String>,
    /// A value a round.
    pub samples: Vec<Sample>,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// Closer looks.
    pub profiles: Vec<Profile>,
    /// The agent itself.
    pub host: Host,
    /// Walks, by `BPF_PROG_TEST_RUN`.
    #[serde(default)]
    pub walks: Vec<Walk>,
}

/// The load where it is fixed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// Packets a second.
    pub packets: u32,
    /// Connections a second.
    pub connections: u32,
}

/// One measure of one system on one path.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The measure.
    pub measure: String,
    /// The path.
    pub path: String,
    /// The system.
    pub system: String,
    /// A value a round.
    pub values: Vec<f64>,
}

/// A share that is aimed at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// The measure.
    pub measure: String,
    /// The path.
    pub path: String,
    /// The system.
    pub system: String,
    /// What it is compared with.
    pub base: String,
    /// The least share.
    pub least: f64,
}

/// Where the time goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// The path.
    pub path: String,
    /// The system.
    pub system: String,
    /// What it did.
    pub what: String,
    /// Packets or connections.
    pub count: u64,
    /// Seconds.
    pub seconds: f64,
    /// Programs of ours, and of whoever has some.
    pub programs: Vec<Program>,
    /// Soft interrupts of each kind.
    pub soft_interrupts: BTreeMap<String, u64>,
    /// The kernel's functions, dearest first.
    pub functions: Vec<String>,
}

/// What a program took.
#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// Nanoseconds of a run, what it takes to measure them among them.
    pub ns_a_run: f64,
}

/// What the agent costs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Publishing.
    pub publish: Vec<Publish>,
    /// Publishing by dockerd.
    pub publish_docker: Vec<Publish>,
    /// Milliseconds of attachments, until there are 1,000 endpoints.
    pub attach_ms: Vec<f64>,
    /// Agents that have nothing to do.
    pub idle: Vec<Idle>,
    /// Milliseconds of processors that a scrape of an agent with 1,000 endpoints takes.
    pub scrape_ms: Vec<f64>,
    /// Seconds until an agent with 1,000 endpoints is ready again.
    pub restart_s: Vec<f64>,
}

/// What publishing takes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publish {
    /// Ports.
    pub ports: u32,
    /// Milliseconds.
    pub ms: Vec<f64>,
    /// Memory.
    pub mib: Vec<f64>,
    /// Processes that were made for it.
    #[serde(default)]
    pub processes: u32,
}

/// An agent with nothing to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Idle {
    /// Endpoints that it has.
    pub endpoints: u32,
    /// Of one processor.
    pub cpu_percent: f64,
    /// Memory.
    pub mib: f64,
    /// Of it, what no file backs.
    pub mib_own: f64,
}

/// A walk with so many published ports.
#[derive(Debug, Serialize, Deserialize)]
pub struct Walk {
    /// The walk.
    pub walk: String,
    /// Published ports.
    pub ports: u32,
    /// Nanoseconds over an empty program, a value a round.
    pub ns: Vec<f64>,
}

impl Results {
    /// The values of one system.
    pub fn of(&self, measure: &str, path: &str, system: &str) -> &[f64] {
        let is_it = |s: &&Sample| (&*s.measure, &*s.path, &*s.system) == (measure, path, system);
        self.samples.iter().find(is_it).map_or(&[], |sample| &sample.values)
    }

    /// A column of the samples, each value once, in their order.
    pub fn distinct<'a>(&'a self, column: impl Fn(&'a Sample) -> Option<&'a str>) -> Vec<&'a str> {
        let mut values = Vec::new();
        for value in self.samples.iter().filter_map(column) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// Cuts what no clock can tell.
    pub fn round(&mut self) {
        let samples = self.samples.iter_mut().flat_map(|sample| &mut sample.values);
        let walks = self.walks.iter_mut().flat_map(|walk| &mut walk.ns);
        for value in samples.chain(walks) {
            let digits = 4 - (value.abs().max(1e-9).log10().floor() as i32);
            let scale = 10_f64.powi(digits.clamp(0, 9));
            *value = (*value * scale).round() / scale;
        }
    }
}

/// A median and the interval that catches the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Middle {
    /// The median.
    pub median: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

impl Middle {
    /// By order statistics: of the intervals between the values of ranks k and n + 1 - k the narrowest that catches the
    /// median as often as asked; all of them, where there are too few values.
    pub fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = count.saturating_sub(1);
        let median = (at(last / 2) + at(last.div_ceil(2))) / 2.0;
        let outside = outside(count);
        Self { median, low: at(outside), high: at(last.saturating_sub(outside)) }
    }

    /// Of the shares of one system in another's rates, round by round.
    pub fn share(system: &[f64], base: &[f64]) -> Self {
        let shares: Vec<f64> =
            system.iter().zip(base).map(|(system, base)| system / base).collect();
        Self::of(&shares)
    }
}

/// How many values at each end are outside of the interval: as many as leave the median inside as often as asked.
fn outside(count: usize) -> usize {
    // Of so many tosses of a coin: how likely this many heads are, and how likely at most as many.
    let mut exactly = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut at_most = exactly;
    let mut outside = 0;
    while outside < count / 2 {
        exactly *= (count - outside) as f64 / (outside + 1) as f64;
        at_most += exactly;
        if 2.0 * at_most > 1.0 - CONFIDENCE {
            break;
        }
        outside += 1;
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_binomial_distribution() {
        // Ranks of tables: 15 values, 4th to 12th; 25, 8th to 18th; 6, first to last.
        assert_eq!([6, 15, 25].map(outside), [0, 3, 7]);
        assert_eq!([0, 1, 2, 3].map(outside), [0; 4]);
        let values: Vec<f64> = (1..=15).rev().map(f64::from).collect();
        assert_eq!(Middle::of(&values), Middle { median: 8.0, low: 4.0, high: 12.0 });
        assert_eq!(Middle::of(&[]), Middle::default());
        assert_eq!(Middle::of(&[1.0, 2.0]), Middle { median: 1.5, low: 1.0, high: 2.0 });
    }

    #[test]
    fn shares_are_taken_round_by_round() {
        // A machine that is twice as slow in one round is so for both.
        let share = Middle::share(&[9.0, 4.5, 9.0], &[10.0, 5.0, 10.0]);
        assert_eq!(share, Middle { median: 0.9, low: 0.9, high: 0.9 });
    }

    #[test]
    fn values_keep_five_digits() {
        let sample = |values| Sample {
            measure: String::new(),
            path: String::new(),
            system: String::new(),
            values,
        };
        let samples = vec![sample(vec![0.000_123_456_789, 17.345_678, 623_456.789])];
        let mut results = Results { samples, ..Results::default() };
        results.round();
        assert_eq!(results.samples[0].values, [0.000_123_46, 17.346, 623_457.0]);
    }
}
