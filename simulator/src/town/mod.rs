//! The town: which channels exist, who is in them, and the ledger, under one lock.
//!
//! Invariants:
//! - A line is written into the ledger and handed to all who are in its channel in one step: a connection hears exactly
//!   what was said between its JOIN's answer and its leaving, but for what a fault keeps from it, which is counted.
//! - A line never waits here for a reader: it is queued, or its reader is cut off.

mod login;
mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Config, Detail};
use crate::faults::{Disturbance, FaultError, Faults};
use crate::irc::outbox::{End, Outbox};
use crate::ledger::{Book, ConnectionCounts, Ledger, Record};
use crate::pen::Line;

pub(crate) use login::{id_of_login, is_login};
pub use room::Door;
use room::Room;
pub(crate) use room::{Answer, RoomChange, Visitor};

/// More are not made by `any_channel`: a client cannot fill the memory with names.
const MOST_ROOMS: usize = 200_000;

/// Now, in ms since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Where a channel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Generated traffic talks in it.
    Made,
    /// A recorded file talks in it.
    Recorded,
}

/// A line to be said in a room.
pub(crate) struct Spoken {
    pub(crate) room: usize,
    pub(crate) line: Line,
    /// Absent: heard, but not chat (a NOTICE).
    pub(crate) record: Option<Record>,
    pub(crate) change: Option<RoomChange>,
}

/// An open connection, as `GET /connections` gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// From 1, never used twice.
    pub id: u64,
    /// Whose, once it has logged in.
    pub nick: String,
    /// From where.
    pub peer: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Since when (ms).
    pub opened_ms: u64,
    /// How many channels it is in.
    pub channels: u64,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
}

struct Connection {
    info: ConnectionInfo,
    outbox: Arc<Outbox>,
}

struct Inner {
    rooms: Vec<Room>,
    by_login: FxHashMap<String, usize>,
    by_id: FxHashMap<u64, usize>,
    connections: FxHashMap<u64, Connection>,
    next_connection: u64,
    counts: ConnectionCounts,
    book: Book,
    disturbance: Disturbance,
    /// How often a channel was renamed.
    renames: u64,
}

pub(crate) struct Town {
    inner: Mutex<Inner>,
    any_channel: bool,
    seed: u64,
    joins: watch::Sender<u64>,
    faults: watch::Sender<Faults>,
}

impl Town {
    pub(crate) fn new(config: &Config) -> Self {
        let inner = Inner {
            rooms: Vec::new(),
            by_login: FxHashMap::default(),
            by_id: FxHashMap::default(),
            connections: FxHashMap::default(),
            next_connection: 1,
            counts: ConnectionCounts::default(),
            book: Book::new(config.detail, config.phrases.clone()),
            disturbance: Disturbance::new(config.faults, config.seed),
            renames: 0,
        };
        let (joins, faults) = (watch::Sender::new(0), watch::Sender::new(config.faults));
        Self { inner: Mutex::new(inner), any_channel: config.any_channel, seed: config.seed, joins, faults }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked while it held the lock left counts that are off by one line at most.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds a channel; its number. One that is there already stays as it is.
    pub(crate) fn build_room(&self, login: &str, id: u64, origin: Origin) -> usize {
        self.lock().build_room(login, id, origin)
    }

    /// The rooms that generated traffic talks in, in the order in which they were built: number, id, login.
    pub(crate) fn made_rooms(&self) -> Vec<(usize, u64, String)> {
        let inner = self.lock();
        let rooms = inner.rooms.iter().enumerate();
        let made = rooms.filter(|(_, room)| room.origin == Origin::Made);
        made.map(|(number, room)| (number, room.row.channel_id, room.row.login.clone())).collect()
    }

    /// How many rooms there are, and how often one was renamed.
    pub(crate) fn extent(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.rooms.len(), inner.renames)
    }

    /// Says these lines, in order, and takes them away.
    pub(crate) fn say(&self, lines: &mut Vec<Spoken>) {
        let mut inner = self.lock();
        let now = Instant::now();
        for spoken in lines.drain(..) {
            if let Some(spoken) = inner.disturbance.hold_back(spoken, now) {
                inner.say(&spoken);
            }
        }
        for spoken in inner.disturbance.take_late(now) {
            inner.say(&spoken);
        }
    }

