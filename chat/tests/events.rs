//! Every kind of message from lines as Twitch sends them; the fixtures' names are invented.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clamor_chat::event::{CHAT_EVENT_KINDS, Parsed, chat_event_kind, parse};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Chatter, ClearChat, ClearMessage, Emote, Event, Message, NoticeKind, RoomState, UserNotice};

const RECEIVED: u64 = 1_700_000_099_999;

fn event(line: &str) -> Event {
    match parse(line.as_bytes(), RECEIVED).unwrap() {
        Parsed::Chat { event, .. } => event,
        Parsed::Protocol => panic!("not chat: {line}"),
    }
}

fn events(fixture: &str) -> Vec<Event> {
    fixture.lines().map(event).collect()
}

fn message(event: &Event) -> &Message {
    let Some(Kind::Message(message)) = &event.kind else { panic!("{event:?}") };
    message
}

fn notice(event: &Event) -> &UserNotice {
    let Some(Kind::UserNotice(notice)) = &event.kind else { panic!("{event:?}") };
    notice
}

fn emote(id: &str, name: &str, count: u32) -> Emote {
    Emote { id: id.to_owned(), name: name.to_owned(), count }
}

#[test]
fn a_privmsg_is_read_whole() {
    let events = events(include_str!("fixtures/privmsg.irc"));
    let mut expected = Event {
        channel_id: 713_936_733,
        sent_at_ms: 1_643_904_084_794,
        received_at_ms: RECEIVED,
        connection: 0,
        kind: Some(Kind::Message(Message {
            chatter: Some(Chatter {
                id: 713_936_733,
                login: "lovingt3s".to_owned(),
                broadcaster: true,
                ..Chatter::default()
            }),
            text: "bleedPurple".to_owned(),
            emotes: vec![emote("62835", "bleedPurple", 1)],
            ..Message::default()
        })),
        ..Event::default()
    };
    expected.set_key(0x8851_96de_cb67_427a_baa8_82f9_b0fc_d05f);
    assert_eq!(events[0], expected);
    assert_eq!(chat_event_kind(&events[0]), None);
}

#[test]
fn bits_replies_and_first_messages_are_read() {
    let events = events(include_str!("fixtures/privmsg.irc"));
    assert_eq!((message(&events[1]).bits, message(&events[1]).text.as_str()), (100, "cheer100 for the win"));

    let reply = message(&events[2]);
    assert_eq!(reply.reply_parent_id, "b34ccfc7-4977-403a-8a94-33c6bac34fb8");
    assert_eq!(reply.text, "@OtherUser yes : exactly");
    let chatter = reply.chatter.as_ref().unwrap();
    assert_eq!(chatter.display_name, "Mia M");
    assert!(chatter.moderator && chatter.subscriber && !chatter.vip && !chatter.broadcaster);

    let first = message(&events[3]);
    assert!(first.first_message && first.returning_chatter);
    assert_eq!(first.emotes, [emote("25", "Kappa", 2), emote("1902", "Keepo", 1)]);
    let chatter = first.chatter.as_ref().unwrap();
    assert!(chatter.vip);
    assert_eq!((chatter.login.as_str(), chatter.display_name.as_str()), ("haru_hi", "春_日"));
}

#[test]
fn an_action_is_read_without_its_wrapper() {
    let events = events(include_str!("fixtures/privmsg.irc"));
    let action = message(&events[4]);
    assert!(action.action && action.chatter.as_ref().unwrap().subscriber);
    assert_eq!(action.text, "waves Kappa");
    assert_eq!(action.emotes, [emote("25", "Kappa", 1)]);
}

#[test]
fn a_mirrored_copy_of_shared_chat_is_one() {
    let events = events(include_str!("fixtures/privmsg.irc"));
    assert_eq!(message(&events[5]).source_channel_id, 87_654_321);
    let mirrored: Vec<bool> = events.iter().map(Event::is_mirrored).collect();
    assert_eq!(mirrored, [false, false, false, false, false, true, false]);
}

