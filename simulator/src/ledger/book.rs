//! Writing the ledger. It grows with distinct keys, never with messages (but for ids, where they are asked for).

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{ChatterEmoteRow, ChatterRow, Counts, EmoteRow, IdCounts, Ledger, MessageRow, MinuteRow, PhraseRow};
use crate::config::Detail;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// One line, as the ledger sees it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) channel_id: u64,
    pub(crate) sent_at_ms: u64,
    /// 0: the line has none.
    pub(crate) id: u128,
    pub(crate) what: What,
}

/// What a line is.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Message(Message),
    Mirrored,
    Sub,
    Gift,
    MysteryGift,
    Raid,
    Announcement,
    OtherNotice,
    Timeout,
    Ban,
    Clear,
    Deletion,
    RoomChange,
}

/// A PRIVMSG that is not a mirrored copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) chatter_id: u64,
    pub(crate) characters: u64,
    pub(crate) words: u64,
    pub(crate) bits: u64,
    pub(crate) first: bool,
    /// Each emote once, with its occurrences.
    pub(crate) emotes: Vec<(Arc<str>, u64)>,
    /// Each phrase once.
    pub(crate) phrases: Vec<PhraseUse>,
}

/// Insertions of one phrase into one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PhraseUse {
    /// Its place in the configuration.
    pub(crate) phrase: usize,
    pub(crate) matches: u64,
    pub(crate) exact: u64,
}

#[derive(Default)]
struct Minute {
    counts: Counts,
    chatters: FxHashSet<u64>,
}

#[derive(Default)]
struct Chatter {
    messages: u64,
    characters: u64,
    words: u64,
    emotes: u64,
    bits: u64,
}

/// The ledger while it is written.
pub(crate) struct Book {
    detail: Detail,
    phrases: Vec<String>,
    minutes: FxHashMap<(u64, u64), Minute>,
    phrase_minutes: FxHashMap<(u64, u64, usize), (u64, u64, u64)>,
    emote_minutes: FxHashMap<(u64, u64, Arc<str>), (u64, u64)>,
    chatter_hours: FxHashMap<(u64, u64, u64), Chatter>,
    chatter_emote_days: FxHashMap<(u64, u64, u64, Arc<str>), u64>,
    ids: FxHashSet<u128>,
    repeated_ids: u64,
    /// Channel, time and id.
    messages: Vec<(u64, u64, u128)>,
}

impl Book {
    pub(crate) fn new(detail: Detail, phrases: Vec<String>) -> Self {
        Self {
            detail,
            phrases,
            minutes: FxHashMap::default(),
            phrase_minutes: FxHashMap::default(),
            emote_minutes: FxHashMap::default(),
            chatter_hours: FxHashMap::default(),
            chatter_emote_days: FxHashMap::default(),
            ids: FxHashSet::default(),
            repeated_ids: 0,
            messages: Vec::new(),
        }
    }

    pub(crate) fn record(&mut self, record: &Record) {
        match self.detail {
            Detail::Off => return,
            Detail::Counts => {}
            Detail::Messages => {
                if let What::Message(_) = record.what {
                    self.messages.push((record.channel_id, record.sent_at_ms, record.id));
                }
            }
            Detail::Ids => {
                if record.id != 0 && !self.ids.insert(record.id) {
                    self.repeated_ids += 1;
                }
            }
        }
        let minute_ms = record.sent_at_ms - record.sent_at_ms % MINUTE_MS;
        let minute = self.minutes.entry((record.channel_id, minute_ms)).or_default();
        let counts = &mut minute.counts;
        let counter = match &record.what {
            What::Message(message) => {
                counts.characters += message.characters;
                counts.words += message.words;
                counts.bits += message.bits;
                counts.first_time_chatters += u64::from(message.first);
                counts.emotes += message.emotes.iter().map(|(_, occurrences)| occurrences).sum::<u64>();
                minute.chatters.insert(message.chatter_id);
                &mut counts.messages
            }
            What::Mirrored => &mut counts.mirrored,
            What::Sub => &mut counts.subs,
            What::Gift => &mut counts.gifts,
            What::MysteryGift => &mut counts.mystery_gifts,
            What::Raid => &mut counts.raids,
            What::Announcement => &mut counts.announcements,
            What::OtherNotice => &mut counts.other_notices,
            What::Timeout => &mut counts.timeouts,
            What::Ban => &mut counts.bans,
            What::Clear => &mut counts.clears,
            What::Deletion => &mut counts.deletions,
            What::RoomChange => &mut counts.room_changes,
        };
        *counter += 1;
        if let What::Message(message) = &record.what {
            self.record_message(record, minute_ms, message);
        }
    }

