//! Which channels were heard, from when to when, and by whom, as the shard's stream tells it.
//!
//! An interval is open per (instance, connection, channel); until when an open one reaches is said once per connection
//! ("heard"). Invariants:
//! - the state is what the store has open, plus the changes of the pending flush: a take-over continues from the store;
//! - `heard` only grows while a connection has open intervals;
//! - no time lies more than two minutes ahead of stream time.
//!
//! ```text
//!  Joined, Snapshot, a line ──► open since then
//!  Parted, absent from a Snapshot ──► closed then (the worker says so)
//!  ConnectionEnded, a jump in the batch numbers, long silence ──► closed where it was last surely heard
//! ```

use super::delta::{ChannelId, CoverageChange, Millis};
use super::uniques::AHEAD_MS;
use clamor_chat::wire::Event;
use rustc_hash::{FxHashMap, FxHashSet};

/// Recorded lines are up to 18 ms out of order; two seconds are the doubt that the marks of ingest leave too.
pub const DOUBT_MS: Millis = 2_000;

/// A part closes when the worker says, but no later than this after the connection was surely heard: a live one is
/// marked every second, at most 2 s + the doubt + a round trip ago.
pub const PART_TRUST_MS: Millis = 8_000;

/// After so much stream time without a mark an interval is closed in the table, too; until then its connection may
/// come back with a spill.
pub const EXPIRE_AFTER_MS: Millis = 60 * 60 * 1000;

/// One connection of one instance.
pub type Source = (u64, u32);

#[derive(Debug, Default)]
struct Connection {
    heard_ms: Millis,
    since_ms: FxHashMap<ChannelId, Millis>,
}

/// The open intervals of a shard, and what changed since the last flush.
#[derive(Debug, Default)]
pub struct Coverage {
    open: FxHashMap<Source, Connection>,
    changes: Vec<CoverageChange>,
    heard: FxHashMap<Source, Millis>,
    /// What was closed since the last flush: (channel, since, until, who).
    closed: Vec<(ChannelId, Millis, Millis, Source)>,
}

impl Coverage {
    /// From what the store has open.
    #[must_use]
    pub fn restore(
        open_coverage: &FxHashMap<(ChannelId, u64, u32), Millis>,
        heard: &FxHashMap<(u64, u32), Millis>,
    ) -> Self {
        let mut open: FxHashMap<Source, Connection> = FxHashMap::default();
        for (&(channel_id, instance, connection), &since_ms) in open_coverage {
            let source = (instance, connection);
            let entry = open.entry(source).or_insert_with(|| Connection {
                heard_ms: heard.get(&source).copied().unwrap_or(since_ms),
                since_ms: FxHashMap::default(),
            });
            entry.since_ms.insert(channel_id, since_ms);
        }
        Self { open, ..Self::default() }
    }

    /// The connection hears the channel from `at_ms` on: a join, or the first line after a jump. Returns since when it
    /// does.
    pub fn hear(&mut self, source: Source, channel_id: ChannelId, at_ms: Millis) -> Millis {
        let connection =
            self.open.entry(source).or_insert_with(|| Connection { heard_ms: at_ms, since_ms: FxHashMap::default() });
        if let Some(&since_ms) = connection.since_ms.get(&channel_id) {
            return since_ms;
        }
        if connection.since_ms.is_empty() {
            connection.heard_ms = connection.heard_ms.max(at_ms);
            self.heard.insert(source, connection.heard_ms);
        }
        connection.since_ms.insert(channel_id, at_ms);
        let (instance, connection) = source;
        self.changes.push(CoverageChange::Open { channel_id, instance, connection, since_ms: at_ms });
        at_ms
    }

    /// The connection does not hear the channel any more.
    pub fn part(&mut self, source: Source, channel_id: ChannelId, at_ms: Millis) {
        let Some(connection) = self.open.get_mut(&source) else {
            return;
        };
        if let Some(since_ms) = connection.since_ms.remove(&channel_id) {
            let until_ms = at_ms.min(connection.heard_ms + PART_TRUST_MS);
            self.changes.push(close(source, channel_id, until_ms));
            self.closed.push((channel_id, since_ms, until_ms, source));
        }
        self.drop_if_empty(source);
    }

    /// At `at_ms` the connection hears exactly these channels.
    pub fn snapshot(&mut self, source: Source, channel_ids: &[ChannelId], at_ms: Millis) {
        let listed: FxHashSet<ChannelId> = channel_ids.iter().copied().collect();
        let mut absent: Vec<ChannelId> = self.open.get(&source).map_or_else(Vec::new, |connection| {
            connection.since_ms.keys().copied().filter(|channel| !listed.contains(channel)).collect()
        });
        absent.sort_unstable();
        for &channel_id in channel_ids {
            self.hear(source, channel_id, at_ms);
        }
        for channel_id in absent {
            self.part(source, channel_id, at_ms);
        }
    }

