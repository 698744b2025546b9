//! CLEARCHAT and CLEARMSG: <https://dev.twitch.tv/docs/chat/irc/#clearchat-tags>.

use super::tags::{id, number};
use super::{ChatLine, key};
use crate::wire::{ClearChat, ClearMessage, event::Kind};

/// The whole chat, a ban, or a timeout. A duration that is no number still is one: of at least a second.
pub(super) fn clear_chat(chat: &ChatLine<'_>) -> (Kind, u128) {
    let duration_s = match chat.tags.ban_duration {
        "" => 0,
        duration => number(duration).unwrap_or(1).max(1),
    };
    let clear = ClearChat { target_id: id(chat.tags.target_user_id), target_login: chat.text.to_owned(), duration_s };
    (Kind::ClearChat(clear), key::of_clear_chat(chat))
}

/// One message. Its `room-id` is often empty: the caller resolves the channel by login.
pub(super) fn clear_message(chat: &ChatLine<'_>) -> (Kind, u128) {
    let clear =
        ClearMessage { target_message_id: chat.tags.target_msg_id.to_owned(), login: chat.tags.login.to_owned() };
    (Kind::ClearMessage(clear), key::of_clear_message(chat))
}
