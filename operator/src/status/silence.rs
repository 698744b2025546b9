//! For how long nobody has heard a channel.
//!
//! Invariant: only silence that could be noticed counts. It begins anew whenever the bus tells again who is heard: after an
//! outage workers have the usual time to report themselves, and after the operator's start.

use super::Heard;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When each channel was last heard, and since when that can be told.
#[derive(Debug, Default)]
pub struct Silence {
    heard: BTreeMap<String, Instant>,
    listening: Option<Instant>,
}

impl Silence {
    /// Notes who is heard; none: the bus does not tell.
    pub fn note(&mut self, heard: Option<&Heard<'_>>, at: Instant) {
        self.listening = heard.and(self.listening.or(Some(at)));
        for login in heard.into_iter().flat_map(Heard::joined) {
            match self.heard.get_mut(login) {
                Some(last) => *last = at,
                None => drop(self.heard.insert(login.to_owned(), at)),
            }
        }
    }

    /// For how long this login has not been heard.
    #[must_use]
    pub fn of(&self, login: &str, at: Instant) -> Duration {
        let since = self.heard.get(login).copied().max(self.listening);
        since.map_or(Duration::ZERO, |since| at.saturating_duration_since(since))
    }

    /// Forgets the logins that are not to be heard.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.heard.retain(|login, _| is_wanted(login));
    }
}
