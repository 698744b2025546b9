//! From chat events to the additions of a flush. The measures' definitions are in `docs/measures.md`.
//!
//! Invariants: no allocation per message once its rows exist; an event is counted by the groups that are told to and
//! by no other; a mirrored copy (shared chat) enters only `mirrored`.

use super::delta::{
    ChannelId, ChatEvent, ChatterId, ChatterName, EmoteName, FastDelta, Millis, PhraseMatch, SLICES, SlowDelta,
};
use super::names::{ChatterNames, EmoteNames};
use super::plan::ActivePlan;
use clamor_chat::event::chat_event_kind;
use clamor_chat::phrase::Scratch;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Event, Message, NoticeKind, RoomState, UserNotice};
use clamor_chat::{text, window};

/// All emotes of the `emotes` tag are Twitch's.
const TWITCH: &str = "twitch";

/// Which groups a stream message is counted by: a group skips what it already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Minute windows and coverage.
    pub fast: bool,
    /// Per-chatter tables, by slice.
    pub slow: [bool; SLICES as usize],
}

impl Groups {
    /// Nobody: warm-up.
    pub const NONE: Self = Self { fast: false, slow: [false; SLICES as usize] };

    /// Whether any group counts.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::NONE
    }
}

/// The slice of the slow tables that a chatter's rows are in. Fixed while slices have positions of their own: a
/// chatter that changed its slice could be counted twice or not at all.
#[must_use]
pub fn slice_of(chatter_id: ChatterId) -> u8 {
    const { assert!(SLICES.is_power_of_two() && SLICES > 1) };
    // Fibonacci hashing: ids are handed out in sequence.
    let hash = chatter_id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> (u64::BITS - SLICES.trailing_zeros())).to_le_bytes()[0]
}

/// The chatter that an event adds to the unique chatters of its minute; 0: none.
#[must_use]
pub fn unique_chatter(event: &Event) -> ChatterId {
    match &event.kind {
        Some(Kind::Message(message)) if !event.is_mirrored() => chatter_id(message),
        _ => 0,
    }
}

fn chatter_id(message: &Message) -> ChatterId {
    message.chatter.as_ref().map_or(0, |chatter| chatter.id)
}

/// Adds events up; what it holds is what the next flush of each group writes.
#[derive(Debug, Default)]
pub struct Counter {
    /// Without uniques, coverage and the position: the shard's.
    pub fast: FastDelta,
    /// By slice.
    pub slow: [SlowDelta; SLICES as usize],
    chatters: ChatterNames,
    emotes: EmoteNames,
    scratch: Scratch,
}

impl Counter {
    /// Counts one chat event at its (clamped) time.
    pub fn count(&mut self, event: &Event, at_ms: Millis, groups: Groups, plan: &ActivePlan) {
        if event.is_mirrored() {
            if groups.fast {
                self.channel(event, at_ms).mirrored += 1;
            }
            return;
        }
        match &event.kind {
            Some(Kind::Message(message)) => self.message(event, message, at_ms, groups, plan),
            Some(_) if groups.fast => self.chat_event(event, at_ms),
            _ => {}
        }
    }

    fn channel(&mut self, event: &Event, at_ms: Millis) -> &mut super::delta::ChannelCounts {
        self.fast.channels.entry((event.channel_id, window::minute(at_ms))).or_default()
    }

    fn message(&mut self, event: &Event, message: &Message, at_ms: Millis, groups: Groups, plan: &ActivePlan) {
        let characters = text::characters(&message.text);
        let words = text::words(&message.text);
        let emotes: u64 = message.emotes.iter().map(|emote| u64::from(emote.count)).sum();
        let bits = u64::from(message.bits);
        if groups.fast {
            let channel = self.channel(event, at_ms);
            channel.messages += 1;
            channel.characters += characters;
            channel.words += words;
            channel.emotes += emotes;
            channel.bits += bits;
            channel.first_time_chatters += u64::from(message.first_message);
            self.emote_minutes(event.channel_id, message, at_ms);
            self.phrases(event, message, at_ms, plan);
        }
        let chatter = chatter_id(message);
        if chatter != 0 && groups.slow[usize::from(slice_of(chatter))] {
            let row = (event.channel_id, window::hour(at_ms), chatter);
            let counts = self.slow[usize::from(slice_of(chatter))].chatters.entry(row).or_default();
            counts.messages += 1;
            counts.characters += characters;
            counts.words += words;
            counts.emotes += emotes;
            counts.bits += bits;
            self.chatter_emotes(event.channel_id, message, chatter, at_ms);
            self.chatter_name(message, chatter, at_ms);
        }
    }

    fn emote_minutes(&mut self, channel_id: ChannelId, message: &Message, at_ms: Millis) {
        let minute = window::minute(at_ms);
        for emote in message.emotes.iter().filter(|emote| emote.count > 0) {
            let (id, news) = self.emotes.id(TWITCH, &emote.id);
            let counts = self.fast.emotes.entry((channel_id, minute, id)).or_default();
            counts.occurrences += u64::from(emote.count);
            counts.messages += 1;
            if news {
                let (provider_id, name) = (emote.id.clone(), emote.name.clone());
                self.fast.emote_names.insert(id, EmoteName { provider: TWITCH, provider_id, name, at_ms });
            }
        }
    }

