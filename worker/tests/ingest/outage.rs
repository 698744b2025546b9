//! The bus goes away, hangs or refuses, and comes back.

use crate::harness::{Ingest, LIMIT, SHARDS, World};
use crate::wire::Twitch;
use clamor_bus::StreamLimits;
use clamor_bus::report::ChannelState;
use clamor_testkit::eventually;
use nix::sys::signal::Signal;
use std::time::Duration;

async fn publish_failed(ingest: &Ingest) {
    eventually("a publish that failed", LIMIT, async || {
        let failures = ingest.scrape().count("clamor_ingest_publish_failures_total", &[]);
        if failures >= 1.0 { Ok(()) } else { Err("none") }
    })
    .await;
}

#[tokio::test]
async fn chat_waits_for_a_bus_that_is_away_and_nothing_is_lost() {
    let (mut world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    world.servers.kill_nats();
    for number in 0..1000 {
        peer.chat("room", 77, &number.to_string()).await;
    }
    eventually("chat that waits", LIMIT, async || {
        let waiting = ingest.scrape().count("clamor_ingest_queue_batches", &[]);
        if waiting >= 8.0 { Ok(()) } else { Err(format!("{waiting} batches")) }
    })
    .await;
    world.servers.restart_nats().await.unwrap();
    world.published_when("all of it", |published| published.texts(77).len() == 1000).await;
    let metrics = ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(published.texts(77), expected);
    assert_eq!(metrics.count("clamor_ingest_events_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn a_publish_without_an_answer_is_repeated_and_stands_in_the_stream_once() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    world.servers.nats().signal(Signal::SIGSTOP);
    peer.chat_many("room", 77, 0..300, 10).await;
    publish_failed(&ingest).await;
    peer.chat_many("room", 77, 300..600, 10).await;
    world.servers.nats().signal(Signal::SIGCONT);
    world.published_when("all of it", |published| published.texts(77).len() >= 600).await;
    ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(published.text_numbers(77), (0..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn chat_waits_for_a_full_stream_and_nothing_is_lost() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let limits = |max_bytes| StreamLimits { max_age: Duration::from_secs(86_400), max_bytes };
    world.bus.ensure(SHARDS, &limits(40_000)).await.unwrap();
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    peer.chat_many("room", 77, 0..1000, 100).await;
    publish_failed(&ingest).await;
    assert!(world.published().await.texts(77).len() < 1000);
    world.bus.ensure(SHARDS, &limits(64 << 20)).await.unwrap();
    world.published_when("all of it", |published| published.texts(77).len() >= 1000).await;
    ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(published.text_numbers(77), (0..1000).collect::<Vec<_>>());
}
