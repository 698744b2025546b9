//! The town: which channels exist, who is in them, and the ledger, under one lock.
//!
//! Invariants:
//! - A line is written into the ledger and handed to all who are in its channel in one step: a connection hears exactly
//!   what was said between its JOIN's answer and its leaving.
//! - A line never waits here for a reader: it is queued, or its reader is cut off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::{Config, Detail};
use crate::irc::outbox::{End, Outbox};
use crate::ledger::{Book, ChannelRow, ConnectionCounts, Ledger, Record};
use crate::pen::Line;

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

/// What a ROOMSTATE says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomState {
    pub(crate) emote_only: bool,
    /// Minutes; -1: off.
    pub(crate) followers_only: i32,
    pub(crate) unique_only: bool,
    pub(crate) slow_seconds: u32,
    pub(crate) subscribers_only: bool,
}

/// A change of one setting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RoomChange {
    EmoteOnly(bool),
    FollowersOnly(i32),
    UniqueOnly(bool),
    Slow(u32),
    SubscribersOnly(bool),
}

struct Member {
    connection: u64,
    tags: bool,
    commands: bool,
    outbox: Arc<Outbox>,
}

struct Room {
    origin: Origin,
    state: RoomState,
    members: Vec<Member>,
    row: ChannelRow,
}

/// An open connection, as `GET /connections` gives it.
#[derive(Debug, Clone, Serialize)]
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
}

/// How a JOIN is answered. Later behaviours of channels (suspended, banned, over the limit) are further variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// It exists: the answers are queued.
    Open,
    /// Already inside: nothing happens.
    Inside,
    /// Nobody answers.
    Absent,
}

/// Who asks to JOIN.
pub(crate) struct Visitor<'a> {
    pub(crate) connection: u64,
    pub(crate) nick: &'a str,
    pub(crate) tags: bool,
    pub(crate) commands: bool,
    pub(crate) outbox: &'a Arc<Outbox>,
}

pub(crate) struct Town {
    inner: Mutex<Inner>,
    any_channel: bool,
    seed: u64,
    joins: watch::Sender<u64>,
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
        };
        let joins = watch::Sender::new(0);
        Self { inner: Mutex::new(inner), any_channel: config.any_channel, seed: config.seed, joins }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked while it held the lock left counts that are off by one line at most.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds a channel; its number. One that is there already stays as it is.
    pub(crate) fn build_room(&self, login: &str, id: u64, origin: Origin) -> usize {
        self.lock().build_room(login, id, origin)
    }

    /// The rooms from `known` on: number, id, login.
    pub(crate) fn made_rooms(&self, known: usize) -> Vec<(usize, u64, String)> {
        let inner = self.lock();
        let rooms = inner.rooms.iter().enumerate().skip(known);
        let made = rooms.filter(|(_, room)| room.origin == Origin::Made);
        made.map(|(number, room)| (number, room.row.channel_id, room.row.login.clone())).collect()
    }

    pub(crate) fn room_count(&self) -> usize {
        self.lock().rooms.len()
    }

    /// Says these lines, in order, and takes them away.
    pub(crate) fn say(&self, lines: &mut Vec<Spoken>) {
        let mut inner = self.lock();
        for spoken in lines.drain(..) {
            inner.say(&spoken);
        }
    }

    pub(crate) fn enter(&self, peer: String, tls: bool, outbox: &Arc<Outbox>) -> u64 {
        let mut inner = self.lock();
        let id = inner.next_connection;
        inner.next_connection += 1;
        inner.counts.opened += 1;
        let info =
            ConnectionInfo { id, nick: String::new(), peer, tls, opened_ms: now_ms(), channels: 0, queued_bytes: 0 };
        inner.connections.insert(id, Connection { info, outbox: Arc::clone(outbox) });
        id
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
            End::Silent => counts.silent += 1,
            End::Reconnected => counts.reconnected += 1,
            End::Refused => counts.refused += 1,
            End::Failed => counts.failed += 1,
            End::Stopped => {}
        }
    }

    pub(crate) fn join(&self, visitor: &Visitor<'_>, login: &str) -> Door {
        let door = self.lock().join(visitor, login, self.any_channel);
        if door == Door::Open {
            self.joins.send_modify(|joins| *joins += 1);
        }
        door
    }

    pub(crate) fn part(&self, visitor: &Visitor<'_>, login: &str) {
        let mut inner = self.lock();
        let Some(&number) = inner.by_login.get(login) else {
            return;
        };
        if inner.rooms[number].remove(visitor.connection, now_ms()) {
            let nick = visitor.nick;
            visitor.outbox.push_text(&format!(":{nick}!{nick}@{nick}.tmi.twitch.tv PART #{login}"));
            if let Some(connection) = inner.connections.get_mut(&visitor.connection) {
                connection.info.channels -= 1;
            }
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
        let row = ChannelRow {
            channel_id,
            login: login.to_owned(),
            first_join_ms: None,
            last_join_ms: None,
            last_leave_ms: None,
            joins: 0,
            leaves: 0,
            listeners: 0,
        };
        self.rooms.push(Room { origin, state: RoomState::OPEN, members: Vec::new(), row });
        number
    }

    fn say(&mut self, spoken: &Spoken) {
        let room = &mut self.rooms[spoken.room];
        if let Some(change) = spoken.change {
            room.state.apply(change);
        }
        for member in &room.members {
            if let Some(bytes) = spoken.line.for_reader(member.tags, member.commands) {
                member.outbox.push(bytes);
            }
        }
        if let Some(record) = &spoken.record {
            self.book.record(record);
        }
    }

    fn join(&mut self, visitor: &Visitor<'_>, login: &str, any_channel: bool) -> Door {
        let number = match self.by_login.get(login) {
            Some(&number) => number,
            None if any_channel && is_login(login) && self.rooms.len() < MOST_ROOMS => {
                self.build_room(login, id_of_login(login), Origin::Made)
            }
            None => return Door::Absent,
        };
        let room = &mut self.rooms[number];
        if room.members.iter().any(|member| member.connection == visitor.connection) {
            return Door::Inside;
        }
        let nick = visitor.nick;
        visitor.outbox.push_text(&format!(":{nick}!{nick}@{nick}.tmi.twitch.tv JOIN #{login}"));
        visitor.outbox.push_text(&format!(":{nick}.tmi.twitch.tv 353 {nick} = #{login} :{nick}"));
        visitor.outbox.push_text(&format!(":{nick}.tmi.twitch.tv 366 {nick} #{login} :End of /NAMES list"));
        if visitor.commands {
            visitor.outbox.push_text(&room.state_line(visitor.tags));
        }
        room.enter(visitor);
        if let Some(connection) = self.connections.get_mut(&visitor.connection) {
            connection.info.channels += 1;
        }
        Door::Open
    }
}

