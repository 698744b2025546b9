//! What an instance says that it reads. Written when something changed (at most every 100 ms) and every 5 s.

use serde::{Deserialize, Serialize};

/// The place of a slot in the report of an aggregator, which has none and reads no channel: it reports what keeps it from
/// counting, and only while something does. No slot has this name.
pub const AGGREGATE: &str = "_aggregate";

/// One instance's view of its channels.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The slot that it serves.
    pub slot: String,
    /// Its random id, as 16 hex digits.
    pub instance: String,
    /// The pod's UID; absent outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// When the instance started, in ms since the epoch.
    pub started_at_ms: u64,
    /// When this was written, in ms since the epoch.
    pub at_ms: u64,
    /// The revision of the assignment that it follows; absent: it has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// It has been told to stop and reads on for its successor.
    #[serde(default)]
    pub draining: bool,
    /// What does not work, one clear line (a refused login, a missing file); empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Sorted by login.
    pub channels: Vec<ChannelReport>,
}

impl Report {
    /// What does not work and where, for people.
    #[must_use]
    pub fn told_problem(&self) -> String {
        let Self { slot, problem, .. } = self;
        if slot == AGGREGATE { format!("an aggregator: {problem}") } else { format!("slot {slot}: {problem}") }
    }
}

/// One channel of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Twitch login.
    pub login: String,
    /// Twitch's room-id; absent until a ROOMSTATE named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<u64>,
    /// Where the channel stands.
    pub state: ChannelState,
    /// Smoothed messages per minute.
    #[serde(default)]
    pub messages_per_minute: f32,
}

/// Where a channel stands with one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChannelState {
    /// Assigned; its JOIN waits in the queue.
    Pending,
    /// JOIN sent.
    Joining,
    /// Heard.
    Joined,
    /// No answer for 60 s: the login probably does not exist. JOINed again from time to time.
    Unanswered,
    /// Twitch: msg_channel_suspended.
    TwitchSuspended,
    /// Twitch: msg_banned (the account that reads).
    Banned,
    /// The login belongs to another name now.
    Renamed,
    /// Helix: no such user.
    NotFound,
    /// Twitch refuses more channels on this account.
    LimitReached,
}

impl ChannelState {
    /// Whether Twitch has answered, or will not: nothing to wait for.
    #[must_use]
    pub fn is_classified(self) -> bool {
        !matches!(self, Self::Pending | Self::Joining)
    }

    /// All states, in their order of progress; the closed label set of the channel metrics.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Joining,
        Self::Joined,
        Self::Unanswered,
        Self::TwitchSuspended,
        Self::Banned,
        Self::Renamed,
        Self::NotFound,
        Self::LimitReached,
    ];

    /// Its name, as in reports and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Joining => "Joining",
            Self::Joined => "Joined",
            Self::Unanswered => "Unanswered",
            Self::TwitchSuspended => "TwitchSuspended",
            Self::Banned => "Banned",
            Self::Renamed => "Renamed",
            Self::NotFound => "NotFound",
            Self::LimitReached => "LimitReached",
        }
    }
}
