//! Sends the JOINs that the queue lets go.

use super::connection::Connections;
use super::join_queue::{JoinQueue, Next, Urgency};
use super::locked;
use super::metrics::IngestMetrics;
use super::news::{News, What};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// The queue, shared by the connections that fill it and the task that empties it.
pub(super) struct Joins {
    queue: Mutex<JoinQueue>,
    wake: Notify,
}

impl Joins {
    pub(super) fn new(rate: u32) -> Self {
        Self { queue: Mutex::new(JoinQueue::new(rate)), wake: Notify::new() }
    }

    /// See [`JoinQueue::set_urgency`].
    pub(super) fn set_urgency(&self, login: &str, urgency: Option<Urgency>) {
        locked(&self.queue).set_urgency(login, urgency);
    }

    /// See [`JoinQueue::open`].
    pub(super) fn open(&self, connection: u32) {
        locked(&self.queue).open(connection);
    }

    /// See [`JoinQueue::logged_in`].
    pub(super) fn logged_in(&self, connection: u32) {
        locked(&self.queue).logged_in(connection);
        self.wake.notify_one();
    }

    /// See [`JoinQueue::close`].
    pub(super) fn close(&self, connection: u32) {
        locked(&self.queue).close(connection);
    }

    /// See [`JoinQueue::push`].
    pub(super) fn push(&self, connection: u32, login: &str) {
        locked(&self.queue).push(connection, login);
        self.wake.notify_one();
    }

    /// See [`JoinQueue::cancel`].
    pub(super) fn cancel(&self, connection: u32, login: &str) -> bool {
        locked(&self.queue).cancel(connection, login)
    }

    /// How many JOINs wait.
    pub(super) fn len(&self) -> usize {
        locked(&self.queue).len()
    }

    /// Sends JOINs when their time has come. Never ends by itself.
    pub(super) async fn run(
        self: Arc<Self>,
        connections: Arc<Connections>,
        news: mpsc::Sender<News>,
        metrics: Arc<IngestMetrics>,
    ) {
        loop {
            let next = locked(&self.queue).next(Instant::now());
            match next {
                Next::Send(connection, login) => {
                    let Some(connection) = connections.get(connection) else {
                        continue;
                    };
                    if connection.send(format!("JOIN #{login}\r\n")) {
                        metrics.joins_sent.inc();
                        let what = What::JoinSent(login);
                        let sent = News { connection: connection.id, client: connection.client, what };
                        if news.send(sent).await.is_err() {
                            return;
                        }
                    }
                }
                Next::At(time) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(time.into()) => {}
                        () = self.wake.notified() => {}
                    }
                }
                Next::Nothing => self.wake.notified().await,
            }
        }
    }
}
