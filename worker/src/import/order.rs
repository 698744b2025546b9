//! Which lines of a file are new to it: its own duplicates, and what lies behind.
//!
//! Recorders write in order of time, up to some milliseconds; a file may hold lines twice (two connections, two logs put
//! together). Keys of the last lines are remembered in two generations by number, so memory has a bound. What is older
//! than they remember *and* lies in time that the file has had already is told by its time.
//!
//! Invariants:
//! - The state is a function of the file's lines alone: who reads them again from the beginning holds the same.
//! - A line at or after its channel's floor was seen only if its key is remembered: the floor is the channel's newest
//!   time when the older generation began.

use crate::aggregate::delta::{ChannelId, Millis};
use rustc_hash::{FxHashMap, FxHashSet};

/// Keys of one generation: 4.5 MB, as a table of 2^18 places is seven eighths full.
const MAX_KEYS: usize = (1 << 18) / 8 * 7;
/// How often a channel's time may begin anew further back (logs put together in the wrong order).
const MAX_PARTS: usize = 16;

/// What a line is to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Seen for the first time.
    New,
    /// The file has it already.
    Repeated,
    /// The file has had this time already, too long ago to say whether it has the line.
    Behind,
}

/// One channel's time in the file.
#[derive(Debug, Default)]
struct Times {
    from_ms: Millis,
    newest_ms: Millis,
    /// Lines at or after it are told by their key.
    floor_ms: Millis,
    next_floor_ms: Millis,
    /// Earlier parts, from where the file went back behind its beginning.
    parts: Vec<(Millis, Millis)>,
}

/// The lines seen so far.
#[derive(Debug, Default)]
pub struct Order {
    young: FxHashSet<u128>,
    old: FxHashSet<u128>,
    channels: FxHashMap<ChannelId, Times>,
}

impl Order {
    /// Takes the next line; `key` 0: it has none.
    pub fn place(&mut self, channel_id: ChannelId, at_ms: Millis, key: u128) -> Place {
        let times = self.channels.entry(channel_id).or_insert_with(|| Times {
            from_ms: at_ms,
            newest_ms: at_ms,
            ..Times::default()
        });
        if !times.admit(at_ms) {
            return Place::Behind;
        }
        if key != 0 && !self.note(key) {
            return Place::Repeated;
        }
        Place::New
    }

    /// When the channel's first and newest lines so far were said; none: it has none.
    #[must_use]
    pub fn span(&self, channel_id: ChannelId) -> Option<(Millis, Millis)> {
        self.channels.get(&channel_id).map(Times::span)
    }

    /// The same for all channels.
    pub fn spans(&self) -> impl Iterator<Item = (ChannelId, (Millis, Millis))> {
        self.channels.iter().map(|(&channel_id, times)| (channel_id, times.span()))
    }

    /// Notes a key; false where it is remembered.
    fn note(&mut self, key: u128) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= MAX_KEYS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            for times in self.channels.values_mut() {
                times.floor_ms = std::mem::replace(&mut times.next_floor_ms, times.newest_ms);
            }
        }
        true
    }
}

impl Times {
    /// Whether a line of that time may be new.
    fn admit(&mut self, at_ms: Millis) -> bool {
        if at_ms < self.floor_ms {
            if at_ms >= self.from_ms || self.parts.len() == MAX_PARTS {
                return false;
            }
            self.parts.push((self.from_ms, self.newest_ms));
            *self =
                Self { from_ms: at_ms, newest_ms: at_ms, parts: std::mem::take(&mut self.parts), ..Self::default() };
        }
        if self.parts.iter().any(|&(from, newest)| (from..=newest).contains(&at_ms)) {
            return false;
        }
        self.from_ms = self.from_ms.min(at_ms);
        self.newest_ms = self.newest_ms.max(at_ms);
        true
    }

    fn span(&self) -> (Millis, Millis) {
        let now = (self.from_ms, self.newest_ms);
        self.parts.iter().fold(now, |(from, newest), part| (from.min(part.0), newest.max(part.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Millis = 1_700_000_000_000;

    #[test]
    fn a_line_is_new_once() {
        let mut order = Order::default();
        assert_eq!(order.place(1, T0, 7), Place::New);
        assert_eq!(order.place(1, T0, 7), Place::Repeated);
        assert_eq!(order.place(1, T0, 8), Place::New);
        assert_eq!(order.place(1, T0, 0), Place::New);
    }

    #[test]
    fn some_milliseconds_of_disorder_are_in_order() {
        let mut order = Order::default();
        for (key, at) in [(1, 100), (2, 82), (3, 101), (4, 90)] {
            assert_eq!(order.place(1, T0 + at, key), Place::New);
        }
        assert_eq!(order.span(1), Some((T0 + 82, T0 + 101)));
    }

    fn long(order: &mut Order, channel_id: ChannelId, from: Millis, lines: u64) {
        for line in 0..lines {
            let key = u128::from(from + line) << 64 | u128::from(channel_id);
            assert_eq!(order.place(channel_id, from + line, key), Place::New);
        }
    }

    #[test]
    fn what_overlaps_long_after_is_told_by_its_time() {
        let mut order = Order::default();
        let lines = 3 * MAX_KEYS as u64;
        long(&mut order, 1, T0, lines);
        assert_eq!(order.place(1, T0 + 5, 5), Place::Behind);
        assert_eq!(order.place(1, T0 + lines, 6), Place::New);
    }

    #[test]
    fn a_day_put_after_the_next_one_is_new_up_to_where_that_began() {
        let mut order = Order::default();
        let lines = 3 * MAX_KEYS as u64;
        long(&mut order, 1, T0, lines);
        long(&mut order, 1, T0 - 1_000, 1_000);
        assert_eq!(order.place(1, T0, 1), Place::Behind);
        assert_eq!(order.place(1, T0 + lines - 1, 2), Place::Behind);
        assert_eq!(order.place(1, T0 + lines, 3), Place::New);
        assert_eq!(order.span(1), Some((T0 - 1_000, T0 + lines)));
    }

    #[test]
    fn another_channel_s_log_behind_a_long_one_is_new() {
        let mut order = Order::default();
        long(&mut order, 1, T0, 3 * MAX_KEYS as u64);
        long(&mut order, 2, T0, 1_000);
    }

    #[test]
    fn keys_are_bounded() {
        let mut order = Order::default();
        long(&mut order, 1, T0, 4 * MAX_KEYS as u64);
        assert!(order.young.len() + order.old.len() <= 2 * MAX_KEYS);
    }

    proptest! {
        #[test]
        fn no_key_is_new_twice(lines in proptest::collection::vec((0u64..3, 0u64..50, 1u128..40), 1..400)) {
            let mut order = Order::default();
            let mut seen = FxHashSet::default();
            for (channel, at, key) in lines {
                if order.place(channel, T0 + at, key) == Place::New {
                    prop_assert!(seen.insert(key));
                }
            }
        }
    }
}
