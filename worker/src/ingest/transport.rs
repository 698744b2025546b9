//! The transport that twitch-irc gets: sockets of ours, read by the listener, written by the writer.
//!
//! ```text
//!  socket ──► LineBuffer ──► Listener ──► outlet (chat), hub (what it must know)
//!                               └── PING, PONG ──► twitch-irc
//!  socket ◄── writer ◄── commands ◄── twitch-irc
//!                    ◄── JOINs ◄── JoinQueue ◄── twitch-irc
//! ```
//!
//! Invariants: the sink is always ready, so no JOIN holds up a PONG; no line ends the connection; dropping either half
//! ends both (twitch-irc drops both when its last handle is dropped).

use super::connection::Connection;
use super::dial::{DialError, Reader};
use super::line_buffer::{Found, LineBuffer};
use super::listener::Listener;
use super::login::context_of_this_task;
use super::metrics::Cause;
use super::shared::Context;
use super::wall_ms;
use super::writer;
use async_trait::async_trait;
use either::Either;
use futures::Sink;
use futures::stream::{FusedStream, Stream};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use thiserror::Error;
use tokio::io::{AsyncRead as _, ReadBuf};
use twitch_irc::message::{AsRawIRC as _, IRCMessage, IRCParseError};
use twitch_irc::transport::Transport;

/// A connection to Twitch.
pub(super) struct ChatTransport {
    incoming: Incoming,
    outgoing: Outgoing,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    /// twitch-irc opens transports in another way than this one was written for.
    #[error("no client asked for this connection")]
    Nobody,
    #[error("this client leaves")]
    Leaving,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    Token(String),
}

#[async_trait]
impl Transport for ChatTransport {
    type ConnectError = ConnectError;
    type IncomingError = std::io::Error;
    type OutgoingError = std::io::Error;
    type Incoming = Incoming;
    type Outgoing = Outgoing;

    async fn new() -> Result<Self, ConnectError> {
        let context = context_of_this_task().ok_or(ConnectError::Nobody)?;
        if context.is_leaving() {
            return Err(ConnectError::Leaving);
        }
        let opened = Self::open(&context).await;
        if opened.is_err() {
            context.shared.metrics.connect_failures.inc();
        }
        opened
    }

    fn split(self) -> (Incoming, Outgoing) {
        (self.incoming, self.outgoing)
    }
}

impl ChatTransport {
    async fn open(context: &Arc<Context>) -> Result<Self, ConnectError> {
        let shared = &context.shared;
        let pass = shared.account.pass().map_err(|problem| {
            shared.dialer.failed(problem.clone());
            ConnectError::Token(problem)
        })?;
        let (reader, writer) = shared.dialer.dial().await?;
        let (connection, lines) = shared.connections.open(context.client);
        shared.joins.open(connection.id);
        // Ends when the connection is closed, which the listener's end does.
        tokio::spawn(writer::run(Arc::clone(&connection), lines, writer));
        let incoming = Incoming {
            reader,
            lines: LineBuffer::new(),
            listener: Some(Listener::new(Arc::clone(&connection), Arc::clone(context))),
            connection: Arc::clone(&connection),
            passed_on: VecDeque::new(),
        };
        Ok(Self { incoming, outgoing: Outgoing { connection, context: Arc::clone(context), pass } })
    }
}

impl fmt::Debug for ChatTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTransport").field("connection", &self.outgoing.connection.id).finish()
    }
}

/// What is read. Polling it is what moves chat from the socket to the outlet.
pub(super) struct Incoming {
    reader: Reader,
    lines: LineBuffer,
    /// Gone when the connection has ended.
    listener: Option<Listener>,
    connection: Arc<Connection>,
    passed_on: VecDeque<IRCMessage>,
}

impl Incoming {
    /// Reads once and hands on every whole line. `Some`: the connection has ended.
    fn read(&mut self, task: &mut Task<'_>) -> Poll<Option<Cause>> {
        if self.connection.poll_closing(task.waker()) {
            return Poll::Ready(Some(Cause::Released));
        }
        let Some(listener) = &mut self.listener else {
            return Poll::Ready(Some(Cause::Closed));
        };
        let mut space = ReadBuf::new(self.lines.space());
        if ready!(Pin::new(&mut self.reader).poll_read(task, &mut space)).is_err() {
            return Poll::Ready(Some(Cause::Failed));
        }
        let bytes = space.filled().len();
        if bytes == 0 {
            return Poll::Ready(Some(Cause::Closed));
        }
        self.lines.filled(bytes);
        listener.begin();
        loop {
            match self.lines.next() {
                Found::Line(line) => self.passed_on.extend(listener.line(self.lines.line(line))),
                Found::OverLong => listener.over_long(),
                Found::Nothing => break,
            }
        }
        listener.flush();
        Poll::Ready(None)
    }
}

impl Stream for Incoming {
    type Item = Result<IRCMessage, Either<std::io::Error, IRCParseError>>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.passed_on.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            if self.listener.is_none() {
                return Poll::Ready(None);
            }
            if let Some(cause) = ready!(self.read(task))
                && let Some(listener) = self.listener.take()
            {
                listener.ended(cause);
            }
        }
    }
}

impl FusedStream for Incoming {
    fn is_terminated(&self) -> bool {
        self.listener.is_none() && self.passed_on.is_empty()
    }
}

/// What twitch-irc writes: JOINs into the queue, the rest to the writer.
pub(super) struct Outgoing {
    connection: Arc<Connection>,
    context: Arc<Context>,
    /// The line that logs in; empty for somebody anonymous.
    pass: String,
}

impl Outgoing {
    fn write(&self, message: &IRCMessage) -> bool {
        let joins = &self.context.shared.joins;
        let login = || message.params.first().and_then(|channel| channel.strip_prefix('#'));
        match (message.command.as_str(), login()) {
            ("JOIN", Some(login)) => {
                joins.push(self.connection.id, login);
                true
            }
            ("PART", Some(login)) if joins.cancel(self.connection.id, login) => true,
            ("PART", Some(login)) => {
                self.connection.asked_to_part(login, wall_ms());
                self.connection.send(message.as_raw_irc() + "\r\n")
            }
            ("PASS", _) => self.connection.send(self.pass.clone()),
            _ => self.connection.send(message.as_raw_irc() + "\r\n"),
        }
    }
}

impl Sink<IRCMessage> for Outgoing {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: IRCMessage) -> Result<(), Self::Error> {
        if self.write(&message) { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}
