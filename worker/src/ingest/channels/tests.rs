use super::*;
use clamor_bus::assignment::AssignedChannel;

const ANSWER_LIMIT: Duration = crate::ingest::TwitchOptions::ANSWER_LIMIT;

fn assignment(channels: &[(&str, u32)]) -> Assignment {
    let channel = |(login, weight): &(&str, u32)| AssignedChannel { login: (*login).to_owned(), weight: *weight };
    Assignment { revision: 1, channels: channels.iter().map(channel).collect() }
}

fn following(logins: &[&str]) -> Channels {
    let mut channels = Channels::new(ANSWER_LIMIT);
    channels.follow(&assignment(&logins.iter().map(|login| (*login, 1)).collect::<Vec<_>>()));
    channels
}

fn state(channels: &Channels, login: &str) -> ChannelState {
    channels.by_login[login].state
}

fn join(channels: &mut Channels, login: &str, connection: u32, channel_id: u64) -> Arrival {
    channels.joined(login, connection, channel_id, Arc::default(), Instant::now())
}

#[test]
fn an_assignment_joins_what_is_new_and_parts_what_is_missing() {
    let mut channels = following(&["a", "b"]);
    let difference = channels.follow(&assignment(&[("b", 5), ("c", 1), ("d", 9)]));
    assert_eq!(difference, Difference { added: vec!["d".into(), "c".into()], removed: vec!["a".into()] });
    assert_eq!(channels.follow(&assignment(&[("b", 5), ("c", 1), ("d", 9)])), Difference::default());
    assert_eq!(channels.urgency("b").unwrap().weight, 5);
}

#[test]
fn a_join_is_answered_by_its_room() {
    let mut channels = following(&["a"]);
    assert_eq!(state(&channels, "a"), ChannelState::Pending);
    channels.join_sent("a", Instant::now());
    assert_eq!(state(&channels, "a"), ChannelState::Joining);
    assert_eq!(join(&mut channels, "a", 1, 77), Arrival::Joined);
    assert_eq!(state(&channels, "a"), ChannelState::Joined);
    assert_eq!(channels.report()[0].channel_id, Some(77));
    assert_eq!(join(&mut channels, "stranger", 1, 78), Arrival::Unwanted);
}

#[test]
fn a_join_without_an_answer_is_unanswered_after_60_s_and_tried_again() {
    let mut channels = following(&["a"]);
    let start = Instant::now();
    channels.join_sent("a", start);
    assert_eq!(channels.tick(start + Duration::from_secs(59)), (vec![], vec![]));
    assert_eq!(channels.tick(start + ANSWER_LIMIT), (vec!["a".to_owned()], vec![]));
    assert_eq!(state(&channels, "a"), ChannelState::Unanswered);
    assert!(!channels.urgency("a").unwrap().hopeful);
    assert_eq!(channels.unclassified(), 0);
    let mut tried_at = start + ANSWER_LIMIT;
    for after_s in [60, 120, 240, 480, 600, 600] {
        tried_at += Duration::from_secs(after_s);
        assert_eq!(channels.tick(tried_at - Duration::from_millis(1)), (vec![], vec![]));
        assert_eq!(channels.tick(tried_at), (vec![], vec!["a".to_owned()]), "after {after_s} s");
    }
    channels.join_sent("a", start);
    assert_eq!(state(&channels, "a"), ChannelState::Unanswered, "trying again is no news");
    join(&mut channels, "a", 1, 5);
    assert_eq!(state(&channels, "a"), ChannelState::Joined);
}

#[test]
fn a_channel_is_joined_as_long_as_one_connection_hears_it() {
    let mut channels = following(&["a"]);
    join(&mut channels, "a", 1, 77);
    join(&mut channels, "a", 2, 77);
    channels.connection_ended(1, ["a"].into_iter());
    assert_eq!(state(&channels, "a"), ChannelState::Joined);
    channels.connection_ended(2, ["a"].into_iter());
    assert_eq!(state(&channels, "a"), ChannelState::Pending);
    assert_eq!(channels.report()[0].channel_id, Some(77), "the room is remembered");
}

#[test]
fn a_join_lost_with_its_connection_waits_again() {
    let mut channels = following(&["a", "b"]);
    channels.join_sent("a", Instant::now());
    channels.join_sent("b", Instant::now());
    channels.connection_ended(1, ["a"].into_iter());
    assert_eq!((state(&channels, "a"), state(&channels, "b")), (ChannelState::Pending, ChannelState::Joining));
}

#[test]
fn another_room_under_the_login_is_renamed_and_the_first_room_stays_the_key() {
    let mut channels = following(&["a"]);
    join(&mut channels, "a", 1, 77);
    channels.connection_ended(1, ["a"].into_iter());
    assert_eq!(join(&mut channels, "a", 2, 78), Arrival::Renamed);
    assert_eq!(state(&channels, "a"), ChannelState::Renamed);
    channels.parted("a", 2, Instant::now());
    assert_eq!(state(&channels, "a"), ChannelState::Renamed);
    assert_eq!(channels.report()[0].channel_id, Some(77));
    assert_eq!(join(&mut channels, "a", 2, 77), Arrival::Joined);
}

#[test]
fn a_refusal_classifies_unless_another_connection_hears_it() {
    let mut channels = following(&["a"]);
    join(&mut channels, "a", 1, 77);
    channels.refused("a", 2, ChannelState::Banned, Instant::now());
    assert_eq!(state(&channels, "a"), ChannelState::Joined);
    channels.refused("a", 1, ChannelState::Banned, Instant::now());
    assert_eq!(state(&channels, "a"), ChannelState::Banned);
}

#[test]
fn a_channel_that_twitch_took_is_asked_for_again() {
    let mut channels = following(&["a"]);
    join(&mut channels, "a", 1, 77);
    let now = Instant::now();
    channels.parted("a", 1, now);
    assert_eq!(state(&channels, "a"), ChannelState::Pending);
    assert_eq!(channels.tick(now + REJOIN_AFTER), (vec![], vec!["a".to_owned()]));
}

#[test]
fn counts_cover_every_state() {
    let mut channels = following(&["a", "b", "c"]);
    join(&mut channels, "a", 1, 77);
    channels.impossible("b");
    let counts = channels.counts();
    assert_eq!(counts.iter().sum::<usize>(), 3);
    assert_eq!((counts[0], counts[2], counts[7]), (1, 1, 1));
}