    /// The connection was surely heard until `until_ms`.
    pub fn mark(&mut self, source: Source, until_ms: Millis) {
        if let Some(connection) = self.open.get_mut(&source)
            && until_ms > connection.heard_ms
        {
            connection.heard_ms = until_ms;
            self.heard.insert(source, until_ms);
        }
    }

    /// The connection is gone: what it covered ends where it was last surely heard.
    pub fn end_connection(&mut self, source: Source) {
        if let Some(connection) = self.open.remove(&source) {
            self.heard.remove(&source);
            let mut channels: Vec<(ChannelId, Millis)> = connection.since_ms.into_iter().collect();
            channels.sort_unstable();
            for (channel_id, since_ms) in channels {
                self.changes.push(close(source, channel_id, connection.heard_ms));
                self.closed.push((channel_id, since_ms, connection.heard_ms, source));
            }
        }
    }

    /// Batches of this instance are missing: all that it covered ends.
    pub fn end_instance(&mut self, instance: u64) {
        self.end_where(|source, _| source.0 == instance);
    }

    /// The stream has a hole: all that was covered ends.
    pub fn end_all(&mut self) {
        self.end_where(|_, _| true);
    }

    /// Ends what has been silent for too long.
    pub fn expire(&mut self, stream_time_ms: Millis) {
        self.end_where(|_, heard_ms| heard_ms + EXPIRE_AFTER_MS < stream_time_ms);
    }

    fn end_where(&mut self, ends: impl Fn(Source, Millis) -> bool) {
        let mut sources: Vec<Source> = self
            .open
            .iter()
            .filter(|(source, connection)| ends(**source, connection.heard_ms))
            .map(|(source, _)| *source)
            .collect();
        sources.sort_unstable();
        for source in sources {
            self.end_connection(source);
        }
    }

    fn drop_if_empty(&mut self, source: Source) {
        if self.open.get(&source).is_some_and(|connection| connection.since_ms.is_empty()) {
            self.open.remove(&source);
            self.heard.remove(&source);
        }
    }

    /// Whether another source than `source` covers that time of the channel: what is open, and what was closed since the
    /// last flush. What was closed before, the store knows.
    #[must_use]
    pub fn covers_elsewhere(&self, source: Source, channel_id: ChannelId, at_ms: Millis) -> bool {
        let closed = |&(channel, since_ms, until_ms, other): &(ChannelId, Millis, Millis, Source)| {
            channel == channel_id && other != source && since_ms <= at_ms && at_ms < until_ms
        };
        self.open.keys().any(|&other| other != source && self.covers(other, channel_id, at_ms))
            || self.closed.iter().any(closed)
    }

    /// Whether the source's open interval covers that time of the channel.
    #[must_use]
    pub fn covers(&self, source: Source, channel_id: ChannelId, at_ms: Millis) -> bool {
        self.open.get(&source).is_some_and(|connection| {
            at_ms < connection.heard_ms
                && connection.since_ms.get(&channel_id).is_some_and(|since_ms| *since_ms <= at_ms)
        })
    }

    /// The changes since the last call, in stream order, and until when connections were heard.
    pub fn take(&mut self) -> (Vec<CoverageChange>, FxHashMap<Source, Millis>) {
        self.closed.clear();
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.heard))
    }

    /// Changes that wait for a flush; marks alone are none.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.changes.len()
    }
}

fn close(source: Source, channel_id: ChannelId, until_ms: Millis) -> CoverageChange {
    CoverageChange::Close { channel_id, instance: source.0, connection: source.1, until_ms }
}

/// From when on a line proves that its channel is heard: from its own time, but where that is further back than the
/// doubt, from when it was read. It may have come out of order, or from a server whose clock is wrong.
#[must_use]
pub fn proven_since(line: &Event) -> Millis {
    let is_old = line.sent_at_ms + DOUBT_MS < line.received_at_ms;
    if is_old { line.received_at_ms } else { line.sent_at_ms }
}

