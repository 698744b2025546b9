//! The reasons: one closed list.

use std::fmt;

/// Why a condition has its status; also an event's reason and a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nobody has looked at the object.
    Pending,
    /// Suspended by its owner.
    Suspended,
    /// The namespace has no pipeline.
    NoPipeline,
    /// The pipeline of the namespace is suspended.
    PipelineSuspended,
    /// The channel is heard.
    Joined,
    /// The channel is heard, by fewer slots than asked for.
    TooFewSlots,
    /// A slot is chosen or the JOIN is on its way.
    Joining,
    /// Not heard for 60 s.
    Unheard,
    /// A JOIN has had no answer.
    Unanswered,
    /// Twitch has suspended the channel.
    TwitchSuspended,
    /// The account that reads is banned there.
    Banned,
    /// The login belongs to another name now.
    Renamed,
    /// Twitch has no such user.
    NotFound,
    /// Twitch refuses more channels on the account.
    LimitReached,
    /// Another object works for this login.
    DuplicateChannel,
    /// The slots are full.
    NoCapacity,
    /// There are no API credentials to ask with.
    NoTwitchCredentials,
    /// The phrase counts.
    Counting,
    /// The phrase counts, in no channel so far.
    NoChannels,
    /// The phrase's directive is on its way.
    Publishing,
    /// The pattern does not compile, or compiles over the size limit.
    InvalidPattern,
    /// The channel filter does not compile.
    InvalidChannelFilter,
    /// The pipeline works.
    Running,
    /// Workers are being made or changed.
    Progressing,
    /// Some workers are not ready.
    WorkersUnavailable,
    /// Another pipeline of the namespace is older.
    DuplicatePipeline,
    /// The operator's configuration has no such bus.
    UnknownBus,
    /// The bus does not answer.
    BusUnavailable,
    /// The bus refuses the workers.
    BusRefused,
    /// The store does not answer.
    StoreUnavailable,
    /// The store refuses the workers.
    StoreRefused,
    /// A Secret is not there.
    SecretMissing,
    /// A Secret lacks a key or has a wrong value.
    SecretInvalid,
    /// The streams or the store were made for another number of shards.
    ShardMismatch,
    /// The streams or the store belong to another pipeline.
    OwnerMismatch,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 35] = [
        Self::Pending,
        Self::Suspended,
        Self::NoPipeline,
        Self::PipelineSuspended,
        Self::Joined,
        Self::TooFewSlots,
        Self::Joining,
        Self::Unheard,
        Self::Unanswered,
        Self::TwitchSuspended,
        Self::Banned,
        Self::Renamed,
        Self::NotFound,
        Self::LimitReached,
        Self::DuplicateChannel,
        Self::NoCapacity,
        Self::NoTwitchCredentials,
        Self::Counting,
        Self::NoChannels,
        Self::Publishing,
        Self::InvalidPattern,
        Self::InvalidChannelFilter,
        Self::Running,
        Self::Progressing,
        Self::WorkersUnavailable,
        Self::DuplicatePipeline,
        Self::UnknownBus,
        Self::BusUnavailable,
        Self::BusRefused,
        Self::StoreUnavailable,
        Self::StoreRefused,
        Self::SecretMissing,
        Self::SecretInvalid,
        Self::ShardMismatch,
        Self::OwnerMismatch,
    ];

    /// The constant, as in conditions, events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Suspended => "Suspended",
            Self::NoPipeline => "NoPipeline",
            Self::PipelineSuspended => "PipelineSuspended",
            Self::Joined => "Joined",
            Self::TooFewSlots => "TooFewSlots",
            Self::Joining => "Joining",
            Self::Unheard => "Unheard",
            Self::Unanswered => "Unanswered",
            Self::TwitchSuspended => "TwitchSuspended",
            Self::Banned => "Banned",
            Self::Renamed => "Renamed",
            Self::NotFound => "NotFound",
            Self::LimitReached => "LimitReached",
            Self::DuplicateChannel => "DuplicateChannel",
            Self::NoCapacity => "NoCapacity",
            Self::NoTwitchCredentials => "NoTwitchCredentials",
            Self::Counting => "Counting",
            Self::NoChannels => "NoChannels",
            Self::Publishing => "Publishing",
            Self::InvalidPattern => "InvalidPattern",
            Self::InvalidChannelFilter => "InvalidChannelFilter",
            Self::Running => "Running",
            Self::Progressing => "Progressing",
            Self::WorkersUnavailable => "WorkersUnavailable",
            Self::DuplicatePipeline => "DuplicatePipeline",
            Self::UnknownBus => "UnknownBus",
            Self::BusUnavailable => "BusUnavailable",
            Self::BusRefused => "BusRefused",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::StoreRefused => "StoreRefused",
            Self::SecretMissing => "SecretMissing",
            Self::SecretInvalid => "SecretInvalid",
            Self::ShardMismatch => "ShardMismatch",
            Self::OwnerMismatch => "OwnerMismatch",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_reason_is_one_word_that_kubernetes_accepts_and_no_two_are_alike() {
        let names: BTreeSet<_> = Reason::ALL.map(Reason::name).into_iter().collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert!(names.iter().all(|name| name.starts_with(|c: char| c.is_ascii_uppercase())));
    }

    #[test]
    fn the_pending_status_has_its_reason_from_the_list() {
        let status = crate::condition::pending_status();
        assert_eq!(status["conditions"][0]["reason"], Reason::Pending.name());
        assert_eq!(status["conditions"][0]["type"], crate::condition::READY);
    }
}
