//! The registry: what is read from maps at scrape, and what the agent measures of itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bascule_common::abi::Tally;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

use super::{
    census::Census, collector::MapCollector, counters::Counters, dns::DnsMetrics,
    names::SharedNames, proxy::ProxyMetrics,
};
use crate::kernel::bpf::{BpfError, Collected, Tables};

/// All metrics of one agent.
pub struct Metrics {
    registry: Registry,
    names: SharedNames,
    tables: Arc<Tables>,
    census: Arc<Census>,
    gc_seconds: Histogram,
    actions: Option<HistogramVec>,
    /// Seconds that requests to the API took, by route (the pattern, not the path) and status code.
    pub api_request_seconds: HistogramVec,
    /// Seconds from the wish to attach an endpoint to its being reachable.
    pub attach_seconds: Histogram,
    /// Seconds that passes of reconciliation took.
    pub reconcile_seconds: Histogram,
    started: Gauge,
    healthy: IntGauge,
    /// What the proxy carries.
    pub proxy: ProxyMetrics,
    /// What the server of names is asked.
    pub dns: Arc<DnsMetrics>,
    health: Mutex<Result<(), String>>,
}

impl Metrics {
    /// Makes the registry; the maps are read whenever it is scraped. `compatible` adds the names that Docker's daemon and
    /// Podman's exporter give the same.
    pub fn new(
        tables: Arc<Tables>,
        names: SharedNames,
        compatible: bool,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let census = Arc::new(Census::default());
        let dns = Arc::new(DnsMetrics::new(Arc::clone(&tables))?);
        registry.register(Box::new(MapCollector::new(
            Arc::clone(&tables),
            names.clone(),
            Arc::clone(&census),
            Arc::clone(&dns),
            compatible,
        )?))?;
        let metrics = Self {
            registry,
            names,
            tables: Arc::clone(&tables),
            census,
            actions: compatible.then(actions).transpose()?,
            gc_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "bascule_conntrack_gc_seconds",
                    "Time that a collection of idle connections took.",
                )
                .buckets(exponential_buckets(0.000_5, 4.0, 8)?),
            )?,
            reconcile_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "bascule_reconcile_seconds",
                    "Time that a pass of reconciliation took.",
                )
                .buckets(exponential_buckets(0.001, 3.0, 9)?),
            )?,
            healthy: IntGauge::new(
                "bascule_healthy",
                "Whether everything is as it should be: 1, or 0 where `bascule status` names failures.",
            )?,
            started: Gauge::new(
                "bascule_start_time_seconds",
                "When the agent was started, in seconds since 1970.",
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
            proxy: ProxyMetrics::new(tables)?,
            dns,
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
        self.dns.register(&self.registry)?;
        self.started.set(jiff::Timestamp::now().as_second() as f64);
        self.registry.register(Box::new(self.started.clone()))?;
        self.registry.register(Box::new(self.healthy.clone()))?;
        if let Some(actions) = &self.actions {
            self.registry.register(Box::new(actions.clone()))?;
        }
        self.registry.register(Box::new(self.gc_seconds.clone()))?;
        self.registry.register(Box::new(self.reconcile_seconds.clone()))?;
        self.registry.register(Box::new(self.api_request_seconds.clone()))?;
        self.registry.register(Box::new(self.attach_seconds.clone()))
    }

    /// The names that labels are made of.
    pub fn names(&self) -> &SharedNames {
        &self.names
    }

    /// Notes what a collection of idle connections did, and how long it took.
    pub fn collected(&self, outcome: Collected, took: Duration) {
        self.gc_seconds.observe(took.as_secs_f64());
        self.tally(Tally::Collections as u32, 1);
        self.tally(Tally::Collected as u32, outcome.removed);
    }

    /// Notes a pass of reconciliation.
    pub fn passed(&self, actions: u64, took: Duration) {
        self.reconcile_seconds.observe(took.as_secs_f64());
        self.tally(Tally::Passes as u32, 1);
        self.tally(Tally::Actions as u32, actions);
    }

    /// Notes how long Docker's daemon would say that something took: `allocate`, `release`, `connect`, `disconnect`.
    pub fn acted(&self, action: &str, took: Duration) {
        if let Some(actions) = &self.actions {
            actions.with_label_values(&[action]).observe(took.as_secs_f64());
        }
    }

    /// Notes a correction of what somebody else changed, of an action's kind.
    pub fn repaired(&self, kind: &str) {
        if let Err(error) = self.tables.tallies.repaired(kind) {
            tracing::debug!(%error, kind, "not counted");
        }
    }

    /// Adds to what outlives the agent.
    fn tally(&self, slot: u32, more: u64) {
        if let Err(error) = self.tables.tallies.add(slot, more) {
            tracing::debug!(%error, slot, "not counted");
        }
    }

    /// Says how the agent is: what `/healthz` answers.
    pub fn set_health(&self, health: Result<(), String>) {
        self.healthy.set(i64::from(health.is_ok()));
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// How the agent is.
    pub fn health(&self) -> Result<(), String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the counters of the data plane. It takes milliseconds with thousands of endpoints.
    pub fn counters(&self) -> Result<Counters, BpfError> {
        let counted = self.census.get(&self.tables)?;
        Counters::read(&self.tables, &self.names.get(), counted)
    }

    /// Everything in Prometheus' text format. Reads maps: tens of milliseconds with thousands of endpoints.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// What Docker's daemon has under this name.
fn actions() -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(
        "engine_daemon_network_actions_seconds",
        "The number of seconds it takes to process each network action",
    );
    HistogramVec::new(options, &["action"])
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