/// A worker's clock may be wrong: no coverage further ahead of stream time than an event may be.
#[must_use]
pub fn clamp(at_ms: Millis, stream_time_ms: Millis) -> Millis {
    at_ms.min(stream_time_ms + AHEAD_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = (1, 1);
    const B: Source = (2, 1);

    fn opened(source: Source, channel_id: ChannelId, since_ms: Millis) -> CoverageChange {
        CoverageChange::Open { channel_id, instance: source.0, connection: source.1, since_ms }
    }

    #[test]
    fn a_join_opens_once_and_a_part_closes() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear(A, 7, 1_500);
        coverage.mark(A, 4_000);
        coverage.part(A, 7, 5_000);
        assert_eq!(coverage.take().0, vec![opened(A, 7, 1_000), close(A, 7, 5_000)]);
    }

    #[test]
    fn a_part_far_after_the_last_mark_closes_near_the_mark() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.part(A, 7, 100_000);
        assert_eq!(coverage.take().0[1], close(A, 7, 1_000 + PART_TRUST_MS));
    }

    #[test]
    fn a_lost_connection_ends_where_it_was_last_heard() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear(A, 8, 1_000);
        coverage.mark(A, 9_000);
        coverage.mark(A, 8_000);
        coverage.end_connection(A);
        assert_eq!(coverage.take().0[2..], [close(A, 7, 9_000), close(A, 8, 9_000)]);
    }

    #[test]
    fn a_jump_ends_every_connection_of_its_instance_and_a_line_resumes_one_channel() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear((1, 2), 8, 1_000);
        coverage.hear(B, 7, 1_000);
        coverage.take();
        coverage.end_instance(1);
        assert_eq!(coverage.take().0, vec![close(A, 7, 1_000), close((1, 2), 8, 1_000)]);
        coverage.hear(A, 7, 6_000);
        assert_eq!(coverage.take().0, vec![opened(A, 7, 6_000)]);
        coverage.snapshot(A, &[7, 9], 8_000);
        assert_eq!(coverage.take().0, vec![opened(A, 9, 8_000)]);
    }

    #[test]
    fn a_snapshot_opens_what_is_missing_and_closes_what_is_absent() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear(A, 8, 1_000);
        coverage.mark(A, 2_000);
        coverage.take();
        coverage.snapshot(A, &[8, 9], 3_000);
        assert_eq!(coverage.take().0, vec![opened(A, 9, 3_000), close(A, 7, 3_000)]);
        coverage.snapshot(A, &[], 4_000);
        assert_eq!(coverage.take().0.len(), 2);
    }

    #[test]
    fn marks_of_a_connection_with_nothing_open_are_not_kept() {
        let mut coverage = Coverage::default();
        coverage.mark(A, 5_000);
        assert!(coverage.take().1.is_empty());
        coverage.hear(A, 7, 1_000);
        coverage.mark(A, 5_000);
        assert_eq!(coverage.take().1.get(&A), Some(&5_000));
        coverage.mark(A, 4_000);
        assert!(coverage.take().1.is_empty());
    }

    #[test]
    fn a_take_over_goes_on_from_what_the_store_has_open() {
        let open = [((7, 1, 1), 1_000)].into_iter().collect();
        let heard = [((1, 1), 5_000)].into_iter().collect();
        let mut coverage = Coverage::restore(&open, &heard);
        coverage.hear(A, 7, 6_000);
        coverage.end_all();
        assert_eq!(coverage.take().0, vec![close(A, 7, 5_000)]);
    }

    #[test]
    fn long_silence_closes_where_it_was_last_heard() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear(B, 7, EXPIRE_AFTER_MS);
        coverage.take();
        coverage.expire(EXPIRE_AFTER_MS + 2_000);
        assert_eq!(coverage.take().0, vec![close(A, 7, 1_000)]);
    }

    #[test]
    fn another_source_covers_from_where_it_began_to_where_it_was_surely_heard() {
        let mut coverage = Coverage::default();
        coverage.hear(A, 7, 1_000);
        coverage.hear(B, 7, 2_000);
        coverage.mark(A, 9_000);
        coverage.mark(B, 5_000);
        let seen = |coverage: &Coverage, source| {
            [1_500, 2_000, 4_999, 5_000, 8_000, 9_000].map(|at_ms| coverage.covers_elsewhere(source, 7, at_ms))
        };
        assert_eq!(seen(&coverage, A), [false, true, true, false, false, false]);
        assert_eq!(seen(&coverage, B), [true, true, true, true, true, false]);
        assert!(!coverage.covers_elsewhere(A, 8, 3_000), "another channel");
        coverage.end_connection(B);
        assert_eq!(seen(&coverage, A), [false, true, true, false, false, false], "closed in this flush");
        coverage.take();
        assert_eq!(seen(&coverage, A), [false; 6], "the store knows it from now on");
    }
}
