//! What is said to have been heard, where nobody says that it was not.

use crate::harness::{LIMIT, World};
use crate::wire::Twitch;
use clamor_bus::report::ChannelState;
use clamor_chat::wire::event::Kind;
use clamor_testkit::eventually;
use clamor_worker::ingest::TwitchOptions;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test]
async fn a_half_open_connection_is_closed_and_covers_nothing_after_its_last_sign_of_life() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    peer.chat("room", 77, "one").await;
    let joined = world.published_when("the join", |published| !published.joins(77).is_empty()).await.joins(77)[0].1;
    world
        .published_when("coverage of silence", |published| {
            published.heard_until().get(&1).is_some_and(|until| *until > joined + 1000)
        })
        .await;
    peer.fall_silent();
    let silent_ms = now_ms();
    // No FIN, no RST: only we can find out.
    let mut second = twitch.accept_login().await;
    let found_ms = now_ms() - silent_ms;
    assert!(found_ms < 20_000, "found after {found_ms} ms");
    second.admit("room", 77).await;
    let published = world.published_when("the second join", |published| published.joins(77).len() == 2).await;
    let until = published.heard_until()[&1];
    assert!(until <= silent_ms && until + 5000 > silent_ms, "silent since {silent_ms}, heard until {until}");
    let ended = published.kinds().contains(&(1, 0, "connection_ended"));
    assert!(ended, "the stream says that it is over");
    let metrics = ingest.drain().await;
    assert_eq!(metrics.count("clamor_ingest_connections_ended_total", &[("cause", "ping_timeout")]), 1.0);
}

#[tokio::test]
async fn a_join_without_an_answer_covers_nothing() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["heard", "nobody"]).await;
    let options = TwitchOptions { answer_limit: Duration::from_millis(300), ..twitch.options() };
    let ingest = world.ingest(options);
    let mut peer = twitch.accept_login().await;
    peer.expect("JOIN #nobody").await;
    peer.admit_unasked("heard", 1).await;
    let report = world.all_in(&["nobody"], ChannelState::Unanswered).await;
    assert_eq!(report.channels.iter().find(|channel| channel.login == "nobody").unwrap().channel_id, None);
    eventually("marks", LIMIT, async || {
        let marks = world.published().await.heard_until();
        if marks.contains_key(&1) { Ok(()) } else { Err("none") }
    })
    .await;
    ingest.drain().await;
    let published = world.published().await;
    let covers = |kind: &Kind| matches!(kind, Kind::Joined(_) | Kind::Snapshot(_));
    let covering = published.events().filter(|event| event.kind.as_ref().is_some_and(covers));
    let channels: Vec<u64> = covering.map(|event| event.channel_id).collect();
    assert_eq!(channels, [1]);
}
