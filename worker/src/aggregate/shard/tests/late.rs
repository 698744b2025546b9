//! What at least one worker brought counts exactly once, however late its batches come, and whatever dies.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::stored::*;
use super::*;
use crate::aggregate::late::LATE_AFTER_MS;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MINUTE: Millis = 60_000;

/// One worker's fate, in ms from the beginning.
#[derive(Debug, Clone)]
struct Fate {
    /// When the bus does not take its batches: beginning and length.
    outages: Vec<(Millis, Millis)>,
    /// When it is killed, and how long until the next instance has joined.
    kills: Vec<(Millis, Millis)>,
    /// How long a line takes to it.
    delay: Millis,
}

impl Fate {
    /// When what is packed then enters the stream.
    fn published(&self, at: Millis) -> Millis {
        self.outages
            .iter()
            .fold(at, |at, &(from, length)| if at >= from && at < from + length { from + length } else { at })
    }

    fn lives(&self) -> Vec<(Millis, Millis)> {
        let mut kills = self.kills.clone();
        kills.sort_unstable();
        let mut lives = Vec::new();
        let mut began = 0;
        for (at, away) in kills {
            if at > began {
                lives.push((began, at));
                began = at + away;
            }
        }
        lives.push((began, Millis::MAX));
        lives
    }
}

/// When each line was written, where, and by whom.
type Lines = Vec<(Millis, u64, u64)>;

/// Batches of a worker: when they enter the stream, and what is in them. What a killed instance had spilled, the next
/// one publishes.
fn batches(worker: u64, fate: &Fate, lines: &Lines, until: Millis, heard: &mut BTreeSet<u128>) -> Vec<(Millis, Batch)> {
    let mut batches = Vec::new();
    for (life, (began, ended)) in fate.lives().into_iter().enumerate() {
        let instance = 10 * (worker + 1) + life as u64;
        let mut said: Vec<(Millis, Event)> = vec![(began, snapshot(began))];
        for (index, &(written, channel, person)) in lines.iter().enumerate() {
            let at = written + fate.delay;
            if at > began && at < ended {
                let mut line = message(index as u128 + 1, channel, T0 + written, person, "a");
                line.received_at_ms = T0 + at;
                heard.insert(line.key());
                said.push((at, line));
            }
        }
        let marks = (began..ended.min(until)).step_by(5_000).skip(1).map(|at| (at, mark(at)));
        said.extend(marks);
        said.sort_by_key(|(at, _)| *at);
        let mut last = 0;
        for (number, (at, event)) in said.into_iter().enumerate() {
            last = fate.published(at).max(last);
            batches.push((last, batch(instance, number as u64 + 1, vec![event])));
        }
    }
    batches
}

fn snapshot(at: Millis) -> Event {
    coverage_event(0, T0 + at, Kind::Snapshot(wire::Snapshot { channel_ids: vec![1, 2] }))
}

fn mark(at: Millis) -> Event {
    let marks = vec![wire::Mark { connection: 1, heard_until_ms: (T0 + at).saturating_sub(2_500) }];
    coverage_event(0, T0 + at, Kind::Marks(wire::Marks { marks }))
}

/// The stream of all workers, and the keys of what any of them heard.
fn stream(fates: &[Fate], lines: &Lines) -> (Stream, BTreeSet<u128>) {
    let mut heard = BTreeSet::new();
    let until = lines.iter().map(|line| line.0).max().unwrap_or(0) + MINUTE;
    let mut all: Vec<(Millis, Batch)> =
        (0..).zip(fates).flat_map(|(worker, fate)| batches(worker, fate, lines, until, &mut heard)).collect();
    all.sort_by_key(|(at, _)| *at);
    (all.into_iter().map(|(at, batch)| (T0 + at, Published::Batch(batch))).collect(), heard)
}

/// Messages and unique chatters of each minute, of the lines with these keys.
fn expected(lines: &Lines, keys: &BTreeSet<u128>) -> BTreeMap<(u64, Millis), (u64, u64)> {
    let mut minutes: BTreeMap<(u64, Millis), (u64, BTreeSet<u64>)> = BTreeMap::new();
    for (index, &(written, channel, person)) in lines.iter().enumerate() {
        if keys.contains(&(index as u128 + 1)) {
            let minute = minutes.entry((channel, window::minute(T0 + written))).or_default();
            minute.0 += 1;
            minute.1.insert(person);
        }
    }
    minutes.into_iter().map(|(row, (messages, people))| (row, (messages, people.len() as u64))).collect()
}

