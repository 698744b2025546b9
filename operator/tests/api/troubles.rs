//! What keeps workers from working, as the ChatPipeline tells it: a store that is away, a Deployment or pod that the cluster
//! refuses, and fewer slots than a channel asks for.

use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_testkit::{Needs, Servers, WorkerOptions, WorkerProcess, eventually};
use std::time::Duration;

/// The message of `Ready`.
async fn says(world: &World, object: &str, words: &str) {
    eventually(&format!("{object} says {words}"), LIMIT, async || {
        let found = world.json(&["get", object]).await["status"]["conditions"][0].clone();
        if found["message"].as_str().unwrap_or_default().contains(words) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_is_told_on_the_pipeline_until_it_is_back() {
    let world = World::with_pipeline().await;
    let mut store = Servers::start_only(Needs::Postgres).await.unwrap();
    let program = clamor_testkit::program_beside_tests("clamor-worker").unwrap();
    let options = WorkerOptions::new(program.to_str().unwrap(), "aggregate", &["aggregate"], &store)
        .env("NATS_URL", world.servers.nats_url())
        .env("DATABASE_URL", store.database_url())
        .env("PIPELINE", world.on_bus());
    let aggregator = WorkerProcess::start(options.clone()).unwrap();
    aggregator.ready(LIMIT).await;
    // No pod runs here, so its Deployments are never complete.
    world.ready("cpl/main", "False", "Progressing").await;
    store.kill_postgres();
    world.ready("cpl/main", "False", "StoreUnavailable").await;
    says(&world, "cpl/main", "an aggregator: StoreUnavailable: ").await;
    assert_eq!(world.event("main", "StoreUnavailable").await.type_.as_deref(), Some("Warning"));
    store.restart_postgres().await.unwrap();
    world.ready("cpl/main", "False", "Progressing").await;
    aggregator.terminate_and_wait(LIMIT).await.unwrap();
    // One that finds it away when it starts says so, too, and is told to read nothing for it.
    store.kill_postgres();
    let _second = WorkerProcess::start(options).unwrap();
    world.ready("cpl/main", "False", "StoreUnavailable").await;
    assert_eq!(world.bus().await.assigned_slots().await.unwrap(), ["main-ingest-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_or_a_pod_that_the_cluster_refuses_is_told_in_its_words() {
    let world = World::start().await;
    let with = |resources: &str| PIPELINE.replace("{workers: 1}", &format!("{{workers: 1, resources: {resources}}}"));
    world.apply(&with("{requests: {cpu: '2'}, limits: {cpu: '1'}}")).await;
    world.ready("cpl/main", "False", "WorkersUnavailable").await;
    says(&world, "cpl/main", "the cluster refuses Deployment main-ingest-0: ").await;
    says(&world, "cpl/main", "must be less than or equal to cpu limit").await;
    assert_eq!(world.event("main", "WorkersUnavailable").await.type_.as_deref(), Some("Warning"));
    // The other one is there all the same.
    world.deployment("main-aggregate").await;
    let small = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: small}\nspec: {limits: [{type: Container, max: {cpu: 10m}}]}\n";
    world.apply(small).await;
    world.apply(&with("{requests: {cpu: '1'}, limits: {cpu: '1'}}")).await;
    says(&world, "cpl/main", "no pod can be made for Deployment main-ingest-0: ").await;
    says(&world, "cpl/main", "maximum cpu usage per Container is 10m").await;
    world.kubectl(&["delete", "limitrange/small"]).await;
    world.apply(PIPELINE).await;
    world.ready("cpl/main", "False", "Progressing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_fewer_slots_hear_than_it_asks_for_says_so_until_there_are_enough() {
    let world = World::with_pipeline().await;
    let _zero = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", ", redundancy: 2")).await;
    world.ready("tc/one", "True", "TooFewSlots").await;
    says(&world, "tc/one", "1 of the 2 slots").await;
    assert_eq!(world.event("one", "TooFewSlots").await.type_.as_deref(), Some("Warning"));
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    world.deployment("main-ingest-1").await;
    let _one = world.ingest("main-ingest-1");
    world.ready("tc/one", "True", "Joined").await;
    eventually("both slots hear it", LIMIT + Duration::from_secs(30), async || {
        let found = world.json(&["get", "tc/one"]).await["status"]["slotNames"].clone();
        if found == "main-ingest-0,main-ingest-1" { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}
