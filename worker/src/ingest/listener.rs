//! Understands what one connection reads: chat goes to the outlet, what the hub must know to the hub, and only what
//! twitch-irc needs to keep the connection (PING, and the PONGs to its own) to twitch-irc. What was joined it need not
//! know: it would not ask again for a channel that it believes to be in.
//!
//! Lines are encoded one after the other into one buffer and left in the outlet when the bytes of a read are used up, or
//! before anything that must come after them: a change of coverage, the end.

use super::connection::Connection;
use super::metrics::{Cause, IngestMetrics, UNKNOWN_ROOM};
use super::news::What;
use super::packer::encode;
use super::refusal::refusal;
use super::shared::Context;
use super::wall_ms;
use super::writer::token_of_pong;
use clamor_chat::event::{self, Parsed};
use clamor_chat::line::{Line, LineError};
use clamor_chat::wire::{Event, event::Kind};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use twitch_irc::message::IRCMessage;

/// Where a line's kind is counted, in the order of [`super::metrics::KINDS`].
const MESSAGE: usize = 0;

/// Reads for one connection. Dropping it ends the connection.
pub(super) struct Listener {
    connection: Arc<Connection>,
    context: Arc<Context>,
    /// The rooms that this connection hears.
    rooms: FxHashMap<u64, Room>,
    /// Their ids, for lines that name none.
    ids: FxHashMap<String, u64>,
    /// Events of this read, encoded.
    staged: Vec<u8>,
    /// Where each of them ends in `staged`, and its shard.
    ends: Vec<(u16, usize)>,
    counts: [u64; super::metrics::KINDS.len()],
    /// When the bytes at hand were read.
    received_at_ms: u64,
    /// Of the lines that are staged; 0: none has a time.
    newest_ms: u64,
    /// Twitch has accepted the login or refused it.
    login_answered: bool,
}

struct Room {
    shard: u16,
    messages: Arc<AtomicU64>,
}

impl Listener {
    pub(super) fn new(connection: Arc<Connection>, context: Arc<Context>) -> Self {
        let listener = Self {
            connection,
            context,
            rooms: FxHashMap::default(),
            ids: FxHashMap::default(),
            staged: Vec::new(),
            ends: Vec::new(),
            counts: Default::default(),
            received_at_ms: 0,
            newest_ms: 0,
            login_answered: false,
        };
        listener.tell(What::Opened);
        listener
    }

    /// New bytes were read.
    pub(super) fn begin(&mut self) {
        self.received_at_ms = wall_ms();
    }

