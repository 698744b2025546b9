//! Where each assigned channel stands. Pure: told what happened and when, says what to do.
//!
//! ```text
//! Pending ──JOIN sent──► Joining ──ROOMSTATE──► Joined        (its last connection ends: Pending)
//!                          ├──60 s──► Unanswered              (classified; tried again, ever more rarely)
//!                          └──NOTICE──► TwitchSuspended, Banned, NotFound, LimitReached       (likewise)
//! any ──ROOMSTATE with another room-id──► Renamed
//! ```
//!
//! Invariant: a channel is `Joined` exactly while a connection of ours hears the room that it had when first heard.

use super::rate::Rate;
use clamor_bus::assignment::Assignment;
use clamor_bus::report::{ChannelReport, ChannelState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::join_queue::Urgency;

/// A channel that is classified but not joined is tried again, for logins come into being, bans end, and a JOIN over
/// Twitch's limit gets no answer either: first after the limit for an answer, then after twice as long each time, and at
/// last so often.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// A channel that Twitch took from us is joined again, but not in a tight circle.
const REJOIN_AFTER: Duration = Duration::from_secs(10);

/// All channels of the assignment, by login.
#[derive(Debug)]
pub(super) struct Channels {
    by_login: BTreeMap<String, Channel>,
    /// A JOIN without an answer for so long gets none.
    answer_limit: Duration,
}

#[derive(Debug)]
struct Channel {
    weight: u32,
    state: ChannelState,
    /// The room that was first heard under this login.
    channel_id: Option<u64>,
    /// Connections that hear it; two for a moment when one replaces the other.
    heard_by: Vec<u32>,
    asked_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// Since it was last joined.
    retries: u32,
    /// Counted by the connection that joined last.
    messages: Option<Arc<AtomicU64>>,
    rate: Rate,
}

/// How an assignment differs from what is read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// To join, the biggest first.
    pub(super) added: Vec<String>,
    /// To part.
    pub(super) removed: Vec<String>,
}

/// What a ROOMSTATE after a JOIN means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The channel is heard.
    Joined,
    /// Another room has this login now: part it.
    Renamed,
    /// Nobody wants it (any more).
    Unwanted,
}

impl Channel {
    fn new(weight: u32) -> Self {
        Self {
            weight,
            state: ChannelState::Pending,
            channel_id: None,
            heard_by: Vec::new(),
            asked_at: None,
            retry_at: None,
            retries: 0,
            messages: None,
            rate: Rate::default(),
        }
    }

    /// It is tried again, once more and later than the last time.
    fn retry(&mut self, answer_limit: Duration, now: Instant) {
        let after = answer_limit.saturating_mul(1 << self.retries.min(10)).min(RETRY_AFTER);
        self.retries += 1;
        self.retry_at = Some(now + after);
    }

    fn unheard(&mut self, connection: u32) -> bool {
        let before = self.heard_by.len();
        self.heard_by.retain(|other| *other != connection);
        before > self.heard_by.len() && self.heard_by.is_empty()
    }
}

impl Channels {
    pub(super) fn new(answer_limit: Duration) -> Self {
        Self { by_login: BTreeMap::new(), answer_limit }
    }

    /// Takes over an assignment: forgets what it does not name and knows what it does.
    pub(super) fn follow(&mut self, assignment: &Assignment) -> Difference {
        let wanted: BTreeMap<&str, u32> =
            assignment.channels.iter().map(|channel| (channel.login.as_str(), channel.weight)).collect();
        let removed: Vec<String> =
            self.by_login.keys().filter(|login| !wanted.contains_key(login.as_str())).cloned().collect();
        for login in &removed {
            self.by_login.remove(login);
        }
        let mut added = Vec::new();
        for (login, weight) in wanted {
            match self.by_login.get_mut(login) {
                Some(channel) => channel.weight = weight,
                None => {
                    self.by_login.insert(login.to_owned(), Channel::new(weight));
                    added.push((weight, login.to_owned()));
                }
            }
        }
        added.sort_by(|(left, _), (right, _)| right.cmp(left));
        Difference { added: added.into_iter().map(|(_, login)| login).collect(), removed }
    }

    /// A JOIN has gone out.
    pub(super) fn join_sent(&mut self, login: &str, now: Instant) {
        let Some(channel) = self.by_login.get_mut(login) else {
            return;
        };
        if matches!(channel.state, ChannelState::Pending | ChannelState::Joining) {
            channel.state = ChannelState::Joining;
            channel.asked_at = Some(now);
            channel.retry_at = None;
        }
    }

