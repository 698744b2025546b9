//! What the operator shows of itself, under controller-runtime's names where it has the figure.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The operator's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Turns, by result.
    pub reconciles: IntCounterVec,
    /// Failed turns.
    pub errors: IntCounterVec,
    /// How long a turn takes.
    pub took: Histogram,
    /// 1 while it leads.
    pub leader: IntGauge,
    /// Writes, by kind and verb.
    pub writes: IntCounterVec,
    /// Events that were dropped.
    pub events_dropped: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Panics
    /// Where the registry has metrics of these names.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("the names are right")
        };
        let metrics = Self {
            reconciles: counters(
                "controller_runtime_reconcile_total",
                "Turns over a namespace, by result",
                &["controller", "result"],
            ),
            errors: counters(
                "controller_runtime_reconcile_errors_total",
                "Failed turns over a namespace",
                &["controller"],
            ),
            took: Histogram::with_opts(HistogramOpts::new(
                "clamor_operator_turn_seconds",
                "How long observing, planning and writing of a namespace takes",
            ))
            .expect("the names are right"),
            leader: IntGauge::new("leader_election_master_status", "1 while this process leads")
                .expect("the names are right"),
            writes: counters(
                "clamor_operator_writes_total",
                "Writes to the API server, by kind and verb",
                &["kind", "verb"],
            ),
            events_dropped: IntCounter::new("clamor_operator_events_dropped_total", "Events that found the queue full")
                .expect("the names are right"),
        };
        for collector in [
            Box::new(metrics.reconciles.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.errors.clone()),
            Box::new(metrics.took.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.writes.clone()),
            Box::new(metrics.events_dropped.clone()),
        ] {
            registry.register(collector).expect("a registry has each metric once");
        }
        metrics
    }
}
