//! What the aggregate role exports. Label sets are closed.

use super::delta::{ChannelId, Millis};
use super::lags::ChannelLags;
use super::tally::{KINDS, Tally};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::time::{Duration, Instant};

/// Why something that was read is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dropped {
    RepeatedBatch,
    RedeliveredMessage,
    LateCovered,
    RefusedEvent,
    UnknownEvent,
    UndecodableBatch,
    UndecodableDirective,
    UnknownMessage,
    RefusedRow,
}

impl Dropped {
    const ALL: [Self; 9] = [
        Self::RepeatedBatch,
        Self::RedeliveredMessage,
        Self::LateCovered,
        Self::RefusedEvent,
        Self::UnknownEvent,
        Self::UndecodableBatch,
        Self::UndecodableDirective,
        Self::UnknownMessage,
        Self::RefusedRow,
    ];

    /// The label, and the reason that a dead letter carries.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::RepeatedBatch => "repeated_batch",
            Self::RedeliveredMessage => "redelivered_message",
            Self::LateCovered => "late_covered",
            Self::RefusedEvent => "refused_event",
            Self::UnknownEvent => "unknown_event",
            Self::UndecodableBatch => "undecodable_batch",
            Self::UndecodableDirective => "undecodable_directive",
            Self::UnknownMessage => "unknown_message",
            Self::RefusedRow => "refused_row",
        }
    }
}

/// What somebody should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The stream was deleted and made again.
    StreamRecreated,
    /// The stream has lost its end, or its history is another one.
    StreamTruncated,
    /// Messages were gone before they were read.
    StreamOverrun,
    /// A set is not in the object store.
    SetAbsent,
    /// A set cannot be read.
    SetUndecodable,
    /// A phrase in a set cannot be used.
    PhraseUnusable,
}

impl Alarm {
    const ALL: [Self; 6] = [
        Self::StreamRecreated,
        Self::StreamTruncated,
        Self::StreamOverrun,
        Self::SetAbsent,
        Self::SetUndecodable,
        Self::PhraseUnusable,
    ];

    /// The label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::StreamRecreated => "stream_recreated",
            Self::StreamTruncated => "stream_truncated",
            Self::StreamOverrun => "stream_overrun",
            Self::SetAbsent => "set_absent",
            Self::SetUndecodable => "set_undecodable",
            Self::PhraseUnusable => "phrase_unusable",
        }
    }
}

/// The kinds of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CommitKind {
    Fast,
    Slow,
    All,
    RollUp,
}

impl CommitKind {
    fn label(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::All => "all",
            Self::RollUp => "roll_up",
        }
    }
}

/// The role's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct AggregateMetrics {
    messages: IntCounterVec,
    duplicates: IntCounter,
    dropped: IntCounterVec,
    dead_letters: IntCounterVec,
    number_jumps: IntCounter,
    alarms: IntCounterVec,
    commit_lag: Histogram,
    commit_seconds: HistogramVec,
    commit_rows: HistogramVec,
    commit_retries: IntCounterVec,
    warm_up_seconds: Histogram,
    shards_owned: IntGauge,
    unread: IntGaugeVec,
    dedupe_keys: IntGaugeVec,
    /// Each channel's lag, where somebody looks on. No metric.
    lags: Option<ChannelLags>,
}

