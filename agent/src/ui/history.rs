//! The last minutes of every endpoint.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::api::traffic::Traffic;

/// Seconds that are kept of each endpoint.
pub(super) const SPAN: u64 = 300;
/// Points that are kept of them: readings are a second apart at least.
const POINTS: usize = SPAN as usize + 1;

/// Seconds since it was read; bytes in and out, and packets dropped, a second.
pub(super) type Point = [f32; 4];

/// What each endpoint has carried lately, by its id: with the clock of the reading, as readings come as slowly as the
/// machine has them.
#[derive(Debug, Default)]
pub(super) struct History(HashMap<String, VecDeque<(u64, [f32; 3])>>);

impl History {
    /// Takes a reading with rates; what is gone is forgotten.
    pub(super) fn take(&mut self, traffic: &Traffic) {
        let ids: HashSet<_> = traffic.endpoints.iter().map(|endpoint| &endpoint.id).collect();
        self.0.retain(|id, _| ids.contains(id));
        for endpoint in &traffic.endpoints {
            let rates = [
                endpoint.received.byte_rate,
                endpoint.sent.byte_rate,
                endpoint.dropped.packet_rate,
            ];
            // The first reading of all has none.
            let [Some(received), Some(sent), Some(dropped)] = rates else { continue };
            let points = self.0.entry(endpoint.id.clone()).or_default();
            let old = |(clock, _): &(u64, _)| traffic.clock.saturating_sub(*clock) > SPAN * 1_000;
            while points.len() == POINTS || points.front().is_some_and(old) {
                points.pop_front();
            }
            points.push_back((traffic.clock, [received, sent, dropped].map(|rate| rate as f32)));
        }
    }

    /// What is known of an endpoint at a moment, the oldest first.
    pub(super) fn of(&self, endpoint: &str, now: u64) -> Vec<Point> {
        let points = self.0.get(endpoint).into_iter().flatten();
        let point = |(clock, [received, sent, dropped]): &(u64, [f32; 3])| {
            let age = now.saturating_sub(*clock) as f32 / 1_000.0;
            [age, *received, *sent, *dropped]
        };
        points.map(point).collect()
    }
}
