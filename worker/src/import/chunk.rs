//! What reading hands on: some lines of a file, and what became of all so far.

use super::covered::Span;
use super::recent::Recent;
use crate::aggregate::delta::{ChannelId, Millis};
use clamor_chat::wire::Event;
use rustc_hash::FxHashMap;

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
    /// Notes a line that is not chat.
    pub(super) fn bad(&mut self, line: u64, why: String) {
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
