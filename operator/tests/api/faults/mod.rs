//! What an operator does, and does not do, when it is stopped, when NATS loses what it had, and when nothing happens.

mod bus;
mod crash;
mod late;
mod lists;
mod way;

use crate::world::{LIMIT, World, channel, operator};
use clamor_testkit::eventually;
use kube::ResourceExt as _;
use serde_json::Value;
use std::collections::BTreeMap;

/// What all Deployments are told to be, and what all TrackedChannels say of themselves.
async fn picture(world: &World) -> BTreeMap<String, String> {
    let mut picture = BTreeMap::new();
    for deployment in world.deployments().list(&kube::api::ListParams::default()).await.unwrap() {
        picture.insert(deployment.name_any(), format!("{:?} {:?}", deployment.uid(), deployment.metadata.generation));
    }
    for object in world.json(&["get", "tc"]).await["items"].as_array().unwrap() {
        picture.insert(object["metadata"]["name"].to_string(), object["status"].to_string());
    }
    picture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_changes_nothing_when_it_wakes_up() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    let bus = world.bus().await;
    let written = async || bus.assignment("main-ingest-0").await.map(|kept| kept.revision).unwrap_or_default();
    let first = written().await;
    world.operator.pause();
    let second = operator(&world.cluster, &world.servers, "second").await;
    // What the stopped one may still send to the bus is refused from then on.
    eventually("the assignment is written again as it is", LIMIT, async || match written().await {
        now if now > first => Ok(()),
        now => Err(now),
    })
    .await;
    world.apply(&channel("two", "sim_2", "")).await;
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    world.deployment("main-ingest-1").await;
    let _another = world.ingest("main-ingest-1");
    world.wait("tc/two", "Ready").await;
    world.kubectl(&["delete", "tc/one"]).await;
    world.are_joined(&["sim_2"]).await;
    let before = picture(&world).await;
    world.operator.resume();
    let ended = world.operator.wait(LIMIT).await.unwrap();
    assert!(!ended.success(), "it ends, so that it is started anew: {ended}");
    assert_eq!(picture(&world).await, before);
    world.are_joined(&["sim_2"]).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_bucket_of_assignments_is_lost_no_channel_is_parted() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&[channel("one", "sim_1", ""), channel("two", "sim_2", "")].concat()).await;
    world.are_joined(&["sim_1", "sim_2"]).await;
    world.wait("tc/two", "Ready").await;
    let bus = world.bus().await;
    bus.jetstream().delete_key_value(bus.names().assignments_bucket()).await.unwrap();
    eventually("the assignment is written again", LIMIT, async || {
        let kept = bus.assignment("main-ingest-0").await.map_err(|error| error.to_string())?;
        let logins: Vec<String> =
            kept.assignment.unwrap_or_default().channels.into_iter().map(|channel| channel.login).collect();
        if logins == ["sim_1", "sim_2"] { Ok(()) } else { Err(format!("{logins:?}")) }
    })
    .await;
    // And what is written anew is followed.
    world.kubectl(&["delete", "tc/one"]).await;
    world.are_joined(&["sim_2"]).await;
    assert_eq!(leaves(&world).await, 1, "only the deleted channel was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_finds_neither_assignments_nor_memory_keeps_every_channel_where_it_is_read() {
    let mut world = World::with_pipeline().await;
    let slots = ["main-ingest-0", "main-ingest-1"];
    let _first = world.ingest(slots[0]);
    let logins: Vec<String> = (0..12).map(|number| format!("sim_{number}")).collect();
    world.apply(&logins.iter().map(|login| channel(&login.replace('_', "-"), login, "")).collect::<String>()).await;
    world.wait("tc/sim-11", "Ready").await;
    // Of two slots that begin together each would get about half; one that comes later gets less.
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    let _second = world.ingest(slots[1]);
    let bus = world.bus().await;
    let told = async |slot: &str| -> Vec<String> {
        let kept = bus.assignment(slot).await.map(|kept| kept.assignment.unwrap_or_default()).unwrap_or_default();
        kept.channels.into_iter().map(|channel| channel.login).collect()
    };
    let before = eventually("some channels have moved", LIMIT, async || {
        let told = [told(slots[0]).await, told(slots[1]).await];
        if told[0].len() + told[1].len() == 12 && told[1].len() > 1 { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    for slot in slots {
        world.runs(slot).await;
    }
    let moved = before[1].len() as u64;
    eventually("what has moved is left", LIMIT, async || match leaves(&world).await {
        left if left == moved => Ok(()),
        left => Err(format!("{left} of {moved}")),
    })
    .await;

    world.operator.kill9().await;
    bus.jetstream().delete_key_value(bus.names().assignments_bucket()).await.unwrap();
    world.operator = operator(&world.cluster, &world.servers, "second").await;
    eventually("it writes down what is read", LIMIT, async || {
        let told = [told(slots[0]).await, told(slots[1]).await];
        if told.iter().all(|told| !told.is_empty()) { Ok(()) } else { Err(world.operator.log_tail()) }
    })
    .await;
    assert_eq!([told(slots[0]).await, told(slots[1]).await], before);
    // And goes on from there.
    world.kubectl(&["delete", "tc/sim-0"]).await;
    eventually("the deleted channel alone is left", LIMIT, async || match leaves(&world).await - moved {
        1 => Ok(()),
        left => Err(format!("{left}\n{}", world.operator.log_tail())),
    })
    .await;
}

/// How many channels were left so far.
async fn leaves(world: &World) -> u64 {
    let ledger: Value = world.simulator.ledger().await.unwrap();
    ledger["channels"].as_array().unwrap().iter().map(|channel| channel["leaves"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_nothing_is_written_but_the_lease() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    world.is_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_goes_on_where_it_was() {
    let mut world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    world.operator.kill9().await;
    world.kubectl(&["delete", "deployment/main-ingest-0"]).await;
    world.apply(&channel("two", "sim_2", "")).await;
    world.kubectl(&["delete", "tc/one"]).await;
    world.operator.restart().unwrap();
    world.wait("tc/two", "Ready").await;
    world.deployment("main-ingest-0").await;
    world.are_joined(&["sim_2"]).await;
}
