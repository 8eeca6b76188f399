//! What two readings say of the time between them.

use std::collections::HashMap;

use super::{Amount, Traffic, TrafficDrop};

/// Writes into a reading how fast everything grew since an earlier one. What was not there then began at nothing.
pub fn fill_rates(now: &mut Traffic, before: &Traffic) {
    let milliseconds = now.clock.saturating_sub(before.clock);
    if milliseconds == 0 {
        return;
    }
    let seconds = milliseconds as f64 / 1_000.0;
    let earlier: HashMap<_, _> = before.endpoints.iter().map(|e| (e.id.as_str(), e)).collect();
    for endpoint in &mut now.endpoints {
        let earlier = earlier.get(endpoint.id.as_str());
        fill(&mut endpoint.received, earlier.map(|e| &e.received), seconds);
        fill(&mut endpoint.sent, earlier.map(|e| &e.sent), seconds);
        fill(&mut endpoint.dropped, earlier.map(|e| &e.dropped), seconds);
        fill_drops(&mut endpoint.drops, earlier.map_or(&[], |e| &e.drops), seconds);
    }
    let key = |port: &super::TrafficPort| {
        (port.container.clone(), port.host_ip.clone(), port.host_port.clone(), port.proto.clone())
    };
    let earlier: HashMap<_, _> = before.ports.iter().map(|port| (key(port), port)).collect();
    for port in &mut now.ports {
        let earlier = earlier.get(&key(port));
        fill(&mut port.received, earlier.map(|p| &p.received), seconds);
        fill(&mut port.sent, earlier.map(|p| &p.sent), seconds);
    }
    fill_drops(&mut now.drops, &before.drops, seconds);
}

fn fill_drops(now: &mut [TrafficDrop], before: &[TrafficDrop], seconds: f64) {
    for drop in now {
        let same = |d: &&TrafficDrop| (&d.reason, &d.direction) == (&drop.reason, &drop.direction);
        fill(&mut drop.dropped, before.iter().find(same).map(|d| &d.dropped), seconds);
    }
}

fn fill(now: &mut Amount, before: Option<&Amount>, seconds: f64) {
    let before = before.copied().unwrap_or_default();
    // One decimal is all that anybody reads. A counter whose place has a new owner has begun anew.
    let rate = |now: u64, before: u64| {
        let grown = if now < before { now } else { now - before };
        Some((grown as f64 / seconds * 10.0).round() / 10.0)
    };
    now.packet_rate = rate(now.packets, before.packets);
    now.byte_rate = rate(now.bytes, before.bytes);
}

#[cfg(test)]
mod tests {
    use super::{super::TrafficEndpoint, *};

    fn reading(clock: u64, bytes: u64, dropped: u64) -> Traffic {
        let amount = |bytes| Amount { packets: bytes / 100, bytes, ..Amount::default() };
        let drop = TrafficDrop {
            reason: "policy_icc".into(),
            direction: "out".into(),
            dropped: amount(dropped),
            ..TrafficDrop::default()
        };
        let endpoint = TrafficEndpoint {
            id: "e1".into(),
            received: amount(bytes),
            drops: vec![drop.clone()],
            ..TrafficEndpoint::default()
        };
        Traffic { clock, endpoints: vec![endpoint], drops: vec![drop], ..Traffic::default() }
    }

    #[test]
    fn rates_are_what_counters_grew_by_over_the_time_between() {
        let (before, mut now) = (reading(1_000, 1_000, 0), reading(3_000, 6_000, 400));
        fill_rates(&mut now, &before);
        let endpoint = &now.endpoints[0];
        assert_eq!(endpoint.received.byte_rate, Some(2_500.0));
        assert_eq!(endpoint.received.packet_rate, Some(25.0));
        assert_eq!(endpoint.sent.byte_rate, Some(0.0));
        assert_eq!(endpoint.drops[0].dropped.packet_rate, Some(2.0));
        assert_eq!(now.drops[0].dropped.byte_rate, Some(200.0));
    }

    #[test]
    fn what_is_new_began_at_nothing_and_a_moment_has_no_rate() {
        let mut now = reading(3_000, 6_000, 0);
        fill_rates(&mut now, &Traffic { clock: 1_000, ..Traffic::default() });
        assert_eq!(now.endpoints[0].received.byte_rate, Some(3_000.0));
        let mut now = reading(3_000, 100, 0);
        fill_rates(&mut now, &reading(2_000, 6_000, 0));
        assert_eq!(now.endpoints[0].received.byte_rate, Some(100.0), "its place has a new owner");
        let mut same = reading(3_000, 6_000, 0);
        fill_rates(&mut same, &reading(3_000, 1_000, 0));
        assert_eq!(same.endpoints[0].received.byte_rate, None);
    }
}
