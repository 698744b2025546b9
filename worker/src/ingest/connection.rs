//! One connection to Twitch as its reader, its writer, the marks and the hub see it; and the register of those open.

use super::allocation::ClientId;
use super::heard::{DOUBT_MS, HeardClock, PingDue};
use super::metrics::Cause;
use super::{locked, wall_ms};
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Lines that wait to be written: at most one JOIN and one PART for each of 90 channels, and a few PINGs and PONGs.
/// Beyond that the server takes nothing any more.
const WAITING_LINES: usize = 256;

/// A connection that is open.
pub(super) struct Connection {
    /// From 1, never used twice by one instance.
    pub(super) id: u32,
    pub(super) client: ClientId,
    clock: Mutex<HeardClock>,
    lines: mpsc::Sender<String>,
    /// Ends the writer.
    closing: CancellationToken,
    /// Tells the writer that its PING was answered, so that the next one is due in time.
    answered: Notify,
    /// Ends the reader: woken when `closing` is cancelled.
    reader: AtomicWaker,
    /// Who is first says why.
    cause: OnceLock<Cause>,
    /// Channels that Twitch was asked to part us from, and when (ms).
    parting: Mutex<BTreeMap<String, u64>>,
}

impl Connection {
    /// Asks both halves to end.
    pub(super) fn close(&self, cause: Cause) {
        let _ = self.cause.set(cause);
        self.closing.cancel();
        self.reader.wake();
    }

    /// Why it ended, unless somebody else said so first.
    pub(super) fn cause_or(&self, cause: Cause) -> Cause {
        *self.cause.get_or_init(|| cause)
    }

    /// Whether the reader shall end; if not, it is woken when it shall.
    pub(super) fn poll_closing(&self, waker: &Waker) -> bool {
        self.reader.register(waker);
        self.closing.is_cancelled()
    }

    /// Ready when the writer shall end.
    pub(super) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    /// Hands a line (with its `\r\n`) to the writer. False where the connection takes no more: it is closed.
    pub(super) fn send(&self, line: String) -> bool {
        let taken = self.lines.try_send(line).is_ok();
        if !taken {
            self.close(Cause::Stalled);
        }
        taken
    }

    /// A PART is about to be sent.
    pub(super) fn asked_to_part(&self, login: &str, now_ms: u64) {
        let mut parting = locked(&self.parting);
        // Nobody answers the PART of a channel that was not joined. Who is forgotten here is covered a little less.
        if parting.len() >= WAITING_LINES {
            parting.clear();
        }
        parting.insert(login.to_owned(), now_ms);
    }

    /// A channel is joined: an earlier PART is no longer what ends it.
    pub(super) fn joined(&self, login: &str) {
        locked(&self.parting).remove(login);
    }

    /// Until when a channel was heard that is not heard any more. What was said before we asked has come before the
    /// answer. Where Twitch took the channel from us, nobody knows since when: until the last sign of life.
    pub(super) fn heard_channel_until(&self, login: &str, now_ms: u64) -> u64 {
        let asked_ms = locked(&self.parting).remove(login);
        let sure_ms = || self.heard_until(now_ms).unwrap_or(now_ms.saturating_sub(DOUBT_MS));
        asked_ms.unwrap_or_else(sure_ms)
    }

    /// Chat has been handed to the outlet, the newest line of it sent then.
    pub(super) fn heard_lines(&self, newest_ms: u64) {
        locked(&self.clock).lines(newest_ms, wall_ms(), Instant::now());
    }

    /// Whether a PING is due.
    pub(super) fn ping_due(&self) -> PingDue {
        locked(&self.clock).ping_due(wall_ms(), Instant::now())
    }

    /// The answer to a PING of ours; its round trip.
    pub(super) fn ping_answered(&self, token: u64) -> Option<Duration> {
        let round_trip = locked(&self.clock).answered(token, Instant::now())?;
        self.answered.notify_one();
        Some(round_trip)
    }

    /// Ready when a PING of ours was answered.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// Until when everything was surely heard.
    pub(super) fn heard_until(&self, now_ms: u64) -> Option<u64> {
        locked(&self.clock).heard_until(now_ms)
    }
}

/// The open connections of this process.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<BTreeMap<u32, Arc<Connection>>>,
    last_id: AtomicU32,
    emptied: Notify,
}

impl Connections {
    /// Registers a new connection; the lines that it is sent come out of the receiver.
    pub(super) fn open(&self, client: ClientId) -> (Arc<Connection>, mpsc::Receiver<String>) {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let connection = Arc::new(Connection {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            client,
            clock: Mutex::new(HeardClock::new(Instant::now())),
            lines,
            closing: CancellationToken::new(),
            answered: Notify::new(),
            reader: AtomicWaker::new(),
            cause: OnceLock::new(),
            parting: Mutex::default(),
        });
        locked(&self.open).insert(connection.id, Arc::clone(&connection));
        (connection, waiting)
    }

    /// Forgets a connection.
    pub(super) fn ended(&self, connection: u32) {
        let mut open = locked(&self.open);
        open.remove(&connection);
        if open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(super) fn get(&self, connection: u32) -> Option<Arc<Connection>> {
        locked(&self.open).get(&connection).cloned()
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.open).len()
    }

    /// Until when each was surely heard.
    pub(super) fn heard_until(&self, now_ms: u64) -> BTreeMap<u32, u64> {
        let open = locked(&self.open);
        open.values().filter_map(|connection| Some((connection.id, connection.heard_until(now_ms)?))).collect()
    }

    /// Ready when none is open.
    pub(super) async fn all_ended(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ids_are_never_used_twice_and_the_end_of_the_last_is_seen() {
        let connections = Arc::new(Connections::default());
        let (first, _lines) = connections.open(ClientId(1));
        connections.ended(first.id);
        let (second, _lines) = connections.open(ClientId(1));
        assert_eq!((first.id, second.id), (1, 2));
        let ended = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.all_ended().await }
        });
        connections.ended(second.id);
        ended.await.unwrap();
    }

    #[test]
    fn a_channel_is_covered_until_we_asked_to_leave_it_and_a_lost_one_until_the_last_sign_of_life() {
        let (connection, _lines) = Connections::default().open(ClientId(1));
        let now_ms = wall_ms();
        connection.heard_lines(now_ms - 500);
        connection.asked_to_part("a", now_ms - 30);
        assert_eq!(connection.heard_channel_until("a", now_ms), now_ms - 30);
        assert_eq!(connection.heard_channel_until("a", now_ms), now_ms - 500 - DOUBT_MS, "asked for once");
        connection.asked_to_part("a", now_ms - 20);
        connection.joined("a");
        assert_eq!(connection.heard_channel_until("a", now_ms), now_ms - 500 - DOUBT_MS, "joined since");
        (0..10 * WAITING_LINES).for_each(|number| connection.asked_to_part(&number.to_string(), now_ms));
        assert!(locked(&connection.parting).len() <= WAITING_LINES);
    }

    #[test]
    fn a_connection_that_takes_nothing_any_more_is_closed() {
        let (connection, _never_read) = Connections::default().open(ClientId(1));
        assert!((0..WAITING_LINES).all(|_| connection.send("PING\r\n".to_owned())));
        assert!(!connection.send("PING\r\n".to_owned()));
        assert_eq!(connection.cause_or(Cause::Released), Cause::Stalled);
    }
}
