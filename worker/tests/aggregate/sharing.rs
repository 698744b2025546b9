//! Several aggregators, each a process of its own: who owns what, and what happens when one of them goes.

use crate::fixture::{Pipeline, event, message, now_ms};
use crate::{BY_CHATTER, MESSAGES};
use anyhow::{Result, ensure};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Joined, Mark, Marks};
use clamor_testkit::{WorkerOptions, WorkerProcess, eventually};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SHARDS: u16 = 4;
const LIMIT: Duration = Duration::from_secs(60);
const OWNERS: &str = "SELECT count(DISTINCT owner) FROM clamor.shard WHERE lease_until > clock_timestamp()";
const MOST: &str = "SELECT max(n) FROM (SELECT count(*) AS n FROM clamor.shard GROUP BY owner) s";
/// Who wrote the rows of the tables that are ever written at rest. Those of the whole server would be Postgres's own as
/// well, when it looks after its tables.
const TRANSACTIONS: &str = "SELECT xmin::text FROM clamor.shard UNION SELECT xmin::text FROM clamor.shard_group
    UNION SELECT xmin::text FROM clamor.heard UNION SELECT xmin::text FROM clamor.coverage
    UNION SELECT xmin::text FROM clamor.aggregator UNION SELECT xmin::text FROM clamor.channel
    UNION SELECT xmin::text FROM clamor.wanted UNION SELECT xmin::text FROM clamor.dirty";
const OWNED: &str = "SELECT count(*) FROM clamor.shard WHERE lease_until > clock_timestamp()";

/// The transactions that the rows name now.
async fn transactions(pipeline: &Pipeline) -> Result<BTreeSet<String>> {
    Ok(sqlx::query_scalar(TRANSACTIONS).fetch_all(pipeline.store.pool()).await?.into_iter().collect())
}

/// Aggregators of one pipeline, and the only worker, which publishes ten lines at a time.
struct Fleet {
    pipeline: Pipeline,
    batches: u64,
}

impl Fleet {
    async fn new(shards: u16) -> Result<Self> {
        Ok(Self { pipeline: Pipeline::start(shards).await?, batches: 0 })
    }

    fn start(&self, name: &str) -> Result<WorkerProcess> {
        let program = env!("CARGO_BIN_EXE_clamor-worker");
        WorkerProcess::start(WorkerOptions::aggregate(program, name, &self.pipeline.servers).env("PIPELINE", "test"))
    }

    /// Publishes until so many own all shards, none of them more than `most`. Returns how long that took.
    async fn publish_until(&mut self, what: &str, owners: i64, most: i64) -> Duration {
        let began = Instant::now();
        let Self { pipeline, batches } = self;
        eventually(what, LIMIT, async || {
            *batches += 1;
            let lines = (0..10).map(|line| message(u128::from(*batches * 10 + line), 5, line + 1, "a")).collect();
            pipeline.publish(1, *batches, lines).await?;
            let owned = [pipeline.number(OWNERS).await?, pipeline.number(MOST).await?, pipeline.number(OWNED).await?];
            ensure!(owned == [owners, most, i64::from(SHARDS)], "{owned:?}");
            Ok(())
        })
        .await;
        println!("{what} after {:?}", began.elapsed());
        began.elapsed()
    }

    fn lines(&self) -> i64 {
        i64::try_from(self.batches * 10).unwrap()
    }

    async fn counted(&self) {
        self.pipeline.eventually(MESSAGES, self.lines()).await;
    }

    /// Awaits that all lines are counted, and ends all in order: then the slow tables have each of them once, too.
    async fn end(self, aggregators: impl IntoIterator<Item = WorkerProcess>) -> Result<()> {
        self.counted().await;
        for aggregator in aggregators {
            aggregator.terminate_and_wait(LIMIT).await?;
        }
        let counted = [self.pipeline.number(MESSAGES).await?, self.pipeline.number(BY_CHATTER).await?];
        assert_eq!(counted, [self.lines(); 2]);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_gets_its_share_and_who_is_told_to_stop_hands_over_at_once() -> Result<()> {
    let mut fleet = Fleet::new(SHARDS).await?;
    let first = fleet.start("one")?;
    fleet.publish_until("one owns all", 1, 4).await;
    let second = fleet.start("two")?;
    fleet.publish_until("two own two each", 2, 2).await;
    first.terminate_and_wait(LIMIT).await?;
    let handed = fleet.publish_until("the other owns all", 1, 4).await;
    assert!(handed < Duration::from_secs(12), "released, and not expired after 15 s: {handed:?}");
    fleet.end([second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_one_are_taken_when_its_leases_run_out() -> Result<()> {
    let mut fleet = Fleet::new(SHARDS).await?;
    let (first, second) = (fleet.start("one")?, fleet.start("two")?);
    fleet.publish_until("two own two each", 2, 2).await;
    first.kill9().await;
    let taken = fleet.publish_until("the other owns all", 1, 4).await;
    assert!(taken < Duration::from_secs(20), "a lease is 15 s: {taken:?}");
    fleet.end([second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_paused_longer_than_its_lease_counts_nothing_when_it_wakes() -> Result<()> {
    let mut fleet = Fleet::new(SHARDS).await?;
    let first = fleet.start("one")?;
    fleet.publish_until("one owns all", 1, 4).await;
    let second = fleet.start("two")?;
    second.ready(LIMIT).await;
    fleet.publish_until("two own two each", 2, 2).await;
    first.pause();
    fleet.publish_until("the other owns all", 1, 4).await;
    fleet.counted().await;
    first.resume();
    fleet.publish_until("both own two again", 2, 2).await;
    fleet.end([first, second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_a_shard_is_one_transaction_in_five_seconds() -> Result<()> {
    let fleet = Fleet::new(1).await?;
    let pipeline = &fleet.pipeline;
    let aggregator = fleet.start("one")?;
    aggregator.ready(LIMIT).await;
    pipeline.publish(1, 1, vec![event(0, 5, Kind::Joined(Joined {}))]).await?;
    pipeline.eventually("SELECT count(*) FROM clamor.coverage", 1).await;
    let began = Instant::now();
    let lease = "SELECT extract(epoch FROM lease_until)::bigint FROM clamor.shard";
    let leased = pipeline.number(lease).await?;
    let mut seen = transactions(pipeline).await?;
    let before = seen.len();
    // No chat, and a mark as there is one a second.
    let mut number = 1;
    eventually("the lease is renewed four times", LIMIT, async || {
        number += 1;
        let marks = Marks { marks: vec![Mark { connection: 1, heard_until_ms: now_ms() }] };
        pipeline.publish(1, number, vec![event(0, 0, Kind::Marks(marks))]).await?;
        seen.extend(transactions(pipeline).await?);
        let now = pipeline.number(lease).await?;
        ensure!(now >= leased + 20, "{now} after {leased}");
        Ok(())
    })
    .await;
    let (written, fives) = (seen.len() - before, usize::try_from(began.elapsed().as_secs() / 5)?);
    println!("{written} transactions in {:?}", began.elapsed());
    assert!((fives..=fives + 1).contains(&written), "{written} transactions in {:?}", began.elapsed());
    aggregator.terminate_and_wait(LIMIT).await?;
    Ok(())
}
