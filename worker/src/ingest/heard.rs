//! Until when a connection was surely heard, in Twitch time.
//!
//! Two things prove it: a line that Twitch sent at that time, and a PING sent at that time that was answered, for the
//! answer comes after all that Twitch had to say before. Lines are out of order by up to 18 ms and Twitch's servers
//! among each other by more; hence the doubt.

use std::time::{Duration, Instant};

/// What is said to be heard lies so far behind the newest proof.
pub(super) const DOUBT_MS: u64 = 2000;

/// After so long without a line, a PING asks for a proof. Proof, doubt, mark period and commit add up to what a reader
/// sees as lag: with 1 s here that is below the 5 s after which silence counts as a gap.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// A PING without an answer for so long: the connection is dead. twitch-irc itself needs up to 35 s to see it.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// The proofs of one connection.
#[derive(Debug)]
pub(super) struct HeardClock {
    newest_line_ms: u64,
    answered_ping_ms: u64,
    /// How old the newest proof is, or when one was last asked for.
    quiet_since: Instant,
    /// When the last lines came, whatever their time.
    lines_at: Instant,
    outstanding: Option<Ping>,
    next_token: u64,
}

#[derive(Debug)]
struct Ping {
    token: u64,
    sent_at_ms: u64,
    sent_at: Instant,
}

/// What the clock wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PingDue {
    /// Nothing until then.
    At(Instant),
    /// Send a PING with this token, now.
    Now(u64),
    /// The last one was not answered in time: the connection is dead.
    TimedOut,
}

impl HeardClock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            newest_line_ms: 0,
            answered_ping_ms: 0,
            quiet_since: now,
            lines_at: now,
            outstanding: None,
            next_token: 1,
        }
    }

    /// Lines have been handed on, the newest of them sent then. What is said to come from the future proves no more than
    /// that it is here; and what comes late leaves the time since then without a proof, as silence does.
    pub(super) fn lines(&mut self, newest_ms: u64, now_ms: u64, now: Instant) {
        let newest_ms = newest_ms.min(now_ms);
        self.newest_line_ms = self.newest_line_ms.max(newest_ms);
        self.lines_at = now;
        let proof = now.checked_sub(Duration::from_millis(now_ms - newest_ms));
        self.quiet_since = proof.map_or(self.quiet_since, |proof| proof.max(self.quiet_since));
    }

    /// Whether to send a PING. One is outstanding at a time; its answer may be late while lines come, for they come first.
    pub(super) fn ping_due(&mut self, now_ms: u64, now: Instant) -> PingDue {
        if let Some(ping) = &self.outstanding {
            let limit = ping.sent_at.max(self.lines_at) + PING_LIMIT;
            return if now >= limit { PingDue::TimedOut } else { PingDue::At(limit) };
        }
        let due = self.quiet_since + SILENCE;
        if now < due {
            return PingDue::At(due);
        }
        let token = self.next_token;
        self.next_token += 1;
        self.quiet_since = now;
        self.outstanding = Some(Ping { token, sent_at_ms: now_ms, sent_at: now });
        PingDue::Now(token)
    }

    /// The answer to a PING of ours; its round trip, unless nobody waits for this token.
    pub(super) fn answered(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let ping = self.outstanding.take_if(|ping| ping.token == token)?;
        self.answered_ping_ms = self.answered_ping_ms.max(ping.sent_at_ms);
        Some(now.saturating_duration_since(ping.sent_at))
    }

    /// Until when everything was surely heard; `None` before the first proof.
    pub(super) fn heard_until(&self, now_ms: u64) -> Option<u64> {
        let proof = self.newest_line_ms.max(self.answered_ping_ms).min(now_ms);
        (proof > 0).then(|| proof.saturating_sub(DOUBT_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn without_a_proof_nothing_was_heard() {
        assert_eq!(HeardClock::new(Instant::now()).heard_until(NOW_MS), None);
    }

    #[test]
    fn a_line_proves_its_time_less_the_doubt_and_never_the_future() {
        let now = Instant::now();
        let mut clock = HeardClock::new(now);
        clock.lines(NOW_MS - 50, NOW_MS, now);
        clock.lines(NOW_MS - 68, NOW_MS, now);
        assert_eq!(clock.heard_until(NOW_MS), Some(NOW_MS - 50 - DOUBT_MS));
        clock.lines(NOW_MS + 60_000, NOW_MS, now);
        assert_eq!(clock.heard_until(NOW_MS), Some(NOW_MS - DOUBT_MS));
        assert_eq!(clock.heard_until(NOW_MS + 30_000), Some(NOW_MS - DOUBT_MS), "nothing came since");
    }

    #[test]
    fn silence_asks_and_the_answer_proves_the_time_of_asking() {
        let start = Instant::now();
        let mut clock = HeardClock::new(start);
        assert_eq!(clock.ping_due(NOW_MS, start), PingDue::At(start + SILENCE));
        assert_eq!(clock.ping_due(NOW_MS, start + SILENCE), PingDue::Now(1));
        assert_eq!(clock.heard_until(NOW_MS), None, "asked is not answered");
        assert_eq!(clock.answered(7, start), None, "nobody sent this token");
        assert_eq!(clock.answered(1, start + SILENCE + ms(30)), Some(ms(30)));
        assert_eq!(clock.heard_until(NOW_MS + 30), Some(NOW_MS - DOUBT_MS));
        assert_eq!(clock.ping_due(NOW_MS, start + SILENCE + ms(31)), PingDue::At(start + SILENCE * 2));
    }

    #[test]
    fn lines_make_pings_needless() {
        let start = Instant::now();
        let mut clock = HeardClock::new(start);
        clock.lines(NOW_MS, NOW_MS, start + ms(900));
        assert_eq!(clock.ping_due(NOW_MS, start + SILENCE), PingDue::At(start + ms(900) + SILENCE));
    }

    #[test]
    fn lines_of_hours_ago_do_not() {
        let start = Instant::now();
        let mut clock = HeardClock::new(start);
        clock.lines(NOW_MS - 3_600_000, NOW_MS, start + ms(900));
        assert_eq!(clock.ping_due(NOW_MS + 100, start + SILENCE), PingDue::Now(1));
        assert!(clock.answered(1, start + SILENCE).is_some());
        assert_eq!(clock.heard_until(NOW_MS + 200), Some(NOW_MS + 100 - DOUBT_MS));
    }

    #[test]
    fn an_answer_may_be_late_while_lines_come() {
        let start = Instant::now();
        let mut clock = HeardClock::new(start);
        assert_eq!(clock.ping_due(NOW_MS, start + SILENCE), PingDue::Now(1));
        let later = start + PING_LIMIT;
        clock.lines(NOW_MS, NOW_MS + 10_000, later);
        assert_eq!(clock.ping_due(NOW_MS, start + SILENCE + PING_LIMIT), PingDue::At(later + PING_LIMIT));
        assert_eq!(clock.ping_due(NOW_MS, later + PING_LIMIT), PingDue::TimedOut);
    }

    #[test]
    fn an_unanswered_ping_ends_the_connection() {
        let start = Instant::now();
        let mut clock = HeardClock::new(start);
        let sent = start + SILENCE;
        assert_eq!(clock.ping_due(NOW_MS, sent), PingDue::Now(1));
        assert_eq!(clock.ping_due(NOW_MS, sent + ms(5000)), PingDue::At(sent + PING_LIMIT));
        assert_eq!(clock.ping_due(NOW_MS, sent + PING_LIMIT), PingDue::TimedOut);
    }
}