impl Room {
    fn row(&self) -> ChannelRow {
        ChannelRow { listeners: self.members.len() as u64, ..self.row.clone() }
    }

    fn enter(&mut self, visitor: &Visitor<'_>) {
        let now = now_ms();
        self.row.joins += 1;
        self.row.first_join_ms.get_or_insert(now);
        self.row.last_join_ms = Some(now);
        self.members.push(Member {
            connection: visitor.connection,
            tags: visitor.tags,
            commands: visitor.commands,
            outbox: Arc::clone(visitor.outbox),
        });
    }

    fn remove(&mut self, connection: u64, now_ms: u64) -> bool {
        let Some(at) = self.members.iter().position(|member| member.connection == connection) else {
            return false;
        };
        self.members.swap_remove(at);
        self.row.leaves += 1;
        self.row.last_leave_ms = Some(now_ms);
        true
    }

    fn state_line(&self, tags: bool) -> String {
        let login = &self.row.login;
        if !tags {
            return format!(":tmi.twitch.tv ROOMSTATE #{login}");
        }
        let RoomState { emote_only, followers_only, unique_only, slow_seconds, subscribers_only } = self.state;
        format!(
            "@emote-only={};followers-only={followers_only};r9k={};room-id={};slow={slow_seconds};subs-only={} \
             :tmi.twitch.tv ROOMSTATE #{login}",
            u8::from(emote_only),
            u8::from(unique_only),
            self.row.channel_id,
            u8::from(subscribers_only),
        )
    }
}

impl RoomState {
    const OPEN: Self =
        Self { emote_only: false, followers_only: -1, unique_only: false, slow_seconds: 0, subscribers_only: false };

    fn apply(&mut self, change: RoomChange) {
        match change {
            RoomChange::EmoteOnly(on) => self.emote_only = on,
            RoomChange::FollowersOnly(minutes) => self.followers_only = minutes,
            RoomChange::UniqueOnly(on) => self.unique_only = on,
            RoomChange::Slow(seconds) => self.slow_seconds = seconds,
            RoomChange::SubscribersOnly(on) => self.subscribers_only = on,
        }
    }
}

/// Whether Twitch could have a channel of this name.
pub(crate) fn is_login(login: &str) -> bool {
    (1..=25).contains(&login.len())
        && login.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The room-id of a channel that somebody named: from its login alone (FNV-1a), so the same in every run. Above all
/// ids that Twitch has given so far.
pub(crate) fn id_of_login(login: &str) -> u64 {
    const FIRST: u64 = 1_000_000_000_000;
    let hash = login
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    FIRST + hash % FIRST
}

/// Whether the ledger keeps records at all: otherwise they need not be made.
pub(crate) fn keeps_records(detail: Detail) -> bool {
    detail != Detail::Off
}
