//! After any take-over, at whatever positions of the groups, the sums are those of an undisturbed run.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::*;
use crate::aggregate::dedupe::GENERATION_MS;
use proptest::prelude::*;

/// A store in memory: what the groups' flushes add up to.
#[derive(Debug, Default, Clone, PartialEq)]
struct Sums {
    channels: BTreeMap<(u64, Millis), [u64; 4]>,
    uniques: BTreeMap<(u64, Millis), u64>,
    ids: BTreeMap<(u64, Millis), Vec<u64>>,
    phrases: BTreeMap<(u64, Millis, u64), u64>,
    emotes: BTreeMap<(u64, Millis, u64), u64>,
    chatters: BTreeMap<(u64, Millis, u64), u64>,
    chatter_emotes: BTreeMap<(u64, Millis, u64, u64), u64>,
    coverage: Vec<CoverageChange>,
    wanted: Vec<WantedChange>,
}

/// The store, and where it says that each group stands.
#[derive(Debug, Default, Clone)]
struct Stored {
    sums: Sums,
    restored: Restored,
}

impl Stored {
    fn fast(&mut self, shard: &mut Shard) {
        let Some(FastFlush { position, delta, sent_ms: _ }) = shard.take_fast(0) else {
            return;
        };
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
            self.sums.uniques.insert((channel, minute), stored.len() as u64);
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
                CoverageChange::Close { channel_id, instance, connection, until_ms: _ } => {
                    self.restored.open_coverage.remove(&(channel_id, instance, connection));
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
        self.restored.positions.insert(Group::Fast.number(), position);
    }

    fn slow(&mut self, shard: &mut Shard, slice: u8) {
        let Some(SlowFlush { position, delta }) = shard.take_slow(slice) else {
            return;
        };
        for (row, counts) in delta.chatters {
            *self.sums.chatters.entry(row).or_default() += counts.messages;
        }
        for (row, count) in delta.chatter_emotes {
            *self.sums.chatter_emotes.entry(row).or_default() += count;
        }
        self.restored.positions.insert(Group::Slow(slice).number(), position);
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
enum Published {
    Batch(Batch),
    Plan(Arc<ActivePlan>),
}

type Stream = Vec<(Millis, Published)>;

fn apply(shard: &mut Shard, seq: u64, (stream_time_ms, published): &(Millis, Published)) {
    match published {
        Published::Batch(batch) => drop(shard.apply_batch(at(seq, *stream_time_ms), batch)),
        Published::Plan(plan) => shard.apply_directive(at(seq, *stream_time_ms), Some(Arc::clone(plan))),
    }
}

/// Takes the shard over from what is stored, warms up, and returns it at the lowest position.
fn take_over(stored: &Stored, stream: &Stream) -> Shard {
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
enum Act {
    Nothing,
    Fast,
    Slow(u8),
    Die,
}

fn undisturbed(stream: &Stream) -> Sums {
    let (mut shard, mut stored) = (fresh(), Stored::default());
    for (index, message) in stream.iter().enumerate() {
        apply(&mut shard, index as u64 + 1, message);
    }
    stored.all(&mut shard);
    stored.sums
}

fn disturbed(stream: &Stream, acts: &[Act]) -> Sums {
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
    stored.sums
}

/// Chat of two redundant workers with repeated batches, dropped ones, late lines, joins and directives.
fn streams() -> impl Strategy<Value = Stream> {
    let entry = (0u64..90_000, 0u8..20, 0u64..2, 1u64..4, 1u64..8, 0u128..60, 0u64..900_000);
    proptest::collection::vec(entry, 1..120).prop_map(|entries| {
        let plans = [plan("plan-1", &[1, 2], &["hello"]), plan("plan-2", &[2, 3], &["ell", "a"])];
        let mut last: [Batch; 2] = std::array::from_fn(|instance| batch(instance as u64 + 1, 0, vec![]));
        let mut now = T0;
        let mut stream = Stream::new();
        let mut lines: BTreeMap<u128, Event> = BTreeMap::new();
        for (step, act, instance, channel, person, key, age) in entries {
            now += step;
            let late = if act % 5 == 0 { age } else { age % 1_500 };
            let sent = now.saturating_sub(late).max(T0 - 600_000);
            // Copies of a line agree.
            let line = lines.entry(key).or_insert_with(|| {
                with_emote(message(key + 1, channel, sent, person, "hello a"), &format!("{}", key % 3), 1)
            });
            let coverage = match act {
                1 => Some(Kind::Joined(wire::Joined {})),
                2 => Some(Kind::Parted(wire::Parted {})),
                3 => Some(Kind::ConnectionEnded(wire::ConnectionEnded {})),
                4 => Some(Kind::Snapshot(wire::Snapshot { channel_ids: vec![channel, 3] })),
                _ => None,
            };
            let last = &mut last[instance as usize];
            match act {
                5 => {
                    stream.push((now, Published::Plan(Arc::clone(&plans[instance as usize]))));
                    continue;
                }
                // Sent again after its acknowledgement was lost.
                7 if last.number > 0 => {
                    stream.push((now, Published::Batch(last.clone())));
                    continue;
                }
                // One was dropped.
                6 => last.number += 2,
                _ => last.number += 1,
            }
            last.events = vec![line.clone()];
            last.events.extend(coverage.map(|kind| coverage_event(channel, now, kind)));
            stream.push((now, Published::Batch(last.clone())));
        }
        stream
    })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Nothing),
        4 => Just(Act::Fast),
        4 => (0..SLICES).prop_map(Act::Slow),
        1 => Just(Act::Die),
    ];
    proptest::collection::vec(act, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_a_function_of_the_stream_alone(stream in streams(), acts in acts()) {
        prop_assert_eq!(disturbed(&stream, &acts), undisturbed(&stream));
    }
}

#[test]
fn a_copy_that_comes_after_a_take_over_is_still_a_copy() {
    let line =
        |seq: u64, instance| (T0 + seq * 1_000, Published::Batch(batch(instance, 1, vec![message(1, 5, T0, 9, "a")])));
    let stream: Stream = vec![line(0, 1), line(200, 2)];
    let sums = disturbed(&stream, &[Act::Fast, Act::Nothing]);
    assert_eq!(disturbed(&stream, &[Act::Die, Act::Nothing]), sums);
    assert_eq!(sums.channels.values().map(|counts| counts[0]).sum::<u64>(), 1);
}

#[test]
fn a_minute_s_chatters_are_whole_after_a_take_over_across_generations() {
    let line = |key: u128, at_ms: Millis, person| {
        let number = key as u64;
        (at_ms, Published::Batch(batch(1, number, vec![message(key, 5, T0 + 240_000, person, "a")])))
    };
    let stream: Stream = vec![
        line(1, T0 + 240_000, 1),
        line(2, T0 + 250_000, 2),
        line(3, T0 + GENERATION_MS + 1_000, 3),
        line(4, T0 + 3 * GENERATION_MS, 4),
    ];
    let acts = [Act::Fast, Act::Nothing, Act::Die, Act::Nothing, Act::Fast, Act::Die];
    let sums = disturbed(&stream, &acts);
    assert_eq!(sums.uniques[&(5, window::minute(T0 + 240_000))], 4);
}
