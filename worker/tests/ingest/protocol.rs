//! Twitch's protocol, line by line.

use crate::harness::{Ingest, World};
use crate::wire::Twitch;
use clamor_bus::report::ChannelState;
use clamor_testkit::eventually;
use clamor_worker::ingest::{IngestOptions, TwitchOptions};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{LIMIT, SHARDS, SLOT};

#[tokio::test]
async fn chat_is_published_in_order_after_its_join() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    peer.chat("room", 77, "one").await;
    peer.chat("room", 77, "two").await;
    let report = world.all_in(&["room"], ChannelState::Joined).await;
    assert_eq!((report.channels[0].channel_id, report.revision), (Some(77), Some(1)));
    eventually("readiness", LIMIT, async || match ingest.health.waits() {
        waits if waits.is_empty() => Ok(()),
        waits => Err(waits.join(", ")),
    })
    .await;
    let metrics = ingest.drain().await;

    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(published.texts(77), ["one", "two"]);
    let expected =
        [(1, 77, "joined"), (1, 77, "room_state"), (1, 77, "message"), (1, 77, "message"), (1, 0, "connection_ended")];
    assert_eq!(published.kinds(), expected);
    assert_eq!(metrics.count("clamor_ingest_messages_total", &[("kind", "message")]), 2.0);
    assert!(world.bus.reports().await.unwrap().is_empty(), "the report is deleted");
}

#[tokio::test]
async fn no_line_ends_the_connection() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    for bad in ["", "@", ":", "@a=b", "\u{1}", "PRIVMSG", "@room-id=x PRIVMSG #", ":x JOIN", "PING", "NOTICE", "123"] {
        peer.say(bad).await;
    }
    peer.say_bytes(b"PRIVMSG #room :\xff\xfe\r\n").await;
    peer.say_bytes(&[b'x'; 200_000]).await;
    peer.say("").await;
    peer.say("@room-id=;target-msg-id=abc :tmi.twitch.tv CLEARMSG #elsewhere :x").await;
    peer.chat("room", 77, "still here").await;
    world.published_when("the last line", |published| published.texts(77) == ["still here"]).await;
    let metrics = ingest.drain().await;
    let rejected = |reason| metrics.count("clamor_ingest_lines_rejected_total", &[("reason", reason)]);
    assert_eq!(rejected("over_long"), 1.0);
    assert_eq!(rejected("not_utf8"), 1.0);
    assert_eq!(rejected("unknown_room"), 1.0);
    assert!(rejected("malformed") >= 4.0);
}

#[tokio::test]
async fn the_biggest_channels_join_first_and_a_part_takes_its_join_back() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["huge", "big", "small"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept().await;
    peer.expect("NICK").await;
    // JOINs wait for the login: now is the time to think again.
    world.assign(2, &["huge", "new", "small"]).await;
    world.reported("the new revision", |report| report.revision == Some(2)).await;
    peer.say(":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!").await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(peer.next().await.unwrap());
    }
    assert_eq!(said, ["JOIN #huge", "JOIN #new", "JOIN #small"]);
    world.assign(3, &["huge", "small"]).await;
    assert_eq!(peer.next().await.unwrap(), "PART #new");
    ingest.drain().await;
}

#[tokio::test]
async fn a_parted_channel_is_no_longer_covered() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["one", "two"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("one", 1).await;
    peer.admit("two", 2).await;
    world.all_in(&["one", "two"], ChannelState::Joined).await;
    world.assign(2, &["two"]).await;
    peer.expect("PART #one").await;
    peer.chat("one", 1, "before the server has taken the PART").await;
    peer.say(":justinfan1!justinfan1@justinfan1.tmi.twitch.tv PART #one").await;
    let published =
        world.published_when("the end of one", |published| published.kinds().contains(&(1, 1, "parted"))).await;
    let of_one: Vec<_> = published.kinds().into_iter().filter(|(_, channel, _)| *channel == 1).collect();
    assert_eq!(of_one[2..], [(1, 1, "message"), (1, 1, "parted")]);
    world.reported("one channel", |report| report.channels.len() == 1).await;
    ingest.drain().await;
}