    /// A connection hears a room under this login.
    pub(super) fn joined(
        &mut self,
        login: &str,
        connection: u32,
        channel_id: u64,
        messages: Arc<AtomicU64>,
        now: Instant,
    ) -> Arrival {
        let Some(channel) = self.by_login.get_mut(login) else {
            return Arrival::Unwanted;
        };
        if *channel.channel_id.get_or_insert(channel_id) != channel_id {
            channel.unheard(connection);
            channel.state = ChannelState::Renamed;
            channel.retry(self.answer_limit, now);
            return Arrival::Renamed;
        }
        if !channel.heard_by.contains(&connection) {
            channel.heard_by.push(connection);
        }
        channel.state = ChannelState::Joined;
        (channel.retry_at, channel.retries) = (None, 0);
        channel.rate.restart(messages.load(Ordering::Relaxed));
        channel.messages = Some(messages);
        Arrival::Joined
    }

    /// Twitch refused the channel, or took it away, with a reason.
    pub(super) fn refused(&mut self, login: &str, connection: u32, reason: ChannelState, now: Instant) {
        let Some(channel) = self.by_login.get_mut(login) else {
            return;
        };
        channel.unheard(connection);
        if channel.heard_by.is_empty() {
            channel.state = reason;
            channel.retry(self.answer_limit, now);
        }
    }

    /// A login that cannot be one.
    pub(super) fn impossible(&mut self, login: &str) {
        if let Some(channel) = self.by_login.get_mut(login) {
            channel.state = ChannelState::NotFound;
        }
    }

    /// A connection no longer hears a channel that we still want: joined again after a while.
    pub(super) fn parted(&mut self, login: &str, connection: u32, now: Instant) {
        let Some(channel) = self.by_login.get_mut(login) else {
            return;
        };
        if channel.unheard(connection) && channel.state == ChannelState::Joined {
            channel.state = ChannelState::Pending;
            channel.retry_at = Some(now + REJOIN_AFTER);
        }
    }

    /// A connection is gone. `asked` are the channels that were to be heard by it: twitch-irc asks for them again.
    pub(super) fn connection_ended<'a>(&mut self, connection: u32, asked: impl Iterator<Item = &'a str>) {
        for channel in self.by_login.values_mut() {
            if channel.unheard(connection) && channel.state == ChannelState::Joined {
                channel.state = ChannelState::Pending;
            }
        }
        for login in asked {
            if let Some(channel) = self.by_login.get_mut(login)
                && channel.state == ChannelState::Joining
            {
                channel.state = ChannelState::Pending;
                channel.asked_at = None;
            }
        }
    }

    /// Classifies what has waited too long: (newly unanswered, to be asked for again).
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<String>, Vec<String>) {
        let (mut unanswered, mut again) = (Vec::new(), Vec::new());
        for (login, channel) in &mut self.by_login {
            let waited = channel.asked_at.is_some_and(|asked| now >= asked + self.answer_limit);
            if channel.state == ChannelState::Joining && waited {
                channel.state = ChannelState::Unanswered;
                channel.retry(self.answer_limit, now);
                unanswered.push(login.clone());
            }
            if channel.retry_at.is_some_and(|retry| now >= retry) {
                channel.retry(self.answer_limit, now);
                again.push(login.clone());
            }
        }
        (unanswered, again)
    }

    /// How urgent a channel's JOIN is.
    pub(super) fn urgency(&self, login: &str) -> Option<Urgency> {
        self.by_login.get(login).map(|channel| Urgency {
            hopeful: !channel.state.is_classified() || channel.state == ChannelState::Joined,
            weight: channel.weight,
        })
    }

    /// All logins.
    pub(super) fn logins(&self) -> impl Iterator<Item = &str> {
        self.by_login.keys().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.by_login.len()
    }

    /// How many channels are in each state, in the order of [`ChannelState::ALL`].
    pub(super) fn counts(&self) -> [usize; ChannelState::ALL.len()] {
        ChannelState::ALL.map(|state| self.by_login.values().filter(|channel| channel.state == state).count())
    }

    /// How many channels wait for Twitch's answer.
    pub(super) fn unclassified(&self) -> usize {
        self.by_login.values().filter(|channel| !channel.state.is_classified()).count()
    }

    /// Brings the message rates up to now.
    pub(super) fn sample_rates(&mut self, now: Instant) {
        for channel in self.by_login.values_mut() {
            if let Some(messages) = &channel.messages {
                channel.rate.sample(messages.load(Ordering::Relaxed), now);
            }
        }
    }

    /// The channels of a report, sorted by login.
    pub(super) fn report(&self) -> Vec<ChannelReport> {
        let report = |(login, channel): (&String, &Channel)| ChannelReport {
            login: login.clone(),
            channel_id: channel.channel_id,
            state: channel.state,
            messages_per_minute: channel.rate.per_minute(),
        };
        self.by_login.iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests;