    /// When something is to be said that was held back.
    pub(crate) fn next_late(&self) -> Option<Instant> {
        self.lock().disturbance.next_late()
    }

    /// Says all that was held back.
    pub(crate) fn say_late(&self) {
        let mut inner = self.lock();
        for spoken in inner.disturbance.take_all_late() {
            inner.say(&spoken);
        }
    }

    /// How wrong the time of the next utterance is.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.lock().disturbance.skew_ms()
    }

    pub(crate) fn faults(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().disturbance.faults = faults;
        self.faults.send_replace(faults);
    }

    /// Opens or shuts a channel's door.
    pub(crate) fn set_door(&self, login: &str, door: Door) -> Result<(), FaultError> {
        let mut inner = self.lock();
        let number = inner.number(login)?;
        let thrown_out = inner.rooms[number].set_door(door);
        inner.count_left(&thrown_out);
        Ok(())
    }

    /// A channel has another login from now on; who is in it parts, and what is said is said under the new one.
    pub(crate) fn rename(&self, login: &str, to: &str) -> Result<(), FaultError> {
        let mut inner = self.lock();
        let number = inner.number(login)?;
        if !is_login(to) || inner.by_login.contains_key(to) {
            return Err(FaultError::Login(to.to_owned()));
        }
        let parting = inner.rooms[number].empty();
        for connection in parting.iter().filter_map(|id| inner.connections.get(id)) {
            connection.outbox.push_text(&part_line(&connection.info.nick, login));
        }
        inner.count_left(&parting);
        inner.by_login.remove(login);
        inner.by_login.insert(to.to_owned(), number);
        to.clone_into(&mut inner.rooms[number].row.login);
        inner.renames += 1;
        Ok(())
    }

    /// Absent: there are too many.
    pub(crate) fn enter(&self, peer: String, tls: bool, outbox: &Arc<Outbox>) -> Option<u64> {
        let mut inner = self.lock();
        let Faults { connection_limit, freeze_new, .. } = inner.disturbance.faults;
        if connection_limit > 0 && inner.connections.len() >= connection_limit {
            inner.counts.turned_away += 1;
            return None;
        }
        if freeze_new {
            outbox.freeze(true);
        }
        let id = inner.next_connection;
        inner.next_connection += 1;
        inner.counts.opened += 1;
        let info =
            ConnectionInfo { id, nick: String::new(), peer, tls, opened_ms: now_ms(), channels: 0, queued_bytes: 0 };
        inner.connections.insert(id, Connection { info, outbox: Arc::clone(outbox) });
        Some(id)
    }

    pub(crate) fn name(&self, connection: u64, nick: &str) {
        if let Some(connection) = self.lock().connections.get_mut(&connection) {
            nick.clone_into(&mut connection.info.nick);
        }
    }

    pub(crate) fn count_overlong_line(&self) {
        self.lock().counts.overlong_lines += 1;
    }

    /// A connection is over.
    pub(crate) fn leave(&self, connection: u64, end: End) {
        let mut inner = self.lock();
        let now = now_ms();
        for room in &mut inner.rooms {
            room.remove(connection, now);
        }
        inner.connections.remove(&connection);
        let counts = &mut inner.counts;
        match end {
            End::Left => counts.left += 1,
            End::Slow => counts.slow += 1,
            End::Cut => counts.cut += 1,
            End::Silent => counts.silent += 1,
            End::Reconnected => counts.reconnected += 1,
            End::Refused => counts.refused += 1,
            End::Failed => counts.failed += 1,
            End::Stopped => {}
        }
    }

    pub(crate) fn join(&self, visitor: &Visitor<'_>, login: &str) -> Answer {
        let answer = self.lock().join(visitor, login, self.any_channel);
        if answer == Answer::Inside {
            self.joins.send_modify(|joins| *joins += 1);
        }
        answer
    }

    pub(crate) fn part(&self, visitor: &Visitor<'_>, login: &str) {
        let mut inner = self.lock();
        let Some(&number) = inner.by_login.get(login) else {
            return;
        };
        if inner.rooms[number].remove(visitor.connection, now_ms()) {
            visitor.outbox.push_text(&part_line(visitor.nick, login));
            inner.count_left(&[visitor.connection]);
        }
    }

    /// Waits until somebody is in each of these rooms.
    pub(crate) async fn all_joined(&self, rooms: &[usize]) {
        let mut joins = self.joins.subscribe();
        loop {
            joins.borrow_and_update();
            let missing = {
                let inner = self.lock();
                rooms.iter().any(|&room| inner.rooms[room].members.is_empty())
            };
            if !missing || joins.changed().await.is_err() {
                return;
            }
        }
    }

    /// The open connections, oldest first, with their queues.
    pub(crate) fn outboxes(&self) -> Vec<(u64, Arc<Outbox>)> {
        let inner = self.lock();
        let mut outboxes: Vec<_> =
            inner.connections.iter().map(|(&id, connection)| (id, Arc::clone(&connection.outbox))).collect();
        outboxes.sort_unstable_by_key(|(id, _)| *id);
        outboxes
    }

    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        let inner = self.lock();
        let info = |connection: &Connection| ConnectionInfo {
            queued_bytes: connection.outbox.queued_bytes(),
            ..connection.info.clone()
        };
        let mut infos: Vec<_> = inner.connections.values().map(info).collect();
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }

    pub(crate) fn ledger(&self, speaking: bool) -> Ledger {
        let inner = self.lock();
        let mut connections = inner.counts;
        connections.open = inner.connections.len() as u64;
        connections.garbage = inner.disturbance.garbage;
        let mut ledger = Ledger { seed: self.seed, speaking, connections, ..Ledger::default() };
        ledger.channels = inner.rooms.iter().map(Room::row).collect();
        inner.book.copy_into(&mut ledger);
        ledger
    }
}