#[tokio::test]
async fn channels_that_cannot_be_heard_are_classified_and_the_others_are_heard() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["banned", "gone", "nobody", "room", "Not A Login"]).await;
    let options = TwitchOptions { answer_limit: Duration::from_millis(300), ..twitch.options() };
    let ingest = world.ingest(options);
    let mut peer = twitch.accept_login().await;
    for login in ["banned", "gone", "nobody", "room"] {
        peer.expect(&format!("JOIN #{login}")).await;
    }
    peer.say("@msg-id=msg_banned :tmi.twitch.tv NOTICE #banned :You are permanently banned from talking in banned.")
        .await;
    peer.say(
        "@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #gone :This channel does not exist or has been suspended.",
    )
    .await;
    peer.say("@msg-id=slow_on :tmi.twitch.tv NOTICE #nobody :This room is now in slow mode.").await;
    peer.admit_unasked("room", 4).await;
    world.all_in(&["banned"], ChannelState::Banned).await;
    world.all_in(&["gone"], ChannelState::TwitchSuspended).await;
    world.all_in(&["nobody"], ChannelState::Unanswered).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    world.all_in(&["Not A Login"], ChannelState::NotFound).await;
    eventually("readiness", LIMIT, async || match ingest.health.waits() {
        waits if waits.is_empty() => Ok(()),
        waits => Err(waits.join(", ")),
    })
    .await;
    ingest.drain().await;
}

#[tokio::test]
async fn a_channel_over_a_limit_of_twitchs_is_parted_and_asked_for_again() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let options = TwitchOptions { answer_limit: Duration::from_millis(300), ..twitch.options() };
    let ingest = world.ingest(options);
    let mut peer = twitch.accept_login().await;
    peer.expect("JOIN #room").await;
    peer.say("@msg-id=msg_join_limit_reached :tmi.twitch.tv NOTICE #room :You have joined too many channels.").await;
    world.all_in(&["room"], ChannelState::LimitReached).await;
    // Whatever Twitch believes, we are out, and the JOIN is one that it answers.
    peer.expect("PART #room").await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    ingest.drain().await;
}

#[tokio::test]
async fn a_dropped_connection_ends_its_coverage_and_the_channels_are_joined_again() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut first = twitch.accept_login().await;
    first.admit("room", 77).await;
    first.chat("room", 77, "one").await;
    world.all_in(&["room"], ChannelState::Joined).await;
    first.hang_up().await;
    let mut second = twitch.accept_login().await;
    second.admit("room", 77).await;
    second.chat("room", 77, "two").await;
    world.published_when("the second message", |published| published.texts(77).len() == 2).await;
    let metrics = ingest.drain().await;
    let published = world.published().await;
    let chat = |kind| ["message", "room_state"].contains(&kind);
    let covering: Vec<_> = published.kinds().into_iter().filter(|(_, _, kind)| !chat(*kind)).collect();
    assert_eq!(
        covering,
        [(1, 77, "joined"), (1, 0, "connection_ended"), (2, 77, "joined"), (2, 0, "connection_ended")]
    );
    assert_eq!(metrics.count("clamor_ingest_connections_ended_total", &[("cause", "closed")]), 1.0);
}

#[tokio::test]
async fn a_new_client_joins_before_the_old_one_leaves() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut first = twitch.accept_login().await;
    first.admit("room", 77).await;
    first.chat("room", 77, "one").await;
    world.all_in(&["room"], ChannelState::Joined).await;
    first.say(":tmi.twitch.tv RECONNECT").await;
    let mut second = twitch.accept_login().await;
    second.expect("JOIN #room").await;
    first.chat("room", 77, "two").await;
    second.admit_unasked("room", 77).await;
    assert_eq!(first.line("nothing is said like this").await, None, "the old one is closed by us");
    second.chat("room", 77, "three").await;
    let published = world.published_when("three messages", |published| published.texts(77).len() == 3).await;
    let (old, new) = (published.heard_until()[&1], published.joins(77)[1]);
    assert!(new.0 == 2 && old >= new.1, "heard by the old until {old}, by the new from {}", new.1);
    let metrics = ingest.drain().await;
    assert_eq!(metrics.count("clamor_ingest_connections_ended_total", &[("cause", "released")]), 2.0);
    assert_eq!(metrics.count("clamor_ingest_reconnects_asked_total", &[]), 1.0);
}

