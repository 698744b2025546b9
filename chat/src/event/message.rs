//! PRIVMSG: <https://dev.twitch.tv/docs/chat/irc/#privmsg-tags>.

use super::tags::{id, number};
use super::{ChatLine, key};
use crate::emote;
use crate::wire::{Message, event::Kind};

pub(super) fn build(chat: &ChatLine<'_>) -> (Kind, u128) {
    let tags = &chat.tags;
    let (text, action) = without_action(chat.text);
    let message = Message {
        chatter: Some(tags.chatter(chat.nickname)),
        text: text.to_owned(),
        emotes: emote::occurrences(tags.emotes, text),
        action,
        first_message: tags.first_msg == "1",
        returning_chatter: tags.returning_chatter == "1",
        bits: number(tags.bits).unwrap_or(0),
        reply_parent_id: tags.reply_parent_msg_id.to_owned(),
        source_channel_id: id(tags.source_room_id),
    };
    (Kind::Message(message), key::of_message(chat, "privmsg"))
}

/// Takes off the wrapper of `/me`: `\x01ACTION text\x01`. The last `\x01` may be missing where a server cut the line.
fn without_action(text: &str) -> (&str, bool) {
    match text.strip_prefix("\u{1}ACTION ") {
        Some(text) => (text.strip_suffix('\u{1}').unwrap_or(text), true),
        None => (text, false),
    }
}
