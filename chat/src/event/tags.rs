//! The tags that Clamor knows, collected in one pass, still raw.
//!
//! Sources: <https://dev.twitch.tv/docs/chat/irc/#supported-tags>, and recorded lines for what is not documented there.

use crate::line::{Line, unescape};
use crate::wire::Chatter;
use std::str::FromStr;

/// Raw values; empty where a tag is absent.
#[derive(Default)]
pub(super) struct Tags<'a> {
    pub(super) badges: &'a str,
    pub(super) ban_duration: &'a str,
    pub(super) bits: &'a str,
    pub(super) display_name: &'a str,
    pub(super) emote_only: &'a str,
    pub(super) emotes: &'a str,
    pub(super) first_msg: &'a str,
    pub(super) followers_only: &'a str,
    pub(super) id: &'a str,
    pub(super) login: &'a str,
    pub(super) moderator: &'a str,
    pub(super) msg_id: &'a str,
    pub(super) r9k: &'a str,
    pub(super) reply_parent_msg_id: &'a str,
    pub(super) returning_chatter: &'a str,
    pub(super) room_id: &'a str,
    pub(super) slow: &'a str,
    pub(super) source_id: &'a str,
    pub(super) source_msg_id: &'a str,
    pub(super) source_room_id: &'a str,
    pub(super) subs_only: &'a str,
    pub(super) subscriber: &'a str,
    pub(super) target_msg_id: &'a str,
    pub(super) target_user_id: &'a str,
    pub(super) tmi_sent_ts: &'a str,
    pub(super) user_id: &'a str,
    pub(super) vip: &'a str,
    pub(super) param: NoticeParams<'a>,
}

/// The `msg-param-` tags of a USERNOTICE.
#[derive(Default)]
pub(super) struct NoticeParams<'a> {
    pub(super) community_gift_id: &'a str,
    pub(super) cumulative_months: &'a str,
    pub(super) donation_amount: &'a str,
    pub(super) mass_gift_count: &'a str,
    pub(super) months: &'a str,
    pub(super) origin_id: &'a str,
    pub(super) recipient_id: &'a str,
    pub(super) recipient_user_name: &'a str,
    pub(super) sub_plan: &'a str,
    pub(super) threshold: &'a str,
    pub(super) value: &'a str,
    pub(super) viewer_count: &'a str,
}

impl<'a> Tags<'a> {
    pub(super) fn collect(line: &Line<'a>) -> Self {
        let mut tags = Self::default();
        for (key, value) in line.tags() {
            tags.set(key, value);
        }
        tags
    }

    fn set(&mut self, key: &str, value: &'a str) {
        let field = match key {
            "badges" => &mut self.badges,
            "ban-duration" => &mut self.ban_duration,
            "bits" => &mut self.bits,
            "display-name" => &mut self.display_name,
            "emote-only" => &mut self.emote_only,
            "emotes" => &mut self.emotes,
            "first-msg" => &mut self.first_msg,
            "followers-only" => &mut self.followers_only,
            "id" => &mut self.id,
            "login" => &mut self.login,
            "mod" => &mut self.moderator,
            "msg-id" => &mut self.msg_id,
            "r9k" => &mut self.r9k,
            "reply-parent-msg-id" => &mut self.reply_parent_msg_id,
            "returning-chatter" => &mut self.returning_chatter,
            "room-id" => &mut self.room_id,
            "slow" => &mut self.slow,
            "source-id" => &mut self.source_id,
            "source-msg-id" => &mut self.source_msg_id,
            "source-room-id" => &mut self.source_room_id,
            "subs-only" => &mut self.subs_only,
            "subscriber" => &mut self.subscriber,
            "target-msg-id" => &mut self.target_msg_id,
            "target-user-id" => &mut self.target_user_id,
            "tmi-sent-ts" => &mut self.tmi_sent_ts,
            "user-id" => &mut self.user_id,
            "vip" => &mut self.vip,
            _ => match key.strip_prefix("msg-param-").and_then(|param| self.param.field(param)) {
                Some(field) => field,
                None => return,
            },
        };
        *field = value;
    }

    /// Twitch's room-id; 0 where it is absent or none.
    pub(super) fn channel_id(&self) -> u64 {
        id(self.room_id)
    }

    /// Twitch's time of the event.
    pub(super) fn sent_at_ms(&self) -> Option<u64> {
        number(self.tmi_sent_ts).filter(|at| *at > 0 && *at <= MAX_ID)
    }

    /// Who wrote it. `nickname` is the prefix's, for lines without a `login` tag.
    pub(super) fn chatter(&self, nickname: &str) -> Chatter {
        let login = if self.login.is_empty() { nickname } else { self.login };
        let mut chatter = Chatter {
            id: id(self.user_id),
            login: login.to_owned(),
            display_name: display_name(self.display_name, login),
            moderator: self.moderator == "1",
            subscriber: self.subscriber == "1",
            vip: matches!(self.vip, "1"),
            broadcaster: false,
        };
        for badge in self.badges.split(',') {
            match badge.split_once('/').map_or(badge, |(name, _)| name) {
                "broadcaster" => chatter.broadcaster = true,
                "moderator" | "lead_moderator" => chatter.moderator = true,
                "vip" => chatter.vip = true,
                "subscriber" | "founder" => chatter.subscriber = true,
                _ => {}
            }
        }
        chatter
    }
}

impl<'a> NoticeParams<'a> {
    fn field(&mut self, param: &str) -> Option<&mut &'a str> {
        Some(match param {
            "community-gift-id" => &mut self.community_gift_id,
            "cumulative-months" => &mut self.cumulative_months,
            "donation-amount" => &mut self.donation_amount,
            "mass-gift-count" => &mut self.mass_gift_count,
            "months" => &mut self.months,
            "origin-id" => &mut self.origin_id,
            "recipient-id" => &mut self.recipient_id,
            "recipient-user-name" => &mut self.recipient_user_name,
            "sub-plan" => &mut self.sub_plan,
            "threshold" => &mut self.threshold,
            "value" => &mut self.value,
            "viewerCount" => &mut self.viewer_count,
            _ => return None,
        })
    }
}

/// Largest id and time: they are stored as signed 64-bit integers.
const MAX_ID: u64 = i64::MAX as u64;

/// A Twitch id; 0 where it is none.
pub(super) fn id(value: &str) -> u64 {
    number(value).filter(|id| *id <= MAX_ID).unwrap_or(0)
}

/// Digits only: no sign, as `str::parse` would allow.
pub(super) fn number<T: FromStr>(value: &str) -> Option<T> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok()
}

/// Empty where it is the login but for case: most are.
fn display_name(value: &str, login: &str) -> String {
    let name = unescape(value);
    let name = name.trim();
    if name.eq_ignore_ascii_case(login) { String::new() } else { name.to_owned() }
}