#[tokio::test]
async fn a_login_that_moved_to_another_room_is_renamed_and_parted() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut first = twitch.accept_login().await;
    first.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    first.hang_up().await;
    let mut second = twitch.accept_login().await;
    second.admit("room", 78).await;
    second.expect("PART #room").await;
    let report = world.all_in(&["room"], ChannelState::Renamed).await;
    assert_eq!(report.channels[0].channel_id, Some(77));
    ingest.drain().await;
}

#[tokio::test]
async fn a_refused_login_is_in_the_report_and_tried_again() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let token = world.servers.folder().join("token");
    std::fs::write(&token, "wrong\n").unwrap();
    let options =
        TwitchOptions { login: Some("reader".to_owned()), token_file: Some(token.clone()), ..twitch.options() };
    let ingest = world.ingest(options);
    let mut peer = twitch.accept().await;
    assert_eq!(peer.expect("PASS").await, "PASS oauth:wrong");
    peer.expect("NICK reader").await;
    peer.say(":tmi.twitch.tv NOTICE * :Login authentication failed").await;
    world.reported("the problem", |report| report.problem.contains("Login authentication failed")).await;
    std::fs::write(&token, "oauth:right").unwrap();
    peer.hang_up().await;
    let mut peer = twitch.accept().await;
    assert_eq!(peer.expect("PASS").await, "PASS oauth:right");
    peer.say(":tmi.twitch.tv 001 reader :Welcome, GLHF!").await;
    peer.admit("room", 77).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    world.reported("no problem", |report| report.problem.is_empty()).await;
    ingest.drain().await;
}

#[tokio::test]
async fn silence_is_pinged_and_marks_go_on() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = world.ingest(twitch.options());
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    let joined = world.published_when("the join", |published| !published.joins(77).is_empty()).await.joins(77)[0].1;
    world
        .published_when("coverage of silence", |published| {
            published.heard_until().get(&1).is_some_and(|until| *until > joined + 3000)
        })
        .await;
    // A gap begins 5 s after what was surely heard.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let lag_ms = now - u128::from(world.published().await.heard_until()[&1]);
    assert!(lag_ms < 5000, "{lag_ms} ms behind");
    let metrics = ingest.drain().await;
    assert!(metrics.count("clamor_ingest_ping_seconds_count", &[]) >= 3.0);
    world.published().await.assert_numbered();
}

#[tokio::test]
async fn without_an_assignment_nothing_is_read_and_a_missing_key_means_keep() {
    let (world, twitch) = (World::new().await, Twitch::new().await);
    let ingest = Ingest::start(IngestOptions::new(SLOT, world.bus.clone(), SHARDS, twitch.options()));
    world.reported("a report", |report| report.revision.is_none() && report.channels.is_empty()).await;
    assert_eq!(ingest.health.waits(), ["channels: no assignment yet"]);
    world.assign(1, &["room"]).await;
    let mut peer = twitch.accept_login().await;
    peer.admit("room", 77).await;
    let before = world.all_in(&["room"], ChannelState::Joined).await;
    let bucket = world.bus.jetstream().get_key_value(world.bus.names().assignments_bucket()).await.unwrap();
    bucket.purge(SLOT).await.unwrap();
    let after = world.reported("a later report", |report| report.at_ms > before.at_ms).await;
    assert_eq!(after.channels.len(), 1);
    ingest.drain().await;
}
