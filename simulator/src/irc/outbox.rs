//! The queue of one connection: whoever speaks pushes and never waits; one writer takes all there is.
//!
//! It is bounded in bytes. A reader that falls further behind is cut off, as Twitch does; who would rather wait for it
//! asks [`Outbox::room`] first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client went.
    Left,
    /// It read too slowly.
    Slow,
    /// It was cut off, as if it had read too slowly.
    Cut,
    /// It did not answer a PING.
    Silent,
    /// It was told to RECONNECT.
    Reconnected,
    /// Its login was refused.
    Refused,
    /// The socket failed.
    Failed,
    /// The simulator stops.
    Stopped,
}

impl End {
    /// Whether the client still gets what is queued.
    pub(crate) fn flushes(self) -> bool {
        match self {
            Self::Reconnected | Self::Refused | Self::Left => true,
            Self::Slow | Self::Cut | Self::Silent | Self::Failed | Self::Stopped => false,
        }
    }
}

#[derive(Default)]
struct State {
    queue: Vec<Bytes>,
    /// Of the queue and of what the writer has taken and not yet written.
    bytes: usize,
    end: Option<End>,
    /// Half open: nothing is read from it and nothing written, and nobody tells it.
    frozen: bool,
}

pub(crate) struct Outbox {
    limit_bytes: usize,
    state: Mutex<State>,
    filled: Notify,
    /// Grows whenever something was written or the connection ended.
    written: watch::Sender<u64>,
}

impl Outbox {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::new(State::default()), filled: Notify::new(), written: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line; a reader that is too far behind is cut off instead. False: nobody will read it.
    pub(crate) fn push(&self, line: Bytes) -> bool {
        let mut state = self.lock();
        if state.end.is_some() || state.frozen {
            return false;
        }
        if state.bytes + line.len() > self.limit_bytes {
            drop(state);
            self.close(End::Slow);
            return false;
        }
        state.bytes += line.len();
        state.queue.push(line);
        // The writer waits only for an empty queue.
        if state.queue.len() == 1 {
            drop(state);
            self.filled.notify_one();
        }
        true
    }

    /// Leaves the connection half open, or ends that.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.lock().frozen = frozen;
        self.filled.notify_one();
        self.written.send_modify(|times| *times += 1);
    }

    /// Waits until the connection is half open (or, at false, is not).
    pub(crate) async fn frozen(&self, wanted: bool) {
        self.until(|state| state.frozen == wanted).await;
    }

    pub(crate) fn push_text(&self, line: &str) {
        let _taken = self.push(Bytes::from(format!("{line}\r\n")));
    }

    /// Ends the connection. The first reason stands.
    pub(crate) fn close(&self, end: End) {
        let mut state = self.lock();
        let end = *state.end.get_or_insert(end);
        if !end.flushes() {
            state.queue = Vec::new();
            state.bytes = 0;
        }
        drop(state);
        self.filled.notify_one();
        self.written.send_modify(|times| *times += 1);
    }

    /// All that is queued, in exchange for the emptied `batch`; or why the connection is over, once nothing is queued.
    pub(crate) async fn take(&self, batch: &mut Vec<Bytes>) -> Option<End> {
        batch.clear();
        loop {
            {
                let mut state = self.lock();
                if !state.queue.is_empty() && !state.frozen {
                    std::mem::swap(&mut state.queue, batch);
                    return None;
                }
                if state.end.is_some() && !state.frozen {
                    return state.end;
                }
            }
            self.filled.notified().await;
        }
    }

    /// So many bytes have reached the socket.
    pub(crate) fn wrote(&self, bytes: usize) {
        {
            let mut state = self.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        self.written.send_modify(|times| *times += 1);
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until at most `bytes` are queued, or the connection is over.
    pub(crate) async fn room(&self, bytes: usize) {
        self.until(|state| state.end.is_some() || state.frozen || state.bytes <= bytes).await;
    }

    /// Waits until it was decided that the connection ends.
    pub(crate) async fn closed(&self) -> End {
        self.until(|state| state.end.is_some()).await;
        self.lock().end.unwrap_or(End::Stopped)
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut written = self.written.subscribe();
        loop {
            written.borrow_and_update();
            if condition(&self.lock()) || written.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_queued_is_taken_in_order() {
        let outbox = Outbox::new(100);
        outbox.push_text("a");
        outbox.push_text("b");
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch).await, None);
        assert_eq!(batch, [Bytes::from_static(b"a\r\n"), Bytes::from_static(b"b\r\n")]);
        assert_eq!(outbox.queued_bytes(), 6);
        outbox.wrote(6);
        outbox.room(0).await;
    }

    #[tokio::test]
    async fn a_reader_over_the_limit_is_cut_off() {
        let outbox = Outbox::new(10);
        outbox.push(Bytes::from_static(b"12345678\r\n"));
        outbox.push(Bytes::from_static(b"x"));
        assert_eq!(outbox.closed().await, End::Slow);
        assert_eq!(outbox.take(&mut Vec::new()).await, Some(End::Slow));
    }

    #[tokio::test]
    async fn a_half_open_connection_is_written_nothing_until_it_thaws() {
        let outbox = Outbox::new(100);
        outbox.push_text("a");
        outbox.freeze(true);
        assert!(!outbox.push(Bytes::from_static(b"b")));
        outbox.frozen(true).await;
        // Who waits for its reader does not wait for this one.
        outbox.room(0).await;
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = outbox.take(&mut batch) => panic!("taken from a half-open connection"),
            () = std::future::ready(()) => {}
        }
        outbox.freeze(false);
        assert_eq!(outbox.take(&mut batch).await, None);
        assert_eq!(batch, [Bytes::from_static(b"a\r\n")]);
    }

    #[tokio::test]
    async fn a_connection_told_to_reconnect_gets_what_is_queued() {
        let outbox = Outbox::new(10);
        outbox.push_text("a");
        outbox.close(End::Reconnected);
        outbox.push_text("late");
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch).await, None);
        assert_eq!(batch.len(), 1);
        assert_eq!(outbox.take(&mut batch).await, Some(End::Reconnected));
    }
}
