//! The ledger: what was said, whether anybody listened or not.
//!
//! It is an independent witness: counts are taken where lines are made, from the pieces that they are made of, never by
//! reading the finished line. Definitions:
//! - `messages`: PRIVMSG written in this channel. A mirrored copy (shared chat) counts in `mirrored` alone; a mirrored
//!   notice too.
//! - `characters`: code points without the ACTION wrapper; `words`: split at white space, U+E0000 ignored.
//! - `emotes`: occurrences of Twitch's emotes in messages; `bits`: of messages.
//! - `subs`: USERNOTICE `sub` and `resub`; `gifts`: `subgift`, one a recipient; `raids`: `raid`. Text beside a notice
//!   counts nowhere.
//! - `timeouts`, `bans`, `clears`: CLEARCHAT with duration, without, without target; `deletions`: CLEARMSG.
//! - Minutes, hours and days are UTC starts in ms; the time is the line's `tmi-sent-ts`.

mod book;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::faults::GarbageCounts;
pub(crate) use book::{Book, Message, PhraseUse, Record, What};

/// All that was said up to a moment, as `GET /ledger` gives it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The seed of the traffic.
    pub seed: u64,
    /// Whether traffic or a replay goes on, so that more is to come.
    pub speaking: bool,
    /// By channel.
    pub channels: Vec<ChannelRow>,
    /// By channel and minute.
    pub minutes: Vec<MinuteRow>,
    /// By channel, minute and phrase.
    pub phrases: Vec<PhraseRow>,
    /// By channel, minute and emote.
    pub emotes: Vec<EmoteRow>,
    /// By channel, hour and chatter.
    pub chatters: Vec<ChatterRow>,
    /// By channel, day, chatter and emote.
    pub chatter_emotes: Vec<ChatterEmoteRow>,
    /// Connections.
    pub connections: ConnectionCounts,
    /// Ids seen, with [`crate::Detail::Ids`].
    pub ids: Option<IdCounts>,
    /// Every message, with [`crate::Detail::Messages`].
    pub messages: Vec<MessageRow>,
}

/// A channel that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Its name.
    pub login: String,
    /// When it was first JOINed (ms). Whatever was sent later than this was heard by that connection while it stayed.
    pub first_join_ms: Option<u64>,
    /// When it was last JOINed (ms).
    pub last_join_ms: Option<u64>,
    /// When a connection last left it (ms).
    pub last_leave_ms: Option<u64>,
    /// JOINs answered.
    pub joins: u64,
    /// PARTs and ends of connections.
    pub leaves: u64,
    /// Connections that are in it now.
    pub listeners: u64,
    /// Lines that a fault kept from a connection that was in it, once for each connection.
    #[serde(default)]
    pub withheld: u64,
}

/// Counts of a channel's minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinuteRow {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Start of the minute (ms).
    pub minute_ms: u64,
    /// Distinct authors of `messages`.
    pub unique_chatters: u64,
    /// The sums.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Sums; see the module's definitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "defined together, in the module's documentation")]
pub struct Counts {
    pub messages: u64,
    pub characters: u64,
    pub words: u64,
    pub emotes: u64,
    pub bits: u64,
    pub first_time_chatters: u64,
    pub subs: u64,
    pub gifts: u64,
    pub raids: u64,
    pub timeouts: u64,
    pub bans: u64,
    pub clears: u64,
    pub deletions: u64,
    pub mirrored: u64,
    pub announcements: u64,
    /// Announcements of gifts to come (`submysterygift`).
    pub mystery_gifts: u64,
    /// Other notices: paid upgrades, bits badges, milestones.
    pub other_notices: u64,
    pub room_changes: u64,
}

impl Counts {
    /// Adds what another window counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            messages,
            characters,
            words,
            emotes,
            bits,
            first_time_chatters,
            subs,
            gifts,
            raids,
            timeouts,
            bans,
            clears,
            deletions,
            mirrored,
            announcements,
            mystery_gifts,
            other_notices,
            room_changes,
        } = other;
        self.messages += messages;
        self.characters += characters;
        self.words += words;
        self.emotes += emotes;
        self.bits += bits;
        self.first_time_chatters += first_time_chatters;
        self.subs += subs;
        self.gifts += gifts;
        self.raids += raids;
        self.timeouts += timeouts;
        self.bans += bans;
        self.clears += clears;
        self.deletions += deletions;
        self.mirrored += mirrored;
        self.announcements += announcements;
        self.mystery_gifts += mystery_gifts;
        self.other_notices += other_notices;
        self.room_changes += room_changes;
    }

    /// How many lines these counts stand for.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.messages
            + self.mirrored
            + self.subs
            + self.gifts
            + self.raids
            + self.timeouts
            + self.bans
            + self.clears
            + self.deletions
            + self.announcements
            + self.mystery_gifts
            + self.other_notices
            + self.room_changes
    }
}

