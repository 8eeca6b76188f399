//! The last minutes of every endpoint.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::api::traffic::Traffic;

/// Points that are kept of each endpoint: five minutes of them.
pub(super) const POINTS: usize = 300;

/// Bytes in and out, and packets dropped, a second.
pub(super) type Point = [f32; 3];

/// What each endpoint has carried lately, by its id.
#[derive(Debug, Default)]
pub(super) struct History(HashMap<String, VecDeque<Point>>);

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
            if points.len() == POINTS {
                points.pop_front();
            }
            points.push_back([received, sent, dropped].map(|rate| rate as f32));
        }
    }

    /// What is known of an endpoint, the oldest first.
    pub(super) fn of(&self, endpoint: &str) -> Vec<Point> {
        self.0.get(endpoint).into_iter().flatten().copied().collect()
    }
}
