//! A scrape of `/metrics`, parsed.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Netns;

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Labels, in the order of the scrape.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The text as it came.
    pub text: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Scrapes the address from within the namespace.
    pub fn scrape(ns: &Netns, address: SocketAddr) -> std::io::Result<Self> {
        ns.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            write!(
                stream,
                "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            )?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            let answer = crate::api::parse(&String::from_utf8_lossy(&bytes));
            let text = answer.as_ref().and_then(|answer| answer.body.as_str()).unwrap_or_default();
            Ok(Self::parse(text))
        })
    }

    /// Parses the text format.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(sample);
        Self { text: text.to_owned(), samples: samples.collect() }
    }

    /// Sum of the samples of a name whose labels include the given ones.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// Samples of a name whose labels include the given ones.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| {
                    sample.labels.iter().any(|(have, is)| have == key && is == value)
                })
        })
    }

    /// Drops of a container for a reason, both directions.
    pub fn drops(&self, container: &str, reason: &str) -> u64 {
        let labels = [("container", container), ("reason", reason)];
        self.sum("bascule_endpoint_drops_total", &labels) as u64
    }

    /// Drops for a reason, of all endpoints and none.
    pub fn drops_anywhere(&self, reason: &str) -> u64 {
        self.samples
            .iter()
            .filter(|sample| sample.name.contains("drops_total"))
            .filter(|sample| sample.labels.iter().any(|(k, v)| k == "reason" && v == reason))
            .map(|sample| sample.value)
            .sum::<f64>() as u64
    }

    /// Packets and bytes of a container in a direction (`in`, `out`).
    pub fn traffic(&self, container: &str, direction: &str) -> (u64, u64) {
        let labels = [("container", container), ("direction", direction)];
        let packets = self.sum("bascule_endpoint_packets_total", &labels);
        (packets as u64, self.sum("bascule_endpoint_bytes_total", &labels) as u64)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (head, ""),
    };
    let labels = labels
        .split("\",")
        .filter_map(|pair| pair.split_once("=\""))
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect();
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_understood() {
        let text = "# HELP x y\nx{a=\"1\",b=\"two\"} 3\nx{a=\"2\",b=\"two\"} 4\nz 5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("x", &[("b", "two")]), 7.0);
        assert_eq!(metrics.sum("x", &[("a", "1")]), 3.0);
        assert_eq!(metrics.sum("z", &[]), 5.0);
    }
}
