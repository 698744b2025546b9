//! The same chat while every worker is killed in turn and every connection is told to reconnect.

use crate::fleet::{Fleet, LIMIT, Setup};
use clamor_simulator::Ledger;
use clamor_testkit::equality::{assert_equal, assert_no_gap, judged};
use clamor_testkit::eventually;

const MESSAGES_PER_SECOND: f64 = 2_000.0;
/// Of what the simulator says in a minute a part are not messages.
const A_MINUTE: i64 = 100_000;
const COUNTED: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_reconnects_lose_nothing_and_count_nothing_twice() {
    let mut fleet = Fleet::start(Setup::undisturbed()).await;
    fleet.simulator.speak(MESSAGES_PER_SECOND).await.unwrap();
    for slot in 0..fleet.ingest.len() {
        in_flight(&fleet).await;
        let before = fleet.joined(slot).await;
        fleet.ingest[slot].kill9().await;
        fleet.ingest[slot].restart().unwrap();
        fleet.joined_after(slot, Some(before)).await;
    }
    in_flight(&fleet).await;
    fleet.aggregators[0].kill9().await;
    fleet.aggregators[0].restart().unwrap();
    fleet.aggregators[0].ready(LIMIT).await;
    in_flight(&fleet).await;
    reconnect_all(&fleet).await;
    in_flight(&fleet).await;
    eventually("as much is counted as is said in a minute", 2 * LIMIT, async || match fleet.number(COUNTED).await {
        Ok(counted) if counted >= A_MINUTE => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let stopped = fleet.simulator.stop_speaking().await.unwrap();
    println!("stopped speaking: {stopped}");
    let judged_ms = judged(&fleet.store).await;
    let ledger = fleet.drain().await;
    assert_equal(&fleet.store, &ledger).await;
    assert_no_gap(&fleet.store, &ledger, judged_ms).await;
}

/// Commits go on: whatever happens next hits messages on their way.
async fn in_flight(fleet: &Fleet) {
    let before = fleet.number(COUNTED).await.unwrap();
    eventually("more is counted", LIMIT, async || {
        let now = fleet.number(COUNTED).await.map_err(|error| error.to_string())?;
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
    fleet.all_joined().await;
}
