//! What the server of names is asked.

use std::{net::IpAddr, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// Its metrics.
#[derive(Debug)]
pub struct DnsMetrics {
    queries: IntCounterVec,
    refused: IntCounterVec,
    upstream: HistogramVec,
    silent: IntCounterVec,
}

impl DnsMetrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            queries: IntCounterVec::new(
                Opts::new(
                    "bascule_dns_queries_total",
                    "Questions about names that were answered: by the directory, from memory, or by others.",
                ),
                &["network", "source", "rcode"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "bascule_dns_refused_total",
                    "Questions and connections that were not taken, by reason.",
                ),
                &["reason"],
            )?,
            upstream: HistogramVec::new(
                HistogramOpts::new(
                    "bascule_dns_upstream_seconds",
                    "How long a name server of others took to answer.",
                )
                .buckets(vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]),
                &["server"],
            )?,
            silent: IntCounterVec::new(
                Opts::new(
                    "bascule_dns_upstream_silent_total",
                    "Questions that a name server of others did not answer.",
                ),
                &["server"],
            )?,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.queries.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.upstream.clone()))?;
        registry.register(Box::new(self.silent.clone()))
    }

    /// The counter of a kind of answer, for those who count often.
    pub fn counter(&self, network: &str, source: &str, code: u16) -> IntCounter {
        self.queries.with_label_values(&[network, source, &code_name(code)])
    }

    /// Counts an answer.
    pub fn answered(&self, network: &str, source: &str, code: u16) {
        self.counter(network, source, code).inc();
    }

    /// Counts what was not taken.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Notes how long a server of others took, or that it said nothing.
    pub fn upstream(&self, server: IpAddr, answered: Option<Duration>) {
        let server = server.to_string();
        match answered {
            Some(after) => {
                self.upstream.with_label_values(&[&server]).observe(after.as_secs_f64());
            }
            None => self.silent.with_label_values(&[&server]).inc(),
        }
    }
}

/// Returns the usual name of an answer's code.
pub fn code_name(code: u16) -> String {
    let name = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        other => return format!("RCODE{other}"),
    };
    name.to_owned()
}
