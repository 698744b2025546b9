//! What the manifests ask for, free of files and of Kubernetes: the planner's input.
//!
//! Invariant: logins are lower case and unique; phrases are sorted by name and compile.

use clamor_bus::set::PhraseSet;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// By login.
    pub channels: BTreeMap<String, DesiredChannel>,
    /// More channels may be asked for than these: what is read and not among them goes on.
    pub is_partial: bool,
    /// Of all phrases that are not suspended.
    pub phrases: PhraseSet,
    /// Names of phrases of which nothing is known: they go on as they are.
    pub kept_phrases: BTreeSet<String>,
}

/// One TrackedChannel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredChannel {
    /// The name of the TrackedChannel.
    pub name: String,
    /// Its labels, for `channelSelector`.
    pub labels: BTreeMap<String, String>,
    /// How many slots hear it at once, at least 1.
    pub redundancy: usize,
    /// Slots that read this channel and no other; empty: it shares those of the pipeline.
    pub own_slots: BTreeSet<String>,
    /// Its owner does not want it read now.
    pub suspended: bool,
}

impl Desired {
    /// The channels to read now, by login.
    pub fn active(&self) -> impl Iterator<Item = (&String, &DesiredChannel)> {
        self.channels.iter().filter(|(_, channel)| !channel.suspended)
    }

    /// Whether this login is to be read now.
    #[must_use]
    pub fn is_active(&self, login: &str) -> bool {
        self.channels.get(login).is_some_and(|channel| !channel.suspended)
    }

    /// Whether this login may be taken from whoever reads it.
    #[must_use]
    pub fn is_unwanted(&self, login: &str) -> bool {
        self.channels.get(login).map_or(!self.is_partial, |channel| channel.suspended)
    }
}