impl AggregateMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// Where the registry has one of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            messages: counters("messages_total", "Events counted, by kind", "kind")?,
            duplicates: IntCounter::new(name("duplicates_total"), "Events that were counted before, by their key")?,
            dropped: counters("dropped_total", "What was read and not counted, by reason", "reason")?,
            dead_letters: counters("dead_letters_total", "What was sent to the dead letters, by reason", "reason")?,
            number_jumps: IntCounter::new(name("number_jumps_total"), "Holes in the batch numbers of an instance")?,
            alarms: counters("alarms_total", "What somebody should look at, by reason", "reason")?,
            commit_lag: Histogram::with_opts(lag_options())?,
            commit_seconds: histograms("commit_seconds", "Time of a commit, by group", &SECONDS)?,
            commit_rows: histograms("commit_rows", "Rows of a commit, by group", &ROWS)?,
            commit_retries: counters("commit_retries_total", "Commits that had to be tried again, by group", "group")?,
            warm_up_seconds: Histogram::with_opts(
                HistogramOpts::new(name("warm_up_seconds"), "Time from a claim to the first count")
                    .buckets(SECONDS.to_vec()),
            )?,
            shards_owned: IntGauge::new(name("shards_owned"), "Shards that this aggregator owns")?,
            unread: gauges("unread_messages", "Stream messages that are not read yet, by shard")?,
            dedupe_keys: gauges("dedupe_keys", "Event keys in memory, by shard")?,
            lags: None,
        };
        metrics.register(registry)?;
        metrics.show_zeros();
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let Self {
            messages,
            duplicates,
            dropped,
            dead_letters,
            number_jumps,
            alarms,
            commit_lag,
            commit_seconds,
            commit_rows,
            commit_retries,
            warm_up_seconds,
            shards_owned,
            unread,
            dedupe_keys,
            lags: _,
        } = self;
        for counters in [messages, dropped, dead_letters, alarms, commit_retries] {
            registry.register(Box::new(counters.clone()))?;
        }
        for counter in [duplicates, number_jumps] {
            registry.register(Box::new(counter.clone()))?;
        }
        for histograms in [commit_seconds, commit_rows] {
            registry.register(Box::new(histograms.clone()))?;
        }
        for histogram in [commit_lag, warm_up_seconds] {
            registry.register(Box::new(histogram.clone()))?;
        }
        for gauges in [unread, dedupe_keys] {
            registry.register(Box::new(gauges.clone()))?;
        }
        registry.register(Box::new(shards_owned.clone()))
    }

    /// A counter that never counted is 0, not absent: alerts on its increase need that.
    fn show_zeros(&self) {
        for kind in KINDS {
            self.messages.with_label_values(&[kind]);
        }
        for dropped in Dropped::ALL {
            self.dropped.with_label_values(&[dropped.reason()]);
            self.dead_letters.with_label_values(&[dropped.reason()]);
        }
        for alarm in Alarm::ALL {
            self.alarms.with_label_values(&[alarm.reason()]);
        }
        for kind in [CommitKind::Fast, CommitKind::Slow, CommitKind::All, CommitKind::RollUp] {
            self.commit_retries.with_label_values(&[kind.label()]);
        }
    }

    /// Adds what a shard counted since the last time.
    pub fn add(&self, tally: &Tally) {
        let Tally {
            counted,
            duplicates,
            late_covered,
            repeated_batches,
            number_jumps,
            stream_holes,
            redelivered,
            refused_events,
            unknown_events,
        } = tally;
        for (kind, count) in KINDS.iter().zip(counted).filter(|(_, count)| **count > 0) {
            self.messages.with_label_values(&[kind]).inc_by(*count);
        }
        self.duplicates.inc_by(*duplicates);
        self.number_jumps.inc_by(*number_jumps);
        if *stream_holes > 0 {
            self.alarms.with_label_values(&[Alarm::StreamOverrun.reason()]).inc_by(*stream_holes);
        }
        let dropped = [
            (Dropped::LateCovered, *late_covered),
            (Dropped::RepeatedBatch, *repeated_batches),
            (Dropped::RedeliveredMessage, *redelivered),
            (Dropped::RefusedEvent, *refused_events),
            (Dropped::UnknownEvent, *unknown_events),
        ];
        for (reason, count) in dropped.into_iter().filter(|(_, count)| *count > 0) {
            self.drop(reason, count);
        }
    }

    /// Something is not counted.
    pub fn drop(&self, dropped: Dropped, count: u64) {
        self.dropped.with_label_values(&[dropped.reason()]).inc_by(count);
    }

    /// A dead letter was sent.
    pub fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.with_label_values(&[reason]).inc();
    }

    /// Somebody should look.
    pub fn alarm(&self, alarm: Alarm) {
        self.alarms.with_label_values(&[alarm.reason()]).inc();
    }

    /// A commit ended well.
    pub fn committed(&self, kind: CommitKind, rows: usize, took: Duration) {
        self.commit_seconds.with_label_values(&[kind.label()]).observe(took.as_secs_f64());
        self.commit_rows.with_label_values(&[kind.label()]).observe(rows as f64);
    }

    /// A commit is tried again.
    pub fn retried(&self, kind: CommitKind) {
        self.commit_retries.with_label_values(&[kind.label()]).inc();
    }

    /// These metrics, with each channel's lag told to whoever looks on.
    #[must_use]
    pub fn with_lags(self, lags: Option<ChannelLags>) -> Self {
        Self { lags, ..self }
    }

    /// Lines that were sent then are committed now: the lag of each, from Twitch's timestamp.
    pub fn lag(&self, sent_ms: &[(ChannelId, Millis)], now_ms: Millis) {
        let local = self.commit_lag.local();
        for (_, sent) in sent_ms {
            local.observe(now_ms.saturating_sub(*sent) as f64 / 1_000.0);
        }
        if let Some(lags) = &self.lags {
            lags.committed(sent_ms, Instant::now(), now_ms);
        }
    }

    /// A shard is warm.
    pub fn warm(&self, took: Duration) {
        self.warm_up_seconds.observe(took.as_secs_f64());
    }

    /// How many shards are owned.
    pub fn own(&self, shards: usize) {
        self.shards_owned.set(i64::try_from(shards).unwrap_or(i64::MAX));
    }

    /// How a shard stands.
    pub fn shard(&self, shard: u16, unread: u64, keys: usize) {
        let label = shard.to_string();
        self.unread.with_label_values(&[&label]).set(i64::try_from(unread).unwrap_or(i64::MAX));
        self.dedupe_keys.with_label_values(&[&label]).set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// A shard is not owned any more.
    pub fn forget_shard(&self, shard: u16) {
        let label = shard.to_string();
        for gauges in [&self.unread, &self.dedupe_keys] {
            // Absent where the shard never came so far.
            let _ = gauges.remove_label_values(&[&label]);
        }
    }
}

const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
const ROWS: [f64; 10] = [1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0, 20_000.0, 100_000.0];

/// Fine around the promise (p99 within 350 ms), so that the quantile is read from the buckets.
fn lag_options() -> HistogramOpts {
    let mut buckets: Vec<f64> = (1..=20).map(|step| f64::from(step) * 0.025).collect();
    buckets.extend([0.6, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0]);
    HistogramOpts::new(name("commit_lag_seconds"), "From Twitch's timestamp of a line to its commit").buckets(buckets)
}

fn name(what: &str) -> String {
    format!("clamor_aggregate_{what}")
}

fn counters(what: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name(what), help), &[label])
}

fn gauges(what: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name(what), help), &["shard"])
}

fn histograms(what: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::new(name(what), help).buckets(buckets.to_vec()), &["group"])
}
