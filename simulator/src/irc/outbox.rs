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
            Self::Slow | Self::Silent | Self::Failed | Self::Stopped => false,
        }
    }
}

#[derive(Default)]
struct State {
    queue: Vec<Bytes>,
    /// Of the queue and of what the writer has taken and not yet written.
    bytes: usize,
    end: Option<End>,
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

    /// Queues a line; a reader that is too far behind is cut off instead.
    pub(crate) fn push(&self, line: Bytes) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        if state.bytes + line.len() > self.limit_bytes {
            drop(state);
            self.close(End::Slow);
            return;
        }
        state.bytes += line.len();
        state.queue.push(line);
        // The writer waits only for an empty queue.
        if state.queue.len() == 1 {
            drop(state);
            self.filled.notify_one();
        }
    }

    pub(crate) fn push_text(&self, line: &str) {
        self.push(Bytes::from(format!("{line}\r\n")));
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
                if !state.queue.is_empty() {
                    std::mem::swap(&mut state.queue, batch);
                    return None;
                }
                if state.end.is_some() {
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
        let mut written = self.written.subscribe();
        loop {
            written.borrow_and_update();
            {
                let state = self.lock();
                if state.end.is_some() || state.bytes <= bytes {
                    return;
                }
            }
            if written.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until it was decided that the connection ends.
    pub(crate) async fn closed(&self) -> End {
        let mut written = self.written.subscribe();
        loop {
            written.borrow_and_update();
            if let Some(end) = self.lock().end {
                return end;
            }
            if written.changed().await.is_err() {
                return End::Stopped;
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
