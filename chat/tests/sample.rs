//! The measures over 400 recorded lines (names replaced): these numbers define them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clamor_chat::event::{Parsed, parse};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{self, Batch, Event, Message};
use clamor_chat::{text, window};
use std::collections::{BTreeMap, BTreeSet};

const SAMPLE: &str = include_str!("fixtures/chat-sample.irc");

fn events() -> Vec<Event> {
    SAMPLE
        .lines()
        .map(|line| match parse(line.as_bytes(), 0).unwrap() {
            Parsed::Chat { event, .. } => event,
            Parsed::Protocol => panic!("not chat: {line}"),
        })
        .collect()
}

fn messages(events: &[Event]) -> impl Iterator<Item = &Message> {
    events.iter().map(|event| match &event.kind {
        Some(Kind::Message(message)) => message,
        other => panic!("{other:?}"),
    })
}

#[test]
fn messages_are_counted_by_minute() {
    let mut minutes = BTreeMap::new();
    for event in events() {
        assert_eq!(event.channel_id, 62_300_805);
        *minutes.entry(window::minute(event.sent_at_ms)).or_insert(0) += 1;
    }
    assert_eq!(minutes.into_values().collect::<Vec<_>>(), [28, 85, 48, 24, 77, 55, 83]);
}

#[test]
fn chatters_are_distinct_ids() {
    let events = events();
    let chatters: BTreeSet<u64> = messages(&events).map(|message| message.chatter.as_ref().unwrap().id).collect();
    assert_eq!(chatters.len(), 87);
}

#[test]
fn emote_occurrences_are_valid_positions() {
    let events = events();
    let mut emotes: BTreeMap<&str, u32> = BTreeMap::new();
    for emote in messages(&events).flat_map(|message| &message.emotes) {
        *emotes.entry(&emote.id).or_default() += emote.count;
    }
    assert_eq!((emotes.values().sum::<u32>(), emotes.len()), (756, 18));
}

#[test]
fn characters_and_words_are_as_defined() {
    let events = events();
    let characters: u64 = messages(&events).map(|message| text::characters(&message.text)).sum();
    let words: u64 = messages(&events).map(|message| text::words(&message.text)).sum();
    assert_eq!((characters, words), (41_306, 5_136));
    assert_eq!(messages(&events).filter(|message| message.action).count(), 4);
}

#[test]
fn what_is_encoded_is_decoded() {
    for chunk in events().chunks(wire::MAX_EVENTS) {
        let batch = Batch { slot: "a".to_owned(), instance: 7, number: 1, events: chunk.to_vec() };
        let encoded = wire::encode_batch(&batch);
        assert!(encoded.len() <= wire::MAX_BYTES);
        let packed = Batch::header_len("a") + chunk.iter().map(Event::packed_len).sum::<usize>();
        assert!((encoded.len()..encoded.len() + 12).contains(&packed), "{packed} for {}", encoded.len());
        assert_eq!(wire::decode_batch(&encoded).unwrap(), batch);
    }
}
