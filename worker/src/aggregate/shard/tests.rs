//! What a stream makes of a shard, and that a take-over makes the same of it.

use super::*;
use crate::aggregate::delta::{
    ChannelCounts, CoverageChange, EmoteCounts, FastDelta, PhraseCounts, SlowDelta, WantedChange,
};
use crate::aggregate::plan::ActivePhrases;
use crate::aggregate::uniques::AHEAD_MS;
use clamor_bus::set::{PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_chat::key::{emote_id, phrase_id};
use clamor_chat::window;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{self, Batch, Event};
use std::collections::BTreeMap;

mod late;
mod stored;
mod take_over;

/// The start of a generation, an hour and a day would not be.
const T0: Millis = 1_699_999_800_000;
const INSTANCE: u64 = 77;

fn chatter(id: u64) -> Option<wire::Chatter> {
    Some(wire::Chatter { id, login: format!("user{id}"), ..wire::Chatter::default() })
}

fn event(key: u128, channel_id: u64, sent_at_ms: Millis, kind: Kind) -> Event {
    let mut event = Event {
        channel_id,
        sent_at_ms,
        received_at_ms: sent_at_ms,
        connection: 1,
        kind: Some(kind),
        ..Event::default()
    };
    event.set_key(key);
    event
}

fn message(key: u128, channel_id: u64, sent_at_ms: Millis, chatter_id: u64, text: &str) -> Event {
    let message = wire::Message { chatter: chatter(chatter_id), text: text.to_owned(), ..wire::Message::default() };
    event(key, channel_id, sent_at_ms, Kind::Message(message))
}

fn with_emote(mut event: Event, id: &str, count: u32) -> Event {
    if let Some(Kind::Message(message)) = &mut event.kind {
        message.emotes.push(wire::Emote { id: id.to_owned(), name: "Kappa".to_owned(), count });
    }
    event
}

fn coverage_event(channel_id: u64, at_ms: Millis, kind: Kind) -> Event {
    event(0, channel_id, at_ms, kind)
}

fn batch(instance: u64, number: u64, events: Vec<Event>) -> Batch {
    Batch { slot: "a".to_owned(), instance, number, events }
}

fn at(seq: u64, stream_time_ms: Millis) -> Arrival<'static> {
    Arrival { seq, stream_time_ms, msg_id: Some("id") }
}

fn plan(name: &str, channels: &[u64], phrases: &[&str]) -> Arc<ActivePlan> {
    let wanted = channels.iter().map(|id| WantedChannel {
        channel_id: *id,
        login: format!("channel{id}"),
        labels: BTreeMap::new(),
        since_ms: T0,
    });
    let phrases = phrases.iter().map(|pattern| PhraseSpec {
        name: (*pattern).to_owned(),
        pattern: (*pattern).to_owned(),
        case_sensitive: false,
        log_messages: true,
        channels: clamor_bus::set::ChannelScope::default(),
    });
    let set = PhraseSet { phrases: phrases.collect() };
    let plan = Plan { wanted: wanted.collect(), phrases: None };
    Arc::new(ActivePlan::resolve(name.to_owned(), &plan, Arc::new(ActivePhrases::compile(&set))))
}

fn fresh() -> Shard {
    Shard::restore(&Restored::default(), Arc::default())
}

