//! Chat events from IRC lines.
//!
//! PRIVMSG, USERNOTICE, CLEARCHAT, CLEARMSG and ROOMSTATE become events; every other command is protocol. Lenient: a tag
//! that cannot be understood counts as absent. Only a chat line without a channel is malformed.
//!
//! The event's connection is the caller's to set, and so is a `channel_id` of 0 (`room-id` was empty): it is resolved by
//! the login.

mod key;
mod message;
mod moderation;
mod notice;
mod room;
mod tags;

use crate::line::{Line, LineError};
use crate::wire::{self, Event, NoticeKind, event::Kind};
use tags::Tags;

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every line is chat, and a box would be an allocation for each")]
pub enum Parsed<'a> {
    /// Something that happened in a chat.
    Chat {
        /// Its connection is 0; its channel id is 0 where the line had none.
        event: Event,
        /// The channel's login, without `#`.
        login: &'a str,
    },
    /// Everything else: PING, numerics, CAP, JOIN, PART, NOTICE, RECONNECT, USERSTATE, GLOBALUSERSTATE …
    Protocol,
}

/// A chat line on its way to an event.
struct ChatLine<'a> {
    tags: Tags<'a>,
    /// Nickname of the prefix.
    nickname: &'a str,
    /// Channel without `#`.
    login: &'a str,
    /// The parameter after the channel; empty where there is none.
    text: &'a str,
}

/// Parses a line without its `\r\n`. `received_at_ms` stands in where the line has no time of its own.
///
/// # Errors
/// The line is over-long, not UTF-8 or malformed.
pub fn parse(line: &[u8], received_at_ms: u64) -> Result<Parsed<'_>, LineError> {
    let line = Line::parse(line)?;
    let build: fn(&ChatLine<'_>) -> (Kind, u128) = match line.command {
        "PRIVMSG" => message::build,
        "USERNOTICE" => notice::build,
        "CLEARCHAT" => moderation::clear_chat,
        "CLEARMSG" => moderation::clear_message,
        "ROOMSTATE" => room::build,
        _ => return Ok(Parsed::Protocol),
    };
    let mut params = line.params();
    let login = params.next().and_then(|channel| channel.strip_prefix('#')).filter(|login| !login.is_empty());
    let login = login.ok_or(LineError::Malformed("a chat line without a channel"))?;
    let chat =
        ChatLine { tags: Tags::collect(&line), nickname: line.nickname(), login, text: params.next().unwrap_or("") };

    let (kind, key) = build(&chat);
    let mut event = Event {
        channel_id: chat.tags.channel_id(),
        sent_at_ms: chat.tags.sent_at_ms().unwrap_or(received_at_ms),
        received_at_ms,
        kind: Some(kind),
        ..Event::default()
    };
    event.set_key(key);
    Ok(Parsed::Chat { event, login })
}

/// All kinds of chat events: the closed list of `chat_event.kind`.
pub const CHAT_EVENT_KINDS: [&str; 19] = [
    "notice",
    "sub",
    "resub",
    "sub_gift",
    "mystery_gift",
    "gift_upgrade",
    "prime_upgrade",
    "pay_forward",
    "raid",
    "unraid",
    "announcement",
    "bits_badge",
    "viewer_milestone",
    "charity_donation",
    "clear",
    "ban",
    "timeout",
    "deletion",
    "room_state",
];

/// Which chat event this is; none for messages, mirrored copies, coverage, and a room's whole state (all settings: the
/// answer to a JOIN, not a change).
#[must_use]
pub fn chat_event_kind(event: &Event) -> Option<&'static str> {
    if event.is_mirrored() {
        return None;
    }
    match event.kind.as_ref()? {
        Kind::UserNotice(notice) => Some(notice_kind_name(notice.kind())),
        Kind::ClearChat(clear) => Some(clear_kind_name(clear)),
        Kind::ClearMessage(_) => Some("deletion"),
        Kind::RoomState(state) => (!room::is_whole(state)).then_some("room_state"),
        Kind::Message(_)
        | Kind::Joined(_)
        | Kind::Parted(_)
        | Kind::Snapshot(_)
        | Kind::Marks(_)
        | Kind::ConnectionEnded(_) => None,
    }
}

fn clear_kind_name(clear: &wire::ClearChat) -> &'static str {
    match (clear.target_id, clear.target_login.as_str(), clear.duration_s) {
        (0, "", _) => "clear",
        (_, _, 0) => "ban",
        _ => "timeout",
    }
}

fn notice_kind_name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Other => "notice",
        NoticeKind::Sub => "sub",
        NoticeKind::Resub => "resub",
        NoticeKind::SubGift => "sub_gift",
        NoticeKind::MysteryGift => "mystery_gift",
        NoticeKind::GiftUpgrade => "gift_upgrade",
        NoticeKind::PrimeUpgrade => "prime_upgrade",
        NoticeKind::PayForward => "pay_forward",
        NoticeKind::Raid => "raid",
        NoticeKind::Unraid => "unraid",
        NoticeKind::Announcement => "announcement",
        NoticeKind::BitsBadge => "bits_badge",
        NoticeKind::ViewerMilestone => "viewer_milestone",
        NoticeKind::CharityDonation => "charity_donation",
    }
}
