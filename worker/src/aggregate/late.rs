//! Lines that came into the stream late: they count only where nobody else was listening.
//!
//! The event keys of the last five minutes at least are in memory, so what enters the stream within four minutes of its
//! receipt is known by its key if a redundant worker has brought it before. What comes later, from a spill, may be older
//! than all keys; then it counts only where no other source covers its time, and where its key is not among those that
//! were counted beyond all coverage.
//!
//! Invariants:
//! - Covered by another means: as of the line's own place in the stream. A source's mark stands in the stream behind the
//!   lines that it covers, so of two late copies of a line the first one counts.
//! - What is decided depends on the store, too (an imported file is a source): it is decided inside of the commit, after
//!   statement 1, and all groups commit it together, so that no group ever decides it again.
//!
//! ```text
//!  line's place in the stream ──► open coverage, and what closed since the last flush: the shard knows (coverage.rs)
//!  statement 1 of the commit  ──► coverage that closed before, and files: the store knows ([`Elsewhere`])
//! ```

use super::counting::{Counter, Groups};
use super::coverage::Source;
use super::delta::{ChannelId, ChatterId, FastDelta, Millis, SLICES, SlowDelta};
use super::plan::ActivePlan;
use clamor_chat::window;
use clamor_chat::wire::Event;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A minute less than the shortest time for which keys are in memory.
pub const LATE_AFTER_MS: Millis = 4 * 60 * 1000;

/// Whether a line came so late that its key may be forgotten. No line is older than Twitch's time of it, whatever its
/// worker's clock says.
#[must_use]
pub fn is_late(event: &Event, stream_time_ms: Millis) -> bool {
    event.received_at_ms.max(event.sent_at_ms) + LATE_AFTER_MS < stream_time_ms
}

/// A late line that nobody else covers as far as the shard knows.
#[derive(Debug, Clone)]
pub struct LateLine {
    /// Who heard it.
    pub source: Source,
    /// What.
    pub event: Event,
    /// Its (clamped) time.
    pub at_ms: Millis,
    /// Who counts it.
    pub groups: Groups,
    /// What it is matched with.
    pub plan: Arc<ActivePlan>,
    /// Its chatter, where the minute's set is not in memory; 0: none.
    pub settles: ChatterId,
}

/// An interval in which a source covered a channel: from, until (not included), who.
pub type Covered = (Millis, Millis, Source);

/// What the store knows of the times of late lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Closed coverage.
    pub covered: BTreeMap<ChannelId, Vec<Covered>>,
    /// Keys that were counted beyond all coverage.
    pub counted: FxHashSet<u128>,
    /// Who listened before is forgotten: nothing counts there any more.
    pub known_since_ms: Millis,
}

impl Elsewhere {
    fn has(&self, line: &LateLine) -> bool {
        let at_ms = line.event.sent_at_ms;
        let covers = |&(since, until, source): &Covered| source != line.source && since <= at_ms && at_ms < until;
        let covered = self.covered.get(&line.event.channel_id).is_some_and(|intervals| intervals.iter().any(covers));
        covered || at_ms < self.known_since_ms || self.counted.contains(&line.event.key())
    }
}

/// What late lines add.
#[derive(Debug, Default)]
pub struct LateCounts {
    /// To the Fast group.
    pub fast: FastDelta,
    /// To the slices.
    pub slow: [SlowDelta; SLICES as usize],
    /// Lines that others had brought.
    pub covered: u64,
}

/// Counts the lines that are not covered elsewhere.
#[must_use]
pub fn count(lines: &[LateLine], elsewhere: &Elsewhere) -> LateCounts {
    let mut counter = Counter::default();
    let mut settled: BTreeMap<(ChannelId, Millis), Vec<ChatterId>> = BTreeMap::new();
    let mut covered = 0;
    for line in lines {
        if elsewhere.has(line) {
            covered += 1;
            continue;
        }
        counter.count(&line.event, line.at_ms, line.groups, &line.plan);
        if line.settles != 0 {
            settled.entry((line.event.channel_id, window::minute(line.at_ms))).or_default().push(line.settles);
        }
    }
    let Counter { mut fast, slow, .. } = counter;
    fast.settled = settled
        .into_iter()
        .map(|((channel_id, minute_ms), mut ids)| {
            ids.sort_unstable();
            ids.dedup();
            (channel_id, minute_ms, ids)
        })
        .collect();
    LateCounts { fast, slow, covered }
}

/// The times of late lines by channel: the first and the last.
#[must_use]
pub fn spans(lines: &[LateLine]) -> BTreeMap<ChannelId, (Millis, Millis)> {
    let mut spans = BTreeMap::new();
    for line in lines {
        let at_ms = line.event.sent_at_ms;
        let (first, last) = spans.entry(line.event.channel_id).or_insert((at_ms, at_ms));
        *first = at_ms.min(*first);
        *last = at_ms.max(*last);
    }
    spans
}
