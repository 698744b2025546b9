//! Lines at the edges of days and months, from clocks that run ahead or behind, and into partitions that somebody dropped.

use crate::fixture::{Pipeline, message, now_ms};
use crate::{BY_CHATTER, MESSAGES};
use anyhow::Result;
use clamor_chat::wire::Event;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const DAYS: &str = "SELECT count(*) FROM clamor.channel_day WHERE messages > 0";
const SUMMED: &str = "SELECT sum(messages)::bigint FROM clamor.channel_day";

fn sent_at(key: u64, at_ms: u64) -> Event {
    let mut line = message(key.into(), 5, key, "a");
    line.sent_at_ms = at_ms;
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_around_midnight_and_of_months_ago_count_in_their_own_days() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let midnight = now_ms() / DAY * DAY;
    let times = [midnight - 1, midnight, midnight - 40 * DAY, midnight - 70 * DAY, midnight - 2 * 60 * MINUTE];
    let lines = (1..).zip(times).map(|(key, at_ms)| sent_at(key, at_ms));
    pipeline.publish(1, 1, lines.collect()).await?;
    pipeline.eventually(MESSAGES, 5).await;
    aggregator.stop().await?;
    assert_eq!((pipeline.number(DAYS).await?, pipeline.number(SUMMED).await?), (4, 5));
    let uniques = "SELECT sum(unique_chatters)::bigint FROM clamor.channel_day";
    assert_eq!((pipeline.number(uniques).await?, pipeline.number(BY_CHATTER).await?), (5, 5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_ahead_is_held_to_two_minutes_and_hours_behind_is_believed() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let now = now_ms();
    pipeline
        .publish(1, 1, vec![sent_at(1, now + 300 * MINUTE), sent_at(2, now - 300 * MINUTE), sent_at(3, now)])
        .await?;
    pipeline.eventually(MESSAGES, 3).await;
    let ahead = "SELECT count(*) FROM clamor.channel_minute WHERE minute > now() + interval '3 minutes'";
    assert_eq!(pipeline.number(ahead).await?, 0);
    let behind = "SELECT count(*) FROM clamor.channel_minute WHERE minute < now() - interval '290 minutes'";
    assert_eq!(pipeline.number(behind).await?, 1);
    let covered = "SELECT count(*) FROM clamor.heard WHERE until > now() + interval '1 minute'";
    assert_eq!(pipeline.number(covered).await?, 0, "nobody has heard the future");
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_somebody_dropped_is_made_again() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    let long_ago = now_ms() - 100 * DAY;
    pipeline.publish(1, 1, vec![sent_at(1, long_ago)]).await?;
    pipeline.eventually(MESSAGES, 1).await;
    let dropped = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'clamor'::regnamespace AND relkind = 'r'
            AND relname ~ '^channel_minute_p' AND to_date(right(relname, 8), 'YYYYMMDD') < now() - interval '90 days'
        LOOP EXECUTE 'DROP TABLE clamor.' || name; END LOOP; END $$";
    sqlx::raw_sql(dropped).execute(pipeline.store.pool()).await?;
    assert_eq!(pipeline.number(MESSAGES).await?, 0);
    pipeline.publish(1, 2, vec![sent_at(2, long_ago), sent_at(3, now_ms())]).await?;
    pipeline.eventually(MESSAGES, 2).await;
    aggregator.stop().await
}
