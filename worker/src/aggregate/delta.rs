//! What one flush adds to the store: the contract between counting (pure) and committing (SQL).
//!
//! Invariants:
//! - A delta is exactly the effect of the stream messages after its group's last position up to [`Position::seq`].
//! - Counters are added to what the store has; [`FastDelta::uniques`] alone are written absolutely.
//! - Minutes, hours and days are the UTC starts of windows, in ms since the Unix epoch.

use rustc_hash::FxHashMap;

/// A moment in ms since the Unix epoch, UTC.
pub type Millis = u64;
/// Twitch's room-id.
pub type ChannelId = u64;
/// Twitch's user-id.
pub type ChatterId = u64;
/// Hash of (provider, provider id): see `clamor_chat::key::emote_id`. Stored as a signed bigint of the same bits.
pub type EmoteId = u64;
/// Hash of (name, pattern, case sensitivity): see `clamor_chat::key::phrase_id`. Stored likewise.
pub type PhraseId = u64;

/// How many slices the slow tables are cut into, by chatter hash: each is a group with commits of its own.
pub const SLICES: u8 = 4;

/// A table group: the tables that one transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Minute windows of channels, phrases and emotes, with coverage.
    Fast,
    /// Per-chatter tables of one slice, 0 to `SLICES - 1`.
    Slow(u8),
    /// Hours and days from minutes and hours; its sequence counts its own commits.
    RollUp,
}

impl Group {
    /// Its number in `shard_group.grp`.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::Fast => 0,
            Self::Slow(slice) => 1 + i16::from(slice),
            Self::RollUp => 100,
        }
    }
}

/// Where a group stands in its shard's stream; committed with its counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Stream sequence of the last message that is counted; 0: none.
    pub seq: u64,
    /// Stream time there: JetStream's timestamps, a running maximum.
    pub stream_time_ms: Millis,
    /// The `Nats-Msg-Id` of that message; empty: it had none.
    pub msg_id: String,
    /// The last batch number of each instance, sorted by instance.
    pub numbers: Vec<(u64, u64)>,
    /// Object name of the plan in force; empty: none yet.
    pub plan: String,
}

/// Additions to one row of `channel_minute`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' definitions are in docs/measures.md")]
pub struct ChannelCounts {
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
    pub deletions: u64,
    pub mirrored: u64,
}

/// Additions to one row of `emote_minute`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' definitions are in docs/measures.md")]
pub struct EmoteCounts {
    pub occurrences: u64,
    pub messages: u64,
}

/// Additions to one row of `phrase_minute`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' definitions are in docs/measures.md")]
pub struct PhraseCounts {
    pub matches: u64,
    pub messages: u64,
}

/// Additions to one row of `chatter_hour`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' definitions are in docs/measures.md")]
pub struct ChatterCounts {
    pub messages: u64,
    pub characters: u64,
    pub words: u64,
    pub emotes: u64,
    pub bits: u64,
}

/// A message that matched a phrase with `logMessages`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of phrase_match")]
pub struct PhraseMatch {
    pub phrase_id: PhraseId,
    pub channel_id: ChannelId,
    pub sent_at_ms: Millis,
    pub key: u128,
    pub chatter_id: ChatterId,
    pub matches: u32,
    pub text: String,
}

/// A row of `chat_event`: subs, gifts, raids, announcements, moderation, room state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatEvent {
    /// Where.
    pub channel_id: ChannelId,
    /// Twitch's time.
    pub sent_at_ms: Millis,
    /// The event key.
    pub key: u128,
    /// `sub`, `resub`, `sub_gift`, `mystery_gift`, `raid`, `announcement`, `timeout`, `ban`, `clear`, `deletion`,
    /// `room_state` …: one closed list in `clamor_chat`.
    pub kind: &'static str,
    /// Who did it; 0: not said.
    pub chatter_id: ChatterId,
    /// To whom; 0: nobody or not said.
    pub target_id: u64,
    /// Months, gifts, raiders, seconds: what the kind's definition says; 0: nothing.
    pub amount: u64,
    /// What was written beside it, a login, a plan: what the kind's definition says.
    pub text: String,
}

/// A change of what is wanted, from a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of wanted")]
pub enum WantedChange {
    Begin { channel_id: ChannelId, login: String, since_ms: Millis },
    End { channel_id: ChannelId, until_ms: Millis },
}

