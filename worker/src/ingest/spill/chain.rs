//! One shard's segments, in the order in which they are read: those of ended instances, and those that this one writes.

use super::folder::Folder;
use super::record::{Header, RECORD_BYTES};
use super::segment::{Found, Segment};
use crate::ingest::packer::Sealed;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Written at once: what a failed write puts back into memory.
const WRITE_BYTES: usize = 1 << 20;

/// The segments of one shard.
#[derive(Debug)]
pub(in crate::ingest) struct Chain {
    folder: Arc<Folder>,
    /// Of the next segment, but for its number.
    header: Header,
    /// Numbers of segments, over all shards.
    numbers: Arc<AtomicU64>,
    segments: VecDeque<Segment>,
    /// The last segment is ours, and takes more.
    appending: bool,
    /// No segment is longer, unless a single batch is.
    segment_bytes: u64,
}

/// What was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) batches: u64,
    pub(super) events: u64,
}

impl Chain {
    pub(super) fn new(folder: &Arc<Folder>, header: Header, numbers: &Arc<AtomicU64>, segment_bytes: u64) -> Self {
        Self {
            folder: Arc::clone(folder),
            header,
            numbers: Arc::clone(numbers),
            segments: VecDeque::new(),
            appending: false,
            segment_bytes,
        }
    }

    /// Puts a segment of an ended instance behind what is here.
    pub(super) fn adopt(&mut self, segment: Segment) -> io::Result<()> {
        let finished = self.finish();
        self.segments.push_back(segment);
        finished
    }

    pub(in crate::ingest) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// How many segments there are.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Number of the oldest segment that this instance wrote, or 0 where an ended one's comes before it.
    pub(super) fn oldest(&self) -> Option<u64> {
        let first = self.segments.front()?.header();
        Some(if first.instance == self.header.instance { first.number } else { 0 })
    }

    /// Appends the first of these batches; returns how many, at least one of any, and their bytes.
    pub(super) fn append(&mut self, batches: &VecDeque<Sealed>) -> io::Result<(usize, u64)> {
        let Some(first) = batches.front() else { return Ok((0, 0)) };
        let length = (RECORD_BYTES + first.payload.len()) as u64;
        let room = match self.segments.back() {
            Some(last) if self.appending && !self.is_full(last, first, length) => {
                self.segment_bytes.saturating_sub(last.bytes())
            }
            _ => {
                self.begin()?;
                self.segment_bytes
            }
        };
        let mut records = Vec::new();
        let mut count = 0;
        for batch in batches {
            let length = (records.len() + RECORD_BYTES + batch.payload.len()) as u64;
            // A snapshot may begin the next segment.
            let ends = length > room || records.len() > WRITE_BYTES || batch.snapshot_first;
            if count > 0 && ends {
                break;
            }
            if !self.header_of_last().encode_record(batch, &mut records) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a batch is longer than any may be"));
            }
            count += 1;
        }
        let Some(last) = self.segments.back_mut() else { return Ok((0, 0)) };
        last.append(&records)?;
        Ok((count, records.len() as u64))
    }

    /// The next batches; `None`: there is nothing. What was given before has been published: segments that are through
    /// are removed.
    pub(super) fn read(&mut self) -> Option<io::Result<Found>> {
        loop {
            let first = self.segments.front_mut()?;
            if !first.is_read() {
                let found = first.read();
                if found.is_err() {
                    // Tried again, it might fail for ever, and hold up the shard.
                    first.skip_rest();
                }
                return Some(found);
            }
            self.remove_first();
        }
    }

    /// Gives up the oldest segment; what of it was not read yet.
    pub(super) fn drop_oldest(&mut self) -> Lost {
        let mut lost = Lost::default();
        let Some(first) = self.segments.front_mut() else { return lost };
        while !first.is_read() {
            let found = first.read().unwrap_or_else(|_| Found { batches: Vec::new(), damaged: true });
            lost.batches += found.batches.len() as u64 + u64::from(found.damaged);
            lost.events += found.batches.iter().map(|batch| batch.events as u64).sum::<u64>();
            if found.damaged {
                first.skip_rest();
            }
        }
        self.remove_first();
        lost
    }

    /// Writes what is only in the system's memory.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.segments.back_mut().map_or(Ok(()), Segment::sync)
    }

    fn remove_first(&mut self) {
        if let Some(first) = self.segments.pop_front() {
            first.remove();
        }
        self.appending &= !self.segments.is_empty();
    }

    /// Where a snapshot begins the batch, half a segment is enough: who loses what comes before can go on from there.
    fn is_full(&self, last: &Segment, next: &Sealed, length: u64) -> bool {
        let wanted = if next.snapshot_first { self.segment_bytes / 2 } else { self.segment_bytes };
        last.bytes() + length > wanted
    }

    fn begin(&mut self) -> io::Result<()> {
        self.finish()?;
        let header = Header { number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1, ..self.header };
        self.segments.push_back(Segment::create(&self.folder, header)?);
        self.appending = true;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.appending) {
            return Ok(());
        }
        self.segments.back_mut().map_or(Ok(()), Segment::finish)
    }

    fn header_of_last(&self) -> Header {
        self.segments.back().map_or(self.header, |last| *last.header())
    }
}
