//! The definitions: what an operator says without them, or with those of another version.

use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_testkit::kube::{ControlPlane, ControlPlaneOptions};
use clamor_testkit::{TestFolder, eventually};
use serde_json::Value;

const KINDS: [&str; 4] = ["channeldiscoveries", "chatpipelines", "phrases", "trackedchannels"];

/// As they are checked in.
fn definition(kind: &str) -> Value {
    let path = format!("{}/../crds/{kind}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// It is not ready, and says why in these words, to whoever asks and in its log.
async fn says(world: &World, words: &str) {
    eventually(&format!("it is not ready: {words}"), LIMIT, async || {
        let (status, text) = world.operator.get("/readyz").await.map_err(|error| format!("{error:#}"))?;
        let log = world.operator.log().map_err(|error| format!("{error:#}"))?;
        if status == 503 && text.contains(words) && log.contains(words) {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_ready_only_while_every_definition_is_there_with_every_field() {
    let folder = TestFolder::new().unwrap();
    let options =
        ControlPlaneOptions { has_definitions: false, ..ControlPlaneOptions::new(folder.path().join("plane")) };
    let plane = ControlPlane::start(options).await.unwrap();
    let world = World::begin_at(&plane).await;
    says(&world, "the API server has no kinds of clamor.dev/v1alpha1").await;
    for kind in KINDS {
        let mut definition = definition(kind);
        if kind == "trackedchannels" {
            let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
            let lost = definition.pointer_mut(status).unwrap().as_object_mut().unwrap().remove("messagesPerMinute");
            assert!(lost.is_some());
        }
        world.apply(&definition.to_string()).await;
    }
    says(&world, "TrackedChannel lacks status.messagesPerMinute").await;
    world.apply(&definition("trackedchannels").to_string()).await;
    world.operator.ready(LIMIT).await;
    world.apply(PIPELINE).await;
    world.deployment("main-ingest-0").await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;

    // With its definition every object of a kind is deleted.
    world.kubectl(&["delete", "crd/trackedchannels.clamor.dev"]).await;
    says(&world, "the API server has no TrackedChannel").await;
    world.only_deployments(&["main-aggregate", "main-ingest-0"]).await;
    world.apply(&definition("trackedchannels").to_string()).await;
    world.operator.ready(LIMIT).await;
    eventually("the kind is served", LIMIT, async || {
        world.cluster.apply(&channel("two", "sim_2", "")).await.map_err(|error| format!("{error:#}"))
    })
    .await;
    world.wait("tc/two", "Ready").await;
    world.are_joined(&["sim_2"]).await;
}
