//! What Twitch's NOTICEs say about a channel: <https://dev.twitch.tv/docs/irc/msg-id/>.

use clamor_bus::report::ChannelState;

/// The state that a NOTICE of this `msg-id` puts its channel into; `None` for those that only inform.
pub(super) fn refusal(msg_id: &str) -> Option<ChannelState> {
    match msg_id {
        "msg_channel_suspended" | "tos_ban" => Some(ChannelState::TwitchSuspended),
        "msg_banned" => Some(ChannelState::Banned),
        "msg_room_not_found" => Some(ChannelState::NotFound),
        // Announced in 2023 with the limit on concurrent JOINs, and never documented under a name.
        limit if limit.contains("join") && limit.contains("limit") => Some(ChannelState::LimitReached),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_us_out_is_a_refusal() {
        assert_eq!(refusal("msg_channel_suspended"), Some(ChannelState::TwitchSuspended));
        assert_eq!(refusal("msg_banned"), Some(ChannelState::Banned));
        assert_eq!(refusal("slow_on"), None);
        assert_eq!(refusal("msg_ratelimit"), None);
    }
}
