//! Objects that do not decode, as on a control plane whose definitions permit more than this version of Clamor knows: a
//! newer one's may.

use crate::world::{LIMIT, PIPELINE, World, channel, operator};
use clamor_testkit::kube::{ControlPlane, ControlPlaneOptions};
use clamor_testkit::{TestFolder, WorkerProcess, eventually};
use serde_json::json;

/// A pipeline `main`, with a worker, in a control plane whose definition of a kind takes any value of an enumeration.
async fn world(folder: &TestFolder, definition: &str, field: &str) -> (World, ControlPlane, WorkerProcess) {
    let plane = ControlPlane::start(ControlPlaneOptions::new(folder.path().join("plane"))).await.unwrap();
    let world = World::start_at(&plane).await;
    world.apply(PIPELINE).await;
    let worker = world.ingest("main-ingest-0");
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}/enum");
    let patch = json!([{"op": "remove", "path": path}]).to_string();
    world.kubectl(&["patch", &format!("crd/{definition}.clamor.dev"), "--type=json", "-p", &patch]).await;
    (world, plane, worker)
}

/// Applies what only the wider definition takes, once that is served.
async fn apply_unreadable(world: &World, manifest: &str) {
    eventually("what nobody knows is taken", LIMIT, async || {
        world.cluster.apply(manifest).await.map_err(|error| format!("{error:#}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_decode_stops_nothing() {
    let folder = TestFolder::new().unwrap();
    let (world, _plane, _worker) = world(&folder, "trackedchannels", "isolation").await;
    world.apply(&channel("changed", "sim_1", "")).await;
    world.wait("tc/changed", "Ready").await;
    apply_unreadable(&world, &channel("unknown", "sim_2", ", isolation: Elsewhere")).await;
    world.kubectl(&["patch", "tc/changed", "--type=merge", "-p", r#"{"spec":{"isolation":"Elsewhere"}}"#]).await;
    world.apply(&channel("after", "sim_3", "")).await;
    world.wait("tc/after", "Ready").await;
    // What was good stays as it was; what never was is not read.
    world.are_joined(&["sim_1", "sim_3"]).await;
    world.ready("tc/unknown", "Unknown", "Pending").await;
    // Neither does it stop an operator that begins with it.
    world.operator.kill9().await;
    let second = operator(&world.cluster, &world.servers, "second").await;
    world.apply(&channel("later", "sim_4", "")).await;
    world.wait("tc/later", "Ready").await;
    assert!(second.log().unwrap().contains("does not decode"));
    // Of the one that was good it knows nothing, and so leaves it where it is read.
    world.are_joined(&["sim_1", "sim_3", "sim_4"]).await;
    world.kubectl(&["delete", "tc/changed", "tc/unknown"]).await;
    world.are_joined(&["sim_3", "sim_4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phrase_that_an_operator_cannot_read_goes_on_counting_as_it_was_until_it_is_deleted() {
    let folder = TestFolder::new().unwrap();
    let field = "channelSelector/properties/matchExpressions/items/properties/operator";
    let (world, _plane, _worker) = world(&folder, "phrases", field).await;
    let phrase = |name: &str, operator: &str| {
        format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec:\n  pattern: {name}\n  \
             channelSelector: {{matchExpressions: [{{key: team, operator: {operator}}}]}}\n---\n"
        )
    };
    world.apply(&[channel("one", "sim_1", ""), phrase("changed", "DoesNotExist")].concat()).await;
    world.ready("ph/changed", "True", "Counting").await;
    let bus = world.bus().await;
    let are_told = async |names: &[&str]| {
        eventually(&format!("the phrases in force are {names:?}"), LIMIT, async || {
            let mut told = Vec::new();
            for shard in 0..2 {
                let (_, directive) = bus.last_directive(shard).await.map_err(|error| error.to_string())?;
                let name = directive.ok_or("no directive")?.plan;
                let plan: clamor_bus::set::Plan = bus.get_set(&name).await.map_err(|error| error.to_string())?;
                let Some(name) = plan.phrases else { continue };
                let set: clamor_bus::set::PhraseSet = bus.get_set(&name).await.map_err(|error| error.to_string())?;
                told.push(set.phrases.into_iter().map(|phrase| phrase.name).collect::<Vec<_>>());
            }
            if told == [names, names] { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    };
    apply_unreadable(&world, &phrase("changed", "Resembles")).await;
    world.operator.kill9().await;
    let _second = operator(&world.cluster, &world.servers, "second").await;
    world.apply(&phrase("later", "DoesNotExist")).await;
    world.ready("ph/later", "True", "Counting").await;
    are_told(&["changed", "later"]).await;
    world.kubectl(&["delete", "ph/changed"]).await;
    are_told(&["later"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_pipeline_that_an_operator_cannot_read_all_stays_as_it_is_until_it_can() {
    let folder = TestFolder::new().unwrap();
    let (world, _plane, _worker) = world(&folder, "chatpipelines", "scaling/properties/mode").await;
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    apply_unreadable(&world, &PIPELINE.replace("  shards: 2", "  shards: 2\n  scaling: {mode: Sideways}")).await;
    world.operator.kill9().await;
    let second = operator(&world.cluster, &world.servers, "second").await;
    // A younger one does not take its place.
    world
        .apply(&[&PIPELINE.replace("name: main", "name: other"), "---\n", &channel("two", "sim_2", "")].concat())
        .await;
    eventually("the second operator works", LIMIT, async || {
        let metrics = second.metrics().await.map_err(|error| format!("{error:#}"))?;
        if metrics.count("controller_runtime_reconcile_total", &[]) >= 3.0 { Ok(()) } else { Err(second.log_tail()) }
    })
    .await;
    world.ready("tc/two", "Unknown", "Pending").await;
    world.only_deployments(&["main-aggregate", "main-ingest-0"]).await;
    world.are_joined(&["sim_1"]).await;
    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"scaling":{"mode":"Off"}}}"#]).await;
    world.wait("tc/two", "Ready").await;
    world.ready("cpl/other", "False", "DuplicatePipeline").await;
}
