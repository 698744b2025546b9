//! What the aggregation's state holds, measured in a process of its own.

use crate::budget::{Bar, Figure};
use crate::counting::{self, T0};
use crate::crowd::Crowd;
use crate::fleet::SHARDS;
use crate::pipeline::megabytes;
use anyhow::{Context, Result};
use clamor_chat::shard;
use clamor_chat::wire::{Batch, Event, MAX_EVENTS};
use clamor_worker::aggregate::delta::SLICES;
use clamor_worker::aggregate::shard::{Arrival, Shard};
use std::hint::black_box;

const SECONDS: u64 = 600;
/// As a busy aggregator flushes: the fast group, and each slice of the slow one.
const FAST_MS: u64 = 2_000;
const SLOW_MS: u64 = 30_000;

pub(crate) async fn memory() -> Result<Vec<Figure>> {
    let at = async |rate: u64, name, bar| {
        Ok::<_, anyhow::Error>(Figure {
            name,
            bar: Bar::AtMost(bar),
            measured: megabytes(state_at(rate).await?),
            unit: "MB",
            flink: "1.8 GB",
        })
    };
    Ok(vec![
        at(2_000, "aggregation state after 10 min at 2,000/s", 64.0).await?,
        at(60_000, "aggregation state after 10 min at 60,000/s", 700.0).await?,
    ])
}

async fn state_at(rate: u64) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = tokio::process::Command::new(program).args(["--state-at", &rate.to_string()]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("no figure: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// The most that the state of all shards takes in ten minutes of a rate, by whose end both generations of keys are full.
/// Every message is another one, by the whole crowd. Runs in a process of its own, which this is. In bytes, with those of
/// the program itself.
#[must_use]
pub fn state_after_ten_minutes(messages_per_second: u64) -> u64 {
    // As the generations are: the ten minutes end with two full ones.
    let began_ms = T0.next_multiple_of(SECONDS * 1_000);
    let mut crowd = Crowd::new(7);
    let mut shards: Vec<Busy> = (0..SHARDS).map(|_| Busy::new(began_ms)).collect();
    let total = messages_per_second * SECONDS;
    let mut most = 0;
    for number in 0..total {
        let at_ms = began_ms + number * SECONDS * 1_000 / total;
        let channel = crowd.channel();
        let shard = usize::from(shard::shard(channel, SHARDS));
        shards[shard].take(crowd.message(channel, at_ms), at_ms);
        if number.is_multiple_of(total.div_ceil(100)) || number + 1 == total {
            most = most.max(resident_bytes());
        }
    }
    drop(black_box(shards));
    most
}

/// A shard and the batch that its next message goes to.
struct Busy {
    shard: Shard,
    batch: Batch,
    fast_ms: u64,
    slow_ms: u64,
}

impl Busy {
    fn new(began_ms: u64) -> Self {
        let batch = Batch { slot: "a".to_owned(), instance: 1, number: 1, events: Vec::new() };
        Self { shard: counting::shard(), batch, fast_ms: began_ms, slow_ms: began_ms }
    }

    fn take(&mut self, event: Event, at_ms: u64) {
        self.batch.events.push(event);
        if self.batch.events.len() < MAX_EVENTS {
            return;
        }
        let arrival = Arrival { seq: self.batch.number + 1, stream_time_ms: at_ms, msg_id: Some("1.1") };
        black_box(self.shard.apply_batch(arrival, &self.batch));
        self.batch.number += 1;
        self.batch.events.clear();
        self.flush(at_ms);
    }

    fn flush(&mut self, at_ms: u64) {
        if at_ms >= self.fast_ms + FAST_MS {
            self.fast_ms = at_ms;
            black_box(self.shard.take_fast(0));
        }
        if at_ms >= self.slow_ms + SLOW_MS {
            self.slow_ms = at_ms;
            for slice in 0..SLICES {
                black_box(self.shard.take_slow(slice));
            }
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}
