//! Reading a file into chunks of events that are new to it, from where its import stands.
//!
//! What was imported before is read again without being counted: that checks that the file still begins with it, and
//! leaves the state as it would be had the import never stopped.
//!
//! Invariants: a chunk ends where a record does; memory is one buffer and the chunk that is being filled.

use super::covered::Span;
use super::decode::{Decoded, Format, decode};
use super::error::FileError;
use super::open::{Opened, Packing, open};
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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

/// Events of one chunk, and so of one transaction: enough that rows merge, few enough that live commits wait for less
/// than a second and that three chunks at a time are some tens of megabytes.
const CHUNK_EVENTS: usize = 32 * 1024;
/// Bytes of the records of one chunk.
const CHUNK_BYTES: u64 = 24 << 20;
/// Records without anything to count are committed from time to time, too.
const CHUNK_RECORDS: u64 = 16 * CHUNK_EVENTS as u64;
/// Within so much of its beginning there must be chat.
const JUDGED_BYTES: u64 = 1024;
/// Bad lines that are named; all are counted.
pub const NAMED: usize = 5;

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1; of a JSON document, that of the message.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What became of a run's lines before they came to be counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// All lines so far, those of earlier runs included.
    pub lines: u64,
    /// Lines of earlier runs.
    pub earlier: u64,
    /// Events that are new to the file.
    pub events: u64,
    /// Protocol and empty lines.
    pub other: u64,
    /// Lines that the file has twice.
    pub repeated: u64,
    /// Lines in time that the file has had already, long before.
    pub behind: u64,
    /// Lines outside of what the file was said to be whole for.
    pub outside: u64,
    /// Lines of a time of which the store does not know what was heard.
    pub forgotten: u64,
    /// Lines that are not chat.
    pub bad: u64,
    /// The first of those.
    pub first_bad: Vec<BadLine>,
}

impl Tally {
    fn bad(&mut self, line: u64, why: String) {
        self.bad += 1;
        if self.first_bad.len() < NAMED {
            self.first_bad.push(BadLine { line, why });
        }
    }
}

/// Some lines of a file.
#[derive(Debug, Default)]
pub struct Chunk {
    /// What is new to the file.
    pub events: Vec<Event>,
    /// Logins that channels are newly known by, and when.
    pub logins: FxHashMap<ChannelId, (String, Millis)>,
    /// Since when the file covers the channels that it has events of for the first time in this run.
    pub since_ms: FxHashMap<ChannelId, Millis>,
    /// Times of its events: from, and up to before.
    pub span: Span,
    /// Where it ends in the content.
    pub bytes: u64,
    /// Hash of the content up to there.
    pub hash: u128,
    /// All that was read so far.
    pub tally: Tally,
    /// Before the first chunk: who wrote in the newest minutes of earlier runs.
    pub recent: Option<Recent>,
}

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

/// A file whose beginning was looked at.
pub struct Reader {
    records: Records<Box<dyn Read + Send>>,
    /// What it is written in.
    pub format: Format,
    /// How it is packed.
    pub packing: Packing,
    /// Its size on disk.
    pub size: u64,
    /// How much of that was read.
    pub read: Arc<AtomicU64>,
    /// Names the file, however it is packed and however it grows: a hash of what it begins with up to its first chat.
    pub identity: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("format", &self.format).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file and looks at its beginning.
    ///
    /// # Errors
    /// It cannot be read, or does not begin with chat.
    pub fn begin(path: &Path, whole: Option<Span>) -> Result<Self, FileError> {
        let file = path.to_owned();
        let Opened { content, packing, size, read } =
            open(path).map_err(|source| FileError::Open { file: file.clone(), source })?;
        let mut records = Records::new(content);
        let beginning = records.peek();
        let format = Format::of(beginning);
        let judged = judge(beginning, format);
        records.set_framing(format.framing());
        let ends = match judged {
            Ok(ends) => ends,
            Err(bad) => {
                return Err(match (records.next_record(), bad) {
                    // Nothing of it can be unpacked, or half a line.
                    (Err(error), _) => FileError::Broken { file, line: 0, error },
                    (Ok(_), Some(BadLine { line, why })) => FileError::NotChat { file, line, why },
                    (Ok(_), None) => FileError::Empty { file },
                });
            }
        };
        let beginning = records.peek();
        let mut hash = Xxh3::new();
        hash.update(&beginning[..usize::try_from(ends).unwrap_or(usize::MAX).min(beginning.len())]);
        for time in whole.into_iter().flat_map(|(from, until)| [from, until]) {
            hash.update(&time.to_le_bytes());
        }
        let identity = hash.digest().max(1);
        Ok(Self { records, format, packing, size, read, identity })
    }

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

/// Where the first line of chat ends; none: there is nothing.
fn judge(beginning: &[u8], format: Format) -> Result<u64, Option<BadLine>> {
    let mut records = Records::new(beginning);
    records.set_framing(format.framing());
    let (mut login, mut bad, mut protocol) = (String::new(), None, None);
    while let Ok(Some(record)) = records.next_record() {
        let (number, begins, ends) = (record.number, record.begins, record.ends);
        if bad.is_some() && protocol.is_none() && begins > JUDGED_BYTES {
            return Err(bad);
        }
        let is_empty = record.bytes.trim_ascii().is_empty();
        match decode(format, record, &mut login) {
            Ok(Decoded::Chat(_)) => return Ok(ends),
            Ok(Decoded::Other) if is_empty => {}
            Ok(Decoded::Other) => {
                protocol.get_or_insert_with(|| BadLine {
                    line: number,
                    why: "no chat follows in the first MiB".to_owned(),
                });
            }
            Err(why) => {
                bad.get_or_insert(BadLine { line: number, why });
            }
        }
    }
    Err(bad.or(protocol))
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
