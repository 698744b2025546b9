//! Unique chatters of a minute.
//!
//! A minute is *young* while it starts at least [`AHEAD_MS`] after the horizon's start: no event of it can lie before
//! that (event times are clamped to stream time + [`AHEAD_MS`]), so its whole set is in memory, a warm-up rebuilds it,
//! and its size is written absolutely. When a generation ends, the minutes that are no longer young leave memory with
//! their sorted ids ("settled"), in the flush that covers the rotation. What comes later for such a minute is settled
//! too, and merged by the store.
//!
//! Where a take-over cannot read all of the horizon again (the stream was made anew, or purged), the young minutes that
//! began before are *partial*: what is in memory of them is merged like a settled minute's, for as long as they are
//! young. So a size in the store never falls.

use super::dedupe::horizon_start;
use super::delta::{ChannelId, ChatterId, Millis};
use clamor_chat::window;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// How far an event time may lie ahead of stream time; what is further is clamped.
pub const AHEAD_MS: Millis = 2 * 60 * 1000;

const MINUTE_MS: Millis = 60_000;

type Minute = (ChannelId, Millis);

/// Sorted ids of minutes that are settled.
type Settled = Vec<(ChannelId, Millis, Vec<ChatterId>)>;

/// The chatters of the minutes within the horizon.
#[derive(Debug, Default)]
pub struct Uniques {
    /// Minutes from here on are young.
    young_since_ms: Millis,
    /// Young minutes before are partial.
    whole_since_ms: Millis,
    sets: FxHashMap<Minute, FxHashSet<ChatterId>>,
    /// Young minutes whose set grew since the last flush.
    grown: FxHashSet<Minute>,
    /// Ids for the store to merge, since the last flush.
    settled: BTreeMap<Minute, FxHashSet<ChatterId>>,
    settled_ids: usize,
}

impl Uniques {
    /// A generation has ended: settles the minutes that are no longer young. Where `counted` is false, the flush that
    /// covers the rotation is already committed.
    pub fn rotate(&mut self, stream_time_ms: Millis, counted: bool) {
        self.young_since_ms = horizon_start(stream_time_ms) + AHEAD_MS;
        let young_since_ms = self.young_since_ms;
        let old = self.sets.extract_if(|(_, minute), _| *minute < young_since_ms);
        for (minute, chatters) in old {
            if counted {
                self.grown.remove(&minute);
                self.settled_ids += chatters.len();
                self.settled.entry(minute).or_default().extend(chatters);
            }
        }
    }

    /// What entered the stream before then cannot be read any more.
    pub fn begin_partial(&mut self, stream_time_ms: Millis) {
        self.whole_since_ms = window::minute(stream_time_ms + AHEAD_MS) + MINUTE_MS;
    }

    /// The stream that these sets could be rebuilt from is gone: the next flush carries the ids of all of them.
    pub fn settle(&mut self) {
        for (minute, chatters) in &self.sets {
            self.settled_ids += chatters.len();
            self.settled.entry(*minute).or_default().extend(chatters);
        }
    }

    /// Whether the minute's set is in memory.
    #[must_use]
    pub fn is_young(&self, minute_ms: Millis) -> bool {
        minute_ms >= self.young_since_ms
    }

    /// A chatter wrote in that minute. Where `counted` is false, only the set is rebuilt.
    pub fn add(&mut self, channel_id: ChannelId, minute_ms: Millis, chatter_id: ChatterId, counted: bool) {
        let minute = (channel_id, minute_ms);
        if self.is_young(minute_ms) {
            if self.sets.entry(minute).or_default().insert(chatter_id) && counted {
                self.grown.insert(minute);
            }
        } else if counted && self.settled.entry(minute).or_default().insert(chatter_id) {
            self.settled_ids += 1;
        }
    }

    /// Sizes of the young minutes that grew, and sorted ids of those that are partial or settled, since the last call.
    pub fn take(&mut self) -> (FxHashMap<Minute, u32>, Settled) {
        let sets = &self.sets;
        let size = |minute: &Minute| sets.get(minute).map_or(0, |set| u32::try_from(set.len()).unwrap_or(u32::MAX));
        for minute in self.grown.extract_if(|(_, minute_ms)| *minute_ms < self.whole_since_ms) {
            self.settled.entry(minute).or_default().extend(sets.get(&minute).into_iter().flatten());
        }
        let grown = self.grown.drain().map(|minute| (minute, size(&minute))).collect();
        self.settled_ids = 0;
        let settled = std::mem::take(&mut self.settled).into_iter().map(|((channel_id, minute_ms), chatters)| {
            let mut ids: Vec<ChatterId> = chatters.into_iter().collect();
            ids.sort_unstable();
            (channel_id, minute_ms, ids)
        });
        (grown, settled.collect())
    }

