//! The same chat while every worker is killed in turn and every connection is told to reconnect.

use crate::equality::assert_equal;
use crate::fleet::{Fleet, LIMIT, SLOTS};
use clamor_simulator::Ledger;
use clamor_testkit::eventually;
use sqlx::Row;

const MESSAGES_PER_SECOND: f64 = 2_000.0;

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_reconnects_lose_nothing_and_count_nothing_twice() {
    let mut fleet = Fleet::start().await;
    fleet.simulator.speak(MESSAGES_PER_SECOND).await.unwrap();
    for slot in 0..SLOTS.len() {
        in_flight(&fleet).await;
        fleet.ingest[slot].kill9().await;
        fleet.ingest[slot].restart().unwrap();
        fleet.joined(slot).await;
    }
    in_flight(&fleet).await;
    fleet.aggregate.kill9().await;
    fleet.aggregate.restart().unwrap();
    fleet.aggregate.ready(LIMIT).await;
    in_flight(&fleet).await;
    reconnect_all(&fleet).await;
    in_flight(&fleet).await;
    let stopped = fleet.simulator.stop_speaking().await.unwrap();
    println!("stopped speaking: {stopped}");
    let stopped_ms = newest_minute_end(&fleet).await;
    let ledger = fleet.drain().await;
    assert_equal(&fleet, &ledger).await;
    assert_no_gap(&fleet, &ledger, stopped_ms).await;
}

/// Commits go on: whatever happens next hits messages on their way.
async fn in_flight(fleet: &Fleet) {
    const QUERY: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";
    let before = fleet.number(QUERY).await.unwrap();
    eventually("more is counted", LIMIT, async || {
        let now = fleet.number(QUERY).await.map_err(|error| error.to_string())?;
        if now > before + 2_000 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    })
    .await;
}

/// Every connection is told to reconnect, and all of them are gone and replaced.
async fn reconnect_all(fleet: &Fleet) {
    let before: Ledger = fleet.simulator.ledger().await.unwrap();
    assert!(before.connections.open > 0);
    fleet.simulator.reconnect_all().await.unwrap();
    eventually("all connections are replaced", LIMIT, async || {
        let now: Ledger = fleet.simulator.ledger().await.map_err(|error| error.to_string())?;
        let (gone, open) = (now.connections, now.connections.open);
        let ended = gone.opened - before.connections.opened;
        if ended >= before.connections.open && open == before.connections.open {
            Ok(())
        } else {
            Err(format!("{gone:?}"))
        }
    })
    .await;
    for slot in 0..SLOTS.len() {
        fleet.joined(slot).await;
    }
}

/// The end of what the database has by now, so that a gap can be judged up to before the drain.
async fn newest_minute_end(fleet: &Fleet) -> i64 {
    fleet.number("SELECT (extract(epoch FROM now()) * 1000)::bigint").await.unwrap()
}

/// From the last first JOIN to the drain, every channel was heard all the time.
async fn assert_no_gap(fleet: &Fleet, ledger: &Ledger, drain_ms: i64) {
    let joined_ms = i64::try_from(ledger.last_first_join_ms().unwrap()).unwrap();
    let query = "SELECT login, since::text, until::text FROM gap
        WHERE tstzrange(since, until) && tstzrange(to_timestamp($1 / 1000.0), to_timestamp($2 / 1000.0))";
    // What a connection heard in its last two seconds is in doubt, so the end of everything is, too.
    let gaps = sqlx::query(query).bind(joined_ms + 2_000).bind(drain_ms - 5_000);
    let gaps = gaps.fetch_all(&fleet.store).await.unwrap();
    let shown: Vec<[String; 3]> = gaps.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).take(10).collect();
    assert!(gaps.is_empty(), "{} gaps, the first: {shown:?}", gaps.len());
    let judged =
        fleet.number("SELECT (extract(epoch FROM min(judged_until)) * 1000)::bigint FROM shard_group WHERE grp = 0");
    assert!(judged.await.unwrap() >= drain_ms - 15_000, "gaps are judged almost up to the drain");
}
