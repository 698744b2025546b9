//! Twitch's bad days, by the simulator: states are right, coverage is exact, and who is not concerned hears on.

use crate::covered::{Covered, assert_exact};
use crate::harness::LIMIT;
use crate::scene::{Scene, now_ms};
use clamor_bus::report::{ChannelState, Report};
use clamor_simulator::{Door, Faults};
use clamor_testkit::eventually;
use clamor_worker::ingest::TwitchOptions;
use std::time::Duration;

/// A dead connection is found after a second of silence, 10 s without an answer, and what this machine needs.
const FOUND_WITHIN_MS: u64 = 20_000;
/// What is surely heard lies so far behind at most: silence, doubt, a mark's period, and what this machine needs.
const DOUBT_MS: u64 = 5_000;

#[tokio::test]
async fn a_half_open_connection_ends_its_coverage_alone_and_is_replaced() {
    let scene = Scene::joined(100).await;
    scene.speak(500.0).await;
    scene.reads_on(1000.0).await;
    let frozen_ms = now_ms();
    assert_eq!(scene.handle.freeze(1).len(), 1);
    scene.counted("connections_ended_total", &[("cause", "ping_timeout")], 1.0).await;
    let found_ms = now_ms();
    assert!(found_ms - frozen_ms < FOUND_WITHIN_MS, "found after {} ms", found_ms - frozen_ms);
    scene.all_joined().await;
    let joined_ms = now_ms();
    scene.reads_on(500.0).await;
    let first_ms = scene.simulator.ledger().await.last_first_join_ms().unwrap() + 1000;

    let (published, ledger, metrics) = scene.end().await;
    assert!(!assert_exact(&published, &ledger).is_empty(), "half of the channels were not heard for a while");
    let covered = Covered::by(&published);
    let mut whole = 0;
    for channel in &ledger.channels {
        match covered.gaps(channel.channel_id, first_ms, joined_ms)[..] {
            [] => {
                assert_eq!(channel.withheld, 0, "{}", channel.login);
                whole += 1;
            }
            [(since, until)] => {
                assert!(since <= frozen_ms && since + DOUBT_MS > frozen_ms, "{frozen_ms}: {since}");
                assert!(until > frozen_ms && until <= joined_ms, "{frozen_ms} to {joined_ms}: {until}");
            }
            ref gaps => panic!("{}: {gaps:?}", channel.login),
        }
    }
    assert!([10, 90].contains(&whole), "one connection of two goes on: {whole}");
    assert_eq!(metrics.count("clamor_ingest_events_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn a_login_without_an_answer_is_given_up_and_tried_again() {
    let faults = Faults { freeze_new: true, ..Faults::default() };
    let scene = Scene::begin(5, faults, TwitchOptions::ANSWER_LIMIT).await;
    scene.counted("connections_ended_total", &[("cause", "ping_timeout")], 1.0).await;
    scene.world.reported("the problem", |report| report.problem.contains("before it answered the login")).await;
    scene.set(Faults::default());
    scene.all_joined().await;
    scene.world.reported("no problem", |report| report.problem.is_empty()).await;
    scene.speak(200.0).await;
    scene.reads_on(200.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(assert_exact(&published, &ledger).is_empty());
}

#[tokio::test]
async fn times_hours_ahead_cover_nothing_that_was_not_heard() {
    let scene = Scene::joined(20).await;
    scene.set(Faults { skew_ms: 3 * 3_600_000, skewed: 0.2, ..Faults::default() });
    scene.speak(500.0).await;
    scene.reads_on(1000.0).await;
    scene.handle.freeze(1);
    let frozen_ms = now_ms();
    scene.counted("connections_ended_total", &[("cause", "ping_timeout")], 1.0).await;
    scene.all_joined().await;
    scene.reads_on(500.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(!assert_exact(&published, &ledger).is_empty());
    let until = published.heard_until()[&1];
    assert!(until <= frozen_ms, "frozen at {frozen_ms}, heard until {until}");
}

#[tokio::test]
async fn times_hours_behind_do_not_hold_up_coverage() {
    let scene = Scene::joined(20).await;
    scene.set(Faults { skew_ms: -3 * 3_600_000, skewed: 1.0, ..Faults::default() });
    scene.speak(500.0).await;
    scene.reads_on(1000.0).await;
    let now_ms = now_ms();
    scene.world.published_when("coverage of the present", |published| published.heard_until_of(1) > now_ms).await;
    scene.reads_on(1.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(assert_exact(&published, &ledger).is_empty());
}

#[tokio::test]
async fn repeated_late_and_unreadable_lines_cost_nothing_and_are_counted_by_reason() {
    let scene = Scene::joined(100).await;
    scene.set(Faults { duplicate: 0.2, reorder: 0.2, garbage: 0.2, ..Faults::default() });
    scene.speak(1000.0).await;
    scene.reads_on(4000.0).await;
    let (published, ledger, metrics) = scene.end().await;
    assert!(assert_exact(&published, &ledger).is_empty());
    let messages = |events: &mut dyn Iterator<Item = &clamor_chat::wire::Event>| {
        events.filter(|event| matches!(event.kind, Some(clamor_chat::wire::event::Kind::Message(_)))).count()
    };
    let (all, distinct) = (messages(&mut published.events()), messages(&mut published.distinct()));
    assert!(all > distinct + distinct / 10, "{all} in all, {distinct} different: each counts once by its key");
    let order: Vec<u64> = published.events().filter(|event| event.key() != 0).map(|event| event.sent_at_ms).collect();
    assert!(!order.is_sorted());

    let rejected = |reason| metrics.count("clamor_ingest_lines_rejected_total", &[("reason", reason)]);
    let garbage = ledger.connections.garbage;
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    let expected = [garbage.malformed, garbage.not_utf8, garbage.over_long].map(|count| count as f64);
    assert!(expected.iter().all(|count| *count > 50.0), "{garbage:?}");
    assert_eq!(["malformed", "not_utf8", "over_long"].map(rejected), expected);
    assert_eq!(ledger.connections.opened, 2, "no line ends a connection");
}

#[tokio::test]
async fn a_storm_of_reconnects_loses_nothing_and_leaves_no_gap() {
    let scene = Scene::joined(100).await;
    let first_ms = now_ms();
    scene.speak(500.0).await;
    scene.set(Faults { reconnect_every_ms: 1000, ..Faults::default() });
    scene.counted("reconnects_asked_total", &[], 20.0).await;
    scene.set(Faults::default());
    assert!(scene.simulator.ledger().await.connections.open < 40, "the old ones go");
    eventually("two connections", LIMIT, async || match scene.handle.connections().len() {
        2 => Ok(()),
        open => Err(open),
    })
    .await;
    scene.all_joined().await;
    let last_ms = now_ms();
    scene.reads_on(500.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(assert_exact(&published, &ledger).is_empty());
    let covered = Covered::by(&published);
    for channel in &ledger.channels {
        assert_eq!(covered.gaps(channel.channel_id, first_ms, last_ms), [], "{}", channel.login);
    }
}

#[tokio::test]
async fn joins_over_the_limit_are_tried_again_until_all_are_in() {
    let faults = Faults { join_limit: 5, ..Faults::default() };
    let scene = Scene::begin(8, faults, Duration::from_secs(1)).await;
    scene
        .world
        .reported("five channels joined and three unanswered", |report| {
            let count = |state| report.channels.iter().filter(|channel| channel.state == state).count();
            (count(ChannelState::Joined), count(ChannelState::Unanswered)) == (5, 3)
        })
        .await;
    let unheard_ms = now_ms();
    scene.all_joined().await;
    assert!(scene.simulator.ledger().await.connections.joins_ignored >= 3);
    scene.speak(200.0).await;
    scene.reads_on(200.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(assert_exact(&published, &ledger).is_empty());
    let covered = Covered::by(&published);
    let late = ledger.channels.iter().filter(|channel| !covered.covers(channel.channel_id, unheard_ms - 500));
    assert!(late.count() >= 3, "before its answer no channel is covered");
}

#[tokio::test]
async fn one_connection_too_many_is_named_and_opened_when_it_may_be() {
    let faults = Faults { connection_limit: 1, ..Faults::default() };
    let scene = Scene::begin(100, faults, TwitchOptions::ANSWER_LIMIT).await;
    scene
        .world
        .reported("90 channels and the problem", |report| {
            let joined = report.channels.iter().filter(|channel| channel.state == ChannelState::Joined).count();
            joined == 90 && report.problem.contains("before it answered the login")
        })
        .await;
    scene.speak(200.0).await;
    scene.reads_on(200.0).await;
    let attempts = scene.count("connections_ended_total", &[("cause", "closed")]);
    assert!(attempts < 20.0, "{attempts}: it is asked ever more rarely");
    scene.set(Faults::default());
    scene.all_joined().await;
    scene.reads_on(200.0).await;
    assert_eq!(scene.simulator.ledger().await.connections.left, 0, "the other connection is left alone");
    let (published, ledger, _) = scene.end().await;
    assert_exact(&published, &ledger);
}

#[tokio::test]
async fn channels_that_twitch_shuts_are_classified_covered_no_more_and_joined_when_it_opens_them() {
    let scene = Scene::begin(6, Faults::default(), Duration::from_secs(1)).await;
    scene.all_joined().await;
    scene.speak(300.0).await;
    scene.reads_on(300.0).await;
    let shut_ms = now_ms();
    scene.handle.set_door("sim_1", Door::Suspended).unwrap();
    scene.handle.set_door("sim_2", Door::Banned).unwrap();
    scene.in_state("sim_1", ChannelState::TwitchSuspended).await;
    scene.in_state("sim_2", ChannelState::Banned).await;
    scene.reads_on(300.0).await;
    let open_ms = now_ms();
    scene.handle.set_door("sim_1", Door::Open).unwrap();
    scene.handle.set_door("sim_2", Door::Open).unwrap();
    scene.all_joined().await;
    let joined_ms = now_ms();
    scene.reads_on(300.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(!assert_exact(&published, &ledger).is_empty());
    let covered = Covered::by(&published);
    for channel in &ledger.channels {
        let gaps = covered.gaps(channel.channel_id, shut_ms - 500, joined_ms);
        if ["sim_1", "sim_2"].contains(&channel.login.as_str()) {
            let [(since, until)] = gaps[..] else { panic!("{}: {gaps:?}", channel.login) };
            assert!(since >= shut_ms - 500 && since < shut_ms + 1000, "{}: shut at {shut_ms}, {since}", channel.login);
            assert!(until >= open_ms, "{}: opened at {open_ms}, {until}", channel.login);
        } else {
            assert_eq!(gaps, [], "{}", channel.login);
        }
    }
}

#[tokio::test]
async fn a_channel_that_never_answers_its_join_is_unanswered_and_joined_once_it_does() {
    let scene = Scene::begin(4, Faults::default(), Duration::from_secs(1)).await;
    scene.all_joined().await;
    // Whoever is in stays in, but nobody comes in again.
    for (login, door) in [("sim_1", Door::Silent), ("sim_2", Door::Half)] {
        scene.handle.set_door(login, door).unwrap();
    }
    scene.handle.cut(usize::MAX);
    scene.in_state("sim_1", ChannelState::Unanswered).await;
    scene.in_state("sim_2", ChannelState::Unanswered).await;
    scene.speak(300.0).await;
    scene.reads_on(200.0).await;
    for login in ["sim_1", "sim_2"] {
        scene.handle.set_door(login, Door::Open).unwrap();
    }
    scene.all_joined().await;
    scene.reads_on(200.0).await;
    let (published, ledger, _) = scene.end().await;
    assert!(!assert_exact(&published, &ledger).is_empty());
}

#[tokio::test]
async fn a_renamed_channel_keeps_its_room_and_another_room_under_its_login_is_not_read() {
    let scene = Scene::begin(4, Faults::default(), Duration::from_secs(1)).await;
    scene.all_joined().await;
    let (room, other) = (scene.channel_id("sim_1").await, scene.channel_id("sim_2").await);
    scene.speak(300.0).await;
    scene.reads_on(200.0).await;
    scene.handle.rename("sim_1", "renamed").unwrap();
    scene.in_state("sim_1", ChannelState::Unanswered).await;
    // The planner hears of it from Helix, or from a person.
    let logins = ["sim_0", "sim_1", "sim_2", "sim_3", "renamed"];
    scene.world.assign(2, &logins).await;
    let report = scene.in_state("renamed", ChannelState::Joined).await;
    let id = |report: &Report, login: &str| {
        report.channels.iter().find(|channel| channel.login == login).unwrap().channel_id
    };
    assert_eq!(id(&report, "renamed"), Some(room));
    scene.handle.rename("sim_2", "sim_1").unwrap();
    let report = scene.in_state("sim_1", ChannelState::Renamed).await;
    assert_eq!(id(&report, "sim_1"), Some(room), "the room that was first heard stays its key");
    scene.reads_on(200.0).await;
    let (published, ledger, _) = scene.end().await;
    let missing = assert_exact(&published, &ledger);
    assert!(missing.iter().all(|message| [room, other].contains(&message.channel_id)));
    assert!(missing.iter().any(|message| message.channel_id == other), "nobody reads the room that took the login");
}

#[tokio::test]
async fn who_is_cut_off_joins_again_and_covers_nothing_between() {
    let scene = Scene::joined(100).await;
    scene.speak(2000.0).await;
    for round in 1..=5 {
        scene.reads_on(500.0).await;
        assert_eq!(scene.handle.cut(1).len(), 1);
        eventually("another connection", LIMIT, async || {
            let counts = scene.simulator.ledger().await.connections;
            if counts.opened == 2 + round && counts.open == 2 { Ok(()) } else { Err(format!("{counts:?}")) }
        })
        .await;
        scene.all_joined().await;
    }
    scene.reads_on(500.0).await;
    let (published, ledger, metrics) = scene.end().await;
    assert_eq!(ledger.connections.cut, 5);
    assert_exact(&published, &ledger);
    assert_eq!(metrics.count("clamor_ingest_connections_ended_total", &[("cause", "ping_timeout")]), 0.0);
}
