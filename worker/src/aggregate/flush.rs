//! When to commit: soon at low load, in larger bites under load, nearly never at rest.

use std::time::Duration;

/// At low load a line waits this long at most before its commit begins.
const SOON: Duration = Duration::from_millis(100);

/// Under load rows merge: the same minute's row is written once for many messages.
const LATE: Duration = Duration::from_secs(2);

/// Stream messages that are not read yet: from here on there is load.
const BACKLOG: u64 = 200;

/// Rows of one commit that take about as long as [`LATE`]; there is no use in waiting for more.
pub const ROWS_ENOUGH: usize = 20_000;

/// The same for a slice of the slow tables, for which nobody waits. Under a backlog the same chatters come again and
/// again: at 20,000 a flush, a minute of 60,000 messages a second takes 2.2 million rows, at 50,000 it takes 1.7 million.
pub const SLOW_ROWS_ENOUGH: usize = 50_000;

/// Rows that wait while a commit cannot end (the store is away): here reading stops, the stream is the buffer.
pub const ROWS_MAX: usize = 100_000;

/// At rest: marks and how far gaps may be judged, in one commit.
pub const REST: Duration = Duration::from_secs(5);

/// The slow tables' rhythm; each slice a quarter of it after the one before.
pub const SLOW: Duration = Duration::from_secs(30);

/// A slice without rows commits its position only so often, which bounds what a take-over reads again.
pub const SLOW_REST: Duration = Duration::from_secs(120);

/// How long the first pending row waits, given what the last commit took and how much is unread.
#[must_use]
pub fn fast_interval(last_commit: Duration, unread: u64, rows: usize) -> Duration {
    if rows >= ROWS_ENOUGH {
        Duration::ZERO
    } else if unread > BACKLOG {
        LATE
    } else {
        // At most a third of the time is spent in commits.
        (last_commit * 2).clamp(SOON, LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_low_load_a_commit_begins_soon() {
        assert_eq!(fast_interval(Duration::from_millis(8), 0, 300), SOON);
    }

    #[test]
    fn slow_commits_make_larger_ones() {
        assert_eq!(fast_interval(Duration::from_millis(400), 0, 300), Duration::from_millis(800));
        assert_eq!(fast_interval(Duration::from_secs(9), 0, 300), LATE);
    }

    #[test]
    fn a_backlog_makes_the_largest_ones_until_there_are_enough_rows() {
        assert_eq!(fast_interval(Duration::ZERO, BACKLOG + 1, 300), LATE);
        assert_eq!(fast_interval(Duration::ZERO, BACKLOG + 1, ROWS_ENOUGH), Duration::ZERO);
    }
}
