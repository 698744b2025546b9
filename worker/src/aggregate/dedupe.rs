//! Duplicates from redundant workers and hand-overs, removed by event key in two generations of stream time.
//!
//! Stream time is the running maximum of JetStream's timestamps. A generation is five minutes of it, aligned to the
//! epoch, so that where the horizon begins follows from the stream time alone.
//!
//! Invariant: a generation's set holds every key that entered the stream in it, the duplicates too. Whoever reads from
//! the start of the previous generation therefore holds the same two sets as whoever read from the beginning.
//!
//! Of a key 72 bits of its hash are held. Two keys that share them are taken for one, and the later event is lost: at
//! 60,000 messages a second in four shards once in three hundred years
//! (docs/decisions/0013-dedupe-keys.md).

mod keys;

use super::delta::Millis;
use keys::{Keys, Place};

/// Length of one generation of stream time.
pub const GENERATION_MS: Millis = 5 * 60 * 1000;

/// Where the generation before that of `stream_time_ms` begins: from here a take-over reads again.
#[must_use]
pub fn horizon_start(stream_time_ms: Millis) -> Millis {
    (stream_time_ms / GENERATION_MS).saturating_sub(1) * GENERATION_MS
}

/// The keys of the current and the previous generation.
#[derive(Debug, Default)]
pub struct Dedupe {
    /// Number of the current generation since the epoch.
    generation: u64,
    current: Keys,
    previous: Keys,
}

impl Dedupe {
    /// Moves to the generation of `stream_time_ms`; true where that is a later one.
    pub fn advance(&mut self, stream_time_ms: Millis) -> bool {
        let generation = stream_time_ms / GENERATION_MS;
        if generation <= self.generation {
            return false;
        }
        let next_one = generation == self.generation + 1;
        self.generation = generation;
        std::mem::swap(&mut self.current, &mut self.previous);
        if !next_one {
            self.previous = Keys::default();
        }
        // The next generation is about as large as this one.
        self.current.clear_for(&self.previous);
        true
    }

    /// Notes `key`; false where it is already known.
    pub fn insert(&mut self, key: u128) -> bool {
        let place = Place::of(key);
        self.current.insert(place) && !self.previous.contains(place)
    }

    /// Keys that are held, for the metric.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Millis = 1_700_000_100_000;

    #[test]
    fn a_key_is_new_once() {
        let mut dedupe = Dedupe::default();
        dedupe.advance(T0);
        assert!(dedupe.insert(7));
        assert!(!dedupe.insert(7));
        assert!(dedupe.insert(8));
    }

    #[test]
    fn a_key_is_known_through_the_next_generation_and_new_after_it() {
        let mut dedupe = Dedupe::default();
        dedupe.advance(T0);
        assert!(dedupe.insert(7));
        assert!(dedupe.advance(T0 + GENERATION_MS));
        assert!(dedupe.advance(T0 + 2 * GENERATION_MS));
        assert!(dedupe.insert(7));
    }

    #[test]
    fn a_duplicate_is_noted_in_its_own_generation_too() {
        let mut dedupe = Dedupe::default();
        dedupe.advance(T0);
        dedupe.insert(7);
        dedupe.advance(T0 + GENERATION_MS);
        assert!(!dedupe.insert(7));
        dedupe.advance(T0 + 2 * GENERATION_MS);
        assert!(!dedupe.insert(7));
    }

    #[test]
    fn a_clock_that_steps_back_rotates_nothing() {
        let mut dedupe = Dedupe::default();
        dedupe.advance(T0);
        assert!(!dedupe.advance(T0 - GENERATION_MS));
        dedupe.insert(7);
        assert!(!dedupe.insert(7));
    }

    #[test]
    fn silence_longer_than_the_horizon_forgets_everything() {
        let mut dedupe = Dedupe::default();
        dedupe.advance(T0);
        dedupe.insert(7);
        dedupe.advance(T0 + 5 * GENERATION_MS);
        assert!(dedupe.is_empty());
    }

    proptest! {
        #[test]
        fn a_warm_up_from_the_horizon_decides_like_a_reader_from_the_beginning(
            steps in proptest::collection::vec((0u64..200_000, 0u128..40), 1..300),
            cut in 0usize..300,
        ) {
            let mut now = T0;
            let entries: Vec<(Millis, u128)> = steps.iter().map(|(step, key)| { now += step; (now, *key) }).collect();
            let cut = cut.min(entries.len() - 1);
            let mut whole = Dedupe::default();
            let decisions: Vec<bool> =
                entries.iter().map(|(time, key)| { whole.advance(*time); whole.insert(*key) }).collect();

            let from = horizon_start(entries[cut].0);
            let mut late = Dedupe::default();
            for (index, (time, key)) in entries.iter().enumerate().filter(|(_, (time, _))| *time >= from) {
                late.advance(*time);
                let fresh = late.insert(*key);
                if index > cut {
                    prop_assert_eq!(fresh, decisions[index]);
                }
            }
        }
    }
}
