//! Streams that are not what they were: what is still there counts exactly once, what is not is a gap, and an alarm.

use crate::fixture::{Aggregator, LIMIT, Pipeline, event, message};
use crate::{BY_CHATTER, MESSAGES};
use anyhow::Result;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Event, Joined};
use clamor_testkit::eventually;

const UNIQUES: &str = "SELECT sum(unique_chatters)::bigint FROM clamor.channel_minute";
const CLOSED: &str = "SELECT count(*) FROM clamor.coverage WHERE channel_id = 5 AND until IS NOT NULL";

/// Lines of these keys, of one chatter each, all within one minute.
fn lines(keys: std::ops::Range<u64>) -> Vec<Event> {
    let at_ms = crate::fixture::now_ms() / 60_000 * 60_000 - 30_000;
    let line = |key: u64| {
        let mut line = message(key.into(), 5, key, "a");
        line.sent_at_ms = at_ms;
        line
    };
    keys.map(line).collect()
}

/// The channel is heard since some minutes.
fn joined() -> Event {
    let mut joined = event(0, 5, Kind::Joined(Joined {}));
    joined.sent_at_ms -= 5 * 60_000;
    joined
}

async fn make_anew(pipeline: &Pipeline) -> Result<()> {
    pipeline.bus.jetstream().delete_stream(pipeline.bus.names().stream(0)).await?;
    pipeline.ensure().await
}

/// Counters reach the metrics with the next turn of the loop.
async fn alarmed(aggregator: &Aggregator) {
    let seen = async || match aggregator.metric("clamor_aggregate_alarms_total") {
        1.0.. => Ok(()),
        none => Err(none),
    };
    eventually("there is an alarm", LIMIT, seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_anew_under_a_reader_counts_no_copy_and_loses_no_chatter() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let first = lines(1..9);
    pipeline.publish(1, 1, std::iter::once(joined()).chain(first.clone()).collect()).await?;
    pipeline.eventually(MESSAGES, 8).await;
    make_anew(&pipeline).await?;
    // The other worker's copies had no answer from the old stream; one chatter more, in the same minute.
    let mut second = first.clone();
    let mut more = first[0].clone();
    more.set_key(100);
    more.connection = 1;
    if let Some(Kind::Message(message)) = &mut more.kind {
        message.chatter.as_mut().expect("a chatter").id = 100;
    }
    second.push(more.clone());
    pipeline.publish(2, 1, second).await?;
    pipeline.eventually(MESSAGES, 9).await;
    pipeline.eventually(UNIQUES, 9).await;
    alarmed(&aggregator).await;
    assert_eq!(pipeline.number(CLOSED).await?, 1);
    // Nobody remembers the old stream now; the ids of its chatters are stored.
    aggregator.stop().await?;
    let aggregator = pipeline.aggregate(true).await?;
    more.set_key(101);
    if let Some(Kind::Message(message)) = &mut more.kind {
        message.chatter.as_mut().expect("a chatter").id = 101;
    }
    pipeline.publish(2, 2, vec![more]).await?;
    pipeline.eventually(MESSAGES, 10).await;
    pipeline.eventually(UNIQUES, 10).await;
    aggregator.stop().await?;
    assert_eq!(pipeline.number(BY_CHATTER).await?, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_chatters_do_not_fall_where_nobody_remembers_the_stream() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let first = lines(1..9);
    let at_ms = first[0].sent_at_ms;
    pipeline.publish(1, 1, first).await?;
    pipeline.eventually(UNIQUES, 8).await;
    aggregator.kill().await;
    make_anew(&pipeline).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let mut more = message(100, 5, 100, "a");
    more.sent_at_ms = at_ms;
    pipeline.publish(1, 2, vec![more]).await?;
    pipeline.eventually(MESSAGES, 9).await;
    alarmed(&aggregator).await;
    assert!(pipeline.number(UNIQUES).await? >= 8);
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_end_is_lost_is_read_on_after_what_was_counted() -> Result<()> {
    let mut pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.publish(1, 1, std::iter::once(joined()).chain(lines(1..6)).collect()).await?;
    pipeline.eventually(MESSAGES, 5).await;
    // A backup of the broker's disk, from before the next messages.
    pipeline.servers.kill_nats();
    let (disk, backup) = (pipeline.nats_folder(), pipeline.servers.folder().join("backup"));
    copy(&disk, &backup)?;
    pipeline.restart_nats().await?;
    pipeline.publish(1, 2, lines(6..11)).await?;
    pipeline.publish(1, 3, lines(11..16)).await?;
    pipeline.eventually(MESSAGES, 15).await;
    pipeline.servers.kill_nats();
    std::fs::remove_dir_all(&disk)?;
    copy(&backup, &disk)?;
    pipeline.restart_nats().await?;
    pipeline.publish(1, 4, lines(16..21)).await?;
    pipeline.eventually(MESSAGES, 20).await;
    alarmed(&aggregator).await;
    aggregator.stop().await?;
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), (20, 20));
    assert_eq!(pipeline.number(UNIQUES).await?, 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_before_it_was_read_is_an_end_of_coverage_and_an_alarm() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline
        .publish(1, 1, std::iter::once(joined()).chain(lines(1..4)).chain([message(50, 5, 50, "a")]).collect())
        .await?;
    pipeline.eventually(MESSAGES, 4).await;
    aggregator.kill().await;
    let lost = pipeline.publish(1, 2, lines(4..8)).await?;
    pipeline.publish(1, 3, vec![message(60, 5, 60, "a")]).await?;
    pipeline.bus.purge(0, lost).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.eventually(MESSAGES, 5).await;
    aggregator.ready().await;
    alarmed(&aggregator).await;
    pipeline.eventually(CLOSED, 1).await;
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_emptied_makes_nobody_wait() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.publish(1, 1, lines(1..4)).await?;
    pipeline.eventually(MESSAGES, 3).await;
    aggregator.kill().await;
    let lost = pipeline.publish(1, 2, lines(4..8)).await?;
    pipeline.bus.purge(0, lost).await?;
    let aggregator = pipeline.aggregate(true).await?;
    aggregator.ready().await;
    pipeline.publish(1, 3, lines(8..10)).await?;
    pipeline.eventually(MESSAGES, 5).await;
    alarmed(&aggregator).await;
    aggregator.stop().await
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
