//! What enters the stream long after it was received counts only where nobody else was listening.

use crate::fixture::{Pipeline, event, message, now_ms};
use crate::{BY_CHATTER, MESSAGES};
use anyhow::Result;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Event, Joined, Mark, Marks};

const MINUTE: u64 = 60_000;
const HEARD: u64 = 5;
const UNHEARD: u64 = 6;
const IMPORTED: u64 = 7;

/// As a worker received it so long ago.
fn ago(minutes: u64, mut event: Event) -> Event {
    event.sent_at_ms -= minutes * MINUTE;
    event.received_at_ms = event.sent_at_ms;
    event
}

fn joined(channel_id: u64) -> Event {
    event(0, channel_id, Kind::Joined(Joined {}))
}

fn marked() -> Event {
    event(0, 0, Kind::Marks(Marks { marks: vec![Mark { connection: 1, heard_until_ms: now_ms() - 2_000 }] }))
}

/// Five lines of a channel, a minute apart, as a spill that waited for twenty minutes.
fn spill(channel_id: u64) -> Vec<Event> {
    let line = |minute| ago(25 - minute, message(u128::from(channel_id * 100 + minute), channel_id, minute, "a"));
    (1..=5).map(line).collect()
}

/// The first channel was heard by another worker all the while, the third one's time is covered by a file.
async fn heard_elsewhere(pipeline: &Pipeline) -> Result<()> {
    pipeline.publish(1, 1, vec![ago(30, joined(HEARD)), marked(), message(1, HEARD, 9, "a")]).await?;
    pipeline.eventually(MESSAGES, 1).await;
    let file = "INSERT INTO clamor.coverage (channel_id, instance, connection, since, until, shard)
        VALUES (7, 99, 0, now() - interval '1 hour', now() - interval '10 minutes', 0)";
    sqlx::query(file).execute(pipeline.store.pool()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_spill_counts_only_where_no_other_source_was_listening() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(false).await?;
    heard_elsewhere(&pipeline).await?;
    for (number, channel) in [(2, HEARD), (3, UNHEARD), (4, IMPORTED)] {
        let join = ago(26, joined(channel));
        pipeline.publish(2, number, std::iter::once(join).chain(spill(channel)).collect()).await?;
    }
    pipeline.eventually(MESSAGES, 6).await;
    aggregator.stop().await?;
    let per_channel = "SELECT count(*) FROM (SELECT channel_id, sum(messages) AS m FROM clamor.channel_minute
        GROUP BY channel_id) s WHERE (channel_id, m) IN ((5, 1), (6, 5))";
    assert_eq!(pipeline.number(per_channel).await?, 2);
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), (6, 6));
    let uniques = "SELECT sum(unique_chatters)::bigint FROM clamor.channel_minute WHERE channel_id = 6";
    assert_eq!(pipeline.number(uniques).await?, 5, "each minute has its chatter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_in_the_middle_of_a_late_spill_decides_alike() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let mut aggregator = pipeline.aggregate(true).await?;
    heard_elsewhere(&pipeline).await?;
    for round in 0..10_u64 {
        for (offset, channel) in [HEARD, UNHEARD].into_iter().enumerate() {
            let line = |line| {
                let key = u128::from(channel * 10_000 + round * 100 + line);
                ago(25, message(key, channel, line + 1, "a"))
            };
            pipeline.publish(2, 2 * round + 1 + offset as u64, (0..20).map(line).collect()).await?;
        }
        if round % 3 == 2 {
            aggregator.kill().await;
            aggregator = pipeline.aggregate(true).await?;
        }
    }
    pipeline.eventually(MESSAGES, 201).await;
    aggregator.ready().await;
    aggregator.stop().await?;
    assert_eq!((pipeline.number(MESSAGES).await?, pipeline.number(BY_CHATTER).await?), (201, 201));
    Ok(())
}
