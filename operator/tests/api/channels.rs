//! Channels and phrases: applied, changed, refused, deleted.

use crate::world::{World, channel};
use serde_json::json;

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
    let phrase = |name: &str, spec: &str| {
        format!("apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
    };
    let phrases = [
        phrase("gg", "pattern: 'gg+'"),
        phrase("broken", "pattern: '(gg'"),
        phrase("nowhere", "pattern: 'x', channelFilter: 'other_.*'"),
    ];
    world.apply(&phrases.concat()).await;
    world.wait("ph/gg", "Ready").await;
    world.ready("ph/gg", "True", "Counting").await;
    world.ready("ph/nowhere", "True", "NoChannels").await;
    world.ready("ph/broken", "False", "InvalidPattern").await;
    world.wait("ph/broken", "Stalled").await;
    let broken = world.event("broken", "InvalidPattern").await;
    assert!(broken.message.unwrap().contains("unclosed group"));
    world.wait("tc/one", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_channels_for_one_login_the_older_works_and_the_other_takes_its_place() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("first", "sim_1", "")).await;
    world.wait("tc/first", "Ready").await;
    world.apply(&channel("second", "sim_1", "")).await;
    world.ready("tc/second", "False", "DuplicateChannel").await;
    world.kubectl(&["delete", "tc/first"]).await;
    world.wait("tc/second", "Ready").await;
    world.are_joined(&["sim_1"]).await;
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
    world.ready("tc/one", "False", "NoPipeline").await;
    world.wait("tc/one", "Stalled").await;
    world.only_deployments(&[]).await;
}