/// Insertions of a phrase. Matching ignores case, but for `exact`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhraseRow {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Start of the minute (ms).
    pub minute_ms: u64,
    /// The phrase as configured.
    pub phrase: String,
    /// How often it was inserted, in whatever case.
    pub matches: u64,
    /// How often it was inserted in the very case of `phrase`.
    pub exact: u64,
    /// Messages with at least one insertion.
    pub messages: u64,
}

/// Occurrences of an emote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmoteRow {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Start of the minute (ms).
    pub minute_ms: u64,
    /// Twitch's emote id.
    pub emote_id: String,
    /// How often.
    pub occurrences: u64,
    /// Messages with at least one.
    pub messages: u64,
}

/// A chatter's hour in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "defined together, in the module's documentation")]
pub struct ChatterRow {
    pub channel_id: u64,
    pub hour_ms: u64,
    pub chatter_id: u64,
    pub messages: u64,
    pub characters: u64,
    pub words: u64,
    pub emotes: u64,
    pub bits: u64,
}

/// A chatter's use of an emote on a day in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "defined together, in the module's documentation")]
pub struct ChatterEmoteRow {
    pub channel_id: u64,
    pub day_ms: u64,
    pub chatter_id: u64,
    pub emote_id: String,
    pub occurrences: u64,
}

/// A message of a channel (what counts in [`Counts::messages`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Its `tmi-sent-ts` (ms).
    pub sent_at_ms: u64,
    /// Its id, a UUID as 32 hexadecimal digits.
    pub id: String,
}

/// Connections since the start, and why they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Accepted.
    pub opened: u64,
    /// Open now.
    pub open: u64,
    /// Ended by the client.
    pub left: u64,
    /// Ended because the client read too slowly.
    pub slow: u64,
    /// Cut off by `POST /cut`.
    #[serde(default)]
    pub cut: u64,
    /// Closed at once: there were too many. Not among `opened`.
    #[serde(default)]
    pub turned_away: u64,
    /// JOINs over the limit, that were not heard.
    #[serde(default)]
    pub joins_ignored: u64,
    /// Lines that nobody can read, once for each connection that got one.
    #[serde(default)]
    pub garbage: GarbageCounts,
    /// Ended because a PING was not answered.
    pub silent: u64,
    /// Ended after RECONNECT.
    pub reconnected: u64,
    /// Ended because its login was refused.
    pub refused: u64,
    /// Ended by an error of the socket or of TLS.
    pub failed: u64,
    /// Lines of clients that were over-long and dropped.
    pub overlong_lines: u64,
}

/// Ids of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdCounts {
    /// Different ids.
    pub distinct: u64,
    /// Lines whose id had been said before.
    pub repeated: u64,
}

impl Ledger {
    /// Everything of all channels.
    #[must_use]
    pub fn totals(&self) -> Counts {
        let mut sum = Counts::default();
        for row in &self.minutes {
            sum.add(&row.counts);
        }
        sum
    }

    /// Everything of each channel that something was said in.
    #[must_use]
    pub fn channel_totals(&self) -> BTreeMap<u64, Counts> {
        let mut sums: BTreeMap<u64, Counts> = BTreeMap::new();
        for row in &self.minutes {
            sums.entry(row.channel_id).or_default().add(&row.counts);
        }
        sums
    }

    /// The channel of this login.
    #[must_use]
    pub fn channel(&self, login: &str) -> Option<&ChannelRow> {
        self.channels.iter().find(|row| row.login == login)
    }

    /// When the last channel was JOINed for the first time: from here on everything was heard. Absent: some channel
    /// was never JOINed.
    #[must_use]
    pub fn last_first_join_ms(&self) -> Option<u64> {
        self.channels.iter().map(|row| row.first_join_ms).max_by_key(|at| at.unwrap_or(u64::MAX)).flatten()
    }
}
