//! What ingest counts. Label sets are closed.

use clamor_bus::report::ChannelState;
use clamor_chat::line::LineError;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

/// The kinds of `clamor_ingest_messages_total`.
pub(super) const KINDS: [&str; 5] = ["message", "user_notice", "clear_chat", "clear_message", "room_state"];

/// The reasons of `clamor_ingest_lines_rejected_total` beside the parser's own.
pub(super) const UNKNOWN_ROOM: &str = "unknown_room";

/// Why a connection ended, of `clamor_ingest_connections_ended_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// We closed it: nothing left to read there, or replaced after a RECONNECT.
    Released,
    /// Twitch closed it.
    Closed,
    /// Reading or writing failed.
    Failed,
    /// A PING was not answered.
    PingTimeout,
    /// The server sent more protocol than anybody could follow, or took nothing any more.
    Stalled,
}

impl Cause {
    const ALL: [Self; 5] = [Self::Released, Self::Closed, Self::Failed, Self::PingTimeout, Self::Stalled];

    /// Its metric label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::PingTimeout => "ping_timeout",
            Self::Stalled => "stalled",
        }
    }
}

/// The metrics of one ingest role.
pub(super) struct IngestMetrics {
    pub(super) channels_wanted: IntGauge,
    pub(super) channels: IntGaugeVec,
    pub(super) connections: IntGauge,
    pub(super) connections_ended: IntCounterVec,
    pub(super) connect_failures: IntCounter,
    pub(super) reconnects_asked: IntCounter,
    pub(super) messages: [IntCounter; KINDS.len()],
    pub(super) lines_rejected: IntCounterVec,
    pub(super) lag_seconds: Histogram,
    pub(super) ping_seconds: Histogram,
    pub(super) joins_sent: IntCounter,
    pub(super) joins_waiting: IntGauge,
    pub(super) publish_seconds: Histogram,
    pub(super) publish_failures: IntCounter,
    pub(super) batches_published: IntCounter,
    pub(super) events_published: IntCounter,
    pub(super) batches_dropped: IntCounterVec,
    pub(super) events_dropped: IntCounterVec,
    pub(super) queue_batches: IntGauge,
    pub(super) queue_bytes: IntGauge,
    pub(super) spilled_batches: IntCounter,
    pub(super) spilled_bytes: IntCounter,
    pub(super) spill_segments: IntGauge,
    pub(super) spill_bytes: IntGauge,
    pub(super) spill_failures: IntCounterVec,
}

/// From a loopback's round trip to an outage.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

impl IngestMetrics {
    /// Registers everything.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Maker { registry };
        let messages = make.counters("messages_total", "Chat lines understood, by kind.", "kind")?;
        let metrics = Self {
            channels_wanted: make.gauge("channels_wanted", "Channels assigned.")?,
            channels: make.gauges("channels", "Channels by state.", "state")?,
            connections: make.gauge("connections", "Open connections.")?,
            connections_ended: make.counters("connections_ended_total", "Connections ended, by cause.", "cause")?,
            connect_failures: make.counter("connect_failures_total", "Connections that could not be opened.")?,
            reconnects_asked: make.counter("reconnects_asked_total", "RECONNECT commands.")?,
            messages: KINDS.map(|kind| messages.with_label_values(&[kind])),
            lines_rejected: make.counters("lines_rejected_total", "Lines dropped, by reason.", "reason")?,
            lag_seconds: make.seconds("lag_seconds", "From Twitch's timestamp to the reading of the line.")?,
            ping_seconds: make.seconds("ping_seconds", "Round trip of a PING.")?,
            joins_sent: make.counter("joins_sent_total", "JOINs sent.")?,
            joins_waiting: make.gauge("joins_waiting", "JOINs that wait for their turn.")?,
            publish_seconds: make.seconds("publish_seconds", "From taking a batch to its acknowledgement.")?,
            publish_failures: make.counter("publish_failures_total", "Attempts to publish that failed.")?,
            batches_published: make.counter("batches_published_total", "Batches acknowledged.")?,
            events_published: make.counter("events_published_total", "Events in acknowledged batches.")?,
            batches_dropped: make.counters("batches_dropped_total", "Batches dropped, by reason.", "reason")?,
            events_dropped: make.counters("events_dropped_total", "Events in dropped batches.", "reason")?,
            queue_batches: make.gauge("queue_batches", "Batches that wait for the bus in memory.")?,
            queue_bytes: make.gauge("queue_bytes", "Bytes of the batches that wait for the bus in memory.")?,
            spilled_batches: make.counter("spilled_batches_total", "Batches written to the spill.")?,
            spilled_bytes: make.counter("spilled_bytes_total", "Bytes written to the spill.")?,
            spill_segments: make.gauge("spill_segments", "Segments of the spill on disk.")?,
            spill_bytes: make.gauge("spill_bytes", "Bytes of the spill on disk.")?,
            spill_failures: make.counters(
                "spill_failures_total",
                "Failures of the spill's disk, by action.",
                "action",
            )?,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// A series that appears only with its first event hides that event from `rate()`.
    fn start_at_zero(&self) {
        for state in ChannelState::ALL {
            self.channels.with_label_values(&[state.name()]).set(0);
        }
        for cause in Cause::ALL {
            self.connections_ended.with_label_values(&[cause.name()]).reset();
        }
        for reason in LineError::REASONS.into_iter().chain([UNKNOWN_ROOM]) {
            self.lines_rejected.with_label_values(&[reason]).reset();
        }
        for action in ["write", "read", "sync", "list", "remove"] {
            self.spill_failures.with_label_values(&[action]).reset();
        }
        for reason in ["overflow", "shutdown", "spill_limit", "spill_damaged"] {
            self.batches_dropped.with_label_values(&[reason]).reset();
            self.events_dropped.with_label_values(&[reason]).reset();
        }
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(opts(name, help), &[label])?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(opts(name, help), &[label])?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("clamor_ingest_{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let registry = Registry::new();
        IngestMetrics::new(&registry).unwrap();
        let families = registry.gather();
        assert_eq!(families.len(), 25);
        assert!(families.iter().all(|family| family.name().starts_with("clamor_ingest_")));
    }
}