    /// What the next flush will carry: rows and ids.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.grown.len() + self.settled_ids
    }
}

#[cfg(test)]
mod tests {
    use super::super::dedupe::GENERATION_MS;
    use super::*;

    const T0: Millis = 1_699_999_800_000; // the start of a generation
    const MINUTE: Millis = 60_000;

    fn at(stream_time_ms: Millis) -> Uniques {
        let mut uniques = Uniques::default();
        uniques.rotate(stream_time_ms, true);
        uniques
    }

    #[test]
    fn the_test_s_origin_is_a_generation_s_start() {
        assert_eq!(T0 % GENERATION_MS, 0);
    }

    #[test]
    fn a_young_minute_is_written_absolutely_when_it_grew() {
        let mut uniques = at(T0);
        uniques.add(1, T0, 10, true);
        uniques.add(1, T0, 11, true);
        uniques.add(1, T0, 10, true);
        let (grown, settled) = uniques.take();
        assert_eq!(grown.get(&(1, T0)), Some(&2));
        assert!(settled.is_empty());
        uniques.add(1, T0, 11, true);
        assert_eq!(uniques.pending(), 0);
        uniques.add(1, T0, 12, true);
        assert_eq!(uniques.take().0.get(&(1, T0)), Some(&3));
    }

    #[test]
    fn a_minute_that_leaves_the_horizon_is_settled_with_sorted_ids() {
        let mut uniques = at(T0);
        uniques.add(1, T0, 11, true);
        uniques.add(1, T0, 10, true);
        uniques.add(1, T0 + 2 * MINUTE, 12, true);
        uniques.rotate(T0 + GENERATION_MS, true);
        let (grown, settled) = uniques.take();
        assert_eq!(settled, vec![(1, T0, vec![10, 11])]);
        assert_eq!(grown.len(), 1, "the minute two minutes after the horizon's start is still young");
    }

    #[test]
    fn late_data_of_an_old_minute_is_settled() {
        let mut uniques = at(T0);
        uniques.add(1, T0 - 20 * MINUTE, 11, true);
        uniques.add(1, T0 - 20 * MINUTE, 11, true);
        assert_eq!(uniques.pending(), 1);
        assert_eq!(uniques.take().1, vec![(1, T0 - 20 * MINUTE, vec![11])]);
    }

    #[test]
    fn a_warm_up_rebuilds_the_set_and_writes_nothing() {
        let mut uniques = at(T0);
        uniques.add(1, T0, 10, false);
        uniques.add(1, T0 - 20 * MINUTE, 10, false);
        assert_eq!(uniques.pending(), 0);
        uniques.add(1, T0, 11, true);
        assert_eq!(uniques.take().0.get(&(1, T0)), Some(&2));
    }

    #[test]
    fn a_rotation_that_is_committed_settles_nothing_again() {
        let mut uniques = at(T0);
        uniques.add(1, T0, 10, false);
        uniques.rotate(T0 + GENERATION_MS, false);
        assert_eq!(uniques.pending(), 0);
        assert!(uniques.take().1.is_empty());
    }

    #[test]
    fn a_partial_minute_is_merged_and_never_written_absolutely() {
        let mut uniques = at(T0);
        uniques.begin_partial(T0 + 30_000);
        uniques.add(1, T0 + MINUTE, 10, false);
        uniques.add(1, T0 + MINUTE, 11, true);
        uniques.add(1, T0 + 3 * MINUTE, 12, true);
        let (grown, settled) = uniques.take();
        assert_eq!(settled, vec![(1, T0 + MINUTE, vec![10, 11])]);
        assert_eq!(grown.into_iter().collect::<Vec<_>>(), vec![((1, T0 + 3 * MINUTE), 1)], "all of it came afterwards");
        assert!(uniques.take().1.is_empty());
    }

    #[test]
    fn before_the_stream_is_gone_all_ids_are_settled() {
        let mut uniques = at(T0);
        uniques.add(1, T0, 11, true);
        uniques.add(1, T0, 10, true);
        uniques.take();
        uniques.settle();
        assert_eq!(uniques.take().1, vec![(1, T0, vec![10, 11])]);
        uniques.add(1, T0, 12, true);
        assert_eq!(uniques.take().0.get(&(1, T0)), Some(&3), "in memory it is whole");
    }
}
