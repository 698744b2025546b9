//! What other sources have counted of a channel, and so what a line of a file is to it.
//!
//! Coverage is what was surely heard; a connection's last lines are counted before they are covered. Those that no
//! coverage reached in the end are known by their keys (`uncovered_line`). So a line was counted by another source exactly
//! if that source covers its time, or its key is among those.

use crate::aggregate::delta::{ChannelId, Millis};
use rustc_hash::FxHashMap;

/// From when until before when.
pub type Span = (Millis, Millis);

/// What others have counted of some channels, within a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered {
    /// Stretches that were heard: sorted, without overlaps.
    heard: FxHashMap<ChannelId, Vec<Span>>,
    /// Lines that were counted beyond them, by key.
    lines: FxHashMap<u128, (ChannelId, Millis)>,
}

impl Covered {
    /// Adds a stretch that was heard; stretches of a channel come sorted.
    pub fn add_heard(&mut self, channel_id: ChannelId, span: Span) {
        self.heard.entry(channel_id).or_default().push(span);
    }

    /// Adds a line that was counted beyond all coverage.
    pub fn add_line(&mut self, key: u128, channel_id: ChannelId, at_ms: Millis) {
        self.lines.insert(key, (channel_id, at_ms));
    }

    /// Whether another source has counted the line.
    #[must_use]
    pub fn has(&self, channel_id: ChannelId, at_ms: Millis, key: u128) -> bool {
        let before = |spans: &Vec<Span>| spans.partition_point(|&(since, _)| since <= at_ms);
        let is_heard = self
            .heard
            .get(&channel_id)
            .is_some_and(|spans| before(spans).checked_sub(1).is_some_and(|last| at_ms < spans[last].1));
        is_heard || self.lines.contains_key(&key)
    }

    /// Whether nobody else has counted anything in that stretch.
    #[must_use]
    pub fn is_free(&self, channel_id: ChannelId, (since, until): Span) -> bool {
        let heard = self.heard.get(&channel_id);
        heard.is_none_or(|spans| spans.iter().all(|&(begins, ends)| ends <= since || until <= begins))
            && self.lines.values().all(|&(channel, at)| channel != channel_id || at < since || until <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered() -> Covered {
        let mut covered = Covered::default();
        for span in [(10_000, 20_000), (30_000, 40_000)] {
            covered.add_heard(7, span);
        }
        covered.add_line(5, 7, 21_000);
        covered
    }

    #[test]
    fn what_was_heard_is_counted_up_to_its_end_and_not_beyond() {
        for at in [10_000, 19_999, 30_000, 39_999] {
            assert!(covered().has(7, at, 1), "{at}");
        }
        for at in [0, 9_999, 20_000, 29_999, 40_000] {
            assert!(!covered().has(7, at, 1), "{at}");
        }
        assert!(!covered().has(8, 15_000, 1));
    }

    #[test]
    fn a_line_that_was_counted_beyond_coverage_is_known_by_its_key() {
        assert!(covered().has(7, 21_000, 5));
        assert!(!covered().has(7, 21_000, 6));
    }

    #[test]
    fn a_stretch_is_free_where_nothing_was_counted() {
        assert!(covered().is_free(7, (21_001, 30_000)));
        assert!(!covered().is_free(7, (21_000, 30_000)));
        assert!(!covered().is_free(7, (0, 60_000)));
        assert!(covered().is_free(8, (0, 60_000)));
    }
}
