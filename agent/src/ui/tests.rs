//! What is served to whom, and what is kept.

use super::{
    history::{History, SPAN},
    serve::is_ours,
};
use crate::api::traffic::{Amount, Traffic, TrafficEndpoint};

#[test]
fn names_of_others_lead_nowhere() {
    for host in ["127.0.0.1:9478", "localhost", "LOCALHOST:9478", "[::1]:9478", "10.1.2.3"] {
        assert!(is_ours(host), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:9478", "127.0.0.1.evil.example", "", "a b"]
    {
        assert!(!is_ours(host), "{host}");
    }
    assert!(!is_ours("evil.example@127.0.0.1"));
}

#[test]
fn history_is_bounded_and_goes_with_its_endpoint() {
    let amount = |rate| Amount {
        packet_rate: Some(rate),
        byte_rate: Some(rate * 100.0),
        ..Amount::default()
    };
    let reading = |clock: u64, rate: f64| {
        let endpoint = TrafficEndpoint {
            id: "e1".into(),
            received: amount(rate),
            sent: amount(1.0),
            dropped: amount(2.0),
            ..TrafficEndpoint::default()
        };
        Traffic { clock, endpoints: vec![endpoint], ..Traffic::default() }
    };
    let mut history = History::default();
    for second in 0..=SPAN + 5 {
        history.take(&reading(second * 1_000, second as f64));
    }
    let points = history.of("e1", (SPAN + 6) * 1_000);
    assert_eq!(points.len() as u64, SPAN + 1);
    assert_eq!(points.first(), Some(&[301.0, 500.0, 100.0, 2.0]));
    assert_eq!(points.last(), Some(&[1.0, 30_500.0, 100.0, 2.0]));
    // Where readings are slow, fewer are as old.
    for tenth in 1..=SPAN / 10 {
        history.take(&reading((SPAN + 5 + tenth * 10) * 1_000, 1.0));
    }
    let points = history.of("e1", (2 * SPAN + 5) * 1_000);
    assert_eq!((points.len() as u64, points[0][0]), (SPAN / 10 + 1, SPAN as f32));
    // A clock that stands still keeps no more.
    for _ in 0..2 * SPAN {
        history.take(&reading(0, 1.0));
    }
    assert_eq!(history.of("e1", 0).len() as u64, SPAN + 1);
    history.take(&Traffic { endpoints: vec![TrafficEndpoint::default()], ..Traffic::default() });
    assert!(history.of("e1", 0).is_empty() && history.of("", 0).is_empty(), "no rates, no point");
}

/// What could write a text into the page as anything but a text, or fetch from elsewhere.
#[test]
fn the_scripts_write_nothing_but_texts() {
    let scripts = [
        include_str!("page/app.js"),
        include_str!("page/dom.js"),
        include_str!("page/picture.js"),
        include_str!("page/tables.js"),
        include_str!("page/endpoint.js"),
    ];
    for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("]
    {
        assert!(scripts.iter().all(|script| !script.contains(word)), "{word}");
    }
    let page = include_str!("page/index.html");
    for word in [" onclick", " onload", " style=", "<script>", "http://", "https://"] {
        assert!(!page.contains(word), "{word}");
    }
}