#[test]
fn a_message_is_counted_in_every_table_that_it_belongs_to() {
    let mut shard = fresh();
    shard.apply_directive(at(1, T0), Some(plan("plan-1", &[5], &["hello"])));
    let line = with_emote(message(1, 5, T0 + 1_000, 9, "Hello hello Kappa"), "25", 1);
    shard.apply_batch(at(2, T0 + 1_050), &batch(INSTANCE, 1, vec![line]));
    let FastFlush { position, delta, sent_ms } = shard.take_fast(7).unwrap();
    let minute = window::minute(T0 + 1_000);
    let counts = ChannelCounts { messages: 1, characters: 17, words: 3, emotes: 1, ..ChannelCounts::default() };
    assert_eq!(delta.channels[&(5, minute)], counts);
    assert_eq!(delta.uniques[&(5, minute)], 1);
    let kappa = emote_id("twitch", "25");
    assert_eq!(delta.emotes[&(5, minute, kappa)], EmoteCounts { occurrences: 1, messages: 1 });
    assert_eq!(delta.emote_names[&kappa].name, "Kappa");
    let hello = phrase_id("hello", "hello", false);
    assert_eq!(delta.phrases[&(5, minute, hello)], PhraseCounts { matches: 2, messages: 1 });
    assert_eq!(delta.phrase_names[&hello].pattern, "hello");
    assert_eq!(delta.phrase_matches[0].matches, 2);
    assert_eq!(delta.wanted, [WantedChange::Begin { channel_id: 5, login: "channel5".to_owned(), since_ms: T0 }]);
    assert_eq!(delta.judged_until_ms, 7);
    assert_eq!((position.seq, position.plan.as_str()), (2, "plan-1"));
    assert_eq!(position.numbers, [(INSTANCE, 1)]);
    assert_eq!(sent_ms, [(5, T0 + 1_000)]);
    let slow: Vec<SlowDelta> = (0..SLICES).map(|slice| shard.take_slow(slice).unwrap().delta).collect();
    let chatters: Vec<_> = slow.iter().flat_map(|delta| &delta.chatters).collect();
    assert_eq!(chatters.len(), 1);
    assert_eq!(*chatters[0].0, (5, window::hour(T0 + 1_000), 9));
    assert_eq!((chatters[0].1.messages, chatters[0].1.characters), (1, 17));
    let emotes: Vec<_> = slow.iter().flat_map(|delta| &delta.chatter_emotes).collect();
    assert_eq!(emotes, [(&(5, window::day(T0), 9, kappa), &1)]);
    assert_eq!(slow.iter().map(|delta| delta.chatter_names.len()).sum::<usize>(), 1);
}

#[test]
fn a_flush_leaves_nothing_behind() {
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(INSTANCE, 1, vec![message(1, 5, T0, 9, "a")]));
    assert!(shard.fast_rows() > 0);
    shard.take_fast(0);
    assert_eq!(shard.fast_rows(), 0);
    assert!(shard.take_fast(0).unwrap().delta.channels.is_empty());
}

#[test]
fn two_workers_with_the_same_line_count_it_once() {
    let mut shard = fresh();
    let line = message(1, 5, T0, 9, "a");
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![line.clone()]));
    shard.apply_batch(at(2, T0 + 5), &batch(2, 1, vec![line]));
    let delta = shard.take_fast(0).unwrap().delta;
    assert_eq!(delta.channels.values().map(|counts| counts.messages).sum::<u64>(), 1);
    assert_eq!(shard.take_tally().duplicates, 1);
    let opened = delta.coverage.iter().filter(|change| matches!(change, CoverageChange::Open { .. })).count();
    assert_eq!(opened, 2, "both heard it");
}

#[test]
fn a_batch_that_was_sent_again_is_dropped_by_its_number() {
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![message(0, 5, T0, 9, "a")]));
    shard.apply_batch(at(2, T0), &batch(1, 1, vec![message(0, 5, T0, 9, "a")]));
    assert_eq!(shard.take_fast(0).unwrap().delta.channels[&(5, window::minute(T0))].messages, 1);
    assert_eq!(shard.take_tally().repeated_batches, 1);
}

#[test]
fn a_stream_message_that_comes_again_changes_nothing() {
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![message(0, 5, T0, 9, "a")]));
    shard.apply_batch(at(1, T0), &batch(1, 2, vec![message(0, 5, T0, 9, "a")]));
    assert_eq!(shard.take_fast(0).unwrap().delta.channels[&(5, window::minute(T0))].messages, 1);
    assert_eq!(shard.take_tally().redelivered, 1);
}

#[test]
fn a_time_far_ahead_is_clamped_and_one_before_twitch_goes_to_the_dead_letters() {
    let mut shard = fresh();
    let ahead = message(1, 5, T0 + 60 * 60_000, 9, "a");
    let ancient = message(2, 5, 12, 9, "b");
    let refused = shard.apply_batch(at(1, T0), &batch(1, 1, vec![ahead, ancient])).unwrap();
    assert_eq!(refused.events.len(), 1);
    let delta = shard.take_fast(0).unwrap().delta;
    let minutes: Vec<_> = delta.channels.keys().collect();
    assert_eq!(minutes, [&(5, window::minute(T0 + AHEAD_MS))]);
}

