//! Several aggregators, each a process of its own: who owns what, and what happens when one of them goes.

use crate::fixture::{Pipeline, event, message, now_ms};
use crate::{BY_CHATTER, MESSAGES};
use anyhow::Result;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Joined, Mark, Marks};
use clamor_testkit::{WorkerOptions, WorkerProcess, eventually};
use std::time::{Duration, Instant};

const SHARDS: u16 = 4;
const LIMIT: Duration = Duration::from_secs(60);
const OWNERS: &str = "SELECT count(DISTINCT owner) FROM clamor.shard WHERE lease_until > clock_timestamp()";
const MOST: &str = "SELECT max(n) FROM (SELECT count(*) AS n FROM clamor.shard GROUP BY owner) s";
/// All that have written so far, in the whole server: a transaction that only reads has no number.
const TRANSACTIONS: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
const OWNED: &str = "SELECT count(*) FROM clamor.shard WHERE lease_until > clock_timestamp()";

fn start(pipeline: &Pipeline, name: &str) -> Result<WorkerProcess> {
    let program = env!("CARGO_BIN_EXE_clamor-worker");
    WorkerProcess::start(WorkerOptions::aggregate(program, name, &pipeline.servers).env("PIPELINE", "test"))
}

/// Publishes ten lines as the next batch of the only worker.
async fn publish(pipeline: &Pipeline, number: u64) -> Result<()> {
    let lines = (0..10).map(|line| message(u128::from(number * 10 + line), 5, line + 1, "a"));
    pipeline.publish(1, number, lines.collect()).await.map(drop)
}

/// Publishes until the condition holds; how long that took, and the last number.
async fn publish_until(pipeline: &Pipeline, number: &mut u64, what: &str, owners: i64, most: i64) -> Duration {
    let began = Instant::now();
    eventually(what, LIMIT, async || {
        *number += 1;
        publish(pipeline, *number).await.map_err(|error| error.to_string())?;
        let seen = async |sql| pipeline.number(sql).await.map_err(|error| error.to_string());
        match (seen(OWNERS).await?, seen(MOST).await?, seen(OWNED).await?) {
            (found, largest, 4) if (found, largest) == (owners, most) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    began.elapsed()
}

async fn counted(pipeline: &Pipeline, number: u64) -> Result<()> {
    let lines = i64::try_from(number)? * 10;
    eventually("all lines are counted", LIMIT, async || match pipeline.number(MESSAGES).await {
        Ok(found) if found == lines => Ok(()),
        other => Err(format!("{other:?} instead of {lines}")),
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_gets_its_share_and_who_is_told_to_stop_hands_over_at_once() -> Result<()> {
    let pipeline = Pipeline::start(SHARDS).await?;
    let mut number = 0;
    let first = start(&pipeline, "one")?;
    publish_until(&pipeline, &mut number, "one owns all", 1, 4).await;
    let second = start(&pipeline, "two")?;
    let joined = publish_until(&pipeline, &mut number, "two own two each", 2, 2).await;
    first.terminate_and_wait(LIMIT).await?;
    let handed = publish_until(&pipeline, &mut number, "the other owns all", 1, 4).await;
    println!("a share after {joined:?}, all after {handed:?}");
    assert!(handed < Duration::from_secs(12), "released, and not expired after 15 s: {handed:?}");
    counted(&pipeline, number).await?;
    second.terminate_and_wait(LIMIT).await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, i64::try_from(number)? * 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_one_are_taken_when_its_leases_run_out() -> Result<()> {
    let pipeline = Pipeline::start(SHARDS).await?;
    let mut number = 0;
    let first = start(&pipeline, "one")?;
    let second = start(&pipeline, "two")?;
    publish_until(&pipeline, &mut number, "two own two each", 2, 2).await;
    first.kill9().await;
    let taken = publish_until(&pipeline, &mut number, "the other owns all", 1, 4).await;
    println!("taken after {taken:?}");
    assert!(taken < Duration::from_secs(20), "a lease is 15 s: {taken:?}");
    counted(&pipeline, number).await?;
    second.terminate_and_wait(LIMIT).await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, i64::try_from(number)? * 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_paused_longer_than_its_lease_counts_nothing_when_it_wakes() -> Result<()> {
    let pipeline = Pipeline::start(SHARDS).await?;
    let mut number = 0;
    let first = start(&pipeline, "one")?;
    publish_until(&pipeline, &mut number, "one owns all", 1, 4).await;
    let second = start(&pipeline, "two")?;
    second.ready(LIMIT).await;
    publish_until(&pipeline, &mut number, "two own two each", 2, 2).await;
    first.pause();
    publish_until(&pipeline, &mut number, "the other owns all", 1, 4).await;
    counted(&pipeline, number).await?;
    first.resume();
    publish_until(&pipeline, &mut number, "both own two again", 2, 2).await;
    counted(&pipeline, number).await?;
    first.terminate_and_wait(LIMIT).await?;
    second.terminate_and_wait(LIMIT).await?;
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), {
        let lines = i64::try_from(number)? * 10;
        (lines, lines)
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_a_shard_is_one_transaction_in_five_seconds() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = start(&pipeline, "one")?;
    aggregator.ready(LIMIT).await;
    pipeline.publish(1, 1, vec![event(0, 5, Kind::Joined(Joined {}))]).await?;
    pipeline.eventually("SELECT count(*) FROM clamor.coverage", 1).await;
    // Postgres looks after its own tables as well, in transactions of its own.
    for sql in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(sql).execute(pipeline.store.pool()).await?;
    }
    let began = Instant::now();
    let lease = "SELECT extract(epoch FROM lease_until)::bigint FROM clamor.shard";
    let (before, leased) = (pipeline.number(TRANSACTIONS).await?, pipeline.number(lease).await?);
    // No chat, and a mark as there is one a second.
    let mut number = 1;
    eventually("the lease is renewed four times", LIMIT, async || {
        number += 1;
        let marks = Marks { marks: vec![Mark { connection: 1, heard_until_ms: now_ms() }] };
        let published = pipeline.publish(1, number, vec![event(0, 0, Kind::Marks(marks))]).await;
        published.map_err(|error| error.to_string())?;
        match pipeline.number(lease).await {
            Ok(now) if now >= leased + 20 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (written, fives) =
        (pipeline.number(TRANSACTIONS).await? - before, i64::try_from(began.elapsed().as_secs() / 5)?);
    println!("{written} transactions in {:?}", began.elapsed());
    assert!((fives..=fives + 1).contains(&written), "{written} transactions in {:?}", began.elapsed());
    aggregator.terminate_and_wait(LIMIT).await?;
    Ok(())
}