    fn record_message(&mut self, record: &Record, minute_ms: u64, message: &Message) {
        let channel_id = record.channel_id;
        let hour_ms = record.sent_at_ms - record.sent_at_ms % HOUR_MS;
        let day_ms = record.sent_at_ms - record.sent_at_ms % DAY_MS;
        let chatter = self.chatter_hours.entry((channel_id, hour_ms, message.chatter_id)).or_default();
        chatter.messages += 1;
        chatter.characters += message.characters;
        chatter.words += message.words;
        chatter.bits += message.bits;
        for (emote, occurrences) in &message.emotes {
            chatter.emotes += occurrences;
            let minute = self.emote_minutes.entry((channel_id, minute_ms, Arc::clone(emote))).or_default();
            minute.0 += occurrences;
            minute.1 += 1;
            let day = (channel_id, day_ms, message.chatter_id, Arc::clone(emote));
            *self.chatter_emote_days.entry(day).or_default() += occurrences;
        }
        for used in &message.phrases {
            let minute = self.phrase_minutes.entry((channel_id, minute_ms, used.phrase)).or_default();
            minute.0 += used.matches;
            minute.1 += used.exact;
            minute.2 += 1;
        }
    }

    /// A copy for readers, sorted by key.
    pub(crate) fn copy_into(&self, ledger: &mut Ledger) {
        ledger.minutes = self.minute_rows();
        ledger.phrases = self.phrase_rows();
        ledger.emotes = self.emote_rows();
        ledger.chatters = self.chatter_rows();
        ledger.chatter_emotes = self.chatter_emote_rows();
        let message = |&(channel_id, sent_at_ms, id): &(u64, u64, u128)| MessageRow {
            channel_id,
            sent_at_ms,
            id: format!("{id:032x}"),
        };
        ledger.messages = self.messages.iter().map(message).collect();
        ledger.ids = (self.detail == Detail::Ids)
            .then_some(IdCounts { distinct: self.ids.len() as u64, repeated: self.repeated_ids });
    }

    fn minute_rows(&self) -> Vec<MinuteRow> {
        let row = |(&(channel_id, minute_ms), minute): (&(u64, u64), &Minute)| MinuteRow {
            channel_id,
            minute_ms,
            unique_chatters: minute.chatters.len() as u64,
            counts: minute.counts,
        };
        sorted(self.minutes.iter().map(row), |row| (row.channel_id, row.minute_ms))
    }

    fn phrase_rows(&self) -> Vec<PhraseRow> {
        let rows = self.phrase_minutes.iter().map(|(&(channel_id, minute_ms, phrase), &(matches, exact, messages))| {
            PhraseRow { channel_id, minute_ms, phrase: self.phrases[phrase].clone(), matches, exact, messages }
        });
        sorted(rows, |row| (row.channel_id, row.minute_ms, row.phrase.clone()))
    }

    fn emote_rows(&self) -> Vec<EmoteRow> {
        let rows =
            self.emote_minutes.iter().map(|((channel_id, minute_ms, emote_id), &(occurrences, messages))| EmoteRow {
                channel_id: *channel_id,
                minute_ms: *minute_ms,
                emote_id: emote_id.to_string(),
                occurrences,
                messages,
            });
        sorted(rows, |row| (row.channel_id, row.minute_ms, row.emote_id.clone()))
    }

    fn chatter_rows(&self) -> Vec<ChatterRow> {
        let rows = self.chatter_hours.iter().map(|(&(channel_id, hour_ms, chatter_id), chatter)| {
            let Chatter { messages, characters, words, emotes, bits } = *chatter;
            ChatterRow { channel_id, hour_ms, chatter_id, messages, characters, words, emotes, bits }
        });
        sorted(rows, |row| (row.channel_id, row.hour_ms, row.chatter_id))
    }

    fn chatter_emote_rows(&self) -> Vec<ChatterEmoteRow> {
        let rows = self.chatter_emote_days.iter().map(|((channel_id, day_ms, chatter_id, emote_id), &occurrences)| {
            ChatterEmoteRow {
                channel_id: *channel_id,
                day_ms: *day_ms,
                chatter_id: *chatter_id,
                emote_id: emote_id.to_string(),
                occurrences,
            }
        });
        sorted(rows, |row| (row.channel_id, row.day_ms, row.chatter_id, row.emote_id.clone()))
    }
}

fn sorted<T, K: Ord>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_by_cached_key(key);
    rows
}