#[test]
fn a_mirrored_copy_enters_only_mirrored() {
    let mut shard = fresh();
    let mut copy = with_emote(message(1, 5, T0, 9, "a"), "25", 1);
    if let Some(Kind::Message(message)) = &mut copy.kind {
        message.source_channel_id = 6;
    }
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![copy]));
    let delta = shard.take_fast(0).unwrap().delta;
    assert_eq!(delta.channels[&(5, window::minute(T0))], ChannelCounts { mirrored: 1, ..ChannelCounts::default() });
    assert!(delta.emotes.is_empty() && delta.uniques.is_empty());
    assert_eq!((0..SLICES).map(|slice| shard.slow_rows(slice)).sum::<usize>(), 0);
}

#[test]
fn subs_gifts_raids_and_moderation_are_counted_and_kept() {
    let notice = |kind: wire::NoticeKind, amount: u64| {
        let mut notice = wire::UserNotice { chatter: chatter(9), amount, months: 3, ..wire::UserNotice::default() };
        notice.set_kind(kind);
        Kind::UserNotice(notice)
    };
    let clear = |target_id: u64, duration_s: u32| {
        Kind::ClearChat(wire::ClearChat { target_id, target_login: String::new(), duration_s })
    };
    let kinds = vec![
        notice(wire::NoticeKind::Sub, 0),
        notice(wire::NoticeKind::Resub, 0),
        notice(wire::NoticeKind::MysteryGift, 2),
        notice(wire::NoticeKind::SubGift, 0),
        notice(wire::NoticeKind::SubGift, 0),
        notice(wire::NoticeKind::Raid, 120),
        clear(0, 0),
        clear(9, 600),
        clear(9, 0),
        Kind::ClearMessage(wire::ClearMessage { target_message_id: "m".to_owned(), login: "ada".to_owned() }),
    ];
    let events = kinds.into_iter().enumerate().map(|(index, kind)| event(index as u128 + 1, 5, T0, kind)).collect();
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(1, 1, events));
    let delta = shard.take_fast(0).unwrap().delta;
    let counts =
        ChannelCounts { subs: 2, gifts: 2, raids: 1, timeouts: 1, bans: 1, deletions: 1, ..ChannelCounts::default() };
    assert_eq!(delta.channels[&(5, window::minute(T0))], counts);
    let kept: Vec<(&str, u64)> = delta.chat_events.iter().map(|event| (event.kind, event.amount)).collect();
    assert_eq!(kept[0], ("sub", 3));
    assert_eq!(kept[5], ("raid", 120));
    assert_eq!(kept[7], ("timeout", 600));
    assert_eq!(kept.len(), 10);
}

#[test]
fn a_hole_in_the_numbers_ends_coverage_and_the_next_line_resumes_its_channel() {
    let mut shard = fresh();
    let joined = |channel| coverage_event(channel, T0, Kind::Joined(wire::Joined {}));
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![joined(5), joined(6)]));
    shard.apply_batch(at(2, T0 + 9_000), &batch(1, 2, vec![message(1, 5, T0 + 9_000, 9, "a")]));
    shard.take_fast(0);
    shard.apply_batch(at(3, T0 + 30_000), &batch(1, 4, vec![message(2, 5, T0 + 30_000, 9, "b")]));
    let coverage = shard.take_fast(0).unwrap().delta.coverage;
    let closed = |channel_id| CoverageChange::Close { channel_id, instance: 1, connection: 1, until_ms: T0 + 7_000 };
    let opened = CoverageChange::Open { channel_id: 5, instance: 1, connection: 1, since_ms: T0 + 30_000 };
    assert_eq!(coverage, [closed(5), closed(6), opened]);
}

