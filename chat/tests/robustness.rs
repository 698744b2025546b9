//! What comes from outside never panics, and what it costs is bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clamor_chat::event::{Parsed, parse};
use clamor_chat::wire::{self, Batch, Event};
use clamor_chat::{emote, line, text};
use proptest::prelude::*;

/// A tag of any kind, most of them known ones, with a value that may be anything.
fn tag() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => prop::sample::select(vec![
            "badges", "ban-duration", "bits", "display-name", "emotes", "first-msg", "followers-only", "id", "login",
            "msg-id", "msg-param-viewerCount", "room-id", "slow", "source-room-id", "target-msg-id", "target-user-id",
            "tmi-sent-ts", "user-id",
        ]).prop_map(str::to_owned),
        1 => "[a-z-]{0,12}",
    ];
    let value = prop_oneof!["[0-9]{0,25}", "[0-9,:/-]{0,40}", "[^ ;\r\n]{0,20}", r"[\\:snr]{0,10}"];
    (key, value).prop_map(|(key, value)| format!("{key}={value}"))
}

fn chat_line() -> impl Strategy<Value = String> {
    let command = prop::sample::select(vec!["PRIVMSG", "USERNOTICE", "CLEARCHAT", "CLEARMSG", "ROOMSTATE"]);
    (prop::collection::vec(tag(), 0..20), "[a-z!@.]{0,20}", command, "[a-z0-9_]{1,25}", "[^\r\n]{0,200}").prop_map(
        |(tags, prefix, command, room, text)| format!("@{} :{prefix} {command} #{room} :{text}", tags.join(";")),
    )
}

proptest! {
    #[test]
    fn any_bytes_are_a_line_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = parse(&bytes, 1) {
            prop_assert!(line::LineError::REASONS.contains(&error.reason()));
        }
    }

    #[test]
    fn any_chat_line_becomes_an_event_that_survives_the_bus(line in chat_line()) {
        let Ok(Parsed::Chat { event, login }) = parse(line.as_bytes(), 1) else {
            return Err(TestCaseError::fail(format!("not chat: {line}")));
        };
        prop_assert!(!login.is_empty());
        prop_assert_ne!(event.key(), 0);
        prop_assert!(event.packed_len() < 4 * line.len() + 200);
        let batch = Batch { slot: "s".to_owned(), instance: 1, number: 1, events: vec![event] };
        prop_assert_eq!(wire::decode_batch(&wire::encode_batch(&batch)).unwrap(), batch);
    }

    #[test]
    fn a_line_split_is_the_line(text in "[^\r\n\0]{0,200}") {
        if let Ok(line) = line::Line::parse(text.as_bytes()) {
            prop_assert!(text.contains(line.raw_tags) && text.contains(line.prefix) && text.contains(line.raw_params));
            let tags: usize = line.tags().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(tags <= line.raw_tags.len());
        }
    }

    #[test]
    fn emote_positions_never_leave_the_text(tag in "[0-9a-z,:/-]{0,80}", text in "\\PC{0,40}") {
        for emote in emote::occurrences(&tag, &text) {
            prop_assert!(emote.count > 0 && !emote.name.is_empty() && text.contains(&emote.name));
        }
    }

    #[test]
    fn ascii_and_other_text_have_the_same_words(text in "[ -~\t]{0,80}") {
        // A word joiner makes the text non-ASCII without making a word.
        let other = format!("{text} \u{E0000}");
        prop_assert_eq!(text::words(&text), text::words(&other));
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = wire::decode_batch(&bytes) {
            prop_assert!(wire::WireError::REASONS.contains(&error.reason()));
        }
        let _ = wire::decode_directive(&bytes);
    }

    #[test]
    fn a_damaged_batch_is_a_batch_or_an_error(at in 0usize..200, byte: u8) {
        let line = b"@room-id=1;tmi-sent-ts=5;user-id=2;emotes=25:0-4 :a!a@a PRIVMSG #a :Kappa";
        let Ok(Parsed::Chat { event, .. }) = parse(line, 1) else { panic!() };
        let batch = Batch { slot: "s".to_owned(), instance: 1, number: 1, events: vec![event.clone(), event] };
        let mut bytes = wire::encode_batch(&batch);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = wire::decode_batch(&bytes);
        bytes.truncate(at);
        let _ = wire::decode_batch(&bytes);
    }

    #[test]
    fn a_key_keeps_all_its_bits(key: u128) {
        let mut event = Event::default();
        event.set_key(key);
        prop_assert_eq!(event.key(), key);
    }
}

#[test]
fn the_longest_line_fits_into_a_batch() {
    let emotes = (0..900).map(|id| format!("{id}:0-99")).collect::<Vec<_>>().join("/");
    let text = "ß".repeat(1900);
    let line = format!("@emotes={emotes} :a!a@a PRIVMSG #a :{text}");
    assert!((line::MAX_LINE_BYTES - 1000..=line::MAX_LINE_BYTES).contains(&line.len()), "{}", line.len());
    let Ok(Parsed::Chat { event, .. }) = parse(line.as_bytes(), 1) else { panic!() };
    assert!(Batch::header_len("slot") + event.packed_len() <= wire::MAX_BYTES);
}

#[test]
fn too_much_is_refused_before_it_is_built() {
    // Two bytes each here, hundreds in memory.
    let events = [0x22, 0].repeat(100_000);
    assert_eq!(wire::decode_batch(&events).unwrap_err().reason(), "too_many_events");
    assert_eq!(wire::decode_batch(&vec![0; 1 << 20]).unwrap_err().reason(), "too_large");
    assert_eq!(wire::decode_batch(&[0xff; 20]).unwrap_err().reason(), "undecodable");
    assert_eq!(wire::decode_batch(&[]).unwrap(), Batch::default());
    let batch = Batch { events: vec![Event::default(); wire::MAX_EVENTS], ..Batch::default() };
    assert!(wire::decode_batch(&wire::encode_batch(&batch)).is_ok());
}

#[test]
fn another_schema_is_refused() {
    assert_eq!(wire::check_schema(Some("1")), Ok(()));
    for header in [None, Some(""), Some("2")] {
        assert_eq!(wire::check_schema(header).unwrap_err().reason(), "schema");
    }
}
