//! What the agent's own proxy carries.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Its metrics.
pub struct ProxyMetrics {
    open: IntGaugeVec,
    opened: IntCounterVec,
    refused: IntCounterVec,
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
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            open: IntGaugeVec::new(
                Opts::new(
                    "bascule_proxy_connections",
                    "Connections and UDP conversations of host processes that the agent carries itself.",
                ),
                &["proto"],
            )?,
            opened: IntCounterVec::new(
                Opts::new(
                    "bascule_proxy_opened_total",
                    "Connections and UDP conversations that the agent took on itself.",
                ),
                &["proto"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "bascule_proxy_refused_total",
                    "Connections that the proxy reset and datagrams that it dropped, by reason.",
                ),
                &["proto", "reason"],
            )?,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.open.clone()))?;
        registry.register(Box::new(self.opened.clone()))?;
        registry.register(Box::new(self.refused.clone()))
    }

    /// Counts a connection, open until the value is dropped.
    pub fn begin(&self, proto: &str) -> Carried {
        self.opened.with_label_values(&[proto]).inc();
        let open = self.open.with_label_values(&[proto]);
        open.inc();
        Carried(open)
    }

    /// Counts one that was not carried.
    pub fn refuse(&self, proto: &str, reason: &str) {
        self.refused.with_label_values(&[proto, reason]).inc();
    }
}
