//! The bus goes away and comes back.

use crate::harness::{LIMIT, World};
use crate::wire::Twitch;
use clamor_bus::report::ChannelState;
use clamor_testkit::eventually;

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
