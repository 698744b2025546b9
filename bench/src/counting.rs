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

const T0: u64 = 1_700_000_000_000;
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

/// What the state of all shards holds after ten minutes of a rate, when both generations of keys are full. Runs in a
/// process of its own, which this is. In bytes, with those of the program itself.
#[must_use]
pub fn state_after_ten_minutes(messages_per_second: u64) -> u64 {
    const SHARDS: u64 = 4;
    const SECONDS: u64 = 600;
    let mut batches: Vec<Batch> = stream().iter().take(500).filter_map(|payload| decode_batch(payload).ok()).collect();
    let mut shards: Vec<Shard> = (0..SHARDS).map(|_| shard()).collect();
    let total = messages_per_second * SECONDS / EVENTS;
    let mut most = 0;
    for number in 0..total {
        let at_ms = T0 + number * SECONDS * 1_000 / total;
        let (in_shard, shard) = (number / SHARDS, (number % SHARDS) as usize);
        let index = usize::try_from(number % batches.len() as u64).unwrap_or_default();
        let batch = &mut batches[index];
        batch.number = in_shard + 1;
        for (event, place) in batch.events.iter_mut().zip(0..) {
            event.sent_at_ms = at_ms;
            event.received_at_ms = at_ms;
            event.set_key(scatter(number * EVENTS + place));
        }
        let arrival = Arrival { seq: in_shard + 2, stream_time_ms: at_ms, msg_id: Some("1.1") };
        black_box(shards[shard].apply_batch(arrival, batch));
        // As a busy aggregator: a fast commit every two seconds, a slow one every thirty.
        flush(&mut shards[shard], in_shard);
        if number.is_multiple_of(total.div_ceil(50)) || number + 1 == total {
            most = most.max(resident_bytes());
        }
    }
    drop(black_box(shards));
    most
}

/// A key for a number: as even as a message id's hash.
fn scatter(number: u64) -> u128 {
    let mix = |mut value: u64| {
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    };
    u128::from(mix(number + 1)) << 64 | u128::from(mix(!number)) | 1
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}
