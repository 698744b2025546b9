//! One channel: its settings, its door, and who is in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Origin, Spoken, now_ms};
use crate::faults::Disturbance;
use crate::irc::outbox::Outbox;
use crate::ledger::ChannelRow;

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

/// A connection that is in a channel.
pub(super) struct Member {
    pub(super) connection: u64,
    tags: bool,
    commands: bool,
    outbox: Arc<Outbox>,
}

pub(super) struct Room {
    pub(super) origin: Origin,
    pub(super) door: Door,
    state: RoomState,
    pub(super) members: Vec<Member>,
    pub(super) row: ChannelRow,
}

/// How a channel lets people in, as `POST /channels/{login}` sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// Everybody.
    #[default]
    Open,
    /// A JOIN gets no answer.
    Silent,
    /// A JOIN is repeated to who sent it, as if that was all; nothing else comes.
    Half,
    /// A JOIN is answered, and then nothing that is said is heard.
    Mute,
    /// Twitch has suspended it: a NOTICE says so, and nobody is in it any more.
    Suspended,
    /// It has banned its reader: likewise.
    Banned,
}

impl Door {
    /// The NOTICE that keeps people out, where there is one.
    fn notice(self, login: &str, tags: bool) -> Option<String> {
        let (msg_id, text) = match self {
            Self::Suspended => {
                ("msg_channel_suspended", "This channel does not exist or has been suspended.".to_owned())
            }
            Self::Banned => ("msg_banned", format!("You are permanently banned from talking in {login}.")),
            Self::Open | Self::Silent | Self::Half | Self::Mute => return None,
        };
        let tags = if tags { format!("@msg-id={msg_id} ") } else { String::new() };
        Some(format!("{tags}:tmi.twitch.tv NOTICE #{login} :{text}"))
    }
}

/// How a JOIN is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answers are queued, and it is in.
    Inside,
    /// It was inside already: nothing happens.
    InsideAlready,
    /// It stays outside, told or not.
    Outside,
    /// There are too many JOINs: this one is not heard.
    Unheard,
    /// There is no such channel: nobody answers.
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

impl Room {
    pub(super) fn new(origin: Origin, login: &str, channel_id: u64) -> Self {
        let row = ChannelRow {
            channel_id,
            login: login.to_owned(),
            first_join_ms: None,
            last_join_ms: None,
            last_leave_ms: None,
            joins: 0,
            leaves: 0,
            listeners: 0,
            withheld: 0,
        };
        Self { origin, door: Door::Open, state: RoomState::OPEN, members: Vec::new(), row }
    }

    pub(super) fn row(&self) -> ChannelRow {
        ChannelRow { listeners: self.members.len() as u64, ..self.row.clone() }
    }

    /// Hands a line to all who are in.
    pub(super) fn say(&mut self, spoken: &Spoken, disturbance: &mut Disturbance) {
        if let Some(change) = spoken.change {
            self.state.apply(change);
        }
        let mut withheld = 0;
        for member in &self.members {
            let Some(bytes) = spoken.line.for_reader(member.tags, member.commands) else { continue };
            let again = disturbance.duplicates().then(|| bytes.clone());
            if self.door == Door::Mute || !member.outbox.push(bytes) {
                withheld += 1;
                continue;
            }
            for more in again.into_iter().chain(disturbance.garbage()) {
                member.outbox.push(more);
            }
        }
        if spoken.record.is_some() {
            self.row.withheld += withheld;
        }
    }

    /// Answers a JOIN.
    pub(super) fn join(&mut self, visitor: &Visitor<'_>) -> Answer {
        let (nick, login) = (visitor.nick, &self.row.login);
        let echo = || format!(":{nick}!{nick}@{nick}.tmi.twitch.tv JOIN #{login}");
        match self.door {
            Door::Silent => return Answer::Outside,
            Door::Half => {
                visitor.outbox.push_text(&echo());
                return Answer::Outside;
            }
            Door::Suspended | Door::Banned => {
                if let Some(notice) = self.door.notice(login, visitor.tags).filter(|_| visitor.commands) {
                    visitor.outbox.push_text(&notice);
                }
                return Answer::Outside;
            }
            Door::Open | Door::Mute => {}
        }
        if self.members.iter().any(|member| member.connection == visitor.connection) {
            return Answer::InsideAlready;
        }
        visitor.outbox.push_text(&echo());
        visitor.outbox.push_text(&format!(":{nick}.tmi.twitch.tv 353 {nick} = #{login} :{nick}"));
        visitor.outbox.push_text(&format!(":{nick}.tmi.twitch.tv 366 {nick} #{login} :End of /NAMES list"));
        if visitor.commands {
            visitor.outbox.push_text(&self.state_line(visitor.tags));
        }
        self.enter(visitor);
        Answer::Inside
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

    /// Opens or shuts the door. Who is thrown out: their connections.
    pub(super) fn set_door(&mut self, door: Door) -> Vec<u64> {
        self.door = door;
        if !matches!(door, Door::Suspended | Door::Banned) {
            return Vec::new();
        }
        for member in &self.members {
            if let Some(notice) = door.notice(&self.row.login, member.tags).filter(|_| member.commands) {
                member.outbox.push_text(&notice);
            }
        }
        self.empty()
    }

    /// Nobody is in any more. Who was: their connections.
    pub(super) fn empty(&mut self) -> Vec<u64> {
        let connections: Vec<u64> = self.members.iter().map(|member| member.connection).collect();
        let now = now_ms();
        for &connection in &connections {
            self.remove(connection, now);
        }
        connections
    }

    pub(super) fn remove(&mut self, connection: u64, now_ms: u64) -> bool {
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
