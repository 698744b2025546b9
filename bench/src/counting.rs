//! Aggregation without SQL: decode, batch numbers, duplicates, uniques, phrases, all tables; on one thread.

use crate::budget::{Bar, Figure};
use crate::crowd::{self, Crowd, precise};
use anyhow::Result;
use clamor_chat::wire::{Batch, decode_batch, encode_batch};
use clamor_worker::aggregate::delta::{Restored, SLICES};
use clamor_worker::aggregate::plan::{ActivePhrases, ActivePlan};
use clamor_worker::aggregate::shard::{Arrival, Shard};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const T0: u64 = 1_700_000_000_000;
const EVENTS: u64 = 100;
const BATCHES: u64 = 4_000;
const ROUNDS: usize = 5;
/// A flush of the fast group takes this many batches, one of the slow groups five times as many.
const FLUSH_EVERY: u64 = 200;

/// Encoded batches of 100 messages, 50 ms apart.
#[must_use]
pub fn stream() -> Vec<Vec<u8>> {
    let mut crowd = Crowd::new(7);
    let batch = |number| {
        let events = (0..EVENTS).map(|_| {
            let channel = crowd.channel();
            crowd.message(channel, T0 + number * 50)
        });
        encode_batch(&Batch { slot: "a".to_owned(), instance: 1, number: number + 1, events: events.collect() })
    };
    (0..BATCHES).map(batch).collect()
}

/// A shard at its stream's beginning, with the crowd's plan.
#[must_use]
pub fn shard() -> Shard {
    let (plan, phrases) = crowd::plan(T0);
    let plan = ActivePlan::resolve("plan".to_owned(), &plan, Arc::new(ActivePhrases::compile(&phrases)));
    let mut shard = Shard::restore(&Restored::default(), Arc::default());
    shard.apply_directive(Arrival { seq: 1, stream_time_ms: T0, msg_id: None }, Some(Arc::new(plan)));
    shard
}

/// Counts a stream; what would be committed is dropped.
#[must_use]
pub fn count(mut shard: Shard, stream: &[Vec<u8>]) -> Shard {
    for (number, payload) in (0..).zip(stream) {
        let arrival = Arrival { seq: number + 2, stream_time_ms: T0 + number * 50, msg_id: Some("1.1") };
        if let Ok(batch) = decode_batch(payload) {
            black_box(shard.apply_batch(arrival, &batch));
        }
        flush(&mut shard, number);
    }
    shard
}

fn flush(shard: &mut Shard, batches: u64) {
    if batches.is_multiple_of(FLUSH_EVERY) {
        black_box(shard.take_fast(0));
    }
    if batches.is_multiple_of(5 * FLUSH_EVERY) {
        for slice in 0..SLICES {
            black_box(shard.take_slow(slice));
        }
    }
}

/// Messages in a second of one core: the best of a few rounds, by the thread's CPU time.
///
/// # Errors
/// None.
pub fn speed() -> Result<Vec<Figure>> {
    let stream = stream();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let shard = shard();
        let before = cpu_time();
        let shard = count(shard, &stream);
        best = best.min(cpu_time() - before);
        drop(shard);
    }
    let measured = precise(BATCHES * EVENTS) / best.as_secs_f64();
    Ok(vec![Figure {
        name: "aggregation without SQL, one core",
        bar: Bar::AtLeast(400_000.0),
        measured,
        unit: "messages/s",
        flink: "",
    }])
}

/// CPU time of this thread so far.
#[must_use]
pub fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Duration::ZERO };
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
