//! What the agent's own proxy carries.

use std::sync::Arc;

use bascule_common::abi::Tally;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::kernel::bpf::Tables;

/// What is counted of connections that it took on, by protocol, and of those that it did not, by reason as well: in
/// slots of the tallies from the first of the proxy's on. More are added at their ends alone.
pub(super) const OPENED: [&str; 2] = ["tcp", "udp"];
pub(super) const REFUSED: [(&str, &str); 5] = [
    ("tcp", "unpublished"),
    ("tcp", "unreachable"),
    ("udp", "unpublished"),
    ("udp", "full"),
    ("udp", "unreachable"),
];

/// Returns the slot of connections that were taken on.
pub(super) const fn opened(at: usize) -> u32 {
    Tally::PROXY + at as u32
}

/// Returns the slot of connections that were not.
pub(super) const fn refused(at: usize) -> u32 {
    Tally::PROXY + 4 + at as u32
}

/// Its metrics.
pub struct ProxyMetrics {
    open: IntGaugeVec,
    tables: Arc<Tables>,
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct Carried(IntGauge);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ProxyMetrics {
    pub(super) fn new(tables: Arc<Tables>) -> prometheus::Result<Self> {
        Ok(Self {
            open: IntGaugeVec::new(
                Opts::new(
                    "bascule_proxy_connections",
                    "Connections and UDP conversations of host processes that the agent carries itself.",
                ),
                &["proto"],
            )?,
            tables,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.open.clone()))
    }

    fn tally(&self, slot: Option<u32>) {
        if let Some(slot) = slot
            && let Err(error) = self.tables.tallies.add(slot, 1)
        {
            tracing::debug!(%error, slot, "not counted");
        }
    }

    /// Counts a connection, open until the value is dropped.
    pub fn begin(&self, proto: &str) -> Carried {
        self.tally(OPENED.iter().position(|known| *known == proto).map(opened));
        let open = self.open.with_label_values(&[proto]);
        open.inc();
        Carried(open)
    }

    /// Counts one that was not carried.
    pub fn refuse(&self, proto: &str, reason: &str) {
        self.tally(REFUSED.iter().position(|known| *known == (proto, reason)).map(refused));
    }
}