#[test]
fn a_line_that_is_hours_old_resumes_its_channel_where_it_was_read() {
    let mut shard = fresh();
    let joined = |channel| coverage_event(channel, T0, Kind::Joined(wire::Joined {}));
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![joined(5), joined(6)]));
    shard.take_fast(0);
    let read_ms = T0 + 30_000;
    let line = |key, channel, age| {
        let mut line = message(key, channel, read_ms - age, 9, "a");
        line.received_at_ms = read_ms;
        line
    };
    let lines = vec![line(1, 5, 3 * 60 * 60_000), line(2, 5, 100), line(3, 6, 1_900)];
    shard.apply_batch(at(2, read_ms), &batch(1, 3, lines));
    let delta = shard.take_fast(0).unwrap().delta;
    let opened = |channel_id, since_ms| CoverageChange::Open { channel_id, instance: 1, connection: 1, since_ms };
    assert_eq!(delta.coverage[2..], [opened(5, read_ms), opened(6, read_ms - 1_900)]);
    let mut beyond: Vec<u128> = delta.uncovered.into_keys().collect();
    beyond.sort_unstable();
    assert_eq!(beyond, [1, 2], "they count, and no coverage of their source reaches them");
}

#[test]
fn a_hole_in_the_stream_ends_all_coverage() {
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![message(1, 5, T0, 9, "a")]));
    shard.take_fast(0);
    shard.pass(at(9, T0 + 1_000));
    let coverage = shard.take_fast(0).unwrap().delta.coverage;
    assert!(matches!(coverage[..], [CoverageChange::Close { channel_id: 5, .. }]));
    assert_eq!(shard.take_tally().stream_holes, 1);
}

#[test]
fn lines_and_marks_move_heard_on_less_the_doubt() {
    let mut shard = fresh();
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![coverage_event(5, T0, Kind::Joined(wire::Joined {}))]));
    let line = message(1, 5, T0 + 10_000, 9, "a");
    shard.apply_batch(at(2, T0 + 10_000), &batch(1, 2, vec![line]));
    assert_eq!(shard.take_fast(0).unwrap().delta.heard[&(1, 1)], T0 + 8_000);
    let marks = wire::Marks { marks: vec![wire::Mark { connection: 1, heard_until_ms: T0 + 12_000 }] };
    shard.apply_batch(at(3, T0 + 14_000), &batch(1, 3, vec![coverage_event(0, T0 + 14_000, Kind::Marks(marks))]));
    assert_eq!(shard.fast_rows(), 0, "marks alone wait for the rhythm of rest");
    assert_eq!(shard.take_fast(0).unwrap().delta.heard[&(1, 1)], T0 + 12_000);
}

#[test]
fn an_end_in_the_batch_of_the_last_line_ends_after_that_line() {
    let mut shard = fresh();
    let events = vec![
        coverage_event(5, T0, Kind::Joined(wire::Joined {})),
        message(1, 5, T0 + 60_000, 9, "a"),
        coverage_event(0, T0 + 60_100, Kind::ConnectionEnded(wire::ConnectionEnded {})),
    ];
    shard.apply_batch(at(1, T0 + 60_100), &batch(1, 1, events));
    let coverage = shard.take_fast(0).unwrap().delta.coverage;
    assert!(matches!(coverage[1], CoverageChange::Close { until_ms, .. } if until_ms == T0 + 58_000));
}

#[test]
fn a_phrase_counts_from_its_directive_on_and_only_in_channels_of_the_plan() {
    let mut shard = fresh();
    let line = |key, channel| message(key, channel, T0, 9, "hello");
    shard.apply_batch(at(1, T0), &batch(1, 1, vec![line(1, 5)]));
    shard.apply_directive(at(2, T0), Some(plan("plan-1", &[5], &["hello"])));
    shard.apply_batch(at(3, T0), &batch(1, 2, vec![line(2, 5), line(3, 6)]));
    shard.apply_directive(at(4, T0), None);
    shard.apply_batch(at(5, T0), &batch(1, 3, vec![line(4, 5)]));
    let delta = shard.take_fast(0).unwrap().delta;
    let matches: Vec<_> = delta.phrases.iter().map(|((channel, _, _), counts)| (*channel, counts.messages)).collect();
    assert_eq!(matches, [(5, 2)], "the last good plan stays where a directive's cannot be had");
    assert_eq!(delta.channels[&(6, window::minute(T0))].messages, 1, "what is heard counts, wanted or not");
}

#[test]
fn a_directive_that_repeats_the_plan_changes_nothing() {
    let mut shard = fresh();
    shard.apply_directive(at(1, T0), Some(plan("plan-1", &[5], &["hello"])));
    shard.take_fast(0);
    shard.apply_directive(at(2, T0), Some(plan("plan-1", &[5], &["hello"])));
    assert_eq!(shard.fast_rows(), 0);
}
