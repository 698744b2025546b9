//! JOINs wait here, beside the connections' sinks: a JOIN that waits must hold up neither PONG nor PART.
//!
//! One queue to a process, as Twitch counts by account. The biggest channels go first; channels that are only tried
//! again go last. Twitch counts in a window that slides, so the first JOINs of an idle process leave at once.

use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Twitch's window, and a little for the way.
const WINDOW: Duration = Duration::from_millis(10_200);

/// How urgent a channel's JOIN is; the larger first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Urgency {
    /// False for channels that have not answered or were refused.
    pub(super) hopeful: bool,
    /// The assignment's weight.
    pub(super) weight: u32,
}

/// Channels that wait for their JOIN, each on the connection that shall hear it.
#[derive(Debug)]
pub(super) struct JoinQueue {
    /// JOINs in a window; 0: as many as there are.
    rate: usize,
    /// When the last `rate` JOINs were sent.
    sent: VecDeque<Instant>,
    urgencies: FxHashMap<String, Urgency>,
    /// In the order of sending. Only of connections that are logged in.
    ready: BTreeSet<(Reverse<Urgency>, String, u32)>,
    connections: FxHashMap<u32, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    logged_in: bool,
    /// With the urgency under which it is in `ready`.
    joins: FxHashMap<String, Urgency>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this JOIN on this connection, now.
    Send(u32, String),
    /// The limit is reached until then.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

impl JoinQueue {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate: rate as usize,
            sent: VecDeque::new(),
            urgencies: FxHashMap::default(),
            ready: BTreeSet::new(),
            connections: FxHashMap::default(),
        }
    }

    /// How urgent a login's JOINs are from now on; `None` forgets it.
    pub(super) fn set_urgency(&mut self, login: &str, urgency: Option<Urgency>) {
        match urgency {
            Some(urgency) => self.urgencies.insert(login.to_owned(), urgency),
            None => self.urgencies.remove(login),
        };
    }

    /// A connection exists; its JOINs wait until it is logged in.
    pub(super) fn open(&mut self, connection: u32) {
        self.connections.entry(connection).or_default();
    }

    /// A connection is logged in: its JOINs may go.
    pub(super) fn logged_in(&mut self, connection: u32) {
        let Some(waiting) = self.connections.get_mut(&connection) else {
            return;
        };
        if !std::mem::replace(&mut waiting.logged_in, true) {
            self.ready
                .extend(waiting.joins.iter().map(|(login, urgency)| (Reverse(*urgency), login.clone(), connection)));
        }
    }

    /// A connection is gone, and its JOINs with it.
    pub(super) fn close(&mut self, connection: u32) {
        for (login, urgency) in self.connections.remove(&connection).unwrap_or_default().joins {
            self.ready.remove(&(Reverse(urgency), login, connection));
        }
    }

    /// Queues a JOIN. Once is enough: a second one changes nothing.
    pub(super) fn push(&mut self, connection: u32, login: &str) {
        let urgency = self.urgencies.get(login).copied().unwrap_or_default();
        let Some(waiting) = self.connections.get_mut(&connection) else {
            return;
        };
        if waiting.joins.contains_key(login) {
            return;
        }
        waiting.joins.insert(login.to_owned(), urgency);
        if waiting.logged_in {
            self.ready.insert((Reverse(urgency), login.to_owned(), connection));
        }
    }

    /// A PART takes back the JOIN that waits; false where none does, so the PART must be sent.
    pub(super) fn cancel(&mut self, connection: u32, login: &str) -> bool {
        let Some(urgency) = self.connections.get_mut(&connection).and_then(|waiting| waiting.joins.remove(login))
        else {
            return false;
        };
        self.ready.remove(&(Reverse(urgency), login.to_owned(), connection));
        true
    }

    /// The JOIN that may be sent now; it counts as sent.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.ready.is_empty() {
            return Next::Nothing;
        }
        if self.rate > 0 {
            while self.sent.front().is_some_and(|sent| now >= *sent + WINDOW) {
                self.sent.pop_front();
            }
            if let Some(oldest) = self.sent.front().filter(|_| self.sent.len() >= self.rate) {
                return Next::At(*oldest + WINDOW);
            }
            self.sent.push_back(now);
        }
        let Some((_, login, connection)) = self.ready.pop_first() else {
            return Next::Nothing;
        };
        if let Some(waiting) = self.connections.get_mut(&connection) {
            waiting.joins.remove(&login);
        }
        Next::Send(connection, login)
    }

    /// How many JOINs wait.
    pub(super) fn len(&self) -> usize {
        self.connections.values().map(|waiting| waiting.joins.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(rate: u32, connections: &[u32]) -> JoinQueue {
        let mut queue = JoinQueue::new(rate);
        for (login, weight) in [("small", 1), ("big", 900), ("middle", 50)] {
            queue.set_urgency(login, Some(Urgency { hopeful: true, weight }));
        }
        for connection in connections {
            queue.open(*connection);
            queue.logged_in(*connection);
        }
        queue
    }

    fn drain(queue: &mut JoinQueue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| match queue.next(now) {
            Next::Send(_, login) => Some(login),
            Next::At(_) | Next::Nothing => None,
        })
        .collect()
    }

    #[test]
    fn the_biggest_channels_join_first_whatever_their_connection() {
        let mut queue = queue(0, &[1, 2]);
        queue.push(1, "small");
        queue.push(2, "middle");
        queue.push(1, "big");
        queue.push(1, "unknown");
        assert_eq!(drain(&mut queue, Instant::now()), ["big", "middle", "small", "unknown"]);
    }

    #[test]
    fn channels_tried_again_join_last() {
        let mut queue = queue(0, &[1]);
        queue.set_urgency("big", Some(Urgency { hopeful: false, weight: 900 }));
        queue.push(1, "big");
        queue.push(1, "small");
        assert_eq!(drain(&mut queue, Instant::now()), ["small", "big"]);
    }

    #[test]
    fn joins_wait_until_their_connection_is_logged_in() {
        let mut queue = queue(0, &[]);
        queue.open(1);
        queue.push(1, "small");
        assert_eq!(queue.next(Instant::now()), Next::Nothing);
        queue.logged_in(1);
        assert_eq!(queue.next(Instant::now()), Next::Send(1, "small".to_owned()));
    }

    #[test]
    fn a_part_takes_back_a_join_that_waits_and_no_other() {
        let mut queue = queue(0, &[1, 2]);
        queue.push(1, "small");
        queue.push(2, "small");
        assert!(queue.cancel(1, "small"));
        assert!(!queue.cancel(1, "small"));
        assert!(!queue.cancel(3, "small"));
        assert_eq!(queue.next(Instant::now()), Next::Send(2, "small".to_owned()));
        assert_eq!(queue.next(Instant::now()), Next::Nothing);
    }

    #[test]
    fn a_dropped_connection_drops_its_joins() {
        let mut queue = queue(0, &[1, 2]);
        queue.push(1, "small");
        queue.push(2, "big");
        queue.close(2);
        queue.push(2, "middle");
        assert_eq!(drain(&mut queue, Instant::now()), ["small"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn no_window_of_ten_seconds_sees_more_joins_than_the_rate() {
        let mut queue = queue(20, &[1]);
        for number in 0..50 {
            queue.push(1, &format!("channel_{number}"));
        }
        let start = Instant::now();
        assert_eq!(drain(&mut queue, start).len(), 20);
        assert_eq!(queue.next(start), Next::At(start + WINDOW));
        assert_eq!(drain(&mut queue, start + Duration::from_secs(10)).len(), 0);
        assert_eq!(drain(&mut queue, start + WINDOW).len(), 20);
        assert_eq!(drain(&mut queue, start + WINDOW * 2).len(), 10);
    }

    #[test]
    fn a_join_queued_twice_is_sent_once() {
        let mut queue = queue(0, &[1]);
        queue.push(1, "small");
        queue.set_urgency("small", Some(Urgency { hopeful: true, weight: 7 }));
        queue.push(1, "small");
        assert_eq!(drain(&mut queue, Instant::now()), ["small"]);
    }
}
