//! `standalone --slots a,b`: the planner of workers that run elsewhere.

use crate::pipeline::{LIMIT, all_is_counted, ingest, says, simulator, standalone, waits_for};
use clamor_testkit::{Servers, WorkerProcess, eventually};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn standalone_plans_for_slots_elsewhere_and_says_which_of_them_nobody_serves() {
    let servers = Servers::start().await.unwrap();
    let simulator = simulator(&servers, 12).await;
    let planner = WorkerProcess::start(standalone(&servers, &simulator, "a,b").await).unwrap();
    says(&planner, &["chat is read by workers elsewhere, in the slots a, b"]).await;
    says(&planner, &["NATS and Postgres are those of NATS_URL and DATABASE_URL"]).await;
    waits_for(&planner, "slot b: no worker reports from it").await;
    assert_eq!(says(&planner, &["slot a: no worker reports from it", "ingest --worker a"]).await, 1);

    let _a = ingest(&servers, &simulator, "a");
    let mut b = ingest(&servers, &simulator, "b");
    planner.ready(LIMIT).await;
    let hears = async |channels: u64| {
        eventually(&format!("both slots hear {channels} channels"), LIMIT, async || {
            let connections: Vec<Value> = simulator.connections().await.unwrap();
            let heard: Vec<u64> = connections.iter().filter_map(|connection| connection["channels"].as_u64()).collect();
            if heard == [channels, channels] { Ok(()) } else { Err(format!("{heard:?}")) }
        })
        .await;
    };
    // Two connections: the planner's process reads nothing itself.
    hears(12).await;
    simulator.speak(200.0).await.unwrap();

    b.kill9().await;
    waits_for(&planner, "slot b: no worker reports from it").await;
    assert_eq!(says(&planner, &["slot b: no worker reports from it"]).await, 2);
    b.restart().unwrap();
    planner.ready(LIMIT).await;
    says(&planner, &["slot b: a worker serves it again"]).await;
    hears(12).await;

    simulator.stop_speaking().await.unwrap();
    all_is_counted(&servers, &simulator).await;
    assert!(planner.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", planner.log_tail());
}
