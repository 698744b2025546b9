//! What goes wrong on purpose: settings that hold until they are changed, and the dice that they are decided with.
//!
//! The dice are the seed's but not the speaker's: with and without faults the same things are said. The ledger has what
//! was said, whatever of it was kept from whom; what was kept back is counted beside it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::town::Spoken;

/// Twitch counts JOINs over so long.
const JOIN_WINDOW: Duration = Duration::from_secs(10);
/// Recorded lines are out of order by as much.
const LATE_BY: Duration = Duration::from_millis(18);
/// Longer than any line of Twitch's.
const OVER_LONG_BYTES: usize = 20_000;

/// Faults of all channels and connections, as `GET /faults` gives them. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// JOINs in 10 s, of all connections together, as Twitch counts by address; more are ignored. 0: no limit.
    pub join_limit: usize,
    /// Connections at a time; one too many is closed without a word. 0: no limit.
    pub connection_limit: usize,
    /// The probability that a connection gets a line twice.
    pub duplicate: f64,
    /// The probability that a line is said some 18 ms late, after others that were written later.
    pub reorder: f64,
    /// The probability that a line is followed by one that nobody can read: malformed, not UTF-8 or over-long.
    pub garbage: f64,
    /// `tmi-sent-ts` is so many ms ahead, or, below 0, behind. The ledger has it so, too.
    pub skew_ms: i64,
    /// The share of the utterances whose time is wrong.
    pub skewed: f64,
    /// Every so many ms all connections are told to RECONNECT. 0: never.
    pub reconnect_every_ms: u64,
    /// Connections are opened half: nothing is read from them and nothing written.
    pub freeze_new: bool,
}

/// A fault that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A probability that is none.
    #[error("{0} must be from 0 to 1")]
    Probability(&'static str),
    /// No such fault, or none of its kind.
    #[error("{0}")]
    Unknown(#[from] serde_json::Error),
    /// Nobody has this login.
    #[error("there is no channel {0}")]
    NoChannel(String),
    /// Somebody has this login, or nobody can.
    #[error("no channel can be renamed to {0}: it is taken, or no login")]
    Login(String),
}

impl Faults {
    /// These, but for what `changes` (a JSON object) names.
    ///
    /// # Errors
    /// It names something else, or a value that cannot be.
    pub fn with(self, changes: &serde_json::Value) -> Result<Self, FaultError> {
        let mut all = serde_json::to_value(self)?;
        match (all.as_object_mut(), changes.as_object()) {
            (Some(all), Some(changes)) => all.extend(changes.clone()),
            _ => all = changes.clone(),
        }
        let faults: Self = serde_json::from_value(all)?;
        faults.check().map(|()| faults)
    }

    /// # Errors
    /// A probability that is none.
    pub fn check(&self) -> Result<(), FaultError> {
        let Self { duplicate, reorder, garbage, skewed, .. } = *self;
        let probabilities = [("duplicate", duplicate), ("reorder", reorder), ("garbage", garbage), ("skewed", skewed)];
        match probabilities.iter().find(|(_, probability)| !(0.0..=1.0).contains(probability)) {
            Some((name, _)) => Err(FaultError::Probability(name)),
            None => Ok(()),
        }
    }
}

/// Lines that nobody can read, by why not; each counted for each connection that got it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageCounts {
    /// Without a command.
    pub malformed: u64,
    /// Bytes that are no UTF-8.
    pub not_utf8: u64,
    /// Longer than any line.
    pub over_long: u64,
}

/// The settings with the dice, and what they hold back.
pub(crate) struct Disturbance {
    pub(crate) faults: Faults,
    pub(crate) garbage: GarbageCounts,
    rng: StdRng,
    joins: VecDeque<Instant>,
    late: VecDeque<(Instant, Spoken)>,
}

