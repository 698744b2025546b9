//! A store in memory, and runs of a shard against it, with flushes and take-overs at any place.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::*;
use crate::aggregate::late::{self, Covered, Elsewhere};
use proptest::prelude::*;

/// A store in memory: what the groups' flushes add up to.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Sums {
    pub(super) channels: BTreeMap<(u64, Millis), [u64; 4]>,
    pub(super) uniques: BTreeMap<(u64, Millis), u64>,
    ids: BTreeMap<(u64, Millis), Vec<u64>>,
    phrases: BTreeMap<(u64, Millis, u64), u64>,
    emotes: BTreeMap<(u64, Millis, u64), u64>,
    pub(super) chatters: BTreeMap<(u64, Millis, u64), u64>,
    chatter_emotes: BTreeMap<(u64, Millis, u64, u64), u64>,
    coverage: Vec<CoverageChange>,
    wanted: Vec<WantedChange>,
}

/// The store, and where it says that each group stands.
#[derive(Debug, Default, Clone)]
pub(super) struct Stored {
    sums: Sums,
    restored: Restored,
    /// Closed coverage, and lines beyond all coverage.
    elsewhere: Elsewhere,
}

impl Stored {
    fn fast(&mut self, shard: &mut Shard) {
        if shard.has_late() {
            return self.whole(shard);
        }
        if let Some(FastFlush { position, delta, sent_ms: _ }) = shard.take_fast(0) {
            self.add_fast(delta);
            self.restored.positions.insert(Group::Fast.number(), position);
        }
    }

    fn add_fast(&mut self, delta: FastDelta) {
        for (row, counts) in delta.channels {
            let sums = self.sums.channels.entry(row).or_default();
            let added = [counts.messages, counts.characters, counts.words, counts.emotes];
            for (sum, add) in sums.iter_mut().zip(added) {
                *sum += add;
            }
        }
        for (row, size) in delta.uniques {
            let uniques = self.sums.uniques.entry(row).or_default();
            *uniques = (*uniques).max(u64::from(size));
        }
        for (channel, minute, ids) in delta.settled {
            assert!(ids.is_sorted());
            let stored = self.sums.ids.entry((channel, minute)).or_default();
            stored.extend(ids);
            stored.sort_unstable();
            stored.dedup();
            let size = stored.len() as u64;
            let uniques = self.sums.uniques.entry((channel, minute)).or_default();
            *uniques = (*uniques).max(size);
        }
        for (row, counts) in delta.phrases {
            *self.sums.phrases.entry(row).or_default() += counts.matches;
        }
        for (row, counts) in delta.emotes {
            *self.sums.emotes.entry(row).or_default() += counts.occurrences;
        }
        for change in &delta.coverage {
            match *change {
                CoverageChange::Open { channel_id, instance, connection, since_ms } => {
                    self.restored.open_coverage.insert((channel_id, instance, connection), since_ms);
                }
                CoverageChange::Close { channel_id, instance, connection, until_ms } => {
                    let since_ms = self.restored.open_coverage.remove(&(channel_id, instance, connection)).unwrap();
                    let covered: Covered = (since_ms, until_ms, (instance, connection));
                    self.elsewhere.covered.entry(channel_id).or_default().push(covered);
                }
            }
        }
        self.restored.heard.extend(delta.heard);
        for change in &delta.wanted {
            match change {
                WantedChange::Begin { channel_id, since_ms, .. } => {
                    self.restored.wanted.insert(*channel_id, *since_ms);
                }
                WantedChange::End { channel_id, .. } => {
                    self.restored.wanted.remove(channel_id);
                }
            }
        }
        self.sums.coverage.extend(delta.coverage);
        self.sums.wanted.extend(delta.wanted);
        self.elsewhere.counted.extend(delta.uncovered.into_keys());
    }

    /// As the store: late lines are decided on with what it knew before.
    fn whole(&mut self, shard: &mut Shard) {
        let Some(WholeFlush { fast, slow, late }) = shard.take_whole(0) else {
            return;
        };
        let late = late::count(&late, &self.elsewhere);
        self.add_fast(fast.delta);
        self.add_fast(late.fast);
        for (slice, delta) in slow {
            self.add_slow(delta);
            self.restored.positions.insert(Group::Slow(slice).number(), fast.position.clone());
        }
        late.slow.into_iter().for_each(|delta| self.add_slow(delta));
        self.restored.positions.insert(Group::Fast.number(), fast.position);
    }