/// A change of coverage, in stream order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of coverage")]
pub enum CoverageChange {
    Open {
        channel_id: ChannelId,
        instance: u64,
        connection: u32,
        since_ms: Millis,
    },
    /// An interval that would end before it began is deleted.
    Close {
        channel_id: ChannelId,
        instance: u64,
        connection: u32,
        until_ms: Millis,
    },
}

/// What dictionaries learn: the newest name by event time wins.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of the dictionaries")]
pub struct ChatterName {
    pub login: String,
    pub display_name: String,
    pub at_ms: Millis,
}

/// An emote's name and provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of emote")]
pub struct EmoteName {
    pub provider: &'static str,
    pub provider_id: String,
    pub name: String,
    pub at_ms: Millis,
}

/// A phrase that the plan in force names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns of phrase")]
pub struct PhraseName {
    pub name: String,
    pub pattern: String,
    pub case_sensitive: bool,
}

/// One flush of [`Group::Fast`].
#[derive(Debug, Clone, Default)]
pub struct FastDelta {
    /// By (channel, minute).
    pub channels: FxHashMap<(ChannelId, Millis), ChannelCounts>,
    /// Unique chatters of minutes whose whole set is in memory: absolute.
    pub uniques: FxHashMap<(ChannelId, Millis), u32>,
    /// Sorted chatter ids of minutes that left the horizon, and of late data: merged with what is stored, and the
    /// minute's unique chatters are the size of the union.
    pub settled: Vec<(ChannelId, Millis, Vec<ChatterId>)>,
    /// By (channel, minute, emote).
    pub emotes: FxHashMap<(ChannelId, Millis, EmoteId), EmoteCounts>,
    /// By (channel, minute, phrase).
    pub phrases: FxHashMap<(ChannelId, Millis, PhraseId), PhraseCounts>,
    /// Rows to insert where their key is not there yet.
    pub phrase_matches: Vec<PhraseMatch>,
    /// Rows to insert where their key is not there yet.
    pub chat_events: Vec<ChatEvent>,
    /// In stream order.
    pub wanted: Vec<WantedChange>,
    /// In stream order.
    pub coverage: Vec<CoverageChange>,
    /// (instance, connection) → heard until, absolute, only what changed.
    pub heard: FxHashMap<(u64, u32), Millis>,
    /// Lines that were counted beyond what their source covers and whose keys leave memory: key → (channel, Twitch's
    /// time).
    pub uncovered: FxHashMap<u128, (ChannelId, Millis)>,
    /// Dictionary: logins of channels (from the plan and from chat), with the time they were seen.
    pub channel_names: FxHashMap<ChannelId, (String, Millis)>,
    /// Dictionary: emotes seen since the last flush that the process has not written yet.
    pub emote_names: FxHashMap<EmoteId, EmoteName>,
    /// Dictionary: phrases of a plan that came into force since the last flush.
    pub phrase_names: FxHashMap<PhraseId, PhraseName>,
    /// Whether the shard has read all that its stream has; how far `gap` may be judged.
    pub judged_until_ms: Millis,
}

/// One flush of one slice of the slow tables.
#[derive(Debug, Clone, Default)]
pub struct SlowDelta {
    /// By (channel, hour, chatter).
    pub chatters: FxHashMap<(ChannelId, Millis, ChatterId), ChatterCounts>,
    /// By (channel, day, chatter, emote): occurrences.
    pub chatter_emotes: FxHashMap<(ChannelId, Millis, ChatterId, EmoteId), u64>,
    /// Dictionary: names of this slice's chatters that are new or changed.
    pub chatter_names: FxHashMap<ChatterId, ChatterName>,
}

/// What a claim found in the store: where to go on.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Every group's position but the roll-up's.
    pub positions: FxHashMap<i16, Position>,
    /// When the stream was created that the positions refer to, as JetStream says it; empty: never seen.
    pub stream_created: String,
    /// Open coverage: (channel, instance, connection) → since.
    pub open_coverage: FxHashMap<(ChannelId, u64, u32), Millis>,
    /// (instance, connection) → heard until, of those with open coverage.
    pub heard: FxHashMap<(u64, u32), Millis>,
    /// Channels with an open `wanted` row.
    pub wanted: FxHashMap<ChannelId, Millis>,
}
