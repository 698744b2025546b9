//! One connection: a reader, a writer and a pulse, that end together.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::outbox::{End, Outbox};
use super::session::{Reaction, Session};
use crate::town::{Town, Visitor};

/// A client's longest line; a longer one is dropped and counted.
const LONGEST_LINE: usize = 8 * 1024;
/// Lines are gathered to writes of this size.
const WRITE_BYTES: usize = 64 * 1024;
/// How long a client that ends may take for what is still queued.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) town: Arc<Town>,
    pub(crate) queue_limit_bytes: usize,
    pub(crate) ping_every: Duration,
    pub(crate) pong_within: Duration,
    pub(crate) stop: CancellationToken,
}

/// Serves one client until it or we go.
pub(crate) async fn serve<R, W>(house: House, peer: String, tls: bool, reader: R, writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let outbox = Arc::new(Outbox::new(house.queue_limit_bytes));
    let Some(id) = house.town.enter(peer, tls, &outbox) else { return };
    let client = Client { id, town: &house.town, outbox: &outbox, alive: Notify::new() };
    tracing::debug!(connection = id, tls, "opened");

    let mut writing = pin!(write(writer, &outbox));
    let (end, written) = tokio::select! {
        end = &mut writing => (end, true),
        end = client.read(reader) => (end, false),
        end = client.pulse(house.ping_every, house.pong_within) => (end, false),
        end = cut_off(&outbox) => (end, false),
        () = house.stop.cancelled() => (End::Stopped, false),
    };
    outbox.close(end);
    if end.flushes() && !written {
        // A client that does not take the rest in time does not get it.
        let _ = timeout(FLUSH_WITHIN, writing).await;
    }
    house.town.leave(id, end);
    tracing::debug!(connection = id, ?end, "closed");
}

/// Ends when the connection must end at once, whatever its writer waits for.
async fn cut_off(outbox: &Outbox) -> End {
    let end = outbox.closed().await;
    if end.flushes() {
        // The writer ends when it has written what is queued.
        sleep(FLUSH_WITHIN).await;
    }
    end
}

struct Client<'a> {
    id: u64,
    town: &'a Town,
    outbox: &'a Arc<Outbox>,
    alive: Notify,
}

impl Client<'_> {
    async fn read<R: AsyncRead + Unpin>(&self, mut reader: R) -> End {
        let mut session = Session::default();
        let mut buffer = BytesMut::with_capacity(4 * 1024);
        let mut skipping = false;
        loop {
            let read = tokio::select! {
                biased;
                // Half open: what comes stays in the socket.
                () = self.outbox.frozen(true) => {
                    self.outbox.frozen(false).await;
                    continue;
                }
                read = reader.read_buf(&mut buffer) => read,
            };
            match read {
                Ok(0) => return End::Left,
                Ok(_) => {}
                Err(_) => return End::Failed,
            }
            while let Some(at) = buffer.iter().position(|&byte| byte == b'\n') {
                let line = buffer.split_to(at + 1);
                if std::mem::take(&mut skipping) {
                    continue;
                }
                if let Some(end) = self.obey(&mut session, &line) {
                    return end;
                }
            }
            if buffer.len() > LONGEST_LINE {
                buffer.clear();
                if !std::mem::replace(&mut skipping, true) {
                    self.town.count_overlong_line();
                }
            }
        }
    }

    fn obey(&self, session: &mut Session, line: &[u8]) -> Option<End> {
        for reaction in session.on_line(line) {
            match reaction {
                Reaction::Send(line) => self.outbox.push_text(&line),
                Reaction::LoggedIn => self.town.name(self.id, session.nick().unwrap_or_default()),
                Reaction::Join(login) => {
                    let answer = self.town.join(&self.visitor(session), &login);
                    tracing::trace!(connection = self.id, channel = login, ?answer, "JOIN");
                }
                Reaction::Part(login) => self.town.part(&self.visitor(session), &login),
                Reaction::Alive => self.alive.notify_one(),
                Reaction::Quit => return Some(End::Left),
                Reaction::Refuse => return Some(End::Refused),
            }
        }
        None
    }

    fn visitor<'a>(&'a self, session: &'a Session) -> Visitor<'a> {
        Visitor {
            connection: self.id,
            nick: session.nick().unwrap_or_default(),
            tags: session.tags,
            commands: session.commands,
            outbox: self.outbox,
        }
    }

    /// Asks from time to time whether the client is there; ends when it is not.
    async fn pulse(&self, every: Duration, within: Duration) -> End {
        loop {
            sleep(every).await;
            // An answer that nobody asked for does not count.
            let mut answered = pin!(self.alive.notified());
            if answered.as_mut().enable() {
                answered.set(self.alive.notified());
            }
            self.outbox.push_text("PING :tmi.twitch.tv");
            if timeout(within, answered).await.is_err() {
                // A half-open connection is not ended from here either.
                self.outbox.frozen(false).await;
                return End::Silent;
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, outbox: &Outbox) -> End {
    let mut batch: Vec<Bytes> = Vec::new();
    let mut buffer: Vec<u8> = Vec::with_capacity(WRITE_BYTES);
    loop {
        if let Some(end) = outbox.take(&mut batch).await {
            let _ = writer.shutdown().await;
            return end;
        }
        let mut lines = batch.drain(..).peekable();
        while let Some(line) = lines.next() {
            buffer.extend_from_slice(&line);
            drop(line);
            let full = lines.peek().is_none_or(|next| buffer.len() + next.len() > WRITE_BYTES);
            if !full {
                continue;
            }
            if writer.write_all(&buffer).await.is_err() {
                return End::Failed;
            }
            outbox.wrote(buffer.len());
            buffer.clear();
        }
        // TLS keeps bytes back until told.
        if writer.flush().await.is_err() {
            return End::Failed;
        }
    }
}
