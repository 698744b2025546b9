//! USERNOTICE: <https://dev.twitch.tv/docs/chat/irc/#usernotice-tags>.
//!
//! A notice of another room in a shared chat comes as `sharedchatnotice` with its own kind in `source-msg-id`. Gifts come
//! one by one, each with its recipient; before several the MYSTERY_GIFT of the same origin announces how many.

use super::tags::{id, number};
use super::{ChatLine, key};
use crate::emote;
use crate::wire::{NoticeKind, UserNotice, event::Kind};

pub(super) fn build(chat: &ChatLine<'_>) -> (Kind, u128) {
    let tags = &chat.tags;
    let param = &tags.param;
    let kind = kind(if tags.msg_id == "sharedchatnotice" { tags.source_msg_id } else { tags.msg_id });
    let origin = if param.origin_id.is_empty() { param.community_gift_id } else { param.origin_id };
    let months = number(param.cumulative_months).or_else(|| number(param.months));
    let notice = UserNotice {
        kind: kind.into(),
        msg_id: tags.msg_id.to_owned(),
        chatter: Some(tags.chatter("")),
        text: chat.text.to_owned(),
        emotes: emote::occurrences(tags.emotes, chat.text),
        months: months.unwrap_or(0),
        plan: param.sub_plan.to_owned(),
        recipient_id: id(param.recipient_id),
        recipient_login: param.recipient_user_name.to_owned(),
        origin_id: crate::line::unescape(origin).into_owned(),
        amount: amount(kind, chat),
        source_channel_id: id(tags.source_room_id),
    };
    (Kind::UserNotice(notice), key::of_message(chat, "usernotice"))
}

/// What the kind counts: gifts announced, raiders, bits of a badge, value of a milestone, a donation in its currency's
/// smallest unit.
fn amount(kind: NoticeKind, chat: &ChatLine<'_>) -> u64 {
    let param = &chat.tags.param;
    id(match kind {
        NoticeKind::MysteryGift => param.mass_gift_count,
        NoticeKind::Raid => param.viewer_count,
        NoticeKind::BitsBadge => param.threshold,
        NoticeKind::ViewerMilestone => param.value,
        NoticeKind::CharityDonation => param.donation_amount,
        NoticeKind::Other
        | NoticeKind::Sub
        | NoticeKind::Resub
        | NoticeKind::SubGift
        | NoticeKind::GiftUpgrade
        | NoticeKind::PrimeUpgrade
        | NoticeKind::PayForward
        | NoticeKind::Unraid
        | NoticeKind::Announcement => "",
    })
}

fn kind(msg_id: &str) -> NoticeKind {
    match msg_id {
        "sub" => NoticeKind::Sub,
        "resub" => NoticeKind::Resub,
        "subgift" | "anonsubgift" => NoticeKind::SubGift,
        "submysterygift" | "anonsubmysterygift" => NoticeKind::MysteryGift,
        "giftpaidupgrade" | "anongiftpaidupgrade" => NoticeKind::GiftUpgrade,
        "primepaidupgrade" => NoticeKind::PrimeUpgrade,
        "standardpayforward" | "communitypayforward" => NoticeKind::PayForward,
        "raid" => NoticeKind::Raid,
        "unraid" => NoticeKind::Unraid,
        "announcement" => NoticeKind::Announcement,
        "bitsbadgetier" => NoticeKind::BitsBadge,
        "viewermilestone" => NoticeKind::ViewerMilestone,
        "charitydonation" => NoticeKind::CharityDonation,
        _ => NoticeKind::Other,
    }
}
