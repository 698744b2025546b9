//! Batch numbers: what an instance has already said, and where it left something out.
//!
//! Invariants: numbers grow by one per (instance, shard); a number that is not above the last one is a repetition, a
//! hole is chat that was dropped. The map is bounded: an instance is forgotten after [`FORGET_AFTER_MS`] of silence,
//! and of too many the longest silent go first.

use super::delta::Millis;
use rustc_hash::FxHashMap;

/// Instances send marks every second while they live. Six hours of silence leave room for a worker that was cut off
/// and comes back with a long spill.
pub const FORGET_AFTER_MS: Millis = 6 * 60 * 60 * 1000;

/// Numbers travel with every commit: 1,024 instances are 16 KiB, reached only by a crash loop.
pub const MAX_INSTANCES: usize = 1024;

/// What a batch's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It follows the instance's last one, or is its first.
    Next,
    /// It was here before: drop the batch.
    Repeated,
    /// Batches before it are missing.
    Jump,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    number: u64,
    seen_ms: Millis,
}

/// The last number of each instance.
#[derive(Debug, Default)]
pub struct Numbers {
    last: FxHashMap<u64, Last>,
}

impl Numbers {
    /// From what was committed at `stream_time_ms`.
    #[must_use]
    pub fn restore(numbers: &[(u64, u64)], stream_time_ms: Millis) -> Self {
        let last =
            numbers.iter().map(|&(instance, number)| (instance, Last { number, seen_ms: stream_time_ms })).collect();
        Self { last }
    }

    /// Judges a batch and remembers its number.
    pub fn observe(&mut self, instance: u64, number: u64, stream_time_ms: Millis) -> Step {
        let entry = self.last.entry(instance).or_insert(Last { number: 0, seen_ms: stream_time_ms });
        entry.seen_ms = stream_time_ms;
        if number <= entry.number {
            return Step::Repeated;
        }
        let step = if number == entry.number + 1 { Step::Next } else { Step::Jump };
        entry.number = number;
        step
    }

    /// Forgets who has been silent for too long. Called when a generation ends.
    pub fn forget(&mut self, stream_time_ms: Millis) {
        self.last.retain(|_, last| last.seen_ms + FORGET_AFTER_MS > stream_time_ms);
        if self.last.len() > MAX_INSTANCES {
            let mut seen: Vec<(Millis, u64)> = self.last.iter().map(|(id, last)| (last.seen_ms, *id)).collect();
            seen.sort_unstable();
            let surplus = seen.len() - MAX_INSTANCES;
            for (_, instance) in seen.into_iter().take(surplus) {
                self.last.remove(&instance);
            }
        }
    }

    /// As committed: sorted by instance.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(u64, u64)> {
        let mut numbers: Vec<(u64, u64)> = self.last.iter().map(|(id, last)| (*id, last.number)).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_order_follow_each_other() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.observe(1, 1, 0), Step::Next);
        assert_eq!(numbers.observe(1, 2, 0), Step::Next);
        assert_eq!(numbers.observe(2, 1, 0), Step::Next);
        assert_eq!(numbers.observe(1, 3, 0), Step::Next);
    }

    #[test]
    fn a_lower_or_equal_number_is_a_repetition() {
        let mut numbers = Numbers::restore(&[(1, 5)], 0);
        assert_eq!(numbers.observe(1, 5, 0), Step::Repeated);
        assert_eq!(numbers.observe(1, 4, 0), Step::Repeated);
        assert_eq!(numbers.observe(1, 6, 0), Step::Next);
    }

    #[test]
    fn a_hole_is_a_jump_and_a_stranger_in_the_middle_too() {
        let mut numbers = Numbers::default();
        numbers.observe(1, 1, 0);
        assert_eq!(numbers.observe(1, 3, 0), Step::Jump);
        assert_eq!(numbers.observe(9, 40, 0), Step::Jump);
    }

    #[test]
    fn the_silent_are_forgotten_and_the_map_is_bounded() {
        let mut numbers = Numbers::default();
        numbers.observe(1, 1, 0);
        numbers.observe(2, 1, FORGET_AFTER_MS);
        numbers.forget(FORGET_AFTER_MS);
        assert_eq!(numbers.snapshot(), vec![(2, 1)]);
        for instance in 0..2 * MAX_INSTANCES as u64 {
            numbers.observe(instance, 1, FORGET_AFTER_MS + instance);
        }
        numbers.forget(FORGET_AFTER_MS + 1);
        assert_eq!(numbers.snapshot().len(), MAX_INSTANCES);
        assert_eq!(numbers.observe(2 * MAX_INSTANCES as u64 - 1, 1, 0), Step::Repeated);
    }
}
