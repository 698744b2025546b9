//! The aggregate role against a real NATS and a real Postgres: from published batches to rows.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test with small numbers")]

mod clocks;
mod fixture;
mod late;
mod sets;
mod sharing;
mod streams;

use anyhow::Result;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Joined, Snapshot};
use clamor_testkit::eventually;
use fixture::{LIMIT, Pipeline, event, message};

const MESSAGES: &str = "SELECT sum(messages)::bigint FROM clamor.channel_minute";
const BY_CHATTER: &str = "SELECT sum(messages)::bigint FROM clamor.chatter_hour";

#[tokio::test(flavor = "multi_thread")]
async fn a_published_line_becomes_rows() -> Result<()> {
    let pipeline = Pipeline::start(2).await?;
    let aggregator = pipeline.aggregate(false).await?;
    aggregator.ready().await;
    let lines = (1..=10u64).map(|key| message(u128::from(key), 5, key % 3 + 1, "hello there Kappa")).collect();
    pipeline.publish(1, 1, lines).await?;
    pipeline.eventually(MESSAGES, 10).await;
    assert_eq!(pipeline.number("SELECT sum(words)::bigint FROM clamor.channel_minute").await?, 30);
    assert_eq!(pipeline.number("SELECT max(unique_chatters) FROM clamor.channel_minute").await?, 3);
    assert_eq!(pipeline.number("SELECT sum(occurrences)::bigint FROM clamor.emote_minute").await?, 10);
    assert!(aggregator.metric("clamor_aggregate_commit_lag_seconds_count") >= 10.0);
    aggregator.stop().await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, 10, "the slow tables are flushed at the end");
    assert_eq!(pipeline.number("SELECT sum(occurrences)::bigint FROM clamor.chatter_emote_day").await?, 10);
    assert_eq!(pipeline.number("SELECT count(*) FROM clamor.shard WHERE owner IS NOT NULL").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_lines_from_two_instances_count_once() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    for number in 1..=20 {
        let lines: Vec<_> = (0..50).map(|line| message(u128::from(number) * 100 + line, 5, 9, "a")).collect();
        pipeline.publish(1, number, lines.clone()).await?;
        pipeline.publish(2, number, lines).await?;
    }
    pipeline.eventually(MESSAGES, 1_000).await;
    eventually("the copies are seen", LIMIT, async || match aggregator.metric("clamor_aggregate_duplicates_total") {
        1_000.0 => Ok(()),
        seen => Err(seen),
    })
    .await;
    aggregator.stop().await?;
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), (1_000, 1_000));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_aggregator_counts_nothing_twice() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let mut aggregator = pipeline.aggregate(true).await?;
    let lines =
        |number: u64| (0..20u64).map(|line| message(u128::from(number * 100 + line), 5, line + 1, "a")).collect();
    for number in 1..=40u64 {
        pipeline.publish(1, number, lines(number)).await?;
        // Copies that come late, some of them after the kill.
        if number > 3 {
            pipeline.publish(2, number - 3, lines(number - 3)).await?;
        }
        if number % 10 == 0 {
            let counted = i64::try_from(number)? * 20 - 100;
            eventually("some of it is committed", LIMIT, async || match pipeline.number(MESSAGES).await {
                Ok(found) if found >= counted => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            aggregator.kill().await;
            aggregator = pipeline.aggregate(true).await?;
        }
    }
    pipeline.eventually(MESSAGES, 800).await;
    aggregator.ready().await;
    aggregator.stop().await?;
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), (800, 800));
    let per_minute = "SELECT count(*) FROM clamor.channel_minute WHERE unique_chatters <> 20";
    assert_eq!(pipeline.number(per_minute).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phrase_counts_from_its_directive_on() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "before: hello")]).await?;
    pipeline.direct(&[5], &["hello"]).await?;
    pipeline.publish(1, 2, vec![message(2, 5, 9, "Hello hello"), message(3, 6, 9, "hello elsewhere")]).await?;
    pipeline.eventually("SELECT sum(matches)::bigint FROM clamor.phrase_minute", 2).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM clamor.phrase_match").await?, 1);
    assert_eq!(pipeline.number("SELECT count(*) FROM clamor.wanted WHERE channel_id = 5 AND until IS NULL").await?, 1);
    // A plan that cannot be had leaves the last one in force; the next good one follows.
    pipeline.direct_to("plan-0000".to_owned()).await?;
    pipeline.publish(1, 3, vec![message(4, 5, 9, "hello again")]).await?;
    pipeline.eventually("SELECT sum(matches)::bigint FROM clamor.phrase_minute", 3).await;
    assert_eq!(aggregator.alarms(), ["set_absent 1"]);
    pipeline.direct(&[6], &[]).await?;
    pipeline.publish(1, 4, vec![message(5, 5, 9, "hello no more")]).await?;
    pipeline.eventually(MESSAGES, 5).await;
    assert_eq!(pipeline.number("SELECT sum(matches)::bigint FROM clamor.phrase_minute").await?, 3);
    assert_eq!(pipeline.number("SELECT count(*) FROM clamor.wanted WHERE channel_id = 5 AND until IS NULL").await?, 0);
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_holds_after_a_take_over() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.direct(&[5], &["hello"]).await?;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "hello")]).await?;
    pipeline.eventually("SELECT sum(matches)::bigint FROM clamor.phrase_minute", 1).await;
    aggregator.kill().await;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.publish(1, 2, vec![message(2, 5, 9, "hello")]).await?;
    pipeline.eventually("SELECT sum(matches)::bigint FROM clamor.phrase_minute", 2).await;
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_goes_to_the_dead_letters_and_the_rest_counts() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    pipeline.bus.publish_batch(0, "bad", vec![0xff; 20].into()).await?;
    let mut ancient = message(2, 5, 9, "a");
    ancient.sent_at_ms = 1;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "a"), ancient]).await?;
    pipeline.eventually(MESSAGES, 1).await;
    assert!((aggregator.metric("clamor_aggregate_dead_letters_total") - 2.0).abs() < f64::EPSILON);
    let dead = pipeline.bus.jetstream().get_stream(pipeline.bus.names().dead_stream()).await?;
    assert_eq!(dead.cached_info().state.messages, 2);
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_ends_coverage_and_is_counted_from_its_beginning() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    let joined = event(0, 5, Kind::Joined(Joined {}));
    pipeline.publish(1, 1, vec![joined, message(1, 5, 9, "a")]).await?;
    pipeline.publish(1, 2, vec![message(2, 5, 9, "a")]).await?;
    pipeline.eventually(MESSAGES, 2).await;
    aggregator.stop().await?;
    pipeline.bus.jetstream().delete_stream(pipeline.bus.names().stream(0)).await?;
    pipeline.ensure().await?;
    let aggregator = pipeline.aggregate(false).await?;
    pipeline.publish(1, 3, vec![message(3, 5, 9, "a")]).await?;
    pipeline.eventually(MESSAGES, 3).await;
    assert_eq!(aggregator.alarms(), ["stream_recreated 1"]);
    aggregator.stop().await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, 3);
    let open = "SELECT count(*) FROM clamor.coverage WHERE channel_id = 5 AND until IS NULL";
    assert_eq!(pipeline.number(open).await?, 1, "the old interval has ended, the line after it has opened one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregators_share_the_shards_and_hand_them_over() -> Result<()> {
    let pipeline = Pipeline::start(4).await?;
    let first = pipeline.aggregate(false).await?;
    let owned = async |aggregator: &fixture::Aggregator, expected: f64| {
        eventually("the shards are shared", LIMIT, async || {
            let seen = aggregator.metric("clamor_aggregate_shards_owned");
            if (seen - expected).abs() < f64::EPSILON { Ok(()) } else { Err(seen) }
        })
        .await;
    };
    owned(&first, 4.0).await;
    let second = pipeline.aggregate(false).await?;
    owned(&first, 2.0).await;
    owned(&second, 2.0).await;
    first.stop().await?;
    owned(&second, 4.0).await;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "a")]).await?;
    pipeline.eventually(MESSAGES, 1).await;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_the_buffer_while_postgres_is_away() -> Result<()> {
    let mut pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "a")]).await?;
    pipeline.eventually(MESSAGES, 1).await;
    pipeline.servers.kill_postgres();
    for number in 2..=50 {
        pipeline.publish(1, number, vec![message(u128::from(number), 5, 9, "a")]).await?;
    }
    pipeline.servers.restart_postgres().await?;
    pipeline.eventually(MESSAGES, 50).await;
    aggregator.stop().await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, 50);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_after_nats_was_away() -> Result<()> {
    let mut pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    pipeline
        .publish(1, 1, vec![event(0, 0, Kind::Snapshot(Snapshot { channel_ids: vec![5] })), message(1, 5, 9, "a")])
        .await?;
    pipeline.eventually(MESSAGES, 1).await;
    pipeline.servers.restart_nats().await?;
    eventually("NATS accepts again", LIMIT, async || pipeline.publish(1, 2, vec![message(2, 5, 9, "a")]).await).await;
    pipeline.eventually(MESSAGES, 2).await;
    aggregator.stop().await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, 2);
    Ok(())
}
