//! A list that comes late: what has not been listed looks like deleted.

use super::leaves;
use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_testkit::{Chance, eventually};
use http::Method;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_has_not_seen_all_channels_yet_parts_none_though_nobody_else_leads() {
    let (mut world, way) = World::start_faulty(Chance::from_env().seed()).await;
    world.apply(PIPELINE).await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    // It gives up its Lease, which the next one need not wait for.
    assert!(world.operator.terminate_and_wait(LIMIT).await.unwrap().success());
    let list = way.hold(Method::GET, "/trackedchannels");
    world.operator.restart().unwrap();
    let held = tokio::time::timeout(LIMIT, list).await.unwrap().unwrap();
    eventually("it waits for the channels alone", LIMIT, async || {
        let (_, waits) = world.operator.get("/readyz").await.map_err(|error| format!("{error:#}"))?;
        if waits.lines().count() == 1 && waits.contains("watch trackedchannels") { Ok(()) } else { Err(waits) }
    })
    .await;
    // Nobody answers within the limit of a request, and then it asks again.
    world.operator.ready(LIMIT).await;
    world.apply(&channel("two", "sim_2", "")).await;
    world.wait("tc/two", "Ready").await;
    world.are_joined(&["sim_1", "sim_2"]).await;
    assert_eq!(leaves(&world).await, 0);
    drop(held);
}
