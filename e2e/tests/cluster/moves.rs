//! Channels that move from slot to slot while they are spoken in, at redundancy 1. Whether a line was lost shows at the
//! end.

use crate::fleet::{Fleet, channel, list};
use serde_json::json;

const IMAGES: &[&str] = &["get", "deployments", "-o", "jsonpath={.items[*].spec.template.spec.containers[0].image}"];

const NAMES: &str = "jsonpath={.items[*].metadata.name}";

pub(crate) async fn to_more_slots_and_to_fewer(fleet: &Fleet) {
    scale(fleet, &["main-ingest-0", "main-ingest-1", "main-ingest-2"]).await;
    scale(fleet, &["main-ingest-0", "main-ingest-1"]).await;
}

pub(crate) async fn to_one_slot(fleet: &Fleet) {
    scale(fleet, &["main-ingest-0"]).await;
}

async fn scale(fleet: &Fleet, slots: &[&str]) {
    let replicas = format!("--replicas={}", slots.len());
    fleet.counts_on().await;
    fleet.step(&format!("kubectl scale cpl/main {replicas}"));
    fleet.node.kubectl(&["scale", "cpl/main", &replicas]).unwrap();
    fleet.shared_by(slots, 1).await;
    let deployments = ["get", "deployments", "-l", "app.kubernetes.io/component=ingest", "-o", NAMES];
    fleet.shows(&deployments, &slots.join(" ")).await;
    fleet.step(&format!("{:?}", fleet.channels_of_slots()));
    fleet.heard_by(1).await;
}

pub(crate) async fn to_a_slot_of_its_own_and_back(fleet: &Fleet) {
    // The busiest.
    let set =
        |isolation: &str| fleet.node.apply(&list(&[channel("sim_0", &json!({ "isolation": isolation }))])).unwrap();
    let slots = ["get", "tc", "sim-0", "-o", "jsonpath={.status.slots[*].name}"];
    fleet.step("the busiest channel gets a Deployment of its own");
    set("Dedicated");
    let shared = |found: &str| ["main-ingest-0", "main-ingest-1"].contains(&found);
    let own = |found: &str| !found.is_empty() && !shared(found) && !found.contains(' ');
    fleet.shows_that(&slots, "a slot of its own", own).await;
    let slot = fleet.node.kubectl(&slots).unwrap();
    fleet.node.kubectl(&["rollout", "status", &format!("deployment/{slot}"), "--timeout=60s"]).unwrap();
    fleet.counts_on().await;
    fleet.step(&format!("it is read in {slot} alone, and goes back"));
    set("Shared");
    fleet.shows_that(&slots, "a shared slot", shared).await;
    let deployment = ["get", "deployment", &slot, "--ignore-not-found", "-o", "name"];
    fleet.shows(&deployment, "").await;
    fleet.heard_by(1).await;
}

pub(crate) async fn to_a_new_image(fleet: &Fleet) {
    fleet.node.load("next").unwrap();
    fleet.counts_on().await;
    fleet.step("helm upgrade --set image.tag=next");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/clamor");
    let upgrade = ["upgrade", "clamor", chart, "--reuse-values", "--set", "image.tag=next", "--wait", "--timeout=3m"];
    fleet.node.helm(&upgrade).unwrap();
    fleet
        .shows_that(IMAGES, "the new image alone", |found| {
            !found.is_empty() && found.split(' ').all(|image| image == "localhost/clamor:next")
        })
        .await;
    for name in fleet.node.kubectl(&["get", "deployments", "-o", "name"]).unwrap().lines() {
        fleet.node.kubectl(&["rollout", "status", name, "--timeout=180s"]).unwrap();
    }
    // The old ones leave when the new ones have joined.
    let running = ["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
    fleet.shows(&running, &["localhost/clamor:next"; 3].join(" ")).await;
    fleet.heard_by(1).await;
    fleet.step("every worker runs the new image");
}
