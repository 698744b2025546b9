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
use super::filling::Filling;
use super::order::{Order, Place};
use super::records::{ReadError, Records};
use crate::aggregate::delta::{ChannelId, Millis};
use crate::aggregate::uniques::AHEAD_MS;
use crate::store::{LANES, Progress, lane};
use clamor_chat::wire::Event;
use rustc_hash::FxHashMap;
use std::io::Read;
use tokio::sync::mpsc;

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
    /// So much of each lane was imported before.
    pub lanes: [Progress; LANES],
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
    /// Reads to the end, or to where it must stop, for a receiver of chunks in each lane. Blocks.
    #[must_use]
    pub fn run(self, from: From, chunks: &[mpsc::Sender<Chunk>]) -> Ended {
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
    tally: Tally,
    lanes: [Filling; LANES],
    /// What is still to be compared with what was imported before, the farthest first: lane, place, hash.
    unchecked: Vec<(usize, u64, u128)>,
    /// Up to where the file is dealt with.
    ends: u64,
    /// Logins by channel and channels by login, as the file names them.
    logins: FxHashMap<ChannelId, String>,
    channels: FxHashMap<String, ChannelId>,
}

impl Reading {
    fn new(format: Format, from: From) -> Self {
        let places = from.lanes.iter().enumerate().map(|(lane, place)| (lane, place.bytes, place.hash));
        let mut unchecked: Vec<_> = places.filter(|&(_, bytes, _)| bytes > 0).collect();
        unchecked.sort_by_key(|&(_, bytes, _)| std::cmp::Reverse(bytes));
        Self {
            format,
            from,
            order: Order::default(),
            tally: Tally::default(),
            lanes: from.lanes.map(|place| Filling::new(place.bytes)),
            unchecked,
            ends: 0,
            logins: FxHashMap::default(),
            channels: FxHashMap::default(),
        }
    }

    fn run(&mut self, mut records: Records<Box<dyn Read + Send>>, chunks: &[mpsc::Sender<Chunk>]) -> Stop {
        let mut login = String::new();
        let stop = loop {
            let record = match records.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break Stop::End,
                Err(error) => break Stop::Broken { line: self.tally.lines, error },
            };
            let (line, begins, ends, has_end) = (record.number, record.begins, record.ends, record.has_end);
            let is_new = self.lanes.iter().any(|lane| lane.is_new(begins));
            let is_empty = record.bytes.is_empty();
            let decoded = decode(self.format, record, &mut login);
            if !has_end && !is_empty && is_new && !matches!(decoded, Ok(Decoded::Chat(_))) {
                break Stop::Unfinished { line };
            }
            match decoded {
                Ok(Decoded::Chat(event)) => match self.event(event, &login, begins) {
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
            if !self.check(&mut records) {
                return Stop::Changed;
            }
            for (lane, chunks) in chunks.iter().enumerate() {
                // Nothing is added to a file before all that was imported of it is known to be in it.
                let is_full = self.lanes[lane].is_full_after(begins, ends) && self.unchecked.is_empty();
                if is_full && !self.send(lane, &mut records, chunks) {
                    return Stop::Cancelled;
                }
            }
        };
        if !self.unchecked.is_empty() {
            return match stop {
                Stop::Broken { .. } => stop,
                _ => Stop::Shorter { bytes: self.ends },
            };
        }
        for (lane, chunks) in chunks.iter().enumerate() {
            if !self.send(lane, &mut records, chunks) {
                return Stop::Cancelled;
            }
        }
        stop
    }

    /// Compares what is read with what was imported before, as far as it goes; false: it is not the same.
    fn check(&mut self, records: &mut Records<Box<dyn Read + Send>>) -> bool {
        while let Some(&(lane, bytes, hash)) = self.unchecked.last()
            && self.ends >= bytes
        {
            if records.hash_up_to(bytes) != hash {
                return false;
            }
            self.lanes[lane].begin();
            self.unchecked.pop();
        }
        true
    }

    /// Hands over what is new to the lane; false: nobody wants it.
    fn send(&mut self, lane: usize, records: &mut Records<Box<dyn Read + Send>>, chunks: &mpsc::Sender<Chunk>) -> bool {
        let chunk = self.lanes[lane].take(self.ends, records.hash_up_to(self.ends), &self.tally);
        chunk.is_none_or(|chunk| chunks.blocking_send(chunk).is_ok())
    }

    /// Takes an event: into the chunk where it is new.
    fn event(&mut self, mut event: Event, login: &str, begins: u64) -> Result<(), NotTaken> {
        if event.channel_id == 0 {
            let named = self.channels.get(login).copied();
            event.channel_id = named.ok_or_else(|| NotTaken::Bad("no channel (room-id)".to_owned()))?;
        }
        let (channel_id, at_ms, lane) = (event.channel_id, event.sent_at_ms, lane(event.channel_id));
        let is_new = self.lanes[lane].is_new(begins);
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
        let lane = &mut self.lanes[lane];
        let before = if is_new && !lane.has_begun(channel_id) { self.order.span(channel_id) } else { None };
        match self.order.place(channel_id, at_ms, event.key()) {
            Place::New if is_new => {
                self.tally.events += 1;
                lane.push(event, before.map(|(_, newest)| newest));
            }
            Place::New => lane.remember(&event),
            Place::Repeated => self.tally.repeated += u64::from(is_new),
            Place::Behind => self.tally.behind += u64::from(is_new),
        }
        Ok(())
    }

    /// Notes what the channel is called.
    fn name(&mut self, channel_id: ChannelId, at_ms: Millis, login: &str) {
        if login.is_empty() || self.logins.get(&channel_id).is_some_and(|known| known == login) {
            return;
        }
        self.logins.insert(channel_id, login.to_owned());
        self.channels.insert(login.to_owned(), channel_id);
        self.lanes[lane(channel_id)].name(channel_id, login, at_ms);
    }
}

/// Why an event is not taken.
enum NotTaken {
    Bad(String),
    TooYoung(Millis),
}
