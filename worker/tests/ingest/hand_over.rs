//! An instance that is told to stop reads on until another one of its slot does.

use crate::harness::{Ingest, LIMIT, SHARDS, SLOT, World};
use crate::wire::Twitch;
use clamor_bus::report::ChannelState;
use clamor_testkit::eventually;
use clamor_worker::ingest::IngestOptions;
use std::time::{Duration, Instant};

fn start(world: &World, twitch: &Twitch, limit_s: u64) -> Ingest {
    let drain_limit = Duration::from_secs(limit_s);
    Ingest::start(IngestOptions {
        drain_limit,
        ..IngestOptions::new(SLOT, world.bus.clone(), SHARDS, twitch.options())
    })
}

#[tokio::test]
async fn the_old_instance_leaves_when_the_new_one_has_joined_and_no_time_is_uncovered() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["one", "two"]).await;
    let old = start(&world, &twitch, 60);
    let mut first = twitch.accept_login().await;
    first.admit("one", 1).await;
    first.admit("two", 2).await;
    let report = world.all_in(&["one", "two"], ChannelState::Joined).await;
    old.ask_to_stop();
    world.reported("that it drains", |report| report.draining).await;

    let new = start(&world, &twitch, 0);
    let mut second = twitch.accept_login().await;
    second.admit("one", 1).await;
    world
        .reported("one channel of the new", |new| {
            let joined = |channel: &clamor_bus::report::ChannelReport| channel.state == ChannelState::Joined;
            new.instance != report.instance && new.channels.iter().filter(|channel| joined(channel)).count() == 1
        })
        .await;
    first.chat("two", 2, "while nobody else hears it").await;
    world.published_when("it", |published| published.texts(2).len() == 1).await;
    assert!(!old.has_ended(), "two is not joined yet");

    second.expect("JOIN #two").await;
    second.admit_unasked("two", 2).await;
    eventually("the old one's end", LIMIT, async || if old.has_ended() { Ok(()) } else { Err("it is there") }).await;
    old.drain().await;
    let published = world.published().await;
    let old_instance = u64::from_str_radix(&report.instance, 16).unwrap();
    let joins = |channel: u64| {
        let of_new = published.batches.iter().filter(|(_, batch)| batch.instance != old_instance);
        let events = of_new.flat_map(|(_, batch)| &batch.events);
        let joined = events.filter(|event| matches!(event.kind, Some(clamor_chat::wire::event::Kind::Joined(_))));
        joined.filter(|event| event.channel_id == channel).map(|event| event.sent_at_ms).max().unwrap()
    };
    let until = published.heard_until_by(old_instance);
    assert!(until >= joins(1) && until >= joins(2), "heard until {until}, by the new one from {}", joins(2));
    new.drain().await;
}

#[tokio::test]
async fn without_a_successor_it_leaves_at_the_limit() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = start(&world, &twitch, 4);
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    let asked = Instant::now();
    ingest.ask_to_stop();
    world.reported("that it drains", |report| report.draining).await;
    peer.chat("room", 77, "still heard").await;
    world.published_when("it", |published| published.texts(77).len() == 1).await;
    ingest.drain().await;
    let took = asked.elapsed();
    assert!((4..12).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn with_nothing_assigned_it_leaves_at_once() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    let ingest = start(&world, &twitch, 600);
    world.reported("a report", |report| report.channels.is_empty()).await;
    // Its limit is below the ten minutes.
    ingest.drain().await;
}
