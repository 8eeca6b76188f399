//! What is aimed at, and whether it was reached.

use super::{
    results::{Middle, Results},
    table::{label, measure as measure_label},
};

/// Most milliseconds and MiB of publishing 10,000 ports.
const PUBLISH: (u32, f64, f64) = (10_000, 20.0, 1.0);
/// Most MiB of an agent with 1,000 endpoints.
const MEMORY: (u32, f64) = (1_000, 40.0);
/// Most percent of a processor that do not count as measurable: a third of a millisecond a second.
const IDLE: f64 = 0.1;
/// Most milliseconds of processors for a scrape of 1,000 endpoints.
const SCRAPE: f64 = 20.0;
/// Most seconds until an agent with 1,000 endpoints is ready again.
const RESTART: f64 = 1.0;

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The median reaches it.
    Met,
    /// The interval reaches it, the median does not.
    WithinNoise,
    /// Neither does.
    Missed,
}

impl Outcome {
    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::WithinNoise => "met within the interval",
            Self::Missed => "missed",
        }
    }
}

/// One target, and what became of it.
#[derive(Debug)]
pub struct Verdict {
    /// What is aimed at.
    pub aim: String,
    /// What was measured.
    pub measured: String,
    /// Whether that is enough.
    pub outcome: Outcome,
}

/// Judges everything.
pub fn all(results: &Results) -> Vec<Verdict> {
    let mut verdicts: Vec<_> =
        results.targets.iter().map(|target| share(results, target)).collect();
    let host = &results.host;
    let published = host.publish.iter().find(|publish| publish.ports == PUBLISH.0);
    let (ms, mib) = published.map_or((&[][..], &[][..]), |p| (&p.ms, &p.mib));
    verdicts.push(at_most("publishing 10,000 ports: milliseconds", ms, PUBLISH.1));
    verdicts.push(at_most("publishing 10,000 ports: MiB", mib, PUBLISH.2));
    let many = host.idle.iter().find(|idle| idle.endpoints == MEMORY.0);
    let memory: Vec<f64> = many.iter().map(|idle| idle.mib).collect();
    verdicts.push(at_most("agent with 1,000 endpoints: MiB", &memory, MEMORY.1));
    for idle in &host.idle {
        let aim = format!("agent with {} idle endpoints: % of a processor", idle.endpoints);
        verdicts.push(at_most(&aim, &[idle.cpu_percent], IDLE));
    }
    verdicts.push(at_most(
        "agent with 1,000 endpoints: milliseconds of processors for a scrape",
        &host.scrape_ms,
        SCRAPE,
    ));
    verdicts.push(at_most(
        "agent with 1,000 endpoints: seconds until it is ready after a restart",
        &host.restart_s,
        RESTART,
    ));
    verdicts
}

fn share(results: &Results, target: &super::results::Target) -> Verdict {
    let of = |system: &str| results.of(&target.measure, &target.path, system);
    let (system, base) = (of(&target.system), of(&target.base));
    let share = Middle::share(system, base);
    let outcome = match share {
        _ if system.is_empty() || base.is_empty() => Outcome::Missed,
        Middle { median, .. } if median >= target.least => Outcome::Met,
        Middle { high, .. } if high >= target.least => Outcome::WithinNoise,
        _ => Outcome::Missed,
    };
    let (system, base) = (label(&target.system), label(&target.base));
    let what = measure_label(&target.measure).to_lowercase();
    Verdict {
        aim: format!("{}, {what}: {system} at least {:.2} of {base}", target.path, target.least),
        measured: format!("{:.3} [{:.3}, {:.3}]", share.median, share.low, share.high),
        outcome,
    }
}

fn at_most(what: &str, values: &[f64], most: f64) -> Verdict {
    let middle = Middle::of(values);
    let outcome = match middle {
        _ if values.is_empty() => Outcome::Missed,
        Middle { median, .. } if median <= most => Outcome::Met,
        Middle { low, .. } if low <= most => Outcome::WithinNoise,
        _ => Outcome::Missed,
    };
    let measured = match values {
        [] => "not measured".to_owned(),
        [one] => format!("{one:.2}"),
        _ => format!("{:.2} [{:.2}, {:.2}]", middle.median, middle.low, middle.high),
    };
    Verdict { aim: format!("{what}, at most {most}"), measured, outcome }
}

#[cfg(test)]
mod tests {
    use super::{super::results::Target, *};

    fn results(ours: f64, spread: f64) -> Results {
        let sample = |system: &str, middle: f64| super::super::results::Sample {
            measure: "m".to_owned(),
            path: "p".to_owned(),
            system: system.to_owned(),
            values: (0..15).map(|n| middle + spread * (f64::from(n) - 7.0)).collect(),
        };
        let target = Target {
            measure: "m".to_owned(),
            path: "p".to_owned(),
            system: "ours".to_owned(),
            base: "base".to_owned(),
            least: 0.96,
        };
        let mut base = sample("base", 100.0);
        base.values.fill(100.0);
        Results {
            samples: vec![sample("ours", ours), base],
            targets: vec![target],
            ..Results::default()
        }
    }

    #[test]
    fn a_target_is_missed_when_the_whole_interval_is_below() {
        let outcome = |ours, spread| all(&results(ours, spread))[0].outcome;
        assert_eq!(outcome(97.0, 0.1), Outcome::Met);
        assert_eq!(outcome(95.5, 1.0), Outcome::WithinNoise);
        assert_eq!(outcome(95.5, 0.01), Outcome::Missed);
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let verdicts = all(&Results { targets: results(1.0, 0.0).targets, ..Results::default() });
        assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Missed));
    }
}
