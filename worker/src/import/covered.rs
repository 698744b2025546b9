//! What other sources have heard of a channel, and what a file's line is to it.
//!
//! Live coverage is trusted up to its edges, but what was counted may lie beside them: a connection's last two seconds
//! are in doubt, and its first line may have been sent before its JOIN was answered. So a line within that distance of
//! live coverage is left to it. Where that leaves out a line, the file does not cover the stretch either, and the stretch
//! stays a gap: nothing is counted twice, and what may be missing is known.

use crate::aggregate::coverage::DOUBT_MS;
use crate::aggregate::delta::{ChannelId, Millis};
use rustc_hash::FxHashMap;

/// How far beside live coverage a line may already have been counted.
pub const BESIDE_MS: Millis = DOUBT_MS;

/// From when until before when.
pub type Span = (Millis, Millis);

/// What a moment of a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// Nobody heard it.
    Free,
    /// Another source heard it.
    Heard,
    /// It lies beside live coverage, in this stretch.
    Doubtful(Span),
}

/// One channel's coverage by others; each list is sorted and without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ChannelCover {
    heard: Vec<Span>,
    /// Live coverage with what lies beside it.
    live: Vec<Span>,
}

/// Coverage of some channels by sources other than the file, within a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered(FxHashMap<ChannelId, ChannelCover>);

impl Covered {
    /// Adds a stretch that was heard; stretches of a channel come sorted.
    pub fn add_heard(&mut self, channel_id: ChannelId, span: Span) {
        self.0.entry(channel_id).or_default().heard.push(span);
    }

    /// Adds a stretch of live coverage that includes what lies beside it; likewise.
    pub fn add_live(&mut self, channel_id: ChannelId, span: Span) {
        self.0.entry(channel_id).or_default().live.push(span);
    }

    /// What the moment is.
    #[must_use]
    pub fn judge(&self, channel_id: ChannelId, at_ms: Millis) -> Cover {
        let Some(ChannelCover { heard, live }) = self.0.get(&channel_id) else {
            return Cover::Free;
        };
        if let Ok(found) = find(heard, at_ms) {
            let _: Span = heard[found];
            return Cover::Heard;
        }
        match find(live, at_ms) {
            Ok(found) => Cover::Doubtful(between(heard, live[found], at_ms)),
            Err(_) => Cover::Free,
        }
    }

    /// Whether nobody else has, or may have, counted anything in that stretch.
    #[must_use]
    pub fn is_free(&self, channel_id: ChannelId, (since, until): Span) -> bool {
        let free = |spans: &[Span]| spans.iter().all(|&(begins, ends)| ends <= since || until <= begins);
        self.0.get(&channel_id).is_none_or(|cover| free(&cover.heard) && free(&cover.live))
    }
}

fn find(spans: &[Span], at_ms: Millis) -> Result<usize, usize> {
    spans.binary_search_by(|&(since, until)| {
        if until <= at_ms {
            std::cmp::Ordering::Less
        } else if since > at_ms {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        }
    })
}

/// The stretch of `live` around a moment that is in doubt: up to what is heard on either side.
fn between(heard: &[Span], live: Span, at_ms: Millis) -> Span {
    let after = heard.partition_point(|&(_, until)| until <= at_ms);
    let since = after.checked_sub(1).map_or(live.0, |before| heard[before].1.max(live.0));
    let until = heard.get(after).map_or(live.1, |next| next.0.min(live.1));
    (since, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered() -> Covered {
        let mut covered = Covered::default();
        for span in [(10_000, 20_000), (30_000, 40_000)] {
            covered.add_heard(7, span);
        }
        // The second one is an imported file's: nothing lies beside it.
        covered.add_live(7, (8_000, 22_000));
        covered
    }

    #[test]
    fn what_nobody_heard_is_free() {
        for at in [0, 7_999, 22_000, 29_999, 40_000] {
            assert_eq!(covered().judge(7, at), Cover::Free, "{at}");
        }
        assert_eq!(covered().judge(8, 15_000), Cover::Free);
    }

    #[test]
    fn what_another_source_heard_is_heard_up_to_its_end() {
        for at in [10_000, 19_999, 30_000, 39_999] {
            assert_eq!(covered().judge(7, at), Cover::Heard, "{at}");
        }
    }

    #[test]
    fn beside_live_coverage_there_is_doubt_on_both_sides() {
        assert_eq!(covered().judge(7, 8_000), Cover::Doubtful((8_000, 10_000)));
        assert_eq!(covered().judge(7, 20_000), Cover::Doubtful((20_000, 22_000)));
    }

    #[test]
    fn a_minute_is_free_only_without_anything_beside_it() {
        assert!(covered().is_free(7, (22_000, 30_000)));
        assert!(!covered().is_free(7, (21_999, 30_000)));
        assert!(!covered().is_free(7, (0, 60_000)));
        assert!(covered().is_free(8, (0, 60_000)));
    }
}
