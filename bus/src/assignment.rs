//! What the planner tells a slot to read: one key per slot with its whole list.
//!
//! Invariant: a missing key means keep; a channel missing from a list means part. Logins are lower case, without `#`.

use serde::{Deserialize, Serialize};

/// The whole list of one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Grows with each change; a report repeats the one that it follows.
    pub revision: u64,
    /// Sorted by login.
    pub channels: Vec<AssignedChannel>,
}

/// One channel of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedChannel {
    /// Twitch login, `^[a-z0-9_]{1,25}$`.
    pub login: String,
    /// JOIN order: the larger first. The smoothed rate in messages per minute, 0 where unknown.
    #[serde(default)]
    pub weight: u32,
}
