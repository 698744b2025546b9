//! Reading a file into chunks of events that are new to it, from where its import stands.
//!
//! What was imported before is read again without being counted: that checks that the file still begins with it, and
//! leaves the state as it would be had the import never stopped.
//!
//! Invariants: a chunk ends where a record does; memory is one buffer and the chunk that is being filled.

use super::beginning::Reader;
use super::chunk::{Chunk, Tally};
use super::covered::Span;
use super::decode::{Decoded, Format, decode};
use super::order::{Order, Place};
use super::recent::Recent;
use super::records::{ReadError, Records};
use crate::aggregate::counting::unique_chatter;
use crate::aggregate::delta::{ChannelId, Millis};
use crate::aggregate::uniques::AHEAD_MS;
use clamor_chat::window;
use clamor_chat::wire::Event;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io::Read;
use tokio::sync::mpsc;

/// Events of one chunk, and so of one transaction: enough that rows merge, few enough that live commits wait for less
/// than a second and that three chunks at a time are some tens of megabytes.
const CHUNK_EVENTS: usize = 32 * 1024;
/// Bytes of the records of one chunk.
const CHUNK_BYTES: u64 = 24 << 20;
/// Records without anything to count are committed from time to time, too.
const CHUNK_RECORDS: u64 = 16 * CHUNK_EVENTS as u64;
/// Why reading stopped.
#[derive(Debug)]
pub enum Stop {
    /// At the file's end.
    End,
    /// Before a last line that is not whole yet.
    Unfinished {
        /// Its number.
        line: u64,
    },
    /// Before a line that live counting may still be concerned with.
    TooYoung {
        /// Its number.
        line: u64,
        /// When it was said.
        at_ms: Millis,
    },
    /// After this line the file cannot be read.
    Broken {
        /// The last whole line.
        line: u64,
        /// Why.
        error: ReadError,
    },
    /// The file does not begin with what was imported of it.
    Changed,
    /// The file has less than was imported of it.
    Shorter {
        /// What it has.
        bytes: u64,
    },
    /// Nobody wants more.
    Cancelled,
}

/// How reading ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub stop: Stop,
    /// All that was read.
    pub tally: Tally,
    /// First and last times of all its channels.
    pub spans: Vec<(ChannelId, (Millis, Millis))>,
}

/// From where a file is read on, and what of it.
#[derive(Debug, Clone, Copy)]
pub struct From {
    /// So much was imported before.
    pub bytes: u64,
    /// Its hash.
    pub hash: u128,
    /// What was said from here on is too young.
    pub young_ms: Millis,
    /// Of the time before, the store does not know what was heard.
    pub known_ms: Millis,
    /// The database's clock.
    pub now_ms: Millis,
    /// What the file is whole for; lines outside of it are left out.
    pub whole: Option<Span>,
}

impl Reader {
    /// Reads to the end, or to where it must stop. Blocks.
    #[must_use]
    pub fn run(self, from: From, chunks: &mpsc::Sender<Chunk>) -> Ended {
        let Self { records, format, .. } = self;
        let mut reading = Reading::new(format, from);
        let stop = reading.run(records, chunks);
        let spans = reading.order.spans().collect();
        Ended { stop, tally: reading.tally, spans }
    }
}

/// A file being read.
struct Reading {
    format: Format,
    from: From,
    order: Order,
    recent: Recent,
    tally: Tally,
    chunk: Chunk,
    chunk_bytes: u64,
    chunk_records: u64,
    /// Up to where the file is dealt with.
    ends: u64,
    /// Channels that this run had events of.
    begun: FxHashSet<ChannelId>,
    /// Logins by channel and channels by login, as the file names them.
    logins: FxHashMap<ChannelId, String>,
    channels: FxHashMap<String, ChannelId>,
}

impl Reading {
    fn new(format: Format, from: From) -> Self {
        Self {
            format,
            from,
            order: Order::default(),
            recent: Recent::default(),
            tally: Tally::default(),
            chunk: Chunk::default(),
            chunk_bytes: 0,
            chunk_records: 0,
            ends: 0,
            begun: FxHashSet::default(),
            logins: FxHashMap::default(),
            channels: FxHashMap::default(),
        }
    }

