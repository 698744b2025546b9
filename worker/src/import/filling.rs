//! One lane of a file being read: its channels' events since its last chunk.

use super::chunk::{Chunk, Tally};
use super::recent::Recent;
use crate::aggregate::counting::unique_chatter;
use crate::aggregate::delta::{ChannelId, Millis};
use clamor_chat::window;
use clamor_chat::wire::Event;
use rustc_hash::FxHashSet;

/// Events of one chunk, and so of one transaction: enough that rows merge, few enough that live commits wait for less
/// than a second and that the chunks of all lanes at a time are some tens of megabytes.
const CHUNK_EVENTS: usize = 16 * 1024;
/// Bytes of the records of one chunk.
const CHUNK_BYTES: u64 = 24 << 20;
/// Records without anything to count are committed from time to time, too.
const CHUNK_RECORDS: u64 = 32 * CHUNK_EVENTS as u64;

/// What is read of a lane.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// Up to where it was imported before.
    from_bytes: u64,
    recent: Recent,
    chunk: Chunk,
    chunk_bytes: u64,
    chunk_records: u64,
    /// Channels that this run had events of.
    begun: FxHashSet<ChannelId>,
}

impl Filling {
    pub(super) fn new(from_bytes: u64) -> Self {
        Self { from_bytes, ..Self::default() }
    }

    /// Whether what begins there was not imported before.
    pub(super) fn is_new(&self, begins: u64) -> bool {
        begins >= self.from_bytes
    }

    /// Whether this run had events of the channel.
    pub(super) fn has_begun(&self, channel_id: ChannelId) -> bool {
        self.begun.contains(&channel_id)
    }

    /// Takes a new event; `since_ms`: when the channel's newest line before it was said.
    pub(super) fn push(&mut self, event: Event, since_ms: Option<Millis>) {
        let (channel_id, at_ms) = (event.channel_id, event.sent_at_ms);
        if self.begun.insert(channel_id) {
            self.chunk.since_ms.insert(channel_id, since_ms.unwrap_or(at_ms));
        }
        let Chunk { events, span, .. } = &mut self.chunk;
        *span = if events.is_empty() { (at_ms, at_ms + 1) } else { (span.0.min(at_ms), span.1.max(at_ms + 1)) };
        events.push(event);
    }

    /// Remembers who wrote in the newest minutes that were imported before.
    pub(super) fn remember(&mut self, event: &Event) {
        let chatter = unique_chatter(event);
        if chatter != 0 {
            self.recent.add(event.channel_id, window::minute(event.sent_at_ms), [chatter]);
        }
    }

    /// All that was imported before is read.
    pub(super) fn begin(&mut self) {
        self.chunk.recent = Some(std::mem::take(&mut self.recent));
    }

    /// The channel's login, said at that time.
    pub(super) fn name(&mut self, channel_id: ChannelId, login: &str, at_ms: Millis) {
        self.chunk.logins.insert(channel_id, (login.to_owned(), at_ms));
    }

    /// A record is read; whether the chunk is full with it.
    pub(super) fn is_full_after(&mut self, begins: u64, ends: u64) -> bool {
        if self.is_new(begins) {
            self.chunk_bytes += ends - begins;
            self.chunk_records += 1;
        }
        self.chunk.events.len() >= CHUNK_EVENTS
            || self.chunk_bytes >= CHUNK_BYTES
            || self.chunk_records >= CHUNK_RECORDS
    }

    /// What was read since the last chunk; none: nothing new.
    pub(super) fn take(&mut self, ends: u64, hash: u128, tally: &Tally) -> Option<Chunk> {
        if self.chunk_records == 0 {
            return None;
        }
        (self.chunk_bytes, self.chunk_records) = (0, 0);
        let chunk = std::mem::take(&mut self.chunk);
        Some(Chunk { bytes: ends, hash, tally: tally.clone(), ..chunk })
    }
}
