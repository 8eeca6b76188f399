//! What is aimed at: the rate of one system on a path, as a share of another's in the same rounds.

use serde_json::{Value, json};

use crate::{
    rounds::{CRR, Samples, UDP},
    worlds::path,
};

/// One target.
pub struct Target {
    /// What is measured.
    pub measure: &'static str,
    /// On which path.
    pub path: &'static str,
    /// The system.
    pub system: &'static str,
    /// What it is compared with.
    pub base: &'static str,
    /// The least share of it.
    pub least: f64,
}

const fn target(
    (path, measure): (&'static str, &'static str),
    (system, base): (&'static str, &'static str),
    least: f64,
) -> Target {
    Target { measure, path, system, base, least }
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    target((path::CONTAINERS, UDP), ("bascule", "direct"), 0.96),
    target((path::CONTAINERS, CRR), ("bascule", "direct"), 0.99),
    target((path::PUBLISHED, UDP), ("bascule", "routed"), 1.05),
    target((path::PUBLISHED, CRR), ("bascule", "routed"), 1.0),
    target((path::PUBLISHED, UDP), ("bascule-100000", "bascule"), 0.97),
    target((path::PUBLISHED, CRR), ("bascule-100000", "bascule"), 0.97),
    target((path::LOOPBACK, CRR), ("bascule", "bascule-address"), 0.98),
    target((path::OUTSIDE, UDP), ("bascule", "routed"), 1.0),
    target((path::OUTSIDE, CRR), ("bascule", "routed"), 0.97),
];

impl Target {
    /// Whether the middle of the rounds' shares reaches it.
    pub fn is_met(&self, samples: &Samples) -> bool {
        let of = |system| samples.of(self.measure, self.path, system).unwrap_or_default();
        let pairs = of(self.system).iter().zip(of(self.base));
        let mut shares: Vec<f64> = pairs.map(|(system, base)| system / base).collect();
        shares.sort_by(f64::total_cmp);
        shares.get(shares.len() / 2).is_some_and(|share| *share >= self.least)
    }

    /// As readers of the results have it.
    pub fn json(&self) -> Value {
        let Self { measure, path, system, base, least } = self;
        json!({"measure": measure, "path": path, "system": system, "base": base, "least": least})
    }
}