fn counted(sums: &Sums) -> BTreeMap<(u64, Millis), (u64, u64)> {
    let uniques = |row| sums.uniques.get(row).copied().unwrap_or(0);
    sums.channels.iter().map(|(row, counts)| (*row, (counts[0], uniques(row)))).collect()
}

fn fates() -> impl Strategy<Value = Fate> {
    let outages = proptest::collection::vec((0..40 * MINUTE, 0..25 * MINUTE), 0..3);
    let kills = proptest::collection::vec((0..40 * MINUTE, 0..3 * MINUTE), 0..3);
    (outages, kills, 10u64..80).prop_map(|(outages, kills, delay)| Fate { outages, kills, delay })
}

fn lines() -> impl Strategy<Value = Lines> {
    proptest::collection::vec((0..45 * MINUTE, 1u64..3, 1u64..6), 50..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_any_worker_brought_counts_once_however_late(
        fates in proptest::collection::vec(fates(), 1..4),
        lines in lines(),
        acts in acts(),
    ) {
        let (stream, heard) = stream(&fates, &lines);
        let sums = disturbed(&stream, &acts);
        prop_assert_eq!(counted(&sums), expected(&lines, &heard));
        let by_chatter: u64 = sums.chatters.values().sum();
        prop_assert_eq!(by_chatter, heard.len() as u64);
    }
}

fn reliable() -> Fate {
    Fate { outages: vec![], kills: vec![], delay: 20 }
}

fn every_second(minutes: u64) -> Lines {
    (1..minutes * 60).map(|second| (second * 1_000, 1, second % 7 + 1)).collect()
}

#[test]
fn a_spill_that_comes_after_the_horizon_counts_nothing_that_the_other_worker_heard() {
    let spilled = Fate { outages: vec![(2 * MINUTE, 20 * MINUTE)], ..reliable() };
    let lines = every_second(30);
    let (stream, heard) = stream(&[reliable(), spilled], &lines);
    assert_eq!(counted(&undisturbed(&stream)), expected(&lines, &heard));
}

#[test]
fn without_another_worker_a_late_spill_counts() {
    let spilled = Fate { outages: vec![(2 * MINUTE, 20 * MINUTE)], ..reliable() };
    let lines = every_second(30);
    let (stream, heard) = stream(&[spilled], &lines);
    assert_eq!(heard.len(), lines.len());
    assert_eq!(counted(&undisturbed(&stream)), expected(&lines, &heard));
}

#[test]
fn a_late_spill_fills_exactly_what_the_killed_one_did_not_hear() {
    let spilled = Fate { outages: vec![(2 * MINUTE, 25 * MINUTE)], ..reliable() };
    let killed = Fate { kills: vec![(10 * MINUTE, 3 * MINUTE)], delay: 30, ..reliable() };
    let lines = every_second(30);
    let (stream, heard) = stream(&[spilled, killed], &lines);
    assert_eq!(heard.len(), lines.len());
    assert_eq!(counted(&undisturbed(&stream)), expected(&lines, &heard));
}

#[test]
fn all_groups_commit_a_late_line_together() {
    let mut shard = fresh();
    let line = |number: u64, age| {
        let mut line = message(number.into(), 5, T0, 9, "a");
        line.received_at_ms = T0 - age;
        line.sent_at_ms = T0 - age;
        batch(1, number, vec![line])
    };
    shard.apply_batch(at(1, T0), &line(1, LATE_AFTER_MS));
    assert!(!shard.has_late(), "its key is still in memory wherever it was counted");
    shard.apply_batch(at(2, T0), &line(2, LATE_AFTER_MS + 1));
    assert!(shard.has_late());
    let flush = shard.take_whole(0).unwrap();
    assert_eq!((flush.late.len(), flush.slow.len()), (1, usize::from(SLICES)));
    assert_eq!(flush.fast.delta.channels.values().map(|counts| counts.messages).sum::<u64>(), 1);
    assert!(!shard.has_late());
}
