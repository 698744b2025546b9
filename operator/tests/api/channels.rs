//! Channels and phrases: applied, changed, refused, deleted.

use crate::world::{PIPELINE, World, channel};
use serde_json::json;

fn phrase(name: &str, spec: &str) -> String {
    format!("apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_channel_is_joined_and_ready_and_a_deleted_one_is_left() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    world.are_joined(&["sim_1"]).await;
    let one = world.json(&["get", "tc/one"]).await;
    assert_eq!(one["status"]["slotNames"], "main-ingest-0");
    assert_eq!(one["status"]["slots"], json!([{"name": "main-ingest-0", "state": "Joined"}]));
    assert!(one["status"]["channelId"].is_number());
    world.event("one", "Joined").await;

    world.kubectl(&["patch", "tc/one", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).await;
    world.ready("tc/one", "True", "Suspended").await;
    world.are_joined(&[]).await;
    world.kubectl(&["patch", "tc/one", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]).await;
    world.are_joined(&["sim_1"]).await;
    world.kubectl(&["delete", "tc/one"]).await;
    world.are_joined(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phrase_counts_and_one_that_does_not_compile_says_why() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    let phrases = [
        phrase("gg", "pattern: 'gg+'"),
        phrase("broken", "pattern: '(gg'"),
        phrase("large", r"pattern: '\w{1000}'"),
        phrase("nowhere", "pattern: 'x', channelFilter: 'other_.*'"),
    ];
    world.apply(&phrases.concat()).await;
    world.wait("ph/gg", "Ready").await;
    world.ready("ph/gg", "True", "Counting").await;
    world.ready("ph/nowhere", "True", "NoChannels").await;
    for (object, words) in [("ph/broken", "unclosed group"), ("ph/large", "exceeds size limit")] {
        let said = world.warned(object, "InvalidPattern").await;
        assert!(said.contains(words), "{said}");
        world.wait(object, "Stalled").await;
    }
    world.wait("tc/one", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_channels_for_one_login_the_older_works_and_the_other_takes_its_place() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("first", "sim_1", "")).await;
    world.wait("tc/first", "Ready").await;
    world.apply(&channel("second", "sim_1", "")).await;
    assert!(world.warned("tc/second", "DuplicateChannel").await.contains("first"));
    world.kubectl(&["delete", "tc/first"]).await;
    world.wait("tc/second", "Ready").await;
    world.are_joined(&["sim_1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_more_than_the_slots_hold_waits_for_room_and_the_others_are_read() {
    let world = World::start().await;
    world.apply(&PIPELINE.replace("{workers: 1}", "{workers: 1, capacity: {channels: 2}}")).await;
    world.deployment("main-ingest-0").await;
    let _worker = world.ingest("main-ingest-0");
    for number in 1..=2 {
        let name = format!("c{number}");
        world.apply(&channel(&name, &format!("sim_{number}"), "")).await;
        world.wait(&format!("tc/{name}"), "Ready").await;
    }
    world.apply(&channel("c3", "sim_3", "")).await;
    let said = world.warned("tc/c3", "NoCapacity").await;
    assert!(said.contains("spec.ingest.capacity.channels"), "{said}");
    world.are_joined(&["sim_1", "sim_2"]).await;
    let more = r#"{"spec":{"ingest":{"capacity":{"channels":3}}}}"#;
    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", more]).await;
    world.wait("tc/c3", "Ready").await;
    world.are_joined(&["sim_1", "sim_2", "sim_3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_exist_is_not_ready_and_the_others_are() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&[channel("one", "sim_1", ""), channel("gone", "suspended_one", "")].concat()).await;
    world.wait("tc/one", "Ready").await;
    world.ready("tc/gone", "False", "Joining").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pipeline_nothing_is_read_and_every_object_says_so() {
    let world = World::start().await;
    world.apply(&channel("one", "sim_1", "")).await;
    world.apply(&phrase("gg", "pattern: 'gg+'")).await;
    for object in ["tc/one", "ph/gg"] {
        assert!(world.warned(object, "NoPipeline").await.contains("create one"));
        world.wait(object, "Stalled").await;
    }
    world.only_deployments(&[]).await;
}