    /// Takes a line. Returns what twitch-irc must know.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<IRCMessage> {
        match event::parse(line, self.received_at_ms) {
            Ok(Parsed::Chat { event, login }) => {
                self.chat(event, login);
                None
            }
            Ok(Parsed::Protocol) => self.protocol(line),
            Err(error) => {
                self.rejected(error.reason());
                None
            }
        }
    }

    /// A line that was too long for the buffer.
    pub(super) fn over_long(&self) {
        self.rejected(LineError::OverLong { bytes: 0 }.reason());
    }

    /// Leaves what has been read in the outlet.
    pub(super) fn flush(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let mut start = 0;
        for run in self.ends.chunk_by(|(left, _), (right, _)| left == right) {
            let events = run.iter().map(|(_, end)| {
                let event = &self.staged[start..*end];
                start = *end;
                event
            });
            self.context.shared.outlet.push(run[0].0, events);
        }
        self.staged.clear();
        self.ends.clear();
        for (counter, count) in self.metrics().messages.iter().zip(&self.counts) {
            counter.inc_by(*count);
        }
        self.counts = Default::default();
        // Only now: a mark that covers these lines must find them in the outlet.
        let newest_ms = std::mem::take(&mut self.newest_ms);
        if newest_ms > 0 {
            self.connection.heard_lines(newest_ms);
        }
    }

    /// Why the reader ends.
    pub(super) fn ended(&self, cause: Cause) {
        self.connection.cause_or(cause);
    }

    fn chat(&mut self, mut event: Event, login: &str) {
        if event.channel_id == 0 {
            let Some(id) = self.ids.get(login) else {
                return self.rejected(UNKNOWN_ROOM);
            };
            event.channel_id = *id;
        }
        let kind = match event.kind {
            Some(Kind::Message(_)) => MESSAGE,
            Some(Kind::UserNotice(_)) => 1,
            Some(Kind::ClearChat(_)) => 2,
            Some(Kind::ClearMessage(_)) => 3,
            Some(Kind::RoomState(_)) => 4,
            // The parser makes no coverage.
            _ => return,
        };
        if kind == 4 {
            self.room(event.channel_id, login);
        } else {
            self.newest_ms = self.newest_ms.max(event.sent_at_ms);
        }
        let shard = match self.rooms.get(&event.channel_id) {
            Some(room) => {
                if kind == MESSAGE {
                    room.messages.fetch_add(1, Ordering::Relaxed);
                }
                room.shard
            }
            None => self.context.shared.outlet.shard_of(event.channel_id),
        };
        if kind == MESSAGE {
            self.observe_lag(event.sent_at_ms);
        }
        self.counts[kind] += 1;
        event.connection = self.connection.id;
        encode(&event, &mut self.staged);
        self.ends.push((shard, self.staged.len()));
    }

    /// A ROOMSTATE: after a JOIN, it is the answer.
    fn room(&mut self, channel_id: u64, login: &str) {
        match self.ids.get(login) {
            Some(known) if *known == channel_id => return,
            Some(_) => self.forget(login),
            None => {}
        }
        self.flush();
        let messages: Arc<AtomicU64> = Arc::default();
        let shard = self.context.shared.outlet.shard_of(channel_id);
        self.ids.insert(login.to_owned(), channel_id);
        self.connection.joined(login);
        self.rooms.insert(channel_id, Room { shard, messages: Arc::clone(&messages) });
        self.context.shared.outlet.joined(self.connection.id, channel_id, self.received_at_ms);
        self.tell(What::Joined { login: login.to_owned(), channel_id, messages });
    }

    /// A room is no longer heard here.
    fn forget(&mut self, login: &str) {
        let Some(channel_id) = self.ids.remove(login) else {
            return;
        };
        self.flush();
        self.rooms.remove(&channel_id);
        let until_ms = self.connection.heard_channel_until(login, self.received_at_ms);
        self.context.shared.outlet.parted(self.connection.id, channel_id, until_ms);
    }

    fn protocol(&mut self, bytes: &[u8]) -> Option<IRCMessage> {
        let Ok(line) = Line::parse(bytes) else { return None };
        let mut params = line.params();
        match line.command {
            "PONG" => {
                if let Some(token) = params.last().and_then(token_of_pong) {
                    self.answered(token);
                    return None;
                }
            }
            "PART" => {
                let login = params.next()?.strip_prefix('#')?;
                self.forget(login);
                self.tell(What::Parted(login.to_owned()));
                return None;
            }
            "PING" => {}
            "001" => {
                self.login_answered = true;
                self.context.shared.dialer.succeeded();
                self.context.shared.joins.logged_in(self.connection.id);
                return None;
            }
            "RECONNECT" => {
                self.metrics().reconnects_asked.inc();
                self.tell(What::ReconnectAsked);
                return None;
            }
            "NOTICE" => {
                self.notice(&line);
                return None;
            }
            _ => return None,
        }
        std::str::from_utf8(bytes).ok().and_then(|line| IRCMessage::parse(line).ok())
    }

    fn answered(&mut self, token: u64) {
        // Lines before the answer are what it proves to have been heard.
        self.flush();
        if let Some(round_trip) = self.connection.ping_answered(token) {
            self.metrics().ping_seconds.observe(round_trip.as_secs_f64());
        }
    }

    fn notice(&mut self, line: &Line<'_>) {
        let mut params = line.params();
        let (target, text) = (params.next().unwrap_or("*"), params.next().unwrap_or(""));
        let Some(login) = target.strip_prefix('#') else {
            if !std::mem::replace(&mut self.login_answered, true) {
                let problem = format!("Twitch refuses the login: {text}");
                self.context.shared.dialer.failed(problem);
            }
            return;
        };
        if let Some(state) = line.tag("msg-id").and_then(refusal) {
            self.forget(login);
            self.tell(What::Refused(login.to_owned(), state));
        }
    }

    fn observe_lag(&self, sent_at_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a lag")]
        let lag_ms = self.received_at_ms.saturating_sub(sent_at_ms) as f64;
        self.metrics().lag_seconds.observe(lag_ms / 1000.0);
    }

    fn rejected(&self, reason: &'static str) {
        self.metrics().lines_rejected.with_label_values(&[reason]).inc();
    }

    fn tell(&self, what: What) {
        self.context.shared.tell(&self.connection, what);
    }

    fn metrics(&self) -> &IngestMetrics {
        &self.context.shared.metrics
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.flush();
        // twitch-irc dropped us unasked: only where its own PING was not answered.
        let unasked = if self.context.is_leaving() { Cause::Released } else { Cause::PingTimeout };
        let cause = self.connection.cause_or(unasked);
        self.connection.close(cause);
        if !self.login_answered && cause != Cause::Released {
            let problem = format!("Twitch ended the connection before it answered the login ({})", cause.name());
            self.context.shared.dialer.failed(problem);
        }
        let (shared, id, now_ms) = (&self.context.shared, self.connection.id, wall_ms());
        shared.joins.close(id);
        shared.outlet.ended(id, self.connection.heard_until(now_ms), now_ms);
        shared.metrics.connections_ended.with_label_values(&[cause.name()]).inc();
        shared.connections.ended(id);
        self.tell(What::Ended);
    }
}
