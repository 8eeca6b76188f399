//! What is served to whom, and what is kept.

use super::{
    history::{History, POINTS},
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
    let reading = |id: &str, rate: f64| {
        let endpoint = TrafficEndpoint {
            id: id.into(),
            received: amount(rate),
            sent: amount(1.0),
            dropped: amount(2.0),
            ..TrafficEndpoint::default()
        };
        Traffic { endpoints: vec![endpoint], ..Traffic::default() }
    };
    let mut history = History::default();
    for second in 0..POINTS + 5 {
        history.take(&reading("e1", second as f64));
    }
    let points = history.of("e1");
    assert_eq!(points.len(), POINTS);
    assert_eq!(points.first(), Some(&[500.0, 100.0, 2.0]));
    history.take(&Traffic { endpoints: vec![TrafficEndpoint::default()], ..Traffic::default() });
    assert!(history.of("e1").is_empty() && history.of("").is_empty(), "no rates, no point");
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
