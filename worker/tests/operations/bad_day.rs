//! Twitch repeats itself, is late, sends what nobody can read, and forgets a connection: two workers count it once.

use crate::pipeline::{LIMIT, all_is_counted, counted, ingest, simulator, standalone};
use clamor_simulator::Ledger;
use clamor_testkit::{Servers, SimulatorProcess, WorkerProcess, eventually};
use serde_json::json;

async fn ledger_shows(simulator: &SimulatorProcess, what: &str, condition: impl Fn(&Ledger) -> bool) {
    eventually(what, LIMIT, async || {
        let ledger: Ledger = simulator.ledger().await.map_err(|error| error.to_string())?;
        if condition(&ledger) { Ok(()) } else { Err(format!("{:?}", ledger.connections)) }
    })
    .await;
}

fn heard_twice(ledger: &Ledger) -> bool {
    ledger.channels.iter().all(|channel| channel.listeners == 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_twitchs_bad_day_two_workers_lose_nothing_and_count_nothing_twice() {
    let servers = Servers::start().await.unwrap();
    let simulator = simulator(&servers, 12).await;
    let standalone = WorkerProcess::start(standalone(&servers, &simulator, "a,b").await).unwrap();
    let workers = ["a", "b"].map(|slot| ingest(&servers, &simulator, slot));
    standalone.ready(LIMIT).await;
    ledger_shows(&simulator, "every channel is heard twice", heard_twice).await;

    simulator.post("/faults", &json!({ "duplicate": 0.1, "reorder": 0.1, "garbage": 0.05 })).await.unwrap();
    simulator.speak(400.0).await.unwrap();
    let some_are_counted = async |least: i64| {
        eventually("messages are counted", LIMIT, async || match counted(&servers).await {
            Ok(counted) if counted >= least => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    some_are_counted(1000).await;
    simulator.post("/freeze", &json!({ "connections": 1 })).await.unwrap();
    ledger_shows(&simulator, "another connection in place of the half-open one", |ledger| {
        ledger.connections.opened == 3 && ledger.channels.iter().all(|channel| channel.listeners == 3)
    })
    .await;
    let before = counted(&servers).await.unwrap();
    some_are_counted(before + 1000).await;
    simulator.stop_speaking().await.unwrap();
    all_is_counted(&servers, &simulator).await;

    let ledger: Ledger = simulator.ledger().await.unwrap();
    assert!(ledger.channels.iter().all(|channel| channel.withheld > 0), "the half-open one missed some of everything");
    let mut rejected = 0.0;
    for worker in &workers {
        rejected += worker.metrics().await.unwrap().count("clamor_ingest_lines_rejected_total", &[]);
    }
    let garbage = ledger.connections.garbage;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let sent = (garbage.malformed + garbage.not_utf8 + garbage.over_long) as f64;
    // What was on its way when the connection was forgotten.
    assert!(rejected > 100.0 && rejected <= sent, "{rejected} of {sent}");
    for worker in workers.iter().chain([&standalone]) {
        assert!(worker.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", worker.log_tail());
    }
}