    fn run(&mut self, mut records: Records<Box<dyn Read + Send>>, chunks: &mpsc::Sender<Chunk>) -> Stop {
        let mut is_checked = self.from.bytes == 0;
        let mut login = String::new();
        let stop = loop {
            let record = match records.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break Stop::End,
                Err(error) => break Stop::Broken { line: self.tally.lines, error },
            };
            let (line, begins, ends, has_end) = (record.number, record.begins, record.ends, record.has_end);
            let is_new = begins >= self.from.bytes;
            let is_empty = record.bytes.is_empty();
            let decoded = decode(self.format, record, &mut login);
            if !has_end && !is_empty && is_new && !matches!(decoded, Ok(Decoded::Chat(_))) {
                break Stop::Unfinished { line };
            }
            match decoded {
                Ok(Decoded::Chat(event)) => match self.event(event, &login, is_new) {
                    Ok(()) => {}
                    Err(NotTaken::Bad(why)) if is_new => self.tally.bad(line, why),
                    Err(NotTaken::Bad(_)) => {}
                    Err(NotTaken::TooYoung(at_ms)) => break Stop::TooYoung { line, at_ms },
                },
                Ok(Decoded::Other) => self.tally.other += u64::from(is_new),
                Err(why) if is_new => self.tally.bad(line, why),
                Err(_) => {}
            }
            self.tally.lines = line;
            self.tally.earlier += u64::from(!is_new);
            self.ends = ends;
            if !is_checked && ends >= self.from.bytes {
                if records.hash_up_to(self.from.bytes) != self.from.hash {
                    return Stop::Changed;
                }
                is_checked = true;
                self.chunk.recent = Some(std::mem::take(&mut self.recent));
            }
            self.chunk_bytes += if is_new { ends - begins } else { 0 };
            self.chunk_records += u64::from(is_new);
            let is_full = self.chunk.events.len() >= CHUNK_EVENTS
                || self.chunk_bytes >= CHUNK_BYTES
                || self.chunk_records >= CHUNK_RECORDS;
            if is_full && !self.send(&mut records, chunks) {
                return Stop::Cancelled;
            }
        };
        if !is_checked {
            return match stop {
                Stop::Broken { .. } => stop,
                _ => Stop::Shorter { bytes: self.ends },
            };
        }
        if self.ends > self.from.bytes && self.chunk_records > 0 && !self.send(&mut records, chunks) {
            return Stop::Cancelled;
        }
        stop
    }

    /// Hands the chunk over; false: nobody wants it.
    fn send(&mut self, records: &mut Records<Box<dyn Read + Send>>, chunks: &mpsc::Sender<Chunk>) -> bool {
        let mut chunk = std::mem::take(&mut self.chunk);
        (self.chunk_bytes, self.chunk_records) = (0, 0);
        chunk.bytes = self.ends.max(self.from.bytes);
        chunk.hash = records.hash_up_to(chunk.bytes);
        chunk.tally = self.tally.clone();
        chunks.blocking_send(chunk).is_ok()
    }

    /// Takes an event: into the chunk where it is new.
    fn event(&mut self, mut event: Event, login: &str, is_new: bool) -> Result<(), NotTaken> {
        if event.channel_id == 0 {
            let named = self.channels.get(login).copied();
            event.channel_id = named.ok_or_else(|| NotTaken::Bad("no channel (room-id)".to_owned()))?;
        }
        let (channel_id, at_ms) = (event.channel_id, event.sent_at_ms);
        if at_ms > self.from.now_ms + AHEAD_MS {
            return Err(NotTaken::Bad("it lies in the future (tmi-sent-ts)".to_owned()));
        }
        if is_new && at_ms >= self.from.young_ms {
            return Err(NotTaken::TooYoung(at_ms));
        }
        self.name(channel_id, at_ms, login);
        if self.from.whole.is_some_and(|(from, until)| at_ms < from || until <= at_ms) {
            self.tally.outside += u64::from(is_new);
            return Ok(());
        }
        if at_ms < self.from.known_ms {
            self.tally.forgotten += u64::from(is_new);
            return Ok(());
        }
        let before = if is_new && !self.begun.contains(&channel_id) { self.order.span(channel_id) } else { None };
        match self.order.place(channel_id, at_ms, event.key()) {
            Place::New if is_new => {
                if self.begun.insert(channel_id) {
                    self.chunk.since_ms.insert(channel_id, before.map_or(at_ms, |(_, newest)| newest));
                }
                self.tally.events += 1;
                self.push(event);
            }
            Place::New => {
                let chatter = unique_chatter(&event);
                if chatter != 0 {
                    self.recent.add(channel_id, window::minute(at_ms), [chatter]);
                }
            }
            Place::Repeated => self.tally.repeated += u64::from(is_new),
            Place::Behind => self.tally.behind += u64::from(is_new),
        }
        Ok(())
    }

    fn push(&mut self, event: Event) {
        let at_ms = event.sent_at_ms;
        let Chunk { events, span, .. } = &mut self.chunk;
        *span = if events.is_empty() { (at_ms, at_ms + 1) } else { (span.0.min(at_ms), span.1.max(at_ms + 1)) };
        events.push(event);
    }

    /// Notes what the channel is called.
    fn name(&mut self, channel_id: ChannelId, at_ms: Millis, login: &str) {
        if login.is_empty() || self.logins.get(&channel_id).is_some_and(|known| known == login) {
            return;
        }
        self.logins.insert(channel_id, login.to_owned());
        self.channels.insert(login.to_owned(), channel_id);
        self.chunk.logins.insert(channel_id, (login.to_owned(), at_ms));
    }
}

/// Why an event is not taken.
enum NotTaken {
    Bad(String),
    TooYoung(Millis),
}
