//! A leader that is stopped while a write of its is on the way: when that arrives, another one leads and the world has
//! changed. None of it stays, and mostly it is not done at all.

use super::picture;
use crate::outcome::{difference, outcome};
use crate::world::{LIMIT, PIPELINE, World, channel, operator};
use clamor_testkit::kube::{FaultyWay, HeldWrite};
use clamor_testkit::{Chance, WorkerProcess, eventually};
use http::{Method, StatusCode};
use serde_json::Value;

/// A leader on a faulty way, with a pipeline of this spec more.
async fn leader() -> (World, FaultyWay) {
    let (world, way) = World::start_faulty(Chance::from_env().seed()).await;
    world.apply(PIPELINE).await;
    world.deployment("main-ingest-0").await;
    world.deployment("main-aggregate").await;
    (world, way)
}

/// Stops the leader with the write that this edit makes it send; another one leads then.
async fn stopped_with(
    world: &World,
    (way, method, path): (&FaultyWay, Method, &str),
    edit: &[&str],
) -> (HeldWrite, WorkerProcess) {
    let coming = way.hold(method, path);
    world.kubectl(edit).await;
    let held = tokio::time::timeout(LIMIT, coming).await.unwrap().unwrap();
    world.operator.pause();
    (held, operator(&world.cluster, &world.servers, "second").await)
}

/// The next leader has seen what is there by now, and has done what was to be done.
async fn is_seen(world: &World, object: &str) {
    eventually(&format!("{object} is seen by the next leader"), LIMIT, async || {
        let found = world.json(&["get", object]).await;
        let (now, seen) = (&found["metadata"]["generation"], &found["status"]["observedGeneration"]);
        if now == seen { Ok(()) } else { Err(format!("{seen} of {now}")) }
    })
    .await;
}

/// The late write arrives, and its sender wakes up. Gives how the API server answered.
async fn arrives(world: &World, held: HeldWrite) -> StatusCode {
    let answer = held.release().await.unwrap();
    world.operator.resume();
    let ended = world.operator.wait(LIMIT).await.unwrap();
    assert!(!ended.success(), "it ends, so that it is started anew: {ended}");
    answer
}

async fn replicas(world: &World, name: &str) -> Option<i32> {
    world.deployment(name).await.spec.unwrap().replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_not_written_late() {
    let (world, way) = leader().await;
    let two = ["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"aggregate":{"workers":2}}}"#];
    let write = (&way, Method::PATCH, "/deployments/main-aggregate");
    let (held, _second) = stopped_with(&world, write, &two).await;
    // What it would write is not wanted any more; what is there is right, as nobody has written.
    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"aggregate":{"workers":1}}}"#]).await;
    is_seen(&world, "cpl/main").await;
    let before = picture(&world).await;
    assert_eq!(arrives(&world, held).await, StatusCode::CONFLICT);
    assert_eq!(picture(&world).await, before);
    assert_eq!(replicas(&world, "main-aggregate").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_not_deleted_late() {
    let (world, way) = leader().await;
    let _zero = world.ingest("main-ingest-0");
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    world.deployment("main-ingest-1").await;
    let one = ["scale", "cpl/main", "--replicas=1"];
    let write = (&way, Method::DELETE, "/deployments/main-ingest-1");
    let (held, _second) = stopped_with(&world, write, &one).await;
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    let _one = world.ingest("main-ingest-1");
    world.apply(&[channel("own", "sim_1", ""), channel("other", "sim_2", "")].concat()).await;
    world.are_joined(&["sim_1", "sim_2"]).await;
    is_seen(&world, "cpl/main").await;
    let before = picture(&world).await;
    assert_eq!(arrives(&world, held).await, StatusCode::CONFLICT);
    assert_eq!(picture(&world).await, before);
    world.are_joined(&["sim_1", "sim_2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_made_late_is_removed_again() {
    let (world, way) = leader().await;
    let _zero = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    let two = ["scale", "cpl/main", "--replicas=2"];
    let write = (&way, Method::PATCH, "/deployments/main-ingest-1");
    let (held, _second) = stopped_with(&world, write, &two).await;
    world.kubectl(&["scale", "cpl/main", "--replicas=1"]).await;
    is_seen(&world, "cpl/main").await;
    let before = outcome(&world).await.unwrap();
    // Nothing that is there is overwritten, so there is nothing that could have been compared.
    assert_eq!(arrives(&world, held).await, StatusCode::CREATED);
    eventually("all is as if nothing had been made", LIMIT, async || {
        match difference(&outcome(&world).await?, &before) {
            None => Ok(()),
            Some(difference) => Err(difference),
        }
    })
    .await;
    world.are_joined(&["sim_1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_not_written_late() {
    let (world, way) = leader().await;
    let _zero = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    let suspend = |suspend: bool| format!(r#"{{"spec":{{"suspend":{suspend}}}}}"#);
    let edit = suspend(true);
    let write = (&way, Method::PATCH, "/trackedchannels/one/status");
    let (held, _second) = stopped_with(&world, write, &["patch", "tc/one", "--type=merge", "-p", &edit]).await;
    world.kubectl(&["patch", "tc/one", "--type=merge", "-p", &suspend(false)]).await;
    is_seen(&world, "tc/one").await;
    world.ready("tc/one", "True", "Joined").await;
    let status = async || -> Value { world.json(&["get", "tc/one"]).await["status"].clone() };
    let before = status().await;
    assert_eq!(arrives(&world, held).await, StatusCode::CONFLICT);
    assert_eq!(status().await, before);
    world.are_joined(&["sim_1"]).await;
}
