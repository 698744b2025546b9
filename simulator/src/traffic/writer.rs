//! The lines that Twitch sends: tags in its order, with its values.
//!
//! Shared chat: where `source` is present the line carries the source tags; a copy in the partner's room has its own id
//! and the original's `source-id`.

use super::people::Chatter;
use crate::pen::{Line, Pen};

/// Where and when a line is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) room_id: u64,
    pub(crate) login: &'a str,
    pub(crate) id: u128,
    pub(crate) sent_at_ms: u64,
    /// In shared chat: id and room of the original.
    pub(crate) source: Option<(u128, u64)>,
}

impl Place<'_> {
    fn is_copy(&self) -> bool {
        self.source.is_some_and(|(_, room_id)| room_id != self.room_id)
    }
}

/// The message that is answered.
pub(crate) struct Parent<'a> {
    pub(crate) id: u128,
    pub(crate) author: &'a Chatter,
    pub(crate) text: &'a str,
}

/// A PRIVMSG but for its place.
pub(crate) struct Said<'a> {
    pub(crate) author: &'a Chatter,
    pub(crate) text: &'a str,
    pub(crate) emotes: &'a str,
    pub(crate) bits: u64,
    pub(crate) action: bool,
    pub(crate) first: bool,
    pub(crate) returning: bool,
    pub(crate) parent: Option<Parent<'a>>,
}

/// A USERNOTICE but for its place.
pub(crate) struct Notice<'a> {
    pub(crate) author: &'a Chatter,
    pub(crate) msg_id: &'a str,
    /// `msg-param-…`, in order, unescaped.
    pub(crate) params: &'a [(&'a str, String)],
    pub(crate) system: &'a str,
    pub(crate) text: &'a str,
    pub(crate) emotes: &'a str,
}

pub(crate) fn message(pen: &mut Pen, place: Place<'_>, said: &Said<'_>) -> Line {
    let author = said.author;
    let (badge_info, badges) = author.badges();
    pen.text("@badge-info=").text(&badge_info).text(";badges=").text(&badges);
    if said.bits > 0 {
        pen.text(";bits=").number(said.bits);
    }
    pen.text(";color=").color(author.color).text(";display-name=").escaped(&author.display_name);
    pen.text(";emotes=").text(said.emotes).text(";first-msg=").flag(said.first);
    pen.text(";flags=;id=").uuid(place.id).text(";mod=").flag(author.moderator);
    if let Some(parent) = &said.parent {
        pen.text(";reply-parent-display-name=").escaped(&parent.author.display_name);
        pen.text(";reply-parent-msg-body=").escaped(parent.text);
        pen.text(";reply-parent-msg-id=").uuid(parent.id);
        pen.text(";reply-parent-user-id=").number(parent.author.id);
        pen.text(";reply-parent-user-login=").text(&parent.author.login);
        pen.text(";reply-thread-parent-msg-id=").uuid(parent.id);
        pen.text(";reply-thread-parent-user-login=").text(&parent.author.login);
    }
    pen.text(";returning-chatter=").flag(said.returning).text(";room-id=").number(place.room_id);
    source_tags(pen, place, &badge_info, &badges);
    pen.text(";subscriber=").flag(author.months > 0).text(";tmi-sent-ts=").number(place.sent_at_ms);
    pen.text(";turbo=").flag(author.turbo).text(";user-id=").number(author.id).text(";user-type=");
    if author.moderator {
        pen.text("mod");
    }
    if author.vip {
        pen.text(";vip=1");
    }
    let login = &author.login;
    pen.end_tags().text(":").text(login).text("!").text(login).text("@").text(login);
    pen.text(".tmi.twitch.tv PRIVMSG #").text(place.login).text(" :");
    if said.action {
        pen.text("\u{1}ACTION ").text(said.text).text("\u{1}");
    } else {
        pen.text(said.text);
    }
    pen.finish(false)
}

