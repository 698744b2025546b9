//! Event keys: equal in every copy of an event that any connection hears.
//!
//! The message's id where it has one. Otherwise a hash of what identifies the event, of fields that Twitch sent and never
//! of the worker's clock. The channel is its id, or its login where Twitch left the id out.

use super::ChatLine;
use crate::key::{Fields, uuid};

/// The key of a line that has an `id`; where that is no UUID, a hash of the line's stable fields.
pub(super) fn of_message(chat: &ChatLine<'_>, domain: &str) -> u128 {
    uuid(chat.tags.id).unwrap_or_else(|| {
        of_channel(chat, domain)
            .text(chat.tags.id)
            .text(chat.tags.msg_id)
            .text(chat.tags.user_id)
            .text(chat.tags.tmi_sent_ts)
            .text(chat.text)
            .key()
    })
}

/// (room, target, `tmi-sent-ts`, duration).
pub(super) fn of_clear_chat(chat: &ChatLine<'_>) -> u128 {
    let target = if chat.tags.target_user_id.is_empty() { chat.text } else { chat.tags.target_user_id };
    of_channel(chat, "clearchat").text(target).text(chat.tags.tmi_sent_ts).text(chat.tags.ban_duration).key()
}

/// `target-msg-id`; without it the stable fields.
pub(super) fn of_clear_message(chat: &ChatLine<'_>) -> u128 {
    if chat.tags.target_msg_id.is_empty() {
        let fields = of_channel(chat, "clearmsg without target");
        return fields.text(chat.tags.login).text(chat.tags.tmi_sent_ts).text(chat.text).key();
    }
    Fields::of("clearmsg").text(chat.tags.target_msg_id).key()
}

/// The room and its settings: Twitch sends neither an id nor a time with them.
pub(super) fn of_room_state(chat: &ChatLine<'_>) -> u128 {
    let tags = &chat.tags;
    of_channel(chat, "roomstate")
        .text(tags.emote_only)
        .text(tags.followers_only)
        .text(tags.r9k)
        .text(tags.slow)
        .text(tags.subs_only)
        .key()
}

fn of_channel(chat: &ChatLine<'_>, domain: &str) -> Fields {
    let channel_id = chat.tags.channel_id();
    let fields = Fields::of(domain).number(channel_id);
    if channel_id == 0 { fields.text(chat.login) } else { fields }
}