impl Disturbance {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        // Another stream of numbers than the speaker's.
        let rng = StdRng::seed_from_u64(!seed);
        Self { faults, garbage: GarbageCounts::default(), rng, joins: VecDeque::new(), late: VecDeque::new() }
    }

    /// Whether one more JOIN is heard now.
    pub(crate) fn hears_join(&mut self, now: Instant) -> bool {
        while self.joins.front().is_some_and(|joined| now >= *joined + JOIN_WINDOW) {
            self.joins.pop_front();
        }
        let limit = self.faults.join_limit;
        let hears = limit == 0 || self.joins.len() < limit;
        if hears && limit > 0 {
            self.joins.push_back(now);
        }
        hears
    }

    /// What is said now of this: it may be held back.
    pub(crate) fn hold_back(&mut self, spoken: Spoken, now: Instant) -> Option<Spoken> {
        if !roll(&mut self.rng, self.faults.reorder) {
            return Some(spoken);
        }
        self.late.push_back((now + LATE_BY, spoken));
        None
    }

    /// What was held back for long enough.
    pub(crate) fn take_late(&mut self, now: Instant) -> Vec<Spoken> {
        let due = self.late.iter().take_while(|(due, _)| now >= *due).count();
        self.late.drain(..due).map(|(_, spoken)| spoken).collect()
    }

    /// When the next that is held back is due.
    pub(crate) fn next_late(&self) -> Option<Instant> {
        self.late.front().map(|(due, _)| *due)
    }

    /// All that is held back, due or not.
    pub(crate) fn take_all_late(&mut self) -> Vec<Spoken> {
        self.late.drain(..).map(|(_, spoken)| spoken).collect()
    }

    pub(crate) fn duplicates(&mut self) -> bool {
        roll(&mut self.rng, self.faults.duplicate)
    }

    /// A line that nobody can read, counted, if one is due.
    pub(crate) fn garbage(&mut self) -> Option<Bytes> {
        if !roll(&mut self.rng, self.faults.garbage) {
            return None;
        }
        let (counter, line) = match self.rng.random_range(0..3) {
            0 => (&mut self.garbage.malformed, Bytes::from_static(b"@id=1;room-id=2;tmi-sent-ts=3\r\n")),
            1 => (&mut self.garbage.not_utf8, Bytes::from_static(b"@id=1 :a!a@a PRIVMSG #a :\xf0\x28\x8c\xff\r\n")),
            _ => {
                let mut line = b":a!a@a PRIVMSG #a :".to_vec();
                line.resize(OVER_LONG_BYTES, b'a');
                line.extend_from_slice(b"\r\n");
                (&mut self.garbage.over_long, Bytes::from(line))
            }
        };
        *counter += 1;
        Some(line)
    }

    /// How wrong the time of the next utterance is.
    pub(crate) fn skew_ms(&mut self) -> i64 {
        if roll(&mut self.rng, self.faults.skewed) { self.faults.skew_ms } else { 0 }
    }
}

fn roll(rng: &mut StdRng, probability: f64) -> bool {
    probability > 0.0 && rng.random_bool(probability)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_leave_the_rest_as_it_is() {
        let faults = Faults::default().with(&json!({ "join_limit": 20, "garbage": 0.5 })).unwrap();
        let faults = faults.with(&json!({ "garbage": 0 })).unwrap();
        assert_eq!(faults, Faults { join_limit: 20, ..Faults::default() });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for changes in [json!({ "garbage": 1.5 }), json!({ "skewed": -0.1 }), json!({ "nonsense": 1 }), json!(7)] {
            assert!(Faults::default().with(&changes).is_err(), "{changes}");
        }
    }

    #[test]
    fn joins_over_the_limit_are_not_heard_until_the_window_has_moved_on() {
        let mut disturbance = Disturbance::new(Faults { join_limit: 2, ..Faults::default() }, 1);
        let start = Instant::now();
        let heard: Vec<bool> = [0, 1, 2, 9, 10, 10, 11]
            .into_iter()
            .map(|second| disturbance.hears_join(start + Duration::from_secs(second)))
            .collect();
        assert_eq!(heard, [true, true, false, false, true, false, true]);
    }

    #[test]
    fn garbage_is_of_every_kind_and_counted() {
        let mut disturbance = Disturbance::new(Faults { garbage: 1.0, ..Faults::default() }, 1);
        assert!((0..60).all(|_| disturbance.garbage().is_some()));
        let GarbageCounts { malformed, not_utf8, over_long } = disturbance.garbage;
        assert_eq!(malformed + not_utf8 + over_long, 60);
        assert!(malformed > 0 && not_utf8 > 0 && over_long > 0);
        disturbance.faults.garbage = 0.0;
        assert!(disturbance.garbage().is_none());
    }
}