#[test]
fn every_kind_of_usernotice_is_read() {
    let events = events(include_str!("fixtures/usernotice.irc"));
    let kinds: Vec<NoticeKind> = events.iter().map(|event| notice(event).kind()).collect();
    assert_eq!(
        kinds,
        [
            NoticeKind::Sub,
            NoticeKind::Resub,
            NoticeKind::MysteryGift,
            NoticeKind::SubGift,
            NoticeKind::SubGift,
            NoticeKind::GiftUpgrade,
            NoticeKind::PrimeUpgrade,
            NoticeKind::PayForward,
            NoticeKind::Raid,
            NoticeKind::Unraid,
            NoticeKind::Announcement,
            NoticeKind::BitsBadge,
            NoticeKind::ViewerMilestone,
            NoticeKind::CharityDonation,
            NoticeKind::Other,
            NoticeKind::Resub,
        ]
    );
    let amounts: Vec<u64> = events.iter().map(|event| notice(event).amount).collect();
    assert_eq!(amounts, [0, 0, 2, 0, 0, 0, 0, 0, 15, 0, 0, 1000, 10, 500, 0, 0]);
    let months: Vec<u32> = events.iter().map(|event| notice(event).months).collect();
    assert_eq!(months, [1, 24, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
}

#[test]
fn a_resub_carries_its_text_and_plan() {
    let events = events(include_str!("fixtures/usernotice.irc"));
    let resub = notice(&events[1]);
    assert_eq!((resub.text.as_str(), resub.plan.as_str()), ("Great show Kappa", "2000"));
    assert_eq!(resub.emotes, [emote("25", "Kappa", 1)]);
    assert_eq!(resub.chatter.as_ref().unwrap().login, "longtimer");
    assert_eq!(resub.chatter.as_ref().unwrap().id, 1002);
    assert_eq!(notice(&events[0]).plan, "Prime");
}

#[test]
fn gifts_name_their_recipient_and_the_announcement_that_they_belong_to() {
    let events = events(include_str!("fixtures/usernotice.irc"));
    let (announced, gift) = (notice(&events[2]), notice(&events[3]));
    assert_eq!(announced.origin_id, "da 39 a3 ee");
    assert_eq!(gift.origin_id, announced.origin_id);
    assert_eq!((gift.recipient_id, gift.recipient_login.as_str()), (2001, "luckyone"));
    assert_eq!((announced.recipient_id, announced.recipient_login.as_str()), (0, ""));
}

#[test]
fn a_notice_of_another_room_is_mirrored_and_no_chat_event() {
    let events = events(include_str!("fixtures/usernotice.irc"));
    let shared = events.last().unwrap();
    assert!(shared.is_mirrored());
    assert_eq!(notice(shared).msg_id, "sharedchatnotice");
    assert_eq!(chat_event_kind(shared), None);
}

#[test]
fn chats_are_cleared_and_chatters_timed_out_and_banned() {
    let events = events(include_str!("fixtures/clearchat.irc"));
    let target_login = "ronnietest".to_owned();
    let kinds: Vec<Option<Kind>> = events.iter().map(|event| event.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            ClearChat::default(),
            ClearChat { target_id: 87_654_321, target_login: target_login.clone(), duration_s: 0 },
            ClearChat { target_id: 87_654_321, target_login, duration_s: 350 },
        ]
        .map(|clear| Some(Kind::ClearChat(clear)))
    );
    let names: Vec<_> = events.iter().map(chat_event_kind).collect();
    assert_eq!(names, [Some("clear"), Some("ban"), Some("timeout")]);
}

#[test]
fn a_deletion_names_its_message_and_may_lack_the_room() {
    let lines: Vec<&str> = include_str!("fixtures/clearmsg.irc").lines().collect();
    let Parsed::Chat { event, login } = parse(lines[0].as_bytes(), RECEIVED).unwrap() else { panic!() };
    assert_eq!((event.channel_id, login), (0, "test_room"));
    assert_eq!(event.sent_at_ms, 1_642_720_582_342);
    let expected = ClearMessage {
        target_message_id: "b34ccfc7-4977-403a-8a94-33c6bac34fb8".to_owned(),
        login: "ronnietest".to_owned(),
    };
    assert_eq!(event.kind, Some(Kind::ClearMessage(expected)));
    assert_eq!(chat_event_kind(&event), Some("deletion"));
    assert_eq!(self::event(lines[1]).channel_id, 12_345_678);
}

#[test]
fn a_whole_room_state_answers_a_join_and_a_part_of_it_is_a_change() {
    let events = events(include_str!("fixtures/roomstate.irc"));
    let states: Vec<RoomState> = events
        .iter()
        .map(|event| match &event.kind {
            Some(Kind::RoomState(state)) => *state,
            other => panic!("{other:?}"),
        })
        .collect();
    let whole = RoomState {
        emote_only: Some(false),
        followers_only_minutes: Some(-1),
        unique_only: Some(false),
        slow_seconds: Some(0),
        subscribers_only: Some(false),
    };
    let changes = [
        RoomState { slow_seconds: Some(10), ..RoomState::default() },
        RoomState { followers_only_minutes: Some(30), ..RoomState::default() },
        RoomState { emote_only: Some(true), ..RoomState::default() },
    ];
    assert_eq!(states[0], whole);
    assert_eq!(states[1..], changes);
    let names: Vec<_> = events.iter().map(chat_event_kind).collect();
    assert_eq!(names, [None, Some("room_state"), Some("room_state"), Some("room_state")]);
    assert!(events.iter().all(|event| event.sent_at_ms == RECEIVED), "Twitch sends no time with them");
}

#[test]
fn protocol_is_no_chat() {
    for line in include_str!("fixtures/protocol.irc").lines() {
        assert_eq!(parse(line.as_bytes(), RECEIVED), Ok(Parsed::Protocol), "{line}");
    }
}

#[test]
fn a_bad_tag_costs_that_tag() {
    let events = events(include_str!("fixtures/bad-tags.irc"));
    for event in &events[..2] {
        assert_eq!((event.channel_id, event.sent_at_ms), (0, RECEIVED));
        let message = message(event);
        assert_eq!((message.text.as_str(), message.bits, &message.emotes[..]), ("Kappa", 0, &[][..]));
        let chatter = message.chatter.as_ref().unwrap();
        assert_eq!((chatter.id, chatter.login.as_str(), chatter.display_name.as_str()), (0, "viewer", ""));
    }
    assert_eq!(events[2].channel_id, 12_345_678);
    assert_eq!(message(&events[3]).text, "");
    assert_eq!(chat_event_kind(&events[4]), Some("timeout"));
    assert_eq!(
        events[5].kind,
        Some(Kind::RoomState(RoomState { subscribers_only: Some(true), ..RoomState::default() }))
    );
    assert_eq!(chat_event_kind(&events[6]), Some("notice"));
    assert!(events.iter().all(|event| event.key() != 0));
}

#[test]
fn a_chat_line_without_a_channel_is_malformed() {
    for line in ["PRIVMSG", "PRIVMSG test_room :x", "CLEARCHAT #", ":a CLEARMSG :x", "@id=1 USERNOTICE :#"] {
        assert_eq!(parse(line.as_bytes(), RECEIVED).unwrap_err().reason(), "malformed", "{line}");
    }
}

#[test]
fn keys_are_the_same_in_every_copy_and_never_change() {
    let fixtures = [
        include_str!("fixtures/clearchat.irc"),
        include_str!("fixtures/clearmsg.irc"),
        include_str!("fixtures/roomstate.irc"),
        include_str!("fixtures/bad-tags.irc"),
    ];
    let keys: Vec<String> =
        fixtures.iter().flat_map(|fixture| events(fixture)).map(|event| format!("{:032x}", event.key())).collect();
    let golden: Vec<&str> = include_str!("fixtures/keys.golden").lines().collect();
    assert_eq!(keys, golden);

    for line in fixtures.iter().flat_map(|fixture| fixture.lines()) {
        let Parsed::Chat { event: later, .. } = parse(line.as_bytes(), RECEIVED + 60_000).unwrap() else { panic!() };
        assert_eq!(later.key(), event(line).key(), "the worker's clock is in the key of {line}");
    }
}

#[test]
fn different_events_have_different_keys() {
    let fixtures = [
        include_str!("fixtures/privmsg.irc"),
        include_str!("fixtures/usernotice.irc"),
        include_str!("fixtures/clearchat.irc"),
        include_str!("fixtures/clearmsg.irc"),
        include_str!("fixtures/roomstate.irc"),
        include_str!("fixtures/bad-tags.irc"),
    ];
    let mut keys: Vec<u128> = fixtures.iter().flat_map(|fixture| events(fixture)).map(|event| event.key()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn chat_event_kinds_are_the_closed_list() {
    let fixtures = [
        include_str!("fixtures/usernotice.irc"),
        include_str!("fixtures/clearchat.irc"),
        include_str!("fixtures/clearmsg.irc"),
        include_str!("fixtures/roomstate.irc"),
    ];
    let events: Vec<Event> = fixtures.iter().flat_map(|fixture| events(fixture)).collect();
    let mut seen: Vec<&str> = events.iter().filter_map(chat_event_kind).collect();
    seen.sort_unstable();
    seen.dedup();
    let mut closed = CHAT_EVENT_KINDS;
    closed.sort_unstable();
    assert_eq!(seen, closed);
}
