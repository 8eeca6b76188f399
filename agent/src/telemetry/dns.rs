//! What the server of names is asked. Its counters are in a pinned map, as the others are, but a question costs no system
//! call: what has come together since is added before anybody is told, and now and then.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bascule_common::abi::QuestionKey;
use prometheus::{HistogramOpts, HistogramVec, Registry, proto::MetricFamily};

use super::{family, names::Names};
use crate::kernel::bpf::{BpfError, Tables};

/// Who knew an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum By {
    /// The agent.
    Local = 1,
    /// The agent, which was told before.
    Cache = 2,
    /// Another server.
    Upstream = 3,
}

impl By {
    const ALL: [Self; 3] = [Self::Local, Self::Cache, Self::Upstream];

    /// The name, as in metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Upstream => "upstream",
        }
    }
}

/// Why a question or a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The server that would be asked is who asks.
    Loop = 1,
    /// Too many questions are under way.
    Busy = 2,
    /// More comes than can be answered.
    Flood = 3,
    /// Too many connections are open.
    Connections = 4,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Loop, Self::Busy, Self::Flood, Self::Connections];

    const fn label(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Busy => "busy",
            Self::Flood => "flood",
            Self::Connections => "connections",
        }
    }
}

/// A counter, for those who count often.
#[derive(Clone, Debug, Default)]
pub struct Questions(Arc<AtomicU64>);

impl Questions {
    /// Counts one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Its metrics.
pub struct DnsMetrics {
    tables: Arc<Tables>,
    /// What has come together and is not in the map yet.
    news: Mutex<HashMap<QuestionKey, Questions>>,
    upstreams: Upstreams,
}

/// How long servers of others took to answer: of those that were asked lately.
struct Upstreams {
    seconds: HistogramVec,
    asked: Mutex<HashMap<IpAddr, Instant>>,
}

impl Upstreams {
    /// A server that has not answered for so long has no series.
    const LATELY: Duration = Duration::from_secs(3600);

    fn new() -> prometheus::Result<Self> {
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "bascule_dns_upstream_seconds",
                "How long a name server of others took to answer.",
            )
            .buckets(vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]),
            &["server"],
        )?;
        Ok(Self { seconds, asked: Mutex::default() })
    }

    fn answered(&self, server: IpAddr, after: Duration, now: Instant) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(server, now);
        self.seconds.with_label_values(&[&server.to_string()]).observe(after.as_secs_f64());
    }

    fn forget(&self, now: Instant) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|server, at| {
            let stays = now.duration_since(*at) < Self::LATELY;
            if !stays {
                // It has one: it was entered here with its first answer.
                drop(self.seconds.remove_label_values(&[&server.to_string()]));
            }
            stays
        });
    }
}

impl DnsMetrics {
    pub(super) fn new(tables: Arc<Tables>) -> prometheus::Result<Self> {
        Ok(Self { tables, news: Mutex::default(), upstreams: Upstreams::new()? })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.upstreams.seconds.clone()))
    }

    fn of(&self, key: QuestionKey) -> Questions {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.entry(key).or_default().clone()
    }

    /// The counter of answers that somebody knew, on a network of this index.
    pub fn counter(&self, network: u32, by: By, code: u16) -> Questions {
        let (kind, which) = (QuestionKey::ANSWERED, by as u8);
        self.of(QuestionKey { network, code, kind, which, ..QuestionKey::default() })
    }

    /// Counts an answer.
    pub fn answered(&self, network: u32, by: By, code: u16) {
        self.counter(network, by, code).count();
    }

    /// Counts what was not taken.
    pub fn refused(&self, why: Refusal) {
        let (kind, which) = (QuestionKey::REFUSED, why as u8);
        self.of(QuestionKey { kind, which, ..QuestionKey::default() }).count();
    }

    /// Notes how long a server of others took, or that it said nothing.
    pub fn upstream(&self, server: IpAddr, answered: Option<Duration>) {
        if let Some(after) = answered {
            return self.upstreams.answered(server, after, Instant::now());
        }
        let server = match server {
            IpAddr::V4(server) => server.to_ipv6_mapped(),
            IpAddr::V6(server) => server,
        };
        let (kind, server) = (QuestionKey::SILENT, server.octets());
        self.of(QuestionKey { kind, server, ..QuestionKey::default() }).count();
    }

    /// Adds what has come together to the map.
    pub fn keep(&self) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, Questions(count)) in news.iter() {
            let more = count.swap(0, Ordering::Relaxed);
            if more == 0 {
                continue;
            }
            if let Err(error) = self.tables.tallies.add_questions(key, more) {
                tracing::debug!(%error, "questions about names are not counted");
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
        // Who holds a counter goes on counting with it.
        news.retain(|_, questions| {
            let Questions(count) = &*questions;
            Arc::strong_count(count) > 1 || count.load(Ordering::Relaxed) > 0
        });
    }

    /// Everything but the histogram; of networks that have gone there is no series.
    pub(super) fn families(&self, names: &Names) -> Result<Vec<MetricFamily>, BpfError> {
        self.keep();
        self.upstreams.forget(Instant::now());
        let (mut answered, mut refused, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for (key, count) in self.tables.tallies.questions()? {
            let (into, labels) = match key.kind {
                QuestionKey::ANSWERED => (&mut answered, labels_of_answer(&key, names)),
                QuestionKey::REFUSED => {
                    let why = Refusal::ALL.into_iter().find(|why| *why as u8 == key.which);
                    (&mut refused, why.map(|why| vec![why.label().to_owned()]))
                }
                QuestionKey::SILENT => {
                    let server = Ipv6Addr::from(key.server).to_canonical();
                    (&mut silent, Some(vec![server.to_string()]))
                }
                _ => continue,
            };
            into.extend(labels.map(|labels| (labels, count as f64)));
        }
        Ok(vec![
            family::DNS_QUERIES.with(answered),
            family::DNS_REFUSED.with(refused),
            family::DNS_SILENT.with(silent),
        ])
    }
}

fn labels_of_answer(key: &QuestionKey, names: &Names) -> Option<Vec<String>> {
    let network = match key.network {
        QuestionKey::NOBODY => String::new(),
        QuestionKey::HOST => "host".to_owned(),
        index => names.networks.get(&index)?.network.clone(),
    };
    let by = By::ALL.into_iter().find(|by| *by as u8 == key.which)?;
    Some(vec![network, by.label().to_owned(), code_name(key.code)])
}

impl std::fmt::Debug for DnsMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsMetrics").finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_nobody_asks_any_more_have_no_series() {
        let upstreams = Upstreams::new().expect("a histogram");
        let (old, new) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let begin = Instant::now();
        let shown = || {
            let families = prometheus::core::Collector::collect(&upstreams.seconds);
            let of = |metric: &prometheus::proto::Metric| metric.get_label()[0].value().to_owned();
            families[0].get_metric().iter().map(of).collect::<Vec<_>>()
        };
        upstreams.answered(old, Duration::from_millis(2), begin);
        let later = begin + Upstreams::LATELY / 2;
        upstreams.answered(new, Duration::from_millis(2), later);
        upstreams.forget(later);
        assert_eq!(shown().len(), 2);
        upstreams.forget(begin + Upstreams::LATELY);
        assert_eq!(shown(), ["10.0.0.2"]);
    }
}
