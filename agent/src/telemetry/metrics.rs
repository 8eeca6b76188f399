//! The registry: what is read from maps at scrape, and what the agent measures of itself.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use super::{collector::MapCollector, names::SharedNames, proxy::ProxyMetrics};
use crate::kernel::bpf::{Collected, Tables};

/// All metrics of one agent.
pub struct Metrics {
    registry: Registry,
    names: SharedNames,
    conntrack_entries: IntGauge,
    gc_runs: IntCounter,
    gc_deleted: IntCounter,
    /// Seconds that requests to the API took, by route (the pattern, not the path) and status code.
    pub api_request_seconds: HistogramVec,
    /// Seconds from the wish to attach an endpoint to its being reachable.
    pub attach_seconds: Histogram,
    /// Corrections of what somebody else changed, by kind.
    pub reconcile_repairs: IntCounterVec,
    /// What the proxy carries.
    pub proxy: ProxyMetrics,
    health: Mutex<Result<(), String>>,
}

impl Metrics {
    /// Makes the registry; the maps are read whenever it is scraped.
    pub fn new(tables: Arc<Tables>, names: SharedNames) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(MapCollector::new(tables, names.clone())?))?;
        let metrics = Self {
            registry,
            names,
            conntrack_entries: IntGauge::new(
                "bascule_conntrack_entries",
                "Entries of the connection table (two a connection) after the last collection.",
            )?,
            gc_runs: IntCounter::new(
                "bascule_conntrack_gc_runs_total",
                "Collections of idle connections.",
            )?,
            gc_deleted: IntCounter::new(
                "bascule_conntrack_gc_deleted_total",
                "Entries that collections of idle connections removed.",
            )?,
            api_request_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "bascule_api_request_seconds",
                    "Time that requests to the API took, by route and status code.",
                )
                .buckets(exponential_buckets(0.000_5, 3.0, 10)?),
                &["route", "code"],
            )?,
            attach_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "bascule_attach_seconds",
                    "Time from the wish to attach an endpoint to its being reachable.",
                )
                .buckets(exponential_buckets(0.001, 2.0, 12)?),
            )?,
            reconcile_repairs: IntCounterVec::new(
                Opts::new(
                    "bascule_reconcile_repairs_total",
                    "Corrections of what somebody else changed, by kind of object.",
                ),
                &["kind"],
            )?,
            proxy: ProxyMetrics::new()?,
            health: Mutex::new(Err("the agent is starting".into())),
        };
        metrics.register_own()?;
        Ok(metrics)
    }

    fn register_own(&self) -> prometheus::Result<()> {
        let build = IntGaugeVec::new(
            Opts::new("bascule_build_info", "The agent's version: always 1."),
            &["version", "abi"],
        )?;
        let abi = bascule_common::abi::ABI_VERSION.to_string();
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), &abi]).set(1);
        self.registry.register(Box::new(build))?;
        self.proxy.register(&self.registry)?;
        self.registry.register(Box::new(self.conntrack_entries.clone()))?;
        self.registry.register(Box::new(self.gc_runs.clone()))?;
        self.registry.register(Box::new(self.gc_deleted.clone()))?;
        self.registry.register(Box::new(self.api_request_seconds.clone()))?;
        self.registry.register(Box::new(self.attach_seconds.clone()))?;
        self.registry.register(Box::new(self.reconcile_repairs.clone()))
    }

    /// The names that labels are made of.
    pub fn names(&self) -> &SharedNames {
        &self.names
    }

    /// Notes what a collection of idle connections did.
    pub fn collected(&self, outcome: Collected) {
        self.gc_runs.inc();
        self.gc_deleted.inc_by(outcome.removed);
        let left = outcome.seen.saturating_sub(outcome.removed);
        self.conntrack_entries.set(left.try_into().unwrap_or(i64::MAX));
    }

    /// Says how the agent is: what `/healthz` answers.
    pub fn set_health(&self, health: Result<(), String>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// How the agent is.
    pub fn health(&self) -> Result<(), String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything in Prometheus' text format. Reads maps: tens of milliseconds with thousands of endpoints.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
