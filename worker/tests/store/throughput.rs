//! How many rows a second one shard commits: printed, not judged, since it depends on the machine.

use crate::support::{CREATED, HOUR, MINUTE, NOON, TestStore, at};
use clamor_worker::aggregate::delta::{ChannelCounts, ChatterCounts, EmoteCounts, FastDelta, SlowDelta};
use std::time::Instant;

fn fast_flush(minute: u64, channels: u64, emotes: u64) -> FastDelta {
    let mut delta = FastDelta::default();
    for channel in 1..=channels {
        let counts = ChannelCounts { messages: 5, characters: 100, words: 20, ..ChannelCounts::default() };
        delta.channels.insert((channel, minute), counts);
        delta.uniques.insert((channel, minute), 4);
        for emote in 1..=emotes {
            delta.emotes.insert((channel, minute, emote << 40), EmoteCounts { occurrences: 2, messages: 1 });
        }
    }
    delta
}

fn slow_flush(hour: u64, rows: u64) -> SlowDelta {
    let counts = ChatterCounts { messages: 1, characters: 20, words: 4, emotes: 1, bits: 0 };
    let chatters = (0..rows).map(|row| ((row % 200 + 1, hour, row / 2 + 1), counts)).collect();
    SlowDelta { chatters, ..SlowDelta::default() }
}

#[tokio::test]
async fn rows_per_second_are_measured() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let (mut rows, mut seq) = (0, 0);
    let begun = Instant::now();
    for flush in 0..20 {
        let delta = fast_flush(NOON + flush / 10 * MINUTE, 200, 20);
        rows += test.store.commit_fast(&claim, seq, &at(seq + 1), CREATED, &delta).await.unwrap().rows;
        seq += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "fast: {rows} rows in {seconds:.2} s: {:.0} rows/s, {:.1} ms a flush",
        rows as f64 / seconds,
        seconds * 50.0
    );
    let (mut rows, mut seq) = (0, 0);
    let begun = Instant::now();
    for flush in 0..4 {
        let delta = slow_flush(NOON + flush / 2 * HOUR, 20_000);
        rows += test.store.commit_slow(&claim, 0, seq, &at(seq + 1), &delta).await.unwrap().rows;
        seq += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("slow: {rows} rows in {seconds:.2} s: {:.0} rows/s", rows as f64 / seconds);
    let begun = Instant::now();
    let mut waits = Vec::new();
    for seq in 20..60 {
        let flush = Instant::now();
        test.store.commit_fast(&claim, seq, &at(seq + 1), CREATED, &fast_flush(NOON, 20, 2)).await.unwrap();
        waits.push(flush.elapsed());
    }
    waits.sort_unstable();
    println!("small flushes of 60 rows: median {:?}, worst {:?}, {:?} in all", waits[20], waits[39], begun.elapsed());
    assert_eq!(
        test.number("SELECT messages FROM channel_minute WHERE channel_id = 1 AND minute = '2026-01-10 12:00Z'").await,
        250
    );
}