pub(crate) fn notice(pen: &mut Pen, place: Place<'_>, notice: &Notice<'_>) -> Line {
    let author = notice.author;
    let (badge_info, badges) = author.badges();
    pen.text("@badge-info=").text(&badge_info).text(";badges=").text(&badges);
    pen.text(";color=").color(author.color).text(";display-name=").escaped(&author.display_name);
    pen.text(";emotes=").text(notice.emotes).text(";flags=;id=").uuid(place.id).text(";login=").text(&author.login);
    pen.text(";mod=").flag(author.moderator);
    let msg_id = if place.is_copy() { "sharedchatnotice" } else { notice.msg_id };
    pen.text(";msg-id=").text(msg_id);
    for (name, value) in notice.params {
        pen.text(";msg-param-").text(name).text("=").escaped(value);
    }
    pen.text(";room-id=").number(place.room_id);
    source_tags(pen, place, &badge_info, &badges);
    if place.source.is_some() {
        pen.text(";source-msg-id=").text(notice.msg_id);
    }
    pen.text(";subscriber=").flag(author.months > 0).text(";system-msg=").escaped(notice.system);
    pen.text(";tmi-sent-ts=").number(place.sent_at_ms).text(";user-id=").number(author.id);
    pen.text(";user-type=;vip=").flag(author.vip);
    pen.end_tags().text(":tmi.twitch.tv USERNOTICE #").text(place.login);
    if !notice.text.is_empty() {
        pen.text(" :").text(notice.text);
    }
    pen.finish(true)
}

fn source_tags(pen: &mut Pen, place: Place<'_>, badge_info: &str, badges: &str) {
    let Some((id, room_id)) = place.source else { return };
    pen.text(";source-badge-info=").text(badge_info).text(";source-badges=").text(badges);
    pen.text(";source-id=").uuid(id).text(";source-only=0;source-room-id=").number(room_id);
}

/// A timeout (`seconds`) or a ban.
pub(crate) fn punishment(pen: &mut Pen, place: Place<'_>, target: &Chatter, seconds: Option<u64>) -> Line {
    pen.text("@");
    if let Some(seconds) = seconds {
        pen.text("ban-duration=").number(seconds).text(";");
    }
    pen.text("room-id=").number(place.room_id).text(";target-user-id=").number(target.id);
    pen.text(";tmi-sent-ts=").number(place.sent_at_ms);
    pen.end_tags().text(":tmi.twitch.tv CLEARCHAT #").text(place.login).text(" :").text(&target.login);
    pen.finish(true)
}

/// The whole chat is cleared.
pub(crate) fn clear(pen: &mut Pen, place: Place<'_>) -> Line {
    pen.text("@room-id=").number(place.room_id).text(";tmi-sent-ts=").number(place.sent_at_ms);
    pen.end_tags().text(":tmi.twitch.tv CLEARCHAT #").text(place.login);
    pen.finish(true)
}

/// One message is deleted. Twitch leaves `room-id` empty here.
pub(crate) fn deletion(pen: &mut Pen, place: Place<'_>, author: &Chatter, target: u128, text: &str) -> Line {
    pen.text("@login=").text(&author.login).text(";room-id=;target-msg-id=").uuid(target);
    pen.text(";tmi-sent-ts=").number(place.sent_at_ms);
    pen.end_tags().text(":tmi.twitch.tv CLEARMSG #").text(place.login).text(" :").text(text);
    pen.finish(true)
}

/// One setting has changed: a ROOMSTATE that names it alone.
pub(crate) fn room_state(pen: &mut Pen, place: Place<'_>, setting: &str) -> Line {
    let (before, after) = if setting < "room-id" { (setting, "") } else { ("", setting) };
    pen.text("@");
    if !before.is_empty() {
        pen.text(before).text(";");
    }
    pen.text("room-id=").number(place.room_id);
    if !after.is_empty() {
        pen.text(";").text(after);
    }
    pen.end_tags().text(":tmi.twitch.tv ROOMSTATE #").text(place.login);
    pen.finish(true)
}

/// What Twitch tells everybody in the room.
pub(crate) fn room_notice(pen: &mut Pen, place: Place<'_>, msg_id: &str, text: &str) -> Line {
    pen.text("@msg-id=").text(msg_id);
    pen.end_tags().text(":tmi.twitch.tv NOTICE #").text(place.login).text(" :").text(text);
    pen.finish(true)
}
