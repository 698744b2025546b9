//! Lines that were counted and that their source's coverage may never reach: the newest ones of a connection.
//!
//! Coverage ends two seconds before the newest line of a connection that is gone. Whether another one's late copy of a
//! line in these two seconds was counted, no interval can say; so when the key of such a line leaves memory, the store
//! keeps it.
//!
//! Invariant: holds what lies within [`DOUBT_MS`] of its connection's newest line, as far as its key is in memory: a
//! warm-up rebuilds it.

use super::coverage::{DOUBT_MS, Source};
use super::delta::{ChannelId, Millis};
use rustc_hash::FxHashMap;

/// The newest lines of each connection.
#[derive(Debug, Default)]
pub struct Tails {
    of: FxHashMap<Source, Tail>,
}

#[derive(Debug, Default)]
struct Tail {
    newest_ms: Millis,
    lines: Vec<TailLine>,
    /// Lines that are kept at least before it is looked which are still needed.
    enough: usize,
}

/// A line at its connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailLine {
    /// Its key.
    pub key: u128,
    /// Where.
    pub channel_id: ChannelId,
    /// Twitch's time of it.
    pub sent_ms: Millis,
    /// The stream time at which its key came into memory.
    entered_ms: Millis,
}

/// Below that many lines there is no use in looking which are needed.
const LINES_ENOUGH: usize = 32;

impl Tails {
    /// A line was counted.
    pub fn add(&mut self, source: Source, key: u128, channel_id: ChannelId, sent_ms: Millis, entered_ms: Millis) {
        let tail = self.of.entry(source).or_default();
        tail.newest_ms = tail.newest_ms.max(sent_ms.min(entered_ms));
        tail.lines.push(TailLine { key, channel_id, sent_ms, entered_ms });
        if tail.lines.len() > tail.enough.max(LINES_ENOUGH) {
            tail.trim();
            // Twice as many as are needed: each is looked at twice on the average.
            tail.enough = tail.lines.len() * 2;
        }
    }

    /// Keys that entered before `since_ms` leave memory: returns those lines.
    pub fn leave(&mut self, since_ms: Millis) -> Vec<(Source, TailLine)> {
        let mut left = Vec::new();
        self.of.retain(|source, tail| {
            tail.trim();
            left.extend(tail.lines.extract_if(.., |line| line.entered_ms < since_ms).map(|line| (*source, line)));
            !tail.lines.is_empty()
        });
        left
    }
}

impl Tail {
    fn trim(&mut self) {
        let needed_ms = self.newest_ms.saturating_sub(DOUBT_MS);
        self.lines.retain(|line| line.sent_ms >= needed_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = (1, 1);
    const B: Source = (2, 1);

    #[test]
    fn the_last_two_seconds_of_a_connection_leave_with_their_keys() {
        let mut tails = Tails::default();
        for second in 0..200 {
            tails.add(A, second.into(), 5, second * 1_000, second * 1_000);
        }
        tails.add(B, 1_000, 5, 500_000, 500_000);
        let left: Vec<(Source, u128)> =
            tails.leave(400_000).into_iter().map(|(source, line)| (source, line.key)).collect();
        assert_eq!(left, [(A, 197), (A, 198), (A, 199)]);
        assert!(tails.leave(400_000).is_empty());
        assert_eq!(tails.leave(600_000).len(), 1);
    }

    #[test]
    fn a_busy_connection_takes_no_memory_beyond_twice_its_last_seconds() {
        let mut tails = Tails::default();
        for line in 0..100_000_u64 {
            tails.add(A, line.into(), 5, line, line);
        }
        assert!(tails.of[&A].lines.len() <= 2 * 2_002);
    }

    #[test]
    fn a_time_far_ahead_hides_no_line_that_came_before() {
        let mut tails = Tails::default();
        tails.add(A, 1, 5, 1_000, 1_000);
        tails.add(A, 2, 5, 9_000_000, 1_500);
        assert_eq!(tails.leave(2_000).len(), 2);
    }
}