impl Inner {
    fn build_room(&mut self, login: &str, id: u64, origin: Origin) -> usize {
        if let Some(&number) = self.by_login.get(login) {
            return number;
        }
        let mut channel_id = id.max(1);
        while self.by_id.contains_key(&channel_id) {
            channel_id += 1;
        }
        let number = self.rooms.len();
        self.by_login.insert(login.to_owned(), number);
        self.by_id.insert(channel_id, number);
        self.rooms.push(Room::new(origin, login, channel_id));
        number
    }

    fn say(&mut self, spoken: &Spoken) {
        self.rooms[spoken.room].say(spoken, &mut self.disturbance);
        if let Some(record) = &spoken.record {
            self.book.record(record);
        }
    }

    fn join(&mut self, visitor: &Visitor<'_>, login: &str, any_channel: bool) -> Answer {
        if !self.disturbance.hears_join(Instant::now()) {
            self.counts.joins_ignored += 1;
            return Answer::Unheard;
        }
        let number = match self.by_login.get(login) {
            Some(&number) => number,
            None if any_channel && is_login(login) && self.rooms.len() < MOST_ROOMS => {
                self.build_room(login, id_of_login(login), Origin::Made)
            }
            None => return Answer::Absent,
        };
        let answer = self.rooms[number].join(visitor);
        if answer == Answer::Inside
            && let Some(connection) = self.connections.get_mut(&visitor.connection)
        {
            connection.info.channels += 1;
        }
        answer
    }

    fn number(&self, login: &str) -> Result<usize, FaultError> {
        self.by_login.get(login).copied().ok_or_else(|| FaultError::NoChannel(login.to_owned()))
    }

    /// These connections are in one channel less.
    fn count_left(&mut self, connections: &[u64]) {
        for id in connections {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.info.channels -= 1;
            }
        }
    }
}

fn part_line(nick: &str, login: &str) -> String {
    format!(":{nick}!{nick}@{nick}.tmi.twitch.tv PART #{login}")
}

/// Whether the ledger keeps records at all: otherwise they need not be made.
pub(crate) fn keeps_records(detail: Detail) -> bool {
    detail != Detail::Off
}