    fn slow(&mut self, shard: &mut Shard, slice: u8) {
        if shard.has_late() {
            return self.whole(shard);
        }
        if let Some(SlowFlush { position, delta }) = shard.take_slow(slice) {
            self.add_slow(delta);
            self.restored.positions.insert(Group::Slow(slice).number(), position);
        }
    }

    fn add_slow(&mut self, delta: SlowDelta) {
        for (row, counts) in delta.chatters {
            *self.sums.chatters.entry(row).or_default() += counts.messages;
        }
        for (row, count) in delta.chatter_emotes {
            *self.sums.chatter_emotes.entry(row).or_default() += count;
        }
    }

    /// When ids are stored differs, where a take-over could not read the whole horizon again; the sizes do not.
    fn into_sums(self) -> Sums {
        Sums { ids: BTreeMap::new(), ..self.sums }
    }

    fn all(&mut self, shard: &mut Shard) {
        self.fast(shard);
        for slice in 0..SLICES {
            self.slow(shard, slice);
        }
    }
}

/// One message of the stream.
#[derive(Debug, Clone)]
pub(super) enum Published {
    Batch(Batch),
    Plan(Arc<ActivePlan>),
}

pub(super) type Stream = Vec<(Millis, Published)>;

pub(super) fn apply(shard: &mut Shard, seq: u64, (stream_time_ms, published): &(Millis, Published)) {
    match published {
        Published::Batch(batch) => drop(shard.apply_batch(at(seq, *stream_time_ms), batch)),
        Published::Plan(plan) => shard.apply_directive(at(seq, *stream_time_ms), Some(Arc::clone(plan))),
    }
}

/// Takes the shard over from what is stored, warms up, and returns it at the lowest position.
pub(super) fn take_over(stored: &Stored, stream: &Stream) -> Shard {
    let lowest = lowest(&stored.restored);
    let plan = stream.iter().find_map(|(_, published)| match published {
        Published::Plan(plan) if plan.name == lowest.plan => Some(Arc::clone(plan)),
        _ => None,
    });
    let mut shard = Shard::restore(&stored.restored, plan.unwrap_or_default());
    if let Some(from_ms) = warm_up_from(&lowest) {
        for (index, message) in stream.iter().enumerate().take(lowest.seq as usize) {
            if message.0 >= from_ms {
                apply(&mut shard, index as u64 + 1, message);
            }
        }
        assert_eq!((shard.fast_rows(), shard.slow_rows(0)), (0, 0), "a warm-up counts nothing");
    }
    assert!(shard.is_warm());
    shard
}

/// What to do after a message of the stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Nothing,
    Fast,
    Slow(u8),
    Die,
}

pub(super) fn undisturbed(stream: &Stream) -> Sums {
    let (mut shard, mut stored) = (fresh(), Stored::default());
    for (index, message) in stream.iter().enumerate() {
        apply(&mut shard, index as u64 + 1, message);
    }
    stored.all(&mut shard);
    stored.into_sums()
}

pub(super) fn disturbed(stream: &Stream, acts: &[Act]) -> Sums {
    let mut stored = Stored::default();
    let mut shard = fresh();
    let mut acts = acts.iter();
    let mut seq = 1;
    while let Some(message) = stream.get(seq as usize - 1) {
        apply(&mut shard, seq, message);
        seq += 1;
        match acts.next().copied().unwrap_or(Act::Nothing) {
            Act::Nothing => {}
            Act::Fast => stored.fast(&mut shard),
            Act::Slow(slice) => stored.slow(&mut shard, slice),
            Act::Die => {
                shard = take_over(&stored, stream);
                seq = lowest(&stored.restored).seq + 1;
            }
        }
    }
    stored.all(&mut shard);
    stored.into_sums()
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Nothing),
        4 => Just(Act::Fast),
        4 => (0..SLICES).prop_map(Act::Slow),
        1 => Just(Act::Die),
    ];
    proptest::collection::vec(act, 0..200)
}
