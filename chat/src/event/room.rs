//! ROOMSTATE: <https://dev.twitch.tv/docs/chat/irc/#roomstate-tags>. All settings answer a JOIN; one is a change.

use super::tags::number;
use super::{ChatLine, key};
use crate::wire::{RoomState, event::Kind};

pub(super) fn build(chat: &ChatLine<'_>) -> (Kind, u128) {
    let tags = &chat.tags;
    let state = RoomState {
        emote_only: flag(tags.emote_only),
        followers_only_minutes: if tags.followers_only == "-1" { Some(-1) } else { number(tags.followers_only) },
        unique_only: flag(tags.r9k),
        slow_seconds: number(tags.slow),
        subscribers_only: flag(tags.subs_only),
    };
    (Kind::RoomState(state), key::of_room_state(chat))
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Whether all settings are there.
pub(super) fn is_whole(state: &RoomState) -> bool {
    let RoomState { emote_only, followers_only_minutes, unique_only, slow_seconds, subscribers_only } = state;
    emote_only.is_some()
        && followers_only_minutes.is_some()
        && unique_only.is_some()
        && slow_seconds.is_some()
        && subscribers_only.is_some()
}
