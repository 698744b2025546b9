//! The whole way of a line: how many can take it.

use crate::budget::{Bar, Figure};
use crate::cpu::Used;
use crate::crowd::{self, Crowd, precise};
use crate::fleet::{self, Fleet, LIMIT, SHARDS, Shape};
use anyhow::{Context, Result};
use bytes::Bytes;
use clamor_bus::Bus;
use clamor_chat::shard;
use clamor_chat::wire::{Batch, Directive, encode_batch};
use clamor_simulator::Ledger;
use clamor_testkit::{Needs, eventually};
use serde_json::json;
use sqlx::PgPool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What waits in the bus for the aggregator: a minute at its bar.
const WAITING: u64 = 3_600_000;
const EVENTS: usize = 100;
/// How long the sockets are flooded, and with how many messages a second: twice the bar. Ingest reads faster than two cores
/// can count, so without a limit most of it would only be spilled.
const FLOOD: Duration = Duration::from_secs(30);
const FLOOD_RATE: f64 = 80_000.0;

/// Everything on the machine's cores, the simulator too, until all that was said is committed.
///
/// # Errors
/// When a process fails.
pub async fn sockets() -> Result<Vec<Figure>> {
    let fleet = Fleet::start(Shape { channels: crowd::CHANNELS, redundancy: 1 }).await?;
    let began = Instant::now();
    let workers = || fleet.ingest.iter().chain([&fleet.aggregate]).map(|worker| &**worker);
    let idle = Used::now(workers(), &fleet.servers)?;
    // Without an end: an order of so many seconds goes on until all of them are said, at whatever rate.
    fleet.simulator.post("/traffic", &json!({ "rate": FLOOD_RATE, "wait_for_readers": true })).await?;
    tokio::time::sleep(FLOOD).await;
    fleet.simulator.stop_speaking().await?;
    let used = Used::now(workers(), &fleet.servers)?;
    let simulated = fleet.simulator.process().cpu_time()?;
    fleet.drain().await?;
    let took = began.elapsed();
    let ledger: Ledger = fleet.simulator.ledger().await?;
    let said = precise(ledger.totals().messages);
    let counted = fleet::number(&fleet.store, "SELECT sum(messages) FROM channel_minute").await?;
    anyhow::ensure!((said - counted).abs() < 0.5, "{said} messages were said and {counted} counted");
    let used = used.since(idle, said);
    println!("sockets into Postgres: {took:.1?}; while they were flooded {used}, the simulator {simulated:.1?}");
    Ok(vec![Figure {
        name: "sockets into Postgres, everything on",
        bar: Bar::AtLeast(40_000.0),
        measured: said / took.as_secs_f64(),
        unit: "messages/s",
        flink: "13.2k",
    }])
}

/// What a full bus is emptied with: from the aggregator's start until it has committed everything and left.
///
/// # Errors
/// When a process fails.
pub async fn bus() -> Result<Vec<Figure>> {
    let servers = fleet::servers(Needs::Both).await?;
    let (bus, _) = fleet::bus(servers.nats_url()).await?;
    let waiting = precise(fill(&bus).await?);
    let began = Instant::now();
    let aggregate = fleet::aggregate(&servers)?;
    let idle = Used::now([&*aggregate], &servers)?;
    aggregate.ready(LIMIT).await;
    let store = fleet::store(&servers).await?;
    caught_up(&bus, &store).await?;
    let memory = aggregate.memory_bytes()?;
    let used = Used::now([&*aggregate], &servers)?;
    aggregate.terminate_and_wait(LIMIT).await?;
    let took = began.elapsed();
    let counted = fleet::number(&store, "SELECT sum(messages) FROM channel_minute").await?;
    anyhow::ensure!((counted - waiting).abs() < 0.5, "{counted} of {waiting} messages are counted");
    let used = used.since(idle, waiting);
    println!(
        "bus into Postgres: {took:.1?}; until it was caught up {used}; the aggregator took {:.0} MB",
        megabytes(memory)
    );
    Ok(vec![Figure {
        name: "bus into Postgres",
        bar: Bar::AtLeast(60_000.0),
        measured: waiting / took.as_secs_f64(),
        unit: "messages/s",
        flink: "13.2k",
    }])
}

/// Fills the streams; how many messages are in them.
async fn fill(bus: &Bus) -> Result<u64> {
    let (mut plan, phrases) = crowd::plan(now_ms());
    let phrases = bus.put_set("phrases", &phrases).await?;
    let wanted = std::mem::take(&mut plan.wanted);
    plan.phrases = Some(phrases);
    for number in 0..SHARDS {
        plan.wanted =
            wanted.iter().filter(|channel| shard::shard(channel.channel_id, SHARDS) == number).cloned().collect();
        let directive = Directive { plan: bus.put_set("plan", &plan).await?, revision: 1, planner: 1 };
        bus.publish_directive(number, &directive, 0).await?;
    }
    let shards: Vec<_> = (0..SHARDS).map(|number| tokio::spawn(publish(bus.clone(), number))).collect();
    let mut published = 0;
    for shard in shards {
        published += shard.await??;
    }
    Ok(published)
}

/// Publishes the messages of one shard's channels, batch by batch, one on the way as ingest has it; how many.
async fn publish(bus: Bus, number: u16) -> Result<u64> {
    let mut crowd = Crowd::new(7 + u64::from(number));
    let began_ms = now_ms();
    let mut events = Vec::with_capacity(EVENTS);
    let (mut published, mut batches) = (0, 0);
    for message in 0..WAITING {
        let channel_id = crowd.channel();
        if shard::shard(channel_id, SHARDS) == number {
            // The minute in which they would have been said, up to now.
            let sent_at_ms = began_ms - 60_000 + message * 60_000 / WAITING;
            events.push(crowd.message(channel_id, sent_at_ms));
            published += 1;
        }
        if events.len() == EVENTS || (message + 1 == WAITING && !events.is_empty()) {
            batches += 1;
            let batch =
                Batch { slot: "a".to_owned(), instance: 1, number: batches, events: std::mem::take(&mut events) };
            let payload = Bytes::from(encode_batch(&batch));
            let id = format!("1.{number}.{batches}");
            bus.publish_batch(number, &id, payload).await.context("failed to fill the bus")?;
        }
    }
    Ok(published)
}

/// Awaits that the fast group of every shard stands at its stream's end.
async fn caught_up(bus: &Bus, store: &PgPool) -> Result<()> {
    for number in 0..SHARDS {
        let last = precise(bus.stream_state(number).await?.last_seq);
        let query = format!("SELECT coalesce(max(seq), 0) FROM shard_group WHERE grp = 0 AND shard = {number}");
        eventually("the shard is at its stream's end", 4 * LIMIT, async || match fleet::number(store, &query).await {
            Ok(seq) if seq >= last => Ok(()),
            other => Err(format!("{other:?} of {last}")),
        })
        .await;
    }
    Ok(())
}

/// Bytes as megabytes of 10^6.
#[must_use]
pub fn megabytes(bytes: u64) -> f64 {
    precise(bytes) / 1e6
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
