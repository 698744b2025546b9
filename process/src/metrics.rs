//! The registry of one process. Each role adds its own metrics to it; label sets are closed (never a channel or a
//! chatter).

use prometheus::{Encoder, IntGauge, Opts, Registry, TextEncoder};

/// A registry with what every process shows: its own CPU, memory and files, and what was built.
#[must_use]
pub fn registry(role: &'static str) -> Registry {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    let build = Opts::new("clamor_build_info", "Which build and role this process is; always 1")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("role", role);
    let registered = registry.register(Box::new(process)).and_then(|()| {
        let info = IntGauge::with_opts(build)?;
        info.set(1);
        registry.register(Box::new(info))
    });
    registered.expect("a fresh registry has no metric of these names");
    registry
}

/// All metrics in the Prometheus text format.
#[must_use]
pub fn text(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::error!(%error, "failed to encode the metrics");
    }
    text
}