    fn chatter_emotes(&mut self, channel_id: ChannelId, message: &Message, chatter: ChatterId, at_ms: Millis) {
        let day = window::day(at_ms);
        for emote in message.emotes.iter().filter(|emote| emote.count > 0) {
            let (id, news) = self.emotes.id(TWITCH, &emote.id);
            *self.slow[usize::from(slice_of(chatter))]
                .chatter_emotes
                .entry((channel_id, day, chatter, id))
                .or_default() += u64::from(emote.count);
            if news {
                // Only where the fast group is ahead and has told the name already: tell it again, it changes nothing.
                let (provider_id, name) = (emote.id.clone(), emote.name.clone());
                self.fast.emote_names.insert(id, EmoteName { provider: TWITCH, provider_id, name, at_ms });
            }
        }
    }

    fn chatter_name(&mut self, message: &Message, chatter: ChatterId, at_ms: Millis) {
        let Some(wire) = &message.chatter else { return };
        if wire.login.is_empty() || !self.chatters.is_news(chatter, &wire.login, &wire.display_name) {
            return;
        }
        let display_name = if wire.display_name.is_empty() { &wire.login } else { &wire.display_name };
        let name = ChatterName { login: wire.login.clone(), display_name: display_name.clone(), at_ms };
        let names = &mut self.slow[usize::from(slice_of(chatter))].chatter_names;
        match names.get(&chatter) {
            Some(newer) if newer.at_ms > at_ms => {}
            _ => {
                names.insert(chatter, name);
            }
        }
    }

    fn phrases(&mut self, event: &Event, message: &Message, at_ms: Millis, plan: &ActivePlan) {
        let Some(matcher) = &plan.phrases.matcher else { return };
        let Some(active) = plan.channels.get(&event.channel_id).and_then(|channel| channel.active.as_ref()) else {
            return;
        };
        let minute = window::minute(at_ms);
        let fast = &mut self.fast;
        matcher.count(&message.text, active, &mut self.scratch, |index, matches| {
            let Some(phrase) = plan.phrases.phrases.get(index) else {
                return;
            };
            let counts = fast.phrases.entry((event.channel_id, minute, phrase.id)).or_default();
            counts.matches += u64::from(matches);
            counts.messages += 1;
            if phrase.log_messages {
                fast.phrase_matches.push(PhraseMatch {
                    phrase_id: phrase.id,
                    channel_id: event.channel_id,
                    sent_at_ms: at_ms,
                    key: event.key(),
                    chatter_id: chatter_id(message),
                    matches,
                    text: message.text.clone(),
                });
            }
        });
    }

    fn chat_event(&mut self, event: &Event, at_ms: Millis) {
        let Some(kind) = chat_event_kind(event) else { return };
        let channel = self.channel(event, at_ms);
        match kind {
            // An upgrade announces that somebody will go on to pay; the subscription itself comes as a sub or resub.
            "sub" | "resub" => channel.subs += 1,
            // By recipient: the announcement of many (`mystery_gift`) is followed by each of them.
            "sub_gift" => channel.gifts += 1,
            "raid" => channel.raids += 1,
            "timeout" => channel.timeouts += 1,
            "ban" => channel.bans += 1,
            "deletion" => channel.deletions += 1,
            _ => {}
        }
        let Details { chatter_id, target_id, amount, text } = details(event);
        self.fast.chat_events.push(ChatEvent {
            channel_id: event.channel_id,
            sent_at_ms: at_ms,
            key: event.key(),
            kind,
            chatter_id,
            target_id,
            amount,
            text,
        });
    }
}

/// What a chat event's row says beside where, when and what.
#[derive(Debug, Default)]
struct Details {
    chatter_id: ChatterId,
    target_id: u64,
    amount: u64,
    text: String,
}

fn details(event: &Event) -> Details {
    match &event.kind {
        Some(Kind::UserNotice(notice)) => notice_details(notice),
        Some(Kind::ClearChat(clear)) => Details {
            target_id: clear.target_id,
            amount: u64::from(clear.duration_s),
            text: clear.target_login.clone(),
            ..Details::default()
        },
        Some(Kind::ClearMessage(clear)) => {
            Details { text: format!("{} {}", clear.login, clear.target_message_id), ..Details::default() }
        }
        Some(Kind::RoomState(state)) => Details { text: room_settings(state), ..Details::default() },
        _ => Details::default(),
    }
}

/// `amount`: gifts, raiders, bits or a milestone's value where said, else months. `text`: what was written, else the
/// recipient of a gift, else the subscription's plan, else (of kinds without a name here) Twitch's own name.
fn notice_details(notice: &UserNotice) -> Details {
    let amount = if notice.amount > 0 { notice.amount } else { u64::from(notice.months) };
    let other = notice.kind() == NoticeKind::Other;
    let texts = [&notice.text, &notice.recipient_login, &notice.plan];
    let text = if other { Some(&notice.msg_id) } else { texts.into_iter().find(|text| !text.is_empty()) };
    Details {
        chatter_id: notice.chatter.as_ref().map_or(0, |chatter| chatter.id),
        target_id: notice.recipient_id,
        amount,
        text: text.cloned().unwrap_or_default(),
    }
}

/// The settings that the line had, as `name=value`, separated by spaces.
fn room_settings(state: &RoomState) -> String {
    let RoomState { emote_only, followers_only_minutes, unique_only, slow_seconds, subscribers_only } = state;
    let settings = [
        emote_only.map(|on| format!("emote_only={on}")),
        followers_only_minutes.map(|minutes| format!("followers_only_minutes={minutes}")),
        unique_only.map(|on| format!("unique_only={on}")),
        slow_seconds.map(|seconds| format!("slow_seconds={seconds}")),
        subscribers_only.map(|on| format!("subscribers_only={on}")),
    ];
    settings.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
